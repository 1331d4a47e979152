//! Stories of Replace on pods of a `CollaSet`, with the test in the role of the controller, step by step as
//! `KusionStack`'s controller acts.

use operon_action_replace::{Replace, keys};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, Value, json};

fn metadata(labels: &Value) -> Value {
    let owner = json!([{"apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet",
        "name": "foo", "uid": "c", "controller": true}]);
    json!({"labels": labels, "ownerReferences": owner})
}

fn label(world: &mut FakeCluster, pod: &str, labels: &Value) {
    world.change_pod(pod, &json!({"metadata": {"labels": labels}}));
}

/// `foo-a` serves.
fn world() -> FakeCluster {
    let mut world = FakeCluster::new();
    let labels = json!({keys::INSTANCE_ID: "0", keys::SERVICE_AVAILABLE: "1"});
    world.add_pod("foo-a", &metadata(&labels));
    world
}

/// The `CollaSet` creates `foo-n` and pairs it with `foo-a`.
fn pair(world: &mut FakeCluster) {
    let labels = json!({keys::INSTANCE_ID: "2", keys::PAIR_ORIGIN_NAME: "foo-a"});
    world.add_pod("foo-n", &metadata(&labels));
    label(world, "foo-a", &json!({keys::PAIR_NEW_ID: "2"}));
}

fn serve(world: &mut FakeCluster) {
    label(world, "foo-n", &json!({keys::SERVICE_AVAILABLE: "1"}));
}

/// The `CollaSet` takes the origin away.
fn take_away(world: &mut FakeCluster) {
    world.remove_pod("foo-a");
    label(world, "foo-n", &json!({keys::PAIR_ORIGIN_NAME: null}));
}

#[test]
fn the_collaset_replaces_the_pod_and_one_label_is_all_we_write() {
    let mut world = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    let origin = world.expect_pod("foo-a");
    assert_eq!(origin.label(keys::TO_REPLACE), Some("true"));
    assert!(origin.finalizers.is_empty());
    pair(&mut world);
    job.pass(&mut world);
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").extra(keys::NEW_POD), Some("foo-n"));
    serve(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Processing)]);
    take_away(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.writes().len(), 1);
    let events: Vec<_> = world
        .events()
        .iter()
        .map(|event| event.reason.as_str())
        .collect();
    assert_eq!(events, ["ReplaceNewPod"], "one for each replaced pod");
}

#[test]
fn an_origin_that_goes_before_its_new_pod_was_recorded_was_replaced() {
    // Whether the CollaSet has already removed the label of the pair.
    for cleaned in [false, true] {
        let mut world = world();
        world.add_pod("foo-old", &metadata(&json!({keys::INSTANCE_ID: "1"})));
        let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
        job.pass(&mut world);
        // No host runs meanwhile.
        world.advance(60);
        pair(&mut world);
        world.remove_pod("foo-a");
        if cleaned {
            label(&mut world, "foo-n", &json!({keys::PAIR_ORIGIN_NAME: null}));
        }
        job.pass(&mut world);
        assert_eq!(job.target("foo-a").reason(), Some("NewPodNotReady"));
        serve(&mut world);
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Succeeded)], "{cleaned}");
        assert_eq!(job.target("foo-a").extra(keys::NEW_POD), Some("foo-n"));
        assert_eq!(job.target("foo-a").extra(keys::OWNER), None);
    }
}

#[test]
fn the_new_pods_of_origins_that_went_unseen_are_known_by_a_label_that_stays() {
    let ours = |labels: &Value| {
        let mut metadata = metadata(labels);
        metadata["labels"][keys::REVISION] = json!("foo-1");
        metadata["annotations"] = json!({keys::CREATION: "c/1"});
        metadata
    };
    let serving = |id: &str| json!({keys::INSTANCE_ID: id, keys::SERVICE_AVAILABLE: "1"});
    let mut world = FakeCluster::new();
    let names = ["foo-a", "foo-b"];
    for (id, name) in names.iter().enumerate() {
        world.add_pod(name, &ours(&serving(&id.to_string())));
    }
    let mut job = FakeJob::<Replace>::new("j1", &names);
    job.pass(&mut world);
    // In the same second, and another one that is no new pod: only the label says which pod replaces which.
    let uids = names.map(|name| world.expect_pod(name).uid);
    world.add_pod("foo-0", &ours(&serving("2")));
    for (name, uid) in ["foo-z", "foo-m"].iter().zip(&uids) {
        let mut labels = serving("3");
        labels[keys::CREATED_FOR] = json!(uid);
        world.add_pod(name, &ours(&labels));
    }
    for name in names {
        world.remove_pod(name);
    }
    let writes = world.writes().len();
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 2]);
    let new_pods = names.map(|name| job.target(name).extra(keys::NEW_POD).map(str::to_owned));
    assert_eq!(
        new_pods,
        ["foo-z", "foo-m"].map(|name| Some(name.to_owned()))
    );
    assert_eq!(world.writes().len(), writes, "nothing is claimed");
}

