//! What an edit of a flow means.

use std::sync::Arc;

use kube::ResourceExt as _;
use operon_api::job_flow::Phase;
use serde_json::json;

use super::world::{World, running, step, template};
use crate::{driver::memory::Reconciles as _, jobs};

#[test]
fn a_step_that_has_not_started_may_be_edited_and_one_that_has_keeps_its_job() {
    let mut world = World::of(json!([step("a", &[]), step("b", &["a"])]));
    world.settle();
    world.edit(|spec| {
        for place in [0, 1] {
            spec["flows"][place]["timeoutSeconds"] = json!(50);
        }
    });
    let writes = world.writes;
    world.settle();
    assert_eq!(world.writes, writes + 1, "observedGeneration");
    assert_eq!(world.status().observed_generation, Some(2));
    world.succeed("flow-a");
    world.settle();
    let deadline = |name: &str| {
        world
            .job(name)
            .spec
            .as_ref()
            .expect("a spec")
            .active_deadline_seconds
    };
    assert_eq!((deadline("flow-a"), deadline("flow-b")), (None, Some(50)));
    // What it has done is known, even if it depends on something now.
    world.edit(|spec| spec["flows"][0]["dependencies"] = json!(["c"]));
    world.edit(|spec| {
        let flows = spec["flows"].as_array_mut().expect("a list");
        flows.push(step("c", &[]));
    });
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running, c Running");
}

#[test]
fn a_removed_step_that_had_started_is_not_counted_and_one_that_had_not_is_forgotten() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[]), step("c", &["b"])]));
    world.settle();
    world.edit(|spec| spec["flows"] = json!([step("a", &[])]));
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running");
    assert_eq!(world.step("b").orphaned, Some(true));
    assert_eq!(world.status().progress.as_deref(), Some("0/1"));
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.status().completion_time, None, "b still runs");
    world.fail("flow-b");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Failed");
    assert_eq!(
        (world.state(), world.status().progress.as_deref()),
        ("Succeed", Some("1/1"))
    );
}

#[test]
fn a_removed_step_that_comes_back_is_what_it_was() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    world.settle();
    world.succeed("flow-b");
    world.settle();
    world.edit(|spec| spec["flows"] = json!([step("a", &[])]));
    world.settle();
    world.edit(|spec| spec["flows"] = json!([step("a", &[]), step("b", &[])]));
    world.settle();
    assert_eq!((world.phase("b"), world.made), (Phase::Succeeded, 2));
    assert_eq!(world.step("b").orphaned, None);
}

#[test]
fn the_job_of_a_removed_step_is_not_made_again() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    world.settle();
    world.edit(|spec| spec["flows"] = json!([step("a", &[])]));
    world.settle();
    world.delete_job("flow-b", false);
    world.settle();
    assert_eq!((world.phase("b"), world.made), (Phase::Cancelled, 2));
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.state(), "Succeed");
}

#[test]
fn an_added_step_runs_unless_the_flow_has_finished() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.edit(|spec| spec["flows"] = json!([step("b", &["a"]), step("a", &[])]));
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.phases(), "b Running, a Succeeded");
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.state(), "Succeed");
    world.edit(|spec| {
        let flows = spec["flows"].as_array_mut().expect("a list");
        flows.push(step("c", &[]));
    });
    world.settle();
    assert_eq!((world.state(), world.made), ("Succeed", 2));
    assert_eq!(
        world.ready(),
        "2 steps succeeded; the flow has finished, so edits have no effect: \"c\" will not run"
    );
    assert_eq!(world.status().observed_generation, Some(3));
}

#[test]
fn a_retry_of_a_finished_flow_runs_what_was_added() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.edit(|spec| spec["flows"] = json!([step("a", &[]), step("b", &[])]));
    world.settle();
    assert!(world.ready().contains("\"b\" will not run"));
    world.retry("1");
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running");
}

#[test]
fn an_edit_that_makes_no_sense_starts_nothing_and_what_runs_is_observed() {
    let mut world = World::of(json!([step("a", &[]), step("b", &["a"]), step("c", &[])]));
    world.settle();
    world.edit(|spec| spec["onExit"] = json!("d"));
    world.settle();
    assert_eq!(world.standing()[1], ("Stalled", "True", "InvalidFlow"));
    assert_eq!(world.state(), "Running");
    world.succeed("flow-a");
    world.fail("flow-c");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Waiting, c Failed");
    assert_eq!(world.state(), "Failed");
    assert_eq!(world.status().completion_time, None);
    world.edit(|spec| {
        spec["onExit"] = json!(null);
        spec["failurePolicy"] = json!("Continue");
    });
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running, c Failed");
}

