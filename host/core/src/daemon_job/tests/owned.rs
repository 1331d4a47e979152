//! Job ownership: a Job that the object does not own does not count, and is ignored.

use std::collections::BTreeMap;

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{DaemonJob, daemon_job::FlowState, keys};

use super::world::World;
use crate::{
    daemon_job::{job::claim, plan::adopts},
    driver::{Claim, Start},
};

type Edit = fn(&mut Job);

/// Long after every object here was created.
const NOW: Timestamp = Timestamp::MAX;

/// Puts a copy of a Job into the cluster.
fn copy(world: &mut World, of: &str, name: &str, edit: impl FnOnce(&mut Job)) {
    let mut job = world.job(of).clone();
    job.metadata.name = Some(name.to_owned());
    job.metadata.uid = Some(format!("copy-{name}"));
    edit(&mut job);
    world.jobs.insert(name.to_owned(), job);
}

/// What there is of a Job that was not touched.
fn snapshot(world: &World, name: &str) -> Job {
    world.job(name).clone()
}

#[test]
fn a_job_that_is_somebody_elses_is_left_alone() {
    let mut world = World::new(&["a"]);
    let mut other = World::new(&["a"]);
    other.object.metadata.uid = Some("other".to_owned());
    other.settle();
    world.jobs.clone_from(&other.jobs);
    world.made = 10;
    world.settle();
    world.now += 60;
    world.settle();
    assert_eq!(world.names().len(), 2);
    assert!(world.running("a").starts_with("dj-a-"));
    assert_eq!(world.job("dj-a").labels()[keys::OWNER_UID], "other");
}

#[test]
fn a_job_that_goes_with_the_object_that_had_the_name_before_is_waited_for() {
    let mut world = World::new(&["a"]);
    let mut former = World::new(&["a"]);
    former.object.metadata.uid = Some("former".to_owned());
    former.settle();
    world.jobs.clone_from(&former.jobs);
    for skew in [-3600, 3600] {
        let mut world = world.clone();
        let made = super::world::time(world.now + skew);
        world.object.metadata.creation_timestamp = Some(made);
        world.settle();
        world.now += 59;
        world.settle();
        assert_eq!(world.made, 0, "by a clock that is {skew} s ahead");
        world.jobs.clear();
        world.settle();
        assert_eq!(world.running("a"), "dj-a");
    }
}

#[test]
fn what_only_looks_like_a_job_of_this_object_counts_for_nothing() {
    let edits: [(&str, &str, Edit); 4] = [
        ("another namespace", "dj-b", |job| {
            job.metadata.namespace = Some("other".to_owned());
        }),
        ("a copy", "copy-of-dj-b", |_| {}),
        ("a copy that is called as another attempt", "dj-b-2", |_| {}),
        ("no owner", "dj-b", |job| {
            job.metadata.owner_references = None;
        }),
    ];
    for (what, name, edit) in edits {
        let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1}");
        world.edit(|spec| spec["ttlSecondsAfterFinished"] = 60.into());
        world.settle();
        let mut model = world.clone();
        model.succeed("a");
        model.settle();
        world
            .jobs
            .insert("dj-b".to_owned(), model.job("dj-b").clone());
        copy(&mut world, "dj-b", name, edit);
        if name != "dj-b" {
            world.jobs.remove("dj-b");
        }
        world.end_job(name, "Complete", "CompletionsReached", "well");
        let before = snapshot(&world, name);
        world.settle();
        assert_eq!(world.progress(), "0/2", "{what}");
        assert_eq!(world.status().job_status_list.len(), 1, "{what}");
        // Neither is it deleted when the spec is edited, nor when its node leaves.
        world.edit_image("alpine:2");
        world.settle();
        world.leave("b");
        world.settle();
        assert_eq!(snapshot(&world, name), before, "{what}");
    }
}

fn first(world: &World) -> (DaemonJob, Start) {
    let start = world.plan().start.into_iter().next().expect("a start");
    (world.object.clone(), start)
}

#[test]
fn a_job_is_never_taken_for_one_of_another_node_revision_or_attempt() {
    let mut world = World::new(&["a"]);
    let (object, start) = first(&world);
    world.settle();
    let job = world.job("dj-a").clone();
    assert_eq!(claim(&object, &start, true, &job, NOW), Claim::Mine);
    let edits: [(&str, Edit); 7] = [
        ("another object", |job| {
            set(job.labels_mut(), keys::OWNER_UID);
        }),
        ("another node", |job| set(job.labels_mut(), keys::NODE_UID)),
        ("another revision", |job| {
            set(job.annotations_mut(), keys::REVISION);
        }),
        ("another attempt", |job| {
            set(job.annotations_mut(), keys::RUN_ATTEMPT);
        }),
        ("no node", |job| {
            drop(job.labels_mut().remove(keys::NODE_UID));
        }),
        ("no owner", |job| job.metadata.owner_references = None),
        ("another controller", |job| {
            let mut other = job.owner_references()[0].clone();
            other.uid = "other".to_owned();
            job.owner_references_mut().push(other);
        }),
    ];
    for (what, edit) in edits {
        let mut other = job.clone();
        edit(&mut other);
        assert_eq!(
            claim(&object, &start, true, &other, NOW),
            Claim::Others,
            "{what}"
        );
    }
}

fn set(map: &mut BTreeMap<String, String>, key: &str) {
    map.insert(key.to_owned(), "2".to_owned());
}

#[test]
fn a_stale_cache_takes_no_job_of_another_node() {
    // `n` is to have its second attempt, which would be called as the first of `n-2`.
    let mut world = World::with_rollout(&["n", "n-2"], "{retry: {limit: 3, backoffSeconds: 0}}");
    world.settle();
    world.fail("n");
    let hidden = world.jobs.remove("dj-n-2").expect("a Job");
    let plan = world.plan();
    let start = plan.start.iter().find(|start| start.names[0] == "dj-n-2");
    let start = start.expect("a start under this name");
    assert_eq!(
        claim(&world.object, start, adopts(&world.object), &hidden, NOW),
        Claim::Others
    );
}

#[test]
fn a_job_of_another_operator_is_only_adopted_for_the_first_attempt() {
    let mut world = World::new(&["a"]);
    let (object, start) = first(&world);
    world.settle();
    let mut job = world.job("dj-a").clone();
    job.metadata.labels = None;
    job.metadata.annotations = None;
    let adopts =
        |start: &Start, adopts| matches!(claim(&object, start, adopts, &job, NOW), Claim::Adopt(_));
    assert!(adopts(&start, true));
    assert!(!adopts(&start, false));
    let mut second = start.clone();
    second.body["metadata"]["annotations"][keys::RUN_ATTEMPT] = "2".into();
    assert!(!adopts(&second, true));
    world.succeed("a");
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);
}
