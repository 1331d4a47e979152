use serde_json::{Value, json};

use super::{now, object};
use crate::{Effect, Kind, Object, Promotion, Verb, effect};

fn operation_job(partition: Option<i32>, paused: bool, status: &Value) -> Object {
    let targets = json!([{"name": "a"}, {"name": "b", "containers": ["main"]}, {"name": "c"}]);
    let spec = json!({
        "action": "Restart", "targets": targets, "partition": partition, "paused": paused, "maxConcurrent": 1,
    });
    object(Kind::OperationJob, &spec, status)
}

fn running() -> Value {
    json!({"observedGeneration": 2, "progress": "Processing"})
}

fn patch(object: &Object, verb: Verb) -> Value {
    match effect(object, verb) {
        Ok(Effect::Patch { patch, .. }) => patch,
        other => unreachable!("{other:?}"),
    }
}

fn refusal(object: &Object, verb: Verb) -> String {
    match effect(object, verb) {
        Err(refusal) => refusal.to_string(),
        Ok(effect) => unreachable!("{effect:?}"),
    }
}

#[test]
fn promote_raises_the_partition_of_the_job_that_was_read() {
    let job = operation_job(Some(1), false, &running());
    let table = [
        (Promotion::Next, json!(2)),
        (Promotion::To(3), json!(3)),
        (Promotion::All, json!(null)),
    ];
    for (promotion, expected) in table {
        let patch = patch(&job, Verb::Promote(promotion));
        assert_eq!(patch["spec"], json!({"partition": expected}));
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
    }
}

#[test]
fn promote_is_refused_where_it_would_change_nothing() {
    let table = [
        (
            operation_job(None, false, &running()),
            Promotion::Next,
            "has no partition",
        ),
        (
            operation_job(Some(2), false, &running()),
            Promotion::To(1),
            "may only grow",
        ),
        (
            operation_job(Some(2), false, &running()),
            Promotion::To(2),
            "is 2 already",
        ),
        (
            operation_job(Some(3), false, &running()),
            Promotion::Next,
            "has 3 targets only",
        ),
        (
            operation_job(
                Some(1),
                false,
                &json!({"observedGeneration": 2, "progress": "Failed"}),
            ),
            Promotion::Next,
            "has finished",
        ),
        (
            object(Kind::JobFlow, &json!({"flows": []}), &json!({})),
            Promotion::Next,
            "only an OperationJob or a CollaSet",
        ),
    ];
    for (object, promotion, expected) in table {
        let text = refusal(&object, Verb::Promote(promotion));
        assert!(text.contains(expected), "{text}");
    }
}

fn colla_set(rolling: &Value, updated: i32) -> Object {
    let spec = json!({
        "replicas": 5, "selector": {}, "template": {}, "updateStrategy": {"rollingUpdate": rolling},
    });
    let status = json!({"observedGeneration": 2, "replicas": 5, "updatedReplicas": updated});
    object(Kind::CollaSet, &spec, &status)
}

#[test]
fn promote_lowers_the_partition_of_a_colla_set_which_is_what_it_keeps_back() {
    let table = [
        (3, Promotion::Next, 2, "3 of 5 pods may be updated"),
        (3, Promotion::To(4), 1, "4 of 5 pods may be updated"),
        (3, Promotion::To(9), 0, "all pods may be updated"),
        (3, Promotion::All, 0, "all pods may be updated"),
        (1, Promotion::Next, 0, "all pods may be updated"),
        // More than there are.
        (9, Promotion::Next, 4, "1 of 5 pods may be updated"),
    ];
    for (before, promotion, after, said) in table {
        let set = colla_set(&json!({"byPartition": {"partition": before}}), 2);
        let Ok(Effect::Patch { patch, says }) = effect(&set, Verb::Promote(promotion)) else {
            unreachable!("{before} {promotion:?} is refused");
        };
        let rolling = json!({"byPartition": {"partition": after}});
        assert_eq!(
            patch,
            json!({"metadata": {"resourceVersion": "7"}, "spec": {"updateStrategy": {"rollingUpdate": rolling}}})
        );
        assert_eq!(says, format!("cls/web: {said}"));
    }
}

