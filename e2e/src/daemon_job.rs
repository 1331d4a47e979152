//! Nodes of a story's own, building DaemonJobs for them, and asking what became of them and their Jobs.
//!
//! Nodes are simulated ones: any number of them costs nothing, and they come, go and break as a story
//! wants. They have a label that names the story; a DaemonJob that is made here selects them by it, so
//! that stories do not disturb each other. A Job's pod succeeds immediately, unless it is held.

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    batch::v1::Job as BatchJob,
    core::v1::{Node, Pod},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use operon_api::{
    DaemonJob, conditions,
    daemon_job::{DaemonJobStatus, FailedNode, FlowState},
    keys,
};
use serde_json::{Value, json};

use crate::{reactive_job::end, workload::pod_spec, world::World};

/// On a node: the namespace of the story that it belongs to.
pub const STORY: &str = "e2e.operon.dev/story";

/// What says which wave a node is in.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// A DaemonJob in the making.
#[derive(Clone, Debug)]
pub struct Daemon(Value);

impl Daemon {
    /// One for the nodes of this story, whose pods succeed immediately.
    pub fn of(world: &World, name: &str) -> Self {
        let mut pod = pod_spec();
        pod["containers"][0]["command"] = json!(["true"]);
        Self(json!({
            "apiVersion": "api.practice.com/v1alpha1",
            "kind": "DaemonJob",
            "metadata": {"name": name},
            "spec": {
                "nodes": {"selector": {"matchLabels": {STORY: world.namespace}}},
                "template": {"spec": pod}
            }
        }))
    }

    /// With this field of the spec.
    #[must_use]
    pub fn with(self, field: &str, value: Value) -> Self {
        self.set("/spec", field, value)
    }

    /// With this field of `spec.nodes`.
    #[must_use]
    pub fn nodes(self, field: &str, value: Value) -> Self {
        self.set("/spec/nodes", field, value)
    }

    /// With this field of `spec.rollout`.
    #[must_use]
    pub fn rollout(mut self, field: &str, value: Value) -> Self {
        self.0["spec"]["rollout"][field] = value;
        self
    }

    /// With this field of the pod's spec.
    #[must_use]
    pub fn pod(self, field: &str, value: Value) -> Self {
        self.set("/spec/template/spec", field, value)
    }

    /// With this field of the container.
    #[must_use]
    pub fn container(self, field: &str, value: Value) -> Self {
        self.set("/spec/template/spec/containers/0", field, value)
    }

    /// Its pods run until the story ends them.
    #[must_use]
    pub fn held(self) -> Self {
        self.annotated("operon.dev/devcluster-hold", "true")
    }

