//! What blocks an object in practice, as clusters recorded it: each is named, with the command that looks at it.

use serde_json::{Value, json};

use super::{job, now, object, pod};
use crate::{Kind, Object, Related, why};

/// An OperationJob with a target that waits or failed for this reason.
fn target(progress: &str, reason: &str, message: &str) -> Object {
    let spec = json!({"action": "Restart", "targets": [{"name": "web-5c9-p4"}]});
    let detail = json!({
        "name": "web-5c9-p4", "progress": progress, "startTime": "2026-01-01T00:09:19Z",
        "endTime": (progress == "Failed").then_some("2026-01-01T00:09:49Z"),
        "error": {"reason": reason, "message": message}, "extraInfo": {"NewPod": "web-5c9-q8"},
    });
    let status =
        json!({"observedGeneration": 2, "progress": "Processing", "targetDetails": [detail]});
    object(Kind::OperationJob, &spec, &status)
}

/// A JobFlow with one step that runs.
fn flow(reason: Option<&str>, message: &str) -> Object {
    let step = json!({
        "name": "build", "phase": "Running", "jobName": "web-build", "startTime": "2026-01-01T00:09:00Z",
        "reason": reason, "message": reason.map(|_| message),
    });
    let status = json!({"observedGeneration": 2, "state": "Running", "steps": [step]});
    object(
        Kind::JobFlow,
        &json!({"flows": [{"name": "build"}]}),
        &status,
    )
}

/// A DaemonJob with a node that failed.
fn failed_node(reason: &str, message: &str) -> Object {
    let node = json!({"name": "n1", "reason": reason, "message": message, "jobName": "web-n1"});
    let status =
        json!({"observedGeneration": 2, "state": "Running", "failed": 1, "failedNodes": [node]});
    object(Kind::DaemonJob, &json!({"template": {}}), &status)
}

/// The pod that replaces the target's.
fn new_pod(status: &Value) -> Related {
    Related {
        pods: vec![pod("web-5c9-q8", &json!({}), status)],
        ..Related::default()
    }
}

/// The Job of the step, which nothing has admitted yet.
fn suspended(labels: &Value) -> Related {
    let mut labels = labels.clone();
    labels["operon.dev/step"] = json!("build");
    let mut held = job("web-build", &labels, &json!({}), &json!({}));
    let spec = serde_json::from_value(json!({"suspend": true, "template": {}}));
    held.spec = spec.expect("a spec");
    Related {
        jobs: vec![held],
        ..Related::default()
    }
}

/// The Job of the node.
fn ended_job() -> Related {
    let ended = json!({"type": "Failed", "status": "True", "reason": "DeadlineExceeded",
        "lastTransitionTime": "2026-01-01T00:09:30Z"});
    let annotations = json!({"operon.dev/node-name": "n1"});
    let status = json!({"conditions": [ended]});
    Related {
        jobs: vec![job("web-n1", &json!({}), &annotations, &status)],
        ..Related::default()
    }
}

fn terminating() -> Related {
    let mut related = new_pod(&json!({"phase": "Running"}));
    let metadata = &mut related.pods[0].metadata;
    metadata.finalizers = Some(vec!["example.com/backup".to_owned()]);
    metadata.deletion_timestamp = metadata.creation_timestamp.clone();
    related
}

/// What it is, the object, what was read beside it, what the answer says, and the next command.
type Cause = (&'static str, Object, Related, &'static str, &'static str);

/// What targets of an OperationJob wait for.
fn of_targets() -> Vec<Cause> {
    let unscheduled = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: \
            3 No preemption victims found for incoming pod.",
    }]});
    let unpulled = json!({"phase": "Pending", "containerStatuses": [{
        "name": "main", "image": "registry.example/web:2", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff",
            "message": "Back-off pulling image \"registry.example/web:2\": ErrImagePull: failed to resolve reference"}},
    }]});
    let replacing = || target("Processing", "NewPodNotReady", "web-5c9-q8 is Pending");
    vec![
        (
            "a PodDisruptionBudget",
            target(
                "Processing",
                "DisruptionBudget",
                "Cannot evict pod as it would violate the pod's disruption budget. The disruption budget web needs 2 \
                 healthy pods and has 2 currently",
            ),
            Related::default(),
            "The disruption budget web",
            "kubectl get poddisruptionbudgets -n default",
        ),
        (
            "the scheduler",
            replacing(),
            new_pod(&unscheduled),
            "Pod web-5c9-q8 has been Pending for 35s: 0/3 nodes are available: 3 Insufficient cpu.",
            "kubectl describe pod web-5c9-q8 -n default",
        ),
        (
            "an image",
            replacing(),
            new_pod(&unpulled),
            "container main ImagePullBackOff: Back-off pulling image \"registry.example/web:2\"",
            "kubectl describe pod web-5c9-q8 -n default",
        ),
        (
            "a finalizer",
            replacing(),
            terminating(),
            "Pod web-5c9-q8 has been Terminating for 35s: finalizers: example.com/backup",
            "kubectl describe pod web-5c9-q8 -n default",
        ),
        (
            "a node of a pod",
            target(
                "Processing",
                "NodeLost",
                "node \"n1\" is not Ready (Kubelet stopped posting node status)",
            ),
            Related::default(),
            "Kubelet stopped posting node status",
            "kubectl get nodes",
        ),
        (
            "a right that an action lacks",
            target(
                "Failed",
                "Forbidden",
                "pods \"web-5c9-p4\" is forbidden: User \"system:serviceaccount:operon-system:action-restart\" cannot \
                 patch resource \"pods\" in API group \"\" in the namespace \"default\"",
            ),
            Related::default(),
            "cannot patch resource \"pods\"",
            "kubectl get rolebindings,clusterrolebindings -A -o wide",
        ),
    ]
}

