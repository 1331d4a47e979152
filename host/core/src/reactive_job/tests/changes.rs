//! Status and Events say why a Job ran, field by field, and show nothing that may be secret.

use operon_api::{keys, reactive_job::RunReason};
use serde_json::{Value, json};

use super::world::World;

/// The report of a change of the template from one to the other.
fn told(from: &Value, to: &Value) -> (Vec<String>, World) {
    let mut world = World::new();
    world.edit(|template| *template = from.clone());
    world.settle();
    world.events();
    world.edit(|template| *template = to.clone());
    world.settle();
    assert_eq!(world.made, 2, "{from} {to}");
    let run = world.status().runs[0].clone();
    assert_eq!(run.reason, RunReason::TemplateChanged);
    let event = &world.events[0];
    assert_eq!(event.reason, "RunStarted");
    assert_eq!(
        event.message,
        format!(
            "created Job {:?}: TemplateChanged: {}",
            run.job_name,
            run.changes.join("; ")
        )
    );
    (run.changes, world)
}

/// A template of this pod.
fn of_pod(pod: Value) -> Value {
    let mut template = json!({"spec": {"template": {}}});
    template["spec"]["template"]["spec"] = pod;
    template
}

/// A template whose container has these fields too.
fn of_container(fields: &Value) -> Value {
    let mut container = json!({"name": "main", "image": "alpine"});
    for (name, value) in fields.as_object().expect("an object") {
        container[name] = value.clone();
    }
    of_pod(json!({"containers": [container]}))
}

#[test]
fn a_change_is_told_field_by_field() {
    let path = "spec.template.spec.containers";
    let cases = [
        (
            json!({"image": "a"}),
            json!({"image": "b"}),
            vec![".image: a → b"],
        ),
        (json!({}), json!({"tty": true}), vec![".tty: added true"]),
        (json!({"tty": true}), json!({}), vec![".tty: removed"]),
        (
            json!({"ports": [{"name": "a", "containerPort": 1}]}),
            json!({"ports": [{"name": "a", "containerPort": 2}]}),
            vec![".ports[a].containerPort: 1 → 2"],
        ),
        (
            json!({}),
            json!({"ports": [{"containerPort": 2}]}),
            vec![".ports: added (an object)"],
        ),
        (
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}]}),
            json!({"env": [{"name": "B", "value": "2"}], "command": ["x"]}),
            vec![
                ".command changed",
                ".env[A] changed",
                ".env[B].value changed",
            ],
        ),
        (
            json!({"args": ["a", "b"]}),
            json!({"args": ["a", "c", "d"]}),
            vec![".args[1] changed", ".args[2] changed"],
        ),
        (
            json!({"workingDir": "/".repeat(48)}),
            json!({"workingDir": "/ü".repeat(48)}),
            vec![
                ".workingDir: //////////////////////////////////////////////// → /ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü/ü…",
            ],
        ),
    ];
    for (from, to, expected) in cases {
        let (changes, _) = told(&of_container(&from), &of_container(&to));
        let expected = expected.iter().map(|line| format!("{path}[main]{line}"));
        assert_eq!(changes, expected.collect::<Vec<_>>());
    }
}

#[test]
fn containers_are_told_by_their_names() {
    let one = json!({"name": "a", "image": "x"});
    let other = json!({"name": "b", "image": "y"});
    let (changes, _) = told(
        &of_pod(json!({"containers": [one]})),
        &of_pod(json!({"containers": [other, one]})),
    );
    assert_eq!(
        changes,
        ["spec.template.spec.containers[b]: added (an object)"]
    );
}

#[test]
fn keys_that_every_job_has_are_no_difference() {
    let with = |digest: &str| {
        let mut template = of_container(&json!({}));
        template["metadata"] = json!({
            "annotations": {"a.b/digest": digest, keys::RUN: digest},
            "labels": {"app": digest},
        });
        template["spec"]["template"]["metadata"] = json!({
            "annotations": {"of": digest}, "labels": {"pod": digest},
        });
        template
    };
    let (changes, mut world) = told(&with("1"), &with("2"));
    assert_eq!(
        changes,
        [
            "metadata.annotations.a.b/digest: 1 → 2",
            "metadata.labels.app: 1 → 2",
            "spec.template.metadata.annotations.of: 1 → 2",
            "spec.template.metadata.labels.pod: 1 → 2",
        ]
    );
    // And a run for another reason has none.
    world.annotate(keys::RERUN, "please");
    world.settle();
    assert_eq!(world.status().runs[0].changes, [] as [&str; 0]);
    let last = world.events.last().expect("an Event");
    assert!(last.message.ends_with("RerunRequested"), "{}", last.message);
}