    /// With this annotation on every pod.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.0["spec"]["template"]["metadata"]["annotations"][key] = json!(value);
        self
    }

    /// The pods of these Jobs fail.
    #[must_use]
    pub fn failing(self, jobs: &[String]) -> Self {
        self.annotated("operon.dev/devcluster-fail-jobs", &jobs.join(" "))
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
    pub async fn apply(&self, world: &World) -> DaemonJob {
        let name = self.0["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("operon-e2e").force();
        let applied = world
            .api::<DaemonJob>()
            .patch(name, &params, &Patch::Apply(&self.0))
            .await;
        applied.unwrap_or_else(|error| panic!("failed to apply DaemonJob {name}: {error}"))
    }
}

/// The object's status, empty if it has none yet.
pub fn status(object: &DaemonJob) -> DaemonJobStatus {
    object.status.clone().unwrap_or_default()
}

/// Whether the status is about the object as it is, and has this state.
pub fn is_at(object: &DaemonJob, state: FlowState) -> bool {
    let status = status(object);
    status.observed_generation == object.metadata.generation && status.state == Some(state)
}

/// What the object's condition of this type says, as `status reason: message`; empty if it has none.
pub fn said(object: &DaemonJob, condition: &str) -> String {
    let conditions = status(object).conditions;
    conditions::find(&conditions, condition).map_or_else(String::new, |found| {
        format!("{} {}: {}", found.status, found.reason, found.message)
    })
}

/// What the status says of its only failed node.
pub fn failed_node(object: &DaemonJob) -> FailedNode {
    let mut failed = status(object).failed_nodes;
    let only = failed.pop().filter(|_| failed.is_empty());
    only.unwrap_or_else(|| panic!("one failed node expected: {:?}", object.status))
}

/// The name of the node that a Job is for.
pub fn node_of(job: &BatchJob) -> &str {
    job.annotations()
        .get(keys::NODE_NAME)
        .map_or("", String::as_str)
}

fn is_ready(node: &Node) -> bool {
    let status = node.status.iter();
    let mut conditions = status.flat_map(|status| &status.conditions).flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How a held Job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its container ends with 0.
    Success,
    /// It ends with 1.
    Failure,
}

impl World {
    /// The nodes of the cluster.
    pub fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// Makes nodes of these names, which get an ending that is the story's own; returns those names when
    /// all are Ready.
    pub async fn add_nodes<const N: usize>(&self, names: [&str; N]) -> [String; N] {
        for name in names {
            self.add_node(&self.named(name), json!({})).await;
        }
        let names = names.map(|name| self.named(name));
        for name in &names {
            self.node_is_ready(name).await;
        }
        names
    }

    /// Makes a node of exactly this name, with these labels besides those that every node has.
    pub async fn add_node(&self, name: &str, labels: Value) {
        let resources = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        let mut node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": {"kwok.x-k8s.io/node": "fake"}
            },
            "status": {"allocatable": resources, "capacity": resources}
        });
        node["metadata"]["labels"][STORY] = json!(self.namespace);
        let params = PatchParams::apply("operon-e2e").force();
        let applied = self
            .nodes()
            .patch(name, &params, &Patch::Apply(&node))
            .await;
        applied.unwrap_or_else(|error| panic!("failed to make node {name}: {error}"));
    }

    /// Makes a node not Ready, as one is whose machine has a fault.
    pub async fn break_node(&self, name: &str) {
        let broken = json!({"metadata": {"annotations": {"operon.dev/devcluster-broken": "true"}}});
        self.patch_node(name, broken).await;
        self.eventually(&format!("node {name} is broken"), async || {
            let node = self.nodes().get(name).await?;
            ensure!(!is_ready(&node), "it is Ready");
            Ok(())
        })
        .await;
    }

    /// Makes a broken node Ready again.
    pub async fn mend_node(&self, name: &str) {
        let mended = json!({"metadata": {"annotations": {"operon.dev/devcluster-broken": null}}});
        self.patch_node(name, mended).await;
        self.node_is_ready(name).await;
    }

    async fn patch_node(&self, name: &str, patch: Value) {
        let nodes = self.nodes();
        let patched = nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.unwrap_or_else(|error| panic!("failed to patch node {name}: {error}"));
    }

    /// Waits until a pod can run on a node.
    pub async fn node_is_ready(&self, name: &str) {
        self.eventually(&format!("node {name} is Ready"), async || {
            let node = self.nodes().get(name).await?;
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            ensure!(is_ready(&node) && taints.is_none(), "taints: {taints:?}");
            Ok(())
        })
        .await;
    }

    /// Deletes a node, as the administrator does who takes its machine away.
    pub async fn delete_node(&self, name: &str) {
        let deleted = self.nodes().delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("failed to delete node {name}: {error}"));
    }

    /// Deletes the nodes of this story.
    pub(crate) async fn delete_nodes(&self) {
        let selector = ListParams::default().labels(&format!("{STORY}={}", self.namespace));
        // No other story uses what a failed one leaves behind.
        let _ = self
            .nodes()
            .delete_collection(&DeleteParams::default(), &selector)
            .await;
    }

    /// The DaemonJob of this name.
    pub async fn daemon(&self, name: &str) -> Result<DaemonJob> {
        self.get(name).await
    }

    /// Waits for a DaemonJob to look as it should.
    pub async fn daemon_until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&DaemonJob) -> bool,
    ) -> DaemonJob {
        self.eventually(&format!("DaemonJob {name}: {what}"), async || {
            let object = self.daemon(name).await?;
            if !wanted(&object) {
                bail!("{}", serde_json::to_string(&object.status)?);
            }
            Ok(object)
        })
        .await
    }

    /// Waits until a DaemonJob, as it is, has this state.
    pub async fn daemon_comes_to(&self, name: &str, state: FlowState) -> DaemonJob {
        self.daemon_until(name, state.as_str(), |object| is_at(object, state))
            .await
    }

    /// Waits until a DaemonJob, as it is, gives this reason, with these words in its sentence.
    pub async fn daemon_says(&self, name: &str, reason: &str, words: &[&str]) -> DaemonJob {
        let what = format!("says {reason}, {words:?}");
        let wanted = format!(" {reason}: ");
        self.daemon_until(name, &what, |object| {
            let said = said(object, conditions::READY);
            status(object).observed_generation == object.metadata.generation
                && said.contains(&wanted)
                && words.iter().all(|word| said.contains(word))
        })
        .await
    }

    /// The Jobs of a DaemonJob, sorted by node and age.
    pub async fn jobs_of_daemon(&self, name: &str) -> Result<Vec<BatchJob>> {
        let uid = self.daemon(name).await?.uid().unwrap_or_default();
        let selector = ListParams::default().labels(&format!("{}={uid}", keys::OWNER_UID));
        let listed = self.api::<BatchJob>().list(&selector).await;
        let mut jobs = listed.context("failed to list Jobs")?.items;
        jobs.sort_by_key(|job| {
            let number = job.annotations().get(keys::RUN_ATTEMPT);
            let attempt: u32 = number.and_then(|n| n.parse().ok()).unwrap_or_default();
            (node_of(job).to_owned(), job.creation_timestamp(), attempt)
        });
        Ok(jobs)
    }

    /// Waits until a DaemonJob has exactly one Job on each of these nodes that is not being deleted, and returns
    /// these.
    pub async fn jobs_are_on<N: AsRef<str>>(&self, name: &str, nodes: &[N]) -> Vec<BatchJob> {
        let mut wanted: Vec<&str> = nodes.iter().map(AsRef::as_ref).collect();
        wanted.sort_unstable();
        let what = format!("the Jobs of {name} are on {wanted:?}");
        self.eventually(&what, async || {
            let mut jobs = self.jobs_of_daemon(name).await?;
            jobs.retain(|job| job.metadata.deletion_timestamp.is_none());
            let found: Vec<_> = jobs.iter().map(node_of).collect();
            ensure!(found == wanted, "{found:?}");
            Ok(jobs)
        })
        .await
    }

    /// Looks for a while whether a DaemonJob goes on having Jobs on these nodes only.
    pub async fn jobs_stay_on<N: AsRef<str>>(&self, name: &str, nodes: &[N]) {
        let wanted: Vec<&str> = nodes.iter().map(AsRef::as_ref).collect();
        self.for_a_while(&format!("{name} has Jobs on {wanted:?}"), async || {
            let jobs = self.jobs_of_daemon(name).await?;
            let found: Vec<_> = jobs.iter().map(node_of).collect();
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await;
    }

    /// Ends the held Job on a node.
    pub async fn end_job_on(&self, name: &str, node: &str, how: End) {
        let job = self
            .eventually(&format!("{name} runs on {node}"), async || {
                let jobs = self.jobs_of_daemon(name).await?;
                let is_wanted = |job: &BatchJob| {
                    node_of(job) == node
                        && end(job).is_none()
                        && job.metadata.deletion_timestamp.is_none()
                };
                jobs.into_iter().find(is_wanted).context("no Job does")
            })
            .await;
        let pod = self.pod_of(&job).await;
        let patch = json!({"metadata": {
            "annotations": {"operon.dev/devcluster-hold": null},
            "labels": {"operon.dev/devcluster-fail": (how == End::Failure).to_string()}
        }});
        self.patch::<Pod>(&pod.name_any(), patch).await;
    }

    /// Ends the held Jobs on these nodes, as they come.
    pub async fn end_jobs_on<N: AsRef<str>>(&self, name: &str, nodes: &[N], how: End) {
        for node in nodes {
            self.end_job_on(name, node.as_ref(), how).await;
        }
    }

    /// Looks for a while whether a DaemonJob stays as it is.
    pub async fn daemon_is_not_written(&self, object: &DaemonJob) {
        let name = object.name_any();
        self.for_a_while(&format!("nobody writes {name}"), async || {
            let now = self.daemon(&name).await?;
            ensure!(
                now.resource_version() == object.resource_version(),
                "{}",
                serde_json::to_string(&now.status)?
            );
            Ok(())
        })
        .await;
    }
}
