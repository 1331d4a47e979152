//! Dry runs: nothing changes, so nothing is released.

use operon_api::operation_job::Progress;
use serde_json::json;

use super::world::{World, failed, pending, processing, retry, standing, terminal};
use crate::{
    action::{Effect, ObjectReference, PatchKind, Severity},
    operation_job::{conclude::Answer, dry_run::lines, plan::TargetStep},
};

fn tried(line: &str) -> Answer {
    Answer::Tried {
        effects: vec![line.to_owned()],
    }
}

fn world() -> World {
    let mut world = World::with(&[processing("a"), pending("b")]);
    world.job.spec.dry_run = true;
    world
}

#[test]
fn a_target_of_a_dry_run_succeeds_with_what_would_be_done_to_it() {
    let mut world = world();
    let start = TargetStep::Start {
        uid: "uid-b".to_owned(),
    };
    assert_eq!(world.steps(), [TargetStep::Operate, start]);
    world.pass(&[("a", tried("evict Pod a"))]);
    assert_eq!(world.detail("a").progress, Progress::Succeeded);
    assert_eq!(world.detail("a").dry_run, ["evict Pod a"]);
    let conclusion = world.pass(&[("b", tried("evict Pod b"))]);
    assert_eq!(standing(&conclusion.status), [("Ready", "Succeeded")]);
    assert_eq!(
        conclusion.status.conditions[0].message,
        "2 of 2 targets succeeded in a dry run, which changes nothing"
    );
}

#[test]
fn what_is_refused_fails_and_is_not_released() {
    let mut world = world();
    world.pass(&[("a", terminal("no"))]);
    assert_eq!(world.detail("a").progress, Progress::Failed);
    assert_eq!(world.steps()[0], TargetStep::Keep);
    world.pass(&[("b", retry("busy", None))]);
    assert_eq!(world.steps()[1], TargetStep::Operate);
}

#[test]
fn a_target_that_ends_early_fails_without_a_call() {
    let mut late = world();
    late.job.spec.active_deadline_seconds = Some(10);
    late.now += 10;
    let mut deleted = world();
    deleted.delete_job();
    let mut canceled = world();
    canceled.pass(&[]);
    let status = canceled.job.status.as_mut().expect("a status");
    status.canceled_time = status.start_time.clone();
    for (mut world, reason) in [
        (late, "DeadlineExceeded"),
        (deleted, "Canceled"),
        (canceled, "Canceled"),
    ] {
        assert!(world.steps().iter().all(|step| step.question().is_none()));
        let conclusion = world.pass(&[]);
        let error = world.detail("a").error.clone().expect("an error");
        assert_eq!(error.reason, reason);
        assert_eq!(world.steps()[0], TargetStep::Keep);
        let is_deleted = world.job.metadata.deletion_timestamp.is_some();
        assert!(conclusion.released || !is_deleted);
    }
    let mut old = World::with(&[failed("a", "X")]);
    old.job.spec.dry_run = true;
    assert_eq!(old.step(), TargetStep::Keep);
}

#[test]
fn effects_are_listed_within_a_limit() {
    let pod = |name: &str| ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.to_owned(),
    };
    let patch = |subresource: Option<&str>, body| Effect::Patch {
        object: pod("web-0"),
        subresource: subresource.map(str::to_owned),
        kind: PatchKind::Merge,
        body,
        uid: None,
        resource_version: None,
    };
    let evict = Effect::Evict {
        pod: "web-0".to_owned(),
        uid: None,
        resource_version: None,
        grace_period_seconds: None,
    };
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    let effects = [
        patch(None, json!({"metadata": {"labels": {"a": "b"}}})),
        patch(Some("resize"), json!({})),
        Effect::Create(body.clone()),
        Effect::Apply(body),
        evict.clone(),
        Effect::Event {
            severity: Severity::Normal,
            reason: "Done".to_owned(),
            message: "it is".to_owned(),
        },
    ];
    assert_eq!(
        lines(&effects, true),
        [
            r#"patch Pod web-0: {"metadata":{"labels":{"a":"b"}}}"#,
            "patch Pod web-0, resize: {}",
            r#"create ConfigMap c: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}"#,
            r#"apply ConfigMap c: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}"#,
            "evict Pod web-0",
            "event Done: it is",
        ]
    );
    assert_eq!(lines(&[], true), ["nothing"]);
    assert_eq!(
        lines(&[evict], false),
        [
            "evict Pod web-0",
            "further steps follow, which a dry run cannot show"
        ]
    );
    let long = patch(None, json!({"text": "x".repeat(2000)}));
    let many = vec![long; 100];
    for count in [1, 2, 3, 100] {
        let listed = lines(&many[..count], false);
        let bytes: usize = listed.iter().map(String::len).sum();
        assert!(bytes <= 512, "{bytes}");
        assert!(listed[0].starts_with("patch Pod web-0: {\"text\":\"xxx"));
        let rest = format!("and {} more", count - 1);
        assert_eq!(listed.contains(&rest), count > 1, "{listed:?}");
        let last = listed.last().map(String::as_str);
        assert_eq!(
            last,
            Some("further steps follow, which a dry run cannot show")
        );
    }
}
