//! Building ReactiveJobs, and asking what became of them and of their Jobs.
//!
//! Jobs are held back in ways that work on real and simulated nodes alike: a scheduling gate keeps a pod
//! from running, and an annotation keeps a simulated one from ending.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::{batch::v1::Job as BatchJob, core::v1::Pod};
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use operon_api::{
    ReactiveJob, conditions, keys,
    reactive_job::{ReactiveJobStatus, Run, State},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    pods::PodExt as _,
    workload::{GATE, pod_spec},
    world::World,
};

/// What SAP's operator, since v0.1.37 and before, writes as the hash of the template of the seed's manifest.
pub const SEED_HASHES: [&str; 2] = [
    "b90fc1291c7a948b5eb74ea6ffc0e531e9de6f5b32c853f16a9a2d43cc98d794",
    "7a4e8d3e61655baaadccfb8261f96e35882da6bbda13ee98e5cb50c51446a6f0",
];

/// Where the parts of a Job are in a ReactiveJob.
const JOB: &str = "/spec/jobTemplate/spec";
const POD: &str = "/spec/jobTemplate/spec/template/spec";
const CONTAINER: &str = "/spec/jobTemplate/spec/template/spec/containers/0";

/// A ReactiveJob in the making.
#[derive(Clone, Debug)]
pub struct Reactive(Value);

impl Reactive {
    /// One whose Job has one pod, which succeeds immediately.
    pub fn of(name: &str) -> Self {
        let mut pod = pod_spec();
        pod["restartPolicy"] = json!("Never");
        pod["containers"][0]["command"] = json!(["true"]);
        Self(json!({
            "apiVersion": "batch.cs.sap.com/v1alpha1",
            "kind": "ReactiveJob",
            "metadata": {"name": name},
            "spec": {"jobTemplate": {
                "metadata": {"annotations": {"digest": "1"}},
                "spec": {"backoffLimit": 0, "template": {"spec": pod}}
            }}
        }))
    }

    /// The seed's manifest under another name. Its image is not on the nodes.
    pub fn seed(name: &str) -> Self {
        let manifest = include_str!("../../examples/reactivejob/reactivejob.yaml");
        let mut object: Value = serde_yaml_ng::from_str(manifest)
            .unwrap_or_else(|error| panic!("failed to read the seed's manifest: {error}"));
        object["metadata"]["name"] = json!(name);
        Self(object)
    }

    /// With this field of the spec.
    #[must_use]
    pub fn with(self, field: &str, value: Value) -> Self {
        self.set("/spec", field, value)
    }

    /// With this field of the Job's spec.
    #[must_use]
    pub fn job(self, field: &str, value: Value) -> Self {
        self.set(JOB, field, value)
    }

    /// With this field of the pod's spec.
    #[must_use]
    pub fn pod(self, field: &str, value: Value) -> Self {
        self.set(POD, field, value)
    }

    /// With this field of the container.
    #[must_use]
    pub fn container(self, field: &str, value: Value) -> Self {
        self.set(CONTAINER, field, value)
    }

    /// With this value of the annotation `digest` in the template.
    #[must_use]
    pub fn digest(self, digest: &str) -> Self {
        let value = json!(digest);
        self.set("/spec/jobTemplate/metadata/annotations", "digest", value)
    }

    /// Its container ends by this script, and fails.
    #[must_use]
    pub fn failing(self, script: &str) -> Self {
        self.container("command", json!(["sh", "-c", script]))
            .mark("labels", "operon.dev/devcluster-fail")
    }

    /// Its container runs until somebody ends it.
    #[must_use]
    pub fn endless(self) -> Self {
        self.container("command", json!(["sleep", "1000000"]))
            .mark("annotations", "operon.dev/devcluster-hold")
    }

    /// Marks the pod for simulated nodes.
    fn mark(mut self, kind: &str, key: &str) -> Self {
        let template = &mut self.0["spec"]["jobTemplate"]["spec"]["template"];
        template["metadata"][kind][key] = json!("true");
        self
    }

    /// Its pod does not run before [`World::let_run`].
    #[must_use]
    pub fn gated(self) -> Self {
        self.pod("schedulingGates", json!([{"name": GATE}]))
    }

    fn set(mut self, part: &str, field: &str, value: Value) -> Self {
        let part = self.0.pointer_mut(part).and_then(Value::as_object_mut);
        part.expect("the parts are there from the beginning")
            .insert(field.to_owned(), value);
        self
    }

