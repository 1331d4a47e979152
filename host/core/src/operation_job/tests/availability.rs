//! Which targets `spec.maxUnavailable` and PodDisruptionBudgets let start.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};
use operon_api::operation_job::{Progress, TargetDetail};
use serde_json::{Value, json};

use super::world::{
    START, World, condition, failed, pending, processing, released, standing, succeeded, time,
};
use crate::{
    action::Failure,
    operation_job::{
        availability::{
            Availability, Size, Sizes, Surroundings, Workload, is_limited, operated, workload,
        },
        plan::TargetStep,
    },
};

/// A pod of Deployment `web`, Ready or not.
fn pod(name: &str, is_ready: bool) -> Value {
    let ready = if is_ready { "True" } else { "False" };
    let since = time(START - 10);
    json!({
        "metadata": {
            "name": name,
            "uid": format!("uid-{name}"),
            "labels": {"app": "web", "pod-template-hash": "7d9"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d9", "uid": "rs", "controller": true,
            }],
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": since}]},
    })
}

fn read(pod: Value) -> Arc<Pod> {
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn web() -> Workload {
    workload(&read(pod("web", true))).expect("a controller")
}

fn size(pods: usize) -> Size {
    Size {
        pods,
        min_ready_seconds: 0,
    }
}

/// What workloads want, of which Deployment `web` is the only one.
fn sizes(of_web: Size) -> Vec<Arc<Sizes>> {
    vec![Arc::new([(web(), of_web)].into())]
}

fn budget(name: &str, desired_healthy: i32) -> PodDisruptionBudget {
    let budget = json!({
        "metadata": {"name": name, "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {
            "observedGeneration": 2, "desiredHealthy": desired_healthy,
            "currentHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
        },
    });
    serde_json::from_value(budget).expect("a PodDisruptionBudget")
}

/// A job with these targets among pods of a Deployment that wants so many.
struct Scene {
    world: World,
    surroundings: Surroundings,
}

impl Scene {
    fn new(details: &[TargetDetail], others: &[Value], wanted: usize, max: IntOrString) -> Self {
        let mut world = World::with(details);
        world.job.spec.max_unavailable = Some(max);
        let named = details.iter().map(|detail| pod(&detail.name, true));
        let pods: Vec<_> = named.chain(others.iter().cloned()).map(read).collect();
        let surroundings = Surroundings {
            pods,
            sizes: sizes(size(wanted)),
            ..Surroundings::default()
        };
        Self {
            world,
            surroundings,
        }
    }

    /// A pod that was there is another one now.
    fn put(&mut self, pod: Value) {
        let pod = read(pod);
        self.surroundings
            .pods
            .retain(|old| old.metadata.name != pod.metadata.name);
        self.surroundings.pods.push(pod);
    }

    /// The names of the targets that start now.
    fn starting(&mut self) -> Vec<String> {
        let now = time(self.world.now).0;
        self.world.availability = Availability::of(&self.world.job, &self.surroundings, now);
        let targets = self.world.run().targets.into_iter();
        targets
            .filter(|target| matches!(target.step, TargetStep::Start { .. }))
            .map(|target| target.detail.name)
            .collect()
    }

    /// Why others do not.
    fn why(&mut self) -> String {
        self.starting();
        self.world.run().held.unwrap_or_default()
    }
}

fn percent(text: &str) -> IntOrString {
    IntOrString::String(text.to_owned())
}

#[test]
fn as_many_targets_of_a_workload_start_as_may_be_unavailable() {
    let details: Vec<_> = ["a", "b", "c", "d"].map(pending).into();
    for (max, wanted, starts) in [
        (IntOrString::Int(1), 4, 1),
        (IntOrString::Int(3), 4, 3),
        (IntOrString::Int(9), 4, 4),
        (percent("50%"), 4, 2),
        // Rounded down, and at least 1.
        (percent("74%"), 4, 2),
        (percent("1%"), 4, 1),
        // The cluster lacks some already.
        (IntOrString::Int(3), 5, 2),
        (IntOrString::Int(3), 7, 0),
        (percent("50%"), 6, 1),
        // A Deployment that rolls out has more than it wants.
        (IntOrString::Int(1), 3, 2),
        (IntOrString::Int(1), 0, 4),
    ] {
        let mut scene = Scene::new(&details, &[], wanted, max.clone());
        assert_eq!(scene.starting().len(), starts, "{max:?} of {wanted}");
    }
}

#[test]
fn what_is_in_operation_or_not_available_counts_as_lacking() {
    let details = [
        succeeded("done"),
        processing("busy"),
        failed("unreleased", "X"),
        released("released", "X"),
        pending("p1"),
        pending("p2"),
        pending("p3"),
    ];
    let mut gone = pod("terminating", true);
    gone["metadata"]["deletionTimestamp"] = json!(time(START));
    let others = [pod("other", true), pod("broken", false), gone];
    // 10 are wanted. 6 are available and not in operation: done, released, p1, p2, p3, other.
    for (max, starts) in [(4, 0), (5, 1), (6, 2), (7, 3)] {
        let mut scene = Scene::new(&details, &others, 10, IntOrString::Int(max));
        assert_eq!(scene.starting().len(), starts, "{max}");
    }
    let mut scene = Scene::new(&details, &others, 10, IntOrString::Int(4));
    assert_eq!(
        scene.why(),
        "targets that wait: 3; deployment/web lacks 4 of 10 available pods, targets in progress included, and \
         spec.maxUnavailable allows 4"
    );
    // Another job operates a pod.
    let mut scene = Scene::new(&details, &others, 10, IntOrString::Int(5));
    scene.surroundings.operated = ["uid-other".to_owned()].into();
    assert_eq!(scene.starting().len(), 0);
    let job = scene.world.job;
    assert_eq!(operated(&job).collect::<Vec<_>>().len(), 2);
}

#[test]
fn a_target_that_is_not_available_has_nothing_to_lose() {
    let details = [pending("a"), pending("broken"), pending("b")];
    let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(1));
    scene.put(pod("broken", false));
    assert_eq!(scene.starting(), ["broken"]);
    assert!(
        scene
            .why()
            .starts_with("targets that wait: 2; deployment/web lacks 1 of 3")
    );
    let conclusion = scene.world.pass(&[]);
    assert_eq!(
        standing(&conclusion.status),
        [("Reconciling", "Processing")]
    );

    // Ready, but not for long enough.
    let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(1));
    scene.surroundings.sizes = sizes(Size {
        pods: 3,
        min_ready_seconds: 11,
    });
    assert_eq!(scene.starting().len(), 3);
    scene.world.now += 1;
    assert_eq!(scene.starting(), ["a"]);
}

