//! A cluster that tests observe: a JobFlow, its Jobs and their pods, JobTemplates and a clock.

use std::{collections::BTreeMap, rc::Rc};

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
    JobFlow, JobTemplate,
    conditions::find,
    job_flow::{JobFlowSpec, JobFlowStatus, Phase, StepStatus},
    keys,
};
use serde_json::{Value, json};

use crate::{
    action::Failure,
    driver::Event,
    jobs::{self},
};

/// The second at which every world begins.
pub(super) const START: i64 = 1_700_000_000;

pub(super) const FOREGROUND: &str = "foregroundDeletion";

type Happening = Rc<dyn Fn(&mut World)>;

#[derive(Clone)]
pub(super) struct World {
    pub(super) flow: JobFlow,
    /// By name.
    pub(super) jobs: BTreeMap<String, Job>,
    /// By the uid of their Job.
    pub(super) pods: BTreeMap<String, Vec<Pod>>,
    /// By name.
    pub(super) templates: BTreeMap<String, JobTemplate>,
    pub(super) now: i64,
    /// What the API server says to a Job of a step that is made.
    pub(super) refusals: BTreeMap<String, Failure>,
    pub(super) events: Vec<Event>,
    /// How many Jobs were made, how many writes there were, and how many of them wrote the status.
    pub(super) made: usize,
    pub(super) writes: usize,
    pub(super) status_writes: usize,
    /// After how many more writes the process dies, and how often it did.
    pub(super) dies_after: Option<usize>,
    pub(super) deaths: usize,
    /// How long the writes of a pass take, in seconds.
    pub(super) takes: i64,
    /// What happens in the next pass while its status is being written, which takes long.
    pub(super) meanwhile: Option<Happening>,
    /// Whether caches give their objects in the other order.
    pub(super) reversed: bool,
    /// Whether the flow was deleted because its time was over.
    pub(super) is_gone: bool,
}

impl World {
    /// A flow `flow` of these steps, that nobody has looked at yet.
    pub(super) fn of(steps: Value) -> Self {
        Self::with(json!({"flows": steps}))
    }

    /// A flow `flow` of this spec.
    pub(super) fn with(spec: Value) -> Self {
        Self::named("flow", spec)
    }

    pub(super) fn named(name: &str, spec: Value) -> Self {
        let spec: JobFlowSpec = serde_json::from_value(spec).expect("a spec");
        let mut flow = JobFlow::new(name, spec);
        flow.metadata.namespace = Some("default".to_owned());
        flow.metadata.uid = Some(format!("uid-of-{name}"));
        flow.metadata.generation = Some(1);
        flow.metadata.creation_timestamp = Some(time(START));
        Self {
            flow,
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            templates: BTreeMap::new(),
            now: START,
            refusals: BTreeMap::new(),
            events: Vec::new(),
            made: 0,
            writes: 0,
            status_writes: 0,
            dies_after: None,
            deaths: 0,
            takes: 0,
            meanwhile: None,
            reversed: false,
            is_gone: false,
        }
    }

    // What a user does.

