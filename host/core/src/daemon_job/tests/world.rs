//! A cluster that tests observe: a DaemonJob, nodes, Jobs and their pods, and a clock; and what users
//! and Kubernetes do in it. The controller is the one that ships.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod, Taint},
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{Resource, ResourceExt};
use operon_api::{
    DaemonJob,
    conditions::{COMPLETE, FAILED, READY, find},
    daemon_job::{DaemonJobStatus, FlowState, Rollout},
    keys,
};
use serde_json::{Value, json};

pub(super) use crate::driver::memory::{START, time};
use crate::{
    action::Failure,
    daemon_job::{Driven, Seen, plan::Plan},
    driver::{
        Event, Kind as _,
        memory::{Cluster, Reconciles},
    },
    jobs,
};

/// The manifest of the README of job-deploy-operator.
pub(super) const SEED: &str = r#"
apiVersion: api.practice.com/v1alpha1
kind: DaemonJob
metadata:
  name: daemonjob-example
spec:
  # 可配置任务流中的全局参数，当设置后会在每个 job 与 pod 中都生效
  globalParams:
    # 可加入 container 所需的参数
    env:
      - name: "FOO"
        value: "bar"
      - name: "QUE"
        value: "pasa"
    # job pod 的 annotations
    annotations:
      key1: value1
      key2: value2
    # job pod 的 labels
    labels:
      key1: value1
      key2: value2
  # 除这些节点之外，都要创建 job, 使用 "," 隔开
  excludeNodeList: node1, node2
  # 支持原生 job Template 模版
  template:
    spec:
      restartPolicy: OnFailure
      containers:
        - image: busybox:1.28
          command:
            - sh
            - -c
            - sleep 100s
          imagePullPolicy: IfNotPresent
          name: nginx
"#;

#[derive(Clone)]
pub(super) struct World {
    pub(super) object: DaemonJob,
    /// By name.
    pub(super) nodes: BTreeMap<String, Node>,
    /// The API server's answer to the Job of a node, by the node's name; `*` is any.
    pub(super) refusals: BTreeMap<String, Failure>,
    /// What happens in the next reconcile after its writes.
    pub(super) meanwhile: Vec<fn(&mut World)>,
    /// How many nodes there have been.
    joined: usize,
    /// Its Jobs, their pods and the clock.
    cluster: Cluster<DaemonJobStatus>,
}

impl Deref for World {
    type Target = Cluster<DaemonJobStatus>;

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
    type Object = DaemonJob;

    fn object(&mut self) -> &mut DaemonJob {
        &mut self.object
    }

    fn cluster(&mut self) -> &mut Cluster<DaemonJobStatus> {
        &mut self.cluster
    }

    fn view(&self) -> &Cluster<DaemonJobStatus> {
        &self.cluster
    }

    fn look(&self) -> Seen {
        let uid = self.object.metadata.uid.as_ref();
        let (mut jobs, pods) = self.caches();
        jobs.retain(|job| job.labels().get(keys::OWNER_UID) == uid);
        let is_labelled = |pod: &&Arc<Pod>| pod.labels().get(keys::OWNER_UID) == uid;
        let mut nodes: Vec<_> = self.nodes.values().cloned().map(Arc::new).collect();
        if self.reversed {
            nodes.reverse();
        }
        Seen {
            object: Arc::new(self.object.clone()),
            nodes,
            jobs,
            all_pods: pods
                .values()
                .flatten()
                .filter(is_labelled)
                .cloned()
                .collect(),
            pods,
            now: time(self.now).0,
        }
    }

    fn status_of(object: &mut DaemonJob) -> &mut Option<DaemonJobStatus> {
        &mut object.status
    }

    fn refusal(&self, body: &Value) -> Option<Failure> {
        let node = body["metadata"]["annotations"][keys::NODE_NAME].as_str();
        let refusal = self.refusals.get(node.unwrap_or_default());
        refusal.or(self.refusals.get("*")).cloned()
    }

    fn between(&mut self) {
        for happen in std::mem::take(&mut self.meanwhile) {
            happen(self);
        }
    }
}

impl World {
    /// An object before its first reconcile, in a cluster of nodes of these names.
    pub(super) fn new(nodes: &[&str]) -> Self {
        Self::of("dj", nodes)
    }

