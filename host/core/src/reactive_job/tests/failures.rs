//! The report of a failed run outlives its pods.

use operon_api::reactive_job::RunFailure;
use serde_json::{Value, json};

use super::world::{START, World, time};
use crate::{
    action::Severity,
    driver::{LogSource, Question},
    jobs::failure::LOG_BYTES,
};

/// A pod whose container ended so.
fn ended(container: &str, end: &Value) -> Value {
    json!({"phase": "Failed", "containerStatuses": [
        {"name": container, "state": {"terminated": end}},
    ]})
}

/// An object with a first Job that fails with such pods.
fn failing(pods: &[(&str, Value)]) -> World {
    let mut world = World::new();
    world.settle();
    let newest = world.newest();
    for (name, status) in pods {
        world.add_pod(&newest, name, status.clone());
    }
    world.now += 30;
    world.fail(&newest);
    world
}

fn failure(world: &World) -> &RunFailure {
    world.status().last_failure.as_ref().expect("a failure")
}

/// What is kept of a log.
fn kept(log: &str) -> Option<String> {
    let mut world = failing(&[("pod-1", ended("main", &json!({"exitCode": 1})))]);
    world.log = Some(log.to_owned());
    world.settle();
    failure(&world).log.clone()
}

#[test]
fn a_failure_has_the_words_of_job_container_and_log_and_keeps_them() {
    let end = json!({"exitCode": 137, "reason": "OOMKilled", "message": "of the container"});
    let mut world = failing(&[("pod-1", ended("main", &end))]);
    world.log = Some("first\nlast\n".to_owned());
    world.settle();
    let expected = RunFailure {
        job_name: world.newest(),
        reason: "BackoffLimitExceeded".to_owned(),
        message: "Job has reached the specified backoff limit".to_owned(),
        time: Some(time(START + 30)),
        pod_name: Some("pod-1".to_owned()),
        pod_reason: None,
        pod_message: None,
        container: Some("main".to_owned()),
        exit_code: Some(137),
        container_reason: Some("OOMKilled".to_owned()),
        log: Some("first\nlast".to_owned()),
    };
    assert_eq!(*failure(&world), expected);
    let source = LogSource {
        pod: "pod-1".to_owned(),
        container: "main".to_owned(),
        previous: false,
    };
    assert_eq!(world.asked, [Question::Log(source)]);
    let last = world.events.last().expect("an Event");
    assert_eq!(
        (last.severity, last.reason),
        (Severity::Warning, "RunFailed")
    );
    assert_eq!(
        last.message,
        format!(
            "Job {:?} failed: BackoffLimitExceeded: Job has reached the specified backoff limit; container \"main\" of pod \"pod-1\" exited with 137 (OOMKilled)",
            world.newest()
        )
    );

    // It stays when the pods go, when the log is another, and when the next run succeeds.
    world.remove_pods("job-1");
    world.log = None;
    world.settle();
    world.edit_digest("next");
    world.settle();
    world.succeed(&world.newest());
    world.settle();
    assert_eq!(*failure(&world), expected);
    assert_eq!(world.asked.len(), 1, "nothing is asked twice");
}

#[test]
fn the_log_is_read_before_the_pods_of_a_job_that_is_going_to_fail_are_gone() {
    let mut world = World::new();
    world.settle();
    let newest = world.newest();
    let end = json!({"exitCode": 3, "reason": "Error"});
    world.add_pod(&newest, "pod-1", ended("main", &end));
    world.log = Some("why".to_owned());
    world.end_job(&newest, "FailureTarget", "DeadlineExceeded", "too slow");
    world.settle();
    assert_eq!(failure(&world).log.as_deref(), Some("why"));
    assert_eq!(failure(&world).reason, "DeadlineExceeded");
    world.remove_pods("job-1");
    world.log = None;
    world.now += 60;
    world.end_job(&newest, "Failed", "DeadlineExceeded", "too slow");
    world.settle();
    assert_eq!(failure(&world).log.as_deref(), Some("why"));
    assert_eq!(failure(&world).exit_code, Some(3));
    assert_eq!(failure(&world).reason, "DeadlineExceeded");
    // When Kubernetes gave it up, not when its last pod had terminated.
    assert_eq!(failure(&world).time, Some(time(START)));
}

