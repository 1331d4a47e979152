//! `promote`: lets more targets of an OperationJob start, or updates more pods of a CollaSet.
//!
//! The two partitions are opposites: that of an OperationJob is how many targets may start, that of a CollaSet how
//! many pods are not updated. For a user both grow from none to all.

use operon_api::{CollaSet, OperationJob, keys};
use serde_json::{Value, json};

use super::{Effect, Promotion, Refusal, refuse};
use crate::{Object, Outcome, text::count};

pub(super) fn promote(object: &Object, promotion: Promotion) -> Result<Effect, Refusal> {
    match object {
        Object::OperationJob(job) => targets(object, job, promotion),
        Object::CollaSet(set) => pods(object, set, promotion),
        Object::JobFlow(_) | Object::DaemonJob(_) | Object::ReactiveJob(_) => {
            let (called, kind) = (object.called(), object.kind().name());
            refuse(format!(
                "only an OperationJob or a CollaSet has a partition to promote, and {called} is a {kind}; `kubectl operon resume {called}` ends a pause"
            ))
        }
    }
}

fn targets(object: &Object, job: &OperationJob, promotion: Promotion) -> Result<Effect, Refusal> {
    let called = object.called();
    if object.outcome() != Outcome::Unfinished {
        return refuse(format!(
            "{called} has finished; create another OperationJob"
        ));
    }
    let Some(partition) = job.spec.partition else {
        return refuse(format!(
            "{called} has no partition, so all targets may start already; `kubectl operon pause {called}` holds back the others"
        ));
    };
    let total = i32::try_from(job.targets().len()).unwrap_or(i32::MAX);
    let wanted = match promotion {
        Promotion::All => None,
        Promotion::Next => Some(partition.saturating_add(1)),
        Promotion::To(wanted) if wanted < partition => {
            return refuse(format!(
                "the partition of {called} is {partition} and may only grow; `kubectl operon pause {called}` holds back further targets"
            ));
        }
        Promotion::To(wanted) if wanted == partition => {
            return refuse(format!("the partition of {called} is {partition} already"));
        }
        Promotion::To(wanted) => Some(wanted),
    };
    if wanted.is_some() && total > 0 && partition >= total {
        return refuse(format!(
            "the partition of {called} is {partition}, and it has {} only, so all may start already",
            count(job.targets().len(), "target")
        ));
    }
    let says = match wanted {
        Some(wanted) if total > 0 => {
            format!(
                "{called}: {} of {total} targets may start",
                wanted.min(total)
            )
        }
        // They are selected when the job starts.
        Some(wanted) => format!("{called}: {wanted} targets may start"),
        None => format!("{called}: all targets may start"),
    };
    Ok(patch(object, &json!({"partition": wanted}), says))
}

fn pods(object: &Object, set: &CollaSet, promotion: Promotion) -> Result<Effect, Refusal> {
    let called = object.called();
    if set.is_updated_by_label() {
        return refuse(format!(
            "{called} has no partition: it updates the pods with the label {key}; `kubectl label pods POD {key}=true -n {namespace}` adds one",
            key = keys::UPDATE_INCLUDED,
            namespace = object.namespace()
        ));
    }
    if set.partition() == 0 {
        return refuse(format!(
            "{called} has no partition, so all pods may be updated already; `kubectl operon pause {called}` holds back the others"
        ));
    }
    if object.unseen().is_none() && outdated(set) == 0 {
        return refuse(format!(
            "all pods of {called} have its template, so there is nothing to promote; edit spec.template first"
        ));
    }
    let total = usize::try_from(set.spec.replicas).unwrap_or(0);
    let before = total.saturating_sub(set.partition());
    let wanted = match promotion {
        Promotion::All => total,
        Promotion::Next => before + 1,
        Promotion::To(wanted) => usize::try_from(wanted).unwrap_or(0),
    };
    if wanted < before {
        return refuse(format!(
            "{before} of {total} pods of {called} may be updated already, and their number may only grow; `kubectl operon pause {called}` holds back the others"
        ));
    }
    if wanted == before && promotion != Promotion::All {
        return refuse(format!(
            "{before} of {total} pods of {called} may be updated already"
        ));
    }
    let wanted = wanted.min(total);
    let says = if wanted == total {
        format!("{called}: all pods may be updated")
    } else {
        format!("{called}: {wanted} of {total} pods may be updated")
    };
    let rolling = json!({"byPartition": {"partition": total - wanted}});
    let spec = json!({"updateStrategy": {"rollingUpdate": rolling}});
    Ok(patch(object, &spec, says))
}

/// How many pods of a CollaSet have not the revision of its template, by the status.
pub(crate) fn outdated(set: &CollaSet) -> usize {
    let status = set.status.as_ref();
    let outdated = status.map_or(0, |status| {
        status.replicas.saturating_sub(status.updated_replicas)
    });
    usize::try_from(outdated).unwrap_or(0)
}

/// A patch of the spec of the object as it was read: two users who promote at the same time do not promote twice.
fn patch(object: &Object, spec: &Value, says: String) -> Effect {
    let version = &object.metadata().resource_version;
    Effect::Patch {
        patch: json!({"metadata": {"resourceVersion": version}, "spec": spec}),
        says,
    }
}
