//! With `spec.triggers.template: PodTemplate` only the pods count; the rest of the template is
//! changed in place, as far as Kubernetes allows that.

use k8s_openapi::api::batch::v1::JobSpec;
use operon_api::{
    conditions::{READY, RECONCILING},
    keys,
    reactive_job::{State, TemplateTrigger, Triggers},
};
use serde_json::{Value, json};

use super::world::World;

/// Only the pods count, or the whole.
fn count(world: &mut World, template: Option<TemplateTrigger>) {
    let triggers = Triggers {
        template,
        ..Triggers::default()
    };
    world.edit_spec(|spec| spec.triggers = Some(triggers));
    world.settle();
}

/// An object with a running Job, of whose template only the pods count.
fn pods_count() -> World {
    let mut world = World::new();
    count(&mut world, Some(TemplateTrigger::PodTemplate));
    world
}

fn edit_spec(world: &mut World, field: &str, value: Value) {
    world.edit(|template| template["spec"][field] = value);
    world.settle();
}

fn spec(world: &World) -> JobSpec {
    let job = world.job(&world.newest());
    job.spec.clone().expect("a spec")
}

#[test]
fn what_can_be_changed_in_place_is_and_runs_nothing() {
    let mut world = pods_count();
    let before = spec(&world);
    edit_spec(&mut world, "suspend", json!(true));
    assert_eq!(spec(&world).suspend, Some(true));
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "JobSuspended")
        ]
    );
    edit_spec(&mut world, "suspend", json!(false));
    edit_spec(&mut world, "parallelism", json!(3));
    edit_spec(&mut world, "backoffLimit", json!(1));
    edit_spec(&mut world, "activeDeadlineSeconds", json!(60));
    edit_spec(&mut world, "ttlSecondsAfterFinished", json!(7));
    let after = JobSpec {
        parallelism: Some(3),
        backoff_limit: Some(1),
        active_deadline_seconds: Some(60),
        ttl_seconds_after_finished: Some(7),
        ..before
    };
    assert_eq!(spec(&world), after);
    assert_eq!((world.made, world.jobs.len()), (1, 1));

    // A field that was removed from the template keeps its value, except `suspend`: an absent `suspend`
    // never means to suspend.
    edit_spec(&mut world, "suspend", json!(true));
    world.edit(|template| {
        let fields = template["spec"].as_object_mut().expect("an object");
        fields.retain(|field, _| field == "template");
    });
    world.settle();
    assert_eq!(spec(&world), after);
}

#[test]
fn everything_else_waits_for_the_next_run() {
    let mut world = pods_count();
    let before = world.job(&world.newest()).clone();
    edit_spec(&mut world, "completions", json!(5));
    world.edit_digest("next");
    world.settle();
    assert_eq!(*world.job(&world.newest()), before);
    world.edit(|template| {
        template["spec"]["template"]["spec"]["containers"][0]["image"] = json!("alpine:3");
    });
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(spec(&world).completions, Some(5));
    assert_eq!(
        world.status().runs[0].changes,
        [
            "metadata.annotations.digest: abc123 → next",
            "spec.completions: 1 → 5",
            "spec.template.spec.containers[main].image: alpine → alpine:3",
            "spec.template.spec.containers[main].imagePullPolicy: Always → IfNotPresent",
        ]
    );
}

#[test]
fn of_a_finished_job_only_the_ttl_can_be_changed() {
    let mut world = pods_count();
    world.succeed(&world.newest());
    world.settle();
    edit_spec(&mut world, "parallelism", json!(3));
    edit_spec(&mut world, "suspend", json!(true));
    edit_spec(&mut world, "ttlSecondsAfterFinished", json!(7));
    let after = spec(&world);
    assert_eq!((after.parallelism, after.suspend), (Some(1), Some(false)));
    assert_eq!(after.ttl_seconds_after_finished, Some(7));
    // A Job that is being deleted is left alone.
    world.wait(7);
    edit_spec(&mut world, "ttlSecondsAfterFinished", json!(9));
    assert_eq!(spec(&world).ttl_seconds_after_finished, Some(7));
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 1);
}

#[test]
fn what_others_change_in_a_job_is_theirs() {
    let mut world = pods_count();
    let newest = world.newest();
    let job = world.job_mut(&newest).spec.get_or_insert_default();
    job.suspend = Some(true);
    job.parallelism = Some(9);
    world.settle();
    let after = spec(&world);
    assert_eq!((after.parallelism, after.suspend), (Some(9), Some(true)));
}

