//! The end of an object: its Jobs first, with their pods, and nothing while another controller holds it.

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, RECONCILING},
    keys,
    reactive_job::State,
};

use super::{
    concurrency::busy,
    takeover::{HASH, add_sap},
    world::World,
};
use crate::driver::memory::Reconciles as _;
use crate::reactive_job::plan::{End, Plan};

const FOREIGN: &str = "example.com/backup";

/// One with a Job that runs a pod, after one that succeeded.
fn grown() -> World {
    let mut world = World::ready();
    world.edit_digest("next");
    world.settle();
    world.add_pod(&world.newest(), "pod-2", super::world::running());
    world.settle();
    world
}

#[test]
fn an_object_goes_when_its_jobs_and_their_pods_are_gone() {
    let mut world = grown();
    let newest = world.newest();
    world.delete();
    assert_eq!(world.settle().state, Some(State::Deleting));
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Deleting"),
            (RECONCILING, "True", "DeletingJobs")
        ]
    );
    assert_eq!(
        world.condition(READY).message,
        "waiting for deletion of dependent jobs"
    );
    // The pods go first: the Job is held by the garbage collector, and by us no more.
    assert_eq!(world.names(), [newest.as_str()]);
    assert_eq!(world.job(&newest).finalizers(), ["foregroundDeletion"]);
    world.now += 1_000_000;
    world.settle();
    assert!(!world.is_gone);

    world.remove_pods("job-2");
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.names(), [] as [&str; 0]);
    assert_eq!(world.made, 2);
}

#[test]
fn an_object_deleted_before_any_pass_goes_with_the_jobs_that_it_had() {
    let mut world = World::new();
    world.delete();
    world.pass();
    assert!(world.is_gone);
    assert_eq!(world.made, 0);

    let mut world = World::new();
    add_sap(&mut world, "test-bcdfg", 1, HASH, 0);
    add_sap(&mut world, "test-zzzzz", 1, HASH, 1);
    let finalizers = world.object.finalizers_mut();
    finalizers.push(keys::REACTIVE_JOB_FINALIZER.to_owned());
    world.delete();
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.names(), [] as [&str; 0]);
}

#[test]
fn an_object_that_somebody_else_holds_keeps_its_jobs() {
    let mut world = grown();
    let jobs = world.jobs.clone();
    world.object.finalizers_mut().push(FOREIGN.to_owned());
    world.object.finalizers_mut().push("example.com/x".into());
    world.delete();
    assert_eq!(world.settle().state, Some(State::DeletionBlocked));
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "DeletionBlocked"),
            (RECONCILING, "True", "ForeignFinalizers")
        ]
    );
    assert_eq!(
        world.condition(READY).message,
        "Deletion blocked due to foreign finalizers: example.com/backup, example.com/x"
    );
    assert_eq!(world.jobs, jobs);
    assert_eq!(
        world.plan(),
        Plan::End(End::Blocked(vec![FOREIGN.into(), "example.com/x".into()]))
    );

    world.remove_pods("job-2");
    world
        .object
        .finalizers_mut()
        .retain(|f| !f.starts_with("example.com/"));
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.names(), [] as [&str; 0]);
}

#[test]
fn a_job_that_somebody_else_holds_is_named_with_what_holds_it() {
    let mut world = World::ready();
    let newest = world.newest();
    world.job_mut(&newest).finalizers_mut().push(FOREIGN.into());
    world.delete();
    assert_eq!(world.settle().state, Some(State::Deleting));
    assert_eq!(
        world.condition(RECONCILING).message,
        format!(
            "waiting for deletion of dependent jobs: Job {newest:?} is held by the finalizers of other controllers: {FOREIGN}"
        )
    );
    assert_eq!(world.job(&newest).finalizers(), [FOREIGN]);
    assert!(!world.is_gone);
    world.force_away(&newest);
    world.settle();
    assert!(world.is_gone);
}

#[test]
fn an_object_deleted_without_its_jobs_leaves_them_released() {
    // Before the garbage collector has taken the owner off, and after.
    for collected in [false, true] {
        let mut world = grown();
        world.delete();
        if collected {
            for job in world.jobs.values_mut() {
                job.metadata.owner_references = None;
            }
        } else {
            world.object.finalizers_mut().push("orphan".to_owned());
        }
        world.settle();
        assert!(world.is_gone);
        assert_eq!(world.jobs.len(), 2);
        for job in world.jobs.values() {
            assert_eq!(job.finalizers(), [] as [&str; 0]);
            assert!(job.metadata.deletion_timestamp.is_none());
        }
        assert_eq!(world.pods["job-2"].len(), 1);
    }
}

#[test]
fn an_object_deleted_in_the_foreground_does_not_wait_for_itself() {
    let mut world = World::ready();
    let finalizers = world.object.finalizers_mut();
    finalizers.push("foregroundDeletion".to_owned());
    world.delete();
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.names(), [] as [&str; 0]);
    assert_eq!(world.object.finalizers(), ["foregroundDeletion"]);
}

#[test]
fn jobs_of_another_object_of_that_name_are_left_alone() {
    let mut world = World::ready();
    add_sap(&mut world, "test-bcdfg", 1, HASH, 0);
    let labels = world.job_mut("test-bcdfg").labels_mut();
    labels.insert(keys::CONTROLLER_UID.to_owned(), "former".to_owned());
    world.delete();
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.names(), ["test-bcdfg"]);
}

#[test]
fn what_was_on_its_way_ends_with_the_object() {
    let mut world = busy(None);
    world.edit_spec(|spec| spec.suspend = Some(true));
    world.edit_digest("next");
    world.settle();
    world.delete();
    world.edit_spec(|spec| spec.suspend = None);
    world.settle();
    world.remove_pods("job-1");
    world.settle();
    assert!(world.is_gone);
    assert_eq!(world.made, 1);
}
