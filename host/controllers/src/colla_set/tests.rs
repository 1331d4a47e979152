//! Which CollaSets a change wakes, and which claims are theirs.

use std::{collections::BTreeSet, sync::Arc};

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::runtime::{reflector::ObjectRef, watcher};
use operon_api::{CollaSet, PodDecoration, ResourceContext, keys};
use serde_json::{Value, json};

use super::{CollaSetTriggers, without_foreign};

use crate::store::Writer;

fn colla_set(name: &str, spec: &Value) -> CollaSet {
    let mut object = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name, "tier": "web"}}, "spec": {}},
        },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).expect("a CollaSet")
}

fn pod(labels: &Value, owner: Option<(&str, &str)>) -> Pod {
    let owner = owner.map(|(kind, name)| {
        json!({"apiVersion": "v1", "kind": kind, "name": name, "uid": name, "controller": true})
    });
    let pod = json!({"metadata": {
        "name": "pod", "namespace": "ns", "labels": labels,
        "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
    }});
    serde_json::from_value(pod).expect("a pod")
}

/// Three CollaSets and a pod.
struct Scene {
    triggers: CollaSetTriggers,
    queue: UnboundedReceiver<ObjectRef<CollaSet>>,
    objects: Writer<CollaSet>,
    pods: Writer<Pod>,
}

impl Scene {
    fn new() -> Self {
        let (sender, queue) = unbounded();
        let triggers = CollaSetTriggers::new(sender);
        let mut objects = Writer::default();
        let by_expression = json!({"selector": {"matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["web"]},
        ]}});
        let includes = json!({"scaleStrategy": {"podToInclude": ["pod"]}});
        for object in [
            colla_set("a", &Value::Null),
            colla_set("b", &by_expression),
            colla_set("c", &includes),
            colla_set("d", &Value::Null),
        ] {
            objects.apply_watcher_event(&watcher::Event::Apply(object.clone()));
            triggers.object_changed(&object, &objects.as_reader());
        }
        let mut scene = Self {
            triggers,
            queue,
            objects,
            pods: Writer::default(),
        };
        scene.woken();
        scene
    }

    fn change(&mut self, pod: &Pod) -> Vec<String> {
        self.pods
            .apply_watcher_event(&watcher::Event::Apply(pod.clone()));
        self.triggers
            .pod_changed(pod, &self.pods.as_reader(), &self.objects.as_reader());
        self.woken()
    }

    fn woken(&mut self) -> Vec<String> {
        let mut woken = Vec::new();
        while let Ok(reference) = self.queue.try_recv() {
            woken.push(reference.name);
        }
        woken.sort();
        woken
    }
}

#[test]
fn a_pod_without_a_controller_wakes_only_the_sets_that_may_adopt_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.change(&pod(&json!({"app": "other"}), None)), ["c"]);
    assert_eq!(scene.change(&pod(&json!({"app": "a"}), None)), ["a", "c"]);
    assert_eq!(
        scene.change(&pod(&json!({"tier": "web"}), None)),
        ["b", "c"]
    );
    let of_other = pod(&json!({"app": "a"}), Some(("ReplicaSet", "x")));
    assert_eq!(scene.change(&of_other), [""; 0]);
}

#[test]
fn a_set_whose_pod_loses_owner_and_labels_is_woken() {
    let mut scene = Scene::new();
    let owned = pod(&json!({"app": "a"}), Some(("CollaSet", "a")));
    assert_eq!(scene.change(&owned), ["a"]);
    assert_eq!(scene.change(&pod(&json!({}), None)), ["a", "c"]);
}

