//! The process dies after any of its writes, and another takes over: the same Jobs, and the same status,
//! as if nothing had happened.

use kube::ResourceExt;
use operon_api::{
    keys,
    reactive_job::{ConcurrencyPolicy, Retry, State},
};

use super::{
    concurrency::busy,
    takeover::{HASH, add_sap, copy},
    triggers::{known, looking},
    world::{World, running},
};
use crate::driver::memory::Reconciles as _;

/// One thing that happens.
type Step = fn(&mut World);

/// Something happens, and is seen to; by a process that dies after so many writes, and by another.
fn play(world: &mut World, step: Step, death: Option<usize>) {
    world.now += 1;
    step(world);
    if let Some(writes) = death {
        world.die_after(writes);
    }
    world.settle();
}

/// The Jobs that were created, the Jobs that exist in the end, and the reports on them.
fn outcome(world: &World) -> String {
    let jobs: Vec<_> = world.jobs.values().collect();
    let status = (!world.is_gone).then(|| world.status());
    format!("{} {jobs:#?} {status:#?}", world.made)
}

/// The result is the same, whichever write is the last of a process.
fn survives(story: &str, world: &World, steps: &[Step]) {
    let mut undisturbed = world.clone();
    for step in steps {
        play(&mut undisturbed, *step, None);
    }
    let mut world = world.clone();
    for (place, step) in steps.iter().enumerate() {
        let before = world.clone();
        play(&mut world, *step, None);
        let writes = world.writes - before.writes;
        assert!(writes > 0, "{story}: something happens in step {place}");
        for death in 0..writes {
            let mut disturbed = before.clone();
            play(&mut disturbed, *step, Some(death));
            for step in &steps[place + 1..] {
                play(&mut disturbed, *step, None);
            }
            assert_eq!(
                outcome(&disturbed),
                outcome(&undisturbed),
                "{story}: step {place}, after {death} of {writes} writes"
            );
        }
    }
}

fn succeed(world: &mut World) {
    world.succeed(&world.newest());
}

fn fail(world: &mut World) {
    world.fail(&world.newest());
}

fn edit(world: &mut World) {
    let made = world.made;
    world.edit_digest(&format!("digest-{made}"));
}

/// The newest Job gets a pod.
fn run(world: &mut World) {
    let pod = format!("pod-{}", world.made);
    world.add_pod(&world.newest(), &pod, running());
    world.annotate("seen", "yes");
    world.edit_spec(|_| {});
}

/// All pods go.
fn stop(world: &mut World) {
    for uid in world.pods.keys().cloned().collect::<Vec<_>>() {
        world.remove_pods(&uid);
    }
}

fn lose(world: &mut World) {
    let newest = world.newest();
    world.delete_job(&newest, false);
}

fn lose_in_the_foreground(world: &mut World) {
    let newest = world.newest();
    world.delete_job(&newest, true);
}

fn force_away(world: &mut World) {
    world.force_away(&world.newest());
}

fn delete(world: &mut World) {
    world.delete();
}

fn nothing(_: &mut World) {}

fn with_policy(policy: ConcurrencyPolicy) -> World {
    let mut world = World::new();
    world.object.spec.concurrency_policy = Some(policy);
    world
}

#[test]
fn a_first_run_and_its_edits_survive() {
    survives(
        "first",
        &World::new(),
        &[nothing, succeed, edit, fail, edit, edit, succeed],
    );
}

#[test]
fn jobs_that_are_replaced_survive() {
    let world = with_policy(ConcurrencyPolicy::Replace);
    survives(
        "replace",
        &world,
        &[nothing, run, edit, edit, stop, run, succeed],
    );
}

#[test]
fn jobs_that_wait_for_others_survive() {
    let world = with_policy(ConcurrencyPolicy::Queue);
    survives(
        "queue",
        &world,
        &[
            nothing,
            run,
            edit,
            edit,
            |world| {
                stop(world);
                succeed(world);
            },
            succeed,
        ],
    );
}

#[test]
fn jobs_that_are_lost_survive() {
    for policy in [
        ConcurrencyPolicy::Allow,
        ConcurrencyPolicy::Queue,
        ConcurrencyPolicy::Replace,
    ] {
        let world = with_policy(policy);
        for lose in [lose as Step, lose_in_the_foreground, force_away] {
            let mut steps = vec![nothing as Step, run, lose];
            if policy != ConcurrencyPolicy::Allow {
                steps.push(stop);
            }
            steps.extend([succeed as Step, edit, succeed]);
            survives(&format!("lost, {policy:?}"), &world, &steps);
        }
    }
}

#[test]
fn retries_survive() {
    let mut world = World::new();
    world.object.spec.retry = Some(Retry {
        limit: 2,
        backoff_seconds: Some(5),
    });
    let wait: Step = |world| world.now += 60;
    survives(
        "retry",
        &world,
        &[nothing, fail, wait, fail, wait, fail, edit, succeed],
    );
}

