//! Whatever happens in whatever order: a flow settles, does nothing twice, and ends.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    job_flow::{Phase, StepStatus},
    keys,
};
use serde_json::{Value, json};

use super::world::{World, running, step_with};
use crate::driver::memory::Reconciles as _;
use crate::{action::Failure, jobs};

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn of(&mut self, count: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % count
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.of(values.len())].clone()
    }
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

/// Something happens.
fn happen(world: &mut World, chance: &mut Chance) {
    let live = |job: &&Job| jobs::finish(job).is_none();
    let running_jobs: Vec<_> = world
        .jobs
        .values()
        .filter(live)
        .map(Job::name_any)
        .collect();
    let all: Vec<_> = world.jobs.keys().cloned().collect();
    match chance.of(12) {
        0..=3 if !running_jobs.is_empty() => {
            let name = chance.pick(&running_jobs);
            world.say(
                &name,
                chance.pick(&[r#"{"out": 1}"#, r#"{"out": 1}"#, "{}"]),
            );
            world.succeed(&name);
        }
        4 | 5 if !running_jobs.is_empty() => world.fail(&chance.pick(&running_jobs)),
        6 if !all.is_empty() => world.delete_job(&chance.pick(&all), false),
        7 if !running_jobs.is_empty() => {
            let name = chance.pick(&running_jobs);
            let pod = format!("pod-{}", world.writes);
            world.add_pod(&name, &pod, running());
        }
        8 => world.pods.clear(),
        9 => world.retry(&chance.0.to_string()),
        10 => {
            let suspend = chance.of(3) == 0;
            world.edit(|spec| spec["suspend"] = json!(suspend));
        }
        11 if chance.of(3) == 0 => {
            world.refusals = BTreeMap::from([(
                format!("s{}", chance.of(6)),
                Failure::new("Forbidden", "quota"),
            )]);
        }
        _ => world.wait(i64::try_from(chance.of(20)).expect("small")),
    }
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

/// No Job runs for a step that is over.
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

/// What is over stays as it is, unless a retry was asked for.
fn assert_nothing_is_undone(before: &[StepStatus], world: &World) {
    for old in before.iter().filter(|step| step.phase.is_over()) {
        let new = world.step(&old.name);
        assert!(new == old, "{old:?} became {new:?}");
    }
}

/// From now on everything goes well.
fn go_well(world: &mut World) {
    world.refusals.clear();
    world.edit(|spec| spec["suspend"] = Value::Null);
    for _ in 0..60 {
        world.pods.clear();
        world.wait(30);
        if world.settle().completion_time.is_some() {
            return;
        }
        let live = world.jobs.values();
        let live = live.filter(|job| jobs::finish(job).is_none());
        let live: Vec<_> = live.map(Job::name_any).collect();
        for name in live {
            world.say(&name, r#"{"out": 1}"#);
            world.succeed(&name);
        }
    }
}

#[test]
fn whatever_happens_a_flow_settles_does_nothing_twice_and_ends() {
    let mut ends = BTreeMap::new();
    for seed in 0..200 {
        let chance = &mut Chance(seed);
        let mut world = World::with(spec(chance));
        let mut before: Vec<StepStatus> = Vec::new();
        let mut retried = None;
        // Of one that succeeded nothing is left to happen but that it stays so.
        let mut rest = 3;
        for _ in 0..40 {
            if chance.of(3) == 0 {
                let seed = chance.0;
                let happens = move |world: &mut World| happen(world, &mut Chance(seed));
                world.meanwhile = Some(Arc::new(happens));
            }
            if chance.of(4) == 0 {
                world.dies_after = Some(chance.of(3));
                world.pass();
                world.dies_after = None;
            } else {
                world.settle();
                assert_what_is_over_does_not_run(&world);
                if world.status().retried == retried {
                    assert_nothing_is_undone(&before, &world);
                }
                before.clone_from(&world.status().steps);
                retried.clone_from(&world.status().retried);
                if world.state() == "Succeed" {
                    rest -= 1;
                }
            }
            assert_one_job_per_step(&world);
            if rest == 0 {
                break;
            }
            happen(&mut world, chance);
        }
        go_well(&mut world);
        world.wait(1_000);
        world.settle();
        assert!(
            world.status().completion_time.is_some(),
            "{seed}: {:#?}",
            world.status()
        );
        *ends.entry(world.state()).or_insert(0) += 1;
        let is_over = |step: &StepStatus| step.phase.is_over();
        assert!(world.status().steps.iter().all(is_over));
    }
    assert!(ends["Succeed"] > 10 && ends["Failed"] > 10, "{ends:?}");
}

#[test]
fn a_status_that_nobody_would_write_is_no_reason_to_panic() {
    let nonsense = [
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Running"}]}),
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Running", "attempts": -5}]}),
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Running", "attempts": i32::MAX}]}),
        json!({"state": "Running", "steps": [{"name": "a", "phase": "Failed"}, {"name": "a", "phase": "Waiting"}]}),
        json!({"state": "Failed", "completionTime": "1970-01-01T00:00:00Z"}),
        json!({"state": "Succeed", "steps": [{"name": "b", "phase": "Waiting"}]}),
        json!({"state": "Terminating", "retried": "x"}),
        json!({"state": "Failed", "completionTime": "9999-12-30T00:00:00Z", "steps": [{"name": "a", "phase": "Blocked"}]}),
    ];
    for status in nonsense {
        for more in [
            json!({"parallelism": -1, "ttlSecondsAfterFinished": -1}),
            json!({"parallelism": 0, "ttlSecondsAfterFinished": i32::MAX, "onExit": ""}),
            json!({"onExit": "a", "failurePolicy": "Cancel"}),
        ] {
            let mut spec = more;
            spec["flows"] = json!([step_with(
                "a",
                &[],
                json!({
                    "retry": {"limit": i32::MAX, "backoffSeconds": i32::MIN},
                    "timeoutSeconds": -1,
                })
            )]);
            let mut world = World::with(spec);
            world.flow.status = Some(serde_json::from_value(status.clone()).expect("a status"));
            for _ in 0..6 {
                world.pass();
                for name in world.jobs.keys().cloned().collect::<Vec<_>>() {
                    world.fail(&name);
                }
                world.now += 10;
                world.retry(&world.now.to_string());
            }
        }
    }
}

#[test]
fn a_flow_without_a_name_or_a_uid_or_a_namespace_is_no_reason_to_panic() {
    let mut world = World::of(json!([step_with("a", &[], json!({}))]));
    world.flow.metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta::default();
    world.pass();
    let phase = world.phase("a");
    assert!(matches!(
        phase,
        Phase::Running | Phase::Waiting | Phase::Blocked
    ));
}
