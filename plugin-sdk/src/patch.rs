//! Patches and deletions with preconditions: the observed uid and resource version, so that the API server
//! refuses them if the object was replaced or has changed.

use serde_json::{Map, Value, json};

use crate::{Delete, Evict, ObjectReference, OwnerReference, Patch, PatchKind, Pod, Requirement};

/// A JSON merge patch (RFC 7386) without preconditions.
pub fn merge(object: ObjectReference, body: &Value) -> Patch {
    Patch {
        object,
        subresource: None,
        kind: PatchKind::Merge,
        body: body.to_string(),
        uid: None,
        resource_version: None,
    }
}

/// A deletion of the object with this uid, and of no later one of its name.
pub fn delete(object: ObjectReference, uid: &str) -> Delete {
    Delete {
        object,
        uid: Some(uid.to_owned()),
        resource_version: None,
        grace_period_seconds: None,
    }
}

impl ObjectReference {
    /// `ObjectReference::new("apps/v1", "ReplicaSet", "foo-7d4b9")`
    pub fn new(api_version: &str, kind: &str, name: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Changes of an object's metadata, collected into one patch.
#[derive(Debug, Clone)]
pub struct MetadataEdit {
    object: ObjectReference,
    uid: String,
    resource_version: String,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    owners: Option<Value>,
    finalizers: Vec<String>,
    drops_finalizer: bool,
}

impl MetadataEdit {
    /// Sets a label.
    #[must_use]
    pub fn set_label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    /// Removes a label.
    #[must_use]
    pub fn remove_label(mut self, key: &str) -> Self {
        self.labels.insert(key.to_owned(), Value::Null);
        self
    }

    /// Sets an annotation.
    #[must_use]
    pub fn set_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }

    /// Removes an annotation.
    #[must_use]
    pub fn remove_annotation(mut self, key: &str) -> Self {
        self.annotations.insert(key.to_owned(), Value::Null);
        self
    }

    /// Removes a finalizer.
    #[must_use]
    pub fn remove_finalizer(mut self, name: &str) -> Self {
        self.finalizers.retain(|finalizer| finalizer != name);
        self.drops_finalizer = true;
        self
    }

    /// Replaces all owner references. Require that a new owner exists
    /// ([`OwnerReference::required`]).
    #[must_use]
    pub fn set_owners(mut self, owners: &[OwnerReference]) -> Self {
        self.owners = Some(owners.iter().map(OwnerReference::to_object).collect());
        self
    }
}

impl From<MetadataEdit> for Patch {
    fn from(edit: MetadataEdit) -> Self {
        let mut metadata = Map::new();
        if !edit.labels.is_empty() {
            metadata.insert("labels".to_owned(), edit.labels.into());
        }
        if !edit.annotations.is_empty() {
            metadata.insert("annotations".to_owned(), edit.annotations.into());
        }
        if let Some(owners) = edit.owners {
            metadata.insert("ownerReferences".to_owned(), owners);
        }
        if edit.drops_finalizer {
            metadata.insert("finalizers".to_owned(), edit.finalizers.into());
        }
        Patch {
            uid: Some(edit.uid),
            resource_version: Some(edit.resource_version),
            ..merge(edit.object, &json!({ "metadata": metadata }))
        }
    }
}

impl Pod {
    /// Starts a patch of this pod's metadata. It is refused if the pod is another, or
    /// has changed, since it was read.
    pub fn edit(&self) -> MetadataEdit {
        MetadataEdit {
            object: self.reference(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
            labels: Map::new(),
            annotations: Map::new(),
            owners: None,
            finalizers: self.finalizers.clone(),
            drops_finalizer: false,
        }
    }

    /// The deletion of this pod, and of no later one of its name.
    pub fn delete(&self) -> Delete {
        delete(self.reference(), &self.uid)
    }

    /// The eviction of this pod, and of no later one of its name.
    pub fn evict(&self) -> Evict {
        Evict {
            pod: self.name.clone(),
            uid: Some(self.uid.clone()),
            resource_version: None,
            grace_period_seconds: None,
        }
    }

    /// Requires that this pod exists, is not being deleted, and has not changed since it was read.
    pub fn unchanged(&self) -> Requirement {
        Requirement {
            object: self.reference(),
            uid: self.uid.clone(),
            resource_version: Some(self.resource_version.clone()),
        }
    }

    /// What an effect names this pod by.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference::new("v1", "Pod", &self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeCluster;

    #[test]
    fn an_edit_is_one_merge_patch_that_names_uid_and_resource_version() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({"labels": {"a": "b"}}));
        let edit = pod.edit().remove_label("a").set_annotation("c", "d");
        let patch = Patch::from(edit);
        assert_eq!(patch.uid.as_deref(), Some(pod.uid.as_str()));
        assert_eq!(
            patch.resource_version.as_deref(),
            Some(pod.resource_version.as_str())
        );
        assert_eq!(
            patch.body,
            r#"{"metadata":{"annotations":{"c":"d"},"labels":{"a":null}}}"#
        );
    }

    #[test]
    fn removing_a_finalizer_keeps_the_others() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({"finalizers": ["a/x", "b/y"]}));
        let patch = Patch::from(pod.edit().remove_finalizer("a/x"));
        assert_eq!(patch.body, r#"{"metadata":{"finalizers":["b/y"]}}"#);
    }
}
