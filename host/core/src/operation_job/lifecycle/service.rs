//! How one job takes a pod out of service and gives it back. Pure.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::OperationJob;
use serde_json::json;

use super::Lifecycle;
use crate::{
    action::{Effect, Failure},
    driver,
    jobs::name::{cut, five},
    pod_lifecycle::{
        adapter::{Adapter, Edit, Standing},
        labels::{
            GATE, Operation, PREPARING_TO_DELETE, SERVICE_AVAILABLE, STAY_OFFLINE, Stage,
            protecting,
        },
        pod::{condition, gate, is_ready, takes_part},
        rule,
        transition::Gate,
    },
};

/// The longest id: it is a part of label keys.
const ID: usize = 63;

/// The reason of a target whose pod returns to service.
const RETURNING: &str = "ReturningToService";

/// How long a pod whose containers are ready takes at most to be Ready after its gate opened, in seconds. On a
/// node that is gone it takes for ever.
const READY: i64 = 10;

/// The operation of one job on pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    id: String,
    kind: String,
    delay: Duration,
    lifecycle: Lifecycle,
}

/// Whether the action can act on a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// It can.
    Act,
    /// The operation has not begun: this effect begins it. The action waits for this.
    Begin(Effect, Failure),
    /// The action waits for this; after that time it need not wait any longer.
    Wait(Failure, Option<Duration>),
}

impl Service {
    /// The operation of this job.
    pub fn of(job: &OperationJob, lifecycle: Lifecycle) -> Self {
        let delay = job.spec.operation_delay_seconds.unwrap_or(0);
        Self {
            id: id(&job.name_any()),
            kind: job.spec.action.clone(),
            delay: Duration::from_secs(u64::try_from(delay).unwrap_or(0)),
            lifecycle,
        }
    }

    /// Whether an operation that removes the pod has to wait until the pod is out of service.
    pub fn holds_removals(&self) -> bool {
        self.lifecycle.is_wanted && self.lifecycle.removes
    }

    /// Whether the action can act on a pod.
    pub fn turn(&self, pod: &Pod, now: Timestamp) -> Turn {
        if !takes_part(pod) {
            return Turn::Act;
        }
        let is_deleting = pod.metadata.deletion_timestamp.is_some();
        let name = pod.name_any();
        match self.adapter().standing(pod.labels(), now.as_nanosecond()) {
            Standing::Allowed(_) if is_deleting => Turn::Act,
            // The kubelet has not seen the gate, so requests still come.
            Standing::Allowed(_) if gate(pod) != Gate::Absent && is_ready(pod) => {
                Turn::Wait(leaving(pod, Stage::Operate), None)
            }
            Standing::Allowed(since) => self.after_delay(since, &name, now),
            // Nothing takes it out of service any more.
            _ if is_deleting && self.lifecycle.removes => Turn::Act,
            _ if is_deleting => {
                let message = format!("pod {name:?} is being deleted, so it is not operated");
                Turn::Wait(Failure::new("PodTerminating", message), None)
            }
            Standing::Begin(mut labels) => {
                if self.lifecycle.removes {
                    let time = now.as_nanosecond().to_string();
                    labels.insert(PREPARING_TO_DELETE.to_owned(), Some(time));
                }
                Turn::Begin(edit(pod, &labels), leaving(pod, Stage::PreCheck))
            }
            Standing::Blocked(others) => Turn::Wait(blocked(&name, &others), None),
            Standing::Waits(stage) => Turn::Wait(leaving(pod, stage), None),
            Standing::Returning => Turn::Wait(blocked(&name, std::slice::from_ref(&self.id)), None),
        }
    }

    /// The other operations that keep this one from beginning on a pod.
    pub(super) fn blocked(&self, pod: &Pod, now: Timestamp) -> Option<Failure> {
        if !takes_part(pod) {
            return None;
        }
        match self.adapter().standing(pod.labels(), now.as_nanosecond()) {
            Standing::Blocked(others) => Some(blocked(&pod.name_any(), &others)),
            Standing::Begin(_)
            | Standing::Waits(_)
            | Standing::Allowed(_)
            | Standing::Returning => None,
        }
    }

    /// Whether the operation has begun on a pod and has not ended.
    pub fn has_begun(&self, pod: &Pod) -> bool {
        self.operation(pod).keys().next().is_some()
    }

    /// Whether the action may have acted on a pod. Before that it is not asked how far it is.
    pub fn may_have_acted(&self, pod: Option<&Pod>, now: Timestamp) -> bool {
        let Lifecycle {
            is_wanted, removes, ..
        } = self.lifecycle;
        let can_act = |pod: &Pod| self.turn(pod, now) == Turn::Act;
        !is_wanted || removes || pod.is_none_or(can_act)
    }

    /// What gives a pod back to service: it ends the operation if the action has acted, and takes it back
    /// otherwise. None if there is nothing to end.
    pub fn give_back(&self, pod: &Pod, has_acted: bool) -> Option<Effect> {
        if pod.metadata.deletion_timestamp.is_some() || !self.has_begun(pod) {
            return None;
        }
        let labels = pod.labels();
        let adapter = self.adapter();
        let mut ended = if takes_part(pod) {
            let finish = has_acted.then(|| adapter.finish(labels)).flatten();
            finish.or_else(|| adapter.undo(labels))?
        } else {
            // No controller goes on with it.
            self.operation(pod).keys().map(|key| (key, None)).collect()
        };
        if labels.contains_key(PREPARING_TO_DELETE) {
            ended.insert(PREPARING_TO_DELETE.to_owned(), None);
        }
        Some(edit(pod, &ended))
    }

