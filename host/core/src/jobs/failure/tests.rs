use serde_json::{Value, json};

use super::*;

fn job(status: &Value) -> Job {
    let conditions = json!([{
        "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too many",
    }]);
    let mut job = json!({"metadata": {"name": "job"}, "spec": {"template": {}}, "status": status});
    job["status"]["conditions"] = conditions;
    serde_json::from_value(job).expect("a Job")
}

fn pod(name: &str, spec: &Value, status: &Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": name}, "spec": spec, "status": status});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn plain() -> Value {
    json!({"containers": [{"name": "main"}]})
}

fn ended(name: &str, second: i64, code: i32) -> Value {
    let at = format!("2026-01-01T00:00:{second:02}Z");
    json!({"name": name, "state": {"terminated": {"exitCode": code, "reason": "Error", "finishedAt": at}}})
}

fn told(pods: &[Arc<Pod>]) -> String {
    cause(&failure(&job(&json!({})), pods, None)).unwrap_or_default()
}

#[test]
fn a_native_sidecar_is_not_blamed() {
    let with_init = |policy: &str| {
        let spec = json!({
            "initContainers": [{"name": "shipper", "restartPolicy": policy}],
            "containers": [{"name": "migrate"}],
        });
        let status = json!({
            "phase": "Failed",
            "initContainerStatuses": [ended("shipper", 9, 137)],
            "containerStatuses": [ended("migrate", 4, 3)],
        });
        [pod("p", &spec, &status)]
    };
    let sidecar = with_init("Always");
    assert_eq!(
        told(&sidecar),
        "container \"migrate\" of pod \"p\" exited with 3"
    );
    let source = log_source(&sidecar).expect("a log");
    assert_eq!(source.container, "migrate");
    // An init container that is none counts.
    assert_eq!(
        told(&with_init("Never")),
        "container \"shipper\" of pod \"p\" exited with 137"
    );
    let spec = json!({
        "initContainers": [{"name": "shipper", "restartPolicy": "Always"}], "containers": [{"name": "main"}],
    });
    let only = json!({"initContainerStatuses": [ended("shipper", 9, 137)]});
    assert_eq!(told(&[pod("p", &spec, &only)]), "");
}

#[test]
fn the_pods_own_reason_leads() {
    let why = "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Mi\".";
    let evicted =
        json!({"phase": "Failed", "reason": "Evicted", "message": why, "containerStatuses": []});
    let late = json!({
        "phase": "Failed", "reason": "DeadlineExceeded", "message": "Pod was active too long",
        "containerStatuses": [ended("main", 9, 137)],
    });
    let disrupted = json!({
        "phase": "Failed", "containerStatuses": [ended("main", 9, 143)],
        "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted",
            "lastTransitionTime": "2026-01-01T00:00:05Z",
        }],
    });
    for (status, expected) in [
        (&evicted, format!("pod \"p\": Evicted: {why}")),
        (
            &late,
            "pod \"p\": DeadlineExceeded: Pod was active too long".to_owned(),
        ),
        (
            &disrupted,
            "pod \"p\": PreemptionByScheduler: preempted".to_owned(),
        ),
    ] {
        assert_eq!(told(&[pod("p", &plain(), status)]), expected);
    }
    let failure = failure(&job(&json!({})), &[pod("p", &plain(), &late)], None);
    assert_eq!(failure.pod_reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(
        (failure.container.as_deref(), failure.exit_code),
        (Some("main"), Some(137))
    );
}

#[test]
fn the_pod_that_failed_last_speaks_whatever_made_it_fail() {
    let failed =
        |second| json!({"phase": "Failed", "containerStatuses": [ended("main", second, 1)]});
    let evicted = |second: i64| {
        json!({"phase": "Failed", "reason": "Evicted", "conditions": [{
            "type": "Ready", "status": "False",
            "lastTransitionTime": format!("2026-01-01T00:00:{second:02}Z"),
        }]})
    };
    for (first, second, expected) in [
        (failed(5), evicted(9), "pod \"b\": Evicted"),
        (
            failed(9),
            evicted(5),
            "container \"main\" of pod \"a\" exited with 1",
        ),
    ] {
        let pods = [pod("a", &plain(), &first), pod("b", &plain(), &second)];
        assert_eq!(told(&pods), expected);
    }
}

#[test]
fn what_a_kubelet_says_instead_of_a_log_is_no_log() {
    let unknown = json!({"phase": "Failed", "containerStatuses": [{
        "name": "main", "state": {"terminated": {
            "exitCode": 137, "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
        }},
    }]});
    let lost = [pod("p", &plain(), &unknown)];
    assert_eq!(log_source(&lost), None);
    assert_eq!(failure(&job(&json!({})), &lost, None).log, None);
    let status = json!({"phase": "Failed", "containerStatuses": [ended("main", 1, 1)]});
    let pods = [pod("p", &plain(), &status)];
    for (log, kept) in [
        (
            "unable to retrieve container logs for containerd://1234",
            None,
        ),
        ("why", Some("why")),
    ] {
        let failure = failure(&job(&json!({})), &pods, Some(log));
        assert_eq!(failure.log.as_deref(), kept);
    }
}

#[test]
fn failed_indexes_are_named() {
    let failure = failure(&job(&json!({"failedIndexes": "1,3-5"})), &[], None);
    assert_eq!(failure.message, "too many; failed indexes: 1,3-5");
}
