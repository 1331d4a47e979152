//! Which claims a set owns, takes over, lets go and finds again.

use super::*;

#[test]
fn claims_have_an_owner_only_if_they_are_deleted_with_the_set() {
    let mut seen = serving(1);
    let owners = |seen: &Seen| seen.claims[0].owner_references().len();
    seen.retain("Retain", "Delete");
    seen.note_claims();
    assert_eq!(owners(&seen), 0);
    assert!(seen.is_quiet(), "it is still the set's");
    seen.retain("Delete", "Delete");
    seen.note_claims();
    assert_eq!(owners(&seen), 1);
    // A set that is deleted before that waits for it.
    seen.retain("Retain", "Delete");
    seen.pods.clear();
    seen.edit(|object| {
        object.metadata.deletion_timestamp =
            serde_json::from_value(json!("2023-01-01T00:00:00Z")).ok();
    });
    assert!(seen.plan().end.expect("an end").left.is_some());
    seen.note_claims();
    assert_eq!(owners(&seen), 0);
    assert!(seen.plan().end.expect("an end").left.is_none());
    // New claims have none from the beginning.
    let mut seen = with_claims(1);
    seen.retain("Retain", "Delete");
    seen.note_claims();
    assert_eq!(owners(&seen), 0);
}

#[test]
fn claims_that_a_former_set_left_are_mounted_again() {
    let mut former = serving(2);
    former.retain("Retain", "Retain");
    former.note_claims();
    let mut seen = with_claims(2);
    seen.edit(|object| object.metadata.uid = Some("another".to_owned()));
    seen.revisions.clear();
    seen.note_revision();
    seen.claims.clone_from(&former.claims);
    seen.serve_with_claims();
    assert_eq!(seen.claims.len(), 2);
    let all: Vec<_> = seen.pods.iter().flat_map(|pod| mounted(pod)).collect();
    let left: Vec<_> = seen.claims.iter().map(|claim| claim.name_any()).collect();
    assert_eq!(all, left);
    assert_eq!(seen.claims[0].owner_references()[0].uid, "another");
    assert!(seen.is_quiet());
}

#[test]
fn claims_of_other_sets_and_excluded_ones_are_not_taken() {
    let mut seen = with_claims(1);
    let start = &seen.starts()[0];
    let claim: PersistentVolumeClaim = created(start, "uid");
    let of = json!({"kind": "CollaSet", "apiVersion": "v1", "name": "x", "uid": "x", "controller": true});
    for patch in [
        json!({"metadata": {"ownerReferences": [of]}}),
        json!({"metadata": {"ownerReferences": [], "annotations": null, "labels": {keys::ORPHANED: "true"}}}),
        json!({"metadata": {"ownerReferences": [], "annotations": null, "labels": {"app": "bar"}}}),
        json!({"metadata": {"ownerReferences": [], "annotations": null, "labels": {keys::CLAIM_HASH: "x"}}}),
        json!({"metadata": {"ownerReferences": [], "annotations": null, "labels": {keys::INSTANCE_ID: "7"}}}),
    ] {
        seen.claims = vec![Arc::new(patched(&claim, &patch))];
        assert_eq!(seen.starts().len(), 1, "{patch}");
    }
    let patch = json!({"metadata": {"ownerReferences": [], "annotations": null}});
    seen.claims = vec![Arc::new(patched(&claim, &patch))];
    assert_eq!(seen.note_claims(), 0);
    assert_eq!(seen.claims[0].owner_references().len(), 1);
}

