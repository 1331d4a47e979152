//! Effects, performed on the fake cluster as an API server would: preconditions first, then the
//! change, then a new resource version. Each write is recorded.

use serde_json::{Value, json};

use super::FakeCluster;
use super::cluster::{merge, strategic_merge};
use super::json_patch;
use super::replica_set::selects;
use crate::{
    Cluster, Delete, Effect, Evict, Failure, ObjectReference, Operation, Patch, PatchKind, PodLimit,
};

/// One write of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `patch`, `apply`, `create`, `delete`, `evict`
    pub verb: &'static str,
    /// `Pod`
    pub kind: String,
    /// The object's name.
    pub name: String,
}

impl FakeCluster {
    /// Performs what an action answered, if its requirements are met.
    ///
    /// # Errors
    /// `Conflict` (a requirement), and those of [`perform`](Self::perform).
    pub fn perform_operation(&mut self, operation: &Operation) -> Result<(), Failure> {
        for requirement in &operation.requirements {
            let version = requirement.resource_version.as_deref();
            let found = self.checked(&requirement.object, Some(&requirement.uid), version);
            let alive = found.is_ok_and(|object| object["metadata"]["deletionTimestamp"].is_null());
            if !alive && !operation.effects.is_empty() {
                let ObjectReference { kind, name, .. } = &requirement.object;
                let message = format!("{kind} {name:?} does not exist any more, or has changed");
                return Err(refused("Conflict", &message));
            }
        }
        let matching = |limit: &PodLimit| self.find_pods(&limit.label_selector);
        if let Some(limit) = operation
            .limit
            .as_ref()
            .filter(|_| !operation.effects.is_empty())
        {
            let pods =
                matching(limit).map_err(|_| refused("BadSelector", &limit.label_selector))?;
            let staying = pods.iter().filter(|pod| !pod.deleting).count();
            if u32::try_from(staying).is_ok_and(|staying| staying >= limit.pods) {
                return Err(refused("LimitReached", &limit.label_selector));
            }
        }
        self.perform(&operation.effects)
    }

    /// Performs effects in their order; the first that fails ends the list.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` (a precondition), `AlreadyExists`, `BadEffect`, as an API server refuses.
    pub fn perform(&mut self, effects: &[Effect]) -> Result<(), Failure> {
        effects
            .iter()
            .try_for_each(|effect| self.perform_one(effect))
    }

    fn perform_one(&mut self, effect: &Effect) -> Result<(), Failure> {
        match effect {
            Effect::Patch(patch) => self.patch(patch),
            Effect::Apply(body) => self.create_or_apply("apply", body),
            Effect::Create(body) => self.create_or_apply("create", body),
            Effect::Delete(delete) => self.delete(delete),
            Effect::Evict(evict) => self.evict(evict),
            Effect::Event(event) => {
                self.events.push(event.clone());
                Ok(())
            }
        }
    }

    fn patch(&mut self, patch: &Patch) -> Result<(), Failure> {
        let version = patch.resource_version.as_deref();
        let mut object = self.checked(&patch.object, patch.uid.as_deref(), version)?;
        let body = parsed(&patch.body)?;
        match patch.kind {
            PatchKind::Strategic => strategic_merge(&mut object, &body),
            PatchKind::Merge => merge(&mut object, &body),
            PatchKind::Json => {
                let patched = json_patch::applied(&object, &body);
                object = patched.map_err(|why| refused("Invalid", &why))?;
            }
        }
        self.record("patch", &patch.object);
        self.put(object);
        Ok(())
    }

    fn create_or_apply(&mut self, verb: &'static str, body: &str) -> Result<(), Failure> {
        let body = parsed(body)?;
        let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reference = ObjectReference {
            api_version: part(&body["apiVersion"]),
            kind: part(&body["kind"]),
            name: part(&body["metadata"]["name"]),
        };
        if reference.kind.is_empty() || reference.name.is_empty() {
            return Err(refused(
                "BadEffect",
                "an object must have a kind and a name",
            ));
        }
        let present = self.object(&reference.api_version, &reference.kind, &reference.name);
        let object = match (verb, present) {
            (_, None) => {
                let mut object = body;
                if reference.kind == "Pod" {
                    object["status"] = json!({"phase": "Pending"});
                }
                object
            }
            ("create", Some(_)) => {
                let message = format!("there is a {} {:?}", reference.kind, reference.name);
                return Err(refused("AlreadyExists", &message));
            }
            (_, Some(_)) => {
                let uid = body["metadata"]["uid"].as_str();
                let mut object = self.checked(&reference, uid, None)?;
                merge(&mut object, &body);
                object
            }
        };
        self.record(verb, &reference);
        self.put(object);
        Ok(())
    }

    fn delete(&mut self, delete: &Delete) -> Result<(), Failure> {
        let object = &delete.object;
        if self
            .object(&object.api_version, &object.kind, &object.name)
            .is_none()
        {
            return Ok(());
        }
        let version = delete.resource_version.as_deref();
        self.checked(&delete.object, delete.uid.as_deref(), version)?;
        self.record("delete", &delete.object);
        if delete.object.kind == "Pod" {
            self.start_deleting(&delete.object.name);
        } else {
            let object = &delete.object;
            self.remove(&object.api_version, &object.kind, &object.name);
        }
        Ok(())
    }

    fn evict(&mut self, evict: &Evict) -> Result<(), Failure> {
        let reference = ObjectReference::new("v1", "Pod", &evict.pod);
        let version = evict.resource_version.as_deref();
        self.checked(&reference, evict.uid.as_deref(), version)?;
        self.refuse_by_budget(&evict.pod)?;
        self.record("evict", &reference);
        self.start_deleting(&evict.pod);
        Ok(())
    }

