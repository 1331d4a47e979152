//! Jobs that SAP's operator created: which are taken over, which of them counts, and which only look like
//! one.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING},
    keys,
    reactive_job::{Outcome, ReactiveJobStatus, RunReason, State},
};
use serde_json::json;

use super::world::{START, World, complete, readme_template, template, time};
use crate::reactive_job::family::family;

/// The hash of the README's template in SAP's operator from v0.1.37 on, and before.
pub(super) const HASH: &str = "b90fc1291c7a948b5eb74ea6ffc0e531e9de6f5b32c853f16a9a2d43cc98d794";
const OLD_HASH: &str = "7a4e8d3e61655baaadccfb8261f96e35882da6bbda13ee98e5cb50c51446a6f0";

/// An unknown hash.
const OTHER_HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A Job of SAP's operator: unfinished, and held.
pub(super) fn add_sap(world: &mut World, name: &str, generation: i64, hash: &str, created: i64) {
    let template = readme_template();
    let job = json!({
        "metadata": {
            "name": name,
            "generateName": "test-",
            "namespace": "default",
            "uid": format!("uid-{name}"),
            "creationTimestamp": time(START + created),
            "labels": {keys::CONTROLLER_UID: "object", keys::CONTROLLER_NAME: "test"},
            "annotations": {
                "digest": "abc123",
                keys::CONTROLLER_GENERATION: generation.to_string(),
                keys::CONTROLLER_HASH: hash,
            },
            "finalizers": [keys::REACTIVE_JOB_FINALIZER],
        },
        "spec": template["spec"],
    });
    let mut job = serde_json::from_value(job).expect("a Job");
    complete(&mut job);
    world.jobs.insert(name.to_owned(), job);
}

/// An object at this generation, with one Job of SAP's operator that succeeded.
fn left_by_sap(object: i64, job: i64, hash: &str) -> World {
    let mut world = World::new();
    world.object.metadata.generation = Some(object);
    add_sap(&mut world, "test-bcdfg", job, hash, 0);
    world.succeed("test-bcdfg");
    world
}

/// A copy under another name, as `kubectl get job -o yaml | sed | kubectl create -f -` makes it.
pub(super) fn copy(world: &mut World, name: &str, copy: &str) {
    let mut job = world.job(name).clone();
    job.metadata.name = Some(copy.to_owned());
    job.metadata.uid = Some(format!("uid-{copy}"));
    job.metadata.creation_timestamp = Some(time(world.now + 1));
    job.metadata.deletion_timestamp = None;
    world.jobs.insert(copy.to_owned(), job);
}

#[test]
fn a_job_of_saps_operator_counts_if_its_hash_or_its_generation_says_so() {
    for (object, job, hash) in [(5, 1, HASH), (5, 1, OLD_HASH), (3, 3, OTHER_HASH)] {
        let mut world = left_by_sap(object, job, hash);
        let before = world.job("test-bcdfg").clone();
        assert_eq!(world.settle().state, Some(State::Ready), "{object} {job}");
        assert_eq!(world.made, 0, "{object} {job} {hash}");
        assert_eq!(world.newest(), "test-bcdfg");
        assert_eq!(world.status().runs[0].reason, RunReason::Adopted);
        assert_eq!(world.events()[0], "Adopted");

        // What its operator wrote is still there, so that one may go back to it.
        let mut after = world.job("test-bcdfg").clone();
        let adopted = after.annotations_mut().remove(keys::ADOPTED);
        assert_eq!(adopted.as_deref(), Some("uid-test-bcdfg"));
        let owners = after.metadata.owner_references.take().expect("owners");
        assert_eq!((owners.len(), owners[0].uid.as_str()), (1, "object"));
        assert_eq!(owners[0].block_owner_deletion, Some(true));
        assert_eq!(after, before);

        // From here on it is as any other.
        world.edit_digest("next");
        world.settle();
        assert_eq!(world.made, 1);
        assert!(world.job("test-bcdfg").finalizers().is_empty());
    }
}

#[test]
fn a_job_that_was_made_from_another_template_is_followed_by_one() {
    let mut world = left_by_sap(3, 2, OTHER_HASH);
    world.object.spec.job_template.0["metadata"]["annotations"]["digest"] = json!("next");
    world.settle();
    assert_eq!(world.made, 1);
    let run = &world.status().runs[0];
    assert_eq!(run.reason, RunReason::TemplateChanged);
    assert_eq!(run.changes, ["metadata.annotations.digest: abc123 → next"]);
    assert_eq!(world.status().runs[1].outcome, Some(Outcome::Succeeded));
}

