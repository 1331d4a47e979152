//! Edits that an API server would store as nothing, and edits that only look like them.

use operon_api::{keys, reactive_job::RunReason};
use serde_json::{Value, json};

use super::world::World;

/// A template with a bit of everything, and in it `value` at `path`; null means that nothing is there.
fn with(path: &str, value: &Value) -> Value {
    let mut template = json!({
        "metadata": {},
        "spec": {"template": {"metadata": {}, "spec": {
            "containers": [{
                "name": "main", "image": "localhost/app:1", "lifecycle": {"preStop": {"httpGet": {"port": 1}}},
                "livenessProbe": {"httpGet": {"port": 80}}, "startupProbe": {"grpc": {"port": 1}},
                "ports": [{"containerPort": 80}], "resources": {"limits": {}}, "securityContext": {"runAsUser": 1},
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            }],
            "volumes": [
                {"name": "secret", "secret": {"secretName": "s"}},
                {"name": "config", "configMap": {"name": "c"}},
                {"name": "host", "hostPath": {"path": "/"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
                {"name": "scratch", "emptyDir": {}},
            ],
            "topologySpreadConstraints": [{"maxSkew": 1}],
        }}},
    });
    let (parent, field) = path.rsplit_once('/').expect("a path");
    let parent = template
        .pointer_mut(parent)
        .expect("a part of the template");
    let parent = parent.as_object_mut().expect("an object");
    if value.is_null() {
        parent.remove(field);
    } else {
        parent.insert(field.to_owned(), value.clone());
    }
    template
}

const POD: &str = "/spec/template/spec";
const MAIN: &str = "/spec/template/spec/containers/0";
const VOLUMES: &str = "/spec/template/spec/volumes";

/// Pairs that mean the same, as (where, what, field, one value, another value); null is its absence.
fn same() -> Vec<(String, Value, Value)> {
    let pairs = of_jobs_and_pods().into_iter().chain(of_containers());
    let pairs = pairs.chain(of_volumes());
    pairs
        .map(|(at, field, one, other)| (format!("{at}/{field}"), one, other))
        .collect()
}

type Pair = (&'static str, &'static str, Value, Value);

fn of_jobs_and_pods() -> Vec<Pair> {
    let none = Value::Null;
    vec![
        ("/metadata", "labels", json!({}), none.clone()),
        ("/metadata", "annotations", json!({}), none.clone()),
        ("/metadata", "name", json!("other"), none.clone()),
        ("/spec", "suspend", json!(false), none.clone()),
        ("/spec", "backoffLimit", json!(6), none.clone()),
        ("/spec", "completionMode", json!("NonIndexed"), none.clone()),
        ("/spec", "manualSelector", json!(false), none.clone()),
        (
            "/spec",
            "podReplacementPolicy",
            json!("TerminatingOrFailed"),
            none.clone(),
        ),
        ("/spec/template/metadata", "labels", json!({}), none.clone()),
        (POD, "securityContext", json!({}), none.clone()),
        (POD, "affinity", json!({}), none.clone()),
        (POD, "affinity", json!({"nodeAffinity": {}}), none.clone()),
        (POD, "nodeSelector", json!({}), none.clone()),
        (POD, "tolerations", json!([]), none.clone()),
        (POD, "imagePullSecrets", json!([]), none.clone()),
        (POD, "initContainers", json!([]), none.clone()),
        (POD, "hostNetwork", json!(false), none.clone()),
        (POD, "enableServiceLinks", json!(true), none.clone()),
        (POD, "dnsPolicy", json!("ClusterFirst"), none.clone()),
        (POD, "dnsConfig", json!({}), none.clone()),
        (
            POD,
            "schedulerName",
            json!("default-scheduler"),
            none.clone(),
        ),
        (
            POD,
            "terminationGracePeriodSeconds",
            json!(30),
            none.clone(),
        ),
    ]
}

fn of_containers() -> Vec<Pair> {
    let none = Value::Null;
    vec![
        (MAIN, "imagePullPolicy", json!("IfNotPresent"), none.clone()),
        (
            MAIN,
            "terminationMessagePath",
            json!("/dev/termination-log"),
            none.clone(),
        ),
        (
            MAIN,
            "terminationMessagePolicy",
            json!("File"),
            none.clone(),
        ),
        (MAIN, "command", json!([]), none.clone()),
        (MAIN, "tty", json!(false), none.clone()),
        (MAIN, "resources", json!({"requests": {}}), none.clone()),
        (
            MAIN,
            "resources",
            json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}}),
            json!({"limits": {"cpu": 1, "memory": "1Gi"}}),
        ),
        (
            MAIN,
            "resources",
            json!({"limits": {"cpu": 0.5}}),
            json!({"limits": {"cpu": "500m"}}),
        ),
        (
            MAIN,
            "securityContext",
            json!({"capabilities": {"add": []}}),
            json!({}),
        ),
        (
            "/spec/template/spec/containers/0/ports/0",
            "protocol",
            json!("TCP"),
            none.clone(),
        ),
        (
            "/spec/template/spec/containers/0/env/0/valueFrom/fieldRef",
            "apiVersion",
            json!("v1"),
            none.clone(),
        ),
        (
            "/spec/template/spec/containers/0/livenessProbe",
            "periodSeconds",
            json!(10),
            none.clone(),
        ),
        (
            "/spec/template/spec/containers/0/livenessProbe/httpGet",
            "scheme",
            json!("HTTP"),
            none.clone(),
        ),
        (
            "/spec/template/spec/containers/0/lifecycle/preStop/httpGet",
            "path",
            json!("/"),
            none.clone(),
        ),
        (
            "/spec/template/spec/containers/0/startupProbe/grpc",
            "service",
            json!(""),
            none.clone(),
        ),
    ]
}

