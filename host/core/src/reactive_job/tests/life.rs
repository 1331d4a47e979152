//! The life of an object: its first Job, the next ones, their content, and the status.

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING, STALLED},
    keys,
    reactive_job::{Outcome, RunReason, State},
};
use serde_json::json;

use super::world::{START, World, time};
use crate::driver::memory::Reconciles as _;
use crate::reactive_job::Hashes;

/// The characters of Kubernetes' random names.
const ALPHABET: &str = "bcdfghjklmnpqrstvwxz2456789";

#[test]
fn a_new_object_runs_its_job_and_is_ready_when_that_succeeds() {
    let mut world = World::new();
    let first = world.pass().expect("a conclusion");
    assert_eq!(first.status.state, Some(State::Processing));
    assert_eq!(world.condition(READY).message, "job created");
    assert_eq!(world.events(), ["RunStarted"]);
    world.settle();
    assert_eq!(
        world.condition(READY).message,
        "waiting for job to complete"
    );
    assert_eq!(world.made, 1);

    world.now += 60;
    world.succeed(&world.newest());
    world.settle();
    let status = world.status();
    assert_eq!(status.state, Some(State::Ready));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(world.standing(), [(READY, "True", "Ready")]);
    assert_eq!(
        world.condition(READY).message,
        "CompletionsReached: Reached expected number of succeeded pods"
    );
    let run = &status.runs[0];
    assert_eq!(run.reason, RunReason::Created);
    assert_eq!(run.outcome, Some(Outcome::Succeeded));
    assert_eq!(run.start_time, Some(time(START)));
    assert_eq!(run.completion_time, Some(time(START + 60)));
    assert_eq!(run.attempt, None, "nobody asked for retries");
    assert_eq!(world.events(), ["RunSucceeded"]);
    assert_eq!(world.made, 1);
}

#[test]
fn a_template_that_is_edited_runs_a_second_job_and_the_first_is_released() {
    let mut world = World::ready();
    let first = world.newest();
    world.now += 10;
    world.edit_digest("def456");
    world.settle();
    let second = world.newest();
    assert_ne!(first, second);
    assert_eq!(world.jobs.len(), 2);
    assert_eq!(world.made, 2);
    assert!(world.job(&first).finalizers().is_empty());
    assert_eq!(
        world.job(&second).finalizers(),
        [keys::REACTIVE_JOB_FINALIZER]
    );
    assert_eq!(world.status().state, Some(State::Processing));

    // The TTL takes the first, and leaves the newest, which only stops being there for others.
    world.succeed(&second);
    world.settle();
    world.wait(121);
    assert_eq!(world.names(), [second.as_str()]);
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 2);
    let told: Vec<_> = world.status().runs.iter().map(|r| &r.job_name).collect();
    assert_eq!(told, [&second, &first]);
}

#[test]
fn a_job_that_fails_is_an_error_and_stalls() {
    let mut world = World::failed();
    assert_eq!(world.status().state, Some(State::Error));
    assert_eq!(
        world.standing(),
        [(READY, "False", "Error"), (STALLED, "True", "JobFailed")]
    );
    assert_eq!(
        world.condition(READY).message,
        "BackoffLimitExceeded: Job has reached the specified backoff limit"
    );
    assert_eq!(world.events(), ["RunStarted", "RunFailed"]);
    assert_eq!(world.made, 1, "it is not run again");
}

#[test]
fn the_status_that_says_that_a_job_was_made_names_it() {
    let mut world = World::ready();
    world.edit_digest("def456");
    let first = world.newest();
    let status = world.pass().expect("a conclusion").status;
    assert_ne!(status.current_job_name, Some(first));
    let made = status.current_job_name.expect("a name");
    assert!(world.jobs.contains_key(&made));
    assert_eq!(world.condition(READY).message, "job created");
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!(
        status.current_inputs.expect("inputs").job_uid,
        world.job(&made).uid().expect("a uid")
    );
}

#[test]
fn a_template_that_is_edited_back_runs_again() {
    let mut world = World::new();
    for digest in ["a", "b", "a", "b"] {
        world.edit_digest(digest);
        world.settle();
        world.succeed(&world.newest());
        world.now += 1;
        assert_eq!(world.settle().state, Some(State::Ready));
    }
    assert_eq!(world.made, 4);
    assert_eq!(world.jobs.len(), 4, "each has a name of its own");
}

#[test]
fn names_are_the_objects_a_dash_and_five_characters() {
    for object in ["test", "a", "x.y-z", &"n".repeat(57)] {
        let world = World::named(object);
        let names = world.start().names;
        assert_eq!(names.len(), 4);
        for name in &names {
            let rest = name.strip_prefix(&format!("{object}-")).expect("a prefix");
            assert_eq!(rest.len(), 5, "{name}");
            assert!(rest.chars().all(|c| ALPHABET.contains(c)), "{name}");
            assert!(name.len() <= 63, "it fits into a label: {name}");
        }
    }
}

#[test]
fn a_name_that_somebody_elses_job_has_is_passed_over() {
    let mut world = World::new();
    let names = world.start().names;
    let mut job = k8s_openapi::api::batch::v1::Job::default();
    job.metadata.name = Some(names[0].clone());
    job.metadata.uid = Some("somebody's".to_owned());
    world.jobs.insert(names[0].clone(), job);
    world.settle();
    assert_eq!(world.newest(), names[1]);
    assert_eq!(world.job(&names[0]).labels().len(), 0);

    // If all of them are taken, the status reports it.
    let mut world = World::new();
    for name in &names {
        let mut job = k8s_openapi::api::batch::v1::Job::default();
        job.metadata.name = Some(name.clone());
        world.jobs.insert(name.clone(), job);
    }
    world.settle();
    assert_eq!(
        world.standing(),
        [(READY, "False", "Error"), (STALLED, "True", "NamesTaken")]
    );
    assert_eq!(world.made, 0);
}

