//! The decision about one target.

use operon_sdk::{ActionError, Job, MetadataEdit, Target};

use crate::{
    changed::{Changed, change},
    kind::Kind,
    parameters,
};

/// What to do, and how far the target is.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Remember this before anything is written.
    Remember(String),
    /// Write the keys that are not as the job wants them.
    Write(Box<MetadataEdit>),
    /// The pod is as the job wants it.
    Done,
}

/// Decides about a target.
///
/// Errors: those of the parameters; terminal `PodNotFound` and `TooMuchToRemember`.
pub(crate) fn plan<K: Kind>(target: &Target, job: &Job) -> Result<Plan, ActionError> {
    let wanted = parameters::wanted::<K>(job)?;
    let pod = target.existing_pod()?;
    let remembered = Changed::of(target);
    let mut changed = remembered.clone();
    let mut edit = pod.edit();
    let mut is_done = true;
    for (key, after) in &wanted {
        let (before, after) = (K::of(pod, key), after.as_deref());
        if before != after {
            is_done = false;
            changed.note(key, before, after);
            edit = change::<K>(edit, key, after);
        }
    }
    Ok(if is_done {
        Plan::Done
    } else if changed == remembered {
        Plan::Write(Box::new(edit))
    } else {
        Plan::Remember(changed.to_text::<K>()?)
    })
}
