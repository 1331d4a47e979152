//! What a failed step means for the rest of a JobFlow, and how what failed runs again.

use operon_api::job_flow::FlowState;
use operon_e2e::{
    job_flow::{self, Flow, Step, attempt, is_finished, phases, said, step, step_said},
    kubectl::rows,
    prelude::*,
    reactive_job::end,
};

/// Waits as a user does.
async fn wait_for_ready(world: &World, name: &str) {
    let object = format!("jobflow/{name}");
    world
        .kubectl_says(&["wait", "--for=condition=Ready", &object, "--timeout=90s"])
        .await;
}

/// A branch that fails, one that still runs then, and steps that could start later.
fn branches(name: &str, running: Step) -> Flow {
    Flow::of(
        name,
        [
            Step::of("bad").failing(),
            running,
            Step::of("needs-bad").after(&["bad"]),
            Step::of("needs-good").after(&["good"]),
        ],
    )
}

#[tokio::test]
async fn by_default_nothing_more_starts_and_what_runs_goes_on() {
    story(async |world: &World| {
        branches("stop", Step::of("good").gated())
            .apply(world)
            .await;
        let flow = world
            .flow_stands(
                "stop",
                "bad Failed, good Running, needs-bad Skipped, needs-good Waiting",
            )
            .await;
        assert_eq!(job_flow::status(&flow).state, Some(FlowState::Failed));
        assert!(!is_finished(&flow));
        let why = said(&flow, "Reconciling");
        assert!(
            why.starts_with("True StepFailed: step \"bad\" failed: ")
                && why.ends_with("; still running: \"good\""),
            "{why}"
        );
        world.let_job_run("stop-good").await;
        let flow = world.flow_ends("stop", FlowState::Failed).await;
        assert_eq!(
            phases(&flow),
            "bad Failed, good Succeeded, needs-bad Skipped, needs-good Skipped"
        );
        let why = step_said(&flow, "needs-good");
        assert!(
            why.starts_with("Skipped FlowFailed: step \"bad\" failed"),
            "{why}"
        );
        world.jobs_are_named(&["stop-bad", "stop-good"]).await;
    })
    .await;
}

#[tokio::test]
async fn with_the_policy_continue_all_that_does_not_depend_on_the_failure_runs() {
    story(async |world: &World| {
        branches("go-on", Step::of("good").gated())
            .with("failurePolicy", json!("Continue"))
            .apply(world)
            .await;
        world
            .flow_stands(
                "go-on",
                "bad Failed, good Running, needs-bad Skipped, needs-good Waiting",
            )
            .await;
        world.let_job_run("go-on-good").await;
        let flow = world.flow_ends("go-on", FlowState::Failed).await;
        assert_eq!(
            phases(&flow),
            "bad Failed, good Succeeded, needs-bad Skipped, needs-good Succeeded"
        );
        let table = world.kubectl_says(&["get", "jf"]).await;
        assert_eq!(rows(&table)[1][..3], ["go-on", "Failed", "2/4"]);
    })
    .await;
}

#[tokio::test]
async fn with_the_policy_cancel_what_runs_is_deleted_and_the_last_step_still_runs() {
    story(async |world: &World| {
        let repair = Step::of("repair")
            .after(&["bad", "good"])
            .with("when", json!("steps.good.phase == 'Cancelled'"));
        branches("cancel", Step::of("good").endless())
            .and(repair)
            .and(Step::of("bye"))
            .with("failurePolicy", json!("Cancel"))
            .with("onExit", json!("bye"))
            .apply(world)
            .await;
        let flow = world.flow_ends("cancel", FlowState::Failed).await;
        assert_eq!(
            phases(&flow),
            "bad Failed, good Cancelled, needs-bad Skipped, needs-good Skipped, repair Succeeded, bye Succeeded"
        );
        assert_eq!(
            step_said(&flow, "good"),
            "Cancelled Cancelled: Job \"cancel-good\" was deleted because step \"bad\" failed (spec.failurePolicy: Cancel)"
        );
        world
            .jobs_are_named(&["cancel-bad", "cancel-bye", "cancel-repair"])
            .await;
        let left = world.all_pods().await.expect("pods");
        assert!(!left.iter().any(operon_e2e::pods::PodExt::is_live), "{:?}", names(&left));
    })
    .await;
}

#[tokio::test]
async fn the_annotation_runs_again_what_failed_and_what_was_skipped_for_it() {
    story(async |world: &World| {
        let flow = |bad: Step| {
            let steps = [
                Step::of("good"),
                bad,
                Step::of("after-bad").after(&["good", "bad"]),
            ];
            Flow::of("again", steps)
        };
        flow(Step::of("bad").failing()).apply(world).await;
        world.flow_ends("again", FlowState::Failed).await;
        let good = world.job_appears("again-good").await;
        // Mended, which alone does nothing.
        flow(Step::of("bad")).apply(world).await;
        world.jobs_stay(&["again-bad", "again-good"]).await;
        world
            .kubectl_says(&["annotate", "jobflow", "again", "operon.dev/retry=1"])
            .await;
        wait_for_ready(world, "again").await;
        let flow = world.flow_ends("again", FlowState::Succeed).await;
        assert_eq!(
            phases(&flow),
            "good Succeeded, bad Succeeded, after-bad Succeeded"
        );
        assert_eq!(step(&flow, "bad").job_name.as_deref(), Some("again-bad-2"));
        assert_eq!(step(&flow, "bad").attempts, Some(2));
        let second = world.job_appears("again-bad-2").await;
        assert_eq!((attempt(&second), end(&second)), ("2", Some("Complete")));
        assert_eq!(step(&flow, "good").job_uid, good.uid());
        let jobs = ["again-after-bad", "again-bad", "again-bad-2", "again-good"];
        // The same value once more asks for nothing.
        world.retry_flow("again", "1").await;
        world.jobs_stay(&jobs).await;
        assert_eq!(said(&flow, "Ready"), "True Succeed: 3 steps succeeded");
    })
    .await;
}

#[tokio::test]
async fn what_failed_may_run_again_while_other_branches_still_run() {
    story(async |world: &World| {
        branches("midway", Step::of("good").gated())
            .apply(world)
            .await;
        world
            .flow_stands(
                "midway",
                "bad Failed, good Running, needs-bad Skipped, needs-good Waiting",
            )
            .await;
        let good = world.job_appears("midway-good").await;
        world.retry_flow("midway", "now").await;
        world.job_appears("midway-bad-2").await;
        world
            .flow_until("midway", "the second attempt failed", |flow| {
                let bad = step(flow, "bad");
                bad.attempts == Some(2) && bad.completion_time.is_some()
            })
            .await;
        world.let_job_run("midway-good").await;
        let flow = world.flow_ends("midway", FlowState::Failed).await;
        assert_eq!(step(&flow, "good").job_uid, good.uid());
        world
            .jobs_are_named(&["midway-bad", "midway-bad-2", "midway-good"])
            .await;
    })
    .await;
}
