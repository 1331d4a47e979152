//! The capacity of one object: how many targets may be in progress at the same time, what they may record, and what
//! the status leaves out when it has no room. Pure, and a function of the spec and the details alone.
//!
//! An API server stores no object of more than 1.5 MiB. A target's name takes room three times: in the
//! spec, in `metadata.managedFields` and in the status. So the length of the names limits a job: 10,000
//! targets fit if their names have up to about 20 characters, 5,000 up to 60.

use std::io;

use operon_api::{
    OperationJob,
    operation_job::{PodTarget, Progress, TargetDetail},
};
use serde::Serialize;

use super::RELEASED;
use crate::action::{Attributes, Failure};

/// The most bytes of an object (etcd's `--max-request-bytes`).
const OBJECT: usize = 1_572_864;

/// Kept free for the job's own part of the status, and for the request around the object.
const RESERVE: usize = 40 << 10;

/// What details may take where they can be shortened: a status is written often.
const COMFORT: usize = 512 << 10;

/// A finished target that is shortened as far as can be, besides its name.
const FINISHED: usize = 36;

/// The additional bytes of a target in progress, besides its extra-info: times, and the uid of its pod.
const UNDER_WAY: usize = 176;

/// The bytes of extra-info, as JSON, that every target in progress has room for: the names of two pods and more.
pub(super) const EXTRA_INFO: usize = 256;

/// So many quarters of the room are for targets that start. The rest is for those that record more than
/// [`EXTRA_INFO`].
const QUARTERS: usize = 3;

/// The bytes of a target that are never shortened, besides two names.
const USUAL: usize = 220;

/// The longest message of one target.
pub(super) const MESSAGE: usize = 1024;

/// The same where there are many.
const SHORT_MESSAGE: usize = 128;

/// This number of failed targets keep their message and reason, whatever the others lose.
const EXPLAINED: usize = 20;

/// How many more targets may start, so that the status has room for what must not be lost of them. A job of
/// ordinary size has no limit.
///
/// # Errors
/// The job has no room for its own status.
pub(super) fn window<'a>(
    job: &OperationJob,
    under_way: impl Iterator<Item = &'a TargetDetail>,
) -> Result<usize, Failure> {
    let count = job.targets().len();
    let room = spare(job) / 4 * QUARTERS;
    let each = UNDER_WAY + EXTRA_INFO;
    if count > 0 && room < each {
        let message = format!(
            "the names of {count} targets leave no room for their status in one object; split them into several OperationJobs"
        );
        return Err(Failure::new("JobTooLarge", message));
    }
    Ok(room.saturating_sub(taken(under_way)) / each)
}

/// The bytes that are left for targets that record more than they have room for already.
pub(super) fn left<'a>(
    job: &OperationJob,
    under_way: impl Iterator<Item = &'a TargetDetail>,
) -> usize {
    spare(job).saturating_sub(taken(under_way))
}

/// The bytes of extra-info that a target in progress has room for, whatever the others record.
pub(super) fn kept(detail: &TargetDetail) -> usize {
    bytes(&detail.extra_info).max(EXTRA_INFO)
}

/// The bytes that a job has for targets in progress, if all others have finished.
fn spare(job: &OperationJob) -> usize {
    let targets = job.targets();
    let names: usize = targets.iter().map(|target| target.name.len()).sum();
    room(job).saturating_sub(names + targets.len() * FINISHED)
}

/// The bytes of it that these targets take.
fn taken<'a>(under_way: impl Iterator<Item = &'a TargetDetail>) -> usize {
    under_way.map(|detail| UNDER_WAY + kept(detail)).sum()
}

/// Whether a target holds a place in the window: its status is needed to continue.
pub(super) fn is_under_way(detail: &TargetDetail) -> bool {
    match detail.progress {
        Progress::Pending | Progress::Succeeded => false,
        Progress::Processing => true,
        Progress::Failed => !is_clean(detail),
    }
}

/// Whether nothing is left to release of a failed target: it was released, or never started.
pub(super) fn is_clean(detail: &TargetDetail) -> bool {
    detail.extra_info.contains_key(RELEASED) || detail.start_time.is_none()
}

