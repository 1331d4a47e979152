//! What prevents a step from continuing: a missing template, an API server that refuses, pods that do not
//! start.

use std::time::Duration;

use operon_api::job_flow::Phase;
use serde_json::{Value, json};

use super::world::{START, World, step, step_with, template, time};
use crate::{
    action::Failure,
    driver::{Question, memory::Reconciles as _},
};

fn by_ref(name: &str, dependencies: &[&str]) -> Value {
    json!({"name": name, "dependencies": dependencies, "jobTemplateRef": "t"})
}

#[test]
fn a_template_that_is_missing_is_waited_for() {
    let mut world = World::of(json!([by_ref("a", &[]), step("b", &[])]));
    world.settle();
    assert_eq!(world.phases(), "a Blocked, b Running");
    assert_eq!(world.reason("a"), "TemplateNotFound");
    assert_eq!(
        world.standing()[1],
        ("Reconciling", "True", "TemplateNotFound")
    );
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(10)));
    let job = world.names()[0].to_owned();
    world.add_pod(&job, "pod", super::world::running());
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(30)));
    world.now += 30;
    world.settle();
    assert_eq!(world.standing()[1], ("Stalled", "True", "TemplateNotFound"));
    assert_eq!(
        world.ready(),
        "step \"a\": JobTemplate \"t\" does not exist in this namespace; the step starts when the JobTemplate is created"
    );
    assert_eq!(world.events(), ["TemplateNotFound", "Created"]);
    world.add_template("t", template());
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running");
    assert_eq!(world.events(), ["Created"]);
}

#[test]
fn a_template_is_waited_for_from_when_the_flow_was_seen_whatever_its_creation_time_says() {
    for skew in [-3600, 3600] {
        let mut world = World::of(json!([by_ref("a", &[])]));
        world.flow.metadata.creation_timestamp = Some(time(world.now + skew));
        world.settle();
        for (wait, standing) in [(0, "Reconciling"), (29, "Reconciling"), (1, "Stalled")] {
            world.now += wait;
            world.settle();
            assert_eq!(world.standing()[1], (standing, "True", "TemplateNotFound"));
        }
    }
}

#[test]
fn a_template_that_was_deleted_after_its_step_started_is_not_missed() {
    let mut world = World::of(json!([by_ref("a", &[]), step("b", &["a"])]));
    world.add_template("t", template());
    world.settle();
    world.templates.clear();
    world.succeed("flow-a");
    world.settle();
    assert_eq!(world.phases(), "a Succeeded, b Running");
}

#[test]
fn a_template_that_is_named_wins_over_one_that_is_written() {
    let mut world = World::of(json!([step_with("a", &[], json!({"jobTemplateRef": "t"}))]));
    world.settle();
    assert_eq!(world.reason("a"), "TemplateNotFound");
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_api_server() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    let words = "exceeded quota: jobs, requested: count/jobs=1, used: 5, limited: 5";
    let refusal = Failure::new("Forbidden", words);
    world.refusals.insert("a".to_owned(), refusal);
    world.settle();
    assert_eq!(
        (world.state(), world.phases()),
        ("Running", "a Blocked, b Running".to_owned())
    );
    assert_eq!(
        (world.reason("a"), world.message("a")),
        ("Forbidden", words)
    );
    assert_eq!(world.standing()[1], ("Stalled", "True", "Forbidden"));
    assert_eq!(world.ready(), format!("step \"a\": {words}"));
    assert_eq!(world.starts(), ["a"], "the controller tries again");
    assert_eq!(world.events(), ["StepBlocked", "Created"]);
    world.refusals.clear();
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running");
}

#[test]
fn a_refusal_of_the_first_job_leaves_the_flow_pending() {
    let mut world = World::of(json!([step("a", &[])]));
    world
        .refusals
        .insert("a".to_owned(), Failure::new("Invalid", "no"));
    world.settle();
    assert_eq!(world.state(), "Pending");
}

#[test]
fn a_step_that_is_refused_does_not_take_the_place_of_others() {
    let mut world = World::with(json!({
        "parallelism": 1,
        "flows": [step("a", &[]), step("b", &[]), step("c", &[])],
    }));
    world
        .refusals
        .insert("a".to_owned(), Failure::new("Invalid", "no"));
    world.pass();
    world.settle();
    assert_eq!(world.phases(), "a Waiting, b Running, c Waiting");
    world.succeed("flow-b");
    world.settle();
    world.succeed("flow-c");
    world.settle();
    assert_eq!(world.phases(), "a Blocked, b Succeeded, c Succeeded");
}

