//! Job specs as public charts and generators write them, against the schemas that our CRDs have for them: what
//! batch/v1 takes they take too.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use crate::all_crds;

/// What is wrong with a value, as far as types and required fields go. An API server drops the nulls of
/// fields, but for those of server-side apply.
fn faults(path: &str, schema: &Value, value: &Value, found: &mut Vec<String>) {
    let type_ = schema["type"].as_str().unwrap_or("any");
    let is_int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let fits = match value {
        Value::Null => !path.ends_with(']'),
        Value::Bool(_) => matches!(type_, "boolean" | "any"),
        Value::Number(number) if is_int_or_string => number.is_i64(),
        Value::Number(number) => {
            matches!(type_, "number" | "any") || (type_ == "integer" && number.is_i64())
        }
        Value::String(_) => is_int_or_string || matches!(type_, "string" | "any"),
        Value::Array(_) => matches!(type_, "array" | "any"),
        Value::Object(_) => matches!(type_, "object" | "any"),
    };
    if !fits {
        found.push(format!("{path} is no {type_}"));
    }
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(&format!("{path}[{place}]"), &schema["items"], item, found);
    }
    let Some(fields) = value.as_object() else {
        return;
    };
    let properties = &schema["properties"];
    for (name, value) in fields {
        let known = [&properties[name], &schema["additionalProperties"]];
        match known.into_iter().find(|schema| schema.is_object()) {
            Some(schema) => faults(&format!("{path}.{name}"), schema, value, found),
            None if type_ == "any" => {}
            None => found.push(format!("{path}.{name} is unknown")),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        let has_default = properties[name].get("default").is_some();
        if fields.get(name).is_none_or(Value::is_null) && !has_default {
            found.push(format!("{path}.{name} is missing"));
        }
    }
}

fn pod(pod: &Value) -> Value {
    json!({"template": {"spec": pod}})
}

fn container(fields: &Value) -> Value {
    let mut container = json!({"name": "main", "image": "busybox"});
    for (name, value) in fields.as_object().into_iter().flatten() {
        container[name] = value.clone();
    }
    pod(&json!({"containers": [container], "restartPolicy": "Never"}))
}

/// Specs that batch/v1 takes.
fn taken() -> Vec<Value> {
    let mut specs: Vec<_> = [
        json!({"resources": {"limits": {"cpu": 0.5, "memory": "64Mi"}, "requests": {"cpu": 1, "memory": 33_554_432}}}),
        json!({"resources": {"limits": {"cpu": 1e-1, "nvidia.com/gpu": 1, "memory": 1e8}, "requests": null}}),
        json!({"command": null, "args": null, "env": null, "envFrom": null, "ports": null, "workingDir": null}),
        json!({"command": [], "args": [], "env": [], "volumeMounts": []}),
        json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "value": null}]}),
        json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 0.001}}}]}),
        json!({"livenessProbe": {"httpGet": {"port": "http", "host": null}}, "startupProbe": {"tcpSocket": {"port": 80}}}),
        json!({"securityContext": {}, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}, "stdin": null}),
        json!({"securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsUser": null, "seccompProfile": null}}),
        json!({"envFrom": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b", "optional": null}}]}),
    ]
    .iter()
    .map(container)
    .collect();
    let main = json!([{"name": "main", "image": "busybox"}]);
    specs.extend(
        [
            json!({"containers": main, "affinity": null, "tolerations": null, "nodeSelector": null}),
            json!({"containers": main, "affinity": {}, "securityContext": {}, "imagePullSecrets": []}),
            json!({"containers": main, "initContainers": null, "volumes": null, "serviceAccountName": null}),
            json!({"containers": main, "volumes": [
                {"name": "a", "emptyDir": {"sizeLimit": 1_000_000}}, {"name": "b", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "c", "emptyDir": {}}, {"name": "d", "configMap": {"name": "c", "items": null}},
            ]}),
        ]
        .iter()
        .map(pod),
    );
    for fields in [
        json!({"manualSelector": null, "selector": null, "suspend": null, "completions": null}),
        json!({"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}),
        json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1], "containerName": null}}]}}),
        json!({"completionMode": "Indexed", "completions": 3, "successPolicy": {"rules": [{"succeededIndexes": "0", "succeededCount": null}]}}),
        json!({"ttlSecondsAfterFinished": 0, "backoffLimit": 0, "activeDeadlineSeconds": null}),
    ] {
        let mut spec = container(&json!({}));
        for (name, value) in fields.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        specs.push(spec);
    }
    specs
}

/// The schemas of a Job's spec in our kinds.
fn schemas() -> Vec<(&'static str, Value)> {
    let crd = |name: &str| -> CustomResourceDefinition {
        let named = |crd: &CustomResourceDefinition| crd.metadata.name.as_deref() == Some(name);
        all_crds().into_iter().find(named).expect("generated")
    };
    let places = [
        (
            "reactivejobs.batch.cs.sap.com",
            "/properties/jobTemplate/properties/spec",
        ),
        (
            "jobflows.api.practice.com",
            "/properties/flows/items/properties/jobTemplate",
        ),
        ("jobtemplates.api.practice.com", "/properties/jobTemplate"),
        ("daemonjobs.api.practice.com", ""),
    ];
    let schema = |(name, place)| {
        let crd = json!(crd(name));
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let found = crd.pointer(&format!("{spec}{place}"));
        (name, found.cloned().expect("the schema of a Job"))
    };
    places.into_iter().map(schema).collect()
}

#[test]
fn a_job_spec_that_batch_v1_takes_is_taken_inside_each_kind() {
    for (kind, schema) in schemas() {
        for spec in taken() {
            let mut found = Vec::new();
            faults("spec", &schema, &spec, &mut found);
            assert_eq!(found, [] as [&str; 0], "{kind}: {spec}");
        }
    }
}

#[test]
fn what_batch_v1_refuses_is_refused() {
    let (_, schema) = schemas().remove(1);
    for spec in [
        pod(&json!({"containers": null})),
        pod(&json!({})),
        container(&json!({"comand": ["x"]})),
        container(&json!({"command": "x"})),
        container(&json!({"tty": "yes"})),
        container(&json!({"ports": [{"containerPort": "80"}]})),
    ] {
        let mut found = Vec::new();
        faults("spec", &schema, &spec, &mut found);
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
    }
}