    /// Refuses an eviction as the API server does: by a budget that allows none now, or because there are
    /// several.
    fn refuse_by_budget(&self, pod: &str) -> Result<(), Failure> {
        let pod = self.expect_pod(pod);
        let mut budgets = self.objects_of("policy/v1", "PodDisruptionBudget");
        budgets.retain(|budget| selects(&budget["spec"]["selector"]["matchLabels"], &pod));
        match budgets.as_slice() {
            [] => Ok(()),
            [budget] if budget["status"]["disruptionsAllowed"] != 0 => Ok(()),
            [_] => Err(refused(
                "DisruptionBudget",
                "a budget allows no eviction now",
            )),
            _ => Err(refused("InternalError", "more than one budget")),
        }
    }

    /// The object, if it satisfies the preconditions.
    fn checked(
        &self,
        reference: &ObjectReference,
        uid: Option<&str>,
        resource_version: Option<&str>,
    ) -> Result<Value, Failure> {
        let found = self.object(&reference.api_version, &reference.kind, &reference.name);
        let Some(object) = found else {
            let message = format!("there is no {} {:?}", reference.kind, reference.name);
            return Err(refused("NotFound", &message));
        };
        let metadata = &object["metadata"];
        let same = |expected: Option<&str>, actual: &Value| {
            expected.is_none_or(|expected| actual.as_str() == Some(expected))
        };
        if same(uid, &metadata["uid"]) && same(resource_version, &metadata["resourceVersion"]) {
            Ok(object.clone())
        } else {
            let message = format!(
                "{} {:?} has been replaced by another object of the same name",
                reference.kind, reference.name
            );
            Err(refused("Conflict", &message))
        }
    }

    fn record(&mut self, verb: &'static str, reference: &ObjectReference) {
        self.writes.push(Write {
            verb,
            kind: reference.kind.clone(),
            name: reference.name.clone(),
        });
    }
}

fn parsed(body: &str) -> Result<Value, Failure> {
    serde_json::from_str(body).map_err(|error| refused("BadEffect", &error.to_string()))
}

fn refused(reason: &str, message: &str) -> Failure {
    Failure::new(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_of_a_pod_that_changed_meanwhile_is_refused() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({}));
        world.make_unready("foo");
        let patch = Patch::from(pod.edit().set_label("a", "b"));
        let refusal = world
            .perform(&[Effect::Patch(patch)])
            .expect_err("it is stale");
        assert_eq!(refusal.reason, "Conflict");
        assert_eq!(world.expect_pod("foo").label("a"), None);
        assert!(world.writes().is_empty());
    }

    #[test]
    fn a_deletion_means_the_uid_and_not_a_later_pod_of_the_name() {
        let mut world = FakeCluster::new();
        let old = world.add_pod("foo", &json!({}));
        world.remove_pod("foo");
        world.add_pod("foo", &json!({}));
        let refusal = world
            .perform(&[Effect::Delete(old.delete())])
            .expect_err("it is another");
        assert_eq!(refusal.reason, "Conflict");
        let new = world.expect_pod("foo");
        world
            .perform(&[Effect::Evict(new.evict())])
            .expect("it is the pod");
        assert!(world.expect_pod("foo").deleting);
    }

    #[test]
    fn a_deletion_of_what_does_not_exist_succeeds() {
        let mut world = FakeCluster::new();
        let old = world.add_pod("foo", &json!({}));
        world.remove_pod("foo");
        world
            .perform(&[Effect::Delete(old.delete())])
            .expect("there is nothing to delete");
        assert!(world.writes().is_empty());
    }

    #[test]
    fn an_applied_object_with_a_uid_means_the_object_of_that_uid() {
        let mut world = FakeCluster::new();
        let old = world.add_pod("foo", &json!({}));
        world.remove_pod("foo");
        world.add_pod("foo", &json!({}));
        let body = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "foo", "uid": old.uid, "labels": {"a": "b"}}});
        let refusal = world
            .perform(&[Effect::Apply(body.to_string())])
            .expect_err("it is another");
        assert_eq!(refusal.reason, "Conflict");
        assert_eq!(world.expect_pod("foo").label("a"), None);
    }

    #[test]
    fn a_json_patch_is_applied_whole_or_refused() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({"labels": {"a": "b"}}));
        let patch = |operations: Value| {
            Effect::Patch(Patch {
                kind: PatchKind::Json,
                ..crate::patch::merge(pod.reference(), &operations)
            })
        };
        let good = json!([{"op": "replace", "path": "/metadata/labels/a", "value": "c"}]);
        world.perform(&[patch(good)]).expect("it applies");
        assert_eq!(world.expect_pod("foo").label("a"), Some("c"));
        let bad = json!([{"op": "remove", "path": "/metadata/labels/a"},
            {"op": "remove", "path": "/metadata/labels/a"}]);
        let refusal = world.perform(&[patch(bad)]).expect_err("it does not apply");
        assert_eq!(refusal.reason, "Invalid");
        assert_eq!(world.expect_pod("foo").label("a"), Some("c"));
    }

    #[test]
    fn a_second_creation_is_refused() {
        let mut world = FakeCluster::new();
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "bar", "uid": "bar", "controller": true}]);
        for (name, owners) in [("foo", json!([])), ("owned", owner)] {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "ownerReferences": owners}});
            let create = [Effect::Create(body.to_string())];
            world.perform(&create).expect("the name is free");
            let refusal = world.perform(&create).expect_err("the name is taken");
            assert_eq!(refusal.reason, "AlreadyExists");
        }
    }
}
