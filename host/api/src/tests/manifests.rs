//! Manifests as users write them, and objects as the API server returns them.

use serde_json::{Value, json};

use crate::{ActionPlugin, OperationJob};

/// The manifest with which KusionStack introduces OperationJob, comments included.
const REPLACE: &str = "\
apiVersion: apps.kusionstack.io/v1alpha1
kind: OperationJob
metadata:
  name: opj-replace
  namespace: default
spec:
  action: Replace # Operation type is replace
  activeDeadlineSeconds: 3600 # job will be forced failed after 3600s since startTime
  TTLSecondsAfterFinished: 18000 # job will be deleted after 18000s since job failed or succeeded
  partition: 1 # replace 1 pod at this time
  targets:
  - name: foo-jttd5
  - name: foo-752sz
";

/// The status that it shows at the end.
const REPLACED: &str = "\
endTimestamp: \"2024-09-13T08:47:43Z\"
observedGeneration: 2
progress: Succeeded # all pods are replaced, job is suceeded
succeededPodCount: 2
targetDetails:
- extraInfo:
    NewPod: foo-mpl7n
  name: foo-jttd5
  progress: Succeeded
- extraInfo:
    NewPod: foo-rgxbl
  name: foo-752sz
  progress: Succeeded # foo-752sz is replaced by foo-rgxbl suceeded
totalPodCount: 2
";

fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("YAML")
}

#[test]
fn the_manifest_of_kusionstack_comes_back_as_it_was() {
    let job: OperationJob = serde_yaml_ng::from_str(REPLACE).expect("an OperationJob");
    assert_eq!(job.spec.action, "Replace");
    assert_eq!(job.spec.active_deadline_seconds, Some(3600));
    assert_eq!(job.spec.ttl_seconds_after_finished, Some(18_000));
    assert_eq!(job.spec.partition, Some(1));
    let names: Vec<_> = job
        .spec
        .targets
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    assert_eq!(names, ["foo-jttd5", "foo-752sz"]);
    assert_eq!(serde_json::to_value(&job).expect("JSON"), yaml(REPLACE));
}

#[test]
fn a_status_of_kusionstack_comes_back_as_it_was() {
    let mut whole = yaml(REPLACE);
    whole["status"] = yaml(REPLACED);
    let job: OperationJob = serde_json::from_value(whole.clone()).expect("an OperationJob");
    let status = job.status.as_ref().expect("a status");
    assert_eq!(status.target_details[1].extra_info["NewPod"], "foo-rgxbl");
    assert_eq!(serde_json::to_value(&job).expect("JSON"), whole);
}

#[test]
fn every_field_of_a_job_has_this_casing() {
    let time = "2024-09-13T08:47:43Z";
    let whole = json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1",
        "kind": "OperationJob",
        "metadata": { "name": "j" },
        "spec": {
            "action": "Replace",
            "targets": [{ "name": "a", "containers": ["main"] }],
            "partition": 0,
            "activeDeadlineSeconds": 1,
            "TTLSecondsAfterFinished": 2,
            "operationDelaySeconds": 3,
        },
        "status": {
            "observedGeneration": 1,
            "progress": "Failed",
            "startTime": time,
            "endTime": time,
            "endTimestamp": time,
            "totalPodCount": 1,
            "succeededPodCount": 1,
            "failedPodCount": 1,
            "targetDetails": [{
                "name": "a",
                "progress": "Processing",
                "podUID": "u",
                "startTime": time,
                "endTime": time,
                "extraInfo": { "Released": "true" },
                "error": { "reason": "R", "message": "m" },
            }],
            "conditions": [{
                "type": "Ready",
                "status": "False",
                "reason": "R",
                "message": "m",
                "lastTransitionTime": time,
                "observedGeneration": 1,
            }],
        },
    });
    let job: OperationJob = serde_json::from_value(whole.clone()).expect("an OperationJob");
    assert_eq!(serde_json::to_value(&job).expect("JSON"), whole);
}

#[test]
fn a_job_read_without_the_api_servers_defaults_has_them() {
    let bare = json!({ "metadata": {}, "spec": { "action": "Replace", "targets": [] } });
    let job: OperationJob = serde_json::from_value(with_kind(bare, "OperationJob")).expect("a job");
    assert_eq!(job.spec.active_deadline_seconds, Some(10_800));
    assert_eq!(job.spec.ttl_seconds_after_finished, Some(1_800));
    assert_eq!(job.spec.partition, None);
}

#[test]
fn every_field_of_a_plugin_has_this_casing() {
    let whole = json!({
        "apiVersion": "operon.dev/v1alpha1",
        "kind": "ActionPlugin",
        "metadata": { "name": "replace" },
        "spec": {
            "action": "Replace",
            "source": { "configMap": { "namespace": "n", "name": "m", "key": "plugin.wasm" } },
            "digest": "sha256:0",
            "enablePodOpsLifecycle": false,
            "serviceAccountName": "replace",
            "settings": { "any": [1, "two"] },
            "limits": { "memory": "32Mi", "callTimeout": "1s" },
        },
        "status": {
            "observedGeneration": 1,
            "digest": "sha256:0",
            "shortDigest": "0",
            "source": "configmap/m:plugin.wasm",
            "interfaceVersion": "0.2.0",
            "watches": ["v1/Pod"],
        },
    });
    let plugin: ActionPlugin = serde_json::from_value(whole.clone()).expect("an ActionPlugin");
    assert_eq!(serde_json::to_value(&plugin).expect("JSON"), whole);
}

#[test]
fn the_key_of_a_config_map_is_plugin_wasm_unless_said() {
    let bare = json!({
        "metadata": {},
        "spec": { "action": "A", "serviceAccountName": "s", "source": { "configMap": { "name": "m" } } },
    });
    let plugin: ActionPlugin =
        serde_json::from_value(with_kind(bare, "ActionPlugin")).expect("a plugin");
    let source = plugin.spec.source.config_map.expect("a ConfigMap");
    assert_eq!(
        (source.key.as_str(), source.namespace),
        ("plugin.wasm", None)
    );
}

fn with_kind(mut object: Value, kind: &str) -> Value {
    let api_version = if kind == "OperationJob" {
        "apps.kusionstack.io/v1alpha1"
    } else {
        "operon.dev/v1alpha1"
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object
}
