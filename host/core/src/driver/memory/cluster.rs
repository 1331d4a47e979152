//! The Jobs of a world, their pods and the clock, with an API server that may fail.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    ResourceExt as _,
    core::{Status, response::StatusDetails},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Chance, FOREGROUND, START, late::Late};
use crate::{
    action::Failure,
    driver::{Conclusion, Event, Question, Refusal},
    jobs,
};

/// The objects that a kind owns, what watches them, and what may go wrong.
#[derive(Clone)]
pub(crate) struct Cluster<S> {
    /// By name.
    pub(crate) jobs: BTreeMap<String, Job>,
    /// By the uid of their Job.
    pub(crate) pods: BTreeMap<String, Vec<Pod>>,
    pub(crate) now: i64,
    pub(crate) events: Vec<Event>,
    /// How many Jobs were created, how often that was tried, how many writes there were, and how many of
    /// them wrote the status.
    pub(crate) made: usize,
    pub(crate) posts: usize,
    pub(crate) writes: usize,
    pub(crate) status_writes: usize,
    /// After how many more writes the process dies, and how often it did.
    pub(crate) dies_after: Option<usize>,
    pub(crate) deaths: usize,
    /// Whether caches give their objects in the other order.
    pub(crate) reversed: bool,
    /// Whether the object is not there any more, or nothing of ours holds it while it is deleted.
    pub(crate) is_gone: bool,
    /// The log and the last Warning that are returned on request; and the requests.
    pub(crate) log: Option<String>,
    pub(crate) warning: Option<Failure>,
    pub(crate) asked: Vec<Question>,
    /// The API server's answer to every write of the object itself.
    pub(crate) denied: Option<Failure>,
    /// The reasons of the Events that writes sent.
    pub(crate) sent_events: Vec<String>,
    /// What the uids of Jobs begin with.
    uid_prefix: String,
    /// How many requests failed, and how many were carried out without an answer.
    pub(crate) failures: usize,
    pub(crate) lost_answers: usize,
    /// How many statuses were refused, because the object had another one than they were decided from.
    pub(crate) conflicts: usize,
    pub(super) faults: Option<Chance>,
    pub(super) late: Option<Late>,
    /// How many statuses the object has had.
    pub(super) status_version: u64,
    /// What the cache of the object holds, while it lacks the last status.
    pub(super) behind: Option<Behind<S>>,
    pub(super) sent: Option<Sent<S>>,
    /// What a process that died had sent, and the API server has not carried out yet.
    pub(super) landing: Option<Sent<S>>,
    pub(super) status_failure: Option<Refusal>,
    pub(super) concluded: Option<Conclusion<S>>,
}

/// Jobs, and pods by the uid of their Job.
pub(crate) type Owned = (Vec<Arc<Job>>, HashMap<String, Vec<Arc<Pod>>>);

/// A status that is being written.
#[derive(Clone)]
pub(crate) struct Sent<S> {
    pub(super) status: Arc<S>,
    pub(super) events: Vec<Event>,
    /// The version of the status that it was decided from.
    pub(super) over: u64,
}

/// The object as a cache holds it that lacks its last status.
#[derive(Clone)]
pub(super) struct Behind<S> {
    pub(super) status: Option<S>,
    pub(super) version: u64,
    /// All else of it: once that changes the cache has the last status too.
    pub(super) rest: Value,
}

/// The process dies before a write.
pub(super) struct Died;

impl<S> Default for Cluster<S> {
    fn default() -> Self {
        Self {
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            now: START,
            events: Vec::new(),
            made: 0,
            posts: 0,
            writes: 0,
            status_writes: 0,
            dies_after: None,
            deaths: 0,
            reversed: false,
            is_gone: false,
            log: None,
            warning: None,
            asked: Vec::new(),
            denied: None,
            sent_events: Vec::new(),
            uid_prefix: "job".to_owned(),
            failures: 0,
            lost_answers: 0,
            conflicts: 0,
            faults: None,
            late: None,
            status_version: 0,
            behind: None,
            sent: None,
            landing: None,
            status_failure: None,
            concluded: None,
        }
    }
}

impl<S> Cluster<S> {
    /// A cluster whose Jobs have uids with this prefix.
    pub(crate) fn with_uids(uid_prefix: String) -> Self {
        Self {
            uid_prefix,
            ..Self::default()
        }
    }

    pub(crate) fn job(&self, name: &str) -> &Job {
        self.jobs.get(name).expect("a Job of this name")
    }

    pub(crate) fn job_mut(&mut self, name: &str) -> &mut Job {
        self.jobs.get_mut(name).expect("a Job of this name")
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.jobs.keys().map(String::as_str).collect()
    }

