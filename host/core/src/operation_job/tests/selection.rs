//! The targets of a job with `spec.targetSelector`.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use operon_api::{
    OperationJob,
    operation_job::{OperationJobSpec, Progress, TargetSelector},
};
use serde_json::{Value, json};

use super::world::{START, World, condition, end, standing, time};
use crate::{
    action::Failure,
    operation_job::{
        plan::{Plan, TargetStep},
        selection::{Candidates, Selection, Unknown, is_of_deployment, select, unresolved},
    },
};

fn selecting(selector: Value) -> OperationJob {
    let selector: TargetSelector = serde_json::from_value(selector).expect("a selector");
    let spec = OperationJobSpec {
        action: "Replace".to_owned(),
        target_selector: Some(selector),
        ..Default::default()
    };
    let mut job = OperationJob::new("job", spec);
    job.metadata.namespace = Some("default".to_owned());
    job.metadata.generation = Some(1);
    job
}

/// A pod of an owner (`apps/v1/StatefulSet/db`), with an `app` label and on a node.
fn pod(name: &str, owner: &str, app: &str, node: &str) -> Value {
    let parts: Vec<_> = owner.rsplitn(3, '/').collect();
    let [owner_name, kind, version] = parts.as_slice() else {
        unreachable!("{owner}");
    };
    json!({
        "metadata": {
            "name": name,
            "labels": {"app": app},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": "other", "uid": "other"},
                {"apiVersion": version, "kind": kind, "name": owner_name, "uid": format!("uid-{owner_name}"), "controller": true},
            ],
        },
        "spec": {"nodeName": node, "containers": []},
    })
}

fn candidates(pods: Vec<Value>) -> Candidates {
    let pod = |pod| Arc::new(serde_json::from_value::<Pod>(pod).expect("a pod"));
    Candidates {
        pods: pods.into_iter().map(pod).collect(),
        replica_sets: BTreeSet::from(["uid-web-7d9".to_owned(), "uid-web-8f0".to_owned()]),
    }
}

/// What the job selects after so many seconds.
fn selection(job: &OperationJob, candidates: &Candidates, seconds: i64) -> Selection {
    let selector = unresolved(job).expect("a selector");
    select(
        job,
        selector,
        &Ok(candidates.clone()),
        time(START + seconds).0,
    )
}

fn names(selection: &Selection) -> Vec<&str> {
    let targets = selection.status.targets.iter();
    targets.map(|target| target.name.as_str()).collect()
}

#[test]
fn pods_are_selected_by_labels_by_owner_and_by_node() {
    let candidates = candidates(vec![
        pod("web-b", "apps/v1/ReplicaSet/web-7d9", "web", "n1"),
        pod("web-a", "apps/v1/ReplicaSet/web-8f0", "web", "n2"),
        pod("other", "apps/v1/ReplicaSet/web-of-others", "web", "n1"),
        pod("db-0", "apps/v1/StatefulSet/db", "db", "n1"),
        pod("agent", "apps/v1/DaemonSet/db", "agent", "n1"),
        pod("batch", "batch/v1/Job/db", "batch", "n2"),
        pod("foreign", "example.com/v1/StatefulSet/db", "db", "n2"),
        pod(
            "set",
            "apps.kusionstack.io/v1alpha1/CollaSet/db",
            "set",
            "n2",
        ),
        json!({"metadata": {"name": "bare", "labels": {"app": "web"}}}),
    ]);
    for (selector, selected, written) in [
        (
            json!({"labelSelector": {"matchLabels": {"app": "web"}}}),
            &["bare", "other", "web-a", "web-b"][..],
            "app=web",
        ),
        (
            json!({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "set"]}]}}),
            &["db-0", "foreign", "set"],
            "app in (db,set)",
        ),
        (
            json!({"owner": "deployment/web"}),
            &["web-a", "web-b"],
            "deployment/web",
        ),
        (
            json!({"owner": "replicaset/web-7d9"}),
            &["web-b"],
            "replicaset/web-7d9",
        ),
        (
            json!({"owner": "statefulset/db"}),
            &["db-0"],
            "statefulset/db",
        ),
        (json!({"owner": "daemonset/db"}), &["agent"], "daemonset/db"),
        (json!({"owner": "job/db"}), &["batch"], "job/db"),
        (json!({"owner": "collaset/db"}), &["set"], "collaset/db"),
        (
            json!({"nodeName": "n2"}),
            &["batch", "foreign", "set", "web-a"],
            "node/n2",
        ),
        (
            json!({"owner": "deployment/web", "nodeName": "n1", "labelSelector": {"matchLabels": {"app": "web"}}}),
            &["web-b"],
            "deployment/web app=web node/n1",
        ),
    ] {
        let found = selection(&selecting(selector.clone()), &candidates, 0);
        assert_eq!(names(&found), selected, "{selector}");
        assert_eq!(found.status.selector.as_deref(), Some(written));
        assert_eq!(found.requeue_after, None);
    }
}

