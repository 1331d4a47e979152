//! PersistentVolumeClaims: when they are created, which pod mounts which, and when they are deleted.

mod ownership;

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    jiff::SignedDuration,
};
use kube::ResourceExt as _;
use operon_api::keys;
use serde_json::{Value, json};

use super::set::{created, set, written};
use crate::{
    action::{Effect, Failure},
    colla_set::{Driven, Seen, plan::Plan},
    driver::{
        Asked, Claim, Class, Done, Kind as _, Made, Question, Refusal, Start, Write,
        memory::patched,
    },
};

/// A claim template with this much storage.
fn template(name: &str, storage: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
    })
}

/// A set with a claim template, without pods.
fn with_claims(replicas: i32) -> Seen {
    let mut seen = set(replicas);
    seen.templates(&json!([template("data", "1Gi")]));
    seen.note_revision();
    seen
}

/// The same, with its claims and its pods, which are as old as the longest wait.
fn serving(replicas: i32) -> Seen {
    let mut seen = with_claims(replicas);
    seen.serve_with_claims();
    seen
}

impl Seen {
    fn templates(&mut self, templates: &Value) {
        self.edit(|object| {
            object.spec.volume_claim_templates =
                serde_json::from_value(templates.clone()).expect("claim templates");
            object.metadata.generation = object.metadata.generation.map(|before| before + 1);
        });
    }

    fn retain(&mut self, when_deleted: &str, when_scaled: &str) {
        let policy = json!({"whenDeleted": when_deleted, "whenScaled": when_scaled});
        let strategy = json!({"persistentVolumeClaimRetentionPolicy": policy});
        self.edit(|object| {
            object.spec.scale_strategy = serde_json::from_value(strategy).expect("a strategy");
        });
    }

    /// The API server does what the plan says of claims; how many were created.
    fn note_claims(&mut self) -> usize {
        let plan = self.plan();
        let writes = plan.claims.into_iter();
        let effects = plan.claim_changes.into_iter().chain(plan.delete);
        let mut count = 0;
        for write in writes.chain(effects.map(Write::Do)) {
            match write {
                Write::Make(mut start) => {
                    count += 1;
                    let is_taken = |name: &String| {
                        let mut claims = self.claims.iter();
                        claims.any(|claim| claim.name_any() == *name)
                    };
                    start.names.retain(|name| !is_taken(name));
                    let uid = format!("uid-{}", start.names[0]);
                    self.claims.push(Arc::new(created(&start, &uid)));
                }
                Write::Do(Effect::Patch { object, body, .. }) => {
                    let mut claims = self.claims.iter_mut();
                    let claim = claims.find(|claim| claim.name_any() == object.name);
                    let claim = claim.expect("a claim");
                    *claim = Arc::new(patched(&**claim, &body));
                }
                Write::Do(Effect::Delete { object, .. }) => {
                    self.claims.retain(|claim| claim.name_any() != object.name);
                }
                Write::Do(other) => unreachable!("{other:?}"),
            }
        }
        count
    }

    fn serve_with_claims(&mut self) {
        self.note_context();
        self.note_claims();
        self.serve();
    }

    /// Changes a claim, by its place.
    fn claim(&mut self, place: usize, patch: &Value) {
        let claim = self.claims.get_mut(place).expect("a claim");
        *claim = Arc::new(patched(&**claim, patch));
    }

    /// The names of the claims that the plan deletes.
    fn deleted_claims(&self) -> Vec<String> {
        let effects = self.plan().delete;
        let claims = effects.into_iter().filter(|effect| {
            matches!(effect, Effect::Delete { object, .. } if object.kind == "PersistentVolumeClaim")
        });
        written(&claims.collect::<Vec<_>>())
    }

    fn starts(&self) -> Vec<Start> {
        let claims = self.plan().claims.into_iter();
        let starts = claims.filter_map(|write| match write {
            Write::Make(start) => Some(start),
            Write::Do(_) => None,
        });
        starts.collect()
    }

    fn is_quiet(&self) -> bool {
        let plan = self.plan();
        let changes = (plan.claims, plan.claim_changes, self.deleted_claims());
        changes == (Vec::new(), Vec::new(), Vec::new())
    }
}

fn mounted(pod: &Pod) -> Vec<String> {
    super::super::claims::mounted(pod)
        .map(str::to_owned)
        .collect()
}

/// The pods that the plan creates.
fn new_pods(plan: &Plan) -> Vec<Pod> {
    let starts = plan.create.iter().chain(&plan.pair);
    starts.map(|start| created(start, "uid")).collect()
}

