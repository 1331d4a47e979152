//! Jobs that are suspended: by the flow, by a step's template, by a queue, or by a user; and flows of other
//! controllers.

use kube::ResourceExt;
use operon_api::{
    conditions::{RECONCILING, STALLED, find},
    job_flow::Phase,
    keys,
};
use serde_json::json;

use super::world::{World, step, step_with, time};
use crate::{driver::memory::Reconciles as _, jobs};

/// What Kueue, or `kubectl patch`, does to a Job, and the Job controller after it.
fn set_suspend(world: &mut World, job: &str, suspend: bool) {
    let at = world.now;
    let job = world.job_mut(job);
    job.spec.get_or_insert_default().suspend = Some(suspend);
    let conditions = json!([{
        "type": "Suspended",
        "status": if suspend { "True" } else { "False" },
        "lastTransitionTime": time(at),
    }]);
    let status = job.status.get_or_insert_default();
    status.conditions = serde_json::from_value(conditions).expect("conditions");
}

fn suspended(world: &World) -> Vec<&str> {
    let jobs = world.jobs.iter();
    let jobs = jobs.filter(|(_, job)| jobs::is_suspended(job));
    jobs.map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_job_that_another_controller_suspends_is_waited_for_and_its_holder_is_named() {
    for (queue, who) in [
        (None, "suspended by another controller or by a user"),
        (Some("gpu"), "suspended by the queue \"gpu\""),
    ] {
        let mut world = World::of(json!([step("train", &[]), step("report", &["train"])]));
        if let Some(queue) = queue {
            let labels = world.flow.labels_mut();
            labels.insert(keys::QUEUE_NAME.to_owned(), queue.to_owned());
        }
        world.settle();
        let label = world.job("flow-train").labels().get(keys::QUEUE_NAME);
        assert_eq!(
            label.map(String::as_str),
            queue,
            "it goes through the same queue"
        );
        set_suspend(&mut world, "flow-train", true);
        for _ in 0..3 {
            world.settle();
            world.now += 3600;
        }
        assert_eq!(
            (world.phase("train"), world.reason("train")),
            (Phase::Running, "JobSuspended")
        );
        assert_eq!(
            world.message("train"),
            format!("Job \"flow-train\" is {who}")
        );
        assert_eq!(world.condition(RECONCILING).reason, "JobSuspended");
        assert!(world.ready().ends_with(who), "{}", world.ready());
        assert!(find(&world.status().conditions, STALLED).is_none());
        assert_eq!(suspended(&world), ["flow-train"], "nobody resumes it");
        assert_eq!((world.made, world.events()), (1, vec!["Created"]));

        // The Job controller notices that a little later.
        world
            .job_mut("flow-train")
            .spec
            .get_or_insert_default()
            .suspend = Some(false);
        world.settle();
        assert_eq!(world.step("train").reason, None);
        set_suspend(&mut world, "flow-train", false);
        world.settle();
        assert_eq!(world.step("train").reason, None);
        world.succeed("flow-train");
        world.settle();
        assert_eq!(world.phase("report"), Phase::Running);
    }
}

#[test]
fn an_edit_of_something_else_changes_nothing_of_a_job_that_a_queue_holds() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    set_suspend(&mut world, "flow-a", true);
    let spec = world.job("flow-a").spec.clone();
    world.edit(|spec| {
        spec["ttlSecondsAfterFinished"] = json!(900);
        spec["flows"][0]["jobTemplate"]["ttlSecondsAfterFinished"] = json!(900);
        spec["flows"][0]["jobTemplate"]["parallelism"] = json!(2);
    });
    world.settle();
    assert_eq!((world.made, world.job("flow-a").spec.clone()), (1, spec));
}

#[test]
fn suspend_holds_the_jobs_that_run_and_those_that_are_to_come_and_no_step_begins_anew() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[]), step("c", &["a"])]));
    world.settle();
    world.edit(|spec| spec["suspend"] = json!(true));
    world.settle();
    assert_eq!(
        (suspended(&world), world.made),
        (vec!["flow-a", "flow-b"], 2)
    );
    assert_eq!(world.condition(RECONCILING).reason, "Suspended");
    assert_eq!(
        world.message("a"),
        "Job \"flow-a\" is suspended by spec.suspend"
    );
    world.now += 100_000;
    world.delete_job("flow-b", false);
    world.settle();
    assert!(find(&world.status().conditions, STALLED).is_none());
    assert_eq!(
        (world.made, world.phases()),
        (2, "a Running, b Running, c Waiting".to_owned())
    );

    world.edit(|spec| spec["suspend"] = json!(null));
    world.settle();
    assert_eq!((suspended(&world), world.made), (vec![], 3));
    for name in ["flow-a", "flow-b-2"] {
        world.succeed(name);
        world.settle();
    }
    world.succeed("flow-c");
    world.settle();
    assert_eq!((world.state(), world.made), ("Succeed", 4));
}

#[test]
fn what_a_queue_holds_or_resumed_is_left_to_the_queue() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    world.settle();
    set_suspend(&mut world, "flow-a", true);
    world.edit(|spec| spec["suspend"] = json!(true));
    world.settle();
    assert_eq!(suspended(&world), ["flow-a", "flow-b"]);
    set_suspend(&mut world, "flow-b", false);
    world.settle();
    assert_eq!(suspended(&world), ["flow-a"], "there is no fight about it");
    world.edit(|spec| spec["suspend"] = json!(false));
    world.settle();
    assert_eq!(suspended(&world), ["flow-a"], "the queue holds it still");
}

#[test]
fn a_step_that_its_template_suspends_says_so_and_a_user_may_resume_it() {
    let template = json!({"jobTemplate": {"suspend": true}});
    let mut world = World::of(json!([step_with("a", &[], template)]));
    world.settle();
    assert_eq!(
        world.message("a"),
        "Job \"flow-a\" is suspended by the step's own template (suspend: true)"
    );
    set_suspend(&mut world, "flow-a", false);
    world.settle();
    assert_eq!(suspended(&world), [""; 0]);

    world = World::of(json!([step_with(
        "a",
        &[],
        json!({"jobTemplate": {"suspend": true}})
    )]));
    world.settle();
    world.edit(|spec| spec["flows"][0]["jobTemplate"]["suspend"] = json!(false));
    world.settle();
    assert_eq!(suspended(&world), [""; 0]);
}

#[test]
fn of_a_flow_that_another_controller_runs_nothing_is_written() {
    let mut world = World::of(json!([step("a", &[])]));
    world.edit(|spec| spec["managedBy"] = json!("kueue.x-k8s.io/multikueue"));
    world.pass();
    assert_eq!((world.writes, world.flow.status.is_some()), (0, false));
    for own in ["operon.dev/operon", "kubernetes.io/job-controller"] {
        world.edit(|spec| spec["managedBy"] = json!(own));
        world.settle();
        assert_eq!(world.made, 1);
    }
    let writes = world.writes;
    world.edit(|spec| {
        spec["managedBy"] = json!("example.com/other");
        spec["ttlSecondsAfterFinished"] = json!(0);
    });
    world.succeed("flow-a");
    world.pass();
    assert_eq!(world.writes, writes);
}
