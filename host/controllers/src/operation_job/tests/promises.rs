//! The guarantees of OperationJobs, each checked at the write that could violate it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use k8s_openapi::{apimachinery::pkg::util::intstr::IntOrString, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    OperationJob,
    conditions::{End, find},
    keys,
    operation_job::{OperationJobStatus, Progress, TargetDetail},
};
use operon_core::operation_job::{
    RELEASED,
    availability::{Operated, operated},
};
use serde_json::Value;

use crate::simulation::{
    Objects, Write,
    plurals::{OPERATION_JOBS, PODS},
};

/// What was written, and the promises that were broken.
pub(super) struct Writes {
    pub(super) broken: Vec<String>,
    /// Whether a pod has anything of a job left.
    is_marked: fn(&Value, &OperationJob) -> bool,
    /// When this process last got the answer that a status was written, by the job's uid.
    statuses: BTreeMap<String, Timestamp>,
    /// The jobs, by name, and the pods, by uid, that their targets started with.
    started: BTreeSet<(String, String)>,
    /// The progress that jobs finished with, by uid: what an Event may say.
    finished: BTreeMap<String, Progress>,
}

impl Writes {
    pub(super) fn new(is_marked: fn(&Value, &OperationJob) -> bool) -> Self {
        Self {
            broken: Vec::new(),
            is_marked,
            statuses: BTreeMap::new(),
            started: BTreeSet::new(),
            finished: BTreeMap::new(),
        }
    }

    pub(super) fn process_begins(&mut self) {
        self.statuses.clear();
    }

    /// An OperationJob is written.
    pub(super) fn write(&mut self, write: &Write<'_>) {
        let (old, now) = (job(write.old), write.now);
        let Some(new) = write.new else {
            return self.expire(&old, now);
        };
        let is_held = |object: &Value| {
            let finalizers = object["metadata"]["finalizers"].as_array();
            let mut finalizers = finalizers.into_iter().flatten();
            finalizers.any(|held| held == keys::OPERATION_JOB_FINALIZER)
        };
        if write.subresource == Some("status") {
            self.availability(&old, &job(new), write.objects);
            self.status(&old, &job(new), now, write.is_answered);
        } else if is_held(write.old) && !is_held(new) {
            self.let_go(&old, write.objects);
        }
    }

    /// Whether a target of the job started with this pod.
    pub(super) fn is_recorded(&self, job: &str, pod: &str) -> bool {
        self.started.contains(&(job.to_owned(), pod.to_owned()))
    }

    pub(super) fn promise(&mut self, holds: bool, what: &str, about: &dyn std::fmt::Debug) {
        if !holds {
            self.broken.push(format!("{what}: {about:?}"));
        }
    }

    fn status(
        &mut self,
        old: &OperationJob,
        new: &OperationJob,
        now: Timestamp,
        is_answered: bool,
    ) {
        let uid = new.uid().unwrap_or_default();
        let (before, after) = (details(old), details(new));
        for was in &before {
            let is = after.iter().find(|is| is.name == was.name);
            self.promise(
                is.is_some_and(|is| follows(was, is)),
                "no target goes back, changes its pod, or changes its result",
                &(was, is),
            );
        }
        self.promise(
            counts_are_right(new),
            "the status counts its targets",
            &new.status,
        );
        let pods = after.iter().filter_map(|detail| detail.pod_uid.clone());
        self.started.extend(pods.map(|pod| (new.name_any(), pod)));
        let started = after.iter().filter(|d| d.progress != Progress::Pending);
        let started = i32::try_from(started.count()).unwrap_or(i32::MAX);
        self.promise(
            new.metadata.deletion_timestamp.is_some()
                || new.spec.partition.is_none_or(|most| started <= most),
            "no more targets start than the partition lets",
            &new.status,
        );
        let last = self.statuses.remove(&uid);
        self.promise(
            last.is_none_or(|last| now.duration_since(last).as_millis() >= 1000),
            "a status is written at most once a second",
            &(last, now),
        );
        if is_answered {
            self.statuses.insert(uid.clone(), now);
        }
        let conditions = new.status.as_ref().map_or(&[][..], |s| &s.conditions);
        let says = |end: End| find(conditions, end.condition()).is_some();
        let said = [End::Complete, End::Failed]
            .into_iter()
            .find(|end| says(*end));
        self.promise(
            said == progress(new).and_then(Progress::end),
            "a status says by a condition that the job has finished, and how",
            &new.status,
        );
        if let Some(progress) = progress(new).filter(|progress| progress.is_finished()) {
            self.finished.insert(uid, progress);
        }
    }

