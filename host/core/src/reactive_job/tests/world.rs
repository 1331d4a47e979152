//! A cluster that tests observe: a ReactiveJob, its Jobs and their pods, ConfigMaps and a clock.

mod controller;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use operon_api::{
    ReactiveJob,
    conditions::find,
    embedded::JobTemplateSpec,
    reactive_job::{ReactiveJobSpec, ReactiveJobStatus},
};
use serde_json::{Value, json};

use crate::{
    action::Failure,
    jobs::{self, JobEvent},
    reactive_job::{ConfigState, conclude::Question},
};

/// The second at which every world begins.
pub(super) const START: i64 = 1_700_000_000;

/// No change takes more passes.
const PASSES: usize = 12;

const FOREGROUND: &str = "foregroundDeletion";

#[derive(Clone)]
pub(super) struct World {
    pub(super) object: ReactiveJob,
    /// By name.
    pub(super) jobs: BTreeMap<String, Job>,
    /// By the uid of their Job.
    pub(super) pods: BTreeMap<String, Vec<Pod>>,
    pub(super) config: ConfigState,
    pub(super) now: i64,
    /// The uids of the other ReactiveJobs that there are.
    pub(super) others: Vec<String>,
    /// What the API server says to a Job that is made.
    pub(super) refusal: Option<Failure>,
    /// What the log, and the last warning Event, are when they are asked for.
    pub(super) log: Option<String>,
    pub(super) warning: Option<Failure>,
    pub(super) asked: Vec<Question>,
    pub(super) events: Vec<JobEvent>,
    /// How many Jobs were made, how many writes there were, and how many of them wrote the status.
    pub(super) made: usize,
    pub(super) writes: usize,
    pub(super) status_writes: usize,
    /// After how many more writes the process dies.
    pub(super) dies_after: Option<usize>,
    /// Whether caches give their objects in the other order.
    pub(super) reversed: bool,
    /// Whether nothing of ours holds the object any more, while it is deleted.
    pub(super) is_gone: bool,
}

impl World {
    /// An object that nobody has looked at yet, of the README's template.
    pub(super) fn new() -> Self {
        Self::named("test")
    }

    pub(super) fn named(name: &str) -> Self {
        let mut object = ReactiveJob::new(name, ReactiveJobSpec::default());
        object.metadata.namespace = Some("default".to_owned());
        object.metadata.uid = Some("object".to_owned());
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = Some(time(START));
        object.spec.job_template = template(readme_template());
        Self {
            object,
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            config: ConfigState::Off,
            now: START,
            others: Vec::new(),
            refusal: None,
            log: None,
            warning: None,
            asked: Vec::new(),
            events: Vec::new(),
            made: 0,
            writes: 0,
            status_writes: 0,
            dies_after: None,
            reversed: false,
            is_gone: false,
        }
    }

    /// One whose first Job has succeeded.
    pub(super) fn ready() -> Self {
        let mut world = Self::new();
        world.settle();
        world.succeed(&world.newest());
        world.settle();
        world
    }

    /// One whose first Job has failed.
    pub(super) fn failed() -> Self {
        let mut world = Self::new();
        world.settle();
        world.fail(&world.newest());
        world.settle();
        world
    }

    // What a user does.