#[test]
fn a_pod_that_is_created_instead_of_one_that_operons_collaset_lost_is_of_the_same_revision() {
    let mut world = FakeCluster::new();
    let pod = |id: &str, revision: &str| {
        let labels = json!({keys::INSTANCE_ID: id, keys::SERVICE_AVAILABLE: "1",
            keys::REVISION: revision});
        let mut metadata = metadata(&labels);
        metadata["annotations"] = json!({keys::CREATION: "c/1"});
        metadata
    };
    world.add_pod("foo-a", &pod("0", "foo-1"));
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    world.advance(60);
    world.remove_pod("foo-a");
    world.add_pod("foo-b", &pod("1", "foo-2"));
    world.add_pod("foo-c", &pod("0", "foo-1"));
    for _ in 0..2 {
        job.pass(&mut world);
    }
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(job.target("foo-a").extra(keys::NEW_POD), Some("foo-c"));
}

#[test]
fn two_origins_that_went_unseen_have_a_new_pod_each() {
    let mut world = world();
    world.add_pod("foo-b", &metadata(&json!({keys::INSTANCE_ID: "1"})));
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a", "foo-b"]);
    job.pass(&mut world);
    world.advance(60);
    for (name, id) in [("foo-m", "3"), ("foo-n", "2")] {
        world.add_pod(
            name,
            &metadata(&json!({keys::INSTANCE_ID: id, keys::SERVICE_AVAILABLE: "1"})),
        );
    }
    world.remove_pod("foo-a");
    world.remove_pod("foo-b");
    for _ in 0..3 {
        job.pass(&mut world);
    }
    let new_pods: Vec<_> = ["foo-a", "foo-b"]
        .iter()
        .map(|name| job.target(name).extra(keys::NEW_POD).map(str::to_owned))
        .collect();
    assert_eq!(
        new_pods,
        [Some("foo-m".to_owned()), Some("foo-n".to_owned())]
    );
    assert_eq!(job.progress(), [Some(Progress::Succeeded); 2]);
}

#[test]
fn an_origin_that_nothing_replaced_is_not_found() {
    let mut world = world();
    world.add_pod("foo-old", &metadata(&json!({keys::INSTANCE_ID: "1"})));
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    world.remove_pod("foo-a");
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some(keys::POD_NOT_FOUND));
}

#[test]
fn a_target_without_a_uid_goes_on_with_the_new_pod_that_is_recorded() {
    let mut world = world();
    world.remove_pod("foo-a");
    world.add_pod("foo-n", &metadata(&json!({keys::INSTANCE_ID: "2"})));
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.targets[0].progress = Some(Progress::Processing);
    job.targets[0].extra_info = vec![(keys::NEW_POD.to_owned(), "foo-n".to_owned())];
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some("NewPodNotReady"));
    serve(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn a_new_pod_that_stops_serving_is_waited_for_and_one_that_vanishes_fails() {
    let mut world = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    pair(&mut world);
    job.pass(&mut world);
    take_away(&mut world);
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some("NewPodNotReady"));
    world.remove_pod("foo-n");
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some(keys::NEW_POD_NOT_FOUND));
}

#[test]
fn only_the_job_that_asked_takes_the_request_back() {
    let mut world = world();
    let (mut first, mut second) = (
        FakeJob::<Replace>::new("j1", &["foo-a"]),
        FakeJob::<Replace>::new("j2", &["foo-a"]),
    );
    first.pass(&mut world);
    second.pass(&mut world);
    second.cancel(&mut world);
    assert_eq!(
        world.expect_pod("foo-a").label(keys::TO_REPLACE),
        Some("true")
    );
    first.cancel(&mut world);
    let origin = world.expect_pod("foo-a");
    assert_eq!(
        (origin.label(keys::TO_REPLACE), origin.label(keys::JOB)),
        (None, None)
    );

    label(&mut world, "foo-a", &json!({keys::TO_REPLACE: "by a user"}));
    let mut third = FakeJob::<Replace>::new("j3", &["foo-a"]);
    third.pass(&mut world);
    third.cancel(&mut world);
    assert_eq!(
        world.expect_pod("foo-a").label(keys::TO_REPLACE),
        Some("by a user")
    );
}

