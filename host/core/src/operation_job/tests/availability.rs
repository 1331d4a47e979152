//! Which targets `spec.maxUnavailable` and PodDisruptionBudgets let start.

use std::sync::Arc;

use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::ResourceExt as _;
use operon_api::operation_job::{Progress, TargetDetail};
use serde_json::{Value, json};

use super::world::{
    START, World, condition, failed, pending, processing, released, standing, succeeded, time,
};
use crate::operation_job::{
    availability::{
        Availability, Inventory, Operated, Size, Sizes, Workload, is_limited, operated, workload,
    },
    plan::TargetStep,
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
    inventory: Inventory,
    /// What other jobs operate.
    others: Vec<Operated>,
}

impl Scene {
    fn new(details: &[TargetDetail], others: &[Value], wanted: usize, max: IntOrString) -> Self {
        let mut world = World::with(details);
        world.job.spec.max_unavailable = Some(max);
        let named = details.iter().map(|detail| pod(&detail.name, true));
        let pods: Vec<_> = named.chain(others.iter().cloned()).map(read).collect();
        let inventory = Inventory {
            pods,
            sizes: sizes(size(wanted)),
            ..Inventory::default()
        };
        Self {
            world,
            inventory,
            others: Vec::new(),
        }
    }

    /// Replaces the pod of this name.
    fn put(&mut self, pod: Value) {
        let pod = read(pod);
        self.inventory
            .pods
            .retain(|old| old.metadata.name != pod.metadata.name);
        self.inventory.pods.push(pod);
    }

    /// The names of the targets that start now.
    fn starting(&mut self) -> Vec<String> {
        self.world.availability = Availability::Unlimited;
        let named: Vec<_> = self.world.run().starting().map(|pod| pod.name).collect();
        let pods = self.inventory.pods.iter();
        let is_named = |pod: &&Arc<Pod>| named.contains(&pod.name_any());
        let starting: Vec<_> = pods.filter(is_named).cloned().collect();
        let (job, now) = (&self.world.job, time(self.world.now).0);
        let availability = Availability::of(job, &starting, &self.inventory, now);
        let operated = operated(job).chain(self.others.clone());
        self.world.availability = availability.without(operated);
        self.world.run().starting().map(|pod| pod.name).collect()
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
        // A Deployment that rolls out has more than it wants: the others are about to go.
        (IntOrString::Int(1), 3, 1),
        (IntOrString::Int(1), 0, 1),
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
        "targets that wait: 3; deployment/web: 6 of 10 pods are available and not in operation, and \
         spec.maxUnavailable allows 4 to be missing"
    );
    // Another job operates a pod.
    let mut scene = Scene::new(&details, &others, 10, IntOrString::Int(5));
    let uid = |uid: &str| Operated {
        name: "other".to_owned(),
        uid: Some(uid.to_owned()),
    };
    scene.others = vec![uid("uid-other")];
    assert_eq!(scene.starting().len(), 0);
    scene.others = vec![uid("uid of a former pod")];
    assert_eq!(scene.starting().len(), 1);
    // The Go operator started the target, and did not note the uid.
    scene.others[0].uid = None;
    assert_eq!(scene.starting().len(), 0);
}

#[test]
fn a_job_operates_what_it_has_started_and_not_released() {
    let mut old = processing("old");
    old.pod_uid = None;
    let details = [
        pending("pending"),
        processing("busy"),
        old,
        succeeded("done"),
        failed("unreleased", "X"),
        released("released", "X"),
    ];
    let mut world = World::with(&details);
    let names = |world: &World| {
        let operated = operated(&world.job).map(|pod| (pod.name, pod.uid.is_some()));
        operated.collect::<Vec<_>>()
    };
    let found = names(&world);
    let found: Vec<_> = found
        .iter()
        .map(|(name, has_uid)| (name.as_str(), *has_uid))
        .collect();
    assert_eq!(
        found,
        [("busy", true), ("old", false), ("unreleased", true)]
    );
    world.job.spec.dry_run = true;
    assert!(names(&world).is_empty());
    world.job.spec.dry_run = false;
    let status = world.job.status.as_mut().expect("a status");
    status.progress = Some(Progress::Failed);
    assert!(names(&world).is_empty(), "nothing may ever release it");
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
            .starts_with("targets that wait: 2; deployment/web: 2 of 3 pods are available")
    );
    let conclusion = scene.world.pass(&[]);
    assert_eq!(
        standing(&conclusion.status),
        [("Reconciling", "Processing")]
    );

    // Ready, but not for long enough.
    let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(1));
    scene.inventory.sizes = sizes(Size {
        pods: 3,
        min_ready_seconds: 11,
    });
    assert_eq!(scene.starting().len(), 3);
    scene.world.now += 1;
    assert_eq!(scene.starting(), ["a"]);
}

/// A pod of another controller, or of none.
fn of_controller(name: &str, api_version: &str, kind: &str) -> Value {
    let mut pod = pod(name, true);
    let owner = json!({
        "apiVersion": api_version, "kind": kind, "name": "db", "uid": "db", "controller": true,
    });
    let owners = if kind.is_empty() {
        json!([])
    } else {
        json!([owner])
    };
    pod["metadata"]["ownerReferences"] = owners;
    pod
}

