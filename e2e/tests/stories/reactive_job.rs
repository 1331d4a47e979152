//! The life of a ReactiveJob: its Job runs, runs again when the template changes and at no other time,
//! and the status tells of the newest.

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{
    ReactiveJob,
    reactive_job::{Outcome, RunReason, State},
};
use operon_e2e::{
    kubectl::rows,
    prelude::*,
    reactive_job::{Reactive, digest, digests, end, is_held, run, said, status},
};

/// The seed's manifest, with an image that the nodes have.
fn seed() -> String {
    let manifest = include_str!("../../../examples/reactivejob/reactivejob.yaml");
    let (alpine, busybox) = ("image: alpine", "image: localhost/busybox:1.35");
    assert!(manifest.contains(alpine));
    manifest.replace(alpine, busybox)
}

/// Waits as a user does, and returns the object.
async fn ready(world: &World) -> ReactiveJob {
    let condition = "--for=condition=Ready";
    world
        .kubectl_says(&["wait", condition, "reactivejob/test", "--timeout=90s"])
        .await;
    world.reactive("test").await.expect("the object")
}

#[tokio::test]
async fn a_changed_digest_runs_the_job_of_the_seeds_manifest_again() {
    story(async |world: &World| {
        let applied = world.kubectl_apply(&seed()).await;
        let answer = String::from_utf8_lossy(&applied.stdout).into_owned();
        assert_eq!(
            answer.trim(),
            "reactivejob.batch.cs.sap.com/test created",
            "{applied:?}"
        );
        let object = ready(world).await;
        let first = &world.jobs_are("test", 1).await[0];
        let name = first.name_any();
        assert!(
            name.starts_with("test-") && name.len() == "test-a7r3s".len(),
            "{name}"
        );
        assert_eq!(status(&object).current_job_name, Some(name));
        assert_eq!((end(first), is_held(first)), (Some("Complete"), true));
        let table = world.kubectl_says(&["get", "reactivejobs"]).await;
        let rows = rows(&table);
        assert_eq!(rows[0], ["NAME", "STATE", "AGE"]);
        assert_eq!(rows[1][..2], ["test", "Ready"]);

        let applied = world
            .kubectl_apply(&seed().replace("abc123", "def456"))
            .await;
        assert!(applied.status.success(), "{applied:?}");
        let object = ready(world).await;
        let jobs = world.jobs_are("test", 2).await;
        assert_eq!(digests(&jobs), ["abc123", "def456"]);
        let (first, second) = (&jobs[0], &jobs[1]);
        assert_eq!(
            status(&object).current_job_name,
            Some(second.name_any()),
            "what was waited for is the second Job"
        );
        assert_eq!(end(second), Some("Complete"));
        assert!(
            !is_held(first) && first.metadata.deletion_timestamp.is_none(),
            "the first is left to its ttlSecondsAfterFinished"
        );
        let ttl = first
            .spec
            .as_ref()
            .and_then(|spec| spec.ttl_seconds_after_finished);
        assert_eq!(ttl, Some(120));

        world.kubectl_says(&["delete", "reactivejob", "test"]).await;
        assert!(world.jobs_of("test").await.expect("Jobs").is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_old_job_goes_by_its_ttl_and_the_newest_stays_as_long_as_its_object() {
    story(async |world: &World| {
        Reactive::of("test")
            .job("ttlSecondsAfterFinished", json!(1))
            .apply(world)
            .await;
        world.comes_to("test", State::Ready).await;
        world.edit("test", "2").await;
        world.comes_to("test", State::Ready).await;
        world.jobs_have("test", &["2"]).await;
        let newest = world
            .eventually("its time is over for the newest, too", async || {
                let newest = world.jobs_of("test").await?.remove(0);
                ensure!(newest.metadata.deletion_timestamp.is_some(), "not yet");
                Ok(newest)
            })
            .await;
        world
            .no_other_job("test", std::slice::from_ref(&newest))
            .await;
        let object = world.comes_to("test", State::Ready).await;
        assert_eq!(status(&object).current_job_name, Some(newest.name_any()));
        assert_eq!(run(&object, 0).outcome, Some(Outcome::Succeeded));
        world.delete::<ReactiveJob>("test").await;
        world.gone::<ReactiveJob>("test").await;
        world.gone::<BatchJob>(&newest.name_any()).await;
    })
    .await;
}

#[tokio::test]
async fn what_does_not_change_the_template_runs_nothing_and_is_not_written() {
    story(async |world: &World| {
        let requests = |cpu: &str| json!({"requests": {"cpu": cpu}});
        Reactive::of("test")
            .container("resources", requests("10m"))
            .apply(world)
            .await;
        world.comes_to("test", State::Ready).await;
        world
            .kubectl_says(&["label", "reactivejob/test", "team=a"])
            .await;
        world
            .kubectl_says(&["annotate", "reactivejob/test", "note=b"])
            .await;
        // The same, written otherwise, and an option.
        Reactive::of("test")
            .container("resources", requests("0.01"))
            .with("progressDeadlineSeconds", json!(60))
            .apply(world)
            .await;
        let object = world.comes_to("test", State::Ready).await;
        world.jobs_are("test", 1).await;
        world.nothing_is_written(&object).await;
        world.jobs_are("test", 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_template_that_becomes_what_it_was_before_runs_again() {
    story(async |world: &World| {
        Reactive::of("test").apply(world).await;
        for digest in ["2", "1"] {
            world.comes_to("test", State::Ready).await;
            world.edit("test", digest).await;
        }
        let object = world.comes_to("test", State::Ready).await;
        let jobs = world.jobs_have("test", &["1", "2", "1"]).await;
        assert_eq!(status(&object).current_job_name, Some(jobs[2].name_any()));
        let reasons: Vec<_> = status(&object).runs.iter().map(|run| run.reason).collect();
        let (created, changed) = (RunReason::Created, RunReason::TemplateChanged);
        assert_eq!(reasons, [changed, changed, created]);
        assert_eq!(
            run(&object, 0).changes,
            ["metadata.annotations.digest: 2 → 1"]
        );
    })
    .await;
}

#[tokio::test]
async fn a_job_that_still_runs_goes_on_beside_the_next_one() {
    story(async |world: &World| {
        Reactive::of("test").gated().apply(world).await;
        world.comes_to("test", State::Processing).await;
        world.edit("test", "2").await;
        let jobs = world.jobs_have("test", &["1", "2"]).await;
        world.let_run(&jobs[1]).await;
        let object = world.comes_to("test", State::Ready).await;
        assert_eq!(status(&object).current_job_name, Some(jobs[1].name_any()));
        assert_eq!(run(&object, 1).outcome, None);
        world.let_run(&jobs[0]).await;
        let first = world.job_ends(&jobs[0]).await;
        assert_eq!((end(&first), digest(&first)), (Some("Complete"), "1"));
        let object = world
            .reactive_until("test", "knows that the first ended", |object| {
                run(object, 1).outcome == Some(Outcome::Succeeded)
            })
            .await;
        assert_eq!(status(&object).current_job_name, Some(jobs[1].name_any()));
    })
    .await;
}

#[tokio::test]
async fn a_failed_job_is_an_error_until_the_next_change() {
    story(async |world: &World| {
        Reactive::of("test").failing("exit 3").apply(world).await;
        let object = world.comes_to("test", State::Error).await;
        let ready = said(&object, "Ready");
        assert!(
            ready.starts_with("False Error: BackoffLimitExceeded: "),
            "{ready}"
        );
        let stalled = said(&object, "Stalled");
        assert!(
            stalled.starts_with("True JobFailed: ") && stalled.contains("operon.dev/rerun"),
            "{stalled}"
        );
        world
            .kubectl_says(&["wait", "--for=condition=Stalled", "reactivejob/test"])
            .await;
        world.jobs_are("test", 1).await;
        Reactive::of("test").apply(world).await;
        let object = world.comes_to("test", State::Ready).await;
        let ready = said(&object, "Ready");
        assert!(
            ready.starts_with("True Ready: CompletionsReached: "),
            "{ready}"
        );
        assert_eq!(said(&object, "Stalled"), "");
        let failure = status(&object).last_failure.expect("it is still known");
        assert_eq!(failure.reason, "BackoffLimitExceeded");
        let outcomes = [run(&object, 0).outcome, run(&object, 1).outcome];
        assert_eq!(outcomes, [Some(Outcome::Succeeded), Some(Outcome::Failed)]);
    })
    .await;
}

#[tokio::test]
async fn status_and_events_say_why_it_ran_and_hide_what_may_be_secret() {
    story(async |world: &World| {
        let env = |value: &str| json!([{"name": "TOKEN", "value": value}]);
        let reactive = Reactive::of("test").container("env", env("hunter2"));
        reactive.clone().apply(world).await;
        world.comes_to("test", State::Ready).await;
        reactive.container("env", env("hunter3")).apply(world).await;
        let object = world.comes_to("test", State::Ready).await;
        let changes = run(&object, 0).changes.join("; ");
        assert!(
            changes.contains("env[TOKEN]") && !changes.contains("hunter"),
            "{changes}"
        );
        let expected = ["RunStarted", "RunSucceeded"];
        world
            .eventually("Events tell of it", async || {
                let reasons = world.event_reasons("test").await?;
                let are_there = expected.iter().all(|e| reasons.contains(&(*e).to_owned()));
                ensure!(are_there, "{reasons:?}");
                Ok(())
            })
            .await;
    })
    .await;
}