#[test]
fn of_many_differences_ten_are_told_and_then_their_number() {
    let with = |value: &str| {
        let mut template = of_container(&json!({}));
        for place in 0..13 {
            template["metadata"]["labels"][format!("l{place:02}")] = json!(value);
        }
        template
    };
    let (changes, _) = told(&with("a"), &with("b"));
    assert_eq!(changes.len(), 11);
    assert_eq!(changes[9], "metadata.labels.l09: a → b");
    assert_eq!(changes[10], "and 3 more");
}

/// Every field of a container into which a secret may be written, with one.
fn secretive(secret: &str) -> Value {
    let exec = json!({"exec": {"command": ["login", secret]}});
    let get = json!({"httpGet": {
        "port": 80, "path": format!("/?token={secret}"),
        "httpHeaders": [{"name": "Authorization", "value": secret}],
    }});
    json!({
        "command": [secret, "x"],
        "args": ["--password", secret],
        "env": [{"name": "PASSWORD", "value": secret}, {"name": "a.b", "value": secret}],
        "livenessProbe": exec,
        "readinessProbe": get,
        "startupProbe": exec,
        "lifecycle": {"preStop": exec, "postStart": get},
    })
}

/// Every volume into which a secret may be written, with one.
fn secretive_volumes(secret: &str) -> Value {
    json!({
        "csi": {"driver": "d", "volumeAttributes": {"password": secret}},
        "flexVolume": {"driver": "d", "options": {"password": secret}},
        "gitRepo": {"repository": format!("https://{secret}@example.com")},
    })
}

/// Templates with a secret in one place each.
fn secretive_templates(secret: &str) -> Vec<Value> {
    let plain = json!([{"name": "plain", "image": "alpine"}]);
    let mut found = Vec::new();
    let fields = secretive(secret);
    for (field, value) in fields.as_object().expect("an object") {
        let container = json!([{"name": "main", "image": "alpine", field: value}]);
        found.push(of_pod(json!({"containers": container})));
        found.push(of_pod(
            json!({"containers": plain, "initContainers": container}),
        ));
    }
    let volumes = secretive_volumes(secret);
    for (kind, volume) in volumes.as_object().expect("an object") {
        let volumes = json!([{"name": "a", kind: volume}]);
        found.push(of_pod(json!({"containers": plain, "volumes": volumes})));
    }
    found
}

#[test]
fn what_may_be_secret_is_not_in_status_or_events() {
    let bare = of_container(&json!({}));
    let olds = secretive_templates("hunter2");
    for (old, new) in olds.iter().zip(secretive_templates("hunter3")) {
        for (from, to) in [(old, &new), (&bare, &new), (old, &bare)] {
            let (changes, mut world) = told(from, to);
            assert!(!changes.is_empty());
            world.fail(&world.newest());
            world.settle();
            let said = format!("{} {:?}", json!(world.object.status), world.events);
            assert!(said.contains("spec.template.spec"), "{said}");
            assert!(!said.contains("hunter"), "{said}");
        }
    }
}

#[test]
fn what_is_no_secret_is_shown_beside_what_may_be_one() {
    let with = |name: &str| {
        let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]);
        let from = json!([{"secretRef": {"name": name}}]);
        of_container(&json!({"env": env, "envFrom": from}))
    };
    let (changes, _) = told(&with("a"), &with("b"));
    assert_eq!(
        changes,
        [
            "spec.template.spec.containers[main].env[A].valueFrom.secretKeyRef.name changed",
            "spec.template.spec.containers[main].envFrom[0].secretRef.name: a → b",
        ]
    );
}
