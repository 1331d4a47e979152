//! A step whose Job is held: by the flow, by a queue such as Kueue, or by a user. It is neither late nor stuck.

use kube::ResourceExt;

use super::Case;
use crate::jobs::held::{Holder, holder};

/// Who holds the Job of a step, in a sentence, if anyone does.
pub(super) fn held(case: &Case<'_>) -> Option<String> {
    let name = case.job.name_any();
    Some(match holder(case.job, case.pods())? {
        Holder::Own if !case.around.is_suspended => {
            format!("Job {name:?} is suspended by the step's own template (suspend: true)")
        }
        holder @ (Holder::Own
        | Holder::Queue(_)
        | Holder::Manager(_)
        | Holder::Gates(_)
        | Holder::Other) => format!("Job {name:?} is {holder}"),
    })
}
