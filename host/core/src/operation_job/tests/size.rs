//! A large job's object, in each of its worst moments, is one that an API server stores.

use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};
use serde_json::{Map, Value, json};

use super::world::{
    World, attributes, condition, failed, pending, plugin, processing, released, said, succeeded,
    terminal,
};
use crate::{
    action::Failure,
    operation_job::{
        plan::{Cause, TargetStep},
        size::{self, is_under_way},
    },
};

/// The most bytes of an object.
pub(super) const OBJECT: usize = 1_572_864;

/// How a user creates the job: that determines the rest of `metadata`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Made {
    ByServerSideApply,
    ByClientSideApply,
}

/// So many names of this length.
pub(super) fn names(count: usize, length: usize) -> Vec<String> {
    let stem = "a".repeat(length - 5);
    (0..count)
        .map(|number| format!("{stem}{number:05}"))
        .collect()
}

pub(super) fn world(names: &[String], detail: impl Fn(&str) -> TargetDetail) -> World {
    let details: Vec<_> = names.iter().map(|name| detail(name)).collect();
    let mut world = World::with(&details);
    for name in names {
        world.add_pod(name, UID);
    }
    world
}

/// How many targets of a job may be in progress, of which none is.
fn window(job: &OperationJob) -> Result<usize, Failure> {
    size::window(job, std::iter::empty())
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

const UID: &str = "7f2c1f0e-8f0b-4a6d-9d57-0d8a9c1f4b11";

/// The detail with its long fields.
fn full(detail: TargetDetail) -> TargetDetail {
    let new_pod = detail.name.clone();
    let mut extra_info = detail.extra_info;
    let owner = &detail.name[..detail.name.len().saturating_sub(6)];
    extra_info.insert("Owner".to_owned(), format!("{owner}@1764331200"));
    extra_info.insert("NewPod".to_owned(), new_pod);
    let error = detail
        .error
        .map(|error| said(&error.reason, &"long ".repeat(200)));
    TargetDetail {
        pod_uid: Some(UID.to_owned()),
        extra_info,
        error,
        ..detail
    }
}

/// The size of the job as it is stored, with the field managers that its maker leaves.
pub(super) fn stored(world: &World, made: Made) -> usize {
    let mut job = serde_json::to_value(&world.job).expect("JSON");
    let targets: Map<String, Value> = world
        .job
        .spec
        .targets
        .iter()
        .map(|target| {
            (
                format!("k:{{\"name\":{:?}}}", target.name),
                json!({ ".": {}, "f:name": {} }),
            )
        })
        .collect();
    let entry = |manager: &str, operation: &str, fields: Value| {
        json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1",
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
            "manager": manager,
            "operation": operation,
            "time": "2024-09-13T08:47:43Z",
        })
    };
    let mut fields =
        json!({ "f:spec": { "f:action": {}, "f:partition": {}, "f:targets": targets } });
    if made == Made::ByClientSideApply {
        let managed = json!({ ".": {}, format!("f:{LAST_APPLIED}"): {} });
        fields["f:metadata"] = json!({ "f:annotations": managed });
    }
    let status = json!({ "f:status": { "f:targetDetails": {}, "f:conditions": {} } });
    job["metadata"]["managedFields"] = json!([
        entry("kubectl", "Apply", fields),
        entry("operon-operationjob", "Apply", status),
    ]);
    serde_json::to_vec(&job).expect("JSON").len()
}

/// The world with what its maker leaves besides the spec.
fn made_by(mut world: World, made: Made) -> World {
    if made == Made::ByClientSideApply {
        let last = json!({ "spec": world.job.spec }).to_string();
        world.job.metadata.annotations = Some(attributes(&[(LAST_APPLIED, &last)]));
    }
    world
}

