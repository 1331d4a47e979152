//! Properties of the pictures that hold for every flow, and the generator of the flows.

mod graphs;
mod image;
mod layout;
mod lines;

use k8s_openapi::jiff::Timestamp;
use operon_api::{JobFlow, job_flow::Step};
use serde_json::{Value, json};

use super::picture::Picture;

/// The clock of all tests.
fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

/// A flow of steps with their dependencies.
fn flow(steps: &[(&str, &[&str])]) -> JobFlow {
    let steps = steps.iter().map(|(name, dependencies)| Step {
        name: (*name).to_owned(),
        dependencies: dependencies.iter().map(|d| (*d).to_owned()).collect(),
        ..Step::default()
    });
    let mut flow = JobFlow::default();
    flow.metadata.name = Some("example".to_owned());
    flow.spec.flows = steps.collect();
    flow
}

/// The flow with a status.
fn with_status(mut flow: JobFlow, status: Value) -> JobFlow {
    flow.status = serde_json::from_value(status).expect("a status");
    flow
}

fn picture(flow: &JobFlow) -> Picture {
    Picture::new(flow, now()).expect("a flow that makes sense")
}

/// Numbers that look random, and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let number = usize::try_from(self.0 >> 33).unwrap_or(0);
        number % most.max(1)
    }
}

/// A flow of at most so many steps, in no order, some with a `when`, some with a step that runs last.
fn any_flow(seed: u64, most: usize) -> JobFlow {
    let mut numbers = Numbers(seed);
    let count = 1 + numbers.below(most);
    let mut steps = Vec::new();
    for step in 0..count {
        let (near, wanted) = (1 + numbers.below(count), numbers.below(4));
        let mut dependencies = Vec::new();
        for _ in 0..wanted.min(step) {
            let name = format!("step-{}", step - 1 - numbers.below(near.min(step)));
            if !dependencies.contains(&name) {
                dependencies.push(name);
            }
        }
        let when = (numbers.below(5) == 0).then(|| "true".to_owned());
        steps.push(Step {
            name: format!("step-{step}"),
            dependencies,
            when,
            ..Step::default()
        });
    }
    let mut flow = flow(&[]);
    if numbers.below(2) == 0 {
        steps.push(Step {
            name: "last".to_owned(),
            ..Step::default()
        });
        flow.spec.on_exit = Some("last".to_owned());
    }
    for place in (1..steps.len()).rev() {
        steps.swap(place, numbers.below(place + 1));
    }
    flow.spec.flows = steps;
    flow
}

/// Many flows of different shapes.
fn any_flows() -> impl Iterator<Item = JobFlow> {
    (0..120).map(|seed| any_flow(seed, if seed < 60 { 12 } else { 60 }))
}

/// A flow that failed, as the controller reports it.
fn failed() -> JobFlow {
    let flow = flow(&[
        ("build", &[]),
        ("test", &["build"]),
        ("deploy", &["test"]),
        ("report", &["test"]),
        ("clean-up", &[]),
    ]);
    let mut flow = with_status(
        flow,
        json!({
            "state": "Failed", "progress": "1/5",
            "startTime": "2026-03-01T11:00:00Z", "completionTime": "2026-03-01T11:04:05Z",
            "steps": [
                {"name": "build", "phase": "Succeeded", "attempts": 1,
                 "startTime": "2026-03-01T11:00:00Z", "completionTime": "2026-03-01T11:01:00Z"},
                {"name": "test", "phase": "Failed", "attempts": 2,
                 "reason": "BackoffLimitExceeded", "message": "Job \"example-test-2\" failed: \u{1b}[31mexit 1",
                 "startTime": "2026-03-01T11:01:00Z", "completionTime": "2026-03-01T11:04:05Z"},
                {"name": "deploy", "phase": "Skipped", "reason": "DependencyFailed", "message": "step \"test\" failed"},
                {"name": "report", "phase": "Running", "startTime": "2026-03-01T11:58:30Z"},
                {"name": "clean-up", "phase": "Waiting"},
                {"name": "lint", "phase": "Cancelled", "orphaned": true},
            ],
            "conditions": [{"type": "Ready", "status": "False", "reason": "StepFailed",
                "message": "step \"test\" failed", "lastTransitionTime": "2026-03-01T11:04:05Z"}],
        }),
    );
    flow.metadata.namespace = Some("ci".to_owned());
    flow.spec.on_exit = Some("clean-up".to_owned());
    flow.spec.flows[3].when = Some("steps[\"test\"].phase\n  == \"Failed\"".to_owned());
    flow
}