    /// What the release of a target waits for if its action removes pods: the action may put the pod back in
    /// place of another one that serves, so the pod is given back to service first.
    pub fn before_release(&self, pod: &Pod, now: Timestamp) -> Option<Failure> {
        let is_deleting = pod.metadata.deletion_timestamp.is_some();
        if !self.lifecycle.removes || !takes_part(pod) || is_deleting {
            return None;
        }
        (self.has_begun(pod) || returns_soon(pod, now)).then(|| {
            let message = format!("pod {:?} returns to service", pod.name_any());
            Failure::new(RETURNING, message)
        })
    }

    /// What a pod that was operated waits for until it is back in service; none if it is, or will never
    /// be.
    pub(super) fn returning(&self, pod: &Pod) -> Option<Failure> {
        let labels = pod.labels();
        if !takes_part(pod) || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let waits_for = if self.has_begun(pod) {
            match self.operation(pod).stage() {
                Stage::Finished => others(&Operation::all(labels), &self.id),
                Stage::PostCheck if let Some(rules) = rule::waits_for(pod) => rules,
                Stage::Operate
                | Stage::PreCheck
                | Stage::Preparing
                | Stage::PostCheck
                | Stage::Completing
                | Stage::Undone
                | Stage::Orphaned => "the PodOpsLifecycle controller".to_owned(),
            }
        } else {
            let serves = [SERVICE_AVAILABLE, STAY_OFFLINE];
            let is_held = !Operation::all(labels).is_empty();
            if is_held || serves.iter().any(|label| labels.contains_key(*label)) {
                return None;
            }
            format!("it to be Ready and to get the label {SERVICE_AVAILABLE}")
        };
        let message = format!(
            "pod {:?} was operated and returns to service; waiting for {waits_for}",
            pod.name_any()
        );
        Some(Failure::new(RETURNING, message))
    }

    fn adapter(&self) -> Adapter<'_> {
        Adapter {
            id: &self.id,
            kind: &self.kind,
        }
    }

    fn operation<'a>(&'a self, pod: &'a Pod) -> Operation<'a> {
        Operation::of(pod.labels(), &self.id)
    }

    /// A time in the future is that of another clock and counts as now.
    fn after_delay(&self, since: i128, name: &str, now: Timestamp) -> Turn {
        let passed = u64::try_from(now.as_nanosecond() - since).unwrap_or(0);
        let left = self.delay.saturating_sub(Duration::from_nanos(passed));
        if left.is_zero() {
            return Turn::Act;
        }
        let message = format!(
            "pod {name:?} is out of service; the action is called {} s later (spec.operationDelaySeconds)",
            self.delay.as_secs()
        );
        Turn::Wait(Failure::new("OperationDelay", message), Some(left))
    }
}

/// Whether a pod that no operation holds is about to be Ready.
fn returns_soon(pod: &Pod, now: Timestamp) -> bool {
    let labels = pod.labels();
    let is_held = labels.contains_key(STAY_OFFLINE) || !Operation::all(labels).is_empty();
    let containers = condition(pod, "ContainersReady");
    if is_held || is_ready(pod) || containers.is_none_or(|condition| condition.status != "True") {
        return false;
    }
    match gate(pod) {
        Gate::Absent => false,
        Gate::Unset | Gate::Closed => true,
        Gate::Open => {
            let opened = condition(pod, GATE).and_then(|gate| gate.last_transition_time.as_ref());
            opened.is_some_and(|opened| now.as_second() - opened.0.as_second() < READY)
        }
    }
}

/// The id of a job's operations: no other controller's begins so. A name that is too long is shortened, and ten
/// characters tell it apart.
fn id(job: &str) -> String {
    let id = format!("opj-{job}");
    if id.len() <= ID {
        return id;
    }
    format!("{}-{}{}", cut(&id, ID - 11), five(job), five(&id))
}

fn edit(pod: &Pod, labels: &Edit) -> Effect {
    driver::unchanged(pod, json!({"metadata": {"labels": labels}}))
}

fn blocked(name: &str, operations: &[String]) -> Failure {
    let message = format!(
        "waiting for other operations on pod {name:?} to finish: {}",
        operations.join(", ")
    );
    Failure::new("BlockedByOperation", message)
}

/// What a pod waits for while it is taken out of service.
fn leaving(pod: &Pod, stage: Stage) -> Failure {
    let protections: Vec<_> = protecting(pod.finalizers()).collect();
    let waits_for = match (stage, gate(pod)) {
        (Stage::Preparing, Gate::Closed) if !protections.is_empty() => format!(
            "other controllers to remove the finalizers {}",
            protections.join(", ")
        ),
        (Stage::Preparing, Gate::Open | Gate::Unset) => {
            format!("the readiness gate {GATE} to be False")
        }
        (Stage::Operate, _) => "it to be not Ready".to_owned(),
        (Stage::PreCheck, _) if let Some(rules) = rule::waits_for(pod) => rules,
        _ => "the PodOpsLifecycle controller to allow the operation".to_owned(),
    };
    let message = format!(
        "pod {:?} is being taken out of service (stage {stage:?}); waiting for {waits_for}",
        pod.name_any()
    );
    Failure::new("LeavingService", message)
}

fn others(operations: &[Operation<'_>], own: &str) -> String {
    let others = operations.iter().map(|one| one.id).filter(|id| *id != own);
    let others: Vec<_> = others.collect();
    if others.is_empty() {
        return "the PodOpsLifecycle controller".to_owned();
    }
    format!("other operations: {}", others.join(", "))
}