#[test]
fn an_object_in_its_worst_moments_can_be_stored() {
    let sick = |name: &str| full(failed(name, "DeadlineExceeded"));
    let clean = |name: &str| full(released(name, "DeadlineExceeded"));
    let done = |name: &str| full(succeeded(name));
    let running = |name: &str| full(processing(name));
    // How many targets, how long their names, how the job is created.
    for (count, length, made) in [
        (10_000, 9, Made::ByClientSideApply),
        (10_000, 20, Made::ByServerSideApply),
        (5_000, 60, Made::ByServerSideApply),
    ] {
        let names = names(count, length);
        let window = window(&made_by(world(&names, pending), made).job).expect("it fits");
        // As many as may be are under way, the others are done.
        let mixed = |first: &dyn Fn(&str) -> TargetDetail, rest: &dyn Fn(&str) -> TargetDetail| {
            let (ahead, behind) = names.split_at(window.min(count));
            let details = ahead.iter().map(|name| first(name));
            details
                .chain(behind.iter().map(|name| rest(name)))
                .collect::<Vec<_>>()
        };
        for (moment, details) in [
            ("failed and released", mixed(&clean, &clean)),
            ("under way, others pending", mixed(&running, &pending)),
            ("under way, others succeeded", mixed(&running, &done)),
            ("under way, others failed", mixed(&running, &clean)),
            ("not released, others failed", mixed(&sick, &clean)),
        ] {
            let mut world = made_by(World::with(&details), made);
            world.pass(&[]);
            let size = stored(&world, made);
            assert!(
                size < OBJECT,
                "{count} x {length} {made:?} {moment}: {size}"
            );
        }
    }
}

#[test]
fn a_job_of_ordinary_size_says_everything_and_starts_all_at_once() {
    let names = names(1_000, 40);
    let mut fresh = world(&names, pending);
    fresh.pass(&[]);
    assert!(
        fresh
            .status()
            .target_details
            .iter()
            .all(|d| d.progress == Progress::Processing)
    );
    let done = |name: &str| full(succeeded(name));
    let mut world = world(&names, done);
    world.pass(&[]);
    let wanted: Vec<_> = names.iter().map(|name| done(name)).collect();
    assert_eq!(world.status().target_details, wanted);
}

#[test]
fn a_large_job_starts_as_many_targets_as_its_status_has_room_for() {
    let names = names(10_000, 20);
    let mut world = world(&names, pending);
    let window = window(&world.job).expect("it fits");
    assert!((50..1_000).contains(&window), "{window}");
    world.pass(&[]);
    assert_eq!(
        world.status().target_details.len(),
        window,
        "the others are absent, and so Pending"
    );
    assert_eq!(world.status().total_pod_count, Some(10_000));
    assert!(
        world.steps()[window..]
            .iter()
            .all(|step| *step == TargetStep::Keep)
    );
    // One is done: one more starts. One fails: its place is free when it is released.
    let (first, second) = (names[0].as_str(), names[1].as_str());
    let done = super::world::report(crate::action::OpsProgress::Succeeded, None);
    world.pass(&[(first, done), (second, terminal("no"))]);
    let starts = |world: &World| {
        world
            .steps()
            .iter()
            .filter(|step| matches!(step, TargetStep::Start { .. }))
            .count()
    };
    assert_eq!(starts(&world), 1);
    world.pass(&[(second, super::world::clean())]);
    assert_eq!(starts(&world), 1);
    let running = world
        .status()
        .target_details
        .iter()
        .filter(|d| is_under_way(d))
        .count();
    assert_eq!(running, window - 1);
}

#[test]
fn a_job_whose_names_leave_no_room_says_so_and_starts_nothing() {
    let names = names(10_000, 60);
    let mut world = world(&names, pending);
    let told = world.pass(&[]);
    assert_eq!(world.status().target_details, []);
    let stalled = condition(world.status(), "Stalled").expect("it can't go on");
    assert_eq!(stalled.reason, "JobTooLarge");
    assert!(
        stalled.message.contains("10000 targets"),
        "{}",
        stalled.message
    );
    assert_eq!(told.events.len(), 1);
    assert!(
        stored(&world, Made::ByServerSideApply) > OBJECT,
        "it could not be stored anyway"
    );
    let before = world.status().clone();
    assert_eq!(world.pass(&[]).status, before);
    world.delete_job();
    assert!(world.pass(&[]).released);
}

