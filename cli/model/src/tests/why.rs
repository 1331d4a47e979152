use serde_json::{Value, json};

use super::{job, now, object, pod};
use crate::{Kind, Object, Outcome, Related, why};

/// What an object or a part of it waits for, which has at most 80 words.
fn answer(object: &Object, related: &Related, part: Option<&str>) -> String {
    let text = why(object, related, part, now()).expect("a part");
    let words = text.split_whitespace().count();
    assert!(words <= 80, "{words} words: {text}");
    text
}

fn operation_job(error: Option<(&str, &str)>, progress: &str) -> Object {
    let error = error.map(|(reason, message)| json!({"reason": reason, "message": message}));
    let detail = json!({
        "name": "a", "progress": progress, "startTime": "2026-01-01T00:09:19Z", "error": error,
        "endTime": (progress == "Failed").then_some("2026-01-01T00:09:49Z"), "extraInfo": {"NewPod": "a-2"},
    });
    let spec =
        json!({"action": "Replace", "targets": [{"name": "a"}, {"name": "b"}], "partition": 1});
    let status =
        json!({"observedGeneration": 2, "progress": "Processing", "targetDetails": [detail]});
    object(Kind::OperationJob, &spec, &status)
}

#[test]
fn a_target_says_what_it_waits_for_since_when_and_the_next_command() {
    // Reason, message, progress, and the end of the answer.
    let table = [
        (
            "DisruptionBudget",
            "PodDisruptionBudget web allows 0 disruptions",
            "Processing",
            "a of opj/web has been Processing for 41s.\n\
             DisruptionBudget: PodDisruptionBudget web allows 0 disruptions\n\
             Next: kubectl get poddisruptionbudgets -n default",
        ),
        (
            "Forbidden",
            "ServiceAccount x may not patch pods",
            "Failed",
            "a of opj/web failed 11s ago.\n\
             Forbidden: ServiceAccount x may not patch pods\n\
             Next: kubectl get rolebindings,clusterrolebindings -A -o wide",
        ),
        (
            "Forbidden",
            "pods \"a-2\" is forbidden: exceeded quota: small",
            "Processing",
            "Next: kubectl describe resourcequotas -n default",
        ),
        (
            "NodeLost",
            "node n1 is not Ready",
            "Processing",
            "Next: kubectl get nodes",
        ),
        (
            "OriginTerminating",
            "finalizers: example.com/x",
            "Processing",
            "Next: kubectl describe pod a -n default",
        ),
        (
            "WhatAnActionSays",
            "it is so",
            "Processing",
            "Next: kubectl describe pod a -n default",
        ),
        (
            "WhatAnActionSays",
            "it is so",
            "Failed",
            "Next: kubectl operon retry opj/web -n default",
        ),
    ];
    for (reason, message, progress, expected) in table {
        let job = operation_job(Some((reason, message)), progress);
        for part in [None, Some("a")] {
            let text = answer(&job, &Related::default(), part);
            assert!(text.ends_with(expected), "{text}");
        }
    }
}

#[test]
fn the_new_pod_of_a_target_says_why_it_is_not_ready() {
    let job = operation_job(Some(("NewPodNotReady", "a-2 is Pending")), "Processing");
    let unscheduled = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
    }]});
    let unpulled = json!({"phase": "Pending", "containerStatuses": [{
        "name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
    }]});
    for (status, line) in [
        (unscheduled, "0/3 nodes are available: 3 Insufficient cpu."),
        (unpulled, "container main ImagePullBackOff: no such image"),
    ] {
        let related = Related {
            pods: vec![pod("a-2", &json!({}), &status)],
            ..Related::default()
        };
        let expected = format!(
            "a of opj/web has been Processing for 41s.\nNewPodNotReady: a-2 is Pending\n\
             Pod a-2 has been Pending for 35s: {line}\nNext: kubectl describe pod a-2 -n default"
        );
        assert_eq!(answer(&job, &related, None), expected);
    }
}

#[test]
fn a_target_that_has_not_started_names_what_holds_it_back() {
    let job = operation_job(None, "Succeeded");
    let waits = "partition is 1\nNext: kubectl operon promote opj/web -n default";
    assert_eq!(
        answer(&job, &Related::default(), None),
        format!("1 target waits in opj/web.\n{waits}")
    );
    assert_eq!(
        answer(&job, &Related::default(), Some("b")),
        format!("b of opj/web has not started.\n{waits}")
    );
    let mut spec = json!({"action": "Replace", "targets": [{"name": "a"}]});
    let status = json!({"observedGeneration": 2, "progress": "Pending"});
    let pending = object(Kind::OperationJob, &spec, &status);
    let waits = "a of opj/web has not started.\nNext: kubectl operon get opj/web -n default -w";
    assert_eq!(answer(&pending, &Related::default(), Some("a")), waits);
    spec["paused"] = json!(true);
    let paused = object(Kind::OperationJob, &spec, &status);
    let resume = "1 target waits in opj/web.\nthe job is paused\nNext: kubectl operon resume opj/web -n default";
    assert_eq!(answer(&paused, &Related::default(), None), resume);
    let done = answer(&job, &Related::default(), Some("a"));
    assert_eq!(
        done,
        "a of opj/web has succeeded.\nNext: kubectl operon get opj/web -n default"
    );
    let missing = why(&job, &Related::default(), Some("c"), now()).expect_err("no target");
    let expected = "opj/web shows no part \"c\"; `kubectl operon get opj/web` shows its parts";
    assert_eq!(missing.to_string(), expected);
}