#[test]
fn a_refused_retry_is_told_and_made_later() {
    let mut world = World::of(json!([step_with("a", &[], json!({"retry": {"limit": 1}}))]));
    world.settle();
    world.fail("flow-a");
    world.settle();
    world.now += 10;
    world
        .refusals
        .insert("a".to_owned(), Failure::new("Forbidden", "quota"));
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Running, "Forbidden")
    );
    assert_eq!(world.standing()[1], ("Stalled", "True", "Forbidden"));
    world.refusals.clear();
    world.settle();
    assert_eq!(world.names(), ["flow-a", "flow-a-2"]);
}

#[test]
fn a_mount_of_a_volume_that_exists_nowhere_is_told() {
    let mount = json!({"shareVolumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let mut world = World::of(json!([step_with("a", &[], mount)]));
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Blocked, "UnknownVolume")
    );
    assert_eq!(world.made, 0);
    world.edit(|spec| spec["shareVolumes"] = json!([{"name": "data", "emptyDir": {}}]));
    world.settle();
    assert_eq!(world.phase("a"), Phase::Running);
}

#[test]
fn a_step_without_a_template_got_past_the_schema() {
    let mut world = World::of(json!([{"name": "a"}]));
    world.settle();
    assert_eq!(
        (world.phase("a"), world.reason("a")),
        (Phase::Blocked, "NoTemplate")
    );
}

#[test]
fn pods_that_do_not_start_are_told_after_five_minutes() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    world.settle();
    let waiting = |reason: &str, message: &str| {
        json!({
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": time(START)}],
            "containerStatuses": [{
                "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}},
            }],
        })
    };
    let pending = |message: &str| waiting("ImagePullBackOff", message);
    world.add_pod("flow-a", "pod", pending("back-off 10s"));
    world.add_pod("flow-b", "other", super::world::running());
    world.settle();
    assert_eq!(world.standing()[1], ("Reconciling", "True", "Running"));
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(10)));
    // What lasts longer than a moment is named, and is no fault yet.
    world.now += 10;
    world.settle();
    let said = "Job \"flow-a\" does not progress yet: ImagePullBackOff: container \"main\" of pod \"pod\": back-off 10s";
    assert_eq!(
        (world.reason("a"), world.message("a")),
        ("JobPending", said)
    );
    assert_eq!(world.standing()[1], ("Reconciling", "True", "Running"));
    assert!(world.ready().ends_with(said), "{}", world.ready());
    world.pods.remove("job-flow-1");
    world.add_pod("flow-a", "pod", pending("back-off 20s"));
    world.settle();
    assert_eq!(world.message("a"), said, "the words of the first time stay");
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(290)));
    assert_eq!(world.events(), ["Created", "Created"], "and no Event");
    world.pods.remove("job-flow-1");
    world.add_pod("flow-a", "pod", pending("back-off 10s"));
    world.now += 290;
    world.settle();
    assert_eq!(world.phases(), "a Running, b Running");
    assert_eq!(world.standing()[1], ("Stalled", "True", "ImagePullBackOff"));
    let said = "step \"a\": Job \"flow-a\" can't progress: container \"main\" of pod \"pod\": back-off 10s";
    assert_eq!(world.ready(), said);
    world.pods.remove("job-flow-1");
    world.add_pod("flow-a", "pod", pending("back-off 20s"));
    let writes = world.writes;
    world.settle();
    assert_eq!(world.writes, writes, "the words of the first time stay");
    for missing in ["configmap \"x\" not found", "configmap \"y\" not found"] {
        world.pods.remove("job-flow-1");
        let pod = waiting("CreateContainerConfigError", missing);
        world.add_pod("flow-a", "pod", pod);
        world.settle();
        assert!(world.ready().ends_with(missing), "{}", world.ready());
    }
    world.pods.remove("job-flow-1");
    world.add_pod("flow-a", "pod", super::world::running());
    world.settle();
    assert_eq!(world.standing()[1], ("Reconciling", "True", "Running"));
}