/// Shortens details until they fit, the least useful first; each step only if those before it were not
/// enough:
///
/// 1. in a large job, targets that are Pending: they are in the spec, and an absent one reads as such;
/// 2. messages, beyond 128 bytes;
/// 3. when targets started and ended, and their pods' uids, where they succeeded or were released;
/// 4. messages, except those of the first 20 failed targets;
/// 5. the extra-info of targets that succeeded or were released (`NewPod`), and what a dry run would do, except to the
///    first 20 targets;
/// 6. what targets wait for;
/// 7. the reasons of failed targets, except the first 20.
///
/// What remains is needed to continue: the names and progress of all that started, and the times, uids and
/// extra-info of those that are in progress or not released. Doing it twice changes nothing.
pub(super) fn shorten(job: &OperationJob, details: &mut Vec<TargetDetail>) {
    messages(details, MESSAGE);
    let names: usize = details.iter().map(|detail| detail.name.len()).sum();
    if 2 * names + details.len() * USUAL > COMFORT {
        details.retain(|detail| detail.progress != Progress::Pending);
    }
    let room = room(job);
    let comfort = room.min(COMFORT);
    let steps: [(usize, Shortening); 6] = [
        (comfort, |details| messages(details, SHORT_MESSAGE)),
        (comfort, times),
        (comfort, explanations),
        (comfort, |details| {
            done(details).for_each(|detail| detail.extra_info = Attributes::new());
            let tried = details.iter_mut().filter(|d| !d.dry_run.is_empty());
            tried
                .skip(EXPLAINED)
                .for_each(|detail| detail.dry_run = Vec::new());
        }),
        (room, |details| {
            waiting(details).for_each(|detail| detail.error = None);
        }),
        (room, |details| {
            unexplained(details).for_each(|detail| detail.error = None);
        }),
    ];
    for (limit, step) in steps {
        if bytes(details) <= limit {
            break;
        }
        step(details);
    }
}

/// One way to shorten details.
type Shortening = fn(&mut [TargetDetail]);

/// Cuts a text to so many bytes, or a little less.
pub(super) fn truncate(text: &mut String, limit: usize) {
    if text.len() > limit {
        let end = (0..=limit)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
    }
}

/// The longest message of a condition.
pub(super) fn bounded(mut message: String) -> String {
    truncate(&mut message, 2 * MESSAGE);
    message
}

fn messages(details: &mut [TargetDetail], limit: usize) {
    for error in details
        .iter_mut()
        .filter_map(|detail| detail.error.as_mut())
    {
        truncate(&mut error.message, limit);
    }
}

/// The targets that need nothing but their outcome.
fn done(details: &mut [TargetDetail]) -> impl Iterator<Item = &mut TargetDetail> {
    details
        .iter_mut()
        .filter(|detail| detail.progress.is_finished() && !is_under_way(detail))
}

/// A failed target without a start needs no release, so the mark is removed too.
fn times(details: &mut [TargetDetail]) {
    for detail in done(details) {
        detail.start_time = None;
        detail.operated_time = None;
        detail.end_time = None;
        detail.pod_uid = None;
        detail.extra_info.remove(RELEASED);
    }
}

fn explanations(details: &mut [TargetDetail]) {
    let clear = |detail: &mut TargetDetail| {
        if let Some(error) = detail.error.as_mut() {
            error.message.clear();
        }
    };
    unexplained(details).for_each(clear);
    waiting(details).for_each(clear);
}

fn waiting(details: &mut [TargetDetail]) -> impl Iterator<Item = &mut TargetDetail> {
    details
        .iter_mut()
        .filter(|detail| !detail.progress.is_finished())
}

/// All but the first failed targets.
fn unexplained(details: &mut [TargetDetail]) -> impl Iterator<Item = &mut TargetDetail> {
    details
        .iter_mut()
        .filter(|detail| detail.progress == Progress::Failed)
        .skip(EXPLAINED)
}

/// The most bytes for the details of a job, if one field manager wrote its spec.
fn room(job: &OperationJob) -> usize {
    // Caches drop them, so they are mostly not known.
    let managed = match job.metadata.managed_fields {
        Some(_) => 0,
        None => job.spec.targets.iter().map(managed).sum(),
    };
    let selected = job.status.as_ref().map_or(0, |s| bytes(&s.targets));
    let others = bytes(&job.spec) + bytes(&job.metadata) + managed + selected + RESERVE;
    OBJECT.saturating_sub(others)
}

/// What one target takes in `metadata.managedFields`.
fn managed(target: &PodTarget) -> usize {
    let containers = target.containers.as_ref().map_or(0, |containers| {
        30 + containers.iter().map(|name| name.len() + 12).sum::<usize>()
    });
    target.name.len() + 41 + containers
}

/// The length of a value as JSON. What can't be written takes nothing.
pub(super) fn bytes(value: &(impl Serialize + ?Sized)) -> usize {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).map_or(0, |()| length.0)
}

/// Counts what is written, so that a large value is not copied for its length.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