#[test]
fn a_claim_wakes_the_set_that_owns_or_uses_it_or_may_take_it_and_no_other() {
    let mut scene = Scene::new();
    let mut claims = Writer::default();
    let mut changed = |metadata: &Value| {
        let mut claim = json!({"metadata": {"name": "claim", "namespace": "ns"}});
        for (key, value) in metadata.as_object().into_iter().flatten() {
            claim["metadata"][key] = value.clone();
        }
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).expect("a claim");
        claims.apply_watcher_event(&watcher::Event::Apply(claim.clone()));
        let (claims, objects) = (claims.as_reader(), scene.objects.as_reader());
        scene.triggers.claim_changed(&claim, &claims, &objects);
        scene.woken()
    };
    let owner = json!([{"apiVersion": "v1", "kind": "CollaSet", "name": "a", "uid": "a", "controller": true}]);
    assert_eq!(changed(&json!({"ownerReferences": owner})), ["a"]);
    assert_eq!(
        changed(&json!({"labels": {"app": "d"}})),
        ["a", "d"],
        "it was a's"
    );
    let of = |uid: &str| json!({"annotations": {keys::CLAIM_OF: uid}, "labels": {"app": "a", keys::ORPHANED: "true"}});
    assert_eq!(changed(&of("a")), ["a"]);
    assert!(changed(&of("another")).is_empty());
}

#[test]
fn a_context_wakes_the_sets_that_keep_their_ids_in_it_and_no_other() {
    let mut scene = Scene::new();
    for name in ["blue", "green"] {
        let object = colla_set(name, &json!({"scaleStrategy": {"context": "pool"}}));
        scene
            .objects
            .apply_watcher_event(&watcher::Event::Apply(object.clone()));
        scene
            .triggers
            .object_changed(&object, &scene.objects.as_reader());
    }
    scene.woken();
    // Only green has ids in it: blue waited to create it too.
    let mut changed = |name: &str| {
        let context = json!({
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"contexts": [{"id": 0, "data": {"Owner": "green"}}]},
        });
        let context: ResourceContext = serde_json::from_value(context).expect("a ResourceContext");
        let objects = scene.objects.as_reader();
        scene.triggers.context_changed(&context, &objects);
        scene.woken()
    };
    assert_eq!(changed("pool"), ["blue", "green"]);
    assert_eq!(changed("a"), ["a"]);
    assert!(changed("blue").is_empty());
}

#[test]
fn a_pod_decoration_wakes_the_sets_of_its_namespace() {
    let mut scene = Scene::new();
    let mut decorations = Writer::<PodDecoration>::default();
    let mut changed = |namespace: &str| {
        let object = json!({"metadata": {"name": "sidecar", "namespace": namespace}, "spec": {}});
        let object: PodDecoration = serde_json::from_value(object).expect("a PodDecoration");
        decorations.apply_watcher_event(&watcher::Event::Apply(object.clone()));
        let known = decorations.as_reader();
        let objects = scene.objects.as_reader();
        scene.triggers.decoration_changed(&object, &known, &objects);
        let found = scene.triggers.decorations.get(namespace, &known);
        assert_eq!(found.len(), 1);
        scene.woken()
    };
    assert_eq!(changed("ns"), ["a", "b", "c", "d"]);
    assert_eq!(changed("other"), [""; 0]);
}

#[test]
fn the_claims_of_another_set_that_exists_are_left_to_it() {
    let object = colla_set("a", &Value::Null);
    let claim = |of: Option<&str>| {
        let annotations = of.map(|of| json!({ keys::CLAIM_OF: of }));
        let claim =
            json!({"metadata": {"name": "claim", "namespace": "ns", "annotations": annotations}});
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).expect("a claim");
        Arc::new(claim)
    };
    for (of, is_left_out) in [
        (None, false),
        (Some("a"), false),
        (Some("b"), true),
        // A set that was deleted, or one of another namespace.
        (Some("gone"), false),
    ] {
        let living = || BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let claims = vec![claim(None), claim(of)];
        let kept = without_foreign(claims, &object, living);
        assert_eq!(kept.len(), if is_left_out { 1 } else { 2 }, "{of:?}");
    }
    let unneeded = || -> BTreeSet<String> { unreachable!("no claim is foreign") };
    assert_eq!(
        without_foreign(vec![claim(Some("a"))], &object, unneeded).len(),
        1
    );
}