#[test]
fn the_request_of_a_vanished_job_is_taken_over_by_the_next() {
    for cancels in [false, true] {
        let mut world = world();
        let mut first = FakeJob::<Replace>::new("j1", &["foo-a"]);
        first.pass(&mut world);
        world.remove_job("j1");
        let mut second = FakeJob::<Replace>::new("j2", &["foo-a"]);
        if cancels {
            second.cancel(&mut world);
            assert_eq!(world.expect_pod("foo-a").label(keys::TO_REPLACE), None);
            continue;
        }
        second.pass(&mut world);
        assert_eq!(second.target("foo-a").reason(), Some(keys::TAKEN_OVER));
        let origin = world.expect_pod("foo-a");
        assert_eq!(origin.label(keys::JOB), Some("j2"));
        pair(&mut world);
        serve(&mut world);
        second.pass(&mut world);
        take_away(&mut world);
        second.pass(&mut world);
        assert_eq!(second.progress(), [Some(Progress::Succeeded)]);
    }
}

#[test]
fn cancelling_while_both_serve_sends_the_new_pod_away() {
    let mut world = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    pair(&mut world);
    serve(&mut world);
    job.pass(&mut world);
    job.cancel(&mut world);
    assert!(world.expect_pod("foo-n").label(keys::TO_DELETE).is_some());
    let begun = json!({keys::DELETION_BEGUN: "1"});
    let unavailable = json!({keys::SERVICE_AVAILABLE: null});
    for labels in [json!({}), begun, unavailable] {
        let requested = world.expect_pod("foo-a").label(keys::TO_REPLACE).is_some();
        assert!(
            requested,
            "a CollaSet deletes the origin of a pod that serves"
        );
        assert!(job.target("foo-a").unfinished.is_some());
        label(&mut world, "foo-n", &labels);
        job.release(&mut world);
    }
    assert_eq!(world.expect_pod("foo-a").label(keys::TO_REPLACE), None);
    job.release(&mut world);
    assert_eq!(job.target("foo-a").unfinished, None);
    assert_eq!(world.staying_pods(), ["foo-a", "foo-n"]);
}

#[test]
fn a_job_deleted_after_the_collaset_gave_the_origin_up_has_succeeded() {
    let mut world = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    pair(&mut world);
    serve(&mut world);
    label(&mut world, "foo-a", &json!({keys::TO_DELETE: "1"}));
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Processing)]);
    job.job.ending = true;
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.expect_pod("foo-n").label(keys::TO_DELETE), None);
}

#[test]
fn an_origin_that_died_after_pairing_is_deleted_when_the_new_pod_serves() {
    let mut world = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    pair(&mut world);
    job.pass(&mut world);
    world.end_pod("foo-a", "Failed");
    label(&mut world, "foo-a", &json!({keys::PAIR_NEW_ID: null}));
    label(&mut world, "foo-n", &json!({keys::PAIR_ORIGIN_NAME: null}));
    serve(&mut world);
    job.pass(&mut world);
    world.finish_deletions();
    job.pass(&mut world);
    assert!(world.pod("foo-a").is_none());
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
}

#[test]
fn the_new_pod_of_a_pair_has_to_wait_for_the_origin_to_go() {
    let mut world = world();
    pair(&mut world);
    let mut job = FakeJob::<Replace>::new("j1", &["foo-n"]);
    job.pass(&mut world);
    assert!(
        job.target("foo-n")
            .extra(keys::NOT_ALLOWED)
            .is_some_and(|text| text.contains("foo-a"))
    );
    take_away(&mut world);
    job.pass(&mut world);
    assert_eq!(job.target("foo-n").extra(keys::NOT_ALLOWED), None);
    assert_eq!(
        world.expect_pod("foo-n").label(keys::TO_REPLACE),
        Some("true")
    );
}

#[test]
fn a_pod_that_is_already_scaled_in_is_left_alone() {
    let mut world = world();
    label(&mut world, "foo-a", &json!({keys::TO_DELETE: "1"}));
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    assert_eq!(job.target("foo-a").reason(), Some(keys::OWNER_SCALED_DOWN));
    job.release(&mut world);
    assert!(world.writes().is_empty());
}

#[test]
fn nothing_is_taken_back_once_the_collaset_has_given_the_origin_up() {
    let mut world = world();
    let mut job = FakeJob::<Replace>::new("j1", &["foo-a"]);
    job.pass(&mut world);
    pair(&mut world);
    serve(&mut world);
    label(&mut world, "foo-a", &json!({keys::TO_DELETE: "1"}));
    job.cancel(&mut world);
    assert_eq!(
        world.expect_pod("foo-a").label(keys::TO_REPLACE),
        Some("true")
    );
    assert_eq!(world.expect_pod("foo-n").label(keys::TO_DELETE), None);
}