#[test]
fn promote_of_a_colla_set_is_refused_where_it_would_change_nothing() {
    let keeping = |partition: i32| json!({"byPartition": {"partition": partition}});
    let table = [
        (json!({}), 2, Promotion::Next, "has no partition, so all"),
        (keeping(0), 2, Promotion::All, "has no partition, so all"),
        (
            json!({"byLabel": {}}),
            2,
            Promotion::Next,
            "kubectl label pods POD collaset.kusionstack.io/update-included=true -n default",
        ),
        (keeping(3), 2, Promotion::To(1), "may only grow"),
        (
            keeping(3),
            2,
            Promotion::To(2),
            "2 of 5 pods of cls/web may be updated already",
        ),
        (keeping(3), 5, Promotion::Next, "edit spec.template first"),
    ];
    for (rolling, updated, promotion, expected) in table {
        let text = refusal(&colla_set(&rolling, updated), Verb::Promote(promotion));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn pause_and_resume_write_the_field_of_the_kind() {
    let empty = json!({"observedGeneration": 2});
    let table = [
        (
            operation_job(None, false, &running()),
            json!({"paused": true}),
        ),
        (
            object(Kind::JobFlow, &json!({"flows": []}), &empty),
            json!({"suspend": true}),
        ),
        (
            object(Kind::DaemonJob, &json!({"template": {}}), &empty),
            json!({"rollout": {"paused": true}}),
        ),
        (
            object(Kind::ReactiveJob, &json!({"jobTemplate": {}}), &empty),
            json!({"suspend": true}),
        ),
        (
            object(
                Kind::CollaSet,
                &json!({"selector": {}, "template": {}}),
                &json!({}),
            ),
            json!({"paused": true}),
        ),
    ];
    for (object, expected) in table {
        assert_eq!(patch(&object, Verb::Pause), json!({"spec": expected}));
        let text = refusal(&object, Verb::Resume);
        assert!(text.contains("not paused"), "{text}");
    }
    let paused = operation_job(None, true, &running());
    assert_eq!(
        patch(&paused, Verb::Resume),
        json!({"spec": {"paused": false}})
    );
    assert!(refusal(&paused, Verb::Pause).contains("paused already"));
}

#[test]
fn retry_of_an_operation_job_creates_a_job_of_the_targets_that_failed() {
    let status = json!({"observedGeneration": 2, "progress": "Failed", "targetDetails": [
        {"name": "b", "progress": "Failed"}, {"name": "a", "progress": "Succeeded"}, {"name": "c", "progress": "Failed"},
    ]});
    let job = operation_job(Some(3), true, &status);
    let Ok(Effect::Create { object, says }) = effect(&job, Verb::Retry(now())) else {
        unreachable!("a job is created");
    };
    assert_eq!(
        object["metadata"],
        json!({"name": "web-retry", "namespace": "default"})
    );
    assert_eq!(
        object["spec"]["targets"],
        json!([{"name": "b", "containers": ["main"]}, {"name": "c"}])
    );
    assert_eq!(object["spec"]["maxConcurrent"], 1);
    assert!(object["spec"].get("partition").is_none() && object["spec"].get("paused").is_none());
    assert!(
        says.contains("opj/web-retry created with the 2 targets"),
        "{says}"
    );
}

#[test]
fn retry_is_an_annotation_where_the_controller_retries() {
    let failed = json!({"observedGeneration": 2, "state": "Failed", "failed": 1});
    for (kind, spec) in [
        (Kind::JobFlow, json!({"flows": []})),
        (Kind::DaemonJob, json!({"template": {}})),
    ] {
        let patch = patch(&object(kind, &spec, &failed), Verb::Retry(now()));
        let expected = json!({"operon.dev/retry": "2026-01-01T00:10:00Z"});
        assert_eq!(patch, json!({"metadata": {"annotations": expected}}));
    }
    let table = [
        (operation_job(None, false, &running()), "has not finished"),
        (
            object(
                Kind::JobFlow,
                &json!({"flows": []}),
                &json!({"state": "Running"}),
            ),
            "no step",
        ),
        (
            object(
                Kind::DaemonJob,
                &json!({"template": {}}),
                &json!({"state": "Running"}),
            ),
            "no node",
        ),
        (
            object(Kind::ReactiveJob, &json!({"jobTemplate": {}}), &json!({})),
            "kubectl operon rerun",
        ),
        (
            object(
                Kind::CollaSet,
                &json!({"selector": {}, "template": {}}),
                &json!({}),
            ),
            "by itself",
        ),
    ];
    for (object, expected) in table {
        let text = refusal(&object, Verb::Retry(now()));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn rerun_is_for_reactive_jobs_that_are_not_paused() {
    let job = |suspend: bool| {
        let spec = json!({"jobTemplate": {}, "suspend": suspend});
        object(Kind::ReactiveJob, &spec, &json!({"observedGeneration": 2}))
    };
    let patch = patch(&job(false), Verb::Rerun(now()));
    assert_eq!(
        patch["metadata"]["annotations"]["operon.dev/rerun"],
        "2026-01-01T00:10:00Z"
    );
    assert!(refusal(&job(true), Verb::Rerun(now())).contains("kubectl operon resume"));
    let other = operation_job(None, false, &running());
    assert!(refusal(&other, Verb::Rerun(now())).contains("kubectl operon retry opj/web"));
}

#[test]
fn cancel_deletes_what_has_an_end_and_has_not_come_to_it() {
    let effect_of = effect(&operation_job(None, false, &running()), Verb::Cancel);
    assert!(matches!(effect_of, Ok(Effect::Delete { says }) if says.contains("released first")));
    let finished = operation_job(
        None,
        false,
        &json!({"observedGeneration": 2, "progress": "Succeeded"}),
    );
    assert!(refusal(&finished, Verb::Cancel).contains("`kubectl delete opj/web -n default`"));
    let set = object(
        Kind::CollaSet,
        &json!({"selector": {}, "template": {}}),
        &json!({}),
    );
    assert!(refusal(&set, Verb::Cancel).contains("no end to cancel"));
}

#[test]
fn names_of_retries_count_on() {
    let names = ["web", "web-retry", "web-retry-2", "web-retry-x"].map(crate::verb::next_name);
    assert_eq!(
        names,
        [
            "web-retry",
            "web-retry-2",
            "web-retry-3",
            "web-retry-x-retry"
        ]
    );
    assert_eq!(crate::verb::next_name(&"a".repeat(253)).len(), 253);
}
