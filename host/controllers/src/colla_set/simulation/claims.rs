//! What becomes of claims beside the controller: they get volumes, users delete them, and while a pod mounts one,
//! Kubernetes does not let it go.

use k8s_openapi::jiff::Timestamp;
use operon_api::keys;
use serde_json::{Value, json};

use crate::simulation::{
    Chance, Objects, name_of,
    plurals::{CLAIMS, PODS},
};

/// Keeps a claim while pods mount it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Claim templates, as a user may edit them.
pub(super) fn templates(chance: &mut Chance) -> Value {
    let template = |name: &str, storage: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
        })
    };
    let data = template("data", chance.pick(&["1Gi", "2Gi"]));
    match chance.of(4) {
        0 => json!([]),
        1 => json!([data, template("logs", "1Gi")]),
        _ => json!([data]),
    }
}

/// The names of the claims that a pod mounts.
pub(super) fn mounted(pod: &Value) -> Vec<String> {
    let volumes = pod["spec"]["volumes"].as_array();
    let names = volumes.into_iter().flatten().filter_map(|volume| {
        let name = &volume["persistentVolumeClaim"]["claimName"];
        name.as_str().map(str::to_owned)
    });
    names.collect()
}

/// The pods that mount a claim, also those that are being deleted.
pub(super) fn pods_of(objects: &Objects, claim: &str) -> Vec<Value> {
    let mut pods = objects.all(PODS);
    pods.retain(|pod| mounted(pod).iter().any(|name| name == claim));
    pods
}

/// Whether all claims of a pod have volumes.
pub(super) fn is_bound(objects: &Objects, pod: &Value) -> bool {
    mounted(pod).iter().all(|name| {
        let claim = objects.get(CLAIMS, name);
        claim.is_some_and(|claim| claim["status"]["phase"] == "Bound")
    })
}

/// A claim gets a volume.
pub(super) fn bind(objects: &mut Objects, mut claim: Value) {
    if claim["metadata"]["deletionTimestamp"].is_null() {
        claim["status"]["phase"] = json!("Bound");
        objects.set(CLAIMS, claim);
    }
}

/// A user, or the garbage collector, deletes a claim. It goes when no pod with a node mounts it.
pub(super) fn delete(objects: &mut Objects, mut claim: Value, now: Timestamp) {
    let name = name_of(&claim).to_owned();
    claim["metadata"]["finalizers"] = json!([PROTECTION]);
    objects.set(CLAIMS, claim);
    objects.delete(CLAIMS, &name, now);
    let_go(objects);
}

/// Kubernetes lets the claims go that are being deleted and that no pod with a node mounts.
pub(super) fn let_go(objects: &mut Objects) {
    for mut claim in objects.all(CLAIMS) {
        let is_deleted = claim["metadata"]["deletionTimestamp"].is_string();
        let pods = pods_of(objects, name_of(&claim));
        if is_deleted && pods.iter().all(|pod| pod["spec"]["nodeName"].is_null()) {
            claim["metadata"]["finalizers"] = json!([]);
            objects.set(CLAIMS, claim);
        }
    }
}

/// What a claim is for: its CollaSet, its id, its template and the hash of that.
pub(super) fn purpose(claim: &Value) -> [&Value; 4] {
    let metadata = &claim["metadata"];
    let owner = &metadata["ownerReferences"][0]["uid"];
    let of = &metadata["annotations"][keys::CLAIM_OF];
    let label = |key: &str| &metadata["labels"][key];
    [
        if owner.is_null() { of } else { owner },
        label(keys::INSTANCE_ID),
        label(keys::CLAIM_TEMPLATE),
        label(keys::CLAIM_HASH),
    ]
}