#[test]
fn a_large_job_forgets_the_least_useful_first_and_nothing_that_it_needs() {
    let names = names(10_000, 15);
    let detail = |name: &str| match &name[14..] {
        "0" => full(processing(name)),
        "1" => full(failed(name, "Sick")),
        "2" | "3" => full(released(name, "Late")),
        "4" => pending(name),
        _ => full(succeeded(name)),
    };
    let mut world = world(&names, detail);
    world.job.spec.partition = Some(9_000);
    world.pass(&[]);
    let status = world.status();
    assert_eq!(status.target_details.len(), 9_000);
    let count = |wanted| {
        status
            .target_details
            .iter()
            .filter(|d| d.progress == wanted)
            .count()
    };
    assert_eq!(
        (count(Progress::Processing), count(Progress::Failed)),
        (1_000, 3_000)
    );
    for detail in &status.target_details {
        let needed = is_under_way(detail);
        assert_eq!(detail.start_time.is_some(), needed, "{detail:?}");
        assert_eq!(detail.pod_uid.is_some(), needed, "{detail:?}");
        if needed {
            assert!(detail.extra_info.contains_key("NewPod"), "{detail:?}");
        }
    }
    // What each target needs is what it needed before.
    let steps = world.steps();
    assert_eq!(
        steps
            .iter()
            .filter(|step| **step == TargetStep::Operate)
            .count(),
        1_000
    );
    assert_eq!(
        steps
            .iter()
            .filter(|step| **step == TargetStep::Release(Cause::Failed))
            .count(),
        1_000
    );
    assert_eq!(
        steps
            .iter()
            .filter(|step| **step == TargetStep::Keep)
            .count(),
        8_000
    );
}

#[test]
fn the_first_failures_stay_explained_and_the_job_with_them() {
    let names = names(10_000, 9);
    let mut world = world(&names, |name| full(released(name, "Late")));
    world.pass(&[]);
    let status = world.status().clone();
    let first = status.target_details[0].error.clone().expect("an error");
    assert!(first.message.starts_with("long long"), "{first:?}");
    let stalled = condition(&status, "Stalled").expect("it failed").clone();
    assert!(
        stalled
            .message
            .ends_with(&format!("{}: Late: {}", names[0], first.message))
    );
    assert_eq!(
        (stalled.reason.as_str(), status.failed_pod_count),
        ("Late", Some(10_000))
    );
    let again = world.pass(&[]);
    assert_eq!(again.status, status, "shortened twice is shortened once");
    assert_eq!(again.events, []);
}

#[test]
fn events_of_a_large_job_have_their_message_though_the_status_has_not() {
    let names = names(10_000, 15);
    let last = names[9_999].as_str();
    let mut world = world(&names, |name| {
        if name == last {
            processing(name)
        } else {
            full(released(name, "Late"))
        }
    });
    world.pass(&[(last, plugin("not yet"))]);
    let told = world.pass(&[(last, terminal("no such quota"))]);
    let message = format!("{last}: Forbidden: no such quota");
    assert_eq!(told.events[0].message, message);
}

#[test]
fn long_texts_are_cut_between_characters() {
    let long = |name: &str| TargetDetail {
        error: Some(said("X", &"é".repeat(900))),
        ..released(name, "X")
    };
    let mut world = World::with(&[long("a")]);
    world.pass(&[]);
    let message = &world.detail("a").error.as_ref().expect("an error").message;
    assert_eq!(message.as_str(), "é".repeat(512));
}

#[test]
fn a_job_of_few_targets_that_say_much_is_shortened_too() {
    let names = names(600, 20);
    let chatty = |name: &str| {
        let extra_info = attributes(&[("log", &"x".repeat(1000))]);
        TargetDetail {
            extra_info,
            error: Some(said("Wait", &"y".repeat(1000))),
            ..processing(name)
        }
    };
    let mut world = world(&names, chatty);
    world.pass(&[]);
    assert!(stored(&world, Made::ByServerSideApply) < OBJECT);
    let kept = |detail: &TargetDetail| detail.extra_info["log"].len() == 1000;
    assert!(
        world.status().target_details.iter().all(kept),
        "what an action records stays"
    );
}
