//! What a pass does to targets of a job that is not being deleted.

use operon_api::operation_job::TargetDetail;

use super::world::{
    START, World, deleted_at, failed, not_found, pending, processing, released, started_at,
    succeeded, time,
};
use crate::{
    action::Failure,
    operation_job::{
        ActionState,
        plan::{Cause, Plan, TargetStep},
    },
};

fn start(name: &str) -> TargetStep {
    TargetStep::Start {
        uid: format!("uid-{name}"),
    }
}

fn not_loaded() -> ActionState {
    ActionState::NotLoaded {
        message: "no such ConfigMap".to_owned(),
        has_failed: true,
    }
}

/// The reason with which a step fails, or waits for the action.
fn reason(step: &TargetStep) -> (&'static str, &str) {
    match step {
        TargetStep::Fail(failure) => ("fail", &failure.reason),
        TargetStep::Await(failure) => ("await", &failure.reason),
        TargetStep::Keep => ("keep", ""),
        TargetStep::Start { .. } => ("start", ""),
        TargetStep::Operate => ("operate", ""),
        TargetStep::Release(_) => ("release", ""),
        TargetStep::Wait(failure) => ("wait", &failure.reason),
        TargetStep::Succeed => ("succeed", ""),
    }
}

/// An API server that drops fields may have dropped `dryRun` or `paused`.
#[test]
fn while_the_api_server_does_not_know_all_fields_no_target_goes_on() {
    let mut world = World::with(&[processing("a"), pending("b")]);
    let lacking = Failure::new("ForeignCRD", "no");
    world.lacking = Some(lacking.clone());
    let waits = TargetStep::Await(lacking);
    assert_eq!(world.steps(), [waits.clone(), waits]);
    assert_eq!(world.due(), Some(5));
    world.delete_job();
    assert_eq!(world.steps()[0], TargetStep::Release(Cause::Deleted));
}

#[test]
fn the_partition_says_how_many_targets_are_operated() {
    for (partition, operated) in [
        (None, 3),
        (Some(0), 0),
        (Some(-1), 0),
        (Some(1), 1),
        (Some(2), 2),
        (Some(3), 3),
        (Some(9), 3),
    ] {
        let mut world = World::new(&["a", "b", "c"]);
        world.job.spec.partition = partition;
        let wanted: Vec<_> = ["a", "b", "c"]
            .iter()
            .enumerate()
            .map(|(rank, name)| {
                if rank < operated {
                    start(name)
                } else {
                    TargetStep::Keep
                }
            })
            .collect();
        assert_eq!(world.steps(), wanted, "partition {partition:?}");
    }
}

#[test]
fn finished_targets_take_their_place_in_the_partition() {
    let details = [
        succeeded("a"),
        released("b", "X"),
        pending("c"),
        pending("d"),
    ];
    for (partition, wanted) in [
        (
            Some(2),
            [
                TargetStep::Keep,
                TargetStep::Keep,
                TargetStep::Keep,
                TargetStep::Keep,
            ],
        ),
        (
            Some(3),
            [
                TargetStep::Keep,
                TargetStep::Keep,
                start("c"),
                TargetStep::Keep,
            ],
        ),
        (
            None,
            [TargetStep::Keep, TargetStep::Keep, start("c"), start("d")],
        ),
    ] {
        let mut world = World::with(&details);
        world.job.spec.partition = partition;
        assert_eq!(world.steps(), wanted, "partition {partition:?}");
    }
}

