//! Restarts in a world with a kubelet: the containers restart in place, one after the other.

use std::time::Duration;

use operon_action_restart::{Restart, mark::RESTARTS};
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

const DIGEST: &str = "sha256:0123";

/// A running pod with the containers `app` and `web`.
fn world() -> FakeCluster {
    let mut world = FakeCluster::new();
    world.add_pod("foo", &json!({}));
    let container = |name: &str| json!({"name": name, "image": "nginx:1.27"});
    world.change_pod(
        "foo",
        &json!({"spec": {"containers": [container("app"), container("web")]}}),
    );
    for name in ["app", "web"] {
        runs(&mut world, name, "first", true);
    }
    world
}

/// The kubelet reports this instance of a container.
fn runs(world: &mut FakeCluster, name: &str, instance: &str, ready: bool) {
    let object = world.object("v1", "Pod", "foo").expect("the pod");
    let statuses = object["status"]["containerStatuses"].as_array();
    let mut statuses = statuses.cloned().unwrap_or_default();
    statuses.retain(|status| status["name"] != name);
    statuses.push(json!({"name": name, "ready": ready, "restartCount": 0,
        "containerID": format!("containerd://{name}-{instance}"),
        "image": "docker.io/library/nginx:1.27",
        "imageID": format!("docker.io/library/nginx@{DIGEST}"),
        "state": {"running": {}}}));
    world.change_pod("foo", &json!({"status": {"containerStatuses": statuses}}));
}

/// The kubelet reports this name of the image that a container runs.
fn reports(world: &mut FakeCluster, name: &str, image: &str) {
    let object = world.object("v1", "Pod", "foo").expect("the pod");
    let mut statuses = object["status"]["containerStatuses"].clone();
    let all = statuses.as_array_mut().into_iter().flatten();
    for status in all.filter(|status| status["name"] == name) {
        status["image"] = json!(image);
    }
    world.change_pod("foo", &json!({"status": {"containerStatuses": statuses}}));
}

fn image(world: &FakeCluster, name: &str) -> String {
    let pod = world.expect_pod("foo");
    pod.container(name).expect("the container").image.clone()
}

fn job(uid: &str, containers: &[&str]) -> FakeJob<Restart> {
    let mut job = FakeJob::<Restart>::new(uid, &["foo"]);
    job.targets[0].containers = containers.iter().map(|name| (*name).to_owned()).collect();
    job
}

fn reason(job: &FakeJob<Restart>) -> &str {
    job.target("foo").reason().unwrap_or_default()
}

#[test]
fn the_containers_restart_one_after_the_other_and_the_pod_stays() {
    let mut world = world();
    let uid = world.expect_pod("foo").uid;
    let mut job = job("j1", &[]);
    job.pass(&mut world);
    assert_eq!(
        image(&world, "app"),
        format!("docker.io/library/nginx@{DIGEST}")
    );
    assert_eq!(image(&world, "web"), "nginx:1.27", "its turn has not come");
    assert_eq!(reason(&job), "ContainerStopping");
    let writes = world.writes().len();
    job.pass(&mut world);
    assert_eq!(world.writes().len(), writes, "nothing is written twice");
    runs(&mut world, "app", "second", false);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ContainerNotReady");
    assert_eq!(image(&world, "web"), "nginx:1.27");
    runs(&mut world, "app", "second", true);
    job.pass(&mut world);
    assert_ne!(image(&world, "web"), "nginx:1.27");
    runs(&mut world, "web", "second", true);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.expect_pod("foo").uid, uid);
    assert_eq!(world.writes().len(), 2);
}

#[test]
fn only_the_named_containers_restart() {
    let mut world = world();
    let mut job = job("j1", &["web"]);
    job.pass(&mut world);
    runs(&mut world, "web", "second", true);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(image(&world, "app"), "nginx:1.27");
}

