//! Which Jobs are a ReactiveJob's own, which are to be taken over, and which only look so.

use std::{cmp::Reverse, sync::Arc};

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{ReactiveJob, keys};

use super::job;
use crate::jobs::{
    self,
    owned::{controller, is_owned},
};

/// How far the generations of another object are before those of this one.
const BEFORE: i64 = 1 << 40;

/// The Jobs that carry an object's name.
#[derive(Clone, Debug, Default)]
pub struct Family {
    /// Its own Jobs, the newest first. Jobs that another operator created are among them, see `adopt`.
    pub own: Vec<Arc<Job>>,
    /// Its own Jobs without our marks: created by SAP's operator, or restored from a backup.
    pub adopt: Vec<Arc<Job>>,
    /// Jobs that carry its labels but were created by another owner: they are ignored.
    pub strangers: Vec<Arc<Job>>,
}

/// Sorts the Jobs that carry an object's name.
pub fn family(object: &ReactiveJob, jobs: &[Arc<Job>]) -> Family {
    let mut family = Family::default();
    for job in jobs {
        if is_marked(object, job) {
            family.own.push(Arc::clone(job));
        } else if may_be_adopted(object, job) {
            family.own.push(Arc::clone(job));
            family.adopt.push(Arc::clone(job));
        } else {
            family.strangers.push(Arc::clone(job));
        }
    }
    family.own.sort_by_key(|job| Reverse(age(object, job)));
    family
}

/// Newer Jobs have a higher one: first by the generation, which SAP's operator counts by too, then by
/// our own number, then by time.
fn age(object: &ReactiveJob, job: &Job) -> (i64, i64, Option<Timestamp>, String) {
    (
        generation(object, job).unwrap_or(i64::MIN),
        jobs::number(job, keys::RUN).unwrap_or(0),
        job.metadata.creation_timestamp.as_ref().map(|time| time.0),
        job.name_any(),
    )
}

/// The generation of the object that a Job was created for. The Jobs of an earlier object of its name, in
/// place of which it was restored, keep their order and come before all of its own.
pub fn generation(object: &ReactiveJob, job: &Job) -> Option<i64> {
    let number = jobs::number(job, keys::CONTROLLER_GENERATION)?;
    Some(if has_uid(object, job) {
        number
    } else {
        number.saturating_sub(BEFORE)
    })
}

/// Whether a Job has the object's uid, and a mark that a copy of it has not.
fn is_marked(object: &ReactiveJob, job: &Job) -> bool {
    let adopted = job.annotations().get(keys::ADOPTED);
    has_uid(object, job)
        && (job::is_made_here(&object.name_any(), job)
            || (adopted.is_some() && adopted == job.metadata.uid.as_ref()))
}

fn has_uid(object: &ReactiveJob, job: &Job) -> bool {
    let uid = job.labels().get(keys::CONTROLLER_UID);
    uid.is_some() && uid == object.metadata.uid.as_ref()
}

/// Whether a Job looks as if SAP's operator, or Operon under the object's former uid, had created it, and
/// has no other owner.
fn may_be_adopted(object: &ReactiveJob, job: &Job) -> bool {
    let name = object.name_any();
    let prefix = format!("{name}-");
    let hash = job.annotations().get(keys::CONTROLLER_HASH);
    let is_hash = hash.is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    let has_shape = job
        .name_any()
        .strip_prefix(&prefix)
        .is_some_and(jobs::name::is_five);
    let by_sap = job.metadata.generate_name.as_ref() == Some(&prefix)
        && jobs::number(job, keys::RUN).is_none()
        && (!job.annotations().contains_key(keys::ADOPTED) || !has_uid(object, job));
    // A Job that was restored before no longer has the name that its uids give.
    let was_adopted =
        jobs::number(job, keys::RUN).is_some() && job.annotations().contains_key(keys::ADOPTED);
    let by_us = !has_uid(object, job) && (was_adopted || job::is_made_here(&name, job));
    let is_free = controller(job).is_none_or(|owner| {
        owner.kind == "ReactiveJob" && job.labels().get(keys::CONTROLLER_UID) == Some(&owner.uid)
    });
    generation(object, job).is_some() && is_hash && has_shape && (by_sap || by_us) && is_free
}

/// Whether this object was the owner of a Job and is not any more: a user deleted the object, and kept its
/// Jobs (`kubectl delete --cascade=orphan`).
pub(super) fn is_orphaned(object: &ReactiveJob, job: &Job) -> bool {
    is_marked(object, job) && !is_owned(object, job)
}

/// Whether our finalizer is on a Job.
pub fn is_held(job: &Job) -> bool {
    job.finalizers()
        .iter()
        .any(|finalizer| finalizer == keys::REACTIVE_JOB_FINALIZER)
}
