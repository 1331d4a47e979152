//! Effects of an action against an API server with a few objects: what is refused sends no write.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::core::ApiResource;
use operon_core::action::{ActionError, Failure, PatchKind};
use serde_json::json;

use super::*;
use crate::{
    effects::{Access, OnBehalf, Performed, Performers},
    fake,
};

const OURS: &str = "example.com/ours";

/// An object as the API server has it.
fn stored(kind: &str, name: &str) -> Value {
    let api_version = if kind == "Pod" { "v1" } else { "apps/v1" };
    json!({"apiVersion": api_version, "kind": kind, "metadata": {
        "namespace": "shop", "name": name, "uid": format!("u-{name}"), "resourceVersion": "7"}})
}

fn owner(kind: &str, name: &str, controller: bool) -> Value {
    json!({"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("u-{name}"),
        "controller": controller})
}

/// What there is, by the end of its path.
fn object(path: &str) -> Option<Value> {
    let with = |kind: &str, name: &str, owners: Value, more: Value| {
        let mut object = stored(kind, name);
        object["metadata"]["ownerReferences"] = owners;
        json_merge(&mut object, &more);
        object
    };
    let app = json!({"metadata": {"labels": {"app": "web"}}});
    let selects = json!({"spec": {"selector": {"matchLabels": {"app": "web"}}}});
    Some(match path.rsplit_once("/namespaces/shop/")?.1 {
        "pods/owned" => with(
            "Pod",
            "owned",
            json!([owner("ReplicaSet", "set", true)]),
            app,
        ),
        "pods/released" => with(
            "Pod",
            "released",
            json!([owner("Deployment", "web", true)]),
            app,
        ),
        "pods/orphan" => with("Pod", "orphan", json!([]), app),
        "pods/held" => {
            let held = json!({"metadata": {"finalizers": [OURS, "example.com/theirs"]}});
            with("Pod", "held", json!([]), held)
        }
        "replicasets/set" => {
            let owners = json!([owner("Deployment", "web", true)]);
            with("ReplicaSet", "set", owners, selects)
        }
        "deployments/web" => with("Deployment", "web", json!([]), json!({})),
        "replicasets/other" => with("ReplicaSet", "other", json!([]), json!({})),
        "replicasets/deleted" => {
            let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
            with("ReplicaSet", "deleted", json!([]), deleted)
        }
        _ => return None,
    })
}

fn json_merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        if value.is_object() && into[key].is_object() {
            json_merge(&mut into[key], value);
        } else {
            into[key] = value.clone();
        }
    }
}

/// The writes that an API server got.
type Writes = Arc<Mutex<Vec<Value>>>;

/// A performer of an action, and what it sends.
fn performer(may_read: bool) -> (Performer, Writes) {
    let writes = Writes::default();
    let sent = Arc::clone(&writes);
    let client = fake::client(move |request| {
        let (method, path) = (request.method(), request.uri().path());
        let refusal = |code: u16, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason,
                "message": format!("{method} {path}")});
            Some(fake::answer(code, &status))
        };
        if path == "/api/v1" {
            let nodes = json!({"name": "nodes", "singularName": "node", "namespaced": false,
                "kind": "Node", "verbs": ["patch"]});
            let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1",
                "resources": [nodes]});
            return Some(fake::answer(200, &list));
        }
        if method == http::Method::GET {
            return match object(path) {
                _ if !may_read => refusal(403, "Forbidden"),
                Some(object) => Some(fake::answer(200, &object)),
                None => refusal(404, "NotFound"),
            };
        }
        let body = serde_json::from_str(request.body()).unwrap_or_default();
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(body);
        Some(fake::answer(200, &stored("Pod", "made")))
    });
    let kinds = [
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<ReplicaSet>(&()),
    ];
    let performers = Performers::of_client(client, "act", kinds);
    let guard = Guard {
        finalizers: vec![OURS.to_owned()],
        pods: None,
    };
    let performer = performers.performer(("act", "sha256:act"), "act", guard);
    (performer.expect("a client"), writes)
}

fn patch(kind: &str, name: &str, subresource: Option<&str>, body: Value) -> Effect {
    Effect::Patch {
        object: ObjectReference {
            api_version: "v1".to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        },
        subresource: subresource.map(str::to_owned),
        kind: PatchKind::Merge,
        body,
        uid: None,
        resource_version: None,
    }
}

fn pod(name: &str, body: Value) -> Effect {
    patch("Pod", name, None, body)
}

