//! Job ownership, by owner references: a Job is owned by an object, by an earlier object of the same name,
//! with which it is deleted, or by another object.

use std::time::Duration;

use k8s_openapi::{
    api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::OwnerReference, jiff::Timestamp,
};
use kube::{Resource, ResourceExt};

use super::{MadeJob, MadeJobs, time::left};
use crate::driver::Claim;

/// How long after an object was first seen it waits for the Jobs of the object that had its name before.
const LEAVE: Duration = Duration::from_mins(1);

/// How often the deletion of those Jobs is checked: nothing reports it for Jobs that another operator
/// created.
const LEAVE_RECHECK: Duration = Duration::from_secs(1);

/// What names an object as the owner of its Jobs. Deleted in the foreground, it waits for them.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> Option<OwnerReference> {
    Some(OwnerReference {
        block_owner_deletion: Some(true),
        ..object.controller_owner_ref(&())?
    })
}

/// The controller of an object.
pub fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true))
}

/// Whether the owner of a Job is this object, and not an earlier object of the same name.
pub(crate) fn is_owned<K: Resource>(object: &K, job: &Job) -> bool {
    let owners = job.owner_references();
    owners
        .iter()
        .any(|owner| Some(&owner.uid) == object.meta().uid.as_ref())
}

/// Whose a Job is that is not owned by `object`, which was first seen at `seen`.
pub(crate) fn not_owned<K: Resource<DynamicType = ()>>(
    object: &K,
    job: &Job,
    seen: Timestamp,
    now: Timestamp,
) -> Claim {
    let meta = object.meta();
    let is_of_former = job.owner_references().iter().any(|owner| {
        owner.kind == K::kind(&())
            && owner.api_version.split('/').next() == Some(&*K::group(&()))
            && Some(&owner.name) == meta.name.as_ref()
            && Some(&owner.uid) != meta.uid.as_ref()
    });
    if is_of_former && left(seen, LEAVE, now).is_some() {
        Claim::Leaving
    } else {
        Claim::Others
    }
}

/// When to check again whether the Jobs that are being deleted are gone, if there are any.
pub(crate) fn leave_recheck(made: &MadeJobs) -> Option<Duration> {
    let is_leaving = made.values().any(|made| *made == MadeJob::Leaving);
    is_leaving.then_some(LEAVE_RECHECK)
}
