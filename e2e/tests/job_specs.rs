//! Job specs as people write them: what the API server says of a Job, it says of the same spec inside each of
//! our kinds, created, applied, and applied on the server's side.

use std::collections::BTreeSet;

use operon_e2e::prelude::*;
use serde_json::Value;

/// Specs by name, each of a container with these fields, and of a Job with those.
fn corpus() -> Vec<(&'static str, Value)> {
    let containers = [
        (
            "quantities",
            json!({"resources": {"limits": {"cpu": 0.5, "memory": "64Mi"}, "requests": {"cpu": 0.25, "memory": 33_554_432}}}),
        ),
        ("large", json!({"resources": {"limits": {"memory": 1e8}}})),
        (
            "nulls",
            json!({"command": null, "args": null, "env": null, "resources": null, "workingDir": null}),
        ),
        (
            "empty-lists",
            json!({"command": [], "env": [], "envFrom": [], "volumeMounts": []}),
        ),
        (
            "empty-objects",
            json!({"resources": {}, "securityContext": {}}),
        ),
        (
            "ports",
            json!({"ports": [{"containerPort": 80}], "livenessProbe": {"httpGet": {"port": 80}}}),
        ),
        (
            "named-port",
            json!({"livenessProbe": {"httpGet": {"port": "http"}}}),
        ),
        ("misspelt", json!({"comand": ["x"]})),
        ("no-list", json!({"command": "x"})),
    ];
    let jobs = [
        (
            "manual-selector",
            json!({"manualSelector": null, "selector": null, "suspend": null}),
        ),
        (
            "conditions",
            json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}),
        ),
        (
            "success",
            json!({"completionMode": "Indexed", "completions": 2, "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}),
        ),
    ];
    let of_containers = containers.map(|(name, fields)| (name, fields, json!({})));
    let of_jobs = jobs.map(|(name, fields)| (name, json!({}), fields));
    let all = of_containers.into_iter().chain(of_jobs);
    all.map(|(name, container, job)| (name, spec(&container, &job)))
        .collect()
}

fn spec(container: &Value, job: &Value) -> Value {
    let mut main = json!({"name": "main", "image": "busybox:1.28"});
    let mut spec = json!({"backoffLimit": 0});
    for (part, fields) in [(&mut main, container), (&mut spec, job)] {
        for (name, value) in fields.as_object().into_iter().flatten() {
            part[name] = value.clone();
        }
    }
    spec["template"] = json!({"spec": {"restartPolicy": "Never", "containers": [main]}});
    spec
}

/// A spec inside an object of this kind.
fn inside(kind: &str, name: &str, spec: &Value) -> Value {
    let (version, spec) = match kind {
        "ReactiveJob" => (
            "batch.cs.sap.com/v1alpha1",
            json!({"jobTemplate": {"spec": spec}}),
        ),
        "JobFlow" => (
            "api.practice.com/v1alpha1",
            json!({"flows": [{"name": "a", "jobTemplate": spec}]}),
        ),
        "JobTemplate" => ("api.practice.com/v1alpha1", json!({"jobTemplate": spec})),
        "DaemonJob" => ("api.practice.com/v1alpha1", spec.clone()),
        _ => ("batch/v1", spec.clone()),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The names of those that the API server takes.
async fn taken(world: &World, kind: &str, verb: &[&str]) -> (BTreeSet<String>, String) {
    let objects: Vec<_> = corpus()
        .iter()
        .map(|(name, spec)| inside(kind, name, spec).to_string())
        .collect();
    let file = std::env::temp_dir().join(format!("{}-{kind}.yaml", world.namespace));
    std::fs::write(&file, objects.join("\n---\n")).expect("a file for the manifests");
    let path = file.to_string_lossy().into_owned();
    let arguments = [verb, &["--dry-run=server", "-o", "name", "-f", &path]].concat();
    let output = world.kubectl(&arguments).await;
    let _ = std::fs::remove_file(&file);
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.lines().filter_map(|line| line.split_once('/'));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (names.map(|(_, name)| name.to_owned()).collect(), said)
}

#[tokio::test]
async fn a_job_spec_has_the_same_verdict_inside_each_kind_as_in_a_job() {
    story(async |world: &World| {
        for verb in [
            &["create"][..],
            &["apply"],
            &["apply", "--server-side", "--field-manager=test"],
        ] {
            let (mut wanted, _) = taken(world, "Job", verb).await;
            assert_eq!(wanted.len(), corpus().len() - 2, "{verb:?}: {wanted:?}");
            if verb.contains(&"--server-side") {
                // An API server drops nulls only where it decodes a whole object.
                wanted.retain(|name| !["nulls", "manual-selector"].contains(&name.as_str()));
            }
            for kind in ["ReactiveJob", "JobFlow", "JobTemplate", "DaemonJob"] {
                let (found, said) = taken(world, kind, verb).await;
                assert_eq!(found, wanted, "{kind} {verb:?}: {said}");
            }
        }
    })
    .await;
}
