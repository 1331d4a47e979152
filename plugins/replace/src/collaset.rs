//! Replacing a pod of a `CollaSet`, by `KusionStack`'s label protocol: the origin is labelled, the
//! `CollaSet`'s controller creates the new pod, pairs the two, and deletes the origin through its
//! lifecycle. No finalizer is placed: the `CollaSet` itself keeps the order, and none can leak.

mod pair;
mod release;

use std::time::Duration;

use operon_sdk::{Cluster, Effect, Job, Pod, ReadError, Target};

pub use self::pair::{claim, created_for, left_behind};
pub use self::release::release;

use crate::keys;
use crate::kusionstack;
use crate::plan::{self, Plan, patch};

/// Whether a pod is a `CollaSet`'s.
pub fn owns(pod: &Pod) -> bool {
    pod.label(keys::INSTANCE_ID).is_some()
}

/// Whether a pod of a `CollaSet` serves, according to the pod lifecycle.
pub fn available(pod: &Pod) -> bool {
    pod.label(keys::SERVICE_AVAILABLE).is_some()
}

/// What to do about a pod that exists.
pub fn plan(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    if let Some(origin) = pod.label(keys::PAIR_ORIGIN_NAME) {
        return Ok(Plan::not_allowed(pod, origin));
    }
    if let Some(plan) = take_over(pod, job, cluster)? {
        return Ok(plan);
    }
    let new_pod = pair::new_pod(target, pod, cluster)?;
    let mut plan = decide(pod, new_pod.as_ref(), job);
    if target.extra(keys::OWNER).is_none() {
        plan.owner = pair::owner(pod, cluster)?;
    }
    Ok(match new_pod {
        Some(new_pod) if target.extra(keys::NEW_POD) != Some(&new_pod.name) => {
            let message = format!(
                "its CollaSet replaces it by pod {:?} as soon as the new pod serves",
                new_pod.name
            );
            plan.with_new_pod(&new_pod.name)
                .event("ReplaceNewPod", message)
        }
        Some(_) | None => plan,
    })
}

/// The request of a job that does not exist any more becomes this job's.
fn take_over(pod: &Pod, job: &Job, cluster: &dyn Cluster) -> Result<Option<Plan>, ReadError> {
    let mark = pod.label(keys::JOB).filter(|mark| *mark != job.uid);
    let Some(mark) = mark.filter(|_| requested(pod) && !going(pod)) else {
        return Ok(None);
    };
    if cluster.job_exists(mark)? {
        return Ok(None);
    }
    let message = format!(
        "the replacement of pod {:?} was requested by a job (uid {mark}) that does not exist any more: this \
         job takes it over",
        pod.name
    );
    let edit = pod.edit().set_label(keys::JOB, &job.uid);
    let plan = Plan::wait(keys::TAKEN_OVER, message).recheck_after(Duration::from_secs(1));
    Ok(Some(plan.doing(patch(edit))))
}

fn stays(pod: &Pod) -> bool {
    pod.live() && pod.label(keys::TO_DELETE).is_none()
}

/// The decision, from the pod and its new pod.
fn decide(pod: &Pod, new_pod: Option<&Pod>, job: &Job) -> Plan {
    let serving = new_pod.filter(|new_pod| available(new_pod));
    match (serving, new_pod) {
        (Some(new_pod), _) if pod.ended() && !pod.deleting => {
            let message = format!("pod {:?} has ended and is deleted", pod.name);
            Plan::wait("OriginEnded", message)
                .with_new_pod(&new_pod.name)
                .doing(Effect::Delete(pod.delete()))
        }
        // A pod that still has the finalizer must be released, so its target has not succeeded yet.
        (Some(new_pod), _) if going(pod) => {
            let ending = job.ending && !kusionstack::holds(pod);
            let job = Job {
                ending,
                ..job.clone()
            };
            plan::wait_for_origin_to_go(pod, new_pod, &job)
        }
        (Some(new_pod), _) => {
            let message = format!(
                "the new pod {:?} serves; the CollaSet deletes pod {:?}",
                new_pod.name, pod.name
            );
            Plan::wait("WaitingForCollaSet", message).with_new_pod(&new_pod.name)
        }
        (None, Some(new_pod)) => plan::wait_for_ready(new_pod),
        (None, None) => decide_alone(pod, job),
    }
}

