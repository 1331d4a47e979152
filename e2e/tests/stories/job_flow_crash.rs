//! Hosts are killed at random moments while JobFlows run: no Job is made twice, and every flow ends as it
//! would have without.
//!
//! This story runs hosts of its own, so it runs alone, after all others.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
};

use operon_api::{JobTemplate, job_flow::FlowState, keys};
use operon_e2e::{
    host::{Host, alone},
    job_flow::{self, Flow, Step, attempt, is_finished, phases},
    prelude::*,
    reactive_job::Made,
};

/// The flows: how each ends, and the Jobs that it has then had, as `step/attempt`.
fn table() -> Vec<(Flow, FlowState, Vec<String>)> {
    let first = |names: &[&str]| names.iter().map(|name| format!("{name}/1")).collect();
    let vanishing = |step: Step| step.job("ttlSecondsAfterFinished", json!(0));
    let chain = [
        vanishing(Step::of("a")),
        vanishing(Step::of("b").after(&["a"])),
        vanishing(Step::of("c").after(&["b"])),
        Step::from_template("d", "shared").after(&["c"]),
    ];
    let wide = ["a", "b", "c", "d", "e", "f", "g"];
    let join = Step::of("join").after(&wide);
    let retry = json!({"limit": 2, "backoffSeconds": 1});
    let retried = [
        Step::of("try").failing().with("retry", retry),
        Step::of("never").after(&["try"]),
        Step::of("bye"),
    ];
    let cancelled = [
        Step::of("endless").endless(),
        Step::of("good"),
        Step::of("bad").after(&["good"]).failing(),
    ];
    vec![
        (
            Flow::of("chain", chain),
            FlowState::Succeed,
            first(&["a", "b", "c", "d"]),
        ),
        (
            Flow::of("wide", wide.map(Step::of).into_iter().chain([join]))
                .with("parallelism", json!(3)),
            FlowState::Succeed,
            first(&["a", "b", "c", "d", "e", "f", "g", "join"]),
        ),
        (
            Flow::of("retried", retried).with("onExit", json!("bye")),
            FlowState::Failed,
            ["bye/1", "try/1", "try/2", "try/3"]
                .map(str::to_owned)
                .to_vec(),
        ),
        (
            Flow::of("cancelled", cancelled).with("failurePolicy", json!("Cancel")),
            FlowState::Failed,
            first(&["bad", "endless", "good"]),
        ),
    ]
}

/// Some time below a second.
fn some_time() -> Duration {
    Duration::from_millis(RandomState::new().hash_one("") % 1000)
}

/// The Jobs that there have been, by their flow, each as `step/attempt`, sorted.
fn made_by_flow(made: &Made) -> BTreeMap<String, Vec<String>> {
    let mut by_flow = BTreeMap::<String, Vec<String>>::new();
    for job in made.all() {
        let flow = job.owner_references()[0].name.clone();
        let what = format!("{}/{}", job.labels()[keys::STEP], attempt(&job));
        by_flow.entry(flow).or_default().push(what);
    }
    for jobs in by_flow.values_mut() {
        jobs.sort();
    }
    by_flow
}

#[tokio::test]
async fn hosts_killed_while_flows_run_never_make_a_job_twice_and_all_flows_end() {
    alone(async |world: &World| {
        let made = Made::watch(world);
        world
            .make::<JobTemplate>(job_flow::template("shared"))
            .await;
        let table = table();
        for (flow, _, _) in &table {
            flow.apply(world).await;
        }
        let are_finished = async || -> Result<bool> {
            let flows = world.list::<operon_api::JobFlow>().await?;
            Ok(flows.iter().all(is_finished))
        };
        let mut kills = 0;
        while !are_finished().await.expect("the flows") {
            let host = Host::start_with(world, &format!("host-{kills}"), &["--no-leader-election"]);
            let before = made.all().len();
            world
                .eventually("the host makes a Job, or all is done", async || {
                    let is_enough = made.all().len() > before || are_finished().await?;
                    ensure!(is_enough, "{:?}", made_by_flow(&made));
                    Ok(())
                })
                .await;
            tokio::time::sleep(some_time()).await;
            host.kill().await;
            kills += 1;
        }
        assert!(kills > 3, "killed only {kills} times");
        // Another host finds nothing to do.
        let last = Host::start_with(world, "host-last", &["--no-leader-election"]);
        let mut ended = Vec::new();
        for (flow, state, jobs) in &table {
            let name = flow.name();
            let flow = world.flow_ends(name, *state).await;
            assert_eq!(
                &made_by_flow(&made)[name],
                jobs,
                "{name}: {}",
                phases(&flow)
            );
            ended.push(flow.resource_version());
        }
        world
            .for_a_while("nothing is written or made", async || {
                let mut now = Vec::new();
                for (flow, _, _) in &table {
                    now.push(world.flow(flow.name()).await?.resource_version());
                }
                ensure!(now == ended, "{now:?} instead of {ended:?}");
                let jobs = made_by_flow(&made);
                let jobs: usize = jobs.values().map(Vec::len).sum();
                let wanted: usize = table.iter().map(|(_, _, jobs)| jobs.len()).sum();
                ensure!(jobs == wanted, "{jobs} Jobs");
                Ok(())
            })
            .await;
        last.kill().await;
    })
    .await;
}