#[test]
fn pods_that_end_are_not_selected() {
    let mut going = pod("going", "apps/v1/StatefulSet/db", "db", "n1");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut pods = vec![going];
    for phase in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
        let mut pod = pod(&phase.to_lowercase(), "apps/v1/StatefulSet/db", "db", "n1");
        pod["status"] = json!({"phase": phase});
        pods.push(pod);
    }
    let found = selection(
        &selecting(json!({"owner": "statefulset/db"})),
        &candidates(pods),
        0,
    );
    assert_eq!(names(&found), ["pending", "running", "unknown"]);
}

#[test]
fn what_was_selected_is_in_the_status_before_a_target_starts_and_does_not_change() {
    let mut job = selecting(json!({"owner": "statefulset/db", "containers": ["main"]}));
    job.spec.paused = Some(true);
    let db = |number: u32| {
        pod(
            &format!("db-{number}"),
            "apps/v1/StatefulSet/db",
            "db",
            "n1",
        )
    };
    let found = selection(&job, &candidates(vec![db(1), db(0)]), 0);
    let status = &found.status;
    assert_eq!(status.progress, Some(Progress::Pending));
    assert_eq!(status.total_pod_count, Some(2));
    assert_eq!(status.start_time, Some(time(START)));
    assert_eq!(standing(status), [("Reconciling", "Pending")]);
    assert_eq!(status.target_details.len(), 2);
    assert_eq!(status.targets[0].containers, None, "the selector has them");
    job.status = Some(found.status);
    assert_eq!(unresolved(&job), None);

    let mut world = World::new(&["db-0", "db-1"]);
    world.job = job;
    assert_eq!(world.steps(), [TargetStep::Keep, TargetStep::Keep]);
    world.pass(&[]);
    assert_eq!(standing(world.status()), [("Reconciling", "Paused")]);
    world.job.spec.paused = None;
    assert!(
        world
            .steps()
            .iter()
            .all(|step| matches!(step, TargetStep::Start { .. }))
    );
    world.pass(&[]);
    assert_eq!(world.status().targets.len(), 2);
    assert_eq!(world.status().selector.as_deref(), Some("statefulset/db"));
}

#[test]
fn a_job_that_selects_no_pod_waits_a_moment_and_fails() {
    let mut job = selecting(json!({"owner": "deployment/gone"}));
    let nothing = candidates(vec![]);
    let waits = selection(&job, &nothing, 0);
    assert_eq!(standing(&waits.status), [("Reconciling", "NoTargets")]);
    assert_eq!(waits.requeue_after.map(|after| after.as_secs()), Some(3));
    assert!(waits.event.is_none());
    job.status = Some(waits.status);
    let fails = selection(&job, &nothing, 3);
    assert_eq!(fails.status.progress, Some(Progress::Failed));
    assert_eq!(fails.status.end_time, Some(time(START + 3)));
    assert_eq!(standing(&fails.status), [("Stalled", "NoTargets")]);
    assert_eq!(end(&fails.status), [("Failed", "NoTargets")]);
    let event = fails.event.expect("an event");
    assert_eq!(
        (event.reason, event.message.as_str()),
        (
            "Failed",
            "spec.targetSelector (deployment/gone) selects no pod in namespace \"default\"; pods that are being \
             deleted or have finished do not count"
        )
    );

    job.status = Some(fails.status);
    assert_eq!(unresolved(&job), None);
    let mut world = World::new(&[]);
    world.job = job;
    world.job.spec.ttl_seconds_after_finished = Some(60);
    let conclusion = world.pass(&[]);
    assert!(conclusion.events.is_empty(), "{:?}", conclusion.events);
    assert_eq!(world.status().progress, Some(Progress::Failed));
    assert_eq!(standing(world.status()), [("Stalled", "NoTargets")]);
    assert_eq!(end(world.status()), [("Failed", "NoTargets")]);
    world.now += 100;
    assert_eq!(world.plan(), Plan::Expire);
}