#[test]
fn a_pod_that_is_excluded_takes_its_claims_along_and_brings_them_back() {
    let mut seen = serving(2);
    let strategy = json!({"podToExclude": [seen.pods[0].name_any()]});
    seen.edit(|object| {
        object.spec.scale_strategy = serde_json::from_value(strategy).expect("a strategy");
    });
    seen.note_claims();
    let claim = &seen.claims[0];
    assert!(claim.owner_references().is_empty());
    assert!(claim.labels().contains_key(keys::ORPHANED));
    seen.pod(
        0,
        &json!({"metadata": {"ownerReferences": [], "labels": {keys::ORPHANED: "true"}}}),
    );
    assert!(seen.deleted_claims().is_empty());
    // Another pod with the id has a claim of its own.
    seen.serve_with_claims();
    assert_eq!(seen.claims.len(), 3);
    let strategy = json!({"podToInclude": [seen.pods[0].name_any()]});
    seen.edit(|object| {
        object.spec.replicas = 3;
        object.spec.scale_strategy = serde_json::from_value(strategy).expect("a strategy");
    });
    seen.note_context();
    seen.note_claims();
    assert_eq!(seen.claims[0].owner_references().len(), 1);
    assert!(!seen.claims[0].labels().contains_key(keys::ORPHANED));
    // The claim follows the pod's new number.
    let owner = json!([seen.claims[0].owner_references()[0]]);
    let labels = json!({keys::INSTANCE_ID: "2", keys::ORPHANED: null});
    seen.pod(
        0,
        &json!({"metadata": {"ownerReferences": owner, "labels": labels}}),
    );
    seen.note_context();
    seen.note_claims();
    assert_eq!(seen.claims[0].labels()[keys::INSTANCE_ID], "2");
    assert!(seen.is_quiet());
}

#[test]
fn a_claim_that_is_being_deleted_goes_with_the_excluded_pod_that_mounts_it() {
    let mut seen = serving(1);
    let deleted = json!({"metadata": {"deletionTimestamp": "2023-01-01T00:00:00Z"}});
    seen.claim(0, &deleted);
    assert!(seen.is_quiet());
    let strategy = json!({"podToExclude": [seen.pods[0].name_any()]});
    seen.edit(|object| {
        object.spec.scale_strategy = serde_json::from_value(strategy).expect("a strategy");
    });
    seen.note_claims();
    let labels = json!({"ownerReferences": [], "labels": {keys::ORPHANED: "true"}});
    seen.pod(0, &json!({"metadata": labels}));
    // Its name would never be free.
    let start = &seen.starts()[0];
    assert_eq!(start.names[0], seen.claims[0].name_any());
    let found = Driven::claim(&seen, start, &json!(*seen.claims[0]));
    assert_eq!(found, Claim::Others);
}

#[test]
fn if_the_context_was_deleted_a_pod_that_is_missing_gets_its_claims_back() {
    let mut seen = serving(3);
    let gone = seen.pods.remove(1);
    seen.context = None;
    assert!(seen.deleted_claims().is_empty());
    seen.note_context();
    assert!(seen.is_quiet());
    assert_eq!(mounted(&new_pods(&seen.plan())[0]), mounted(&gone));
}

#[test]
fn kusionstacks_claims_are_used_as_they_are() {
    let mut seen = with_claims(1);
    // As KusionStack's controller wrote it: FNV-1 of
    // {"metadata":{"name":"data","creationTimestamp":null},"spec":{"accessModes":["ReadWriteOnce"],
    // "resources":{"requests":{"storage":"1Gi"}}},"status":{}}
    let start = &seen.starts()[0];
    let hash = &start.body["metadata"]["labels"][keys::CLAIM_HASH];
    assert_eq!(hash, fnv(r#"{"metadata":{"name":"data","creationTimestamp":null},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}},"status":{}}"#).as_str());
    let claim = created::<PersistentVolumeClaim>(start, "uid");
    let older = json!({
        "metadata": {"name": "foo-data-x7k2p", "annotations": null, "labels": {keys::CLAIM_TEMPLATE: null}},
    });
    seen.claims = vec![Arc::new(patched(&claim, &older))];
    assert!(seen.is_quiet());
    assert_eq!(
        mounted(&new_pods(&seen.plan())[0]),
        ["foo-data-x7k2p".to_owned()]
    );
}

/// FNV-1 in decimal digits, as letters.
fn fnv(text: &str) -> String {
    let mut digest: u32 = 2_166_136_261;
    for byte in text.bytes() {
        digest = digest.wrapping_mul(16_777_619) ^ u32::from(byte);
    }
    let digits = digest.to_string();
    let letters: Vec<char> = "bcdfghjklmnpqrstvwxz2456789".chars().collect();
    digits
        .bytes()
        .map(|digit| letters[usize::from(digit) % 27])
        .collect()
}

#[test]
fn a_replacement_that_is_cancelled_deletes_no_claim_that_was_retained() {
    let mut seen = serving(3);
    seen.retain("Delete", "Retain");
    let retained = mounted(&seen.pods[2]);
    seen.edit(|object| object.spec.replicas = 2);
    seen.pods.remove(2);
    seen.note_context();
    assert!(seen.is_quiet(), "the claim of id 2 stays");
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
    );
    seen.serve_with_claims();
    let new = seen.pods.last().expect("a new pod").clone();
    assert_ne!(mounted(&new), retained, "it has an id without claims");
    seen.pods.pop();
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: null}}}),
    );
    seen.note_context();
    assert_eq!(seen.deleted_claims(), mounted(&new));
    seen.note_claims();
    seen.note_context();
    assert!(
        seen.claims
            .iter()
            .any(|claim| retained.contains(&claim.name_any()))
    );
    assert!(seen.is_quiet());
}

