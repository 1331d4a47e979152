//! The world that the stories about a `ReplicaSet` share, and how everybody takes a turn in it.

use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};

pub(crate) const FIRST: &str = "foo-bbbbb";
pub(crate) const SECOND: &str = "foo-bbbbc";
pub(crate) const THIRD: &str = "foo-bbbbd";
pub(crate) const FOURTH: &str = "foo-bbbbf";

/// `foo` with so many ready pods, created a while ago.
pub(crate) fn world(replicas: u32) -> FakeCluster {
    let mut world = FakeCluster::new();
    world.add_deployment("foo", "h", replicas);
    world.advance(60);
    world
}

/// One turn of everybody: the job, the `ReplicaSet` controller, the kubelet.
pub(crate) fn turn(job: &mut FakeJob<Replace>, world: &mut FakeCluster) {
    job.pass(world);
    world.run_replica_sets();
    world.finish_deletions();
    world.advance(1);
}

/// As [`turn`], and new pods become ready.
pub(crate) fn ready_turn(job: &mut FakeJob<Replace>, world: &mut FakeCluster) {
    turn(job, world);
    world.make_all_ready();
}

pub(crate) fn ready_turns(job: &mut FakeJob<Replace>, world: &mut FakeCluster, turns: usize) {
    for _ in 0..turns {
        ready_turn(job, world);
    }
}

/// How many pods are ready and stay.
pub(crate) fn ready(world: &FakeCluster) -> usize {
    let pods = world.pods();
    pods.iter().filter(|pod| pod.ready && !pod.deleting).count()
}

/// No pod carries a trace of a replacement, and the `ReplicaSet` owns exactly these.
pub(crate) fn assert_untouched(world: &FakeCluster, pods: &[&str]) {
    assert_eq!(world.staying_pods(), pods);
    for name in pods {
        let pod = world.expect_pod(name);
        assert_eq!(pod.label(keys::TEMPLATE_HASH), Some("h"), "{name}");
        assert!(pod.controller().is_some(), "{name}");
        assert_eq!(pod.label(keys::RELEASED_FROM), None, "{name}");
        assert_eq!(pod.label(keys::JOB), None, "{name}");
        assert_eq!(pod.label(keys::REPLACES), None, "{name}");
        assert_eq!(pod.annotation(keys::ORIGIN), None, "{name}");
    }
}
