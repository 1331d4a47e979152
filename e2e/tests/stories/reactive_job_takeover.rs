//! Jobs that somebody else made: those of SAP's operator are taken over and do not run again, those that
//! only look so are left alone.
//!
//! A ReactiveJob that is suspended makes no Job, so the story can put there what SAP's operator would
//! have. How it is when no host runs at first is in `reactive_job_crash.rs`.

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{
    ReactiveJob, keys,
    reactive_job::{Outcome, RunReason, State},
};
use operon_e2e::{
    prelude::*,
    reactive_job::{Reactive, SEED_HASHES, digests, is_held, run, status},
};

/// A hash that no operator would write for the template.
const OTHER_HASH: &str = "00000000000000000000000000000000000000000000000000000000000000ff";

/// The seed's object, before anything ran.
async fn seed(world: &World, name: &str) -> ReactiveJob {
    let seed = Reactive::seed(name).with("suspend", json!(true));
    seed.apply(world).await;
    world.comes_to(name, State::New).await
}

/// Lets it run.
async fn resume(world: &World, name: &str) {
    world
        .patch::<ReactiveJob>(name, json!({"spec": {"suspend": null}}))
        .await;
}

/// Asserts that a Job is the object's own, and that what SAP's operator wrote is as it was.
fn assert_taken_over(object: &ReactiveJob, before: &BatchJob, after: &BatchJob) {
    assert_eq!(after.uid(), before.uid());
    assert!(is_held(after) && after.metadata.deletion_timestamp.is_none());
    assert_eq!(
        after.annotations().get(keys::CONTROLLER_HASH),
        before.annotations().get(keys::CONTROLLER_HASH)
    );
    assert_eq!(after.annotations().get(keys::ADOPTED), after.uid().as_ref());
    let owners: Vec<_> = after.owner_references().iter().map(|o| &o.uid).collect();
    assert_eq!(owners, [&object.uid().unwrap_or_default()]);
    assert_eq!(status(object).current_job_name, Some(after.name_any()));
    assert_eq!(run(object, 0).reason, RunReason::Adopted);
}