fn owners(owners: &[Value]) -> Value {
    json!({"metadata": {"ownerReferences": owners}})
}

fn create(metadata: &Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}});
    json_merge(&mut object, &json!({ "metadata": metadata }));
    object
}

/// The error of a target whose effect is this one, and what was written.
async fn outcome(effect: &Effect, may_read: bool) -> (Result<(), ActionError>, Vec<Value>) {
    let (performer, writes) = performer(may_read);
    let done = match performer.perform(&OnBehalf::any_in("shop"), effect).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let needed = Access::to_perform(effect);
            Err(performer.action_error("shop", &needed, error).await)
        }
    };
    let writes = writes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    (done, writes)
}

#[tokio::test]
async fn an_effect_that_no_action_may_do_fails_its_target_and_nothing_is_sent() {
    let set = |is| owner("ReplicaSet", "set", is);
    let (web, other) = (
        |is| owner("Deployment", "web", is),
        |is| owner("ReplicaSet", "other", is),
    );
    let theirs = json!({"finalizers": ["example.com/theirs"]});
    let node = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"});
    let steps = json!([{"op": "remove", "path": "/metadata/finalizers/1"}]);
    let mut json_patch = pod("held", steps);
    let mut strategic = pod("held", json!({"metadata": {"finalizers": [OURS]}}));
    let doubles = json!([{"op": "copy", "from": "/metadata", "path": "/metadata/a"}]);
    let mut bomb = pod("orphan", doubles);
    let many: Vec<_> = (0..100)
        .map(|one| owner("ReplicaSet", &format!("absent-{one}"), false))
        .collect();
    for (effect, its) in [
        (&mut json_patch, PatchKind::Json),
        (&mut bomb, PatchKind::Json),
        (&mut strategic, PatchKind::Strategic),
    ] {
        if let Effect::Patch { kind, .. } = effect {
            *kind = its;
        }
    }
    let mut elsewhere = create(&json!({}));
    elsewhere["metadata"]["namespace"] = "other".into();
    for (effect, names) in [
        (patch("Pod", "owned", Some("proxy"), json!({})), "\"proxy\""),
        (patch("Pod", "owned", Some("exec"), json!({})), "\"exec\""),
        (
            patch("Pod", "owned", Some("attach"), json!({})),
            "\"attach\"",
        ),
        (
            patch("Pod", "owned", Some("portforward"), json!({})),
            "\"portforward\"",
        ),
        (patch("Node", "n", None, json!({})), "kind"),
        (Effect::Create(elsewhere), "metadata.namespace"),
        (
            pod("held", json!({"metadata": {"finalizers": [OURS]}})),
            "example.com/theirs",
        ),
        (
            pod("held", json!({"metadata": {"finalizers": null}})),
            "example.com/theirs",
        ),
        (
            patch(
                "Pod",
                "held",
                Some("status"),
                json!({"metadata": {"finalizers": []}}),
            ),
            "theirs",
        ),
        (json_patch, "example.com/theirs"),
        (strategic, "metadata"),
        (Effect::Create(create(&theirs)), "example.com/theirs"),
        (Effect::Apply(create(&theirs)), "example.com/theirs"),
        (pod("owned", owners(&[other(true)])), "ReplicaSet \"other\""),
        (
            pod("orphan", owners(&[other(true)])),
            "ReplicaSet \"other\"",
        ),
        (pod("orphan", owners(&[web(true)])), "Deployment \"web\""),
        (
            pod("owned", owners(&[set(true), web(true)])),
            "at most one controller",
        ),
        (pod("orphan", owners(&[node])), "not namespaced"),
        // Not one of them is read: they do not exist, which would be another error.
        (pod("orphan", owners(&many)), "at most 8"),
        (bomb, "copies nothing"),
        (
            pod("orphan", json!({"metadata": {"managedFields": []}})),
            "metadata.managedFields",
        ),
        (
            Effect::Create(create(&owners(&[set(true)])["metadata"])),
            "ReplicaSet \"set\"",
        ),
    ] {
        let (done, writes) = outcome(&effect, true).await;
        let Err(ActionError::Terminal(Failure { reason, message })) = done else {
            unreachable!("{effect:?} is {done:?}");
        };
        assert_eq!(reason, "EffectRefused", "{message}");
        assert!(message.contains(names), "{names} in {message}");
        assert!(writes.is_empty(), "{effect:?} sent {writes:?}");
    }
}