    /// The Jobs and their pods, by the uid of the Job, in the order of the caches.
    pub(crate) fn caches(&self) -> Owned {
        let mut jobs: Vec<Arc<Job>> = match &self.late {
            Some(late) => late.jobs().cloned().map(Arc::new).collect(),
            None => self.jobs.values().cloned().map(Arc::new).collect(),
        };
        let pods = self.pods.iter().map(|(uid, pods)| {
            let mut pods: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
            if self.reversed {
                pods.reverse();
            }
            (uid.clone(), pods)
        });
        let pods = pods.collect();
        if self.reversed {
            jobs.reverse();
        }
        (jobs, pods)
    }

    /// The cache of Jobs receives changes late from now on.
    pub(crate) fn lag(&mut self) {
        self.late.get_or_insert_with(|| Late::new(&self.jobs));
    }

    /// The cache of Jobs gets so many changes, and that of the object of its status if there is one.
    pub(crate) fn deliver(&mut self, changes: usize) {
        if changes > 0 {
            self.behind = None;
        }
        if let Some(late) = &mut self.late {
            late.record(&self.jobs);
            late.deliver(changes);
        }
    }

    /// The caches do not lag any more.
    pub(crate) fn catch_up(&mut self) {
        self.late = None;
        self.behind = None;
    }

    /// From now on some requests fail, or none does and none is under way.
    pub(crate) fn fail_by(&mut self, faults: Option<Chance>) {
        if faults.is_none() {
            self.landing = None;
        }
        self.faults = faults;
    }

    /// The process dies with this request under way, which may be carried out all the same, later.
    pub(super) fn leave(&mut self, sent: Option<Sent<S>>) {
        if self.faults.as_mut().is_some_and(|chance| chance.once_in(2)) {
            self.landing = sent;
        }
    }

    /// Why the API server does not carry out a request, if it fails.
    pub(super) fn fault(&mut self) -> Option<Refusal> {
        let chance = self.faults.as_mut()?;
        if !chance.once_in(5) {
            return None;
        }
        self.failures += 1;
        Some(match chance.of(5) {
            0 => refused(409, "Conflict", "the object has been modified"),
            1 => refused(429, "TooManyRequests", "try again later"),
            2 => refused(500, "InternalError", "failed calling webhook"),
            3 => refused(403, "Forbidden", "exceeded quota"),
            _ => refused(503, "ServiceUnavailable", "not now"),
        })
    }

    /// Whether the answer to a request that was carried out is lost.
    pub(super) fn loses_answer(&mut self) -> bool {
        let is_lost = self.faults.as_mut().is_some_and(|chance| chance.once_in(5));
        self.lost_answers += usize::from(is_lost);
        is_lost
    }

    /// The cache of Jobs receives the answer to a write of this process, if there is one.
    pub(super) fn answered(&mut self, name: &str, is_lost: bool) {
        if let Some(late) = &mut self.late {
            late.record(&self.jobs);
            if !is_lost {
                late.written(name);
            }
        }
    }