#[test]
fn a_step_whose_pod_is_refused_quotes_the_event_that_says_why() {
    let mut world = World::of(json!([step("a", &[]), step("b", &[])]));
    world.settle();
    world.warning = Some(Failure::new("FailedCreate", "exceeded quota: pods"));
    world.now += 9;
    world.settle();
    assert_eq!(world.asked, [], "a Job that has just been made");
    world.now += 1;
    world.settle();
    let said = "Job \"flow-a\" does not progress yet: FailedCreate: no pod of the Job has been created: exceeded quota: pods";
    assert_eq!(
        (world.reason("a"), world.message("a")),
        ("JobPending", said)
    );
    assert_eq!(
        world.message("b"),
        said.replace("flow-a", "flow-b"),
        "each of them is asked about"
    );
    let once = ["job-flow-1", "job-flow-2"].map(|uid| Question::Warning(uid.to_owned()));
    world.now += 100;
    world.settle();
    assert_eq!(world.asked, once);

    world.now += 190;
    world.settle();
    assert_eq!(world.standing()[1], ("Stalled", "True", "FailedCreate"));
    assert_eq!(
        world.ready(),
        "step \"a\": Job \"flow-a\" can't progress: no pod of the Job has been created: exceeded quota: pods"
    );
    assert_eq!(world.asked.len(), 3, "again of the one that it names");
    // The words stay, and they are not read again.
    world.warning = None;
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.reason("a"), "FailedCreate");
    assert_eq!(world.asked.len(), 3);
    world.add_pod("flow-a", "pod", super::world::running());
    world.settle();
    assert_eq!(world.message("a"), "");
}

#[test]
fn a_step_whose_pod_no_event_explains_says_so_and_is_not_asked_about_again() {
    let mut world = World::of(json!([step("a", &[])]));
    world.settle();
    for _ in 0..20 {
        world.now += 10;
        world.settle();
    }
    assert!(
        world
            .message("a")
            .ends_with("no pod of the Job has been created: no Warning Event about it was found"),
        "{}",
        world.message("a")
    );
    assert_eq!(world.asked.len(), 1);
}

#[test]
fn of_many_steps_that_wait_the_api_server_is_asked_about_twenty() {
    let steps = (0..50).map(|number| step(&format!("s{number:02}"), &[]));
    let mut world = World::of(steps.collect());
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.asked.len(), 20);
}

#[test]
fn what_makes_no_sense_starts_nothing() {
    for (steps, message) in [
        (
            json!([step("a", &[]), step("a", &[])]),
            "two steps have the name \"a\": rename one of them",
        ),
        (json!([step("a", &["a"])]), "step \"a\" depends on itself"),
        (
            json!([step("a", &["c"]), step("b", &["a"]), step("c", &["b"])]),
            "these steps wait for each other: a → c → b → a",
        ),
    ] {
        let mut world = World::of(steps);
        world.settle();
        assert_eq!(world.standing()[1], ("Stalled", "True", "InvalidFlow"));
        assert_eq!(world.ready(), message);
        assert_eq!((world.state(), world.made), ("Pending", 0));
        assert_eq!(world.events(), ["InvalidFlow"]);
    }
}

#[test]
fn a_quota_that_is_exhausted_is_tried_with_a_few_jobs() {
    let names: Vec<_> = (0..50).map(|n| format!("s{n:02}")).collect();
    let retry = json!({"retry": {"limit": 1}});
    let steps = names.iter().map(|name| step_with(name, &[], retry.clone()));
    let mut world = World::of(steps.collect());
    let refuse = |world: &mut World| {
        let refusal = Failure::new("Forbidden", "exceeded quota");
        let all = names.iter().map(|name| (name.clone(), refusal.clone()));
        world.refusals = all.collect();
    };
    refuse(&mut world);
    assert_eq!(world.starts().len(), 50, "nobody knows yet");
    for phase in [Phase::Blocked, Phase::Running] {
        world.settle();
        assert_eq!(world.starts().len(), 10);
        let conclusion = world.pass().expect("nobody dies");
        assert_eq!(conclusion.requeue_after, Some(Duration::from_mins(1)));
        for name in &names {
            assert_eq!(
                (world.phase(name), world.reason(name)),
                (phase, "Forbidden")
            );
        }
        world.refusals.clear();
        let conclusion = world.pass().expect("nobody dies");
        assert_eq!(conclusion.requeue_after, Some(Duration::ZERO));
        world.settle();
        assert_eq!(world.made, if phase == Phase::Blocked { 50 } else { 100 });
        // The same for second attempts.
        for name in world.jobs.keys().cloned().collect::<Vec<_>>() {
            if phase == Phase::Blocked {
                world.fail(&name);
            }
        }
        world.settle();
        refuse(&mut world);
        world.now += 10;
    }
}