    /// When a target starts that is available, no more available pods are in operation than the job allows.
    fn availability(&mut self, old: &OperationJob, new: &OperationJob, objects: &Objects) {
        let Some(IntOrString::Int(most)) = new.spec.max_unavailable else {
            return;
        };
        let pods = objects.all(PODS);
        let is_available = |operated: &Operated| {
            let uid = operated.uid.as_deref();
            let found = pods
                .iter()
                .find(|pod| pod["metadata"]["uid"].as_str() == uid);
            found.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        };
        let known: HashSet<_> = operated(old).collect();
        if !operated(new).any(|pod| !known.contains(&pod) && is_available(&pod)) {
            return;
        }
        let jobs = objects.all(OPERATION_JOBS);
        let others = jobs.iter().map(job);
        let others = others.filter(|other| other.uid() != new.uid());
        let all: HashSet<_> = others
            .flat_map(|other| operated(&other).collect::<Vec<_>>())
            .chain(operated(new))
            .collect();
        let count = all.iter().filter(|pod| is_available(pod)).count();
        self.promise(
            i32::try_from(count).is_ok_and(|count| count <= most),
            "no target starts that the workload cannot spare",
            &(count, most, &new.status),
        );
    }

    /// The finalizer is taken off a deleted job: all that started has succeeded, been released, or is
    /// reported as given up; and what was released has nothing of the job left.
    fn let_go(&mut self, job: &OperationJob, objects: &Objects) {
        let pods = objects.all(PODS);
        for detail in details(job).iter().filter(|d| d.pod_uid.is_some()) {
            self.promise(
                detail.progress == Progress::Succeeded
                    || is_released(detail)
                    || is_abandoned(detail),
                "a deleted job is held until its targets are released",
                detail,
            );
            let pod = pods
                .iter()
                .find(|pod| detail.pod_uid.as_deref() == pod["metadata"]["uid"].as_str());
            let is_marked = pod.is_some_and(|pod| (self.is_marked)(pod, job));
            self.promise(
                !is_released(detail) || !is_marked,
                "what is released has nothing of the job left",
                &(detail, pod),
            );
        }
    }

    /// The host deletes a job.
    fn expire(&mut self, job: &OperationJob, now: Timestamp) {
        let end = job.status.as_ref().and_then(|s| s.end_time.as_ref());
        let ttl = job.spec.ttl_seconds_after_finished.filter(|ttl| *ttl > 0);
        let is_due = end
            .zip(ttl)
            .is_some_and(|(end, ttl)| now.as_second() >= end.0.as_second() + i64::from(ttl));
        self.promise(
            is_due && progress(job).is_some_and(Progress::is_finished),
            "only a job that finished is deleted, and not before its TTL",
            &job.status,
        );
    }

    /// An Event repeats what a status reported before.
    pub(super) fn event(&mut self, event: &Value) {
        let about = event["regarding"]["uid"].as_str().unwrap_or_default();
        let said = match event["reason"].as_str() {
            Some("Succeeded") => Progress::Succeeded,
            Some("Failed") => Progress::Failed,
            _ => return,
        };
        let is_so = self.finished.get(about) == Some(&said);
        self.promise(is_so, "an Event follows the status that it reports", event);
    }
}

pub(super) fn job(object: &Value) -> OperationJob {
    serde_json::from_value(object.clone()).expect("an OperationJob")
}

pub(super) fn details(job: &OperationJob) -> Vec<TargetDetail> {
    let status = job.status.clone().unwrap_or_default();
    status.target_details
}

pub(super) fn progress(job: &OperationJob) -> Option<Progress> {
    job.status.as_ref().and_then(|status| status.progress)
}

pub(super) fn is_released(detail: &TargetDetail) -> bool {
    detail.extra_info.contains_key(RELEASED)
}

fn is_abandoned(detail: &TargetDetail) -> bool {
    let error = detail.error.as_ref();
    error.is_some_and(|error| error.reason == "ReleaseAbandoned")
}

fn follows(was: &TargetDetail, is: &TargetDetail) -> bool {
    let rank = |progress: Progress| match progress {
        Progress::Pending => 0,
        Progress::Processing => 1,
        Progress::Failed | Progress::Succeeded => 2,
    };
    let is_same = was.progress == is.progress && was.end_time == is.end_time;
    rank(was.progress) <= rank(is.progress)
        && (is_same || !was.progress.is_finished())
        && (was.pod_uid == is.pod_uid || was.pod_uid.is_none())
        && (!is_released(was) || is_released(is))
}

/// The counts, counted once more.
fn counts_are_right(job: &OperationJob) -> bool {
    let OperationJobStatus {
        total_pod_count,
        succeeded_pod_count,
        failed_pod_count,
        ..
    } = job.status.clone().unwrap_or_default();
    let all = details(job);
    let count = |wanted: Progress| all.iter().filter(|d| d.progress == wanted).count();
    let is = |said: Option<i32>, count: usize| {
        usize::try_from(said.unwrap_or(0)).is_ok_and(|said| said == count)
    };
    is(total_pod_count, job.targets().len())
        && is(succeeded_pod_count, count(Progress::Succeeded))
        && is(failed_pod_count, count(Progress::Failed))
}