    /// The reasons of the Events so far, which are forgotten.
    pub(crate) fn events(&mut self) -> Vec<&'static str> {
        self.events.drain(..).map(|event| event.reason).collect()
    }

    /// A condition is added to a Job.
    pub(crate) fn end_job(&mut self, name: &str, type_: &str, reason: &str, message: &str) {
        let condition = JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(time(self.now)),
            ..JobCondition::default()
        };
        let status = self.job_mut(name).status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(condition);
    }

    /// `kubectl delete job`, in the background unless `foreground`.
    pub(crate) fn delete_job(&mut self, name: &str, foreground: bool) {
        let at = time(self.now);
        if let Some(job) = self.jobs.get_mut(name) {
            job.metadata.deletion_timestamp.get_or_insert(at);
            if foreground && !job.finalizers().iter().any(|f| f == FOREGROUND) {
                job.finalizers_mut().push(FOREGROUND.to_owned());
            }
        }
        self.collect_garbage();
    }

    /// Jobs that are deleted go when nothing holds them, in the foreground after their pods.
    pub(crate) fn collect_garbage(&mut self) {
        let pods = &self.pods;
        self.jobs.retain(|_, job| {
            if job.metadata.deletion_timestamp.is_none() {
                return true;
            }
            let uid = job.uid().unwrap_or_default();
            if pods.get(&uid).is_none_or(Vec::is_empty) {
                job.finalizers_mut().retain(|f| f != FOREGROUND);
            }
            !job.finalizers().is_empty()
        });
    }

    /// Advances the time. Returns the names of the Jobs with an expired `ttlSecondsAfterFinished`.
    pub(crate) fn expire_after(&mut self, seconds: i64) -> Vec<String> {
        self.now += seconds;
        let now = self.now;
        let is_expired = |job: &&Job| {
            let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
            let end = jobs::finish(job).and_then(|finish| finish.time);
            ttl.zip(end)
                .is_some_and(|(ttl, end)| end.0.as_second() + i64::from(ttl) <= now)
        };
        let expired = self.jobs.values().filter(is_expired);
        expired.map(Job::name_any).collect()
    }

    /// A write, unless the process dies of it; another process takes over then.
    pub(super) fn write(&mut self) -> Result<(), Died> {
        if let Some(left) = self.dies_after.take() {
            let Some(left) = left.checked_sub(1) else {
                self.deaths += 1;
                return Err(Died);
            };
            self.dies_after = Some(left);
        }
        self.writes += 1;
        Ok(())
    }

    pub(super) fn create(&mut self, body: &Value) -> Result<Result<Value, Refusal>, Died> {
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        if self.jobs.contains_key(name) {
            return Ok(Err(refused(409, "AlreadyExists", "exists")));
        }
        let Ok(mut job) = serde_json::from_value::<Job>(body.clone()) else {
            return Ok(Err(refused(400, "BadRequest", "it is no Job")));
        };
        let pod = job.spec.as_ref().and_then(|s| s.template.spec.as_ref());
        if pod.is_none_or(|pod| pod.containers.is_empty()) {
            return Ok(Err(refused(422, "Invalid", "no containers")));
        }
        self.write()?;
        self.made += 1;
        job.metadata.uid = Some(format!("{}-{}", self.uid_prefix, self.made));
        job.metadata.creation_timestamp = Some(time(self.now));
        complete(&mut job);
        self.jobs.insert(name.to_owned(), job.clone());
        Ok(Ok(json!(job)))
    }

    pub(super) fn patch_job(
        &mut self,
        name: &str,
        patch: &Value,
    ) -> Result<Result<Value, Refusal>, Died> {
        let Some(job) = self.jobs.get(name) else {
            return Ok(Err(refused(404, "NotFound", "not found")));
        };
        if let Some(refusal) = conflict(&json!(job), patch) {
            return Ok(Err(refusal));
        }
        self.write()?;
        let job = patched(self.job(name), patch);
        self.jobs.insert(name.to_owned(), job.clone());
        self.collect_garbage();
        Ok(Ok(json!(job)))
    }
}

/// What an API server puts into the spec of a new Job.
pub(crate) fn complete(job: &mut Job) {
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let spec = job.spec.get_or_insert_default();
    if spec.parallelism.is_none() {
        spec.completions.get_or_insert(1);
    }
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit.get_or_insert(6);
    spec.suspend.get_or_insert(false);
    let labels = spec.template.metadata.get_or_insert_default();
    let labels = labels.labels.get_or_insert_default();
    labels.insert("batch.kubernetes.io/controller-uid".to_owned(), uid);
    labels.insert("job-name".to_owned(), name);
}

/// The API server's answer to a patch of another version of an object.
fn conflict(object: &Value, patch: &Value) -> Option<Refusal> {
    let is_other = |key: &str| {
        let wanted = &patch["metadata"][key];
        !wanted.is_null() && object["metadata"][key] != *wanted
    };
    (is_other("uid") || is_other("resourceVersion")).then(|| refused(409, "Conflict", "modified"))
}

/// The API server's answer of this code. An invalid object names a field.
pub(crate) fn refused(code: u16, reason: &str, message: &str) -> Refusal {
    let mut status = Status::failure(message, reason).with_code(code);
    if code == 422 {
        let cause = json!({"field": "spec", "reason": "FieldValueInvalid", "message": message});
        let details = json!({"causes": [cause]});
        let details: StatusDetails = serde_json::from_value(details).expect("details");
        status = status.with_details(details);
    }
    Refusal::answered("failed to write", &status)
}

/// A refusal of this reason, in these words alone.
pub(super) fn denied(failure: &Failure) -> Refusal {
    let code = match failure.reason.as_str() {
        "Invalid" => 422,
        "InternalError" => 500,
        _ => 403,
    };
    Refusal {
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        ..refused(code, &failure.reason, &failure.message)
    }
}

/// An object with a JSON merge patch.
pub(crate) fn patched<K: Serialize + DeserializeOwned>(object: &K, patch: &Value) -> K {
    let mut value = json!(object);
    merge(&mut value, patch);
    serde_json::from_value(value).expect("an object of its kind")
}

/// A JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch) {
        (Some(target), Value::Object(fields)) => {
            for (key, value) in fields {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (None, Value::Object(_)) => {
            *target = json!({});
            merge(target, patch);
        }
        (_, patch) => *target = patch.clone(),
    }
}

pub(crate) fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}
