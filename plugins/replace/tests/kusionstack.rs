//! Stories of jobs that KusionStack's controller began and that this action continues: its finalizer and
//! its request to replace a pod leave every pod.

use operon_action_replace::{Replace, copy, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, Value, json};

fn metadata(labels: &Value) -> Value {
    let owner = json!([{"apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet",
        "name": "foo", "uid": "c", "controller": true}]);
    json!({"labels": labels, "ownerReferences": owner})
}

/// `foo-a` of a `CollaSet`, as KusionStack's controller left it when it had requested its replacement.
fn begun() -> (FakeCluster, FakeJob<Replace>) {
    let mut world = FakeCluster::new();
    let labels =
        json!({keys::INSTANCE_ID: "0", keys::SERVICE_AVAILABLE: "1", keys::TO_REPLACE: "true"});
    world.add_pod("foo-a", &metadata(&labels));
    protect(&mut world, "foo-a");
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.targets[0].progress = Some(Progress::Processing);
    job.targets[0].uid = Some(world.expect_pod("foo-a").uid);
    (world, job)
}

fn protect(world: &mut FakeCluster, pod: &str) {
    world.change_pod(
        pod,
        &json!({"metadata": {"finalizers": ["other/one", keys::PROTECTED]}}),
    );
}

fn pair(world: &mut FakeCluster) {
    let labels = json!({keys::INSTANCE_ID: "2", keys::PAIR_ORIGIN_NAME: "foo-a"});
    world.add_pod("foo-n", &metadata(&labels));
    world.change_pod(
        "foo-a",
        &json!({"metadata": {"labels": {keys::PAIR_NEW_ID: "2"}}}),
    );
}

fn is_protected(world: &FakeCluster, pod: &str) -> bool {
    let finalizers = world.expect_pod(pod).finalizers;
    assert!(finalizers.contains(&"other/one".to_owned()));
    finalizers.contains(&keys::PROTECTED.to_owned())
}

#[test]
fn the_request_of_a_job_that_was_begun_becomes_this_jobs_without_the_finalizer() {
    let (mut world, mut job) = begun();
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some(keys::TAKEN_OVER));
    let origin = world.expect_pod("foo-a");
    assert_eq!(origin.label(keys::TO_REPLACE), Some("true"));
    assert_eq!(origin.label(keys::JOB), Some("j1"));
    assert!(!is_protected(&world, "foo-a"));
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some("WaitingForNewPod"));
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn a_deleted_origin_is_held_until_its_new_pod_is_recorded() {
    let (mut world, mut job) = begun();
    world.start_deleting("foo-a");
    job.pass(&mut world);
    assert!(
        is_protected(&world, "foo-a"),
        "the CollaSet can still pair it"
    );
    pair(&mut world);
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").extra(keys::NEW_POD), Some("foo-n"));
    assert!(
        is_protected(&world, "foo-a"),
        "the status is not written yet"
    );
    job.pass(&mut world);
    assert!(!is_protected(&world, "foo-a"));
}

#[test]
fn cancelling_removes_the_request_and_the_finalizer() {
    for operated in [false, true] {
        let (mut world, mut job) = begun();
        if operated {
            job.pass(&mut world);
        }
        job.cancel(&mut world);
        let origin = world.expect_pod("foo-a");
        assert_eq!(origin.label(keys::TO_REPLACE), None);
        assert_eq!(origin.label(keys::JOB), None);
        assert!(!is_protected(&world, "foo-a"));
    }
}

#[test]
fn cancelling_frees_an_origin_that_is_being_deleted() {
    let (mut world, mut job) = begun();
    pair(&mut world);
    let serves = json!({"metadata": {"labels": {keys::SERVICE_AVAILABLE: "1"}}});
    world.change_pod("foo-n", &serves);
    world.start_deleting("foo-a");
    job.job.ending = true;
    job.cancel(&mut world);
    assert!(!is_protected(&world, "foo-a"));
    assert_eq!(world.expect_pod("foo-n").label(keys::TO_DELETE), None);
}

#[test]
fn a_new_pod_is_freed_of_the_finalizer_where_the_origin_is_gone() {
    let (mut world, mut job) = begun();
    pair(&mut world);
    protect(&mut world, "foo-n");
    world.remove_pod("foo-a");
    job.targets[0].extra_info = vec![(keys::NEW_POD.to_owned(), "foo-n".to_owned())];
    job.cancel(&mut world);
    assert!(!is_protected(&world, "foo-n"));
}

#[test]
fn a_pod_that_no_collaset_controls_loses_both_and_is_replaced() {
    let mut world = FakeCluster::new();
    let pod = world.add_pod("foo", &json!({"labels": {keys::TO_REPLACE: "true"}}));
    protect(&mut world, "foo");
    let cancelled = {
        let mut world = world.clone();
        let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
        job.cancel(&mut world);
        world
    };
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    for world in [&world, &cancelled] {
        assert_eq!(world.expect_pod("foo").label(keys::TO_REPLACE), None);
        assert!(!is_protected(world, "foo"));
    }
    job.pass(&mut world);
    assert_eq!(world.staying_pods(), ["foo".to_owned(), copy::name(&pod)]);
}