/// What Jobs wait for, or failed for.
fn of_jobs() -> Vec<Cause> {
    vec![
        (
            "a quota",
            flow(
                Some("FailedCreate"),
                "Error creating: pods \"web-build-x\" is forbidden: exceeded quota: small, requested: pods=1, used: \
                 pods=1, limited: pods=1",
            ),
            Related::default(),
            "exceeded quota: small",
            "kubectl describe resourcequotas -n default",
        ),
        (
            "a node of a DaemonJob",
            failed_node(
                "DeadlineExceeded",
                "Job was active longer than specified deadline; node \"n1\" is not Ready",
            ),
            ended_job(),
            "node \"n1\" is not Ready",
            "kubectl get nodes",
        ),
        (
            "Kueue",
            flow(None, ""),
            suspended(&json!({"kueue.x-k8s.io/queue-name": "team"})),
            "Job web-build has been Suspended for 1m: waits for Kueue's queue team",
            "kubectl get workloads.kueue.x-k8s.io -n default",
        ),
        (
            "a right that a controller of Jobs lacks",
            flow(
                Some("FailedCreate"),
                "Error creating: pods \"web-build-x\" is forbidden: User \"system:serviceaccount:kube-system:\
                 job-controller\" cannot create resource \"pods\" in API group \"\" in the namespace \"default\"",
            ),
            Related::default(),
            "cannot create resource \"pods\"",
            "kubectl get rolebindings,clusterrolebindings -A -o wide",
        ),
    ]
}

#[test]
fn each_cause_is_named_with_the_command_that_looks_at_it() {
    for (cause, object, related, said, next) in of_targets().into_iter().chain(of_jobs()) {
        let text = why(&object, &related, None, now()).expect("no part is named");
        assert!(text.contains(said), "{cause}: {text}");
        assert!(
            text.ends_with(&format!("\nNext: {next}")),
            "{cause}: {text}"
        );
        assert!(text.split_whitespace().count() <= 80, "{cause}: {text}");
        assert!(
            text.contains(" for ") || text.contains(" ago"),
            "since when: {text}"
        );
    }
}

#[test]
fn no_answer_has_more_than_eighty_words_whatever_the_reason() {
    let message = "word ".repeat(200);
    let unpulled = json!({"phase": "Pending", "containerStatuses": [{
        "name": "main", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": message}},
    }]});
    let pending = pod(
        "web-5c9-q8",
        &json!({"batch.kubernetes.io/job-name": "web-build"}),
        &unpulled,
    );
    let related = Related {
        jobs: suspended(&json!({})).jobs,
        pods: vec![pending],
        unread: vec![message.clone()],
    };
    for reason in crate::why::reasons() {
        let stalled = json!({"type": "Stalled", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:09:00Z"});
        let status = json!({"observedGeneration": 2, "conditions": [stalled]});
        let spec = json!({"jobTemplate": {}, "flows": [], "template": {}, "selector": {}, "action": "x", "targets": []});
        let all = Kind::ALL.map(|kind| object(kind, &spec, &status));
        let parts = [
            target("Processing", reason, &message),
            target("Failed", reason, &message),
            flow(Some(reason), &message),
            failed_node(reason, &message),
        ];
        for object in all.into_iter().chain(parts) {
            let text = why(&object, &related, None, now()).expect("no part is named");
            let words = text.split_whitespace().count();
            assert!(words <= 80, "{reason}: {words} words: {text}");
            assert!(text.contains("\nNext: kubectl "), "{reason}: {text}");
        }
    }
}