    /// Edits `spec`.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut value = json!(self.flow.spec);
        edit(&mut value);
        self.flow.spec = serde_json::from_value(value).expect("a spec");
        let generation = self.flow.metadata.generation.unwrap_or_default();
        self.flow.metadata.generation = Some(generation + 1);
    }

    /// Asks for a retry.
    pub(super) fn retry(&mut self, value: &str) {
        let annotations = self.flow.annotations_mut();
        annotations.insert(keys::RETRY.to_owned(), value.to_owned());
    }

    /// Deletes the flow, which somebody's finalizer holds.
    pub(super) fn delete(&mut self) {
        self.flow.metadata.deletion_timestamp = Some(time(self.now));
    }

    /// Deletes a Job, whose pods end at once unless it is held.
    pub(super) fn delete_job(&mut self, name: &str) {
        let at = time(self.now);
        let job = self.job_mut(name);
        job.metadata.deletion_timestamp.get_or_insert(at);
        self.collect_garbage();
    }

    pub(super) fn add_template(&mut self, name: &str, spec: Value) {
        let spec = serde_json::from_value(json!({"jobTemplate": spec})).expect("a template");
        let template = JobTemplate::new(name, spec);
        self.templates.insert(name.to_owned(), template);
    }

    // What the cluster does.

    pub(super) fn job_mut(&mut self, name: &str) -> &mut Job {
        self.jobs.get_mut(name).expect("a Job of this name")
    }

    pub(super) fn job(&self, name: &str) -> &Job {
        self.jobs.get(name).expect("a Job of this name")
    }

    pub(super) fn succeed(&mut self, name: &str) {
        self.end_job(name, "Complete", "CompletionsReached", "all pods succeeded");
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.end_job(
            name,
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }

    fn end_job(&mut self, name: &str, type_: &str, reason: &str, message: &str) {
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

    /// Changes a Job's status.
    pub(super) fn set_status(&mut self, name: &str, status: Value) {
        self.job_mut(name).status = Some(serde_json::from_value(status).expect("a status"));
    }

    /// A pod of a Job, from what its status is.
    pub(super) fn add_pod(&mut self, job: &str, pod: &str, status: Value) {
        let job = self.job(job);
        let uid = job.uid().expect("a uid");
        let pod = json!({
            "metadata": {
                "name": pod,
                "uid": format!("uid-{pod}"),
                "namespace": "default",
                "creationTimestamp": time(self.now),
                "ownerReferences": [job.controller_owner_ref(&())],
            },
            "spec": {"containers": [{"name": "main"}, {"name": "side"}]},
            "status": status,
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods.entry(uid).or_default().push(pod);
    }

    /// A pod of a Job succeeds, with this termination message.
    pub(super) fn say(&mut self, job: &str, message: &str) {
        let pod = format!("{job}-pod");
        self.add_pod(job, &pod, ended(self.now, "Succeeded", 0, message));
    }

    /// The pods of a Job end, and what waits for that goes on.
    pub(super) fn remove_pods(&mut self, job: &str) {
        let uid = self.job(job).uid().unwrap_or_default();
        self.pods.remove(&uid);
        self.collect_garbage();
    }

    /// Time goes by, and Jobs are deleted whose `ttlSecondsAfterFinished` is over, with their pods.
    pub(super) fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        let is_expired = |job: &Job| {
            let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
            let end = jobs::finish(job).and_then(|finish| finish.time);
            ttl.zip(end)
                .is_some_and(|(ttl, end)| end.0.as_second() + i64::from(ttl) <= now)
        };
        let pods = &mut self.pods;
        self.jobs.retain(|_, job| {
            let expired = is_expired(job);
            if expired {
                pods.remove(&job.uid().unwrap_or_default());
            }
            !expired
        });
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

    pub(super) fn status(&self) -> &JobFlowStatus {
        self.flow.status.as_ref().expect("a status")
    }

    pub(super) fn step(&self, name: &str) -> &StepStatus {
        let steps = &self.status().steps;
        steps.iter().find(|step| step.name == name).expect("a step")
    }

    pub(super) fn phase(&self, name: &str) -> Phase {
        self.step(name).phase
    }

    pub(super) fn reason(&self, name: &str) -> &str {
        self.step(name).reason.as_deref().unwrap_or_default()
    }

    pub(super) fn message(&self, name: &str) -> &str {
        self.step(name).message.as_deref().unwrap_or_default()
    }

    /// Every step with its phase: `a Succeeded, b Running`.
    pub(super) fn phases(&self) -> String {
        let steps = self.status().steps.iter();
        let steps: Vec<_> = steps
            .map(|step| format!("{} {}", step.name, step.phase.as_str()))
            .collect();
        steps.join(", ")
    }

    pub(super) fn state(&self) -> &'static str {
        self.status().state.expect("a state").as_str()
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.jobs.keys().map(String::as_str).collect()
    }

    /// What kstatus and people read: type, status, reason.
    pub(super) fn standing(&self) -> Vec<(&str, &str, &str)> {
        let conditions = self.status().conditions.iter();
        conditions
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    pub(super) fn condition(&self, type_: &str) -> &Condition {
        find(&self.status().conditions, type_).expect("a condition of this type")
    }

    /// What `Ready` says.
    pub(super) fn ready(&self) -> &str {
        &self.condition("Ready").message
    }

    /// The reasons of the Events so far, which are forgotten.
    pub(super) fn events(&mut self) -> Vec<&'static str> {
        self.events.drain(..).map(|event| event.reason).collect()
    }
}

/// A JSON merge patch.
pub(super) fn merge(target: &mut Value, patch: &Value) {
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

/// A step with a template.
pub(super) fn step(name: &str, dependencies: &[&str]) -> Value {
    json!({"name": name, "dependencies": dependencies, "jobTemplate": template()})
}

/// A step with more to it.
pub(super) fn step_with(name: &str, dependencies: &[&str], more: Value) -> Value {
    let mut step = step(name, dependencies);
    merge(&mut step, &more);
    step
}

/// The spec of a Job.
pub(super) fn template() -> Value {
    json!({"template": {"spec": {"containers": [{"name": "main", "image": "busybox:1.28"}]}}})
}

/// The status of a pod that ended.
pub(super) fn ended(now: i64, phase: &str, code: i32, message: &str) -> Value {
    json!({"phase": phase, "containerStatuses": [{
        "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {
            "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
            "message": message, "finishedAt": time(now),
        }},
    }]})
}

/// The status of a pod that runs.
pub(super) fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [{
        "name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}},
    }]})
}
