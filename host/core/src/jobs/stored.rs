//! A Job template, or a pod template, as the API server would store it: without nulls and meaningless empty values,
//! with the defaults written out. Two templates with the same stored form give the same Job, or the same pod. Only
//! hashes and comparisons need it: no object is ever written from it.
//!
//! The defaults are those of Kubernetes 1.34 (`pkg/apis/batch/v1/defaults.go`, `core/v1/defaults.go`).

use serde_json::{Map, Value, json};

use crate::quantity;

/// Objects that mean the same as their absence when they are empty. Others do not: an empty `emptyDir` is
/// a volume, an empty `labelSelector` selects everything.
const NOTHING_IF_EMPTY: [&str; 18] = [
    "metadata",
    "labels",
    "annotations",
    "securityContext",
    "seLinuxOptions",
    "windowsOptions",
    "capabilities",
    "affinity",
    "nodeAffinity",
    "podAffinity",
    "podAntiAffinity",
    "nodeSelector",
    "dnsConfig",
    "lifecycle",
    "resources",
    "limits",
    "requests",
    "overhead",
];

/// The stored form of `spec.jobTemplate`.
pub(crate) fn stored(template: &Value) -> Value {
    let mut template = template.clone();
    // The name and the namespace are not the template's to choose.
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| ["labels", "annotations", "finalizers"].contains(&key.as_str()));
    }
    if let Some(spec) = template.get_mut("spec") {
        *spec = stored_spec(spec);
    }
    tidy(&mut template);
    template
}

/// The stored form of a Job's spec.
pub(crate) fn stored_spec(spec: &Value) -> Value {
    let mut spec = spec.clone();
    tidy(&mut spec);
    if spec.is_object() {
        job(&mut spec);
    }
    // Defaults that are empty values.
    tidy(&mut spec);
    spec
}

/// The stored form of a pod template.
pub(crate) fn stored_pod_template(template: &Value) -> Value {
    let mut template = template.clone();
    tidy(&mut template);
    pod_template(&mut template);
    tidy(&mut template);
    template
}

/// The stored form of a PersistentVolumeClaim as a template.
pub(crate) fn stored_claim(claim: &Value) -> Value {
    let mut claim = claim.clone();
    for key in ["apiVersion", "kind", "status"] {
        remove(&mut claim, key);
    }
    tidy(&mut claim);
    inside(&mut claim, "metadata", |metadata| {
        remove(metadata, "creationTimestamp");
    });
    inside(&mut claim, "spec", |spec| {
        fill(spec, json!({"volumeMode": "Filesystem"}));
        inside(spec, "resources", |resources| {
            inside(resources, "limits", quantities);
            inside(resources, "requests", quantities);
        });
    });
    claim
}

/// Takes out what means nothing.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(tidy);
            fields.retain(|key, value| match value {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(inner) => {
                    !inner.is_empty() || !NOTHING_IF_EMPTY.contains(&key.as_str())
                }
                Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn job(spec: &mut Value) {
    let has = |field: &str| spec.get(field).is_some();
    let replacement = if has("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    let failures = if has("backoffLimitPerIndex") {
        i64::from(i32::MAX)
    } else {
        6
    };
    if !has("completions") && !has("parallelism") {
        fill(spec, json!({"completions": 1}));
    }
    fill(
        spec,
        json!({
            "parallelism": 1,
            "backoffLimit": failures,
            "completionMode": "NonIndexed",
            "manualSelector": false,
            "podReplacementPolicy": replacement,
            "suspend": false,
        }),
    );
    inside(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |condition| {
                fill(condition, json!({"status": "True"}));
            });
        });
    });
    inside(spec, "template", pod_template);
}

fn pod_template(template: &mut Value) {
    inside(template, "metadata", |metadata| {
        remove(metadata, "creationTimestamp");
    });
    inside(template, "spec", pod);
}

fn pod(pod: &mut Value) {
    // An old name of the same field.
    if let Some(account) = remove(pod, "serviceAccount") {
        fill(pod, json!({"serviceAccountName": account}));
    }
    fill(
        pod,
        json!({
            "dnsPolicy": "ClusterFirst",
            "enableServiceLinks": true,
            "hostIPC": false,
            "hostNetwork": false,
            "hostPID": false,
            "restartPolicy": "Always",
            "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30,
        }),
    );
    for list in ["initContainers", "containers"] {
        each(pod, list, container);
    }
    each(pod, "volumes", volume);
}