#[test]
fn a_job_that_still_runs_is_waited_for() {
    let mut world = World::new();
    add_sap(&mut world, "test-bcdfg", 1, OTHER_HASH, 0);
    assert_eq!(world.settle().state, Some(State::Processing));
    world.succeed("test-bcdfg");
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 0);
}

#[test]
fn after_a_run_away_of_saps_operator_nothing_runs_and_the_last_job_counts() {
    let mut world = World::new();
    add_sap(&mut world, "test-zzzzz", 1, OLD_HASH, 0);
    for (name, created) in [("test-xxxxx", 1), ("test-bbbbb", 3), ("test-ccccc", 3)] {
        add_sap(&mut world, name, 1, HASH, created);
    }
    for name in ["test-zzzzz", "test-xxxxx", "test-bbbbb"] {
        world.succeed(name);
    }
    world.fail("test-ccccc");
    assert_eq!(world.settle().state, Some(State::Error));
    assert_eq!(world.newest(), "test-ccccc");
    assert_eq!(world.made, 0);
    assert_eq!(world.jobs.len(), 4, "none is deleted");
    for (name, job) in &world.jobs {
        assert_eq!(!job.finalizers().is_empty(), name == "test-ccccc", "{name}");
    }
}

#[test]
fn the_newest_job_has_the_highest_generation_then_number_then_time_then_name() {
    let mut world = World::new();
    for (name, generation, created) in [
        ("test-wwwww", 3, 0),
        ("test-vvvvv", 2, 0),
        ("test-ttttt", 2, 8),
        ("test-zzzzz", 2, 7),
        ("test-bbbbb", 2, 7),
        ("test-xxxxx", 1, 9),
    ] {
        add_sap(&mut world, name, generation, HASH, created);
    }
    // A number is what our own Jobs have.
    let ours = world.job_mut("test-vvvvv");
    let marks = [(keys::ADOPTED, "uid-test-vvvvv"), (keys::RUN, "2")];
    for (key, value) in marks {
        ours.annotations_mut()
            .insert(key.to_owned(), value.to_owned());
    }
    let mut jobs: Vec<_> = world.jobs.values().cloned().map(Arc::new).collect();
    for _ in 0..2 {
        let own = family(&world.object, &jobs).own;
        let names: Vec<_> = own.iter().map(|job| job.name_any()).collect();
        let order = ["wwwww", "vvvvv", "ttttt", "zzzzz", "bbbbb", "xxxxx"];
        assert_eq!(names, order.map(|five| format!("test-{five}")));
        jobs.reverse();
    }
}

#[test]
fn a_default_that_an_api_server_puts_into_the_template_runs_nothing() {
    for mut world in [World::ready(), left_by_sap(2, 1, HASH)] {
        world.settle();
        let made = world.made;
        let mut value = json!(world.object.spec.job_template);
        value["spec"]["template"]["spec"]["containers"][0]["ports"] =
            json!([{"containerPort": 80, "protocol": "TCP"}]);
        world.object.spec.job_template = template(value);
        assert_eq!(world.settle().state, Some(State::Ready));
        world.edit_spec(|spec| spec.failed_history_limit = Some(3));
        world.settle();
        assert_eq!(world.made, made);
        world.edit_digest("next");
        world.settle();
        assert_eq!(world.made, made + 1);
    }
}

#[test]
fn a_job_that_saps_operator_made_after_ours_is_the_newest() {
    let mut world = World::ready();
    world.edit_digest("next");
    add_sap(&mut world, "test-bcdfg", 2, OTHER_HASH, 5);
    world.settle();
    assert_eq!(world.newest(), "test-bcdfg");
    assert_eq!(world.made, 1);
    // Going back and forth, nothing runs twice: the next of ours comes after it.
    world.succeed("test-bcdfg");
    world.edit_digest("third");
    world.settle();
    assert_ne!(world.newest(), "test-bcdfg");
    assert_eq!(world.made, 2);
    assert_eq!(world.jobs.len(), 3);
}