#[test]
fn reruns_survive() {
    let one: Step = |world| world.annotate(keys::RERUN, "one");
    let two: Step = |world| world.annotate(keys::RERUN, "two");
    survives("rerun", &World::ready(), &[one, succeed, two, succeed]);
}

#[test]
fn changes_of_config_maps_survive() {
    let change: Step = |world| world.config = known(&[("a", "2"), ("b", "1")]);
    let wait: Step = |world| world.now += 60;
    survives(
        "config",
        &looking(None),
        &[change, wait, succeed, edit, succeed],
    );
}

#[test]
fn a_takeover_survives() {
    let mut world = World::new();
    for (name, generation, created) in [
        ("test-bcdfg", 1, 0),
        ("test-zzzzz", 2, 1),
        ("test-bbbbb", 2, 2),
    ] {
        add_sap(&mut world, name, generation, HASH, created);
        world.succeed(name);
    }
    world.object.metadata.generation = Some(2);
    survives("adoption", &world, &[nothing, edit, succeed]);
}

#[test]
fn a_life_after_a_restore_survives() {
    for with_status in [false, true] {
        let mut world = World::ready();
        world.edit_digest("next");
        world.settle();
        world.succeed(&world.newest());
        world.settle();
        world.object.metadata.uid = Some("another".to_owned());
        world.object.metadata.generation = Some(1);
        if !with_status {
            world.object.status = None;
        }
        for (name, job) in &mut world.jobs {
            job.metadata.uid = Some(format!("restored-{name}"));
        }
        survives("restore", &world, &[nothing, edit, succeed]);
    }
}

#[test]
fn history_survives_with_and_without_the_ttl() {
    for limit in [0, 1] {
        let mut world = World::new();
        world.object.spec.successful_history_limit = Some(limit);
        world.object.spec.failed_history_limit = Some(limit);
        survives(
            "history",
            &world,
            &[nothing, succeed, edit, fail, edit, succeed, edit],
        );
    }
    let expire: Step = |world| {
        world.wait(1000);
        edit(world);
    };
    survives(
        "ttl",
        &World::new(),
        &[nothing, succeed, expire, succeed, expire, fail],
    );
}

#[test]
fn the_end_of_an_object_survives() {
    let mut world = World::ready();
    edit(&mut world);
    world.settle();
    let newest = world.newest();
    copy(&mut world, &newest, "copy");
    world.delete_job("copy", false);
    run(&mut world);
    survives("end", &world, &[delete, stop]);
    survives("end of a ready one", &World::ready(), &[delete]);
}

#[test]
fn edits_in_place_survive() {
    use operon_api::reactive_job::{TemplateTrigger, Triggers};
    let mut world = World::new();
    world.object.spec.triggers = Some(Triggers {
        template: Some(TemplateTrigger::PodTemplate),
        ..Triggers::default()
    });
    let widen: Step = |world| world.edit(|template| template["spec"]["parallelism"] = 3.into());
    survives("in place", &world, &[nothing, widen, edit, succeed]);
}

#[test]
fn suspending_survives() {
    let suspend: Step = |world| world.edit_spec(|spec| spec.suspend = Some(true));
    let resume: Step = |world| world.edit_spec(|spec| spec.suspend = None);
    survives(
        "suspend",
        &World::ready(),
        &[suspend, edit, edit, resume, lose, succeed],
    );
    survives(
        "lost while suspended",
        &World::new(),
        &[nothing, suspend, lose, resume],
    );
}

#[test]
fn one_that_has_not_seen_what_another_made_makes_the_same() {
    let mut world = World::ready();
    world.edit_digest("next");
    let blind = world.clone();
    world.settle();
    assert_eq!(blind.start().names[0], world.newest());
    world.fail(&world.newest());
    world.edit_spec(|spec| {
        spec.retry = Some(Retry {
            limit: 1,
            backoff_seconds: None,
        });
    });
    world.settle();
    world.now += 10;
    let blind = world.clone();
    world.settle();
    assert_eq!(world.made, 3);
    assert_eq!(blind.start().names[0], world.newest());
}

/// A Job was created and not recorded, and is the newest at the next change. It is stopped, and the Job
/// that the status named is deleted at the moment when the third is created.
#[test]
fn one_that_was_replaced_before_it_was_written_down_is_still_what_the_next_follows() {
    let mut world = busy(Some(ConcurrencyPolicy::Replace));
    world.edit_digest("2");
    world.settle();
    world.remove_pods("job-1");
    world.die_after(1);
    assert_eq!(world.made, 2, "and the status does not know");
    world.now += 1;
    world.edit_digest("3");
    let second = world
        .jobs
        .values()
        .find(|job| job.uid().as_deref() == Some("job-2"));
    let second = second.expect("the second Job").name_any();
    world.add_pod(&second, "pod-2", running());
    world.pass();
    world.remove_pods("job-2");
    world.die_after(2);
    assert_eq!(world.made, 3, "and the status does not know");
    world.settle();
    assert_eq!(world.made, 3, "there is one for the last change");
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
}