    /// The object.
    pub fn manifest(&self) -> Value {
        self.0.clone()
    }

    /// Makes it, or makes the one of that name look like this.
    pub async fn apply(&self, world: &World) -> ReactiveJob {
        let name = self.0["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("operon-e2e").force();
        let applied = world
            .api::<ReactiveJob>()
            .patch(name, &params, &Patch::Apply(&self.0))
            .await;
        applied.unwrap_or_else(|error| panic!("failed to apply ReactiveJob {name}: {error}"))
    }

    /// A Job of this template, with the marks that SAP's operator puts on the Jobs of `object`.
    pub fn job_of_sap(&self, object: &ReactiveJob, generation: &str, hash: &str) -> Value {
        let name = object.name_any();
        json!({
            "metadata": {
                "generateName": format!("{name}-"),
                "labels": {keys::CONTROLLER_UID: object.uid(), keys::CONTROLLER_NAME: name},
                "annotations": {keys::CONTROLLER_GENERATION: generation, keys::CONTROLLER_HASH: hash},
                "finalizers": [keys::REACTIVE_JOB_FINALIZER],
            },
            "spec": self.job_spec(),
        })
    }

    /// The spec of its Jobs.
    pub fn job_spec(&self) -> Value {
        self.0.pointer(JOB).cloned().unwrap_or_default()
    }
}

/// A watch of all Jobs that are made in a world; it ends when this is dropped.
pub struct Made {
    seen: Arc<Mutex<BTreeMap<String, BatchJob>>>,
    watch: JoinHandle<()>,
}

impl Made {
    /// Watches from now on.
    pub fn watch(world: &World) -> Self {
        let seen = Arc::<Mutex<BTreeMap<String, BatchJob>>>::default();
        let (jobs, notes) = (world.api::<BatchJob>(), Arc::clone(&seen));
        let watch = tokio::spawn(async move {
            let mut events = watcher(jobs, watcher::Config::default())
                .applied_objects()
                .boxed();
            while let Some(event) = events.next().await {
                // A watch that fails begins again by itself.
                if let Ok(job) = event {
                    let mut seen = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.insert(job.uid().unwrap_or_default(), job);
                }
            }
        });
        Self { seen, watch }
    }

    /// The Jobs that there have been, the deleted ones among them.
    pub fn all(&self) -> Vec<BatchJob> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.values().cloned().collect()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// The object's status, empty if it has none yet.
pub fn status(object: &ReactiveJob) -> ReactiveJobStatus {
    object.status.clone().unwrap_or_default()
}

/// Whether the status is about the object as it is, and has this state.
pub fn is_at(object: &ReactiveJob, state: State) -> bool {
    let status = status(object);
    status.observed_generation == object.metadata.generation && status.state == Some(state)
}

/// What the object's condition of this type says, as `status reason: message`; empty if it has none.
pub fn said(object: &ReactiveJob, condition: &str) -> String {
    let conditions = status(object).conditions;
    conditions::find(&conditions, condition).map_or_else(String::new, |found| {
        format!("{} {}: {}", found.status, found.reason, found.message)
    })
}

/// The run at this place of the status: 0 is the newest.
pub fn run(object: &ReactiveJob, place: usize) -> Run {
    status(object).runs.get(place).cloned().unwrap_or_default()
}

/// The annotation `digest` of a Job.
pub fn digest(job: &BatchJob) -> &str {
    job.annotations().get("digest").map_or("", String::as_str)
}

/// The annotations `digest` of Jobs.
pub fn digests(jobs: &[BatchJob]) -> Vec<&str> {
    jobs.iter().map(digest).collect()
}

/// Whether Operon's finalizer is on a Job.
pub fn is_held(job: &BatchJob) -> bool {
    job.finalizers()
        .iter()
        .any(|finalizer| finalizer == keys::REACTIVE_JOB_FINALIZER)
}

/// `Complete` or `Failed`, if the Job is.
pub fn end(job: &BatchJob) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| {
        condition.status == "True" && matches!(condition.type_.as_str(), "Complete" | "Failed")
    });
    found.map(|condition| condition.type_.as_str())
}

impl World {
    /// The ReactiveJob of this name.
    pub async fn reactive(&self, name: &str) -> Result<ReactiveJob> {
        self.get(name).await
    }

