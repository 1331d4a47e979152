//! The lines of effects, as the shipped performer writes them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use kube::core::ApiResource;
use operon_core::action::{ObjectReference, PatchKind, Severity};
use serde_json::{Value, json};

use super::*;
use crate::{
    effects::{Guard, Performers},
    fake,
};

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Its lines of the audit log.
    fn lines(&self) -> Vec<Value> {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&written).into_owned();
        let lines = text.lines().map(serde_json::from_str);
        let lines = lines.map(|line| line.expect("a line is JSON"));
        lines
            .filter(|line: &Value| line["target"] == TARGET)
            .collect()
    }
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.to_owned(),
    }
}

fn patch(name: &str, body: Value) -> Effect {
    Effect::Patch {
        object: pod(name),
        subresource: Some("resize".to_owned()),
        kind: PatchKind::Merge,
        body,
        uid: Some("u1".to_owned()),
        resource_version: None,
    }
}

/// An action's performer. Its API server accepts a write unless the name of the object begins with "forbidden".
fn performer() -> Performer {
    let client = fake::client(|request| {
        let path = request.uri().path();
        if path.contains("forbidden") {
            let status = json!({"kind": "Status", "code": 403, "reason": "Forbidden"});
            return Some(fake::answer(403, &status));
        }
        if path.ends_with("/eviction") {
            return Some(fake::answer(201, &json!({"status": "Success"})));
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "shop", "name": "web-0", "uid": "u1"}});
        Some(fake::answer(200, &pod))
    });
    let kinds = [ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())];
    let performers = Performers::of_client(client, "action-restart", kinds);
    let performer = performers.performer(
        ("restart", "sha256:abc"),
        "action-restart",
        Guard::default(),
    );
    performer.expect("a client")
}

/// The lines of the audit log while these effects are performed.
async fn logged(performer: &Performer, effects: &[Effect]) -> Vec<Value> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(move || writer.clone())
        .finish();
    let _logs = tracing::subscriber::set_default(subscriber);
    for effect in effects {
        // What became of it is in the log.
        let _ = performer.perform(&OnBehalf::any_in("shop"), effect).await;
    }
    log.lines()
}

#[tokio::test]
async fn an_effect_is_one_line_with_who_did_what_for_which_job() {
    let effect = patch("web-0", json!({}));
    let lines = logged(&performer(), &[effect]).await;
    let [line] = lines.as_slice() else {
        unreachable!("{lines:?}");
    };
    let mut line = line.clone();
    line["timestamp"].take();
    let wanted = json!({
        "timestamp": null, "level": "INFO", "message": "effect", "target": "operon::audit",
        "kind": "OperationJob", "namespace": "shop", "name": "job", "uid": "u-job",
        "plugin": "restart", "digest": "sha256:abc",
        "account": "system:serviceaccount:operon-system:action-restart",
        "verb": "patch", "subresource": "resize", "dry_run": false,
        "object_api_version": "v1", "object_kind": "Pod", "object_namespace": "shop",
        "object_name": "web-0", "object_uid": "u1", "result": "ok",
    });
    assert_eq!(line, wanted);
}

#[tokio::test]
async fn each_effect_that_was_decided_is_one_line_and_an_event_none() {
    let created = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0"}});
    let evict = Effect::Evict {
        pod: "web-0".to_owned(),
        uid: Some("u1".to_owned()),
        resource_version: None,
        grace_period_seconds: None,
    };
    let finalizer = json!({"metadata": {"finalizers": ["example.com/theirs"]}});
    let event = Effect::Event {
        severity: Severity::Normal,
        reason: "Done".to_owned(),
        message: "it is done".to_owned(),
    };
    let effects = [
        Effect::Create(created.clone()),
        evict.clone(),
        // The pod is being evicted already: nothing is sent.
        evict,
        patch("forbidden", json!({})),
        Effect::Create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "name": "web-1", "finalizers": finalizer["metadata"]["finalizers"]}})),
        event,
    ];
    let lines = logged(&performer(), &effects).await;
    let found: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            ["verb", "object_name", "object_uid", "result", "reason"].map(text)
        })
        .collect();
    let wanted = [
        ["create", "web-0", "u1", "ok", "-"],
        ["evict", "web-0", "u1", "ok", "-"],
        ["patch", "forbidden", "u1", "error", "Forbidden"],
        ["create", "web-1", "-", "refused", "EffectRefused"],
    ];
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn what_is_only_tried_says_so_and_a_controllers_write_has_no_plugin() {
    let tried = logged(&performer().of_dry_run(), &[patch("web-0", json!({}))]).await;
    assert_eq!(tried[0]["dry_run"], true);
    let client = fake::client(|_| Some(fake::answer(404, &json!({"kind": "Status", "code": 404}))));
    let kinds = [ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())];
    let controller = Performer::of_client(client, "operon-collaset", kinds);
    let lines = logged(&controller, &[patch("web-0", json!({}))]).await;
    let account = "system:serviceaccount:operon-system:operon-collaset";
    assert_eq!(lines[0]["account"], account);
    assert_eq!(lines[0].get("plugin"), None, "{lines:?}");
}
