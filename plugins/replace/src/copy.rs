//! The copy of a standalone pod: the same specification, without the fields that the API server, the
//! scheduler and admission set, so that they decide again.

use operon_sdk::{Pod, Value, json};

use crate::keys;

/// The longest name.
const LONGEST_NAME: usize = 253;
/// The letters of the suffixes that the API server generates for names: they spell no words.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// The volume that admission adds for the `ServiceAccount`'s token.
const TOKEN_VOLUME: &str = "kube-api-access-";
/// The fields that are not set by the pod's author.
const SET_BY_OTHERS: [&str; 4] = [
    "nodeName",
    "ephemeralContainers",
    "priority",
    "preemptionPolicy",
];

/// The name of a pod's copy: its own, or that of the pod it is itself a copy of, and five letters that
/// follow from its uid. Deterministic, so that two attempts create one copy.
pub fn name(pod: &Pod) -> String {
    let base = pod.annotation(keys::BASE_NAME).unwrap_or(&pod.name);
    let mut base = base.to_owned();
    while base.len() > LONGEST_NAME - 6 || base.ends_with(['-', '.']) {
        base.pop();
    }
    format!("{base}-{}", ending(&pod.uid))
}

/// Five letters from the FNV-1a hash of a text.
fn ending(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    // The lowest bits mix least.
    hash ^= hash >> 32;
    let letters = LETTERS.iter().map(|letter| char::from(*letter));
    let letters: Vec<char> = letters.collect();
    let mut name = String::new();
    for _ in 0..5 {
        let index = usize::try_from(hash % 27).unwrap_or(0);
        name.extend(letters.get(index));
        hash /= 27;
    }
    name
}

/// The copy of a pod (JSON) under another name, created by this job.
pub fn of(origin: &Value, name: &str, job_uid: &str) -> Value {
    let metadata = &origin["metadata"];
    let mut labels = object(&metadata["labels"]);
    labels[keys::REPLACES] = metadata["uid"].clone();
    remove(&mut labels, keys::JOB);
    if let Some(labels) = labels.as_object_mut() {
        labels.retain(|key, _| !is_of_lifecycle(key));
    }
    let mut annotations = object(&metadata["annotations"]);
    let base = match &annotations[keys::BASE_NAME] {
        Value::String(base) => base.clone().into(),
        _ => metadata["name"].clone(),
    };
    annotations[keys::BASE_NAME] = base;
    annotations[keys::REPLACES] = metadata["name"].clone();
    annotations[keys::JOB] = job_uid.into();
    remove(
        &mut annotations,
        "kubectl.kubernetes.io/last-applied-configuration",
    );
    let mut copy = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": annotations
        },
        "spec": cleaned(&origin["spec"])
    });
    // None of them is a controller: the pod is a standalone one.
    if let Value::Array(owners) = &metadata["ownerReferences"] {
        copy["metadata"]["ownerReferences"] = owners.clone().into();
    }
    copy
}

/// Whether a label says where a pod is in its lifecycle, rather than what somebody wants of it.
fn is_of_lifecycle(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    domain.ends_with(keys::LIFECYCLE) && label != keys::STAY_OFFLINE
}

fn cleaned(spec: &Value) -> Value {
    let mut spec = object(spec);
    for key in SET_BY_OTHERS {
        remove(&mut spec, key);
    }
    drop_named(&mut spec, "volumes", is_token_volume);
    for key in ["containers", "initContainers"] {
        let containers = spec.get_mut(key).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            drop_named(container, "volumeMounts", is_token_volume);
        }
    }
    spec
}

fn is_token_volume(name: &str) -> bool {
    name.starts_with(TOKEN_VOLUME)
}

/// Drops from a list the entries whose name is one of those.
fn drop_named(holder: &mut Value, list: &str, drop: fn(&str) -> bool) {
    if let Some(entries) = holder.get_mut(list).and_then(Value::as_array_mut) {
        entries.retain(|entry| !entry["name"].as_str().is_some_and(drop));
    }
}

fn object(value: &Value) -> Value {
    if value.is_object() {
        value.clone()
    } else {
        json!({})
    }
}

fn remove(object: &mut Value, key: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::testing::FakeCluster;

    #[test]
    fn a_copy_has_what_its_author_wrote_and_nothing_that_was_put_in() {
        let token = "kube-api-access-abcde";
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u2",
            "blockOwnerDeletion": true});
        let origin = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "foo", "namespace": "shop", "uid": "u1", "resourceVersion": "9",
                "labels": {
                    "app": "foo", keys::SERVICE_AVAILABLE: "1", keys::DELETION_BEGUN: "1",
                    keys::STAY_OFFLINE: "true"
                },
                "managedFields": [{}], "ownerReferences": [owner],
                "annotations": {"note": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
            },
            "spec": {
                "nodeName": "n1", "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
                "ephemeralContainers": [{"name": "debug"}],
                "containers": [{"name": "app", "volumeMounts": [{"name": "data"}, {"name": token}]}],
                "initContainers": [{"name": "init", "volumeMounts": [{"name": token}]}],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": token, "projected": {}}]
            },
            "status": {"phase": "Running"}
        });
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "foo-x", "namespace": "shop",
                "labels": {"app": "foo", keys::REPLACES: "u1", keys::STAY_OFFLINE: "true"},
                "ownerReferences": [owner],
                "annotations": {
                    "note": "x", keys::BASE_NAME: "foo", keys::REPLACES: "foo", keys::JOB: "j"
                }
            },
            "spec": {
                "containers": [{"name": "app", "volumeMounts": [{"name": "data"}]}],
                "initContainers": [{"name": "init", "volumeMounts": []}],
                "volumes": [{"name": "data", "emptyDir": {}}]
            }
        });
        assert_eq!(of(&origin, "foo-x", "j"), expected);
    }

    #[test]
    fn names_of_copies_are_stable_and_do_not_grow_with_each_replacement() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({}));
        let copy = world.add_pod(
            "foo-abcde",
            &json!({"annotations": {keys::BASE_NAME: "foo"}}),
        );
        assert_eq!(name(&pod), name(&pod));
        assert_ne!(name(&pod), name(&copy));
        assert_eq!(name(&pod).len(), "foo-".len() + 5);
        assert_eq!(name(&copy).len(), "foo-".len() + 5);
        let long = world.add_pod(&"x".repeat(253), &json!({}));
        assert_eq!(name(&long).len(), 253);
    }
}