#[test]
fn a_second_job_restarts_again_and_the_original_image_is_kept() {
    let mut world = world();
    for (uid, instance) in [("j1", "second"), ("j2", "third"), ("j3", "fourth")] {
        let before = image(&world, "app");
        let mut job = job(uid, &["app"]);
        job.pass(&mut world);
        assert_ne!(image(&world, "app"), before, "{uid}");
        runs(&mut world, "app", instance, true);
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Succeeded)], "{uid}");
        world.finish_job(uid);
    }
    let pod = world.expect_pod("foo");
    let marks = pod.annotation(RESTARTS).expect("it is marked");
    assert!(marks.contains(r#""image":"nginx:1.27""#), "{marks}");
}

#[test]
fn an_image_that_was_changed_after_a_restart_is_the_original_one() {
    let mut world = world();
    let mut first = job("j1", &["app"]);
    first.pass(&mut world);
    runs(&mut world, "app", "second", true);
    first.pass(&mut world);
    world.finish_job("j1");
    let containers =
        json!([{"name": "app", "image": "nginx:1.28"}, {"name": "web", "image": "nginx:1.27"}]);
    world.change_pod("foo", &json!({"spec": {"containers": containers}}));
    reports(&mut world, "app", "docker.io/library/nginx:1.28");
    job("j2", &["app"]).pass(&mut world);
    let pod = world.expect_pod("foo");
    let marks = pod.annotation(RESTARTS).expect("it is marked");
    assert!(marks.contains(r#""image":"nginx:1.28""#), "{marks}");
}

#[test]
fn a_job_waits_for_the_restart_of_another_one_that_is_active() {
    let mut world = world();
    let (mut first, mut second) = (job("j1", &["app"]), job("j2", &["web"]));
    first.pass(&mut world);
    second.pass(&mut world);
    assert_eq!(reason(&second), "RestartedByAnotherJob");
    assert_eq!(
        second.target("foo").recheck_after,
        Some(Duration::from_secs(5)),
        "the other job does not wake it"
    );
    assert_eq!(image(&world, "web"), "nginx:1.27");
    world.remove_job("j1");
    second.pass(&mut world);
    assert_ne!(
        image(&world, "web"),
        "nginx:1.27",
        "nobody waits for a job that is gone"
    );
}

#[test]
fn what_cannot_be_restarted_in_place_fails_before_anything_is_written() {
    let sidecar = json!({"spec": {"initContainers": [
        {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}]}});
    let always = json!({"spec": {"containers": [
        {"name": "app", "image": "nginx:1.27"},
        {"name": "web", "image": "mirror.example/nginx:1.27", "imagePullPolicy": "Always"}]}});
    for (change, containers, reason) in [
        (sidecar, ["app", "proxy"], "CannotRestartInPlace"),
        (always, ["app", "web"], "CannotRestartInPlace"),
        (json!({}), ["app", "nobody"], "ContainerNotFound"),
    ] {
        let mut world = world();
        world.change_pod("foo", &change);
        let written = image(&world, "web");
        reports(&mut world, "web", &written);
        let mut job = job("j1", &containers);
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Failed)], "{containers:?}");
        assert_eq!(self::reason(&job), reason, "{containers:?}");
        assert_eq!(world.writes(), [], "{containers:?}");
    }
}

#[test]
fn a_pod_that_is_deleted_or_ends_fails_its_target() {
    let mut deleted = world();
    deleted.start_deleting("foo");
    let mut ended = world();
    ended.end_pod("foo", "Succeeded");
    for (mut world, expected) in [
        (deleted, "PodTerminating"),
        (ended, "PodTerminating"),
        (FakeCluster::new(), "PodNotFound"),
    ] {
        let mut job = job("j1", &[]);
        job.pass(&mut world);
        assert_eq!(reason(&job), expected);
        assert_eq!(world.writes(), []);
    }
}

