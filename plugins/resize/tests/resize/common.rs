//! A pod, and what its kubelet does to resize its containers, step by step.

use operon_action_resize::Resize;
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Value, json};

/// What the containers have at the beginning.
pub(crate) fn before() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}})
}

/// A running pod with the containers `app` and `web`, and the sidecar `proxy`.
pub(crate) fn world() -> FakeCluster {
    let mut world = FakeCluster::new();
    world.add_pod("foo", &json!({"generation": 1}));
    let container = |name: &str| json!({"name": name, "image": "nginx:1", "resources": before()});
    let mut proxy = container("proxy");
    proxy["restartPolicy"] = json!("Always");
    let setup = json!({"name": "setup", "image": "nginx:1"});
    world.change_pod(
        "foo",
        &json!({"spec": {"containers": [container("app"), container("web")],
            "initContainers": [setup, proxy]}}),
    );
    gives_all(&mut world);
    world
}

/// The kubelet has given the containers what the spec has, and says so.
pub(crate) fn gives_all(world: &mut FakeCluster) {
    let object = object(world);
    let statuses = |list: &str| -> Vec<Value> {
        let containers = object["spec"][list].as_array().into_iter().flatten();
        let status = |container: &Value| {
            json!({"name": container["name"], "ready": true, "state": {"running": {}},
                "resources": container["resources"]})
        };
        containers.map(status).collect()
    };
    let status = json!({
        "containerStatuses": statuses("containers"),
        "initContainerStatuses": statuses("initContainers"),
    });
    world.change_pod("foo", &json!({ "status": status }));
    says(world, &[]);
}

/// The kubelet has seen the spec, and reports these conditions: type, reason, message.
pub(crate) fn says(world: &mut FakeCluster, conditions: &[(&str, &str, &str)]) {
    let generation = object(world)["metadata"]["generation"].clone();
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(name, reason, message)| {
            json!({"type": name, "status": "True", "reason": reason, "message": message,
                "observedGeneration": generation})
        })
        .collect();
    world.change_pod(
        "foo",
        &json!({"status": {"conditions": conditions, "observedGeneration": generation}}),
    );
}

/// The API server counts a change of the spec.
pub(crate) fn counts(world: &mut FakeCluster) {
    let generation = object(world)["metadata"]["generation"]
        .as_i64()
        .expect("a number");
    world.change_pod("foo", &json!({"metadata": {"generation": generation + 1}}));
}

/// Another client writes the resources of the container `app`.
pub(crate) fn another_writes(world: &mut FakeCluster, resources: &Value) {
    let mut containers = object(world)["spec"]["containers"].clone();
    containers[0]["resources"] = resources.clone();
    world.change_pod("foo", &json!({"spec": {"containers": containers}}));
    counts(world);
}

pub(crate) fn object(world: &FakeCluster) -> Value {
    world.object("v1", "Pod", "foo").expect("the pod").clone()
}

/// The resources in the spec of a container.
pub(crate) fn written(world: &FakeCluster, name: &str) -> Value {
    let spec = &object(world)["spec"];
    let lists = ["containers", "initContainers"].iter();
    let mut all = lists.flat_map(|list| spec[*list].as_array().into_iter().flatten());
    let found = all.find(|container| container["name"] == name);
    found.expect("the container")["resources"].clone()
}

pub(crate) fn job(parameters: &Value) -> FakeJob<Resize> {
    FakeJob::<Resize>::new("j1", &["foo"]).parameters(parameters)
}

/// A job that has written more CPU into all ordinary containers.
pub(crate) fn begun(world: &mut FakeCluster) -> FakeJob<Resize> {
    let mut job = job(&cpu("200m"));
    job.pass(world);
    job.pass(world);
    counts(world);
    assert_eq!(world.writes().len(), 1, "{:?}", job.target("foo"));
    job
}

pub(crate) fn cpu(amount: &str) -> Value {
    json!({"resources": {"requests": {"cpu": amount}}})
}

pub(crate) fn reason(job: &FakeJob<Resize>) -> &str {
    job.target("foo").reason().unwrap_or_default()
}

pub(crate) fn message(job: &FakeJob<Resize>) -> &str {
    let failure = job.target("foo").failure.as_ref();
    failure.map_or("", |failure| failure.message.as_str())
}