    pub(super) fn of(name: &str, nodes: &[&str]) -> Self {
        let spec = json!({"template": {"spec": {
            "containers": [{"name": "main", "image": "alpine"}],
        }}});
        Self::from_manifest(json!({"metadata": {"name": name}, "spec": spec}), nodes)
    }

    /// The README's object.
    pub(super) fn seed(nodes: &[&str]) -> Self {
        let manifest: Value = serde_yaml_ng::from_str(SEED).expect("YAML");
        Self::from_manifest(manifest, nodes)
    }

    fn from_manifest(manifest: Value, nodes: &[&str]) -> Self {
        let mut object: DaemonJob = serde_json::from_value(manifest).expect("a DaemonJob");
        object.metadata.namespace = Some("default".to_owned());
        object.metadata.uid = Some("object".to_owned());
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = Some(time(START));
        let mut world = Self {
            object,
            nodes: BTreeMap::new(),
            refusals: BTreeMap::new(),
            meanwhile: Vec::new(),
            joined: 0,
            cluster: Cluster::default(),
        };
        for node in nodes {
            world.join(node);
        }
        world
    }

    /// An object with this rollout, as YAML of one line.
    pub(super) fn with_rollout(nodes: &[&str], rollout: &str) -> Self {
        let mut world = Self::new(nodes);
        world.set_rollout(rollout);
        world
    }

    pub(super) fn plan(&self) -> Plan {
        Driven::plan(&self.look())
    }

    /// Reconciles until nothing changes any more.
    pub(super) fn settle(&mut self) -> &DaemonJobStatus {
        self.settle_within(40);
        self.status()
    }

    // What a user does.