    /// Waits for a ReactiveJob to look as it should.
    pub async fn reactive_until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&ReactiveJob) -> bool,
    ) -> ReactiveJob {
        self.eventually(&format!("ReactiveJob {name}: {what}"), async || {
            let object = self.reactive(name).await?;
            if !wanted(&object) {
                bail!("{}", serde_json::to_string(&object.status)?);
            }
            Ok(object)
        })
        .await
    }

    /// Waits until a ReactiveJob, as it is, has this state.
    pub async fn comes_to(&self, name: &str, state: State) -> ReactiveJob {
        self.reactive_until(name, state.as_str(), |object| is_at(object, state))
            .await
    }

    /// Puts another value into the annotation `digest` of the template.
    pub async fn edit(&self, name: &str, digest: &str) {
        let template = json!({"metadata": {"annotations": {"digest": digest}}});
        self.patch::<ReactiveJob>(name, json!({"spec": {"jobTemplate": template}}))
            .await;
    }

    /// The Jobs that have a ReactiveJob's name on them, the oldest first.
    pub async fn jobs_of(&self, name: &str) -> Result<Vec<BatchJob>> {
        let selector = ListParams::default().labels(&format!("{}={name}", keys::CONTROLLER_NAME));
        let listed = self.api::<BatchJob>().list(&selector).await;
        let mut jobs = listed.context("failed to list Jobs")?.items;
        let number =
            |job: &BatchJob| -> Option<u64> { job.annotations().get(keys::RUN)?.parse().ok() };
        jobs.sort_by_key(|job| (job.creation_timestamp(), number(job)));
        Ok(jobs)
    }

    /// Waits until a ReactiveJob has exactly so many Jobs.
    pub async fn jobs_are(&self, name: &str, count: usize) -> Vec<BatchJob> {
        self.eventually(
            &format!("ReactiveJob {name} has {count} Jobs"),
            async || {
                let jobs = self.jobs_of(name).await?;
                ensure!(jobs.len() == count, "{:?}", digests(&jobs));
                Ok(jobs)
            },
        )
        .await
    }

    /// Waits until the Jobs of a ReactiveJob are those of these digests.
    pub async fn jobs_have(&self, name: &str, wanted: &[&str]) -> Vec<BatchJob> {
        let what = format!("the Jobs of ReactiveJob {name} are {wanted:?}");
        self.eventually(&what, async || {
            let jobs = self.jobs_of(name).await?;
            ensure!(digests(&jobs) == wanted, "{:?}", digests(&jobs));
            Ok(jobs)
        })
        .await
    }

    /// Looks for a while whether a ReactiveJob goes on having these Jobs, and no other.
    pub async fn no_other_job(&self, name: &str, jobs: &[BatchJob]) {
        let wanted: Vec<_> = jobs.iter().map(kube::ResourceExt::uid).collect();
        self.for_a_while(&format!("no other Job of {name}"), async || {
            let jobs = self.jobs_of(name).await?;
            let found: Vec<_> = jobs.iter().map(kube::ResourceExt::uid).collect();
            ensure!(found == wanted, "{:?}", digests(&jobs));
            Ok(())
        })
        .await;
    }

    /// Looks for a while whether a ReactiveJob stays as it is.
    pub async fn nothing_is_written(&self, object: &ReactiveJob) {
        let name = object.name_any();
        self.for_a_while(&format!("nobody writes {name}"), async || {
            let now = self.reactive(&name).await?;
            ensure!(
                now.resource_version() == object.resource_version(),
                "{}",
                serde_json::to_string(&now.status)?
            );
            Ok(())
        })
        .await;
    }

    /// Waits for a pod of a Job.
    pub async fn pod_of(&self, job: &BatchJob) -> Pod {
        self.eventually(&format!("Job {} has a pod", job.name_any()), async || {
            let mut pods = self.all_pods().await?;
            pods.retain(|pod| {
                pod.controller().map(|owner| &owner.uid) == job.metadata.uid.as_ref()
            });
            pods.pop().context("none")
        })
        .await
    }

    /// Opens the gate of a gated Job's pod.
    pub async fn let_run(&self, job: &BatchJob) {
        let pod = self.pod_of(job).await;
        let patch = json!({"spec": {"schedulingGates": null}});
        self.patch::<Pod>(&pod.name_any(), patch).await;
    }

    /// Waits until a Job is Complete or Failed.
    pub async fn job_ends(&self, job: &BatchJob) -> BatchJob {
        let name = job.name_any();
        self.eventually(&format!("Job {name} ends"), async || {
            let job: BatchJob = self.get(&name).await?;
            ensure!(end(&job).is_some(), "{:?}", job.status);
            Ok(job)
        })
        .await
    }
}
