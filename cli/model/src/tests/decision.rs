use serde_json::{Value, json};

use super::{annotated, metadata, now, object};
use crate::{Decision, Effect, Kind, Object, Promotion, Verb};

fn job(partition: i32, paused: bool, status: &Value) -> Object {
    let targets = json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]);
    let spec =
        json!({"action": "Restart", "targets": targets, "partition": partition, "paused": paused});
    object(Kind::OperationJob, &spec, status)
}

fn running(done: i32) -> Value {
    json!({"observedGeneration": 2, "progress": "Processing", "succeededPodCount": done})
}

fn failed_flow() -> Object {
    let status = json!({"observedGeneration": 2, "state": "Failed"});
    object(Kind::JobFlow, &json!({"flows": []}), &status)
}

fn reactive(suspend: bool) -> Object {
    let spec = json!({"jobTemplate": {}, "suspend": suspend});
    object(Kind::ReactiveJob, &spec, &json!({"observedGeneration": 2}))
}

fn decided(object: &Object, verb: Verb) -> Decision {
    Decision::of(object, verb).expect("an effect")
}

/// The object with another generation, as after a change of its spec.
fn edited(mut object: Object) -> Object {
    metadata(&mut object).generation = Some(3);
    object
}

#[test]
fn a_status_that_moves_on_leaves_what_was_confirmed_and_the_write_is_over_the_newest_version() {
    let mut later = job(1, false, &running(1));
    metadata(&mut later).resource_version = Some("9".to_owned());
    let table = [
        (Verb::Promote(Promotion::Next), json!({"partition": 2})),
        (Verb::Promote(Promotion::All), json!({"partition": null})),
        (Verb::Pause, json!({"paused": true})),
    ];
    for (verb, spec) in table {
        let decision = decided(&job(1, false, &running(0)), verb);
        let shown = decision.effect().written();
        assert_eq!(shown, Some(json!({"spec": spec})));
        let written = decision.confirmed(&later).expect("the same");
        let Effect::Patch { patch, says } = written else {
            unreachable!("{written:?}");
        };
        let metadata = json!({"uid": "u1", "resourceVersion": "9"});
        assert_eq!(patch, json!({"metadata": metadata, "spec": spec}));
        assert_eq!(says, decision.effect().says());
    }
    let decision = decided(&job(1, false, &running(0)), Verb::Cancel);
    assert_eq!(decision.effect().written(), None);
    assert_eq!(decision.confirmed(&later), Ok(decision.effect().clone()));
}

#[test]
fn a_request_keeps_the_time_of_the_question_so_it_is_one_request() {
    let decision = decided(&failed_flow(), Verb::Retry(now()));
    let expected = json!({"operon.dev/retry": "2026-01-01T00:10:00Z"});
    let shown = decision.effect().written();
    assert_eq!(shown, Some(json!({"metadata": {"annotations": expected}})));
    let written = decision.confirmed(&failed_flow()).expect("the same");
    let Effect::Patch { patch, .. } = written else {
        unreachable!("{written:?}");
    };
    let metadata = json!({"annotations": expected, "uid": "u1", "resourceVersion": "7"});
    assert_eq!(patch, json!({ "metadata": metadata }));
}

#[test]
fn an_object_that_was_replaced_edited_steered_or_has_finished_is_left_alone() {
    let before = || job(1, false, &running(0));
    let mut replaced = before();
    metadata(&mut replaced).uid = Some("u2".to_owned());
    let finished = json!({"observedGeneration": 2, "progress": "Succeeded"});
    let next = Verb::Promote(Promotion::Next);
    let (retry, rerun) = (Verb::Retry(now()), Verb::Rerun(now()));
    let changed = "was changed after you looked at it";
    let table = [
        (before(), next, replaced.clone(), "is another object now"),
        (before(), Verb::Cancel, replaced, "is another object now"),
        // Another user promoted.
        (before(), next, edited(job(2, false, &running(0))), changed),
        (
            before(),
            Verb::Pause,
            edited(job(1, true, &running(0))),
            "paused already",
        ),
        (
            before(),
            Verb::Cancel,
            job(1, false, &finished),
            "has finished",
        ),
        (failed_flow(), retry, edited(failed_flow()), changed),
        (
            failed_flow(),
            retry,
            annotated(failed_flow(), "operon.dev/retry", "x"),
            changed,
        ),
        (
            reactive(false),
            rerun,
            annotated(reactive(false), "operon.dev/rerun", "x"),
            changed,
        ),
        (reactive(false), rerun, edited(reactive(true)), "is paused"),
    ];
    for (before, verb, after, expected) in table {
        let text = match decided(&before, verb).confirmed(&after) {
            Err(changed) => changed.to_string(),
            Ok(effect) => unreachable!("{verb:?}: {effect:?}"),
        };
        assert!(text.contains(expected), "{verb:?}: {text}");
    }
}

#[test]
fn a_retry_creates_the_job_that_was_confirmed() {
    let failed = |names: &[&str]| {
        let details = names
            .iter()
            .map(|name| json!({"name": name, "progress": "Failed"}));
        let details: Vec<_> = details.collect();
        json!({"observedGeneration": 2, "progress": "Failed", "targetDetails": details})
    };
    let before = job(3, false, &failed(&["a", "b"]));
    let decision = decided(&before, Verb::Retry(now()));
    assert_eq!(decision.confirmed(&before), Ok(decision.effect().clone()));
    // As many, but others.
    let after = job(3, false, &failed(&["a", "c"]));
    assert!(decision.confirmed(&after).is_err());
}

#[test]
fn a_verb_that_fits_later_is_distinguished_from_one_that_does_not_fit() {
    let some_failed = json!({"observedGeneration": 2, "progress": "Processing",
        "targetDetails": [{"name": "a", "progress": "Failed"}]});
    let finished = json!({"observedGeneration": 2, "progress": "Succeeded"});
    let table = [
        (job(1, false, &some_failed), Verb::Retry(now()), true),
        (job(1, false, &running(0)), Verb::Retry(now()), false),
        (reactive(true), Verb::Rerun(now()), true),
        (failed_flow(), Verb::Rerun(now()), false),
        (job(1, false, &finished), Verb::Pause, false),
        (job(1, false, &running(0)), Verb::Resume, false),
    ];
    for (object, verb, expected) in table {
        let refusal = Decision::of(&object, verb).expect_err("a refusal");
        assert_eq!(refusal.is_for_now(), expected, "{verb:?}: {refusal}");
    }
}
