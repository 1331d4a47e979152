//! Which object an effect means.

use serde_json::{Value, json};

use super::{Effect, ObjectReference, Target};

impl Effect {
    /// The effect as the host performs it: one on the target's own pod means that pod and no later one of its
    /// name, also if the action did not say so.
    #[must_use]
    pub fn pinned(&self, target: &Target) -> Self {
        let mut effect = self.clone();
        let is_target = |object: &ObjectReference| {
            (object.api_version.as_str(), object.kind.as_str()) == ("v1", "Pod")
                && object.name == target.name
        };
        match &mut effect {
            Self::Patch { object, uid, .. } | Self::Delete { object, uid, .. } => {
                if uid.is_none() && is_target(object) {
                    uid.clone_from(&target.uid);
                }
            }
            Self::Evict { pod, uid, .. } => {
                if uid.is_none() && *pod == target.name {
                    uid.clone_from(&target.uid);
                }
            }
            Self::Apply(body) => {
                let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
                let is_target = text("/apiVersion") == Some("v1")
                    && text("/kind") == Some("Pod")
                    && text("/metadata/name") == Some(&target.name);
                if is_target
                    && let Some(uid) = &target.uid
                    && let Some(metadata) = body["metadata"].as_object_mut()
                {
                    metadata.entry("uid").or_insert_with(|| json!(uid));
                }
            }
            Self::Create(_) | Self::Event { .. } => {}
        }
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Propagation;

    #[test]
    fn an_effect_on_the_targets_pod_never_means_a_later_pod_of_its_name() {
        let target = Target {
            name: "web-0".to_owned(),
            uid: Some("first".to_owned()),
            ..Target::default()
        };
        let evict = |pod: &str, uid: Option<&str>| Effect::Evict {
            pod: pod.to_owned(),
            uid: uid.map(str::to_owned),
            resource_version: None,
            grace_period_seconds: None,
        };
        let table = [
            (("web-0", None), ("web-0", Some("first"))),
            (("web-0", Some("other")), ("web-0", Some("other"))),
            (("web-1", None), ("web-1", None)),
        ];
        for ((pod, uid), (same, expected)) in table {
            assert_eq!(evict(pod, uid).pinned(&target), evict(same, expected));
        }
        let delete = |kind: &str, uid: Option<&str>| Effect::Delete {
            object: ObjectReference {
                api_version: "v1".to_owned(),
                kind: kind.to_owned(),
                name: "web-0".to_owned(),
            },
            uid: uid.map(str::to_owned),
            resource_version: None,
            grace_period_seconds: None,
            propagation: Propagation::Background,
        };
        assert_eq!(
            delete("Pod", None).pinned(&target),
            delete("Pod", Some("first"))
        );
        assert_eq!(
            delete("ConfigMap", None).pinned(&target),
            delete("ConfigMap", None)
        );
        let apply = |name: &str, uid: Option<&str>| {
            let mut body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}});
            if let Some(uid) = uid {
                body["metadata"]["uid"] = json!(uid);
            }
            Effect::Apply(body)
        };
        for ((pod, uid), (same, expected)) in table {
            assert_eq!(apply(pod, uid).pinned(&target), apply(same, expected));
        }
    }
}