#[test]
fn targets_that_started_come_first_and_never_fall_out_of_the_partition() {
    let mut world = World::with(&[pending("a"), processing("b"), succeeded("c"), pending("d")]);
    for (partition, first) in [
        (Some(0), TargetStep::Keep),
        (Some(2), TargetStep::Keep),
        (Some(3), start("a")),
    ] {
        world.job.spec.partition = partition;
        let run = world.run();
        let names: Vec<_> = run.targets.iter().map(|t| t.detail.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a", "d"]);
        assert_eq!(
            run.targets.iter().map(|t| t.index).collect::<Vec<_>>(),
            [1, 2, 0, 3]
        );
        assert_eq!(
            world.steps(),
            [
                TargetStep::Operate,
                TargetStep::Keep,
                first,
                TargetStep::Keep
            ]
        );
    }
}

#[test]
fn a_target_that_the_status_does_not_name_is_pending() {
    let mut world = World::with(&[succeeded("a"), pending("b")]);
    let status = world.job.status.as_mut().expect("a status");
    status.target_details.retain(|detail| detail.name == "a");
    assert_eq!(world.steps(), [TargetStep::Keep, start("b")]);
}

#[test]
fn what_the_status_says_of_no_target_is_ignored() {
    let mut world = World::with(&[pending("a")]);
    let status = world.job.status.as_mut().expect("a status");
    status.target_details.push(processing("stranger"));
    assert_eq!(world.steps(), [start("a")]);
}

#[test]
fn a_target_starts_with_the_uid_of_the_pod_that_is_there() {
    let mut world = World::new(&["web-0"]);
    world.add_pod("web-0", "its-successor");
    assert_eq!(
        world.step(),
        TargetStep::Start {
            uid: "its-successor".to_owned()
        }
    );
}

#[test]
fn a_started_target_is_operated_whatever_became_of_its_pod() {
    let mut world = World::with(&[processing("web-0")]);
    world.add_pod("web-0", "its-successor");
    assert_eq!(world.step(), TargetStep::Operate);
    world.pods.clear();
    assert_eq!(world.step(), TargetStep::Operate);
    assert_eq!(
        world.run().targets[0].detail.pod_uid.as_deref(),
        Some("uid-web-0")
    );
}

#[test]
fn a_new_job_waits_a_moment_for_a_pod() {
    for (passed, wanted, due) in [
        (-5, ("keep", ""), Some(3)),
        (0, ("keep", ""), Some(3)),
        (2, ("keep", ""), Some(1)),
        (3, ("fail", "PodNotFound"), None),
        (3600, ("fail", "PodNotFound"), None),
    ] {
        let mut world = World::with(&[pending("a")]);
        world.pods.clear();
        world.now = START + passed;
        assert_eq!(
            (reason(&world.step()), world.due()),
            (wanted, due),
            "after {passed} s"
        );
    }
    let mut unseen = World::new(&["a"]);
    unseen.pods.clear();
    assert_eq!((unseen.step(), unseen.due()), (TargetStep::Keep, Some(3)));
}

#[test]
fn a_missing_pod_outside_the_partition_is_no_failure() {
    let mut world = World::with(&[pending("a"), pending("b")]);
    world.job.spec.partition = Some(1);
    world.pods.remove("b");
    world.now = START + 60;
    assert_eq!(world.steps(), [start("a"), TargetStep::Keep]);
}

#[test]
fn an_action_that_can_not_be_asked_holds_or_fails_a_target() {
    let (new, running) = (pending("a"), processing("a"));
    // The action, the target, seconds since the job was seen; the step, and when it changes.
    let table: &[(ActionState, &TargetDetail, i64, _, Option<u64>)] = &[
        (not_found(), &new, 0, ("await", "ActionNotFound"), Some(30)),
        (not_found(), &new, 29, ("await", "ActionNotFound"), Some(1)),
        (not_found(), &new, 30, ("fail", "ActionNotFound"), None),
        (not_found(), &running, 0, ("await", "ActionNotFound"), None),
        (
            not_found(),
            &running,
            900,
            ("await", "ActionNotFound"),
            None,
        ),
        (not_loaded(), &new, 0, ("await", "ActionNotReady"), None),
        (not_loaded(), &new, 900, ("await", "ActionNotReady"), None),
        (
            not_loaded(),
            &running,
            900,
            ("await", "ActionNotReady"),
            None,
        ),
    ];
    for (action, detail, passed, wanted, due) in table {
        let mut world = World::with(&[(*detail).clone()]);
        world.action = action.clone();
        world.now = START + passed;
        let step = world.step();
        let told = (reason(&step), world.due());
        assert_eq!(
            told,
            (*wanted, *due),
            "{action:?} {:?} after {passed} s",
            detail.progress
        );
        // A missing pod changes nothing: whether it matters, only the action knows.
        world.pods.clear();
        assert_eq!(reason(&world.step()), *wanted);
    }
}

#[test]
fn the_grace_of_an_unknown_action_counts_from_when_its_plugin_was_deleted() {
    // When the plugin was deleted and what time it is, in seconds since the job was seen; the step.
    for (plugin_deleted, now, wanted, due) in [
        (-3600, 29, "await", Some(1)),
        (-3600, 30, "fail", None),
        (900, 900, "await", Some(30)),
        (900, 929, "await", Some(1)),
        (900, 930, "fail", None),
        // A clock that went back fails nothing early.
        (900, 10, "await", Some(30)),
    ] {
        let mut world = World::with(&[pending("a")]);
        world.action = deleted_at(START + plugin_deleted);
        world.now = START + now;
        let step = world.step();
        assert_eq!(
            (reason(&step), world.due()),
            ((wanted, "ActionNotFound"), due),
            "deleted at {plugin_deleted}, now {now}"
        );
    }
}

#[test]
fn an_action_that_can_not_be_asked_leaves_finished_and_waiting_targets_alone() {
    for action in [not_found(), not_loaded()] {
        let mut world = World::with(&[succeeded("a"), failed("b", "X"), pending("c")]);
        world.job.spec.partition = Some(2);
        world.now = START + 900;
        world.action = action;
        assert_eq!(
            world.steps(),
            [TargetStep::Keep, TargetStep::Keep, TargetStep::Keep]
        );
    }
}

#[test]
fn a_job_goes_on_when_its_action_appears_late() {
    let mut world = World::with(&[pending("a")]);
    world.action = not_found();
    world.now = START + 29;
    assert!(matches!(world.step(), TargetStep::Await(_)));
    world.action = ActionState::Loaded;
    assert_eq!(world.step(), start("a"));
}

#[test]
fn every_started_target_has_a_deadline_of_its_own() {
    let mut world = World::with(&[
        started_at("a", START),
        started_at("b", START - 70),
        started_at("c", START - 100),
        started_at("d", START + 50),
        succeeded("e"),
        released("f", "X"),
        pending("g"),
    ]);
    world.job.spec.active_deadline_seconds = Some(100);
    world.job.spec.partition = Some(6);
    let deadline = TargetStep::Release(Cause::Deadline);
    let wanted = [
        TargetStep::Operate,
        TargetStep::Operate,
        deadline.clone(),
        TargetStep::Operate,
        TargetStep::Keep,
        TargetStep::Keep,
        TargetStep::Keep,
    ];
    assert_eq!(world.steps(), wanted);
    assert_eq!(world.due(), Some(30), "the next deadline is that of b");
    world.now = START + 99;
    let over: Vec<_> = world
        .steps()
        .into_iter()
        .map(|step| step == deadline)
        .collect();
    assert_eq!(over, [false, true, true, false, false, false, false]);
    assert_eq!(world.due(), Some(1));
    world.job.spec.active_deadline_seconds = Some(1000);
    assert!(
        !world.steps().contains(&deadline),
        "a raised deadline holds at once"
    );
    world.job.spec.active_deadline_seconds = None;
    assert_eq!(
        (world.steps().contains(&deadline), world.due()),
        (false, None)
    );
}

#[test]
fn a_deadline_holds_though_the_action_can_not_be_asked() {
    for action in [not_found(), not_loaded()] {
        let mut world = World::with(&[processing("a")]);
        world.job.spec.active_deadline_seconds = Some(100);
        world.action = action;
        assert_eq!((reason(&world.step()).0, world.due()), ("await", Some(100)));
        world.now = START + 100;
        assert_eq!(reason(&world.step()), ("fail", "DeadlineExceeded"));
    }
}

#[test]
fn a_clock_that_goes_backwards_delays_no_more_than_the_whole_limit() {
    let mut world = World::with(&[processing("a")]);
    world.job.spec.active_deadline_seconds = Some(100);
    world.now = START - 5000;
    assert_eq!(
        (world.step(), world.due()),
        (TargetStep::Operate, Some(100))
    );
}

#[test]
fn a_failed_target_is_released_until_that_succeeds() {
    let never_started = TargetDetail {
        start_time: None,
        pod_uid: None,
        ..failed("c", "PodNotFound")
    };
    let mut world = World::with(&[failed("a", "X"), released("b", "X"), never_started]);
    assert_eq!(
        world.steps(),
        [
            TargetStep::Release(Cause::Failed),
            TargetStep::Keep,
            TargetStep::Keep
        ]
    );
    world.action = not_loaded();
    assert_eq!(
        world.steps(),
        [TargetStep::Keep, TargetStep::Keep, TargetStep::Keep]
    );
}

#[test]
fn a_finished_job_expires_by_its_ttl_and_nothing_else() {
    // The TTL, when it ended, whether it is being deleted, the deadline; what is due after 50 s.
    let table = [
        (Some(60), Some(START), false, None, Some(Some(10))),
        (Some(50), Some(START), false, None, None),
        (Some(49), Some(START), false, None, None),
        (Some(49), Some(START), false, Some(3600), None),
        (Some(49), Some(START), true, None, Some(None)),
        (Some(49), None, false, None, Some(None)),
        (None, Some(START), false, None, Some(None)),
        (Some(10), Some(START + 90), false, None, Some(Some(10))),
        (Some(-1), Some(START), false, None, Some(None)),
        (Some(-1), Some(START - 100_000), false, None, Some(None)),
    ];
    for (ttl, end, deleted, deadline, wanted) in table {
        let mut world = World::with(&[succeeded("a")]);
        world.job.spec.ttl_seconds_after_finished = ttl;
        world.job.spec.active_deadline_seconds = deadline;
        world.job.status.as_mut().expect("a status").end_time = end.map(time);
        world.now = START + 50;
        if deleted {
            world.delete_job();
        }
        let due = match world.plan() {
            Plan::Expire => None,
            Plan::Run(run) => Some(run.requeue_after.map(|after| after.as_secs())),
        };
        assert_eq!(due, wanted, "TTL {ttl:?}, ended {end:?}, deleted {deleted}");
    }
}

#[test]
fn the_ttl_passes_while_a_failed_target_is_still_released() {
    let mut world = World::with(&[failed("a", "X")]);
    world.job.spec.ttl_seconds_after_finished = Some(60);
    world.job.status.as_mut().expect("a status").end_time = Some(time(START));
    assert_eq!(
        (world.step(), world.due()),
        (TargetStep::Release(Cause::Failed), Some(60))
    );
    world.now = START + 60;
    assert_eq!(world.plan(), Plan::Expire);
}

#[test]
fn failures_name_what_is_missing_and_where_to_look() {
    let mut world = World::with(&[pending("a")]);
    world.now = START + 60;
    world.pods.clear();
    let there_is_none = "pod \"a\" does not exist in namespace \"default\"";
    assert_eq!(
        world.step(),
        TargetStep::Fail(Failure::new("PodNotFound", there_is_none))
    );
    world.action = not_found();
    let TargetStep::Fail(failure) = world.step() else {
        unreachable!("it fails")
    };
    assert!(failure.message.contains("\"Replace\"") && failure.message.contains("kubectl get"));
}
