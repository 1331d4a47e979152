//! What is promised of OperationJobs, each once, checked at the write that could break it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operon_api::{
    OperationJob,
    operation_job::{OperationJobStatus, Progress, TargetDetail},
};
use operon_core::operation_job::RELEASED;
use serde_json::Value;

/// The annotation by which an effect of the scripted action names its job, and the prefix of its marks.
pub(super) const BY: &str = "test/by";
pub(super) const MARK: &str = "test/mark-";

/// What was written, and the promises that were broken.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) broken: Vec<String>,
    /// When this process last got the answer that a status was written, by the job's uid.
    statuses: BTreeMap<String, Timestamp>,
    /// The jobs, by name, and the pods, by uid, that their targets started with.
    started: BTreeSet<(String, String)>,
    /// The progress that jobs finished with, by uid: what an Event may say.
    finished: BTreeMap<String, Progress>,
}

impl Writes {
    pub(super) fn process_begins(&mut self) {
        self.statuses.clear();
    }

    fn promise(&mut self, holds: bool, what: &str, about: &dyn std::fmt::Debug) {
        if !holds {
            self.broken.push(format!("{what}: {about:?}"));
        }
    }

    /// An effect reaches a pod: the status has recorded it as the one that a target of the job started
    /// with. Where nobody got the answer, a target may be released again, even if its job is gone by now;
    /// but none is operated that succeeded, was released, or whose job is gone.
    pub(super) fn effect(
        &mut self,
        by: &str,
        job: Option<&OperationJob>,
        pod: &Value,
        body: &Value,
    ) {
        let labels = body["metadata"]["labels"].as_object();
        let is_release = labels.is_some_and(|labels| labels.values().all(Value::is_null));
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let is_live = |detail: &TargetDetail| {
            detail.pod_uid.as_deref() == Some(uid)
                && matches!(detail.progress, Progress::Processing | Progress::Failed)
                && !is_released(detail)
        };
        let is_recorded = self.started.contains(&(by.to_owned(), uid.to_owned()));
        let is_live = job.map(details).unwrap_or_default().iter().any(is_live);
        self.promise(
            is_recorded && (is_release || is_live),
            "only the pod that a target started with is operated, after it is recorded",
            &(body, pod, job),
        );
    }

    pub(super) fn status(
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
        if let Some(progress) = progress(new).filter(|progress| progress.is_finished()) {
            self.finished.insert(uid, progress);
        }
    }

    /// The finalizer is taken off a deleted job: all that started has succeeded, been released, or is
    /// reported as given up; and what was released has nothing of the job left.
    pub(super) fn let_go(&mut self, job: &OperationJob, pods: &[Value]) {
        let mark = format!("{MARK}{}", job.name_any());
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
            let is_marked = pod.is_some_and(|pod| pod["metadata"]["labels"][&mark].is_string());
            self.promise(
                !is_released(detail) || !is_marked,
                "what is released has nothing of the job left",
                &(detail, pod),
            );
        }
    }

    /// The host deletes a job.
    pub(super) fn expire(&mut self, job: &OperationJob, now: Timestamp) {
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

    /// An Event says what a status said before.
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

/// The job by which a write to a pod was asked for.
pub(super) fn operating(body: &Value) -> Option<String> {
    let by = body["metadata"]["annotations"][BY].as_str();
    let number = &body["deleteOptions"]["gracePeriodSeconds"];
    by.map(str::to_owned)
        .or_else(|| number.as_u64().map(|number| format!("job-{number}")))
}

fn details(job: &OperationJob) -> Vec<TargetDetail> {
    let status = job.status.clone().unwrap_or_default();
    status.target_details
}

pub(super) fn progress(job: &OperationJob) -> Option<Progress> {
    job.status.as_ref().and_then(|status| status.progress)
}

fn is_released(detail: &TargetDetail) -> bool {
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
    is(total_pod_count, job.spec.targets.len())
        && is(succeeded_pod_count, count(Progress::Succeeded))
        && is(failed_pod_count, count(Progress::Failed))
}
