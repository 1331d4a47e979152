use serde_json::json;

use super::*;

/// What the containers of a pod leave, in the order of its spec; an empty text is nothing.
fn pod(index: Option<i32>, second: i64, said: &[(&str, &str)]) -> Arc<Pod> {
    let at = format!("2026-01-01T00:00:{second:02}Z");
    let spec: Vec<_> = said.iter().map(|(name, _)| json!({"name": name})).collect();
    let statuses: Vec<_> = said
        .iter()
        .map(|(name, message)| {
            let end = json!({"exitCode": 0, "message": message, "finishedAt": at});
            json!({"name": name, "state": {"terminated": end}})
        })
        .collect();
    let key = "batch.kubernetes.io/job-completion-index";
    let annotations = index.map_or(json!({}), |index| json!({key: index.to_string()}));
    let pod = json!({
        "metadata": {"name": format!("pod-{second}"), "annotations": annotations},
        "spec": {"containers": spec, "initContainers": [{"name": "init"}]},
        "status": {"phase": "Succeeded", "containerStatuses": statuses},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn job(spec: &Value, succeeded: Option<i32>) -> Job {
    let complete = json!([{"type": "Complete", "status": "True"}]);
    let status = succeeded.map(|pods| json!({"succeeded": pods, "conditions": complete}));
    let mut job = json!({"metadata": {"name": "job"}, "spec": spec, "status": status});
    job["spec"]["template"] = json!({});
    serde_json::from_value(job).expect("a Job")
}

fn indexed(succeeded: Option<i32>) -> Job {
    job(
        &json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3}),
        succeeded,
    )
}

/// The value of the output `x`, or the error, or nothing.
fn taken(job: &Job, from: Option<&OutputsFrom>, pods: &[Arc<Pod>]) -> String {
    let declared = ["x".to_owned()];
    let asked = Asked {
        job,
        declared: &declared,
        from,
    };
    match take(asked, pods, false) {
        Some(Ok(outputs)) => outputs["x"].clone(),
        Some(Err(failure)) => failure.message,
        None => "nothing yet".to_owned(),
    }
}

#[test]
fn of_an_indexed_job_index_0_speaks_whoever_ends_first() {
    let pod = |index: i32, second| {
        let said = format!("{{\"x\": {}}}", 100 + index);
        pod(Some(index), second, &[("main", &said)])
    };
    let mut pods = vec![pod(2, 1), pod(1, 2)];
    assert_eq!(taken(&indexed(None), None, &pods), "nothing yet");
    assert_eq!(
        taken(&indexed(Some(3)), None, &pods),
        "nothing yet",
        "one pod is not shown yet"
    );
    let (job, declared) = (indexed(Some(3)), ["x".to_owned()]);
    let asked = Asked {
        job: &job,
        declared: &declared,
        from: None,
    };
    let late = take(asked, &pods, true).expect("no other is waited for");
    assert_eq!(
        late.expect("outputs")["x"],
        "101",
        "the lowest index that is there"
    );
    assert_eq!(take(asked, &[], true), None);
    pods.push(pod(0, 9));
    for succeeded in [None, Some(3)] {
        assert_eq!(taken(&indexed(succeeded), None, &pods), "100");
    }
    let from = |index| OutputsFrom {
        index: Some(index),
        container: None,
    };
    assert_eq!(taken(&indexed(None), Some(&from(2)), &pods), "102");
    assert_eq!(
        taken(&indexed(Some(3)), Some(&from(7)), &pods),
        "no pod of index 7 succeeded (outputsFrom.index)"
    );
}

#[test]
fn a_pod_that_left_nothing_is_no_failure_if_another_did() {
    let silent = |index, second| pod(Some(index), second, &[("main", "")]);
    let leader = pod(Some(0), 8, &[("main", r#"{"x": 0.93}"#)]);
    let workers = [silent(1, 1), silent(2, 2)];
    assert_eq!(taken(&indexed(None), None, &workers), "nothing yet");
    let [one, two] = workers.clone();
    assert_eq!(
        taken(&indexed(Some(3)), None, &[one, two, leader.clone()]),
        "0.93"
    );
    // With a success policy the others do not end well, or at all.
    let [one, _] = workers;
    assert_eq!(taken(&indexed(Some(2)), None, &[one, leader]), "0.93");
    let last = pod(Some(2), 3, &[("main", r#"{"x": "last"}"#)]);
    let all = [silent(0, 1), silent(1, 2), last];
    assert_eq!(taken(&indexed(Some(3)), None, &all), "last");
    let none = [silent(0, 1), silent(1, 2), silent(2, 3)];
    assert!(
        taken(&indexed(Some(3)), None, &none)
            .starts_with("pod \"pod-1\" wrote no termination message")
    );
}

#[test]
fn of_several_containers_the_one_speaks_that_wrote_what_is_declared() {
    let one = job(&json!({}), Some(1));
    for (said, expected) in [
        (
            vec![("proxy", "drained, bye"), ("main", r#"{"x": "abc"}"#)],
            "abc",
        ),
        (
            vec![("proxy", r#"{"level": "info"}"#), ("main", r#"{"x": 1}"#)],
            "1",
        ),
        (vec![("main", r#"{"x": 1}"#), ("late", r#"{"x": 2}"#)], "1"),
        (
            vec![("proxy", "drained, bye"), ("main", r#"{"y": 1}"#)],
            "the termination message of container \"main\" of pod \"pod-1\" has no key \"x\"; it has \"y\"",
        ),
    ] {
        assert_eq!(taken(&one, None, &[pod(None, 1, &said)]), expected);
    }
    let from = OutputsFrom {
        container: Some("late".to_owned()),
        index: None,
    };
    let said = [("main", r#"{"x": 1}"#), ("late", r#"{"x": 2}"#)];
    assert_eq!(taken(&one, Some(&from), &[pod(None, 1, &said)]), "2");
    let silent = [("main", r#"{"x": 1}"#), ("late", "")];
    let why = taken(&one, Some(&from), &[pod(None, 1, &silent)]);
    assert!(
        why.starts_with("container \"late\" of pod \"pod-1\" wrote no termination message"),
        "{why}"
    );
}

#[test]
fn outputs_may_come_from_several_containers() {
    let declared = ["warnings".to_owned(), "version".to_owned()];
    let one = job(&json!({}), Some(1));
    let asked = Asked {
        job: &one,
        declared: &declared,
        from: None,
    };
    let said = [
        ("lint", r#"{"warnings": 3}"#),
        ("build", r#"{"version": "1.2"}"#),
    ];
    let outputs = take(asked, &[pod(None, 1, &said)], false)
        .expect("it ended")
        .expect("outputs");
    assert_eq!(json!(outputs), json!({"warnings": "3", "version": "1.2"}));
}

#[test]
fn a_message_that_kubernetes_cut_is_named_as_such() {
    let cut = format!("{{\"x\": \"{}", "a".repeat(2450));
    let said = [
        ("main", cut.as_str()),
        ("scan", ""),
        ("sign", ""),
        ("push", ""),
    ];
    let why = taken(&job(&json!({}), Some(1)), None, &[pod(None, 1, &said)]);
    assert!(
        why.ends_with(
            "; Kubernetes truncated it to 2457 bytes: the 5 containers of a pod share 12288 bytes evenly"
        ),
        "{why}"
    );
}
