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
            json!({"command": null, "args": null, "env": null, "resources": null, "workingDir": null, "ports": null, "livenessProbe": null, "securityContext": null}),
        ),
        (
            "nested-nulls",
            json!({"env": [{"name": "A", "value": null, "valueFrom": null}], "resources": {"limits": null}}),
        ),
        (
            "int-or-string",
            json!({"readinessProbe": {"tcpSocket": {"port": 80}}, "livenessProbe": {"httpGet": {"port": "web"}}}),
        ),
        (
            "number-as-text",
            json!({"env": [{"name": "A", "value": 1}]}),
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
            json!({"manualSelector": null, "selector": null, "suspend": null, "ttlSecondsAfterFinished": null, "podFailurePolicy": null}),
        ),
        (
            "conditions",
            json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}),
        ),
        (
            "exit-codes",
            json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}}]}}),
        ),
        ("no-rules", json!({"podFailurePolicy": {"rules": []}})),
        ("count-as-text", json!({"completions": "2"})),
        (
            "success",
            json!({"completionMode": "Indexed", "completions": 2, "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}),
        ),
    ];
    let pods = [
        (
            "pod-nulls",
            json!({"volumes": null, "nodeSelector": null, "affinity": null, "tolerations": null, "initContainers": null}),
        ),
        (
            "pod-empties",
            json!({"volumes": [], "nodeSelector": {}, "affinity": {}, "tolerations": [], "imagePullSecrets": [], "securityContext": {}}),
        ),
        (
            "volumes",
            json!({"volumes": [{"name": "a", "emptyDir": {"sizeLimit": 1_073_741_824}}, {"name": "b", "emptyDir": null}]}),
        ),
        (
            "sidecar",
            json!({"initContainers": [{"name": "s", "image": "i", "restartPolicy": "Always"}]}),
        ),
        ("misspelt-in-pod", json!({"volumez": []})),
    ];
    let of_containers = containers.map(|(name, fields)| (name, spec(&fields, &json!({}))));
    let of_jobs = jobs.map(|(name, fields)| (name, spec(&json!({}), &fields)));
    let of_pods = pods.map(|(name, fields)| {
        let mut spec = spec(&json!({}), &json!({}));
        for (field, value) in fields.as_object().into_iter().flatten() {
            spec["template"]["spec"][field] = value.clone();
        }
        (name, spec)
    });
    let mut all: Vec<_> = of_containers.into_iter().chain(of_jobs).collect();
    all.extend(of_pods);
    let mut labelled = spec(&json!({}), &json!({}));
    labelled["template"]["metadata"] =
        json!({"labels": null, "annotations": {"a": null}, "creationTimestamp": null});
    all.push(("metadata-nulls", labelled));
    // With server-side apply each entry needs a name of its own in batch/v1 only. A schema can't say that: a
    // list map of a custom resource must have unique keys in every write, and CEL does not see how it is written.
    all.push(("twice", spec(&duplicates(), &json!({}))));
    all
}

/// Entries of one name, which batch/v1 takes unless they are applied on the server's side.
fn duplicates() -> Value {
    json!({
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "ports": [{"containerPort": 80}, {"containerPort": 80, "name": "x"}],
    })
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
            let is_server_side = verb.contains(&"--server-side");
            let refused = 5 + usize::from(is_server_side);
            assert_eq!(
                wanted.len(),
                corpus().len() - refused,
                "{verb:?}: {wanted:?}"
            );
            if is_server_side {
                // Our lists of variables and ports are applied as a whole, so a name may be there twice.
                wanted.insert("twice".to_owned());
            }
            for kind in ["ReactiveJob", "JobFlow", "JobTemplate", "DaemonJob"] {
                let (found, said) = taken(world, kind, verb).await;
                assert_eq!(found, wanted, "{kind} {verb:?}: {said}");
            }
        }
    })
    .await;
}