#[tokio::test]
async fn an_effect_within_the_rules_is_sent_over_the_version_that_was_judged() {
    let set = |is| owner("ReplicaSet", "set", is);
    let web = |is| owner("Deployment", "web", is);
    for (effect, over) in [
        (
            pod("held", json!({"metadata": {"labels": {"a": "b"}}})),
            None,
        ),
        (patch("Pod", "owned", Some("resize"), json!({})), None),
        (
            pod(
                "held",
                json!({"metadata": {"finalizers": ["example.com/theirs"]}}),
            ),
            Some("7"),
        ),
        (pod("owned", owners(&[web(true)])), Some("7")),
        (pod("owned", owners(&[set(false)])), Some("7")),
        (pod("owned", owners(&[])), Some("7")),
        (pod("released", owners(&[set(true)])), Some("7")),
        (pod("orphan", owners(&[set(true)])), Some("7")),
        (
            pod("orphan", owners(&[owner("ReplicaSet", "other", false)])),
            Some("7"),
        ),
        (Effect::Create(create(&json!({"finalizers": [OURS]}))), None),
        (
            Effect::Create(create(&owners(&[set(false)])["metadata"])),
            None,
        ),
    ] {
        let (done, writes) = outcome(&effect, true).await;
        assert_eq!(done, Ok(()), "{effect:?}");
        let version = writes
            .first()
            .map(|sent| sent["metadata"]["resourceVersion"].as_str());
        assert_eq!(version, Some(over), "{effect:?} sent {writes:?}");
    }
}

#[tokio::test]
async fn an_owner_that_is_not_there_is_not_given_and_the_target_is_tried_again() {
    let stranger =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "set", "uid": "u-old"});
    for new in [
        stranger,
        owner("ReplicaSet", "deleted", false),
        owner("ReplicaSet", "never", false),
    ] {
        let metadata = owners(std::slice::from_ref(&new))["metadata"].clone();
        for effect in [
            pod("orphan", owners(std::slice::from_ref(&new))),
            Effect::Create(create(&metadata)),
            Effect::Apply(create(&metadata)),
        ] {
            let (done, writes) = outcome(&effect, true).await;
            let is_conflict = matches!(&done, Err(ActionError::Retry(failure, None)) if failure.reason == "Conflict");
            assert!(is_conflict, "{effect:?} is {done:?}");
            assert!(writes.is_empty(), "{effect:?} sent {writes:?}");
        }
    }
}

#[tokio::test]
async fn a_patch_over_another_version_than_the_judged_one_is_a_conflict() {
    let mut effect = pod(
        "held",
        json!({"metadata": {"finalizers": ["example.com/theirs"]}}),
    );
    if let Effect::Patch {
        resource_version, ..
    } = &mut effect
    {
        *resource_version = Some("6".to_owned());
    }
    let (done, writes) = outcome(&effect, true).await;
    assert!(matches!(&done, Err(ActionError::Retry(failure, _)) if failure.reason == "Conflict"));
    assert!(writes.is_empty(), "{writes:?}");
}

#[tokio::test]
async fn what_the_account_may_not_read_is_not_judged_and_so_refused() {
    for effect in [
        pod("held", json!({"metadata": {"finalizers": []}})),
        Effect::Create(create(
            &owners(&[owner("ReplicaSet", "set", false)])["metadata"].clone(),
        )),
    ] {
        let (done, writes) = outcome(&effect, false).await;
        let Err(ActionError::Terminal(failure)) = done else {
            unreachable!("{effect:?} is {done:?}");
        };
        assert_eq!(failure.reason, "EffectRefused");
        assert!(
            failure.message.contains("may not get"),
            "{}",
            failure.message
        );
        assert!(writes.is_empty(), "{effect:?} sent {writes:?}");
    }
}

#[tokio::test]
async fn the_host_itself_may_give_finalizers_and_owners() {
    let client = fake::client(|_| Some(fake::answer(201, &stored("Pod", "made"))));
    let performer = Performer::of_client(client, "operon", [ApiResource::erase::<Pod>(&())]);
    let metadata = json!({"finalizers": ["operon.dev/any"], "ownerReferences": [owner("ReplicaSet", "set", true)]});
    let done = performer
        .perform(
            &OnBehalf::any_in("shop"),
            &Effect::Create(create(&metadata)),
        )
        .await;
    assert!(matches!(done, Ok(Performed::Object(_))), "{done:?}");
}
