//! References to owners, read from and written as the JSON of `metadata.ownerReferences`.

use serde_json::{Value, json};

use crate::{ObjectReference, OwnerReference, Requirement};

impl OwnerReference {
    /// Reads one entry of `metadata.ownerReferences`; none if it lacks what each entry has.
    pub fn from_object(reference: &Value) -> Option<Self> {
        let text = |key: &str| reference[key].as_str().map(str::to_owned);
        let truth = |key: &str| reference[key].as_bool().unwrap_or(false);
        Some(Self {
            api_version: text("apiVersion")?,
            kind: text("kind")?,
            name: text("name")?,
            uid: text("uid")?,
            controller: truth("controller"),
            block_owner_deletion: truth("blockOwnerDeletion"),
        })
    }

    /// The controller among an object's owners; at most one is.
    pub fn controller_of(object: &Value) -> Option<Self> {
        let owners = object["metadata"]["ownerReferences"].as_array()?;
        let mut owners = owners.iter().filter_map(Self::from_object);
        owners.find(|owner| owner.controller)
    }

    /// This reference as an entry of `metadata.ownerReferences`. False fields are left out, as the API
    /// server leaves them out.
    pub fn to_object(&self) -> Value {
        let mut object = json!({"apiVersion": self.api_version, "kind": self.kind,
            "name": self.name, "uid": self.uid});
        if self.controller {
            object["controller"] = true.into();
        }
        if self.block_owner_deletion {
            object["blockOwnerDeletion"] = true.into();
        }
        object
    }

    /// Requires that the owner exists and is not being deleted.
    pub fn required(&self) -> Requirement {
        Requirement {
            object: ObjectReference::new(&self.api_version, &self.kind, &self.name),
            uid: self.uid.clone(),
            resource_version: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_as_it_was_written() {
        let controller = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "u",
            "controller": true, "blockOwnerDeletion": true});
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "v"});
        for reference in [&controller, &other] {
            let read = OwnerReference::from_object(reference).expect("it is whole");
            assert_eq!(read.to_object(), *reference);
        }
        let object = json!({"metadata": {"ownerReferences": [other, controller]}});
        let found = OwnerReference::controller_of(&object).map(|owner| owner.uid);
        assert_eq!(found.as_deref(), Some("u"));
    }
}
