//! A Job that can't progress: after its deadline the status reports what it waits for, and not before; when
//! the cause is resolved, the report disappears.

use std::time::Duration;

use operon_api::{
    conditions::{READY, RECONCILING, STALLED},
    reactive_job::State,
};
use serde_json::{Value, json};

use super::world::{START, World, running, time};
use crate::{
    action::Failure,
    driver::{Question, memory::Reconciles as _},
};

/// A pod that has a node, and a container that waits.
fn waiting(reason: &str, message: &str) -> Value {
    json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": time(START)}],
        "containerStatuses": [
            {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}},
        ],
    })
}

/// A pod that has no node.
fn without_node(reason: Option<&str>) -> Value {
    json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": reason,
        "message": "0/3 nodes are available", "lastTransitionTime": time(START),
    }]})
}

/// An object with a Job that has such pods.
fn with_pods(pods: &[Value]) -> World {
    let mut world = World::new();
    world.settle();
    let newest = world.newest();
    for (place, status) in pods.iter().enumerate() {
        world.add_pod(&newest, &format!("pod-{place}"), status.clone());
    }
    world.settle();
    world
}

/// The pods of its Job are replaced by one of this status.
fn set_pod(world: &mut World, status: Value) {
    world.pods.clear();
    world.add_pod(&world.newest(), "pod-0", status);
}

fn requeue_after(world: &World) -> Option<u64> {
    let conclusion = world.clone().pass().expect("a conclusion");
    conclusion.requeue_after.as_ref().map(Duration::as_secs)
}

#[test]
fn what_a_job_waits_for_is_said_after_the_deadline_and_no_longer_than_it_is_so() {
    let cases = [
        (
            without_node(Some("Unschedulable")),
            "Unschedulable",
            "pod \"pod-0\" is not scheduled: 0/3 nodes are available",
        ),
        (
            without_node(Some("SchedulingGated")),
            "SchedulingGated",
            "pod \"pod-0\" is not scheduled: 0/3 nodes are available",
        ),
        (
            without_node(None),
            "Unschedulable",
            "pod \"pod-0\" is not scheduled: 0/3 nodes are available",
        ),
        (
            waiting("ErrImagePull", "not found"),
            "ImagePullBackOff",
            "container \"main\" of pod \"pod-0\": not found",
        ),
        (
            waiting(
                "CreateContainerConfigError",
                "configmap \"settings\" not found",
            ),
            "CreateContainerConfigError",
            "container \"main\" of pod \"pod-0\": configmap \"settings\" not found",
        ),
        (
            waiting("ContainerCreating", ""),
            "ContainerCreating",
            "pod \"pod-0\" does not start: no Warning Event about it was found",
        ),
    ];
    for (pod, reason, message) in cases {
        for (seconds, set) in [(300, None), (7, Some(7))] {
            let mut world = with_pods(&[]);
            world.object.spec.progress_deadline_seconds = set;
            set_pod(&mut world, pod.clone());
            world.settle();
            assert_eq!(
                world.condition(RECONCILING).reason,
                "JobRunning",
                "{reason}"
            );
            assert_eq!(requeue_after(&world), Some(seconds.min(10)));
            let job = world.newest();
            if set.is_none() {
                // What lasts longer than a moment is named, and is no fault yet.
                let status = world.status().clone();
                world.now += 9;
                assert_eq!(*world.settle(), status);
                world.now += 1;
                world.settle();
                let said = format!(
                    "waiting for job to complete; Job {job:?} does not progress yet: {reason}: {message}"
                );
                assert_eq!(world.condition(RECONCILING).message, said);
                assert_eq!(world.condition(READY).message, said);
                assert_eq!(world.condition(RECONCILING).reason, "JobRunning");
                assert_eq!(requeue_after(&world), Some(290));
                world.now -= 10;
            }
            world.now += i64::try_from(seconds).expect("a time") - 1;
            let status = world.status().clone();
            assert_eq!(*world.settle(), status, "not a second too early");
            assert_eq!(requeue_after(&world), Some(1));

            world.now += 1;
            assert_eq!(world.settle().state, Some(State::Processing));
            assert_eq!(
                world.standing(),
                [(READY, "Unknown", "Processing"), (STALLED, "True", reason)]
            );
            let said =
                format!("waiting for job to complete; Job {job:?} can't progress: {message}");
            assert_eq!(world.condition(STALLED).message, said);
            assert_eq!(world.condition(READY).message, said);
            assert_eq!(world.events(), ["RunStarted", "Stalled"]);
            assert_eq!(requeue_after(&world), None);

            set_pod(&mut world, running());
            world.settle();
            assert_eq!(
                world.standing(),
                [
                    (READY, "Unknown", "Processing"),
                    (RECONCILING, "True", "JobRunning")
                ]
            );
            world.succeed(&job);
            assert_eq!(world.settle().state, Some(State::Ready));
            assert_eq!(world.events(), ["RunSucceeded"]);
        }
    }
}

