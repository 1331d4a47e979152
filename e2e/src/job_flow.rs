//! Building JobFlows, and asking what became of them, of their steps and of their Jobs.

mod build;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    batch::v1::Job as BatchJob,
    core::v1::{Node, Pod},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use operon_api::{
    JobFlow, conditions,
    job_flow::{FlowState, JobFlowStatus, StepStatus},
    keys,
};
use serde_json::{Map, json};

pub use self::build::{Flow, Step, job_spec, template};
use crate::{reactive_job::end, world::World};

/// The image of the seed's manifests, which the nodes have not, and one that they have.
pub const IMAGES: [&str; 2] = ["busybox:1.28", "localhost/busybox:1.35"];

/// The object's status, empty if it has none yet.
pub fn status(flow: &JobFlow) -> JobFlowStatus {
    flow.status.clone().unwrap_or_default()
}

/// Whether the status is about the object as it is, and has this state.
pub fn is_at(flow: &JobFlow, state: FlowState) -> bool {
    let status = status(flow);
    status.observed_generation == flow.metadata.generation && status.state == Some(state)
}

/// Whether nothing of it runs any more, as it is.
pub fn is_finished(flow: &JobFlow) -> bool {
    let status = status(flow);
    status.observed_generation == flow.metadata.generation && status.completion_time.is_some()
}

/// What the object's condition of this type says, as `status reason: message`; empty if it has none.
pub fn said(flow: &JobFlow, condition: &str) -> String {
    let conditions = status(flow).conditions;
    conditions::find(&conditions, condition).map_or_else(String::new, |found| {
        format!("{} {}: {}", found.status, found.reason, found.message)
    })
}

/// What is known of a step.
pub fn step(flow: &JobFlow, name: &str) -> StepStatus {
    let mut steps = status(flow).steps.into_iter();
    steps.find(|step| step.name == name).unwrap_or_default()
}

/// What is said of a step, as `phase reason: message`.
pub fn step_said(flow: &JobFlow, name: &str) -> String {
    let step = step(flow, name);
    format!(
        "{} {}: {}",
        step.phase.as_str(),
        step.reason.unwrap_or_default(),
        step.message.unwrap_or_default()
    )
}

/// Where all steps stand, as `a Succeeded, b Failed`.
pub fn phases(flow: &JobFlow) -> String {
    let steps = status(flow).steps;
    let steps: Vec<_> = steps
        .iter()
        .map(|step| format!("{} {}", step.name, step.phase.as_str()))
        .collect();
    steps.join(", ")
}

/// The attempt that a Job is of its step.
pub fn attempt(job: &BatchJob) -> &str {
    let attempt = job.annotations().get(keys::RUN_ATTEMPT);
    attempt.map_or("", String::as_str)
}

/// The value that the first container of a Job's pods gets under this name.
pub fn env(job: &BatchJob, name: &str) -> Option<String> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let env = pod.containers.first()?.env.iter().flatten();
    env.filter(|variable| variable.name == name)
        .find_map(|variable| variable.value.clone())
}

impl World {
    /// The JobFlow of this name.
    pub async fn flow(&self, name: &str) -> Result<JobFlow> {
        self.get(name).await
    }

