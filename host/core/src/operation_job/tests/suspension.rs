//! What targets do while their action is set aside because its calls fault.

use std::time::Duration;

use operon_api::operation_job::{Progress, TargetDetail};

use super::world::{
    World, failed, pending, processing, released, report, said, standing, succeeded,
};
use crate::{
    action::{Failure, OpsProgress},
    action_plugin::breaker::ACTION_SUSPENDED,
    operation_job::{
        Suspended,
        plan::{Cause, TargetStep},
    },
};

/// The action is set aside, and is tried again in so many seconds.
fn suspended(wait: u64) -> Suspended {
    Suspended {
        plugin: "act".to_owned(),
        fault: Failure::new("PluginTrapped", "boom"),
        wait: Duration::from_secs(wait),
    }
}

fn started(name: &str, reason: &str) -> TargetDetail {
    TargetDetail {
        error: Some(said(reason, "it went wrong")),
        ..processing(name)
    }
}

/// The names of the targets that start, and of those that wait for the action.
fn steps(world: &World) -> (Vec<String>, Vec<String>) {
    let (mut starts, mut waits) = (Vec::new(), Vec::new());
    for target in world.run().targets {
        match target.step {
            TargetStep::Start { .. } => starts.push(target.detail.name),
            TargetStep::Await(failure) if failure.reason == ACTION_SUSPENDED => {
                waits.push(target.detail.name);
            }
            _ => {}
        }
    }
    (starts, waits)
}

#[test]
fn no_target_starts_while_its_action_is_set_aside_but_one_that_tries_it() {
    let trial = |reason| vec![started("a", reason)];
    // The targets before the two that are Pending, when the action is tried, how many of the two start, and when
    // time alone changes that.
    for (before, wait, starts, due) in [
        (vec![], 5, 0, Some(5)),
        (vec![], 0, 1, None),
        (vec![failed("a", "Sick")], 5, 0, Some(5)),
        (vec![failed("a", "PluginTrapped")], 0, 1, None),
        (vec![released("a", ACTION_SUSPENDED)], 0, 1, None),
        (vec![succeeded("a")], 0, 1, None),
        // One that has started tries the action.
        (trial(ACTION_SUSPENDED), 0, 0, None),
        (trial(ACTION_SUSPENDED), 5, 0, Some(5)),
        (trial("PluginTrapped"), 0, 0, None),
        // One that waits for something else may not be called for long.
        (trial("NewPodNotReady"), 0, 1, None),
        (vec![processing("a")], 0, 1, None),
    ] {
        let mut details = before.clone();
        details.extend([pending("y"), pending("z")]);
        let mut world = World::with(&details);
        world.suspended = Some(suspended(wait));
        let case = format!("{before:?} {wait}");
        let (found, waits) = steps(&world);
        assert_eq!(found, ["y", "z"][..starts], "{case}");
        assert_eq!(waits, ["y", "z"][starts..], "{case}");
        assert_eq!(world.due(), due, "{case}");
        world.suspended = None;
        assert_eq!(steps(&world).0, ["y", "z"], "{case}");
    }
}

#[test]
fn a_target_that_does_not_start_uses_up_neither_its_deadline_nor_a_place() {
    let mut world = World::new(&["a", "b"]);
    world.job.spec.active_deadline_seconds = Some(60);
    world.job.spec.max_concurrent =
        Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(1));
    world.suspended = Some(suspended(300));
    world.pass(&[]);
    for name in ["a", "b"] {
        let detail = world.detail(name);
        assert_eq!(detail.progress, Progress::Pending);
        assert_eq!(detail.start_time, None);
        let error = detail.error.as_ref().expect("why it waits");
        assert_eq!(error.reason, ACTION_SUSPENDED);
        assert!(error.message.contains("PluginTrapped (boom)"), "{error:?}");
    }
    assert!(standing(world.status()).contains(&("Stalled", ACTION_SUSPENDED)));
    let before = world.status().clone();
    world.now += 3600;
    assert_eq!(world.pass(&[]).status, before, "it is said once");
    world.suspended = Some(suspended(0));
    world.pass(&[]);
    assert_eq!(world.detail("a").progress, Progress::Processing);
    world.suspended = None;
    let done = report(OpsProgress::Succeeded, None);
    world.pass(&[("a", done)]);
    world.pass(&[]);
    let next = world.detail("b");
    assert_eq!((next.progress, &next.error), (Progress::Processing, &None));
}

#[test]
fn what_has_started_goes_on_and_is_released_while_the_action_is_set_aside() {
    let mut world = World::with(&[processing("a"), failed("b", "Sick"), pending("c")]);
    world.suspended = Some(suspended(5));
    let steps = world.steps();
    assert_eq!(
        steps[..2],
        [TargetStep::Operate, TargetStep::Release(Cause::Failed)]
    );
    world.job.spec.active_deadline_seconds = Some(60);
    world.now += 61;
    assert_eq!(world.steps()[0], TargetStep::Release(Cause::Deadline));
    world.delete_job();
    let wanted = [
        TargetStep::Release(Cause::Deleted),
        TargetStep::Release(Cause::Deleted),
        TargetStep::Keep,
    ];
    assert_eq!(world.steps(), wanted);
}