#[test]
fn what_cannot_be_selected_has_a_reason() {
    let db = |number: usize| {
        pod(
            &format!("db-{number:05}"),
            "apps/v1/StatefulSet/db",
            "db",
            "n1",
        )
    };
    let many = candidates((0..10_001).map(db).collect());
    let labels =
        json!({"labelSelector": {"matchExpressions": [{"key": "app", "operator": "Like"}]}});
    for (selector, reason, words) in [
        (
            json!({"owner": "statefulset/db"}),
            "TooManyTargets",
            "selects 10001 pods",
        ),
        (json!({"owner": "pod/db"}), "InvalidSpec", "not \"pod/db\""),
        (
            labels,
            "InvalidSpec",
            "spec.targetSelector.labelSelector cannot be read",
        ),
    ] {
        let found = selection(&selecting(selector), &many, 0);
        assert_eq!(found.status.progress, Some(Progress::Failed));
        assert_eq!(standing(&found.status), [("Stalled", reason)]);
        let ready = condition(&found.status, "Ready").expect("a condition");
        assert!(ready.message.contains(words), "{}", ready.message);
        assert!(found.status.targets.is_empty());
    }
    let long = |number: usize| {
        let name = format!("{}-{number:05}", "x".repeat(150));
        pod(&name, "apps/v1/StatefulSet/db", "db", "n1")
    };
    let long = candidates((0..10_000).map(long).collect());
    let found = selection(&selecting(json!({"owner": "statefulset/db"})), &long, 0);
    assert_eq!(standing(&found.status), [("Stalled", "JobTooLarge")]);
}

#[test]
fn while_the_pods_are_not_known_nothing_is_selected() {
    let job = selecting(json!({"owner": "deployment/web"}));
    let selector = unresolved(&job).expect("a selector");
    let behind = Unknown::Behind(Failure::new("CacheBehind", "not yet"));
    let found = select(&job, selector, &Err(behind), time(START).0);
    assert_eq!(standing(&found.status), [("Reconciling", "CacheBehind")]);
    assert!(
        found
            .requeue_after
            .is_some_and(|after| after.as_secs() == 0)
    );
    let stale = Unknown::Unread(Failure::new("CacheStale", "the watch is interrupted"));
    let found = select(&job, selector, &Err(stale), time(START + 100).0);
    assert_eq!(found.status.progress, Some(Progress::Pending));
    assert_eq!(standing(&found.status), [("Stalled", "CacheStale")]);
    assert_eq!(found.requeue_after.map(|after| after.as_secs()), Some(3));
}

#[test]
fn a_job_that_is_deleted_before_it_selected_selects_nothing() {
    let mut world = World::new(&[]);
    world.job = selecting(json!({"owner": "deployment/web"}));
    world.delete_job();
    assert_eq!(unresolved(&world.job), None);
    assert!(world.pass(&[]).released);
}

#[test]
fn a_deployment_is_known_by_the_owner_of_its_replica_sets() {
    let of = |version: &str, kind: &str, name: &str, controller: bool| {
        let owner = json!([{"apiVersion": version, "kind": kind, "name": name, "uid": "u", "controller": controller}]);
        is_of_deployment(
            &serde_json::from_value::<Vec<_>>(owner).expect("owners"),
            "web",
        )
    };
    assert!(of("apps/v1", "Deployment", "web", true));
    assert!(!of("apps/v1", "Deployment", "web", false));
    assert!(!of("apps/v1", "Deployment", "web2", true));
    assert!(!of("apps/v1", "StatefulSet", "web", true));
    assert!(!of("example.com/v1", "Deployment", "web", true));
}
