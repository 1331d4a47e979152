//! Whatever happens in whatever order: a flow does nothing twice, and ends.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    job_flow::{FailurePolicy, FlowState, Phase},
    keys,
};
use serde_json::{Value, json};

use super::world::{World, running, step_with};
use crate::{
    action::Failure,
    driver::memory::{
        Chance,
        simulation::{Simulated, assert_says_end, simulate},
    },
    jobs,
};

#[test]
fn job_flow() {
    simulate::<World>(150);
}

impl Simulated for World {
    const KIND: &'static str = "jobflow";

    fn any(chance: &mut Chance) -> Self {
        Self::with(spec(chance))
    }

    fn happen(&mut self, chance: &mut Chance) {
        let live = |job: &&Job| jobs::finish(job).is_none();
        let live: Vec<_> = self.jobs.values().filter(live).map(Job::name_any).collect();
        let all: Vec<_> = self.jobs.keys().cloned().collect();
        match chance.of(17) {
            0..=4 if !live.is_empty() => {
                let name = chance.pick(&live);
                self.say(
                    &name,
                    chance.pick(&[r#"{"out": 1}"#, r#"{"out": 1}"#, "{}"]),
                );
                self.succeed(&name);
            }
            5 if !live.is_empty() => self.fail(&chance.pick(&live)),
            6 if !all.is_empty() => {
                let name = chance.pick(&all);
                self.delete_job(&name, chance.once_in(2));
            }
            7 if !live.is_empty() => {
                let name = chance.pick(&live);
                let pod = format!("pod-{}", self.writes);
                self.add_pod(&name, &pod, running());
            }
            8 => {
                self.pods.clear();
                self.collect_garbage();
            }
            9 => {
                let value = chance.next().to_string();
                self.retry(&value);
            }
            10 => {
                let suspend = chance.once_in(3);
                self.edit(|spec| spec["suspend"] = json!(suspend));
            }
            11 if chance.once_in(3) => {
                let refusal = Failure::new("Forbidden", "quota");
                self.refusals = BTreeMap::from([(format!("s{}", chance.of(6)), refusal)]);
            }
            12 => edit_steps(self, chance),
            // A queue holds a Job, or lets it go.
            13 | 14 if !live.is_empty() => {
                let job = self.job_mut(&chance.pick(&live));
                job.spec.get_or_insert_default().suspend = Some(chance.once_in(2));
            }
            15 if chance.once_in(3) => {
                let manager = chance.pick(&["", "operon.dev/operon", "example.com/other"]);
                self.edit(|spec| spec["managedBy"] = json!(manager));
            }
            _ => {
                let seconds = chance.seconds(20);
                self.wait(seconds);
            }
        }
    }

    fn assert_promises(&self, before: &Self) {
        assert_one_job_per_step(self);
        assert_nothing_is_undone(before, self);
        assert_held(before, self);
        assert_only_failures_use_up_retries(self);
        if let Some(status) = &self.flow.status {
            let end = status.state.and_then(FlowState::end);
            let end = end.filter(|_| status.completion_time.is_some());
            assert_says_end(&status.conditions, end);
        }
    }

    fn assert_ends(mut self) {
        self.refusals.clear();
        self.edit(|spec| {
            spec["suspend"] = Value::Null;
            spec["managedBy"] = Value::Null;
            spec["parallelism"] = Value::Null;
        });
        for job in self.jobs.values_mut() {
            job.spec.get_or_insert_default().suspend = Some(false);
        }
        for _ in 0..80 {
            self.pods.clear();
            self.collect_garbage();
            self.wait(30);
            self.settle();
            assert_what_is_over_does_not_run(&self);
            if self.status().completion_time.is_some() {
                let is_over = |phase: Phase| phase.is_over();
                assert!(self.status().steps.iter().all(|step| is_over(step.phase)));
                return;
            }
            let live = self.jobs.values().filter(|job| jobs::finish(job).is_none());
            let live: Vec<_> = live.map(Job::name_any).collect();
            for name in live {
                self.say(&name, r#"{"out": 1}"#);
                self.succeed(&name);
            }
        }
        unreachable!("it never ends: {:#?}", self.status());
    }
}

/// A step is removed on which no other depends, or one is added.
fn edit_steps(world: &mut World, chance: &mut Chance) {
    let place = chance.of(8);
    let is_added = chance.once_in(2);
    world.edit(|spec| {
        let on_exit = spec["onExit"].as_str().map(str::to_owned);
        let Some(steps) = spec["flows"].as_array_mut() else {
            return;
        };
        if is_added {
            let name = format!("s{}", 20 + place);
            if steps.iter().all(|step| step["name"] != json!(name)) {
                steps.push(step_with(&name, &[], json!({})));
            }
            return;
        }
        let name = steps.get(place).map(|step| step["name"].clone());
        let Some(name) = name.filter(|name| steps.len() > 1 && name.as_str() != on_exit.as_deref())
        else {
            return;
        };
        let mut dependencies = steps
            .iter()
            .filter_map(|step| step["dependencies"].as_array());
        if !dependencies.any(|names| names.contains(&name)) {
            steps.remove(place);
        }
    });
}

fn spec(chance: &mut Chance) -> Value {
    let count = 3 + chance.of(5);
    let steps: Vec<_> = (0..count).map(|place| any_step(chance, place)).collect();
    json!({
        "flows": steps,
        "failurePolicy": chance.pick(&["StopScheduling", "Continue", "Cancel"]),
        "parallelism": chance.pick(&[Value::Null, json!(1), json!(2)]),
        "onExit": chance.pick(&[Value::Null, json!("s0")]),
    })
}

/// A step that depends on some of those before it, but not on the first.
fn any_step(chance: &mut Chance, place: usize) -> Value {
    let before: Vec<_> = (1..place)
        .filter(|_| chance.of(3) == 0)
        .map(|other| format!("s{other}"))
        .collect();
    let names: Vec<_> = before.iter().map(String::as_str).collect();
    let more = json!({
        "retry": chance.pick(&[Value::Null, json!({"limit": 1}), json!({"limit": 2, "backoffSeconds": 5})]),
        "outputs": chance.pick(&[json!([]), json!(["out"])]),
        "jobTemplate": {"ttlSecondsAfterFinished": chance.pick(&[Value::Null, json!(0), json!(30)])},
        "when": if names.is_empty() { Value::Null } else { chance.pick(&[
            Value::Null, Value::Null, json!("true"), json!("steps.exists(s, steps[s].phase == 'Failed')"),
        ])},
    });
    step_with(&format!("s{place}"), &names, more)
}

/// No step has two Jobs that run.
fn assert_one_job_per_step(world: &World) {
    let mut running = BTreeMap::new();
    for job in world
        .jobs
        .values()
        .filter(|job| jobs::finish(job).is_none())
    {
        let step = &job.labels()[keys::STEP];
        if let Some(other) = running.insert(step.clone(), job.name_any()) {
            unreachable!("step {step} has {other} and {}", job.name_any());
        }
    }
}

/// No Job runs for a step that has finished.
fn assert_what_is_over_does_not_run(world: &World) {
    let Some(status) = &world.flow.status else {
        return;
    };
    let jobs = world.jobs.values();
    let live = |job: &&Job| jobs::finish(job).is_none() && !jobs::is_deleted(job);
    for job in jobs.filter(live) {
        let mut steps = status.steps.iter();
        let step = steps.find(|step| step.name == job.labels()[keys::STEP]);
        let is_over = step.is_some_and(|step| step.phase.is_over());
        assert!(!is_over, "{step:?} has {:?}", job.name_any());
    }
}

/// Finished steps stay as they are, unless a retry was requested or the step was removed from the spec.
fn assert_nothing_is_undone(before: &World, world: &World) {
    let (Some(old), Some(new)) = (&before.flow.status, &world.flow.status) else {
        return;
    };
    if old.retried != new.retried {
        return;
    }
    for old in old.steps.iter().filter(|step| step.phase.is_over()) {
        let found = new.steps.iter().find(|step| step.name == old.name);
        let is_same =
            found.is_none_or(|new| (new.phase, &new.job_uid) == (old.phase, &old.job_uid));
        assert!(is_same, "{old:?} became {found:?}");
    }
}

/// What must never be done to an object that is suspended, or run by another controller.
fn assert_held(before: &World, world: &World) {
    if world.flow.spec.managed_by.as_deref() == Some("example.com/other") {
        assert_eq!(world.writes, before.writes, "it is not ours");
    }
    if world.flow.spec.suspend == Some(true) {
        assert_eq!(world.made, before.made, "it is suspended");
    }
}

/// A step that is retried fails for good only when so many of its Jobs failed.
fn assert_only_failures_use_up_retries(world: &World) {
    let flow = &world.flow;
    let steps = flow.status.iter().flat_map(|status| &status.steps);
    for status in steps.filter(|status| status.phase == Phase::Failed) {
        let Some(step) = flow.spec.flows.iter().find(|step| step.name == status.name) else {
            continue;
        };
        let limit = step.retry.as_ref().map_or(0, |retry| retry.limit);
        let has_failed = status.reason.as_deref() == Some("BackoffLimitExceeded");
        let is_cancelling = flow.spec.failure_policy == Some(FailurePolicy::Cancel);
        if has_failed && !is_cancelling {
            assert!(status.failures > Some(limit), "{status:?}");
        }
    }
}