fn of_volumes() -> Vec<Pair> {
    let none = Value::Null;
    vec![
        (VOLUMES, "0/secret/defaultMode", json!(420), none.clone()),
        (VOLUMES, "1/configMap/defaultMode", json!(420), none.clone()),
        (VOLUMES, "2/hostPath/type", json!(""), none.clone()),
        (
            VOLUMES,
            "3/projected/sources/0/serviceAccountToken/expirationSeconds",
            json!(3600),
            none.clone(),
        ),
        (VOLUMES, "4/emptyDir", json!({}), none.clone()),
    ]
}

/// A world with a Job that was created from one template, and then got another.
fn edited(from: &Value, to: &Value) -> World {
    let mut world = World::new();
    world.edit(|template| *template = from.clone());
    world.settle();
    world.succeed(&world.newest());
    world.settle();
    world.edit(|template| *template = to.clone());
    world.settle();
    world
}

#[test]
fn an_edit_that_an_api_server_stores_as_nothing_runs_nothing() {
    let pairs = same();
    assert!(pairs.len() >= 40);
    for (path, one, other) in pairs {
        let (one, other) = (with(&path, &one), with(&path, &other));
        assert_ne!(one, other, "{path}");
        for (from, to) in [(&one, &other), (&other, &one)] {
            let mut world = edited(from, to);
            assert_eq!(world.made, 1, "{path}");
            // And a change after it is reported alone.
            world.edit(|template| template["metadata"]["labels"]["a"] = json!("b"));
            world.settle();
            let run = &world.status().runs[0];
            assert_eq!(run.changes, ["metadata.labels.a: added b"], "{path}");
        }
    }
}

#[test]
fn an_edit_that_only_looks_like_nothing_runs_the_job_and_is_reported() {
    let none = Value::Null;
    for (path, one, other) in [
        (
            format!("{POD}/affinity"),
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", "labelSelector": {}}]}}),
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}),
        ),
        (
            format!("{POD}/topologySpreadConstraints/0/labelSelector"),
            json!({}),
            none.clone(),
        ),
        (
            format!("{POD}/automountServiceAccountToken"),
            json!(true),
            none.clone(),
        ),
        (
            format!("{MAIN}/imagePullPolicy"),
            json!("Always"),
            none.clone(),
        ),
        (format!("{MAIN}/command"), json!([""]), none.clone()),
        ("/spec/completions".to_owned(), json!(2), none.clone()),
        // Without completions either, a Job has one of each; with it, any number of completions.
        ("/spec/parallelism".to_owned(), json!(1), none.clone()),
        ("/spec/suspend".to_owned(), json!(true), none.clone()),
        (
            "/spec/backoffLimitPerIndex".to_owned(),
            json!(1),
            none.clone(),
        ),
        (
            "/metadata/finalizers".to_owned(),
            json!(["a.b/c"]),
            none.clone(),
        ),
    ] {
        let (one, other) = (with(&path, &one), with(&path, &other));
        for (from, to) in [(&one, &other), (&other, &one)] {
            let world = edited(from, to);
            assert_eq!(world.made, 2, "{path}");
            let run = &world.status().runs[0];
            assert_eq!(run.reason, RunReason::TemplateChanged);
            assert!(!run.changes.is_empty(), "{path}");
        }
    }
}

#[test]
fn a_change_that_only_saps_hash_sees_is_reported() {
    let path = format!("{POD}/securityContext");
    let (from, to) = (with(&path, &json!({})), with(&path, &Value::Null));
    let mut world = World::new();
    world.edit(|template| *template = from);
    world.settle();
    // As SAP's operator would have created it, before Operon ever reconciled the object.
    let job = world.newest();
    let annotations = world.job_mut(&job).metadata.annotations.as_mut();
    annotations
        .expect("annotations")
        .remove(keys::TEMPLATE_HASH);
    world.object.status = None;
    world.edit(|template| *template = to);
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(
        world.status().runs[0].changes,
        ["spec.template.spec.securityContext: removed"]
    );
}

#[test]
fn a_change_whose_previous_job_was_deleted_says_so() {
    let mut world = World::ready();
    let job = world.newest();
    world.edit_spec(|spec| spec.suspend = Some(true));
    world.edit_digest("next");
    world.settle();
    world.force_away(&job);
    world.edit_spec(|spec| spec.suspend = None);
    world.settle();
    let run = &world.status().runs[0];
    assert_eq!(run.reason, RunReason::TemplateChanged);
    assert!(
        run.changes[0].ends_with("because the previous Job was deleted"),
        "{:?}",
        run.changes
    );
}