#[test]
fn a_pod_is_created_when_its_claims_exist_and_mounts_them() {
    let mut seen = with_claims(2);
    seen.templates(&json!([template("data", "1Gi"), template("logs", "2Gi")]));
    seen.edit(|object| {
        let volumes = json!([{"name": "logs", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]);
        let spec = object.spec.template.0.get_mut("spec").expect("a spec");
        spec["volumes"] = volumes;
    });
    seen.note_revision();
    assert!(seen.plan().create.is_empty());
    let starts = seen.starts();
    assert_eq!(starts.len(), 4, "one of each template for each pod");
    let claim: PersistentVolumeClaim = created(&starts[0], "uid");
    assert!(claim.name_any().starts_with("foo-data-"), "{claim:?}");
    assert_eq!(claim.name_any().len(), "foo-data-".len() + 5);
    assert_eq!(starts, seen.starts(), "the same names again");
    let labels = claim.labels();
    for (key, value) in [
        (keys::INSTANCE_ID, "0"),
        (keys::CLAIM_TEMPLATE, "data"),
        (keys::CONTROL, "true"),
        ("app", "foo"),
    ] {
        assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(claim.owner_references()[0].uid, "set-uid");
    assert_eq!(seen.note_claims(), 4);
    let pods = new_pods(&seen.plan());
    assert_eq!(pods.len(), 2);
    let spec = pods[0].spec.clone().expect("a spec");
    let volumes = json!(spec.volumes);
    let of = |place: usize| json!({"claimName": seen.claims[place].name_any()});
    assert_eq!(
        volumes,
        json!([
            {"name": "data", "persistentVolumeClaim": of(0)},
            {"name": "logs", "persistentVolumeClaim": of(1)},
            {"name": "tmp", "emptyDir": {}},
        ])
    );
    seen.serve();
    assert!(seen.is_quiet());
}

#[test]
fn a_creation_without_an_answer_finds_its_claim() {
    let seen = with_claims(1);
    let start = &seen.starts()[0];
    let claim: PersistentVolumeClaim = created(start, "uid");
    assert_eq!(Driven::claim(&seen, start, &json!(claim)), Claim::Mine);
    let deleted = patched(
        &claim,
        &json!({"metadata": {"deletionTimestamp": "2023-01-01T00:00:00Z"}}),
    );
    assert_eq!(Driven::claim(&seen, start, &json!(deleted)), Claim::Leaving);
    let other = patched(
        &claim,
        &json!({"metadata": {"ownerReferences": [], "annotations": {keys::CLAIM_OF: "other"}}}),
    );
    assert_eq!(Driven::claim(&seen, start, &json!(other)), Claim::Others);
}

#[test]
fn a_pod_that_comes_back_mounts_its_claim_when_the_previous_pod_is_gone() {
    let mut seen = serving(2);
    let before = mounted(&seen.pods[1]);
    seen.pod(
        1,
        &json!({"metadata": {"deletionTimestamp": "2023-01-01T00:00:00Z"}}),
    );
    let plan = seen.plan();
    assert!(plan.create.is_empty());
    let [(1, why)] = &plan.claim_waits[..] else {
        unreachable!("{:?}", plan.claim_waits);
    };
    assert!(why.contains(&before[0]), "{why}");
    let scale = seen.conclude().conditions;
    let scale = scale
        .iter()
        .find(|one| one.type_ == "Scale")
        .expect("Scale");
    assert_eq!(scale.reason, "Waiting");
    assert!(scale.message.contains("instance id 1"), "{}", scale.message);
    assert!(seen.is_quiet(), "a claim that a pod mounts stays");
    seen.pods.remove(1);
    assert!(seen.is_quiet());
    let again = new_pods(&seen.plan());
    assert_eq!(mounted(&again[0]), before);
}

#[test]
fn a_claim_that_several_nodes_may_mount_waits_for_no_pod() {
    let mut seen = serving(1);
    seen.claim(0, &json!({"spec": {"accessModes": ["ReadWriteMany"]}}));
    seen.pod(
        0,
        &json!({"metadata": {"deletionTimestamp": "2023-01-01T00:00:00Z"}}),
    );
    assert_eq!(new_pods(&seen.plan()).len(), 1);
}

#[test]
fn the_claims_of_a_pod_that_was_scaled_in_go_when_it_is_gone() {
    for (policy, is_deleted) in [("Delete", true), ("Retain", false)] {
        let mut seen = serving(2);
        seen.retain("Delete", policy);
        seen.edit(|object| object.spec.replicas = 1);
        let cost = json!({"controller.kubernetes.io/pod-deletion-cost": "-1"});
        seen.pod(1, &json!({"metadata": {"annotations": cost}}));
        seen.note_context();
        seen.pod(
            1,
            &json!({"metadata": {"deletionTimestamp": "2023-01-01T00:00:00Z"}}),
        );
        assert_eq!(seen.deleted_claims(), [""; 0], "{policy}");
        let gone = seen.pods.remove(1);
        let expected: Vec<_> = mounted(&gone).into_iter().filter(|_| is_deleted).collect();
        assert_eq!(seen.deleted_claims(), expected, "{policy}");
        // Out again: with Delete, neither the claim nor its id is used any more.
        seen.edit(|object| object.spec.replicas = 2);
        seen.note_context();
        if is_deleted {
            assert!(new_pods(&seen.plan()).is_empty());
            assert_eq!(seen.note_claims(), 1);
            assert_eq!(seen.claims.len(), 2);
            assert_ne!(mounted(&new_pods(&seen.plan())[0]), mounted(&gone));
        } else {
            assert_eq!(mounted(&new_pods(&seen.plan())[0]), mounted(&gone));
        }
    }
}

#[test]
fn a_young_claim_is_not_deleted_yet() {
    let mut seen = serving(1);
    seen.edit(|object| object.spec.replicas = 0);
    seen.pods.clear();
    let now = json!(seen.now.to_string());
    seen.claim(0, &json!({"metadata": {"creationTimestamp": now}}));
    assert_eq!(seen.deleted_claims(), [""; 0]);
    let after = seen.plan().requeue_after.expect("a time");
    seen.now += SignedDuration::try_from(after).expect("a duration");
    assert_eq!(seen.deleted_claims().len(), 1);
}

#[test]
fn an_edited_claim_template_creates_pods_again_with_new_claims() {
    let mut seen = serving(1);
    let old = mounted(&seen.pods[0]);
    let before = seen.revision();
    seen.templates(&json!([template("data", "2Gi")]));
    seen.note_revision();
    assert_ne!(seen.revision(), before);
    seen.edit(|object| {
        let strategy = json!({"podUpgradePolicy": "InPlaceOnly"});
        object.spec.update_strategy = serde_json::from_value(strategy).expect("a strategy");
    });
    let plan = seen.plan();
    assert_eq!(plan.impossible[0].1, "spec.volumeClaimTemplates");
    seen.edit(|object| object.spec.update_strategy = None);
    assert!(seen.is_quiet());
    seen.pods.clear();
    assert_eq!(seen.note_claims(), 1);
    assert_eq!(seen.deleted_claims(), [""; 0], "until the new pod exists");
    seen.serve();
    assert_ne!(mounted(&seen.pods[0]), old);
    assert_eq!(seen.deleted_claims(), old);
    // Another spelling is no edit.
    seen.note_claims();
    let mut same = template("data", "2048Mi");
    same["apiVersion"] = json!("v1");
    same["status"] = json!({});
    seen.templates(&json!([same]));
    assert!(seen.plan().revision.is_none());
}

#[test]
fn a_retained_claim_of_an_edited_template_stays() {
    let mut seen = serving(1);
    seen.retain("Delete", "Retain");
    seen.templates(&json!([template("data", "2Gi")]));
    seen.note_revision();
    seen.pods.clear();
    seen.note_claims();
    seen.serve();
    assert_eq!(seen.claims.len(), 2);
    assert!(seen.is_quiet());
}

#[test]
fn a_pair_has_two_claims_and_the_old_ones_go_with_the_old_pod() {
    for policy in ["Delete", "Retain"] {
        let mut seen = serving(1);
        seen.retain("Delete", policy);
        seen.pod(
            0,
            &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
        );
        seen.serve_with_claims();
        assert_eq!(seen.claims.len(), 2);
        let (old, new) = (mounted(&seen.pods[0]), mounted(&seen.pods[1]));
        assert_ne!(old, new);
        assert!(seen.is_quiet());
        seen.pod(
            0,
            &json!({"metadata": {"deletionTimestamp": "2023-01-01T00:00:00Z"}}),
        );
        assert!(seen.is_quiet());
        seen.pods.remove(0);
        let labels = json!({keys::PAIR_ORIGIN_NAME: null});
        seen.pod(0, &json!({"metadata": {"labels": labels}}));
        // However often the context is written before.
        for _ in 0..3 {
            seen.note_context();
            assert_eq!(seen.deleted_claims(), old, "{policy}");
        }
        seen.note_claims();
        seen.note_context();
        assert_eq!(mounted(&seen.pods[0]), new);
        assert!(seen.is_quiet());
        let context = json!(seen.context.as_ref().expect("a context").spec);
        assert!(!context.to_string().contains("Replace"), "{context}");
    }
}

#[test]
fn the_claims_of_a_replacement_that_was_cancelled_go() {
    let mut seen = serving(1);
    seen.retain("Delete", "Retain");
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: "true"}}}),
    );
    seen.serve_with_claims();
    let new = seen.pods.remove(1);
    seen.pod(
        0,
        &json!({"metadata": {"labels": {keys::TO_REPLACE: null}}}),
    );
    for _ in 0..3 {
        seen.note_context();
        assert_eq!(seen.deleted_claims(), mounted(&new));
    }
    seen.note_claims();
    seen.note_context();
    assert!(seen.is_quiet());
    assert_eq!(seen.claims.len(), 1);
}

