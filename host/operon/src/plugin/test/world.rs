//! The cluster in memory: the SDK's fake cluster, as the host's action reads it and as effects change it.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use operon_core::{
    action::{
        ClusterView, Effect, Failure, FoundPods, JobState, ObjectReference, Operation, PatchKind,
        PodView, ReadError, Requirement, Severity, Target, Watch,
    },
    selector::Selector,
};
use operon_sdk::{self as sdk, Cluster as _, testing::FakeCluster};
use serde_json::{Value, json};

use super::{guard, kubelet::Kubelet};

/// Controllers that give random names to their pods.
const RANDOM: [&str; 4] = ["DaemonSet", "Job", "ReplicaSet", "ReplicationController"];

/// The key that another client adds to the labels and annotations of objects.
pub(super) const FOREIGN: &str = "other-client.example/touched";

/// Where another client adds it.
pub(super) const FOREIGN_MAPS: [&str; 2] = ["labels", "annotations"];

/// The objects, and the clock.
#[derive(Clone)]
pub(super) struct World {
    cluster: FakeCluster,
    kubelet: Kubelet,
    /// The finalizers that the action may add and remove.
    pub(super) finalizers: Vec<String>,
}

impl World {
    /// An empty one, at this second.
    pub(super) fn new() -> Self {
        let mut cluster = FakeCluster::new();
        cluster.advance(Timestamp::now().as_second() - cluster.now());
        Self {
            cluster,
            kubelet: Kubelet::default(),
            finalizers: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.cluster.now()
    }

    /// Adds an object of a file. A pod without a status runs and is ready.
    ///
    /// # Errors
    /// It has no kind or no name.
    pub(super) fn put(&mut self, object: &Value) -> anyhow::Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = text(&object["metadata"]["name"]);
        let kind = text(&object["kind"]);
        ensure!(
            !name.is_empty() && !kind.is_empty() && object["apiVersion"].is_string(),
            "an object must have apiVersion, kind and metadata.name; one of kind {kind:?} and name {name:?} has not"
        );
        let mut object = object.clone();
        let is_pod = kind == "Pod";
        let has_status = !object["status"].is_null();
        if is_pod && !has_status {
            object["status"] = json!({});
        }
        if is_pod && object["metadata"]["generation"].is_null() {
            object["metadata"]["generation"] = 1.into();
        }
        self.cluster.put(object);
        if is_pod && !has_status {
            self.cluster.make_ready(&name);
        }
        self.kubelet.run(&mut self.cluster);
        Ok(())
    }

    pub(super) fn add_job(&mut self, uid: &str) {
        self.cluster.add_job(uid);
    }

    pub(super) fn object(&self, reference: &ObjectReference) -> Option<&Value> {
        let ObjectReference {
            api_version,
            kind,
            name,
        } = reference;
        self.cluster.object(api_version, kind, name)
    }

    /// The pod as the host reads it.
    pub(super) fn pod(&self, name: &str) -> Option<PodView> {
        self.cluster.object("v1", "Pod", name).and_then(pod_view)
    }

    /// How many writes there were.
    pub(super) fn writes(&self) -> usize {
        self.cluster.writes().len()
    }

