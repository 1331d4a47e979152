//! An object of one of the kinds, and what is common to all: how far it is, and whether it has finished.

mod observed;

use std::fmt;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    jiff::Timestamp,
};
use operon_api::{
    CollaSet, DaemonJob, JobFlow, OperationJob, ReactiveJob,
    conditions::{READY, RECONCILING, STALLED, STANDING_DOWN, find},
    job_flow::FlowState,
    operation_job::Progress,
    reactive_job::State,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Kind, Mark, related::Wanted, text, tree};

/// An object that the command shows.
#[derive(Clone, Debug)]
pub enum Object {
    /// See [`Kind::OperationJob`].
    OperationJob(Box<OperationJob>),
    /// See [`Kind::JobFlow`].
    JobFlow(Box<JobFlow>),
    /// See [`Kind::DaemonJob`].
    DaemonJob(Box<DaemonJob>),
    /// See [`Kind::ReactiveJob`].
    ReactiveJob(Box<ReactiveJob>),
    /// See [`Kind::CollaSet`].
    CollaSet(Box<CollaSet>),
}

/// Whether an object has finished, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something is left to do.
    Unfinished,
    /// Everything is as desired.
    Succeeded,
    /// It has failed, and does not go on by itself.
    Failed,
}

/// An object that this version of the command cannot read.
#[derive(Debug)]
pub struct Unreadable {
    kind: Kind,
    cause: serde_json::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        write!(
            out,
            "failed to read the {kind}: the command and the CRDs of the cluster are of different versions; use the command of the same release"
        )
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl Object {
    /// The object from its JSON.
    pub fn parse(kind: Kind, value: Value) -> Result<Self, Unreadable> {
        fn of<K: DeserializeOwned>(value: Value) -> Result<Box<K>, serde_json::Error> {
            serde_json::from_value(value).map(Box::new)
        }
        let object = match kind {
            Kind::OperationJob => of(value).map(Self::OperationJob),
            Kind::JobFlow => of(value).map(Self::JobFlow),
            Kind::DaemonJob => of(value).map(Self::DaemonJob),
            Kind::ReactiveJob => of(value).map(Self::ReactiveJob),
            Kind::CollaSet => of(value).map(Self::CollaSet),
        };
        object.map_err(|cause| Unreadable { kind, cause })
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::OperationJob(_) => Kind::OperationJob,
            Self::JobFlow(_) => Kind::JobFlow,
            Self::DaemonJob(_) => Kind::DaemonJob,
            Self::ReactiveJob(_) => Kind::ReactiveJob,
            Self::CollaSet(_) => Kind::CollaSet,
        }
    }

    /// The metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::OperationJob(job) => &job.metadata,
            Self::JobFlow(flow) => &flow.metadata,
            Self::DaemonJob(job) => &job.metadata,
            Self::ReactiveJob(job) => &job.metadata,
            Self::CollaSet(set) => &set.metadata,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// How a user names it: `opj/web`.
    pub fn called(&self) -> String {
        format!("{}/{}", self.kind().word(), self.name())
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// How long ago it was created.
    pub fn age(&self, now: Timestamp) -> String {
        let created = self.metadata().creation_timestamp.as_ref();
        created.map_or(String::new(), |created| text::duration(created.0, now))
    }

    /// The state in one word.
    pub fn state(&self) -> &'static str {
        if self.metadata().deletion_timestamp.is_some() {
            return "Deleting";
        }
        match self {
            Self::OperationJob(job) => match progress(job) {
                Progress::Pending => "Pending",
                Progress::Processing => "Processing",
                Progress::Failed => "Failed",
                Progress::Succeeded => "Succeeded",
            },
            Self::JobFlow(_) | Self::DaemonJob(_) => self.flow_state().as_str(),
            Self::ReactiveJob(job) => {
                let state = job.status.as_ref().and_then(|status| status.state);
                state.unwrap_or_default().as_str()
            }
            Self::CollaSet(_) => match self.outcome() {
                Outcome::Succeeded => "Ready",
                Outcome::Failed => "Stalled",
                Outcome::Unfinished => "Reconciling",
            },
        }
    }

