//! `promote`: lets more targets of an OperationJob start.

use serde_json::json;

use super::{Effect, Promotion, Refusal, refuse};
use crate::{Object, Outcome, text::count};

pub(super) fn promote(object: &Object, promotion: Promotion) -> Result<Effect, Refusal> {
    let called = object.called();
    let Object::OperationJob(job) = object else {
        return refuse(format!(
            "only an OperationJob has targets to promote, and {called} is a {}; `kubectl operon resume {called}` ends a pause",
            object.kind().name()
        ));
    };
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
    Ok(Effect::Patch {
        patch: json!({
            "metadata": {"resourceVersion": job.metadata.resource_version},
            "spec": {"partition": wanted},
        }),
        says,
    })
}
