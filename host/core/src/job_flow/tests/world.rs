//! A cluster that tests observe: a JobFlow, its Jobs and their pods, JobTemplates and a clock.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use operon_api::{
    JobFlow, JobTemplate,
    conditions::{COMPLETE, FAILED, find},
    job_flow::{JobFlowSpec, JobFlowStatus, Phase, StepStatus},
    keys,
};
use serde_json::{Value, json};

pub(super) use crate::driver::memory::{START, merge, time};
use crate::{
    action::Failure,
    driver::{
        Kind as _, Start,
        memory::{Cluster, Reconciles},
    },
    job_flow::{Around, Driven, Seen, plan::Plan},
};

type Happening = Arc<dyn Fn(&mut World) + Send + Sync>;

#[derive(Clone)]
pub(super) struct World {
    pub(super) flow: JobFlow,
    /// By name.
    pub(super) templates: BTreeMap<String, JobTemplate>,
    /// The API server's answer to the creation of a step's Job.
    pub(super) refusals: BTreeMap<String, Failure>,
    /// How long the writes of a reconcile take, in seconds.
    pub(super) takes: i64,
    /// What happens in the next reconcile while its status is being written, which takes long.
    pub(super) meanwhile: Option<Happening>,
    /// Its Jobs, their pods and the clock.
    cluster: Cluster<JobFlowStatus>,
}

impl Deref for World {
    type Target = Cluster<JobFlowStatus>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cluster
    }
}

impl Reconciles for World {
    type Kind = Driven;
    type Object = JobFlow;

    fn object(&mut self) -> &mut JobFlow {
        &mut self.flow
    }

    fn cluster(&mut self) -> &mut Cluster<JobFlowStatus> {
        &mut self.cluster
    }

    fn view(&self) -> &Cluster<JobFlowStatus> {
        &self.cluster
    }

    fn look(&self) -> Seen {
        let (mut jobs, pods) = self.caches();
        jobs.retain(|job| job.labels().get(keys::OWNER_UID) == self.flow.metadata.uid.as_ref());
        let templates = self.templates.iter();
        let around = Around {
            jobs,
            templates: templates
                .map(|(name, template)| (name.clone(), Arc::new(template.clone())))
                .collect(),
            pods,
            now: time(self.now).0,
        };
        Seen::new(Arc::new(self.flow.clone()), around)
    }

    fn status_of(flow: &mut JobFlow) -> &mut Option<JobFlowStatus> {
        &mut flow.status
    }

    fn refusal(&self, body: &Value) -> Option<Failure> {
        let step = body["metadata"]["labels"][keys::STEP].as_str()?;
        self.refusals.get(step).cloned()
    }

    fn between(&mut self) {
        self.now += self.takes;
    }

    fn meanwhile(&mut self) -> bool {
        let happens = self.meanwhile.take();
        if let Some(happens) = &happens {
            happens(self);
        }
        happens.is_some()
    }

    fn is_disturbed(&self) -> bool {
        self.meanwhile.is_some()
    }
}

impl World {
    /// A flow `flow` of these steps, before its first reconcile.
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
            templates: BTreeMap::new(),
            refusals: BTreeMap::new(),
            takes: 0,
            meanwhile: None,
            cluster: Cluster::with_uids(format!("job-{name}")),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        Driven::plan(&self.look())
    }

    /// The Jobs that this reconcile creates, by their steps.
    pub(super) fn starts(&self) -> Vec<String> {
        self.plan()
            .start
            .into_iter()
            .map(|start| start.subject)
            .collect()
    }

    /// The Job that this reconcile creates for a step.
    pub(super) fn start(&self, step: &str) -> Start {
        let starts = self.plan().start;
        let start = starts.into_iter().find(|start| start.subject == step);
        start.expect("a Job of this step is due")
    }

    /// Reconciles until nothing changes any more.
    pub(super) fn settle(&mut self) -> &JobFlowStatus {
        self.settle_within(30);
        self.status()
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

    /// Requests a retry.
    pub(super) fn retry(&mut self, value: &str) {
        let annotations = self.flow.annotations_mut();
        annotations.insert(keys::RETRY.to_owned(), value.to_owned());
    }

    /// Deletes the flow, which the finalizer of another controller holds.
    pub(super) fn delete(&mut self) {
        self.flow.metadata.deletion_timestamp = Some(time(self.now));
    }

    pub(super) fn add_template(&mut self, name: &str, spec: Value) {
        let spec = serde_json::from_value(json!({"jobTemplate": spec})).expect("a template");
        let template = JobTemplate::new(name, spec);
        self.templates.insert(name.to_owned(), template);
    }

    // What the cluster does.

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

    /// The pods of a Job terminate, and whatever waits for that continues.
    pub(super) fn remove_pods(&mut self, job: &str) {
        let uid = self.job(job).uid().unwrap_or_default();
        self.pods.remove(&uid);
        self.collect_garbage();
    }

    /// Advances the time, and deletes the Jobs with an expired `ttlSecondsAfterFinished`, with their pods.
    pub(super) fn wait(&mut self, seconds: i64) {
        for name in self.expire_after(seconds) {
            let job = self.jobs.remove(&name);
            let uid = job.and_then(|job| job.metadata.uid).unwrap_or_default();
            self.pods.remove(&uid);
        }
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

    /// What kstatus and people read: type, status, reason.
    pub(super) fn standing(&self) -> Vec<(&str, &str, &str)> {
        let conditions = self.status().conditions.iter();
        conditions
            .filter(|c| ![COMPLETE, FAILED].contains(&&*c.type_))
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    /// The conditions that say how it has finished, and their reasons.
    pub(super) fn end(&self) -> Vec<(&str, &str)> {
        let conditions = self.status().conditions.iter();
        let ends = conditions.filter(|c| [COMPLETE, FAILED].contains(&&*c.type_));
        ends.map(|c| (c.type_.as_str(), c.reason.as_str()))
            .collect()
    }

    pub(super) fn condition(&self, type_: &str) -> &Condition {
        find(&self.status().conditions, type_).expect("a condition of this type")
    }

    /// The message of `Ready`.
    pub(super) fn ready(&self) -> &str {
        &self.condition("Ready").message
    }
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