    /// Edits `spec.jobTemplate`.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut value = json!(self.object.spec.job_template);
        edit(&mut value);
        self.object.spec.job_template = template(value);
        self.bump();
    }

    /// Edits the annotation that the README's users edit.
    pub(super) fn edit_digest(&mut self, digest: &str) {
        self.edit(|template| template["metadata"]["annotations"]["digest"] = json!(digest));
    }

    /// Edits `spec`.
    pub(super) fn edit_spec(&mut self, edit: impl FnOnce(&mut ReactiveJobSpec)) {
        edit(&mut self.object.spec);
        self.bump();
    }

    fn bump(&mut self) {
        let generation = self.object.metadata.generation.unwrap_or_default();
        self.object.metadata.generation = Some(generation + 1);
    }

    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.object.annotations_mut();
        annotations.insert(key.to_owned(), value.to_owned());
    }

    /// `kubectl delete` of the object.
    pub(super) fn delete(&mut self) {
        self.object.metadata.deletion_timestamp = Some(time(self.now));
    }

    /// `kubectl delete job`, in the background unless `foreground`.
    pub(super) fn delete_job(&mut self, name: &str, foreground: bool) {
        let at = time(self.now);
        if let Some(job) = self.jobs.get_mut(name) {
            job.metadata.deletion_timestamp.get_or_insert(at);
            if foreground && !job.finalizers().iter().any(|f| f == FOREGROUND) {
                job.finalizers_mut().push(FOREGROUND.to_owned());
            }
        }
        self.collect_garbage();
    }

    /// A Job is deleted, and its finalizers are taken off.
    pub(super) fn force_away(&mut self, name: &str) {
        self.jobs.remove(name);
    }

    // What the cluster does.

    pub(super) fn job_mut(&mut self, name: &str) -> &mut Job {
        self.jobs.get_mut(name).expect("a Job of this name")
    }

    pub(super) fn job(&self, name: &str) -> &Job {
        self.jobs.get(name).expect("a Job of this name")
    }

    pub(super) fn succeed(&mut self, name: &str) {
        self.end_job(
            name,
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        );
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.end_job(
            name,
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }

    pub(super) fn end_job(&mut self, name: &str, type_: &str, reason: &str, message: &str) {
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

    /// A pod of a Job, from what its status is.
    pub(super) fn add_pod(&mut self, job: &str, pod: &str, status: Value) {
        let job = self.job(job);
        let uid = job.uid().expect("a uid");
        let mut pod = json!({
            "metadata": {
                "name": pod,
                "uid": format!("uid-{pod}"),
                "namespace": "default",
                "creationTimestamp": time(self.now),
                "ownerReferences": [job.controller_owner_ref(&())],
            },
        });
        pod["status"] = status;
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods.entry(uid).or_default().push(pod);
    }

    /// The pods of a Job end, and what waits for that goes on.
    pub(super) fn remove_pods(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.collect_garbage();
    }

    /// Time goes by, and Jobs are deleted whose `ttlSecondsAfterFinished` is over.
    pub(super) fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        let is_expired = |job: &&Job| {
            let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
            let end = jobs::finish(job).and_then(|finish| finish.time);
            ttl.zip(end)
                .is_some_and(|(ttl, end)| end.0.as_second() + i64::from(ttl) <= now)
        };
        let expired: Vec<_> = self
            .jobs
            .values()
            .filter(is_expired)
            .map(ResourceExt::name_any)
            .collect();
        for name in expired {
            self.delete_job(&name, true);
        }
    }

    /// Jobs that are deleted go when nothing holds them, in the foreground after their pods.
    fn collect_garbage(&mut self) {
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

    // What tests read.

    pub(super) fn status(&self) -> &ReactiveJobStatus {
        self.object.status.as_ref().expect("a status")
    }

    /// The name of the Job that the status names.
    pub(super) fn newest(&self) -> String {
        let status = self.status();
        status.current_job_name.clone().expect("a Job")
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.jobs.keys().map(String::as_str).collect()
    }

    /// What kstatus and people read: type, status, reason.
    pub(super) fn standing(&self) -> Vec<(&str, &str, &str)> {
        self.status()
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    pub(super) fn condition(&self, type_: &str) -> &Condition {
        find(&self.status().conditions, type_).expect("a condition of this type")
    }

    /// The reasons of the Events so far, which are forgotten.
    pub(super) fn events(&mut self) -> Vec<&'static str> {
        self.events.drain(..).map(|event| event.reason).collect()
    }
}

/// What an API server puts into the spec of a new Job.
pub(super) fn complete(job: &mut Job) {
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let spec = job.spec.get_or_insert_default();
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit.get_or_insert(6);
    spec.suspend.get_or_insert(false);
    let labels = spec.template.metadata.get_or_insert_default();
    let labels = labels.labels.get_or_insert_default();
    labels.insert("batch.kubernetes.io/controller-uid".to_owned(), uid);
    labels.insert("job-name".to_owned(), name);
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch) {
        (Some(target), Value::Object(fields)) => {
            for (key, value) in fields {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, patch) => *target = patch.clone(),
    }
}

pub(super) fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}

pub(super) fn template(value: Value) -> JobTemplateSpec {
    serde_json::from_value(value).expect("a template is an object")
}

/// The template of SAP's README.
pub(super) fn readme_template() -> Value {
    json!({
        "metadata": {"annotations": {"digest": "abc123"}},
        "spec": {
            "ttlSecondsAfterFinished": 120,
            "template": {"spec": {
                "containers": [{"name": "main", "image": "alpine", "command": ["sleep", "10"]}],
                "restartPolicy": "Never",
            }},
        },
    })
}

/// A pod that runs.
pub(super) fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [
        {"name": "main", "state": {"running": {}}},
    ]})
}