#[test]
fn of_several_containers_the_one_that_failed_last_is_told() {
    let at = |second: i64, code: i32| json!({"exitCode": code, "finishedAt": time(START + second)});
    let restarted = json!({"phase": "Running", "containerStatuses": [{
        "name": "again", "state": {"running": {}}, "lastState": {"terminated": at(20, 7)},
    }]});
    let init = json!({"phase": "Failed",
        "initContainerStatuses": [{"name": "init", "state": {"terminated": at(30, 9)}}],
        "containerStatuses": [{"name": "main", "state": {"waiting": {}}}],
    });
    let cases = [
        (
            vec![
                ("a", ended("main", &at(10, 1))),
                ("b", ended("main", &at(15, 2))),
            ],
            ("b", "main", 2, false),
        ),
        (
            vec![
                ("a", ended("main", &at(10, 1))),
                ("b", ended("main", &at(15, 0))),
            ],
            ("a", "main", 1, false),
        ),
        (
            vec![("a", ended("main", &at(10, 1))), ("b", restarted.clone())],
            ("b", "again", 7, true),
        ),
        (vec![("a", restarted), ("b", init)], ("b", "init", 9, false)),
    ];
    for (pods, (pod, container, code, previous)) in cases {
        let mut world = failing(&pods);
        world.settle();
        let failure = failure(&world);
        assert_eq!(failure.pod_name.as_deref(), Some(pod));
        assert_eq!(failure.container.as_deref(), Some(container));
        assert_eq!(failure.exit_code, Some(code));
        let source = LogSource {
            pod: pod.to_owned(),
            container: container.to_owned(),
            previous,
        };
        assert_eq!(world.asked, [Question::Log(source)]);
    }
}

#[test]
fn without_a_log_what_the_container_left_is_told() {
    let end = json!({"exitCode": 1, "message": "disk full\n"});
    for log in [None, Some(""), Some(" \n\n")] {
        let mut world = failing(&[("pod-1", ended("main", &end))]);
        world.log = log.map(str::to_owned);
        world.settle();
        assert_eq!(failure(&world).log.as_deref(), Some("disk full"));
    }
    let mut world = failing(&[(
        "pod-1",
        ended("main", &json!({"exitCode": 1, "message": ""})),
    )]);
    world.settle();
    assert_eq!(failure(&world).log, None);
}

#[test]
fn a_failure_without_pods_has_the_words_of_the_job() {
    let mut world = failing(&[]);
    world.settle();
    assert_eq!(world.asked, []);
    let failure = failure(&world);
    assert_eq!(failure.reason, "BackoffLimitExceeded");
    assert_eq!((&failure.pod_name, &failure.log), (&None, &None));
}

#[test]
fn of_a_log_the_last_lines_are_kept_at_most_two_kibibytes() {
    assert_eq!(LOG_BYTES, 2048);
    let line = |length: usize| "x".repeat(length);
    let cases = [
        ("a\nb\n".to_owned(), "a\nb".to_owned()),
        (line(2048), line(2048)),
        // Of a line that is too long its end, of several the last whole ones.
        (line(2049), line(2048)),
        (format!("{}\nlast", line(2048)), "last".to_owned()),
        (format!("ab\n{}", line(2048)), line(2048)),
        (format!("ab\n{}", line(2047)), line(2047)),
        (
            format!("a\n{}\n{}", line(1023), line(1024)),
            format!("{}\n{}", line(1023), line(1024)),
        ),
        (format!("ä\n{}", line(2045)), format!("ä\n{}", line(2045))),
        (format!("ä\n{}", line(2046)), line(2046)),
    ];
    for (log, expected) in cases {
        assert_eq!(kept(&log), Some(expected), "{} bytes", log.len());
    }
    // Never in the middle of a character.
    for before in 0..4 {
        let log = format!("{}{}", "x".repeat(before), "🚀".repeat(1000));
        let kept = kept(&log).expect("a log");
        assert_eq!(kept, "🚀".repeat(512));
    }
    for before in 0..4 {
        let log = format!("{}{}z", "🚀".repeat(1000), "x".repeat(before));
        let kept = kept(&log).expect("a log");
        assert!(kept.len() <= LOG_BYTES && log.ends_with(&kept));
        assert!(kept.len() > LOG_BYTES - 4);
    }
}

#[test]
fn a_second_failure_is_told_in_the_place_of_the_first() {
    let mut world = failing(&[("pod-1", ended("main", &json!({"exitCode": 1})))]);
    world.settle();
    world.edit_digest("next");
    world.settle();
    let second = world.newest();
    world.add_pod(&second, "pod-2", ended("main", &json!({"exitCode": 2})));
    world.fail(&second);
    world.settle();
    assert_eq!(failure(&world).job_name, second);
    assert_eq!(failure(&world).exit_code, Some(2));
    assert_eq!(world.asked.len(), 2);
}
