//! An object that comes back under another uid, with the Jobs of its former self.

use kube::{Resource, ResourceExt};
use operon_api::{
    keys,
    reactive_job::{RunReason, State},
};

use super::{
    takeover::{HASH, add_sap},
    world::{World, time},
};

/// What a backup brings back elsewhere, a day later: everything has another uid, and runs no pods.
fn restored(world: &World, uid: &str, with_status: bool) -> World {
    let mut world = world.clone();
    world.now += 86_400;
    let now = time(world.now);
    world.object.metadata.uid = Some(uid.to_owned());
    world.object.metadata.generation = Some(1);
    world.object.metadata.creation_timestamp = Some(now.clone());
    if !with_status {
        world.object.status = None;
    }
    for (name, job) in &mut world.jobs {
        job.metadata.uid = Some(format!("{name}-for-{uid}"));
        job.metadata.creation_timestamp = Some(now.clone());
    }
    world.pods.clear();
    world.made = 0;
    world.events.clear();
    world
}

/// One whose second Job has succeeded; of the two that SAP's operator made before, the last has failed.
fn long_lived() -> World {
    let mut world = World::new();
    add_sap(&mut world, "test-zzzzz", 1, HASH, 0);
    add_sap(&mut world, "test-bbbbb", 1, HASH, 1);
    world.succeed("test-zzzzz");
    world.fail("test-bbbbb");
    world.settle();
    for digest in ["second", "third"] {
        world.now += 10;
        world.edit_digest(digest);
        world.settle();
        world.succeed(&world.newest());
        world.settle();
    }
    world
}

#[test]
fn a_restored_object_takes_over_its_jobs_and_nothing_runs_again() {
    for with_status in [false, true] {
        let before = long_lived();
        let mut world = restored(&before, "second-life", with_status);
        assert_eq!(world.settle().state, Some(State::Ready));
        assert_eq!((world.made, world.jobs.len()), (0, 4));
        assert_eq!(world.newest(), before.newest());
        for job in world.jobs.values() {
            let uid = job.labels().get(keys::CONTROLLER_UID).map(String::as_str);
            assert_eq!(uid, Some("second-life"));
            assert_eq!(job.owner_references()[0].uid, "second-life");
        }
        if !with_status {
            assert!(world.events().iter().all(|event| *event != "RunStarted"));
            let runs = &world.status().runs;
            assert!(runs.iter().all(|run| run.reason == RunReason::Adopted));
        }
        world.edit_digest("fourth");
        world.settle();
        assert_eq!(world.made, 1);
        assert_ne!(world.newest(), before.newest());
        assert!(!before.jobs.contains_key(&world.newest()));
    }
}

#[test]
fn an_object_may_be_restored_as_often_as_one_likes() {
    let first = long_lived();
    let mut world = first.clone();
    for (uid, with_status) in [("b", false), ("c", true), ("d", false), ("object", false)] {
        world = restored(&world, uid, with_status);
        assert_eq!(world.settle().state, Some(State::Ready), "{uid}");
        assert_eq!(world.made, 0, "{uid}");
        assert_eq!(world.newest(), first.newest());
    }
}

#[test]
fn jobs_that_the_garbage_collector_takes_for_orphans_still_count() {
    let mut world = restored(&long_lived(), "second-life", false);
    for name in world.jobs.keys().cloned().collect::<Vec<_>>() {
        world.delete_job(&name, false);
    }
    assert_eq!(world.jobs.len(), 1, "our finalizer holds the newest");
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 0);
}

#[test]
fn jobs_that_a_restored_object_can_not_be_known_by_are_left_alone() {
    // The other object of that uid still is: it was only moved to another name, or copied.
    let mut world = restored(&World::ready(), "second-life", false);
    let name = world.names()[0].to_owned();
    let before = world.job(&name).clone();
    world.others.push("object".to_owned());
    world.settle();
    assert_eq!(world.made, 1);
    assert_eq!(*world.job(&name), before);

    // A Job under a name that it did not get from us.
    let mut world = restored(&World::ready(), "second-life", false);
    let name = world.names()[0].to_owned();
    let mut job = world.jobs.remove(&name).expect("a Job");
    job.metadata.name = Some("test-22222".to_owned());
    world.jobs.insert("test-22222".to_owned(), job.clone());
    world.settle();
    assert_eq!(world.made, 1);
    assert_eq!(*world.job("test-22222"), job);
}

#[test]
fn a_restored_object_whose_template_is_another_runs_once() {
    let mut world = restored(&World::ready(), "second-life", false);
    world.object.spec.job_template.0["metadata"]["annotations"]["digest"] = "moved".into();
    world.settle();
    assert_eq!(world.made, 1);
    assert_eq!(world.status().runs[0].reason, RunReason::TemplateChanged);
    assert_eq!(
        world.status().runs[0].changes,
        ["metadata.annotations.digest: abc123 → moved"]
    );
}

#[test]
fn an_unfinished_job_that_is_restored_is_waited_for() {
    let mut world = World::new();
    world.settle();
    let mut world = restored(&world, "second-life", false);
    assert_eq!(world.settle().state, Some(State::Processing));
    let name = world.newest();
    world.succeed(&name);
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.made, 0);
    assert!(world.job(&name).meta().finalizers.is_some());
}