#[test]
fn a_cancelled_restart_needs_nothing_undone() {
    let mut world = world();
    let mut job = job("j1", &[]);
    job.pass(&mut world);
    job.cancel(&mut world);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn an_update_in_place_is_waited_for_and_never_undone() {
    for key in [
        "operon.dev/in-place-update",
        "collaset.kusionstack.io/last-pod-status",
    ] {
        let mut world = world();
        world.change_pod("foo", &json!({"metadata": {"annotations": {key: "{}"}}}));
        let mut job = job("j1", &[]);
        job.pass(&mut world);
        assert_eq!(reason(&job), "UpdateUnderWay", "{key}");
        assert_eq!(world.writes(), [], "{key}");
        world.change_pod("foo", &json!({"metadata": {"annotations": {key: null}}}));
        job.pass(&mut world);
        assert_eq!(reason(&job), "ContainerStopping", "{key}");
    }
}

#[test]
fn an_image_that_does_not_run_yet_is_not_replaced_by_the_one_that_does() {
    for new in [
        "nginx:1.28",
        "team/web:1.27",
        "nginx@sha256:4567",
        "nginx:1.27@sha256:4567",
    ] {
        let mut world = world();
        let containers =
            json!([{"name": "app", "image": new}, {"name": "web", "image": "nginx:1.27"}]);
        world.change_pod("foo", &json!({"spec": {"containers": containers}}));
        let mut job = job("j1", &["app"]);
        job.pass(&mut world);
        assert_eq!(reason(&job), "ImageNotRunning", "{new}");
        assert_eq!(world.writes(), [], "{new}");
        assert_eq!(image(&world, "app"), new);
    }
}

#[test]
fn a_second_restart_has_the_tag_of_the_original_image() {
    let mut world = world();
    for (uid, instance) in [("j1", "second"), ("j2", "third")] {
        let mut job = job(uid, &["app"]);
        job.pass(&mut world);
        runs(&mut world, "app", instance, true);
        job.pass(&mut world);
        world.finish_job(uid);
    }
    let expected = format!("docker.io/library/nginx:1.27@{DIGEST}");
    assert_eq!(image(&world, "app"), expected);
}

#[test]
fn a_static_pod_is_not_touched() {
    let mut world = world();
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
    world.change_pod("foo", &mirror);
    let mut job = job("j1", &[]);
    job.pass(&mut world);
    assert_eq!(reason(&job), "CannotRestartInPlace");
    assert_eq!(world.writes(), []);
}

#[test]
fn a_container_that_has_ended_for_good_cannot_be_restarted() {
    for (policy, code, expected) in [
        ("Never", 1, "CannotRestartInPlace"),
        ("OnFailure", 0, "CannotRestartInPlace"),
        ("OnFailure", 1, "ContainerStopping"),
        ("Always", 0, "ContainerStopping"),
    ] {
        let mut world = world();
        let object = world.object("v1", "Pod", "foo").expect("the pod");
        let mut statuses = object["status"]["containerStatuses"].clone();
        statuses[0]["state"] = json!({"terminated": {"exitCode": code}});
        statuses[0]["ready"] = json!(false);
        let status = json!({"containerStatuses": statuses});
        let change = json!({"spec": {"restartPolicy": policy}, "status": status});
        world.change_pod("foo", &change);
        let mut job = job("j1", &["app"]);
        job.pass(&mut world);
        assert_eq!(reason(&job), expected, "{policy} {code}");
    }
}

#[test]
fn another_tag_of_the_same_image_is_no_change_of_a_pod_that_is_as_it_was_created() {
    for (generation, expected) in [(1, "ContainerStopping"), (2, "ImageNotRunning")] {
        let mut world = world();
        world.change_pod("foo", &json!({"metadata": {"generation": generation}}));
        reports(&mut world, "app", "docker.io/library/nginx:stable");
        let mut job = job("j1", &["app"]);
        job.pass(&mut world);
        assert_eq!(reason(&job), expected, "generation {generation}");
    }
}

/// The spec of the pod was changed to this image of `app`, and the kubelet reports another one.
fn change_image(world: &mut FakeCluster, generation: i64, image: &str) {
    let containers =
        json!([{"name": "app", "image": image}, {"name": "web", "image": "nginx:1.27"}]);
    let spec = json!({"containers": containers, "terminationGracePeriodSeconds": 60});
    let metadata = json!({"generation": generation});
    world.change_pod("foo", &json!({"metadata": metadata, "spec": spec}));
}

#[test]
fn another_image_than_that_of_the_spec_is_waited_for_30_minutes_and_the_grace_period() {
    let mut world = world();
    change_image(&mut world, 2, "nginx:1.28");
    let mut job = job("j1", &["app"]);
    job.pass(&mut world);
    assert_eq!(
        job.target("foo").recheck_after,
        Some(Duration::from_mins(31)),
        "no change wakes it"
    );
    world.advance(1859);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ImageNotRunning");
    assert_eq!(
        job.target("foo").recheck_after,
        Some(Duration::from_secs(1))
    );
    world.advance(1);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(reason(&job), "CannotRestartInPlace");
    let failure = job.target("foo").failure.as_ref().expect("it failed");
    for part in ["1860 seconds", "nginx:1.28", "nginx:1.27", "Recreate"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
    assert_eq!(world.writes(), []);
}

#[test]
fn a_change_of_the_spec_starts_the_wait_for_its_image_again() {
    let mut world = world();
    change_image(&mut world, 2, "nginx:1.28");
    let mut job = job("j1", &["app"]);
    job.pass(&mut world);
    world.advance(1500);
    change_image(&mut world, 3, "nginx:1.29");
    job.pass(&mut world);
    world.advance(1500);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ImageNotRunning");
    reports(&mut world, "app", "docker.io/library/nginx:1.29");
    job.pass(&mut world);
    assert_eq!(reason(&job), "ContainerStopping");
    assert_eq!(job.target("foo").extra_info, [], "nothing is left");
}

#[test]
fn a_container_that_waits_for_its_turn_does_not_wait_for_its_image() {
    let mut world = world();
    world.change_pod("foo", &json!({"metadata": {"generation": 2}}));
    let mut job = job("j1", &["app", "web"]);
    job.pass(&mut world);
    reports(&mut world, "web", "docker.io/library/nginx:1.28");
    runs(&mut world, "app", "second", false);
    world.advance(3_600);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ContainerNotReady");
    runs(&mut world, "app", "second", true);
    job.pass(&mut world);
    assert_eq!(reason(&job), "ImageNotRunning");
}