    /// Waits for a JobFlow to look as it should.
    pub async fn flow_until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&JobFlow) -> bool,
    ) -> JobFlow {
        self.eventually(&format!("JobFlow {name}: {what}"), async || {
            let flow = self.flow(name).await?;
            if !wanted(&flow) {
                bail!("{}", serde_json::to_string(&flow.status)?);
            }
            Ok(flow)
        })
        .await
    }

    /// Waits until a JobFlow is finished, and asserts that it is so with this state.
    pub async fn flow_ends(&self, name: &str, state: FlowState) -> JobFlow {
        let flow = self.flow_until(name, "is finished", is_finished).await;
        let ended = status(&flow).state;
        assert_eq!(ended, Some(state), "{name}: {:?}", status(&flow));
        flow
    }

    /// Waits until the steps of a JobFlow stand so: `a Succeeded, b Running`.
    pub async fn flow_stands(&self, name: &str, wanted: &str) -> JobFlow {
        self.flow_until(name, wanted, |flow| phases(flow) == wanted)
            .await
    }

    /// Waits until a JobFlow says this first of a condition: `True InvalidFlow: `.
    pub async fn flow_says(&self, name: &str, condition: &str, wanted: &str) -> JobFlow {
        let what = format!("{condition} says {wanted:?}");
        self.flow_until(name, &what, |flow| {
            said(flow, condition).starts_with(wanted)
        })
        .await
    }

    /// The Jobs of a JobFlow that there are now, the oldest first.
    pub async fn jobs_of_flow(&self, name: &str) -> Result<Vec<BatchJob>> {
        let uid = self.flow(name).await?.uid().unwrap_or_default();
        let selector = ListParams::default().labels(&format!("{}={uid}", keys::OWNER_UID));
        let listed = self.api::<BatchJob>().list(&selector).await;
        let mut jobs = listed.context("failed to list Jobs")?.items;
        jobs.sort_by_key(|job| (job.creation_timestamp(), job.name_any()));
        Ok(jobs)
    }

    /// The names of the Jobs in the world, sorted.
    pub async fn job_names(&self) -> Result<Vec<String>> {
        let jobs = self.list::<BatchJob>().await?;
        let mut names: Vec<_> = jobs.iter().map(kube::ResourceExt::name_any).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until the Jobs in the world are those of these names, sorted.
    pub async fn jobs_are_named(&self, wanted: &[&str]) {
        self.eventually(&format!("the Jobs are {wanted:?}"), async || {
            let names = self.job_names().await?;
            ensure!(names == wanted, "{names:?}");
            Ok(())
        })
        .await;
    }

    /// Looks for a while whether the Jobs in the world go on being those of these names, sorted.
    pub async fn jobs_stay(&self, wanted: &[&str]) {
        self.for_a_while(&format!("the Jobs are {wanted:?}"), async || {
            let names = self.job_names().await?;
            ensure!(names == wanted, "{names:?}");
            Ok(())
        })
        .await;
    }

    /// Waits for a Job of this name.
    pub async fn job_appears(&self, name: &str) -> BatchJob {
        self.eventually(&format!("there is a Job {name}"), async || {
            self.get::<BatchJob>(name).await
        })
        .await
    }

    /// Opens the gate of the pod of the Job of this name.
    pub async fn let_job_run(&self, name: &str) {
        let job = self.job_appears(name).await;
        self.let_run(&job).await;
    }

    /// Looks for a while whether a JobFlow stays as it is.
    pub async fn flow_is_left_alone(&self, flow: &JobFlow) {
        let name = flow.name_any();
        self.for_a_while(&format!("nobody writes {name}"), async || {
            let now = self.flow(&name).await?;
            ensure!(
                now.resource_version() == flow.resource_version(),
                "{}",
                serde_json::to_string(&now.status)?
            );
            Ok(())
        })
        .await;
    }

    /// Asks for another try of what failed.
    pub async fn retry_flow(&self, name: &str, token: &str) {
        let mut annotations = Map::new();
        annotations.insert(keys::RETRY.to_owned(), json!(token));
        let patch = json!({"metadata": {"annotations": annotations}});
        self.patch::<JobFlow>(name, patch).await;
    }

    /// The name of a node that pods can run on.
    pub async fn a_node(&self) -> String {
        let nodes = Api::<Node>::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await;
        let nodes = nodes.unwrap_or_else(|error| panic!("failed to list nodes: {error}"));
        let is_free = |node: &&Node| {
            let spec = node.spec.as_ref();
            spec.is_none_or(|spec| spec.taints.is_none() && spec.unschedulable != Some(true))
        };
        let node = nodes.items.iter().find(is_free);
        node.unwrap_or_else(|| panic!("no node that pods can run on"))
            .name_any()
    }

    /// The nodes that the pods of the world run on, by the name of the pod's Job.
    pub async fn nodes_by_job(&self) -> Result<BTreeMap<String, String>> {
        let pods = self.list::<Pod>().await?;
        let node_of = |pod: &Pod| {
            let owner = pod.owner_references().first()?.name.clone();
            Some((owner, pod.spec.as_ref()?.node_name.clone()?))
        };
        Ok(pods.iter().filter_map(node_of).collect())
    }
}

/// Asserts that of a JobFlow whose Jobs are all there and finished, none started before those that its
/// step depends on were over.
pub fn assert_in_order(flow: &JobFlow, jobs: &[BatchJob]) {
    let times: BTreeMap<_, _> = jobs
        .iter()
        .map(|job| {
            let status = job.status.clone().unwrap_or_default();
            assert!(end(job).is_some(), "{} is not finished", job.name_any());
            let made = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let finished = status.completion_time.map(|time| time.0);
            (job.labels()[keys::STEP].clone(), (made, finished))
        })
        .collect();
    for step in &flow.spec.flows {
        let (made, _) = times[&step.name];
        for dependency in &step.dependencies {
            let (_, finished) = times[dependency];
            assert!(
                finished.is_some() && finished <= made,
                "{} was made at {made:?}, {dependency} finished at {finished:?}",
                step.name
            );
        }
    }
}