#[tokio::test]
async fn finished_jobs_of_saps_operator_are_taken_over_and_nothing_runs_again() {
    story(async |world: &World| {
        // Known by either hash, or by the generation alone.
        let table = [
            ("now", "0", SEED_HASHES[0]),
            ("before", "0", SEED_HASHES[1]),
            ("unknown", "1", OTHER_HASH),
        ];
        let mut taken = Vec::new();
        for (name, generation, hash) in table {
            let object = seed(world, name).await;
            let job = Reactive::of(name).job_of_sap(&object, generation, hash);
            taken.push((name, world.make::<BatchJob>(job).await));
        }
        for (name, job) in &taken {
            world.job_ends(job).await;
            world.comes_to(name, State::Ready).await;
            resume(world, name).await;
        }
        for (name, before) in &taken {
            let object = world.comes_to(name, State::Ready).await;
            let after = world.jobs_are(name, 1).await.remove(0);
            assert_taken_over(&object, before, &after);
            assert_eq!(run(&object, 0).outcome, Some(Outcome::Succeeded));
        }
        world
            .for_a_while("nothing runs again", async || {
                let jobs = world.list::<BatchJob>().await?;
                ensure!(jobs.len() == taken.len(), "{:?}", digests(&jobs));
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_running_job_of_saps_operator_is_waited_for() {
    story(async |world: &World| {
        let object = seed(world, "test").await;
        let job = Reactive::of("test").gated().digest("abc123");
        let mut job = job.job_of_sap(&object, "1", SEED_HASHES[0]);
        job["metadata"]["annotations"]["digest"] = json!("abc123");
        let before: BatchJob = world.make(job).await;
        resume(world, "test").await;
        let object = world.comes_to("test", State::Processing).await;
        let after = world.jobs_are("test", 1).await.remove(0);
        assert_taken_over(&object, &before, &after);
        world.let_run(&before).await;
        world.comes_to("test", State::Ready).await;
        world
            .no_other_job("test", std::slice::from_ref(&before))
            .await;
        world.edit("test", "def456").await;
        let jobs = world.jobs_have("test", &["abc123", "def456"]).await;
        world
            .eventually("the first is let go", async || {
                let first: BatchJob = world.get(&jobs[0].name_any()).await?;
                ensure!(!is_held(&first), "not yet");
                Ok(())
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_saps_operator_made_of_another_template_is_followed_by_one_of_this() {
    story(async |world: &World| {
        let object = seed(world, "test").await;
        let job = Reactive::of("test").job_of_sap(&object, "0", OTHER_HASH);
        let before: BatchJob = world.make(job).await;
        world.comes_to("test", State::Processing).await;
        resume(world, "test").await;
        let jobs = world.jobs_have("test", &["", "abc123"]).await;
        assert_eq!(jobs[0].uid(), before.uid());
        let object = world
            .reactive_until("test", "knows its Job", |object| {
                status(object).current_job_name == Some(jobs[1].name_any())
            })
            .await;
        assert_eq!(run(&object, 0).reason, RunReason::TemplateChanged);
        assert_eq!(run(&object, 1).reason, RunReason::Adopted);
        world.no_other_job("test", &jobs).await;
    })
    .await;
}

#[tokio::test]
async fn an_object_restored_from_a_backup_takes_over_the_jobs_of_its_former_self() {
    story(async |world: &World| {
        let mut former =
            ReactiveJob::new("test", operon_api::reactive_job::ReactiveJobSpec::default());
        former.metadata.uid = Some("7c9f3a52-9d0e-4f0c-8a5b-0d2f0a3c1e11".to_owned());
        let reactive = Reactive::of("test");
        let older = reactive.job_of_sap(&former, "6", OTHER_HASH);
        let older: BatchJob = world.make(older).await;
        let newer = reactive.job_of_sap(&former, "7", SEED_HASHES[0]);
        let newer: BatchJob = world.make(newer).await;
        world.job_ends(&older).await;
        world.job_ends(&newer).await;
        Reactive::seed("test").apply(world).await;
        let object = world.comes_to("test", State::Ready).await;
        let after: BatchJob = world.get(&newer.name_any()).await.expect("the Job");
        assert_taken_over(&object, &newer, &after);
        assert_eq!(
            after.labels().get(keys::CONTROLLER_UID),
            object.uid().as_ref()
        );
        world
            .eventually("the older one is let go", async || {
                let older: BatchJob = world.get(&older.name_any()).await?;
                ensure!(!is_held(&older), "not yet");
                Ok(())
            })
            .await;
        let jobs = world.jobs_are("test", 2).await;
        world.no_other_job("test", &jobs).await;
    })
    .await;
}

/// Jobs that have an object's labels, and were not made for it.
fn strangers(object: &ReactiveJob, own: &BatchJob) -> Vec<BatchJob> {
    let labels = json!({keys::CONTROLLER_UID: object.uid(), keys::CONTROLLER_NAME: "test"});
    let metadata = [
        json!({"name": "by-hand", "labels": labels}),
        json!({
            "generateName": "test-",
            "labels": labels,
            "annotations": {keys::CONTROLLER_GENERATION: "seven", keys::CONTROLLER_HASH: "eight"}
        }),
        json!({
            "name": "copy",
            "labels": labels,
            "annotations": own.annotations(),
            "finalizers": own.finalizers()
        }),
    ];
    let spec = Reactive::of("test").job("suspend", json!(true)).job_spec();
    let job = |metadata| serde_json::from_value(json!({"metadata": metadata, "spec": spec}));
    metadata
        .into_iter()
        .map(|metadata| job(metadata).expect("a Job"))
        .collect()
}

#[tokio::test]
async fn jobs_that_only_look_like_its_own_are_left_alone() {
    story(async |world: &World| {
        Reactive::of("test").apply(world).await;
        let object = world.comes_to("test", State::Ready).await;
        let own = world.jobs_are("test", 1).await.remove(0);
        let mut made = Vec::new();
        for stranger in strangers(&object, &own) {
            made.push(world.create(&stranger).await);
        }
        world
            .eventually("an Event says so", async || {
                let reasons = world.event_reasons("test").await?;
                ensure!(reasons.contains(&"JobIgnored".to_owned()), "{reasons:?}");
                Ok(())
            })
            .await;
        world.edit("test", "2").await;
        let object = world.comes_to("test", State::Ready).await;
        let names: Vec<_> = status(&object)
            .runs
            .into_iter()
            .map(|r| r.job_name)
            .collect();
        assert!(names.len() == 2 && names[1] == own.name_any(), "{names:?}");
        world
            .for_a_while("they are as they were", async || {
                for before in &made {
                    let after: BatchJob = world.get(&before.name_any()).await?;
                    let is_same = after.labels() == before.labels()
                        && after.annotations() == before.annotations()
                        && after.finalizers() == before.finalizers()
                        && after.owner_references().is_empty()
                        && after.metadata.deletion_timestamp.is_none();
                    ensure!(is_same, "{:?}", after.metadata);
                }
                Ok(())
            })
            .await;
        // The finalizer that came with the copy does not hold it.
        world.delete::<BatchJob>("copy").await;
        world.gone::<BatchJob>("copy").await;
        world.delete::<ReactiveJob>("test").await;
        world.gone::<ReactiveJob>("test").await;
        for left in &made[..2] {
            let left: BatchJob = world.get(&left.name_any()).await.expect("it is kept");
            assert!(left.metadata.deletion_timestamp.is_none());
        }
    })
    .await;
}