/// The decision while the pod has no new pod.
fn decide_alone(pod: &Pod, job: &Job) -> Plan {
    if pod.deleting {
        let message = format!("pod {:?} is already being deleted", pod.name);
        return Plan::wait("OriginTerminating", message);
    }
    if pod.ended() {
        let message = format!(
            "pod {:?} has ended ({}): its CollaSet has already created another pod in its place; delete the ended pod",
            pod.name, pod.phase
        );
        return Plan::fail("OriginEnded", message);
    }
    if requested(pod) {
        let message = format!(
            "waiting for the CollaSet to create a new pod for {:?}",
            pod.name
        );
        return Plan::wait("WaitingForNewPod", message);
    }
    if going(pod) {
        let message = format!(
            "pod {:?} is being scaled in: no new pod is created for it",
            pod.name
        );
        return Plan::fail(keys::OWNER_SCALED_DOWN, message);
    }
    let edit = pod
        .edit()
        .set_label(keys::TO_REPLACE, "true")
        .set_label(keys::JOB, &job.uid);
    let message = format!(
        "waiting for the CollaSet to create a new pod for {:?}",
        pod.name
    );
    // The Event that names the new pod follows in a moment.
    Plan::wait("WaitingForNewPod", message).doing(patch(edit))
}

fn requested(pod: &Pod) -> bool {
    let signs = [
        keys::TO_REPLACE,
        keys::REPLACED_BY_UPDATE,
        keys::PAIR_NEW_ID,
    ];
    signs.iter().any(|key| pod.label(key).is_some())
}

fn going(pod: &Pod) -> bool {
    pod.deleting || pod.label(keys::TO_DELETE).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Outcome;
    use operon_sdk::json;
    use operon_sdk::testing::{FakeCluster, job};

    #[test]
    fn the_decision_follows_from_the_labels_of_the_pair() {
        let to_replace = json!({keys::TO_REPLACE: "true"});
        let to_delete = json!({keys::TO_REPLACE: "true", keys::TO_DELETE: "1"});
        let scaled_in = json!({keys::TO_DELETE: "1"});
        let by_update = json!({keys::REPLACED_BY_UPDATE: "rev"});
        let serves = json!({keys::SERVICE_AVAILABLE: "1"});
        // The origin's labels and phase, the new pod's labels, the reason, the number of effects.
        let table = [
            (json!({}), "Running", None, "WaitingForNewPod", 1),
            (to_replace.clone(), "Running", None, "WaitingForNewPod", 0),
            (by_update, "Running", None, "WaitingForNewPod", 0),
            (scaled_in, "Running", None, keys::OWNER_SCALED_DOWN, 0),
            (json!({}), "Failed", None, "OriginEnded", 0),
            (
                to_replace.clone(),
                "Running",
                Some(json!({})),
                "NewPodNotReady",
                0,
            ),
            (
                to_replace.clone(),
                "Running",
                Some(serves.clone()),
                "WaitingForCollaSet",
                0,
            ),
            (
                to_delete,
                "Running",
                Some(serves.clone()),
                "OriginTerminating",
                0,
            ),
            (to_replace, "Failed", Some(serves), "OriginEnded", 1),
        ];
        for (labels, phase, new_labels, reason, effects) in table {
            let mut world = FakeCluster::new();
            world.add_pod("foo", &json!({"labels": labels}));
            world.end_pod("foo", phase);
            let new_pod = new_labels.map(|labels| world.add_pod("new", &json!({"labels": labels})));
            let plan = decide(
                &world.expect_pod("foo"),
                new_pod.as_ref(),
                &job("j", 0, "{}"),
            );
            let (Outcome::Wait(failure, _) | Outcome::Failed(failure)) = &plan.outcome else {
                unreachable!("no case of the table succeeds");
            };
            assert_eq!(
                (failure.reason.as_str(), plan.effects.len()),
                (reason, effects),
                "{labels}"
            );
        }
    }
}