#[test]
fn a_job_is_what_the_user_wrote_and_our_keys_win() {
    let mut world = World::new();
    let spec = json!({
        "ttlSecondsAfterFinished": 5,
        "somethingNew": {"of": ["a", "later", "Kubernetes"]},
        "template": {"spec": {"containers": [{"name": "main", "image": "alpine"}]}},
    });
    let mut ours = world.start().body["metadata"].clone();
    world.edit(|template| {
        *template = json!({
            "metadata": {
                "name": "mine", "generateName": "mine-", "namespace": "mine",
                "labels": {"app": "x", keys::CONTROLLER_UID: "y", keys::CONTROLLER_NAME: "z"},
                "annotations": {
                    "digest": "1", keys::CONTROLLER_HASH: "x", keys::RUN: "7", keys::ADOPTED: "x",
                    keys::RERUN: "x", keys::CONFIG: "x", keys::RUN_AFTER: "x",
                },
                "finalizers": ["mine/finalizer", keys::REACTIVE_JOB_FINALIZER],
            },
            "spec": spec,
        });
    });
    let start = world.start();
    let metadata = &start.body["metadata"];
    assert_eq!(start.body["spec"], spec);
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata.get("generateName"), None);
    assert_eq!(metadata.get("name"), None);
    assert_eq!(
        metadata["labels"],
        json!({"app": "x", keys::CONTROLLER_UID: "object", keys::CONTROLLER_NAME: "test"})
    );
    assert_eq!(
        metadata["finalizers"],
        json!(["mine/finalizer", keys::REACTIVE_JOB_FINALIZER])
    );
    let hashes = Hashes::of(&world.object);
    ours["annotations"]["digest"] = json!("1");
    let applied = json!({"ttlSecondsAfterFinished": spec["ttlSecondsAfterFinished"]});
    ours["annotations"][keys::APPLIED] = json!(applied.to_string());
    ours["annotations"][keys::CONTROLLER_GENERATION] = json!("2");
    ours["annotations"][keys::CONTROLLER_HASH] = json!(hashes.whole());
    ours["annotations"][keys::TEMPLATE_HASH] = json!(hashes.stored());
    ours["annotations"][keys::POD_TEMPLATE_HASH] = json!(hashes.pod());
    assert_eq!(metadata["annotations"], ours["annotations"]);
}

#[test]
fn our_annotations_say_what_a_job_was_made_for() {
    let mut world = World::ready();
    world.annotate(keys::RERUN, "token");
    world.edit_digest("def456");
    world.settle();
    let job = world.job(&world.newest()).clone();
    let hashes = Hashes::of(&world.object);
    let said = |key: &str| job.annotations().get(key).map(String::as_str);
    for (key, value) in [
        (keys::CONTROLLER_GENERATION, Some("2")),
        (keys::CONTROLLER_HASH, Some(hashes.whole())),
        (keys::TEMPLATE_HASH, Some(hashes.stored())),
        (keys::POD_TEMPLATE_HASH, Some(hashes.pod())),
        (keys::RUN, Some("2")),
        (keys::RUN_REASON, Some("TemplateChanged")),
        (keys::RUN_ATTEMPT, Some("1")),
        (keys::RUN_AFTER, Some("job-1")),
        (keys::RERUN, Some("token")),
        (keys::CONFIG, None),
        (keys::ADOPTED, None),
    ] {
        assert_eq!(said(key), value, "{key}");
    }
}

#[test]
fn a_job_has_its_object_as_controller() {
    let mut world = World::new();
    world.settle();
    let owners = world.job(&world.newest()).owner_references();
    assert_eq!(owners.len(), 1);
    let owner = &owners[0];
    assert_eq!(
        (owner.api_version.as_str(), owner.kind.as_str()),
        ("batch.cs.sap.com/v1alpha1", "ReactiveJob")
    );
    assert_eq!(
        (owner.name.as_str(), owner.uid.as_str()),
        ("test", "object")
    );
    assert_eq!(owner.controller, Some(true));
    assert_eq!(owner.block_owner_deletion, Some(true));
}

#[test]
fn a_refusal_stalls_and_keeps_what_is_known() {
    let mut world = World::ready();
    let before = world.status().clone();
    world.refusal = Some(crate::action::Failure::new("Invalid", "spec: too bad"));
    world.edit_digest("def456");
    world.settle();
    assert_eq!(
        world.standing(),
        [(READY, "False", "Error"), (STALLED, "True", "Invalid")]
    );
    assert_eq!(world.condition(STALLED).message, "spec: too bad");
    let status = world.status();
    assert_eq!(status.current_job_name, before.current_job_name);
    assert_eq!(status.current_inputs, before.current_inputs);
    assert_eq!(status.runs, before.runs);
    // Granted later, it runs.
    world.refusal = None;
    world.settle();
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "JobRunning")
        ]
    );
    assert_eq!(world.made, 2);
}

#[test]
fn no_job_is_made_for_an_object_that_the_api_server_does_not_let_us_hold() {
    let mut world = World::new();
    world.denied = Some(crate::action::Failure::new(
        "Forbidden",
        "no finalizers today",
    ));
    world.settle_any();
    assert_eq!(world.jobs.len(), 0);
    let stalled = world.condition(STALLED);
    assert_eq!(stalled.reason, "Forbidden");
    assert!(
        stalled.message.contains("no finalizers today"),
        "{stalled:?}"
    );
    world.denied = None;
    world.settle();
    assert_eq!(world.jobs.len(), 1);
}
