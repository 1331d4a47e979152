//! What a release puts back.

use operon_sdk::{Progress, json};

use crate::common::{
    another_writes, before, begun, counts, cpu, gives_all, job, object, says, world, written,
};

#[test]
fn a_release_before_the_write_does_nothing() {
    let mut world = world();
    let mut job = job(&cpu("200m"));
    job.pass(&mut world);
    job.cancel(&mut world);
    assert_eq!(world.writes(), []);
}

#[test]
fn what_the_node_has_not_given_is_put_back_once() {
    let mut world = world();
    let mut job = begun(&mut world);
    says(&mut world, &[("PodResizePending", "Deferred", "no room")]);
    job.pass(&mut world);
    // The job may have other parameters meanwhile.
    job = job.parameters(&cpu("900m"));
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    for name in ["app", "web"] {
        assert_eq!(written(&world, name), before(), "{name}");
    }
    assert_eq!(world.writes().len(), 2);
    job.release(&mut world);
    assert_eq!(world.writes().len(), 2);
}

#[test]
fn a_container_that_has_the_new_resources_keeps_them() {
    let mut world = world();
    let mut job = begun(&mut world);
    says(&mut world, &[("PodResizeInProgress", "", "")]);
    let mut statuses = object(&world)["status"]["containerStatuses"].clone();
    statuses[0]["resources"]["requests"]["cpu"] = json!("200m");
    world.change_pod("foo", &json!({"status": {"containerStatuses": statuses}}));
    job.pass(&mut world);
    job.cancel(&mut world);
    assert_eq!(written(&world, "app")["requests"]["cpu"], "200m");
    assert_eq!(written(&world, "web"), before());
}

#[test]
fn a_resize_that_is_done_succeeds_instead_of_being_released() {
    let mut world = world();
    let mut job = begun(&mut world);
    gives_all(&mut world);
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn a_limit_that_the_spec_did_not_have_stays_and_so_does_a_request_above_it() {
    let mut world = world();
    let amounts = json!({"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "60m"}});
    let mut job = job(&json!({"containers": {"app": amounts}}));
    job.pass(&mut world);
    job.pass(&mut world);
    counts(&mut world);
    says(&mut world, &[("PodResizePending", "Deferred", "no room")]);
    job.cancel(&mut world);
    let found = written(&world, "app");
    assert_eq!(found["limits"]["cpu"], "60m", "the API server removes none");
    assert_eq!(found["requests"]["cpu"], "50m", "100m would be above it");
    assert_eq!(found["requests"]["memory"], "64Mi");
}

#[test]
fn a_limit_below_a_request_that_stays_is_not_put_back() {
    let mut world = world();
    let amounts = json!({"requests": {"cpu": "200m"}, "limits": {"memory": "256Mi"}});
    let mut job = job(&json!({"containers": {"app": amounts}}));
    job.pass(&mut world);
    job.pass(&mut world);
    counts(&mut world);
    says(&mut world, &[("PodResizePending", "Deferred", "no room")]);
    let raised =
        json!({"requests": {"cpu": "200m", "memory": "200Mi"}, "limits": {"memory": "256Mi"}});
    another_writes(&mut world, &raised);
    job.cancel(&mut world);
    let found = written(&world, "app");
    assert_eq!(found["limits"]["memory"], "256Mi", "the request is 200Mi");
    assert_eq!(found["requests"]["memory"], "200Mi", "another client's");
    assert_eq!(found["requests"]["cpu"], "100m");
}

#[test]
fn nothing_is_put_back_in_a_pod_that_is_deleted() {
    let mut world = world();
    let mut job = begun(&mut world);
    world.start_deleting("foo");
    job.cancel(&mut world);
    assert_eq!(world.writes().len(), 1);
}
