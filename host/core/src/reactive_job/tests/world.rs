//! A cluster that tests observe: a ReactiveJob, its Jobs and their pods, ConfigMaps and a clock.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use operon_api::{
    ReactiveJob,
    conditions::find,
    embedded::JobTemplateSpec,
    keys,
    reactive_job::{ReactiveJobSpec, ReactiveJobStatus},
};
use serde_json::{Value, json};

pub(super) use crate::driver::memory::{START, complete, time};
use crate::{
    action::Failure,
    driver::{
        Kind as _,
        memory::{Cluster, Reconciles},
    },
    reactive_job::{
        ConfigState, Driven, Hashes, Seen,
        plan::{JobPlan, NextJob, Plan},
    },
};

/// No change takes more passes.
const PASSES: usize = 12;

#[derive(Clone)]
pub(super) struct World {
    pub(super) object: ReactiveJob,
    pub(super) config: ConfigState,
    /// The uids of the other ReactiveJobs that there are.
    pub(super) others: Vec<String>,
    /// The API server's answer to the creation of a Job.
    pub(super) refusal: Option<Failure>,
    /// Its Jobs, their pods and the clock.
    cluster: Cluster<ReactiveJobStatus>,
}

impl Deref for World {
    type Target = Cluster<ReactiveJobStatus>;

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
    type Object = ReactiveJob;

    fn object(&mut self) -> &mut ReactiveJob {
        &mut self.object
    }

    fn cluster(&mut self) -> &mut Cluster<ReactiveJobStatus> {
        &mut self.cluster
    }

    fn view(&self) -> &Cluster<ReactiveJobStatus> {
        &self.cluster
    }

    fn look(&self) -> Seen {
        let name = self.object.name_any();
        let (mut jobs, mut pods) = self.caches();
        jobs.retain(|job| {
            let uid = job.labels().get(keys::CONTROLLER_UID);
            job.labels().get(keys::CONTROLLER_NAME) == Some(&name)
                && uid.is_some_and(|uid| !self.others.contains(uid))
        });
        let status = self.object.status.as_ref();
        let last = status.and_then(|s| Some(s.current_inputs.as_ref()?.job_uid.clone()));
        let uids: Vec<_> = jobs
            .iter()
            .filter_map(|job| job.uid())
            .chain(last)
            .collect();
        pods.retain(|uid, _| uids.contains(uid));
        Seen {
            object: Arc::new(self.object.clone()),
            jobs,
            pods,
            template: Hashes::of(&self.object),
            config: self.config.clone(),
            now: time(self.now).0,
        }
    }

    fn status_of(object: &mut ReactiveJob) -> &mut Option<ReactiveJobStatus> {
        &mut object.status
    }

    fn refusal(&self, _body: &Value) -> Option<Failure> {
        self.refusal.clone()
    }
}

impl World {
    /// An object before its first reconcile, with the README's template.
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
            config: ConfigState::default(),
            others: Vec::new(),
            refusal: None,
            cluster: Cluster::default(),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        Driven::plan(&self.look())
    }

    /// What this pass does to an object that is not being deleted.
    pub(super) fn run(&self) -> JobPlan {
        match self.plan() {
            Plan::Run(run) => *run,
            Plan::End(_) => unreachable!("the object is being deleted"),
        }
    }

    /// The Job that this reconcile creates.
    pub(super) fn start(&self) -> NextJob {
        self.run().start.expect("a Job is due")
    }

    /// Passes until one changes nothing.
    pub(super) fn settle(&mut self) -> &ReactiveJobStatus {
        self.settle_within(PASSES);
        self.status()
    }

    /// As [`World::settle`], of an object that may go before it has a status.
    pub(super) fn settle_any(&mut self) {
        self.settle_within(PASSES);
    }

    /// An object with a first Job that has succeeded.
    pub(super) fn ready() -> Self {
        let mut world = Self::new();
        world.settle();
        world.succeed(&world.newest());
        world.settle();
        world
    }

    /// An object with a first Job that has failed.
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
        self.collect_object();
    }

    /// A Job is deleted, and its finalizers are taken off.
    pub(super) fn force_away(&mut self, name: &str) {
        self.jobs.remove(name);
    }

    // What the cluster does.

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

    /// The pods of a Job terminate, and whatever waits for that continues.
    pub(super) fn remove_pods(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.collect_garbage();
    }

    /// Advances the time, and deletes the Jobs with an expired `ttlSecondsAfterFinished`.
    pub(super) fn wait(&mut self, seconds: i64) {
        for name in self.expire_after(seconds) {
            self.delete_job(&name, true);
        }
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
