//! Jobs that are suspended: by the object, by a queue, or by a user; and objects of other controllers.

use kube::ResourceExt;
use operon_api::{
    conditions::{RECONCILING, STALLED, find},
    daemon_job::FlowState,
    keys,
};
use serde_json::json;

use super::world::World;
use crate::{driver::memory::Reconciles as _, jobs};

/// What Kueue, or `kubectl patch`, does to a Job.
fn set_suspend(world: &mut World, job: &str, suspend: bool) {
    let job = world.jobs.get_mut(job).expect("a Job");
    job.spec.get_or_insert_default().suspend = Some(suspend);
}

fn suspended(world: &World) -> Vec<&str> {
    let jobs = world.jobs.iter();
    let jobs = jobs.filter(|(_, job)| jobs::is_suspended(job));
    jobs.map(|(name, _)| name.as_str()).collect()
}

fn suspend(world: &mut World, is_suspended: bool) {
    world.edit(|spec| spec["suspend"] = json!(is_suspended));
}

#[test]
fn an_edit_of_the_ttl_changes_nothing_else_of_a_job_that_a_queue_holds() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    set_suspend(&mut world, "dj-a", true);
    let spec = world.job("dj-a").spec.clone();
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(900));
    world.settle();
    assert_eq!((world.made, world.job("dj-a").spec.clone()), (2, spec));
    assert_eq!(world.job("dj-a").annotations()[keys::TTL], "900");

    set_suspend(&mut world, "dj-a", false);
    for node in ["a", "b"] {
        world.succeed(node);
    }
    world.settle();
    let ttl = |world: &World| {
        let spec = world.job("dj-a").spec.as_ref();
        spec.and_then(|spec| spec.ttl_seconds_after_finished)
    };
    assert_eq!(ttl(&world), Some(900));
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(60));
    world.settle();
    assert_eq!((ttl(&world), world.made), (Some(60), 2));
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(null));
    world.settle();
    assert_eq!((ttl(&world), world.state()), (None, FlowState::Succeed));
}

#[test]
fn a_job_that_another_controller_suspends_is_waited_for_and_its_holder_is_named() {
    for (queue, who) in [
        (
            None,
            "Job \"dj-a\" on node \"a\" is suspended by another controller or by a user",
        ),
        (
            Some("gpu"),
            "Job \"dj-a\" on node \"a\" is suspended by the queue \"gpu\"",
        ),
    ] {
        let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1, timeoutSeconds: 60}");
        if let Some(queue) = queue {
            let labels = world.object.labels_mut();
            labels.insert(keys::QUEUE_NAME.to_owned(), queue.to_owned());
        }
        world.settle();
        let label = world.job("dj-a").labels().get(keys::QUEUE_NAME).cloned();
        assert_eq!(
            label.as_deref(),
            queue,
            "the Job goes through the same queue"
        );
        set_suspend(&mut world, "dj-a", true);
        world.settle();
        for _ in 0..3 {
            world.now += 3600;
            world.settle();
        }
        assert_eq!(world.condition(RECONCILING).reason, "JobSuspended",);
        assert!(find(&world.status().conditions, STALLED).is_none());
        assert!(world.said().contains("1 suspended"), "{}", world.said());
        assert!(world.said().contains(who), "{}", world.said());
        assert_eq!((world.made, world.status().failed), (1, Some(0)));

        set_suspend(&mut world, "dj-a", false);
        world.settle();
        assert_eq!(world.condition(RECONCILING).reason, "Running");
        world.succeed("a");
        world.settle();
        assert_eq!(world.busy(), ["b"]);
    }
}

#[test]
fn suspend_holds_the_jobs_that_run_and_those_that_are_to_come_and_nothing_begins_anew() {
    let mut world = World::with_rollout(&["a", "b", "c"], "{parallelism: 2}");
    world.settle();
    suspend(&mut world, true);
    world.settle();
    assert_eq!((suspended(&world), world.made), (vec!["dj-a", "dj-b"], 2));
    assert_eq!(world.condition(RECONCILING).reason, "Suspended");
    assert!(
        world.said().contains("spec.suspend is true"),
        "{}",
        world.said()
    );
    world.wait(100_000);
    world.settle();
    assert!(find(&world.status().conditions, STALLED).is_none());
    world.delete_job("dj-b", false);
    world.settle();
    assert_eq!(world.made, 2, "no Job is made");

    suspend(&mut world, false);
    world.settle();
    assert_eq!(suspended(&world), [""; 0]);
    assert_eq!(world.busy(), ["a", "b"]);
    for node in ["a", "b", "c"] {
        world.succeed(node);
        world.settle();
    }
    assert_eq!((world.state(), world.made), (FlowState::Succeed, 4));
}

#[test]
fn what_a_queue_holds_or_resumed_is_left_to_the_queue() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    set_suspend(&mut world, "dj-a", true);
    suspend(&mut world, true);
    world.settle();
    assert_eq!(suspended(&world), ["dj-a", "dj-b"]);
    set_suspend(&mut world, "dj-b", false);
    world.settle();
    assert_eq!(suspended(&world), ["dj-a"], "there is no fight about it");
    suspend(&mut world, false);
    world.settle();
    assert_eq!(suspended(&world), ["dj-a"], "the queue holds it still");
}

#[test]
fn of_an_object_that_another_controller_runs_nothing_is_written() {
    let mut world = World::new(&["a", "b"]);
    world.edit(|spec| spec["managedBy"] = json!("kueue.x-k8s.io/multikueue"));
    world.pass();
    assert_eq!((world.writes, world.object.status.is_some()), (0, false));

    for own in [
        json!("operon.dev/operon"),
        json!("kubernetes.io/job-controller"),
    ] {
        world.edit(|spec| spec["managedBy"] = own);
        world.settle();
        assert_eq!(world.made, 2);
        let spec = json!(world.job("dj-a").spec);
        assert_eq!(spec.get("managedBy"), None);
    }
    let writes = world.writes;
    world.edit(|spec| spec["managedBy"] = json!("example.com/other"));
    world.succeed("a");
    world.pass();
    assert_eq!(world.writes, writes);
}