    /// Every object.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Value> {
        self.cluster.objects()
    }

    /// A pod disappears immediately, as if its node's kubelet had confirmed its deletion.
    pub(super) fn remove_pod(&mut self, name: &str) {
        self.cluster.remove_pod(name);
    }

    /// Another client deletes an object: a pod gracefully.
    pub(super) fn delete(&mut self, object: &ObjectReference) {
        let ObjectReference {
            api_version,
            kind,
            name,
        } = object;
        if kind == "Pod" && self.cluster.pod(name).is_some() {
            self.cluster.start_deleting(name);
        } else {
            self.cluster.remove(api_version, kind, name);
        }
    }

    /// Another pod with the same name, as a StatefulSet makes one: from its template, here the pod with which the run
    /// began. A controller that gives random names makes none: there it is a pod of another client.
    pub(super) fn recreate_pod(&mut self, name: &str, began: &Self) {
        let (Some(mut object), Some(pod)) = (
            began.cluster.object("v1", "Pod", name).cloned(),
            began.cluster.pod(name),
        ) else {
            return;
        };
        let is_random = pod
            .controller()
            .is_some_and(|owner| RANDOM.contains(&owner.kind.as_str()));
        let others: &[&str] = if is_random {
            &["labels", "ownerReferences"]
        } else {
            &[]
        };
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for key in ["uid", "creationTimestamp", "deletionTimestamp"]
                .iter()
                .chain(others)
            {
                metadata.remove(*key);
            }
        }
        self.cluster.remove_pod(name);
        self.cluster.put(object);
    }

    /// Another client adds a label and an annotation to every object; their resource versions change with that.
    pub(super) fn touch(&mut self) {
        let objects: Vec<Value> = self.cluster.objects().cloned().collect();
        for mut object in objects {
            for map in FOREIGN_MAPS {
                object["metadata"][map][FOREIGN] = "true".into();
            }
            self.cluster.put(object);
        }
    }

    /// Performs an operation about a target; whether that has changed something, as far as the host knows. The first
    /// effect that is refused ends it.
    pub(super) fn perform(
        &mut self,
        operation: &Operation,
        target: &Target,
    ) -> Result<bool, Failure> {
        let before = self.cluster.clone();
        let mut rest = Some(operation.clone());
        let mut performed = Ok(false);
        while let (Ok(is_changed), Some(operation)) = (&performed, rest) {
            let is_changed = *is_changed;
            let (one, after) = split(operation, target);
            performed = self
                .perform_one(&one)
                .map(|()| is_changed || self.is_changed(&one, &before));
            rest = after;
        }
        self.count_generations(&before);
        performed
    }

    /// Whether an operation with at most one effect has changed something, as far as the host knows: it compares only a
    /// pod that was edited.
    fn is_changed(&self, operation: &Operation, before: &FakeCluster) -> bool {
        let is_pod = |api_version: &str, kind: &str| (api_version, kind) == ("v1", "Pod");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        operation.effects.iter().any(|effect| {
            let name = match effect {
                Effect::Event { .. } => return false,
                Effect::Patch { object, .. } if is_pod(&object.api_version, &object.kind) => {
                    object.name.clone()
                }
                Effect::Apply(body) if is_pod(&text(&body["apiVersion"]), &text(&body["kind"])) => {
                    text(&body["metadata"]["name"])
                }
                Effect::Patch { .. }
                | Effect::Apply(_)
                | Effect::Create(_)
                | Effect::Delete { .. }
                | Effect::Evict { .. } => return true,
            };
            let pod = |cluster: &FakeCluster| {
                let mut pod = cluster.object("v1", "Pod", &name)?.clone();
                pod["metadata"]["resourceVersion"] = Value::Null;
                Some(pod)
            };
            pod(before) != pod(&self.cluster)
        })
    }

    /// Performs an operation with at most one effect.
    fn perform_one(&mut self, operation: &Operation) -> Result<(), Failure> {
        for effect in &operation.effects {
            guard::check(self, effect, &self.finalizers)?;
        }
        let performed = self.cluster.perform_operation(&answer(operation));
        performed.map_err(|failure| Failure::new(failure.reason, failure.message))
    }

    /// What others do meanwhile: the kubelet, and the controller of ReplicaSets.
    pub(super) fn pass(&mut self, time: Duration) {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        self.cluster.advance(seconds.max(1));
        self.cluster.finish_deletions();
        self.cluster.run_replica_sets();
        for pod in self.cluster.pods() {
            if pod.phase == "Pending" && !pod.deleting {
                self.cluster.make_ready(&pod.name);
            }
        }
        self.kubelet.run(&mut self.cluster);
    }

    /// Counts the changes of pods' specs, as the API server does.
    fn count_generations(&mut self, before: &FakeCluster) {
        for pod in self.cluster.pods() {
            let of = |cluster: &FakeCluster| {
                let object = cluster.object("v1", "Pod", &pod.name);
                object.map(|object| object["spec"].clone())
            };
            if of(before).is_some_and(|spec| Some(spec) != of(&self.cluster)) {
                let generation = pod.generation.max(1) + 1;
                let patch = json!({"metadata": {"generation": generation}});
                self.cluster.change_pod(&pod.name, &patch);
            }
        }
    }
}

/// The first effect of an operation, pinned to the target, with all that is checked before it; and the others.
fn split(mut operation: Operation, target: &Target) -> (Operation, Option<Operation>) {
    let mut effects = operation.effects.into_iter();
    operation.effects = effects
        .next()
        .map(|effect| effect.pinned(target))
        .into_iter()
        .collect();
    let rest: Vec<Effect> = effects.collect();
    let rest = (!rest.is_empty()).then(|| Operation {
        effects: rest,
        ..Operation::default()
    });
    (operation, rest)
}

fn pod_view(object: &Value) -> Option<PodView> {
    let pod: Pod = serde_json::from_value(object.clone()).ok()?;
    Some(PodView::from(&pod))
}

/// What a call about one target reads: its pod, and the kinds that the action declared.
pub(super) struct View {
    pub(super) world: Arc<World>,
    pub(super) watches: Arc<[Watch]>,
    pub(super) target: String,
}

impl View {
    /// The watch of a kind.
    fn watch(&self, api_version: &str, kind: &str) -> Result<&Watch, ReadError> {
        let mut watches = self.watches.iter();
        let declared = watches.find(|watch| watch.api_version == api_version && watch.kind == kind);
        declared.ok_or_else(|| ReadError::NotDeclared(format!("{api_version}/{kind}")))
    }