#[test]
fn a_claim_that_is_deleted_before_its_pod_has_a_node_is_created_again() {
    let mut seen = serving(1);
    let lost = mounted(&seen.pods[0]);
    seen.claims.clear();
    assert!(seen.starts().is_empty(), "the pod has a node");
    seen.pod(0, &json!({"spec": {"nodeName": null}}));
    let starts = seen.starts();
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0].names, lost);
    seen.note_claims();
    assert!(seen.is_quiet());
}

#[test]
fn a_set_without_claim_templates_has_the_revision_that_it_had() {
    assert_eq!(set(1).revision(), "foo-jdjq5d99jj");
}

#[test]
fn a_refused_claim_is_said_and_holds_up_no_other_pod() {
    let mut seen = with_claims(2);
    let starts = seen.starts();
    seen.claims.push(Arc::new(created(&starts[1], "uid")));
    let plan = seen.plan();
    assert_eq!(new_pods(&plan).len(), 1, "the pod whose claim exists");
    let refusal = Refusal {
        code: 403,
        reason: "Forbidden".to_owned(),
        message: "exceeded quota: storage".to_owned(),
        class: Class::Denied,
    };
    let mut done = Done::default();
    done.made
        .insert(starts[0].subject.clone(), Made::Refused(refusal));
    assert!(done.may_be_granted(), "it is tried again");
    let conditions = seen.conclude_after(&done).conditions;
    let scale = conditions
        .iter()
        .find(|one| one.type_ == "Scale")
        .expect("Scale");
    assert_eq!(scale.reason, "RequestRefused");
    assert!(scale.message.contains("exceeded quota: storage"));
}

