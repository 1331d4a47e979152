//! The targets of a job with `spec.targetSelector`: selected once, and kept in the status from then on. Pure.
//!
//! The status names the targets before the first of them starts, so what was selected is the same after any
//! crash.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{OwnerReference, Time},
    jiff::Timestamp,
};
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt as _},
};
use operon_api::{
    OperationJob,
    conditions::{Standing, conditions, with_end},
    operation_job::{
        MAX_TARGETS, OperationJobStatus, PodTarget, Progress, TargetDetail, TargetSelector,
    },
    owner_kind::{DEPLOYMENT, OwnerKind},
};

use super::{POD_GRACE, conclude::JobEvent, parameters, remaining, size};
use crate::action::{Failure, Severity};

/// Where the targets of a job are selected from.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// The pods of the job's namespace.
    pub pods: Vec<Arc<Pod>>,
    /// If the selector names a Deployment: the uids of its ReplicaSets.
    pub replica_sets: BTreeSet<String>,
}

/// Why the candidates are not known.
#[derive(Clone, Debug, PartialEq)]
pub enum Unknown {
    /// The cache does not have yet what the API server has.
    Behind(Failure),
    /// They could not be read.
    Unread(Failure),
}

/// How soon a cache is looked at again that is behind the API server.
const LAG: Duration = Duration::from_millis(300);

/// The next status of a job, and when to reconcile it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The status from now on.
    pub status: OperationJobStatus,
    /// The job has failed because nothing can be selected.
    pub event: Option<JobEvent>,
    /// When time alone changes it.
    pub requeue_after: Option<Duration>,
}

/// The selector of a job, if its targets are still to be selected.
pub fn unresolved(job: &OperationJob) -> Option<&TargetSelector> {
    let status = job.status.as_ref();
    let is_finished = status
        .and_then(|status| status.progress)
        .is_some_and(Progress::is_finished);
    let is_open = job.metadata.deletion_timestamp.is_none() && !is_finished;
    let selector = job.spec.target_selector.as_ref();
    selector.filter(|_| is_open && job.targets().is_empty())
}

/// The Deployment that a selector names. Its pods are those of its ReplicaSets.
pub fn deployment(selector: &TargetSelector) -> Option<&str> {
    selector.owner.as_deref()?.strip_prefix("deployment/")
}

/// The labels that a selector asks for; none if it asks for none, or they cannot be read.
pub fn labels(selector: &TargetSelector) -> Option<Selector> {
    let labels = selector.label_selector.clone()?;
    Selector::try_from(labels).ok()
}

/// Whether a pod is on the node that a selector names.
pub fn is_placed(selector: &TargetSelector, pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    selector.node_name.is_none() || node == selector.node_name.as_ref()
}

/// Whether a pod with these owners is of the owner that a selector names. `replica_sets` are the uids of the
/// ReplicaSets, if that is a Deployment.
pub fn is_owned(
    selector: &TargetSelector,
    replica_sets: &BTreeSet<String>,
    owners: &[OwnerReference],
) -> bool {
    let Some(owner) = &selector.owner else {
        return true;
    };
    match (Owner::read(owner), controller(owners)) {
        (Ok(owner), Some(found)) if owner.kind == DEPLOYMENT => replica_sets.contains(&found.uid),
        (Ok(owner), Some(found)) => owner.is(found),
        (Err(_), _) | (_, None) => false,
    }
}

/// Whether an object is controlled by the Deployment of this name.
pub fn is_of_deployment(owners: &[OwnerReference], name: &str) -> bool {
    let owner = Owner {
        kind: DEPLOYMENT,
        name,
    };
    controller(owners).is_some_and(|found| owner.is(found))
}

/// Selects the targets of a job. Candidates that could not be read are its failure.
pub fn select(
    job: &OperationJob,
    selector: &TargetSelector,
    candidates: &Result<Candidates, Unknown>,
    now: Timestamp,
) -> Selection {
    let started = job.status.as_ref().and_then(|s| s.start_time.as_ref());
    let left = remaining(started.map_or(now, |time| time.0), POD_GRACE, now);
    let found = candidates.as_ref().map(|known| targets(selector, known));
    let (outcome, requeue_after) = match found {
        Err(Unknown::Behind(failure)) => {
            let waits = Outcome::Waits(Standing::Reconciling, failure.clone());
            (waits, Some(LAG))
        }
        Err(Unknown::Unread(failure)) => {
            let waits = Outcome::Waits(Standing::Stalled, failure.clone());
            (waits, Some(POD_GRACE))
        }
        Ok(Err(invalid)) => (Outcome::Fails(invalid), None),
        Ok(Ok(targets)) if !targets.is_empty() => (Outcome::of(job, targets), None),
        Ok(Ok(_)) => match left {
            Some(left) => {
                let waits = Outcome::Waits(Standing::Reconciling, no_targets(job, selector));
                (waits, Some(left))
            }
            None => (Outcome::Fails(no_targets(job, selector)), None),
        },
    };
    let (status, event) = outcome.status(job, selector, now);
    Selection {
        status,
        event,
        requeue_after,
    }
}

/// What came of a selection.
enum Outcome {
    Selected(Vec<PodTarget>),
    Waits(Standing, Failure),
    Fails(Failure),
}

impl Outcome {
    /// A selection, if it leaves room for the status of its targets.
    fn of(job: &OperationJob, targets: Vec<PodTarget>) -> Self {
        let mut selecting = job.clone();
        let status = selecting.status.get_or_insert_default();
        status.targets.clone_from(&targets);
        match size::window(&selecting, std::iter::empty()) {
            Ok(_) => Self::Selected(targets),
            Err(too_large) => Self::Fails(too_large),
        }
    }