    /// The objects of a kind that the host would have, and that a selector matches.
    fn matching(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<Value>, ReadError> {
        let watch = self.watch(api_version, kind)?;
        let asked = Selector::parse(label_selector).map_err(ReadError::BadSelector)?;
        let watched = Selector::parse(&watch.label_selector).map_err(ReadError::BadSelector)?;
        let mut found = self
            .world
            .cluster
            .find(api_version, kind, "")
            .unwrap_or_default();
        found.retain(|object| {
            let labels = object["metadata"]["labels"].clone();
            let labels = serde_json::from_value(labels).unwrap_or_default();
            asked.matches(&labels) && watched.matches(&labels)
        });
        Ok(found)
    }
}

impl ClusterView for View {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        let ObjectReference {
            api_version,
            kind,
            name,
        } = reference;
        let is_target = api_version == "v1" && kind == "Pod" && *name == self.target;
        if !is_target {
            let found = self.matching(api_version, kind, "")?;
            return Ok(found
                .into_iter()
                .find(|one| one["metadata"]["name"] == **name));
        }
        Ok(self.world.object(reference).cloned())
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        let found = self.matching(api_version, kind, label_selector)?;
        Ok(Box::new(found.into_iter()))
    }

    fn find_pods(&self, label_selector: &str) -> Result<FoundPods<'_>, ReadError> {
        let found = self.matching("v1", "Pod", label_selector)?;
        let pods = found.into_iter();
        Ok(Box::new(
            pods.filter_map(|pod| pod_view(&pod).map(Arc::new)),
        ))
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        Ok(match self.world.cluster.find_job(uid) {
            Ok(sdk::JobState::Active) => JobState::Active,
            Ok(sdk::JobState::Finished) => JobState::Finished,
            Ok(sdk::JobState::Absent) | Err(_) => JobState::Absent,
        })
    }
}

/// The host's values as those of the SDK.
fn answer(operation: &Operation) -> sdk::Operation {
    let Operation {
        requirements,
        limit,
        effects,
        extra_info: _,
        unfinished: _,
    } = operation;
    let requirement = |requirement: &Requirement| sdk::Requirement {
        object: object(&requirement.object),
        uid: requirement.uid.clone(),
        resource_version: requirement.resource_version.clone(),
    };
    sdk::Operation {
        requirements: requirements.iter().map(requirement).collect(),
        limit: limit.as_ref().map(|limit| sdk::PodLimit {
            label_selector: limit.label_selector.clone(),
            pods: limit.pods,
        }),
        effects: effects.iter().map(effect).collect(),
        extra_info: Vec::new(),
        unfinished: None,
        extra: Vec::new(),
    }
}

fn object(reference: &ObjectReference) -> sdk::ObjectReference {
    let ObjectReference {
        api_version,
        kind,
        name,
    } = reference;
    sdk::ObjectReference::new(api_version, kind, name)
}

fn effect(effect: &Effect) -> sdk::Effect {
    match effect {
        Effect::Patch {
            object,
            subresource,
            kind,
            body,
            uid,
            resource_version,
        } => sdk::Effect::Patch(sdk::Patch {
            object: self::object(object),
            subresource: subresource.clone(),
            kind: match kind {
                PatchKind::Merge => sdk::PatchKind::Merge,
                PatchKind::Json => sdk::PatchKind::Json,
                PatchKind::Strategic => sdk::PatchKind::Strategic,
            },
            body: body.to_string(),
            uid: uid.clone(),
            resource_version: resource_version.clone(),
        }),
        Effect::Apply(body) => sdk::Effect::Apply(body.to_string()),
        Effect::Create(body) => sdk::Effect::Create(body.to_string()),
        Effect::Delete {
            object,
            uid,
            resource_version,
            grace_period_seconds,
            propagation: _,
        } => sdk::Effect::Delete(sdk::Delete {
            object: self::object(object),
            uid: uid.clone(),
            resource_version: resource_version.clone(),
            grace_period_seconds: *grace_period_seconds,
        }),
        Effect::Evict {
            pod,
            uid,
            resource_version,
            grace_period_seconds,
        } => sdk::Effect::Evict(sdk::Evict {
            pod: pod.clone(),
            uid: uid.clone(),
            resource_version: resource_version.clone(),
            grace_period_seconds: *grace_period_seconds,
        }),
        Effect::Event {
            severity,
            reason,
            message,
        } => sdk::Effect::Event(sdk::Event {
            severity: match severity {
                Severity::Normal => sdk::Severity::Normal,
                Severity::Warning => sdk::Severity::Warning,
            },
            reason: reason.clone(),
            message: message.clone(),
        }),
    }
}