#[test]
fn each_workload_has_its_own_limit_and_a_bare_pod_has_none() {
    let details = ["a", "db-0", "b", "db-1", "bare"].map(pending);
    let mut scene = Scene::new(&details, &[], 2, IntOrString::Int(1));
    for name in ["db-0", "db-1", "bare"] {
        let mut other = pod(name, true);
        let owner = json!([{
            "apiVersion": "example.com/v1", "kind": "Database", "name": "db", "uid": "db", "controller": true,
        }]);
        other["metadata"]["ownerReferences"] = if name == "bare" { json!([]) } else { owner };
        scene.put(other);
    }
    assert_eq!(scene.starting(), ["a", "db-0", "bare"]);
    assert_eq!(
        scene.why(),
        "targets that wait: 2; deployment/web lacks 0 of 2 available pods, targets in progress included, and \
         spec.maxUnavailable allows 1; database/db lacks 0 of 2 available pods, targets in progress included, and \
         spec.maxUnavailable allows 1"
    );
}

#[test]
fn no_target_starts_against_a_pod_disruption_budget() {
    let details = ["a", "b", "c"].map(pending);
    let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(3));
    scene.surroundings.budgets = Arc::new(vec![budget("loose", 1), budget("tight", 2)]);
    assert_eq!(scene.starting(), ["a"]);
    assert_eq!(
        scene.why(),
        "targets that wait: 2; PodDisruptionBudget tight requires 2 available pods, and 3 are available, targets in \
         progress not included"
    );
    scene.surroundings.operated = ["uid-c".to_owned()].into();
    assert_eq!(scene.starting(), ["c"], "it is not counted any more");

    let mut unobserved = budget("new", 0);
    unobserved.metadata.generation = Some(3);
    let mut unsynced = budget("unsynced", 0);
    let status = unsynced.status.as_mut().expect("a status");
    let condition = json!([{
        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "", "lastTransitionTime": time(START),
    }]);
    status.conditions = serde_json::from_value(condition).expect("conditions");
    let mut selects_none = budget("none", 9);
    selects_none.spec = None;
    for (budget, starts) in [
        (unobserved, 0),
        (unsynced, 0),
        (
            PodDisruptionBudget {
                status: None,
                ..budget("new", 0)
            },
            0,
        ),
        (selects_none, 3),
    ] {
        let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(3));
        let name = budget.metadata.name.clone();
        scene.surroundings.budgets = Arc::new(vec![budget]);
        assert_eq!(scene.starting().len(), starts, "{name:?}");
    }
}