#[test]
fn a_claim_without_a_volume_is_named_with_its_last_event() {
    let mut seen = serving(1);
    let created = json!((seen.now - SignedDuration::from_secs(9)).to_string());
    seen.pod(
        0,
        &json!({
            "metadata": {
                "creationTimestamp": created,
                "labels": {crate::pod_lifecycle::labels::SERVICE_AVAILABLE: null},
            },
            "spec": {"nodeName": null},
        }),
    );
    assert_eq!(Driven::question(&seen), None, "it has only begun to wait");
    seen.now += SignedDuration::from_secs(1);
    let question = Driven::question(&seen).expect("a question");
    let name = seen.claims[0].name_any();
    assert_eq!(question, Question::Event(format!("uid-{name}")));
    let said = |reason: &str| {
        let asked = Asked {
            question: Some(question.clone()),
            event: Some(Failure::new(reason, "no persistent volumes available")),
            ..Asked::default()
        };
        let conclusion = Driven::conclude(&seen, &seen.plan(), &Done::default(), &asked);
        let conclusion = conclusion.expect("a conclusion");
        assert!(conclusion.requeue_after.is_some());
        let mut conditions = conclusion.status.conditions.into_iter();
        let available = conditions.find(|one| one.type_ == "Available");
        available.expect("Available").message
    };
    let message = said("FailedBinding");
    let words = format!(
        "waits for PersistentVolumeClaim {name:?}, which is Pending: FailedBinding: no persistent volumes available"
    );
    assert!(message.ends_with(&words), "{message}");
    // A claim that waits for its pod is not the cause.
    assert!(!said("WaitForFirstConsumer").contains("PersistentVolumeClaim"));
    seen.claim(0, &json!({"status": {"phase": "Bound"}}));
    assert_eq!(Driven::question(&seen), None);
}

#[test]
fn claim_templates_that_cannot_be_used_are_refused_with_a_reason() {
    let unnamed = json!({"metadata": {}, "spec": {"accessModes": ["ReadWriteOnce"]}});
    let modeless = json!({"metadata": {"name": "data"}, "spec": {}});
    let twice = json!([template("data", "1Gi"), template("data", "2Gi")]);
    let long = json!([template(&"a".repeat(64), "1Gi")]);
    for (templates, words) in [
        (json!([unnamed]), "without metadata.name"),
        (json!([{}]), "without metadata.name"),
        (json!([modeless]), "\"data\" without spec.accessModes"),
        (twice, "two templates with the name \"data\""),
        (long, "too long"),
    ] {
        let mut seen = set(1);
        seen.templates(&templates);
        let problem = seen.plan().problem.expect("a problem");
        assert_eq!(problem.reason, "InvalidTemplate");
        assert!(problem.message.contains(words), "{}", problem.message);
    }
}