fn container(container: &mut Value) {
    let pull = pull_policy(container.get("image"));
    fill(
        container,
        json!({
            "imagePullPolicy": pull,
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        }),
    );
    each(container, "ports", |port| {
        fill(port, json!({"protocol": "TCP"}));
    });
    each(container, "env", |variable| {
        inside(variable, "valueFrom", field_reference);
    });
    inside(container, "resources", |resources| {
        inside(resources, "limits", quantities);
        inside(resources, "requests", quantities);
    });
    drop_false(container, &["stdin", "stdinOnce", "tty"]);
    each(container, "volumeMounts", |mount| {
        drop_false(mount, &["readOnly"]);
    });
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        inside(container, kind, probe);
    }
    inside(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            inside(lifecycle, hook, http_get);
        }
    });
    inside(container, "securityContext", |context| {
        fill(context, json!({"procMount": "Default"}));
    });
}

fn quantities(amounts: &mut Value) {
    for (_, amount) in amounts.as_object_mut().into_iter().flatten() {
        if let Some(text) = quantity::canonical_of(amount) {
            *amount = json!(text);
        }
    }
}

/// Whether an image is pulled each time, by its tag.
fn pull_policy(image: Option<&Value>) -> &'static str {
    let image = image.and_then(Value::as_str).unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let is_latest = match name.rsplit_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    };
    if is_latest && !image.contains('@') {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn probe(probe: &mut Value) {
    fill(
        probe,
        json!({
            "failureThreshold": 3,
            "periodSeconds": 10,
            "successThreshold": 1,
            "timeoutSeconds": 1,
        }),
    );
    http_get(probe);
    inside(probe, "grpc", |grpc| fill(grpc, json!({"service": ""})));
}

fn http_get(of: &mut Value) {
    inside(of, "httpGet", |get| {
        fill(get, json!({"path": "/", "scheme": "HTTP"}));
    });
}

fn field_reference(of: &mut Value) {
    inside(of, "fieldRef", |field| {
        fill(field, json!({"apiVersion": "v1"}));
    });
}

/// The default mode of files in volumes: 0644.
const MODE: u32 = 0o644;

fn volume(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|volume| volume.keys().any(|key| key != "name"));
    if !has_source {
        fill(volume, json!({"emptyDir": {}}));
    }
    for kind in ["configMap", "secret", "downwardAPI", "projected"] {
        inside(volume, kind, |source| {
            fill(source, json!({"defaultMode": MODE}));
        });
    }
    let items = |source: &mut Value| each(source, "items", field_reference);
    inside(volume, "downwardAPI", items);
    inside(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            inside(source, "downwardAPI", items);
            inside(source, "serviceAccountToken", |token| {
                fill(token, json!({"expirationSeconds": 3600}));
            });
        });
    });
    inside(volume, "hostPath", |path| fill(path, json!({"type": ""})));
    inside(volume, "image", |image| {
        let pull = pull_policy(image.get("reference"));
        fill(image, json!({"pullPolicy": pull}));
    });
    inside(volume, "ephemeral", |ephemeral| {
        inside(ephemeral, "volumeClaimTemplate", |claim| {
            inside(claim, "spec", |spec| {
                fill(spec, json!({"volumeMode": "Filesystem"}));
            });
        });
    });
    for (kind, defaults) in drivers() {
        inside(volume, kind, |source| fill(source, defaults.clone()));
    }
}

/// The defaults of volumes with in-tree drivers.
fn drivers() -> [(&'static str, Value); 4] {
    [
        (
            "azureDisk",
            json!({"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": false}),
        ),
        ("iscsi", json!({"iscsiInterface": "default"})),
        (
            "rbd",
            json!({"keyring": "/etc/ceph/keyring", "pool": "rbd", "user": "admin"}),
        ),
        (
            "scaleIO",
            json!({"fsType": "xfs", "storageMode": "ThinProvisioned"}),
        ),
    ]
}

/// Sets the fields that an object does not have.
fn fill(object: &mut Value, defaults: Value) {
    if let (Some(object), Value::Object(defaults)) = (object.as_object_mut(), defaults) {
        for (key, value) in defaults {
            object.entry(key).or_insert(value);
        }
    }
}

/// Changes the object under a key, if there is one.
fn inside(object: &mut Value, key: &str, change: impl FnOnce(&mut Value)) {
    if let Some(inner) = object.get_mut(key).filter(|inner| inner.is_object()) {
        change(inner);
    }
}

/// Changes every object of the list under a key.
fn each(object: &mut Value, key: &str, change: impl FnMut(&mut Value)) {
    let items = object.get_mut(key).and_then(Value::as_array_mut);
    let items = items.into_iter().flatten();
    items.filter(|item| item.is_object()).for_each(change);
}

/// Takes out flags that are not stored when they are false.
fn drop_false(object: &mut Value, flags: &[&str]) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|key, value| *value != Value::Bool(false) || !flags.contains(&key.as_str()));
    }
}

fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object
        .as_object_mut()
        .and_then(|fields: &mut Map<_, _>| fields.remove(key))
}