#[test]
fn an_edit_of_the_ttl_leaves_what_a_queue_or_a_user_wrote_into_the_job() {
    let mut world = pods_count();
    world.edit(|template| template["metadata"]["labels"] = json!({keys::QUEUE_NAME: "team-a"}));
    world.settle();
    edit_spec(&mut world, "parallelism", json!(2));
    let newest = world.newest();
    let job = world.job_mut(&newest);
    job.metadata
        .labels
        .get_or_insert_default()
        .insert(keys::QUEUE_NAME.to_owned(), "team-a".to_owned());
    let job = job.spec.get_or_insert_default();
    job.suspend = Some(true);
    job.parallelism = Some(9);
    for ttl in [900, 901] {
        edit_spec(&mut world, "ttlSecondsAfterFinished", json!(ttl));
        let after = spec(&world);
        assert_eq!(
            (
                after.parallelism,
                after.suspend,
                after.ttl_seconds_after_finished
            ),
            (Some(9), Some(true), Some(ttl))
        );
    }
    world.now += 100_000;
    world.settle();
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "JobSuspended")
        ]
    );
    assert_eq!(
        world.condition(READY).message,
        format!("Job {newest:?} is suspended by the queue \"team-a\"")
    );
    // Edited, the field is the user's again.
    edit_spec(&mut world, "parallelism", json!(3));
    assert_eq!(
        (spec(&world).parallelism, spec(&world).suspend),
        (Some(3), Some(true))
    );
    assert_eq!(world.made, 1);
}

#[test]
fn a_job_that_a_queue_resumed_is_not_suspended_again() {
    let mut world = World::new();
    world.object.spec.triggers = Some(Triggers {
        template: Some(TemplateTrigger::PodTemplate),
        ..Triggers::default()
    });
    world.edit(|template| template["spec"]["suspend"] = json!(true));
    world.settle();
    assert_eq!(
        world.condition(READY).message,
        format!(
            "Job {:?} is suspended by spec.jobTemplate.spec.suspend",
            world.newest()
        )
    );
    let newest = world.newest();
    world.job_mut(&newest).spec.get_or_insert_default().suspend = Some(false);
    edit_spec(&mut world, "ttlSecondsAfterFinished", json!(9));
    assert_eq!(spec(&world).suspend, Some(false));
    edit_spec(&mut world, "suspend", json!(null));
    edit_spec(&mut world, "suspend", json!(true));
    assert_eq!(spec(&world).suspend, Some(true), "edited by the user");
}

#[test]
fn to_count_otherwise_runs_nothing_by_itself() {
    let mut world = World::ready();
    for _ in 0..2 {
        count(&mut world, Some(TemplateTrigger::PodTemplate));
        edit_spec(&mut world, "ttlSecondsAfterFinished", json!(7));
        world.edit_digest("next");
        world.settle();
        count(&mut world, None);
        assert_eq!(world.made, 1);
    }
    // From there on a change of anything is one.
    world.edit_digest("last");
    world.settle();
    assert_eq!(world.made, 2);
    world.succeed(&world.newest());
    world.settle();
    count(&mut world, Some(TemplateTrigger::JobTemplate));
    count(&mut world, Some(TemplateTrigger::PodTemplate));
    assert_eq!(world.made, 2);
}

#[test]
fn a_ttl_that_is_edited_in_the_whole_template_runs_a_job() {
    let mut world = World::ready();
    edit_spec(&mut world, "ttlSecondsAfterFinished", json!(7));
    assert_eq!(world.made, 2);
    assert_eq!(
        world.status().runs[0].changes,
        ["spec.ttlSecondsAfterFinished: 120 → 7"]
    );
}

#[test]
fn edits_while_a_job_is_due_are_in_it() {
    let mut world = pods_count();
    world.succeed(&world.newest());
    world.edit_spec(|spec| spec.suspend = Some(true));
    world.edit(|template| {
        template["spec"]["template"]["spec"]["containers"][0]["image"] = json!("alpine:3");
    });
    world.settle();
    edit_spec(&mut world, "parallelism", json!(3));
    world.edit_spec(|spec| spec.suspend = None);
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(spec(&world).parallelism, Some(3));
    // The first had nothing of it.
    let first = world.status().runs[1].job_name.clone();
    let first = world.job(&first).spec.as_ref().expect("a spec");
    assert_eq!(first.parallelism, Some(1));
}