#[test]
fn a_job_that_waits_says_so_and_looks_again() {
    let details = ["a", "b"].map(pending);
    let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(1));
    assert!(scene.starting().is_empty());
    assert_eq!(scene.world.due(), Some(5));
    let conclusion = scene.world.pass(&[]);
    assert_eq!(
        standing(&conclusion.status),
        [("Reconciling", "WaitingForAvailability")]
    );
    let ready = condition(scene.world.status(), "Ready").expect("a condition");
    assert_eq!(
        ready.message,
        "0 of 2 targets succeeded; targets that wait: 2; deployment/web lacks 1 of 3 available pods, targets in \
         progress included, and spec.maxUnavailable allows 1"
    );
    scene.surroundings.pods.push(read(pod("another", true)));
    assert_eq!(scene.starting(), ["a"]);
}

#[test]
fn what_is_not_known_starts_no_target() {
    let mut world = World::with(&[processing("a"), pending("b")]);
    world.job.spec.max_unavailable = Some(IntOrString::Int(1));
    let failure = Failure::new("Forbidden", "no");
    world.availability = Availability::Unknown(failure.clone());
    assert_eq!(
        world.steps(),
        [TargetStep::Operate, TargetStep::Await(failure)]
    );
    assert_eq!(world.due(), Some(5));
    world.job.spec.max_unavailable = Some(percent("many"));
    let invalid = Availability::of(&world.job, &Surroundings::default(), time(START).0);
    let Availability::Unknown(invalid) = invalid else {
        unreachable!("{invalid:?}");
    };
    assert_eq!(invalid.reason, "InvalidSpec");
}

#[test]
fn only_a_job_that_may_start_targets_looks_around() {
    let limited = |change: &dyn Fn(&mut World)| {
        let mut world = World::with(&[processing("a"), pending("b")]);
        world.job.spec.max_unavailable = Some(IntOrString::Int(1));
        change(&mut world);
        is_limited(&world.job)
    };
    assert!(limited(&|_| {}));
    assert!(!limited(&|world| world.job.spec.max_unavailable = None));
    assert!(!limited(&|world| world.job.spec.paused = Some(true)));
    assert!(!limited(&|world| world.job.spec.dry_run = true));
    assert!(!limited(&World::delete_job));
    assert!(!limited(&|world| {
        let status = world.job.status.as_mut().expect("a status");
        status.target_details[1].progress = Progress::Succeeded;
    }));
    // A large job leaves targets that are Pending out of its status.
    assert!(limited(&|world| {
        let status = world.job.status.as_mut().expect("a status");
        status.target_details.truncate(1);
    }));
}

#[test]
fn a_replica_set_of_a_deployment_is_told_by_its_name() {
    for (name, hash, expected) in [
        ("web-7d9", Some("7d9"), ("Deployment", "web")),
        ("a-b-7d9", Some("7d9"), ("Deployment", "a-b")),
        ("web-7d9", Some("8f0"), ("ReplicaSet", "web-7d9")),
        ("web7d9", Some("7d9"), ("ReplicaSet", "web7d9")),
        ("web-7d9", None, ("ReplicaSet", "web-7d9")),
    ] {
        let mut value = pod("a", true);
        value["metadata"]["ownerReferences"][0]["name"] = json!(name);
        value["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        if hash.is_none() {
            value["metadata"]["labels"] = json!({});
        }
        let found = workload(&read(value)).expect("a workload");
        assert_eq!((found.kind.as_str(), found.name.as_str()), expected);
    }
}