#[test]
fn each_workload_has_its_own_limit_and_a_bare_pod_has_none() {
    let details = ["a", "db-0", "b", "db-1", "bare"].map(pending);
    let mut scene = Scene::new(&details, &[], 2, IntOrString::Int(1));
    for (name, kind) in [
        ("db-0", "StatefulSet"),
        ("db-1", "StatefulSet"),
        ("bare", ""),
    ] {
        scene.put(of_controller(name, "apps/v1", kind));
    }
    let db =
        workload(&read(of_controller("db-0", "apps/v1", "StatefulSet"))).expect("a controller");
    scene.inventory.sizes.push(Arc::new([(db, size(2))].into()));
    assert_eq!(scene.starting(), ["a", "db-0", "bare"]);
    assert_eq!(
        scene.why(),
        "targets that wait: 2; deployment/web: 1 of 2 pods are available and not in operation, and spec.maxUnavailable \
         allows 1 to be missing; statefulset/db: 1 of 2 pods are available and not in operation, and \
         spec.maxUnavailable allows 1 to be missing"
    );
}

#[test]
fn pods_of_a_workload_of_unknown_size_are_not_spared() {
    let details = ["a", "broken"].map(pending);
    let mut scene = Scene::new(&details, &[], 2, IntOrString::Int(1));
    scene.put(of_controller("a", "example.com/v1", "CloneSet"));
    let mut broken = pod("broken", false);
    broken["metadata"]["ownerReferences"] =
        of_controller("", "example.com/v1", "CloneSet")["metadata"]["ownerReferences"].clone();
    scene.put(broken);
    assert_eq!(scene.starting(), ["broken"]);
    assert_eq!(
        scene.why(),
        "targets that wait: 1; how many pods cloneset/db wants is not known, because it does not exist or \
         spec.maxUnavailable does not know its kind; remove spec.maxUnavailable to start without"
    );
}

#[test]
fn no_target_starts_against_a_pod_disruption_budget() {
    let details = ["a", "b", "c"].map(pending);
    let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(3));
    scene.inventory.budgets = Arc::new(vec![budget("loose", 1), budget("tight", 2)]);
    assert_eq!(scene.starting(), ["a"]);
    assert_eq!(
        scene.why(),
        "targets that wait: 2; PodDisruptionBudget tight: 2 pods are available and not in operation, and 2 are required"
    );
    scene.others = vec![Operated {
        name: "c".to_owned(),
        uid: None,
    }];
    assert_eq!(scene.starting(), ["c"], "it does not count any more");

    let mut unobserved = budget("new", 0);
    unobserved.metadata.generation = Some(3);
    let mut unsynced = budget("unsynced", 0);
    let status = unsynced.status.as_mut().expect("a status");
    let condition = json!([{
        "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no controller", "lastTransitionTime": time(START),
    }]);
    status.conditions = serde_json::from_value(condition).expect("conditions");
    let mut selects_none = budget("none", 9);
    selects_none.spec = None;
    let stale = "its status is not up to date";
    for (budget, starts, why) in [
        (unobserved, 0, stale),
        (unsynced, 0, "no controller"),
        (
            PodDisruptionBudget {
                status: None,
                ..budget("new", 0)
            },
            0,
            stale,
        ),
        (selects_none, 3, ""),
    ] {
        let mut scene = Scene::new(&details, &[], 3, IntOrString::Int(3));
        let name = budget.metadata.name.clone();
        scene.inventory.budgets = Arc::new(vec![budget]);
        assert_eq!(scene.starting().len(), starts, "{name:?}");
        assert!(scene.why().ends_with(why), "{}", scene.why());
    }
}

#[test]
fn a_job_that_waits_reports_why_and_decides_again() {
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
        "0 of 2 targets succeeded; targets that wait: 2; deployment/web: 2 of 3 pods are available and not in operation, \
         and spec.maxUnavailable allows 1 to be missing"
    );
    scene.inventory.pods.push(read(pod("another", true)));
    assert_eq!(scene.starting(), ["a"]);
}

#[test]
fn what_is_not_known_starts_no_target() {
    let mut world = World::with(&[processing("a"), pending("b")]);
    world.job.spec.max_unavailable = Some(IntOrString::Int(1));
    world.availability = Availability::Unknown("forbidden".to_owned());
    assert_eq!(world.steps(), [TargetStep::Operate, TargetStep::Keep]);
    assert_eq!(world.due(), Some(5));
    assert_eq!(
        world.run().held.as_deref(),
        Some("targets that wait: 1; forbidden")
    );
    assert!(is_limited(&world.job));
    world.job.spec.dry_run = true;
    assert!(!is_limited(&world.job));
    world.job.spec.dry_run = false;
    world.job.spec.max_unavailable = Some(percent("many"));
    let TargetStep::Await(invalid) = world.steps().remove(1) else {
        unreachable!("a target that waits");
    };
    assert_eq!(invalid.reason, "InvalidSpec");
}

#[test]
fn a_replica_set_of_a_deployment_is_known_by_its_name() {
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