    /// Whether it has finished. A status from before the last change, or the last request, does not count.
    pub fn outcome(&self) -> Outcome {
        if self.unseen().is_some() || self.metadata().deletion_timestamp.is_some() {
            return Outcome::Unfinished;
        }
        match self {
            Self::OperationJob(job) => match progress(job) {
                Progress::Succeeded => Outcome::Succeeded,
                Progress::Failed => Outcome::Failed,
                Progress::Pending | Progress::Processing => Outcome::Unfinished,
            },
            Self::JobFlow(_) | Self::DaemonJob(_) => match self.flow_state() {
                FlowState::Succeed => Outcome::Succeeded,
                FlowState::Failed if self.has_completed() => Outcome::Failed,
                FlowState::Failed
                | FlowState::Pending
                | FlowState::Running
                | FlowState::Terminating => Outcome::Unfinished,
            },
            Self::ReactiveJob(job) => {
                let state = job.status.as_ref().and_then(|status| status.state);
                match state.unwrap_or_default() {
                    State::Ready if !self.is_true(RECONCILING) => Outcome::Succeeded,
                    State::Error if !self.is_true(RECONCILING) => Outcome::Failed,
                    State::Ready
                    | State::Error
                    | State::New
                    | State::Processing
                    | State::Deleting
                    | State::DeletionBlocked => Outcome::Unfinished,
                }
            }
            Self::CollaSet(_) if self.is_true(READY) => Outcome::Succeeded,
            Self::CollaSet(_) if self.is_true(STALLED) => Outcome::Failed,
            Self::CollaSet(_) => Outcome::Unfinished,
        }
    }

    /// How it stands, as the rows of a tree have it.
    pub fn mark(&self) -> Mark {
        match self.outcome() {
            Outcome::Failed => Mark::Failed,
            Outcome::Succeeded => Mark::Done,
            Outcome::Unfinished if self.is_stalled() => Mark::Blocked,
            Outcome::Unfinished => Mark::Running,
        }
    }

    /// Whether a user may have to do something before it has finished. A CollaSet that failed is stalled, and not at its end.
    pub fn is_unfinished(&self) -> bool {
        match self.outcome() {
            Outcome::Unfinished => true,
            Outcome::Succeeded => false,
            Outcome::Failed => self.kind() == Kind::CollaSet,
        }
    }

    /// How much is done of how much, as the status has it.
    pub fn progress(&self) -> (usize, usize) {
        match self {
            Self::OperationJob(job) => {
                let status = job.status.as_ref();
                let done = status.and_then(|status| status.succeeded_pod_count);
                let total = status.and_then(|status| status.total_pod_count);
                let total = total.map_or(job.targets().len(), number);
                (done.map_or(0, number), total)
            }
            Self::JobFlow(flow) => {
                let progress = flow
                    .status
                    .as_ref()
                    .and_then(|status| status.progress.as_deref());
                fraction(progress).unwrap_or((0, flow.spec.flows.len()))
            }
            Self::DaemonJob(job) => {
                let progress = job
                    .status
                    .as_ref()
                    .and_then(|status| status.progress.as_deref());
                fraction(progress).unwrap_or((0, 0))
            }
            Self::ReactiveJob(_) => (usize::from(self.outcome() == Outcome::Succeeded), 1),
            Self::CollaSet(set) => {
                let available = set
                    .status
                    .as_ref()
                    .map_or(0, |status| status.available_replicas);
                (number(available), number(set.spec.replicas))
            }
        }
    }

    /// Why it is not finished or has failed: the reason and the message of its conditions.
    pub fn explanation(&self) -> String {
        if !self.has_status() {
            return "it has no status: does Operon run?".to_owned();
        }
        if let Some(unseen) = self.awaited() {
            return format!("Operon has not seen {unseen} yet");
        }
        self.condition().map_or(String::new(), |found| {
            text::reasoned(&found.reason, &found.message)
        })
    }

