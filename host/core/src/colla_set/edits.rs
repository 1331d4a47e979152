//! The changes of pods' metadata, one write for each pod: a second write over the same version would be
//! refused. A pod of which nothing else changes may be resized.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use crate::{
    action::{Effect, PatchKind},
    driver,
    pod_lifecycle::{
        adapter::{Adapter, Edit},
        labels::PREPARING_TO_DELETE,
    },
};

/// What changes of each pod, by its name.
#[derive(Debug, Default)]
pub(super) struct Edits<'a> {
    metadata: BTreeMap<String, (&'a Pod, Changes)>,
    resizes: Vec<Effect>,
}

#[derive(Debug, Default)]
struct Changes {
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    owners: Option<Value>,
}

impl<'a> Edits<'a> {
    /// Labels of a pod are set, or removed where there is no value.
    pub(super) fn labels(&mut self, pod: &'a Pod, edit: Edit) {
        let labels = edit.into_iter().map(|(key, value)| (key, json!(value)));
        self.of(pod).labels.extend(labels);
    }

    /// One label of a pod is set.
    pub(super) fn label(&mut self, pod: &'a Pod, key: &str, value: impl Into<String>) {
        self.labels(pod, [(key.to_owned(), Some(value.into()))].into());
    }

    /// One label of a pod is removed.
    pub(super) fn unlabel(&mut self, pod: &'a Pod, key: &str) {
        self.labels(pod, [(key.to_owned(), None)].into());
    }

    /// An operation is taken back, if it has begun and has not acted: the pod is not deleted.
    pub(super) fn take_back(&mut self, operation: Adapter<'_>, pod: &'a Pod) {
        let has_begun = operation.has_begun(pod.labels());
        if let Some(undo) = operation.undo(pod.labels()).filter(|_| has_begun) {
            self.labels(pod, undo);
            self.unlabel(pod, PREPARING_TO_DELETE);
        }
    }

    /// One annotation of a pod is removed.
    pub(super) fn unannotate(&mut self, pod: &'a Pod, key: &str) {
        self.of(pod).annotations.insert(key.to_owned(), Value::Null);
    }

    /// The owners of a pod become these.
    pub(super) fn owners(&mut self, pod: &'a Pod, owners: Value) {
        self.of(pod).owners = Some(owners);
    }

    /// The CPU and memory of a pod's containers become these.
    pub(super) fn resize(&mut self, pod: &Pod, body: Value) {
        self.resizes.push(Effect::Patch {
            object: driver::reference(pod),
            subresource: Some("resize".to_owned()),
            kind: PatchKind::Strategic,
            body,
            uid: pod.uid(),
            resource_version: pod.resource_version(),
        });
    }

    /// One write for each pod, which fails if the pod has changed.
    pub(super) fn into_effects(self) -> Vec<Effect> {
        let changes = self.metadata.into_values();
        let changes = changes.map(|(pod, changes)| changes.into_effect(pod));
        changes.chain(self.resizes).collect()
    }

    fn of(&mut self, pod: &'a Pod) -> &mut Changes {
        let (_, changes) = self
            .metadata
            .entry(pod.name_any())
            .or_insert_with(|| (pod, Changes::default()));
        changes
    }
}

impl Changes {
    fn into_effect(self, pod: &Pod) -> Effect {
        let Self {
            labels,
            annotations,
            owners,
        } = self;
        let mut metadata = json!({});
        if !labels.is_empty() {
            metadata["labels"] = Value::Object(labels);
        }
        if !annotations.is_empty() {
            metadata["annotations"] = Value::Object(annotations);
        }
        if let Some(owners) = owners {
            metadata["ownerReferences"] = owners;
        }
        driver::unchanged(pod, json!({"metadata": metadata}))
    }
}
