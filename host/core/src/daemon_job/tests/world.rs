//! A cluster that tests observe: a DaemonJob, nodes, Jobs and their pods, and a clock; and what users
//! and Kubernetes do in it. What the controller does is in `passes`.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition},
        core::v1::{Node, Pod, Taint},
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use operon_api::{
    DaemonJob,
    conditions::{READY, find},
    daemon_job::{DaemonJobStatus, FlowState, Rollout},
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
    /// By name.
    pub(super) jobs: BTreeMap<String, Job>,
    /// By the uid of their Job.
    pub(super) pods: BTreeMap<String, Vec<Pod>>,
    pub(super) now: i64,
    /// What the API server says to the Job of a node, by the node's name; `*` is any.
    pub(super) refusals: BTreeMap<String, Failure>,
    pub(super) events: Vec<Event>,
    /// How many Jobs were made, how many writes there were, and how many of them wrote the status.
    pub(super) made: usize,
    pub(super) writes: usize,
    pub(super) status_writes: usize,
    /// How often the API server was asked to make a Job.
    pub(super) posts: usize,
    /// What happens in the next pass after its writes.
    pub(super) meanwhile: Vec<fn(&mut World)>,
    /// After how many more writes the process dies.
    pub(super) dies_after: Option<usize>,
    /// Whether caches give their objects in the other order.
    pub(super) reversed: bool,
    /// How many nodes there have been.
    joined: usize,
}

impl World {
    /// An object that nobody has looked at yet, in a cluster of nodes of these names.
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
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            now: START,
            refusals: BTreeMap::new(),
            events: Vec::new(),
            made: 0,
            writes: 0,
            status_writes: 0,
            posts: 0,
            meanwhile: Vec::new(),
            dies_after: None,
            reversed: false,
            joined: 0,
        };
        for node in nodes {
            world.join(node);
        }
        world
    }

    /// One whose rollout is this, as YAML of one line.
    pub(super) fn with_rollout(nodes: &[&str], rollout: &str) -> Self {
        let mut world = Self::new(nodes);
        world.set_rollout(rollout);
        world
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

    /// `kubectl delete job`, in the background unless `foreground`: pods take a while to end.
    pub(super) fn delete_job(&mut self, name: &str, foreground: bool) {
        let at = time(self.now);
        let job = self.jobs.get_mut(name).expect("a Job of this name");
        let uid = job.uid().unwrap_or_default();
        if foreground && self.pods.contains_key(&uid) {
            job.metadata.deletion_timestamp.get_or_insert(at);
        } else {
            self.jobs.remove(name);
        }
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
        let condition = JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(time(self.now)),
            ..JobCondition::default()
        };
        let job = self.jobs.get_mut(name).expect("a Job of this name");
        let status = job.status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(condition);
        let phase = if type_ == "Complete" {
            "Succeeded"
        } else {
            "Failed"
        };
        let uid = job.uid().unwrap_or_default();
        for pod in self.pods.get_mut(&uid).into_iter().flatten() {
            pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        }
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

    /// The pods end of Jobs that are gone or are being deleted, and so the latter go.
    pub(super) fn collect_garbage(&mut self) {
        self.jobs.retain(|_, job| !jobs::is_deleted(job));
        let uids: Vec<_> = self.jobs.values().filter_map(ResourceExt::uid).collect();
        self.pods.retain(|uid, _| uids.contains(uid));
    }

    /// Time goes by, and Jobs go whose `ttlSecondsAfterFinished` is over.
    pub(super) fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        self.jobs.retain(|_, job| {
            let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
            let end = jobs::finish(job).and_then(|finish| finish.time);
            ttl.zip(end)
                .is_none_or(|(ttl, end)| end.0.as_second() + i64::from(ttl) > now)
        });
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

    pub(super) fn job(&self, name: &str) -> &Job {
        self.jobs.get(name).expect("a Job of this name")
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.jobs.keys().map(String::as_str).collect()
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
        self.status()
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    pub(super) fn condition(&self, type_: &str) -> &Condition {
        find(&self.status().conditions, type_).expect("a condition of this type")
    }

    /// What `Ready` says.
    pub(super) fn said(&self) -> &str {
        &self.condition(READY).message
    }

    /// The reasons of the Events so far, which are forgotten.
    pub(super) fn events(&mut self) -> Vec<&'static str> {
        self.events.drain(..).map(|event| event.reason).collect()
    }
}

pub(super) fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}

/// The name of the Job that an Event is about.
pub(super) fn about(event: &Event) -> Option<&str> {
    event.related.as_ref().map(|job| job.name.as_str())
}