#[test]
fn jobs_by_hand_are_left_alone_whatever_their_annotations_are() {
    let cases = [
        json!({}),
        json!({keys::CONTROLLER_GENERATION: "7"}),
        json!({keys::CONTROLLER_HASH: HASH}),
        json!({keys::CONTROLLER_GENERATION: "", keys::CONTROLLER_HASH: HASH}),
        json!({keys::CONTROLLER_GENERATION: "x", keys::CONTROLLER_HASH: HASH}),
        json!({keys::CONTROLLER_GENERATION: "99999999999999999999", keys::CONTROLLER_HASH: HASH}),
        json!({keys::CONTROLLER_GENERATION: "7", keys::CONTROLLER_HASH: "abc"}),
        json!({keys::CONTROLLER_GENERATION: "7", keys::CONTROLLER_HASH: "ü".repeat(32)}),
        json!({keys::CONTROLLER_GENERATION: "7", keys::CONTROLLER_HASH: HASH, keys::RUN: "x"}),
        json!({keys::RUN: "-9223372036854775808", keys::RUN_ATTEMPT: "x", keys::CONFIG: "{"}),
    ];
    for annotations in cases {
        let mut world = World::ready();
        let newest = world.newest();
        let labels = json!({keys::CONTROLLER_UID: "object", keys::CONTROLLER_NAME: "test"});
        let by_hand: Job = serde_json::from_value(json!({"metadata": {
            "name": "test-bcdfg", "uid": "by-hand", "creationTimestamp": time(START + 9),
            "labels": labels, "annotations": annotations,
        }}))
        .expect("a Job");
        world.jobs.insert("test-bcdfg".to_owned(), by_hand.clone());
        let told = ReactiveJobStatus {
            ignored_jobs: vec!["test-bcdfg".to_owned()],
            ..world.status().clone()
        };
        assert_eq!(*world.settle(), told, "{annotations}");
        world.edit_digest("next");
        world.settle();
        assert_ne!(world.newest(), newest);
        assert_eq!(world.made, 2, "{annotations}");
        assert_eq!(*world.job("test-bcdfg"), by_hand);
    }
}

#[test]
fn a_job_of_saps_operator_that_somebody_else_controls_is_not_taken_over() {
    for (kind, uid, taken) in [
        ("CronJob", "object", false),
        ("ReactiveJob", "another", false),
        ("ReactiveJob", "object", true),
    ] {
        let mut world = left_by_sap(1, 1, HASH);
        let owner = json!([{
            "apiVersion": "v1", "kind": kind, "name": "x", "uid": uid, "controller": true,
        }]);
        world.job_mut("test-bcdfg").metadata.owner_references =
            serde_json::from_value(owner).expect("owners");
        world.settle();
        assert_eq!(world.made, usize::from(!taken), "{kind} {uid}");
    }
}

#[test]
fn a_copy_of_a_job_never_counts() {
    let mut adopted = left_by_sap(1, 1, HASH);
    adopted.settle();
    for mut world in [World::ready(), adopted] {
        let newest = world.newest();
        for name in ["test-22222", "test-zzzzz", "copy"] {
            copy(&mut world, &newest, name);
            world.fail(name);
        }
        let copies: Vec<_> = world.jobs.clone().into_iter().collect();
        let status = world.status().clone();
        let names = ["copy", "test-22222", "test-zzzzz"];
        let told = ReactiveJobStatus {
            ignored_jobs: names.map(str::to_owned).into(),
            ..status.clone()
        };
        world.events();
        assert_eq!(*world.settle(), told);
        assert_eq!(world.events(), ["JobIgnored"; 3], "each once");
        assert_eq!(copies, world.jobs.clone().into_iter().collect::<Vec<_>>());
        // Whoever deletes a copy is rid of it, although our finalizer was copied too.
        world.delete_job("copy", false);
        assert!(world.jobs.contains_key("copy"));
        world.settle();
        assert!(!world.jobs.contains_key("copy"));
        let told = ReactiveJobStatus {
            ignored_jobs: names[1..].iter().map(|name| (*name).to_owned()).collect(),
            ..status
        };
        assert_eq!(*world.status(), told);
    }
}

#[test]
fn a_copy_that_is_deleted_goes_while_the_object_is_deleted_too() {
    let mut world = World::ready();
    let newest = world.newest();
    copy(&mut world, &newest, "copy");
    world.delete_job("copy", false);
    world.delete();
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.names(), [] as [&str; 0]);
}

#[test]
fn a_job_that_is_waited_for_when_it_is_taken_over_may_be_suspended() {
    let mut world = World::new();
    add_sap(&mut world, "test-bcdfg", 1, HASH, 0);
    let spec = world.job_mut("test-bcdfg").spec.get_or_insert_default();
    spec.suspend = Some(true);
    world.settle();
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "JobSuspended")
        ]
    );
    assert_eq!(world.made, 0);
}