#[test]
fn a_template_that_is_edited_changes_what_is_made_from_then_on() {
    let by_ref = |name: &str, dependencies: &[&str]| json!({"name": name, "dependencies": dependencies, "jobTemplateRef": "t"});
    let mut world = World::of(json!([by_ref("a", &[]), by_ref("b", &["a"])]));
    world.add_template("t", template());
    world.settle();
    world.add_pod("flow-a", "pod", running());
    let mut edited = template();
    edited["backoffLimit"] = json!(4);
    world.add_template("t", edited);
    world.settle();
    world.succeed("flow-a");
    world.settle();
    let limit = |name: &str| world.job(name).spec.as_ref().expect("a spec").backoff_limit;
    assert_eq!((limit("flow-a"), limit("flow-b")), (Some(0), Some(4)));
}

#[test]
fn an_error_handler_is_accepted_kept_and_ignored() {
    let handler = json!({"jobTemplate": {"anything": [1, "2"]}});
    let mut world = World::with(json!({"ErrorHandler": handler, "flows": [step("a", &[])]}));
    assert_eq!(json!(world.flow.spec)["ErrorHandler"], handler);
    world.settle();
    assert_eq!(world.phases(), "a Running");
    world.fail("flow-a");
    world.settle();
    assert_eq!((world.state(), world.made), ("Failed", 1));
}

#[test]
fn a_step_tells_of_which_template_it_was_made() {
    let by_ref = |name: &str, dependencies: &[&str]| json!({"name": name, "dependencies": dependencies, "jobTemplateRef": "t"});
    let mut world = World::of(json!([
        by_ref("a", &[]),
        by_ref("b", &["a"]),
        by_ref("c", &["b"])
    ]));
    world.add_template("t", template());
    world.settle();
    world.succeed("flow-a");
    world.settle();
    let mut edited = template();
    edited["backoffLimit"] = json!(4);
    world.add_template("t", edited);
    world.succeed("flow-b");
    world.settle();
    world.delete_job("flow-a", false);
    world.settle();
    let hash = |step: &str| world.step(step).template_hash.clone().expect("one");
    assert_eq!(hash("a").len(), 16);
    assert_eq!(hash("a"), hash("b"));
    assert_ne!(hash("b"), hash("c"));
}

#[test]
fn steps_removed_while_the_status_is_written_are_never_looked_up_in_another_spec() {
    let names = ["a", "b", "c", "d"];
    for removed in 0..names.len() {
        let steps: Vec<_> = names.iter().map(|name| step(name, &[])).collect();
        let mut world = World::with(json!({"flows": steps, "parallelism": 2}));
        world.meanwhile = Some(Arc::new(move |world| {
            let running = world.jobs.keys().next().cloned();
            world.succeed(&running.expect("a Job that runs"));
            world.edit(|spec| {
                let steps = spec["flows"].as_array_mut().expect("steps");
                steps.remove(removed);
            });
        }));
        world.pass();
        let made = world.made;
        assert_eq!(
            made, 2,
            "nothing starts by a spec that the status does not know"
        );
        for _ in 0..names.len() {
            world.settle();
            let running: Vec<_> = world.jobs.values().cloned().collect();
            for job in running.iter().filter(|job| jobs::finish(job).is_none()) {
                world.succeed(&job.name_any());
            }
        }
        assert_eq!(world.state(), "Succeed", "without {:?}", names[removed]);
    }
}

#[test]
fn a_step_that_a_retry_reset_and_an_edit_removed_does_not_hold_the_flow() {
    let mut world = World::with(json!({
        "flows": [step("a", &[]), step("b", &[])],
        "parallelism": 1,
        "failurePolicy": "Continue",
    }));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.succeed("flow-b");
    world.settle();
    assert_eq!(world.state(), "Failed");

    world.edit(|spec| spec["suspend"] = json!(true));
    world.retry("1");
    world.settle();
    assert_eq!(world.phase("a"), Phase::Waiting);
    world.edit(|spec| {
        spec["suspend"] = json!(false);
        spec["flows"] = json!([step("b", &[])]);
    });
    world.settle();
    assert_eq!(world.state(), "Succeed", "{}", world.phases());
}
