//! The changes of pods' metadata, one write for each pod: a second write over the same version would be
//! refused.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use crate::{
    action::Effect,
    driver,
    pod_lifecycle::{
        adapter::{Adapter, Edit},
        labels::PREPARING_TO_DELETE,
    },
};

/// What changes of each pod, by its name.
#[derive(Debug, Default)]
pub(super) struct Edits<'a>(BTreeMap<String, (&'a Pod, Changes)>);

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

    /// One write for each pod, which fails if the pod has changed.
    pub(super) fn into_effects(self) -> Vec<Effect> {
        let changes = self.0.into_values();
        changes
            .map(|(pod, changes)| changes.into_effect(pod))
            .collect()
    }

    fn of(&mut self, pod: &'a Pod) -> &mut Changes {
        let (_, changes) = self
            .0
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