#[test]
fn a_job_without_pods_says_what_forbids_them() {
    let mut world = with_pods(&[]);
    assert_eq!(requeue_after(&world), Some(10));
    world.warning = Some(Failure::new("FailedCreate", "exceeded quota: pods"));
    world.now += 10;
    world.settle();
    let early = "does not progress yet: FailedCreate: no pod of the Job has been created: exceeded quota: pods";
    assert!(world.condition(READY).message.ends_with(early));
    world.now += 100;
    world.settle();
    assert_eq!(world.asked, [Question::Warning("job-1".to_owned())], "once");
    world.asked.clear();
    world.now += 190;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "FailedCreate");
    assert!(
        world
            .condition(STALLED)
            .message
            .ends_with("can't progress: no pod of the Job has been created: exceeded quota: pods")
    );
    // The message stays, and is not requested again.
    world.warning = None;
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "FailedCreate");
    assert_eq!(world.asked, [Question::Warning("job-1".to_owned())]);
    // The time counts from when the Job was started, which may be later than its creation.
    let newest = world.newest();
    let started = time(world.now);
    let status = world.job_mut(&newest).status.get_or_insert_default();
    status.start_time = Some(started);
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "JobRunning");
    assert_eq!(requeue_after(&world), Some(10));
}

#[test]
fn a_pod_that_does_not_start_says_why() {
    let mut world = with_pods(&[waiting("ContainerCreating", "")]);
    world.warning = Some(Failure::new("FailedMount", "configmap \"x\" not found"));
    world.now += 300;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "FailedMount");
    let message = &world.condition(STALLED).message;
    assert!(message.ends_with("pod \"pod-0\" does not start: configmap \"x\" not found"));
    assert_eq!(world.asked, [Question::Warning("uid-pod-0".to_owned())]);
}

#[test]
fn a_job_that_gets_on_by_one_of_its_pods_does_not_stall() {
    let stuck = waiting("ImagePullBackOff", "not found");
    let over = json!({"phase": "Failed"});
    for (others, stalls) in [
        (vec![running()], false),
        (vec![over.clone()], true),
        (vec![waiting("ContainerCreating", "")], true),
        (
            vec![json!({"phase": "Pending", "containerStatuses": [
                {"name": "main", "state": {"terminated": {"exitCode": 0}}},
            ]})],
            false,
        ),
    ] {
        let mut pods = vec![stuck.clone()];
        pods.extend(others);
        let mut world = with_pods(&pods);
        world.now += 300;
        world.settle();
        let is_stalled = world.standing()[1].0 == STALLED;
        assert_eq!(is_stalled, stalls, "{pods:?}");
    }
    // Between two tries, all of its pods are over.
    let mut world = with_pods(&[over]);
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "JobRunning");
}

#[test]
fn a_job_that_is_suspended_or_over_waits_for_nothing() {
    let mut world = with_pods(&[]);
    let newest = world.newest();
    let spec = world.job_mut(&newest).spec.get_or_insert_default();
    spec.suspend = Some(true);
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "JobSuspended");
    world.succeed(&newest);
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.asked, []);
}

#[test]
fn words_that_come_and_go_while_a_job_is_blocked_are_not_written() {
    let pull = |reason: &str, message: &str| waiting(reason, message);
    let words = [
        pull("ErrImagePull", "failed to pull: 404"),
        pull("ImagePullBackOff", "Back-off pulling image \"x\""),
        pull("ContainerCreating", ""),
        pull("ImagePullBackOff", "Back-off pulling image \"x\" (2)"),
    ];
    // Alone, and beside a pod that waits for something else as long.
    let other = waiting("CreateContainerConfigError", "secret \"x\" not found");
    for others in [vec![], vec![other]] {
        let mut world = with_pods(&[]);
        let newest = world.newest();
        for (round, word) in words.iter().cycle().take(20).enumerate() {
            world.pods.clear();
            world.add_pod(&newest, "pod-0", word.clone());
            for other in &others {
                world.add_pod(&newest, "pod-1", other.clone());
            }
            world.now += 50;
            let written = world.status_writes;
            world.settle();
            // What it waits for is reported once soon, and once after 300 s.
            let writes = world.status_writes - written;
            assert_eq!(writes, usize::from(round == 0 || round == 5), "{round}");
        }
        assert_eq!(world.condition(STALLED).reason, "ImagePullBackOff");
        assert_eq!(world.events(), ["RunStarted", "Stalled"]);
    }
}

#[test]
fn a_blocked_job_that_waits_for_something_else_now_says_that() {
    let mut world = with_pods(&[without_node(Some("Unschedulable"))]);
    world.now += 300;
    world.settle();
    set_pod(&mut world, waiting("ImagePullBackOff", "not found"));
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "ImagePullBackOff");
    for missing in ["configmap \"a\" not found", "configmap \"b\" not found"] {
        set_pod(&mut world, waiting("CreateContainerConfigError", missing));
        world.settle();
        let message = &world.condition(STALLED).message;
        assert!(message.ends_with(missing), "{message}");
    }
    assert_eq!(
        world.events(),
        ["RunStarted", "Stalled", "Stalled", "Stalled"]
    );
}

#[test]
fn a_refusal_is_not_taken_for_what_a_job_waits_for() {
    let mut world = with_pods(&[]);
    world.now += 300;
    world.refusal = Some(Failure::new("Invalid", "spec: too bad"));
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "Invalid");
    world.edit_digest("abc123");
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "NoPods");
    assert!(!world.condition(STALLED).message.contains("too bad"));
    assert_eq!(world.made, 1);
}

#[test]
fn a_new_job_has_its_own_time() {
    let mut world = with_pods(&[]);
    world.now += 300;
    world.settle();
    assert_eq!(world.condition(STALLED).reason, "NoPods");
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "JobRunning");
    assert_eq!(requeue_after(&world), Some(10));
}