#[test]
fn a_claim_is_found_again_however_its_template_is_written_meanwhile() {
    for spelling in [
        json!({"spec": {"volumeMode": "Filesystem"}}),
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim"}),
        json!({"spec": {"resources": {"requests": {"storage": "1024Mi"}}}}),
        json!({"status": {}}),
    ] {
        let mut seen = serving(1);
        let before = mounted(&seen.pods[0]);
        let same: Value = patched(&template("data", "1Gi"), &spelling);
        seen.templates(&json!([same]));
        seen.edit_template("/spec/containers/0/image", json!("other"));
        seen.note_revision();
        // The pod is updated in place, and evicted later.
        let revision = seen.revision();
        seen.pod(
            0,
            &json!({"metadata": {"labels": {keys::CONTROLLER_REVISION: revision}}}),
        );
        assert!(seen.is_quiet(), "{spelling}");
        seen.pods.clear();
        assert!(seen.is_quiet(), "{spelling}: no other claim is created");
        assert_eq!(mounted(&new_pods(&seen.plan())[0]), before, "{spelling}");
    }
}

/// A pod without an owner that mounts a claim.
fn backup(claim: &str) -> Pod {
    let volume = json!({"name": "all", "persistentVolumeClaim": {"claimName": claim}});
    let pod = json!({
        "metadata": {"name": "backup", "namespace": "ns", "uid": "backup"},
        "spec": {"containers": [], "volumes": [volume]},
    });
    serde_json::from_value(pod).expect("a pod")
}

#[test]
fn a_pod_that_a_user_starts_to_save_the_data_takes_no_claim_away() {
    for phase in ["Running", "Succeeded"] {
        let mut seen = serving(1);
        let claim = mounted(&seen.pods[0]);
        let mut pod = backup(&claim[0]);
        pod.status.get_or_insert_default().phase = Some(phase.to_owned());
        seen.pods.push(Arc::new(pod));
        assert!(seen.is_quiet(), "{phase}");
        seen.pods.remove(0);
        assert!(seen.is_quiet(), "{phase}");
        assert_eq!(mounted(&new_pods(&seen.plan())[0]), claim, "{phase}");
        // Nor is the claim deleted while it is mounted.
        seen.edit(|object| object.spec.replicas = 0);
        seen.note_context();
        assert_eq!(seen.deleted_claims(), [""; 0], "{phase}");
    }
}

#[test]
fn a_claim_that_a_pod_template_names_is_not_taken() {
    let mut former = serving(1);
    former.retain("Retain", "Retain");
    former.note_claims();
    let mut seen = set(1);
    seen.note_revision();
    seen.serve();
    let name = former.claims[0].name_any();
    let volume = json!({"name": "data", "persistentVolumeClaim": {"claimName": name}});
    seen.pod(0, &json!({"spec": {"volumes": [volume]}}));
    let patch = json!({"metadata": {"annotations": null}});
    seen.claims = vec![Arc::new(patched(&*former.claims[0], &patch))];
    assert!(seen.is_quiet());
}

#[test]
fn without_labels_to_select_by_a_claim_is_known_by_its_whole_name() {
    let claim = |name: &str| {
        let labels = json!({keys::CLAIM_TEMPLATE: "data"});
        let claim = json!({"metadata": {"name": name, "labels": labels}});
        serde_json::from_value::<PersistentVolumeClaim>(claim).expect("a claim")
    };
    let mut seen = set(1);
    seen.edit(|object| object.spec.selector.match_labels = None);
    let own = format!("{}-data-abcde", seen.object.name_any());
    let other = format!("{}-bar-data-abcde", seen.object.name_any());
    assert!(crate::colla_set::may_take(&seen.object, &claim(&own)));
    assert!(!crate::colla_set::may_take(&seen.object, &claim(&other)));
}