fn condition(type_: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:09:00Z"})
}

#[test]
fn an_object_that_is_stalled_says_more_than_parts_that_have_not_started() {
    let spec = json!({"action": "Nope", "targets": [{"name": "a"}]});
    let stalled = condition(
        "Stalled",
        "ActionNotFound",
        "no ActionPlugin has action Nope",
    );
    let status = json!({"observedGeneration": 2, "progress": "Pending", "conditions": [stalled]});
    let job = object(Kind::OperationJob, &spec, &status);
    assert_eq!(
        answer(&job, &Related::default(), None),
        "opj/web is Pending, 10m old.\nActionNotFound: no ActionPlugin has action Nope\n\
         Next: kubectl get actionplugins -o wide"
    );
    let unseen = object(Kind::OperationJob, &spec, &Value::Null);
    let text = answer(&unseen, &Related::default(), None);
    assert!(
        text.contains("it has no status: does Operon run?\nNext: kubectl logs"),
        "{text}"
    );
}

#[test]
fn an_object_that_operon_leaves_to_kusionstack_says_so_whatever_its_status_is_about() {
    let kinds = [
        (
            Kind::OperationJob,
            json!({"action": "Restart", "targets": [{"name": "a"}]}),
            json!({"progress": "Pending"}),
            "opj/web is Pending",
        ),
        (
            Kind::CollaSet,
            json!({"replicas": 1, "selector": {}, "template": {}}),
            json!({"replicas": 1}),
            "cls/web is Reconciling",
        ),
    ];
    let stands_down = condition("StandingDown", "KusionStackRuns", "Operon writes nothing");
    for (kind, spec, status, begin) in kinds {
        // The notice writes nothing else; KusionStack's controller writes the generation, or does not.
        for observed in [None, Some(1), Some(2)] {
            let mut status = status.clone();
            if let Some(observed) = observed {
                status["observedGeneration"] = json!(observed);
            }
            status["conditions"] = json!([stands_down]);
            let object = object(kind, &spec, &status);
            let text = answer(&object, &Related::default(), None);
            assert_eq!(
                text,
                format!(
                    "{begin}, 10m old.\nKusionStackRuns: Operon writes nothing\nNext: kubectl describe {} web -n default",
                    object.kind().plural()
                )
            );
            assert_eq!(
                object.explanation(),
                "KusionStackRuns: Operon writes nothing"
            );
            assert_eq!(object.outcome(), Outcome::Unfinished);
        }
    }
}

#[test]
fn a_step_that_kueue_holds_names_the_queue() {
    let spec = json!({"flows": [{"name": "build"}]});
    let step = json!({"name": "build", "phase": "Running", "jobName": "web-build", "startTime": "2026-01-01T00:09:00Z"});
    let status = json!({"observedGeneration": 2, "state": "Running", "steps": [step]});
    let flow = object(Kind::JobFlow, &spec, &status);
    let labels = json!({(operon_api::keys::QUEUE_NAME): "team", (operon_api::keys::STEP): "build"});
    let mut held = job("web-build", &labels, &json!({}), &json!({}));
    let held_spec = json!({"suspend": true, "template": {}});
    held.spec = serde_json::from_value(held_spec).expect("a spec");
    let related = Related {
        jobs: vec![held],
        ..Related::default()
    };
    assert_eq!(
        answer(&flow, &related, None),
        "build of jf/web has been Running for 1m.\n\
         Job web-build has been Suspended for 1m: waits for Kueue's queue team\n\
         Next: kubectl get workloads.kueue.x-k8s.io -n default"
    );
}

#[test]
fn a_long_message_is_shortened_and_cannot_control_the_terminal() {
    let message = format!("\u{1b}[2J {}", "word ".repeat(100));
    let job = operation_job(Some(("NewPodNotReady", &message)), "Processing");
    let text = answer(&job, &Related::default(), None);
    assert!(text.contains("NewPodNotReady: \\u{1b}[2J word "), "{text}");
    assert!(text.contains(" …\nNext: "), "{text}");
}