    /// Edits `spec`.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut spec = json!(self.object.spec);
        edit(&mut spec);
        self.object.spec = serde_json::from_value(spec).expect("a spec");
        let generation = self.object.metadata.generation.unwrap_or_default();
        self.object.metadata.generation = Some(generation + 1);
    }

    pub(super) fn set_rollout(&mut self, rollout: &str) {
        let rollout: Rollout = serde_yaml_ng::from_str(rollout).expect("a rollout");
        self.edit(|spec| spec["rollout"] = json!(rollout));
    }

    /// Edits what runs.
    pub(super) fn edit_image(&mut self, image: &str) {
        self.edit(|spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image));
    }

    /// `kubectl annotate` for another try.
    pub(super) fn retry(&mut self, value: &str) {
        let annotations = self.object.annotations_mut();
        annotations.insert(keys::RETRY.to_owned(), value.to_owned());
    }

    // What the cluster does.

    /// A node joins that is Ready.
    pub(super) fn join(&mut self, name: &str) {
        self.joined += 1;
        let node = json!({
            "metadata": {
                "name": name,
                "uid": format!("uid-{}-{name}", self.joined),
                "labels": {"kubernetes.io/hostname": name},
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        });
        let node = serde_json::from_value(node).expect("a node");
        self.nodes.insert(name.to_owned(), node);
    }

    pub(super) fn leave(&mut self, name: &str) {
        self.nodes.remove(name).expect("a node of this name");
    }

    pub(super) fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of this name")
    }

    pub(super) fn cordon(&mut self, name: &str, is_cordoned: bool) {
        let spec = self.node_mut(name).spec.get_or_insert_default();
        spec.unschedulable = Some(is_cordoned);
    }

    pub(super) fn set_ready(&mut self, name: &str, is_ready: bool) {
        let status = self.node_mut(name).status.get_or_insert_default();
        for condition in status.conditions.iter_mut().flatten() {
            condition.status = if is_ready { "True" } else { "Unknown" }.to_owned();
        }
    }

    pub(super) fn taint(&mut self, name: &str, key: &str) {
        let taint = Taint {
            key: key.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let spec = self.node_mut(name).spec.get_or_insert_default();
        spec.taints.get_or_insert_default().push(taint);
    }

    pub(super) fn label(&mut self, name: &str, key: &str, value: &str) {
        let labels = self.node_mut(name).labels_mut();
        labels.insert(key.to_owned(), value.to_owned());
    }

    /// The Job of a node ends well.
    pub(super) fn succeed(&mut self, node: &str) {
        let name = self.running(node);
        self.end_job(
            &name,
            "Complete",
            "CompletionsReached",
            "all pods succeeded",
        );
    }

    /// The Job of a node ends badly.
    pub(super) fn fail(&mut self, node: &str) {
        let name = self.running(node);
        self.end_job(&name, "Failed", "BackoffLimitExceeded", "too many retries");
    }

    pub(super) fn end_job(&mut self, name: &str, type_: &str, reason: &str, message: &str) {
        self.cluster.end_job(name, type_, reason, message);
        let phase = if type_ == "Complete" {
            "Succeeded"
        } else {
            "Failed"
        };
        let uid = self.job(name).uid().unwrap_or_default();
        for pod in self.pods.get_mut(&uid).into_iter().flatten() {
            pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        }
    }

    /// The Job controller has seen the Job of a node, and its pod runs.
    pub(super) fn run(&mut self, node: &str) {
        let (name, at) = (self.running(node), time(self.now));
        let job = self.jobs.get_mut(&name).expect("a Job of this name");
        let status = job.status.get_or_insert_default();
        (status.start_time, status.active) = (Some(at), Some(1));
        self.add_pod(&name, &json!({"phase": "Running"}));
    }

    /// The Job of a node exceeds its deadline; Kubernetes waits until its pods have terminated.
    pub(super) fn time_out(&mut self, node: &str) {
        let name = self.running(node);
        self.give_up(&name);
    }

    /// So it does with the Job of this name.
    pub(super) fn give_up(&mut self, job: &str) {
        let message = "Job was active longer than specified deadline";
        self.cluster
            .end_job(job, "FailureTarget", "DeadlineExceeded", message);
    }

    /// A pod of a Job, from what its status is.
    pub(super) fn add_pod(&mut self, job: &str, status: &Value) {
        let job = self.jobs.get(job).expect("a Job of this name");
        let uid = job.uid().expect("a uid");
        let template = json!(job.spec)["template"]["metadata"].clone();
        let mut labels = template["labels"].clone();
        labels["job-name"] = json!(job.name_any());
        let pod = json!({
            "metadata": {
                "labels": labels,
                "annotations": template["annotations"],
                "name": format!("{}-abcde", job.name_any()),
                "uid": format!("pod-of-{uid}"),
                "namespace": "default",
                "creationTimestamp": time(self.now),
                "ownerReferences": [job.controller_owner_ref(&())],
            },
            "status": status,
        });
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods.insert(uid, vec![pod]);
    }

    /// The pods of Jobs that are or were deleted terminate, and so the deletions end.
    pub(super) fn collect_garbage(&mut self) {
        let live = self.jobs.values().filter(|job| !jobs::is_deleted(job));
        let uids: Vec<_> = live.filter_map(ResourceExt::uid).collect();
        self.pods.retain(|uid, _| uids.contains(uid));
        self.cluster.collect_garbage();
    }

    /// Advances the time, and deletes the Jobs with an expired `ttlSecondsAfterFinished`.
    pub(super) fn wait(&mut self, seconds: i64) {
        for name in self.expire_after(seconds) {
            self.jobs.remove(&name);
        }
    }

    // What tests read.

    pub(super) fn status(&self) -> &DaemonJobStatus {
        self.object.status.as_ref().expect("a status")
    }

    pub(super) fn state(&self) -> FlowState {
        self.status().state.expect("a state")
    }

    pub(super) fn progress(&self) -> &str {
        self.status().progress.as_deref().expect("progress")
    }

    /// The name of the Job of a node that is not finished.
    pub(super) fn running(&self, node: &str) -> String {
        let uid = self
            .nodes
            .get(node)
            .and_then(|node| node.metadata.uid.as_ref());
        let owner = self.object.metadata.uid.as_ref();
        let is_it = |job: &&Job| {
            job.labels().get(keys::OWNER_UID) == owner
                && job.labels().get(keys::NODE_UID) == uid
                && jobs::finish(job).is_none()
                && !jobs::is_deleted(job)
        };
        let job = self.jobs.values().find(is_it);
        job.expect("a Job that runs on this node").name_any()
    }

    /// The names of the nodes on which something runs.
    pub(super) fn busy(&self) -> Vec<&str> {
        let running = self.jobs.values().filter(|job| jobs::finish(job).is_none());
        let mut nodes: Vec<_> = running
            .map(|job| job.annotations()[keys::NODE_NAME].as_str())
            .collect();
        nodes.sort_unstable();
        nodes
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
    pub(super) fn said(&self) -> &str {
        &self.condition(READY).message
    }
}

/// The name of the Job that an Event is about.
pub(super) fn about(event: &Event) -> Option<&str> {
    event.related.as_ref().map(|job| job.name.as_str())
}