    fn status(
        self,
        job: &OperationJob,
        selector: &TargetSelector,
        now: Timestamp,
    ) -> (OperationJobStatus, Option<JobEvent>) {
        let mut status = job.status.clone().unwrap_or_default();
        status.observed_generation = job.metadata.generation;
        status.progress = Some(Progress::Pending);
        status.selector = Some(written(selector));
        if status.start_time.is_none() {
            status.start_time = Some(Time(now));
            status.parameters_digest = parameters::digest(job);
        }
        let mut event = None;
        let (standing, reason, message) = match self {
            Self::Selected(targets) => {
                let count = targets.len();
                status.total_pod_count = Some(i32::try_from(count).unwrap_or(i32::MAX));
                status.target_details = targets.iter().map(pending).collect();
                status.targets = targets;
                let message = format!("0 of {count} targets succeeded");
                (Standing::Reconciling, "Pending".to_owned(), message)
            }
            Self::Waits(standing, Failure { reason, message }) => (standing, reason, message),
            Self::Fails(Failure { reason, message }) => {
                status.progress = Some(Progress::Failed);
                status.end_time = Some(Time(now));
                status.end_timestamp.clone_from(&status.end_time);
                event = Some(JobEvent {
                    severity: Severity::Warning,
                    reason: "Failed",
                    target: None,
                    message: message.clone(),
                });
                (Standing::Stalled, reason, message)
            }
        };
        let (generation, message) = (job.metadata.generation, size::bounded(message));
        let standing = conditions(
            &status.conditions,
            standing,
            &reason,
            &message,
            generation,
            now,
        );
        // Only the targets of a job that has not finished are selected.
        let end = status.progress.and_then(Progress::end);
        status.conditions = with_end(&status.conditions, standing, end, false, now);
        let mut selecting = job.clone();
        selecting.status = Some(status.clone());
        size::shorten(&selecting, &mut status.target_details);
        (status, event)
    }
}

fn pending(target: &PodTarget) -> TargetDetail {
    TargetDetail {
        name: target.name.clone(),
        ..TargetDetail::default()
    }
}

/// The targets, by name.
fn targets(selector: &TargetSelector, candidates: &Candidates) -> Result<Vec<PodTarget>, Failure> {
    let TargetSelector {
        label_selector,
        owner,
        node_name: _,
        containers: _,
    } = selector;
    let labels = label_selector.clone().map(Selector::try_from).transpose();
    let labels = labels.map_err(|error| {
        let message = format!("spec.targetSelector.labelSelector cannot be read: {error}");
        Failure::new("InvalidSpec", message)
    })?;
    owner.as_deref().map(Owner::read).transpose()?;
    let sets = &candidates.replica_sets;
    let is_selected = |pod: &&Arc<Pod>| {
        is_open(pod)
            && labels
                .as_ref()
                .is_none_or(|labels| labels.matches(pod.labels()))
            && is_owned(selector, sets, pod.owner_references())
            && is_placed(selector, pod)
    };
    let mut names: Vec<_> = candidates
        .pods
        .iter()
        .filter(is_selected)
        .map(|pod| pod.name_any())
        .collect();
    names.sort_unstable();
    if names.len() > MAX_TARGETS {
        return Err(too_many(selector, names.len()));
    }
    let target = |name| PodTarget {
        name,
        containers: None,
    };
    Ok(names.into_iter().map(target).collect())
}

/// Whether a pod is there to be operated.
fn is_open(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn controller(owners: &[OwnerReference]) -> Option<&OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// A controller of pods, as a selector names it.
#[derive(Clone, Copy, Debug)]
struct Owner<'a> {
    kind: OwnerKind,
    name: &'a str,
}

impl<'a> Owner<'a> {
    fn read(text: &'a str) -> Result<Self, Failure> {
        let (kind, name) = text.split_once('/').unwrap_or_default();
        let Some(kind) = OwnerKind::of_word(kind) else {
            let message = format!(
                "spec.targetSelector.owner must be a deployment, replicaset, statefulset, daemonset, job or \
                 collaset with its name, such as \"deployment/web\", not {text:?}"
            );
            return Err(Failure::new("InvalidSpec", message));
        };
        Ok(Self { kind, name })
    }

    fn is(&self, found: &OwnerReference) -> bool {
        let group = found.api_version.rsplit_once('/').map(|(group, _)| group);
        group == Some(self.kind.group) && found.kind == self.kind.kind && found.name == self.name
    }
}

fn no_targets(job: &OperationJob, selector: &TargetSelector) -> Failure {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    Failure::new(
        "NoTargets",
        format!(
            "spec.targetSelector ({}) selects no pod in namespace {namespace:?}; pods that are being deleted or have \
             finished do not count",
            written(selector)
        ),
    )
}

fn too_many(selector: &TargetSelector, count: usize) -> Failure {
    Failure::new(
        "TooManyTargets",
        format!(
            "spec.targetSelector ({}) selects {count} pods, and a job has at most {MAX_TARGETS} targets; select fewer \
             with each of several jobs",
            written(selector)
        ),
    )
}

/// A selector in one line.
fn written(selector: &TargetSelector) -> String {
    let TargetSelector {
        label_selector: _,
        owner,
        node_name,
        containers: _,
    } = selector;
    let labels = labels(selector).map(|labels| labels.to_string());
    let node = node_name.as_ref().map(|node| format!("node/{node}"));
    let parts: Vec<_> = [owner.clone(), labels, node]
        .into_iter()
        .flatten()
        .collect();
    let mut line = parts.join(" ");
    size::truncate(&mut line, size::MESSAGE);
    line
}