    /// Whether a controller has written anything about it.
    pub(crate) fn has_status(&self) -> bool {
        !self.conditions().is_empty() || self.generation_observed().is_some()
    }

    /// The condition that says most.
    pub(crate) fn condition(&self) -> Option<&Condition> {
        let order = [STANDING_DOWN, STALLED, RECONCILING, READY];
        order.iter().find_map(|type_| {
            let found = find(self.conditions(), type_)?;
            (found.status == "True" || *type_ == READY).then_some(found)
        })
    }

    /// Whether nothing happens until a user changes something, or another operator stops.
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_true(STANDING_DOWN) || self.is_true(STALLED)
    }

    /// What the command must read beside the object to show its tree.
    pub fn wanted(&self) -> Wanted {
        match self {
            Self::OperationJob(job) => tree::operation_job::wanted(job),
            Self::JobFlow(flow) => tree::job_flow::wanted(flow),
            Self::DaemonJob(job) => tree::daemon_job::wanted(job),
            Self::ReactiveJob(job) => tree::reactive_job::wanted(job),
            Self::CollaSet(set) => tree::colla_set::wanted(set),
        }
    }

    /// The conditions of the status.
    pub(crate) fn conditions(&self) -> &[Condition] {
        let conditions = match self {
            Self::OperationJob(job) => job.status.as_ref().map(|status| &status.conditions),
            Self::JobFlow(flow) => flow.status.as_ref().map(|status| &status.conditions),
            Self::DaemonJob(job) => job.status.as_ref().map(|status| &status.conditions),
            Self::ReactiveJob(job) => job.status.as_ref().map(|status| &status.conditions),
            Self::CollaSet(set) => set.status.as_ref().map(|status| &status.conditions),
        };
        conditions.map_or(&[], Vec::as_slice)
    }

    /// When it began, and when it ended.
    pub(crate) fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let created = self.metadata().creation_timestamp.as_ref();
        let (start, end) = match self {
            Self::OperationJob(job) => {
                let status = job.status.as_ref();
                let start = status.and_then(|status| status.start_time.as_ref());
                (start, status.and_then(|status| status.end_time.as_ref()))
            }
            Self::JobFlow(flow) => {
                let status = flow.status.as_ref();
                let start = status.and_then(|status| status.start_time.as_ref());
                (
                    start,
                    status.and_then(|status| status.completion_time.as_ref()),
                )
            }
            Self::DaemonJob(job) => {
                let status = job.status.as_ref();
                let start = status.and_then(|status| status.start_time.as_ref());
                (
                    start,
                    status.and_then(|status| status.completion_time.as_ref()),
                )
            }
            Self::ReactiveJob(_) | Self::CollaSet(_) => (None, None),
        };
        (start.or(created).map(|time| time.0), end.map(|time| time.0))
    }

    fn is_true(&self, type_: &str) -> bool {
        find(self.conditions(), type_).is_some_and(|found| found.status == "True")
    }

    fn flow_state(&self) -> FlowState {
        let state = match self {
            Self::JobFlow(flow) => flow.status.as_ref().and_then(|status| status.state),
            Self::DaemonJob(job) => job.status.as_ref().and_then(|status| status.state),
            Self::OperationJob(_) | Self::ReactiveJob(_) | Self::CollaSet(_) => None,
        };
        state.unwrap_or_default()
    }

    fn has_completed(&self) -> bool {
        self.times().1.is_some()
    }
}

/// The progress of an OperationJob, `Pending` before it has a status.
pub(crate) fn progress(job: &OperationJob) -> Progress {
    let progress = job.status.as_ref().and_then(|status| status.progress);
    progress.unwrap_or_default()
}

fn number(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn fraction(text: Option<&str>) -> Option<(usize, usize)> {
    let (done, total) = text?.split_once('/')?;
    Some((done.parse().ok()?, total.parse().ok()?))
}
