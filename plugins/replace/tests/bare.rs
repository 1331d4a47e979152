//! Stories of Replace on standalone pods.

use operon_action_replace::{Replace, copy, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

fn world() -> (FakeCluster, String) {
    let mut world = FakeCluster::new();
    let pod = world.add_pod("foo", &json!({"labels": {"app": "foo"}}));
    let name = copy::name(&pod);
    (world, name)
}

#[test]
fn a_copy_is_ready_before_the_pod_goes() {
    let (mut world, copy) = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    job.pass(&mut world);
    assert_eq!(world.staying_pods(), ["foo", &copy]);
    assert_eq!(job.target("foo").reason(), Some("NewPodNotReady"));
    let made = world
        .object("v1", "Pod", &copy)
        .cloned()
        .expect("it was made");
    assert!(made["spec"]["nodeName"].is_null());
    assert_eq!(made["metadata"]["labels"]["app"], "foo");

    world.make_ready(&copy);
    job.pass(&mut world);
    world.finish_deletions();
    job.pass(&mut world);
    assert_eq!(world.staying_pods(), [copy.as_str()]);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(job.target("foo").extra(keys::NEW_POD), Some(copy.as_str()));
    assert_eq!(world.writes().len(), 2);
}

#[test]
fn cancelling_deletes_the_copy_and_keeps_the_pod_until_the_pod_is_on_its_way_out() {
    let (mut world, copy) = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    world.make_ready(&copy);
    let mut cancelled = (job.clone(), world.clone());
    cancelled.0.cancel(&mut cancelled.1);
    assert_eq!(cancelled.1.staying_pods(), ["foo"]);

    job.pass(&mut world);
    job.cancel(&mut world);
    assert_eq!(world.staying_pods(), [copy.as_str()]);
}

#[test]
fn a_copy_that_ends_or_whose_name_is_taken_fails_with_a_reason() {
    let (mut world, copy) = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    world.end_pod(&copy, "Failed");
    job.pass(&mut world);
    assert_eq!(job.target("foo").reason(), Some(keys::NEW_POD_FAILED));
    job.release(&mut world);
    assert_eq!(world.staying_pods(), ["foo"]);

    world.remove_pod(&copy);
    world.add_pod(&copy, &json!({}));
    let mut job = FakeJob::<Replace>::new("j2", &["foo"]);
    job.pass(&mut world);
    assert_eq!(job.target("foo").reason(), Some("NameTaken"));
    job.release(&mut world);
    assert_eq!(world.staying_pods(), ["foo", &copy]);
}

#[test]
fn a_copy_that_has_no_room_on_the_nodes_quotes_the_scheduler_and_goes_at_the_deadline() {
    let (mut world, copy) = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    let sentence =
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    let unscheduled = json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": sentence}]}});
    world.change_pod(&copy, &unscheduled);
    for _ in 0..3 {
        job.pass(&mut world);
        world.advance(10);
    }
    let waits = job.target("foo").failure.clone().expect("it waits");
    assert_eq!(waits.reason, "NewPodNotReady");
    assert!(waits.message.contains(sentence), "{}", waits.message);
    let before = world.expect_pod("foo").uid;
    job.cancel(&mut world);
    world.finish_deletions();
    assert_eq!(world.staying_pods(), ["foo"]);
    assert_eq!(world.expect_pod("foo").uid, before);
}

#[test]
fn a_copy_that_somebody_deletes_is_made_again() {
    let (mut world, copy) = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    world.start_deleting(&copy);
    job.pass(&mut world);
    assert_eq!(job.target("foo").reason(), Some("NewPodTerminating"));
    world.finish_deletions();
    job.pass(&mut world);
    assert_eq!(world.staying_pods(), ["foo", &copy]);
}

#[test]
fn a_second_job_watches_the_first_ones_copy_and_a_job_on_the_copy_waits() {
    let (mut world, copy) = world();
    let mut first = FakeJob::<Replace>::new("j1", &["foo"]);
    first.pass(&mut world);
    let mut second = FakeJob::<Replace>::new("j2", &["foo", &copy]);
    second.pass(&mut world);
    assert!(second.target(&copy).extra(keys::NOT_ALLOWED).is_some());
    second.clone().cancel(&mut world);
    assert_eq!(world.staying_pods(), ["foo", &copy]);

    world.make_ready(&copy);
    first.pass(&mut world);
    world.finish_deletions();
    second.pass(&mut world);
    assert_eq!(second.target("foo").progress, Some(Progress::Succeeded));
    assert_eq!(
        second.target("foo").extra(keys::NEW_POD),
        Some(copy.as_str())
    );
    assert_eq!(second.target(&copy).extra(keys::NOT_ALLOWED), None);
}

#[test]
fn a_pod_that_goes_before_its_copy_is_made_was_not_replaced() {
    let (mut world, _) = world();
    world.start_deleting("foo");
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    world.finish_deletions();
    job.pass(&mut world);
    assert_eq!(job.target("foo").reason(), Some(keys::POD_NOT_FOUND));
    assert!(world.writes().is_empty());
}

#[test]
fn a_finished_pod_is_not_run_again() {
    let (mut world, _) = world();
    world.end_pod("foo", "Succeeded");
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    assert_eq!(job.target("foo").progress, Some(Progress::Failed));
    assert_eq!(job.target("foo").reason(), Some("OriginEnded"));
    job.release(&mut world);
    assert!(world.writes().is_empty());
    assert_eq!(world.staying_pods(), ["foo"], "its log can still be read");
}

#[test]
fn a_failed_pod_that_is_not_to_be_restarted_is_not_run_again() {
    let (mut world, _) = world();
    world.change_pod("foo", &json!({"spec": {"restartPolicy": "Never"}}));
    world.end_pod("foo", "Failed");
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    assert_eq!(job.target("foo").reason(), Some("OriginEnded"));
    assert!(world.writes().is_empty());
}

#[test]
fn a_copy_keeps_the_owners_and_is_made_only_while_they_exist() {
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u",
        "blockOwnerDeletion": true});
    for exists in [true, false] {
        let mut world = FakeCluster::new();
        if exists {
            world.put(json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "o", "uid": "u"}}));
        }
        let pod = world.add_pod("foo", &json!({"ownerReferences": [owner]}));
        let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
        job.pass(&mut world);
        let made = world.object("v1", "Pod", &copy::name(&pod));
        let owners = made.map(|copy| copy["metadata"]["ownerReferences"].clone());
        assert_eq!(owners, exists.then(|| json!([owner])));
    }
}

#[test]
fn an_evicted_pod_is_replaced() {
    let (mut world, copy) = world();
    world.end_pod("foo", "Failed");
    let mut job = FakeJob::<Replace>::new("j1", &["foo"]);
    job.pass(&mut world);
    world.make_ready(&copy);
    job.pass(&mut world);
    world.finish_deletions();
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.staying_pods(), [copy.as_str()]);
}

#[test]
fn the_copy_of_a_vanished_job_is_taken_over_by_the_next() {
    for cancels in [false, true] {
        let (mut world, copy) = world();
        let mut first = FakeJob::<Replace>::new("j1", &["foo"]);
        first.pass(&mut world);
        world.make_ready(&copy);
        world.remove_job("j1");
        let mut second = FakeJob::<Replace>::new("j2", &["foo"]);
        if cancels {
            second.clone().cancel(&mut world);
            assert_eq!(world.staying_pods(), ["foo"]);
            continue;
        }
        second.pass(&mut world);
        world.finish_deletions();
        second.pass(&mut world);
        assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.staying_pods(), [copy.as_str()]);
    }
}
