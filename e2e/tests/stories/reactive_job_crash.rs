//! Hosts are killed while ReactiveJobs change, or were not there yet when SAP's operator was: there are
//! never two Jobs for one change.
//!
//! These stories run hosts of their own, so they run alone, after all others.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job as BatchJob;
use kube::api::{Patch, PatchParams};
use operon_api::{
    ReactiveJob, keys,
    reactive_job::{RunReason, State},
};
use operon_e2e::{
    host::{Host, alone},
    prelude::*,
    reactive_job::{Made, Reactive, SEED_HASHES, digest, run, status},
};

/// ReactiveJobs, named after their policies.
const NAMES: [&str; 3] = ["allow", "replace", "queue"];

#[tokio::test]
async fn hosts_killed_in_the_middle_of_many_changes_never_make_two_jobs_for_one() {
    alone(async |world: &World| {
        let made = Made::watch(world);
        for (name, policy) in NAMES.iter().zip(["Allow", "Replace", "Queue"]) {
            // Suspended Jobs have no pods: what counts is how many Jobs there are. Those in a queue end.
            Reactive::of(name)
                .with("concurrencyPolicy", json!(policy))
                .job("suspend", json!(*name != "queue"))
                .apply(world)
                .await;
        }
        let mut change = 1;
        for round in 0..12 {
            let host = Host::start_with(world, &format!("host-{round}"), &["--no-leader-election"]);
            let enough = made.all().len() + 1 + round % 4;
            world
                .eventually("the host makes Jobs", async || {
                    change += 1;
                    for name in NAMES {
                        world.edit(name, &change.to_string()).await;
                    }
                    let count = made.all().len();
                    ensure!(count >= enough, "{count} instead of {enough}");
                    Ok(())
                })
                .await;
            host.kill().await;
        }
        let template =
            json!({"metadata": {"annotations": {"digest": "last"}}, "spec": {"suspend": false}});
        for name in NAMES {
            let spec = json!({"spec": {"jobTemplate": template}});
            world.patch::<ReactiveJob>(name, spec).await;
        }
        let last = Host::start_with(world, "host-last", &["--no-leader-election"]);
        for name in NAMES {
            let object = world.comes_to(name, State::Ready).await;
            let newest = status(&object).current_job_name.unwrap_or_default();
            let newest: BatchJob = world.get(&newest).await.expect("the newest Job");
            assert_eq!(digest(&newest), "last");
        }
        let mut changes = BTreeSet::new();
        for job in made.all() {
            let of = job.labels().get(keys::CONTROLLER_NAME).cloned();
            let change = (of, digest(&job).to_owned());
            assert!(!changes.contains(&change), "two Jobs for {change:?}");
            changes.insert(change);
        }
        last.kill().await;
    })
    .await;
}

/// The object as SAP's operator leaves it when its newest Job is this one.
async fn left_by_sap(world: &World, name: &str, state: &str, job: &BatchJob) {
    let finalizers = [keys::REACTIVE_JOB_FINALIZER];
    let held = json!({"metadata": {"finalizers": finalizers}});
    world.patch::<ReactiveJob>(name, held).await;
    let ready = if state == "Ready" { "True" } else { "Unknown" };
    let time = "2024-07-09T08:00:00Z";
    let status = json!({"status": {
        "observedGeneration": 1,
        "state": state,
        "currentJobName": job.name_any(),
        "conditions": [{
            "type": "Ready", "status": ready, "reason": state, "message": ": ",
            "lastUpdateTime": time, "lastTransitionTime": time
        }]
    }});
    let objects = world.api::<ReactiveJob>();
    let written = objects
        .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    written.expect("the status is as the schema wants it");
}

#[tokio::test]
async fn what_saps_operator_left_is_taken_over_when_a_host_comes() {
    alone(async |world: &World| {
        let finished = Reactive::seed("finished").apply(world).await;
        let job = Reactive::of("finished").job_of_sap(&finished, "1", SEED_HASHES[0]);
        let finished: BatchJob = world.make(job).await;
        world.job_ends(&finished).await;
        left_by_sap(world, "finished", "Ready", &finished).await;
        let running = Reactive::seed("running").apply(world).await;
        let job = Reactive::of("running").gated();
        let running: BatchJob = world
            .make(job.job_of_sap(&running, "1", SEED_HASHES[1]))
            .await;
        left_by_sap(world, "running", "Processing", &running).await;

        let host = Host::start_with(world, "host", &["--no-leader-election"]);
        for (name, job) in [("finished", &finished), ("running", &running)] {
            let object = world
                .reactive_until(name, "is looked at", |object| {
                    run(object, 0).reason == RunReason::Adopted
                })
                .await;
            assert_eq!(status(&object).current_job_name, Some(job.name_any()));
        }
        world.comes_to("finished", State::Ready).await;
        world.comes_to("running", State::Processing).await;
        world.let_run(&running).await;
        world.comes_to("running", State::Ready).await;
        world
            .no_other_job("finished", std::slice::from_ref(&finished))
            .await;
        world
            .no_other_job("running", std::slice::from_ref(&running))
            .await;
        host.kill().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_changed_and_deleted_while_no_host_ran_is_done_afterwards() {
    alone(async |world: &World| {
        let first = Host::start_with(world, "first", &["--no-leader-election"]);
        for name in ["changed", "deleted"] {
            Reactive::of(name).apply(world).await;
            world.comes_to(name, State::Ready).await;
        }
        first.kill().await;
        world.delete::<ReactiveJob>("deleted").await;
        world.edit("changed", "2").await;
        world.edit("changed", "3").await;
        let second = Host::start_with(world, "second", &["--no-leader-election"]);
        world.gone::<ReactiveJob>("deleted").await;
        assert!(world.jobs_of("deleted").await.expect("Jobs").is_empty());
        world.comes_to("changed", State::Ready).await;
        world.jobs_have("changed", &["1", "3"]).await;
        second.kill().await;
    })
    .await;
}
