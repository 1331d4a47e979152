//! What a JobFlow's options say about when its steps run: how often, how long, how many at a time, what
//! last; for how long it is kept, which templates its steps take, and what all their pods get.

use k8s_openapi::api::{batch::v1::Job as BatchJob, core::v1::Pod};
use operon_api::{
    JobFlow, JobTemplate,
    job_flow::{FlowState, Phase},
};
use operon_e2e::{
    environment,
    job_flow::{self, Flow, IMAGES, Step, attempt, phases, said, step, step_said},
    prelude::*,
    reactive_job::end,
};

async fn set(world: &World, name: &str, field: &str, value: serde_json::Value) {
    world
        .patch::<JobFlow>(name, json!({"spec": {field: value}}))
        .await;
}

#[tokio::test]
async fn a_failed_step_is_tried_again_each_time_after_twice_the_wait() {
    story(async |world: &World| {
        Flow::of(
            "retry",
            [
                Step::of("try")
                    .failing()
                    .with("retry", json!({"limit": 2, "backoffSeconds": 2})),
                Step::of("then").after(&["try"]),
            ],
        )
        .apply(world)
        .await;
        let flow = world
            .flow_until("retry", "waits for its second try", |flow| {
                step(flow, "try").reason.as_deref() == Some("Retrying")
            })
            .await;
        let why = step_said(&flow, "try");
        assert!(
            why.starts_with("Running Retrying: Job \"retry-try\" failed: BackoffLimitExceeded: ")
                && why.contains("; retry 1 of 2 starts at "),
            "{why}"
        );
        assert_eq!(job_flow::status(&flow).state, Some(FlowState::Running));
        let flow = world.flow_ends("retry", FlowState::Failed).await;
        let jobs = world.jobs_of_flow("retry").await.expect("Jobs");
        let names: Vec<_> = jobs.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, ["retry-try", "retry-try-2", "retry-try-3"]);
        let attempts: Vec<_> = jobs.iter().map(attempt).collect();
        assert_eq!(attempts, ["1", "2", "3"]);
        let made: Vec<_> = jobs
            .iter()
            .filter_map(|job| Some(job.metadata.creation_timestamp.as_ref()?.0.as_second()))
            .collect();
        assert!(
            made[1] - made[0] >= 2 && made[2] - made[1] >= 4,
            "the waits are 2 and 4 s: {made:?}"
        );
        assert_eq!(step(&flow, "try").attempts, Some(3));
        assert_eq!(step(&flow, "then").phase, Phase::Skipped);
    })
    .await;
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_failed() {
    story(async |world: &World| {
        Flow::of(
            "slow",
            [
                Step::of("quick").with("timeoutSeconds", json!(600)),
                Step::of("endless")
                    .after(&["quick"])
                    .endless()
                    .job("activeDeadlineSeconds", json!(600))
                    .with("timeoutSeconds", json!(1)),
            ],
        )
        .apply(world)
        .await;
        let flow = world.flow_ends("slow", FlowState::Failed).await;
        assert_eq!(phases(&flow), "quick Succeeded, endless Failed");
        let why = step_said(&flow, "endless");
        assert!(why.starts_with("Failed DeadlineExceeded: "), "{why}");
    })
    .await;
}

#[tokio::test]
async fn suspend_holds_the_jobs_that_run_and_no_further_step_starts() {
    story(async |world: &World| {
        let steps = [Step::of("a").gated(), Step::of("b").after(&["a"])];
        Flow::of("later", steps)
            .with("suspend", json!(true))
            .apply(world)
            .await;
        let flow = world
            .flow_says("later", "Reconciling", "True Suspended: ")
            .await;
        assert_eq!(job_flow::status(&flow).state, Some(FlowState::Pending));
        world.jobs_stay(&[]).await;
        set(world, "later", "suspend", json!(false)).await;
        world.job_appears("later-a").await;
        let is_suspended = async |expected: bool| {
            world
                .eventually("the Job is suspended as the flow says", async || {
                    let job: BatchJob = world.get("later-a").await?;
                    let suspend = job.spec.and_then(|spec| spec.suspend);
                    ensure!(suspend.unwrap_or_default() == expected, "{suspend:?}");
                    Ok(())
                })
                .await;
        };
        set(world, "later", "suspend", json!(true)).await;
        is_suspended(true).await;
        world
            .flow_says("later", "Reconciling", "True Suspended: ")
            .await;
        world.jobs_stay(&["later-a"]).await;
        set(world, "later", "suspend", json!(null)).await;
        is_suspended(false).await;
        world.let_job_run("later-a").await;
        world.flow_ends("later", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn not_more_steps_run_at_a_time_than_parallelism_says_in_the_order_of_the_spec() {
    story(async |world: &World| {
        Flow::of(
            "few",
            ["a", "b", "c", "d"].map(|name| Step::of(name).gated()),
        )
        .with("parallelism", json!(2))
        .apply(world)
        .await;
        world.jobs_are_named(&["few-a", "few-b"]).await;
        world.jobs_stay(&["few-a", "few-b"]).await;
        world.let_job_run("few-b").await;
        world
            .flow_stands("few", "a Running, b Succeeded, c Running, d Waiting")
            .await;
        set(world, "few", "parallelism", json!(3)).await;
        for name in ["few-d", "few-a", "few-c"] {
            world.let_job_run(name).await;
        }
        world.flow_ends("few", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn the_step_on_exit_runs_last_after_success_and_after_failure() {
    story(async |world: &World| {
        let steps = |first: Step| {
            [
                Step::of("bye").with("when", json!("steps.exists(s, steps[s].phase != '')")),
                first,
                Step::of("b").after(&["a"]),
            ]
        };
        let flow =
            |name: &str, first: Step| Flow::of(name, steps(first)).with("onExit", json!("bye"));
        flow("well", Step::of("a")).apply(world).await;
        flow("badly", Step::of("a").failing()).apply(world).await;
        let well = world.flow_ends("well", FlowState::Succeed).await;
        assert_eq!(phases(&well), "bye Succeeded, a Succeeded, b Succeeded");
        let badly = world.flow_ends("badly", FlowState::Failed).await;
        assert_eq!(phases(&badly), "bye Succeeded, a Failed, b Skipped");
        for name in ["well", "badly"] {
            let jobs = world.jobs_of_flow(name).await.expect("Jobs");
            let last = jobs
                .iter()
                .max_by_key(|job| job.metadata.creation_timestamp.clone())
                .map(kube::ResourceExt::name_any);
            assert_eq!(last, Some(format!("{name}-bye")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_flow_with_a_ttl_goes_with_its_jobs_after_it_finished() {
    story(async |world: &World| {
        let steps = [Step::of("a"), Step::of("b").gated()];
        Flow::of("short-lived", steps)
            .with("ttlSecondsAfterFinished", json!(1))
            .apply(world)
            .await;
        world
            .flow_stands("short-lived", "a Succeeded, b Running")
            .await;
        world.jobs_stay(&["short-lived-a", "short-lived-b"]).await;
        world.let_job_run("short-lived-b").await;
        world.gone::<JobFlow>("short-lived").await;
        world.jobs_are_named(&[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_step_waits_for_a_template_that_arrives_later_and_no_other_flow_does() {
    story(async |world: &World| {
        let steps = [Step::from_template("a", "absent"), Step::of("b")];
        Flow::of("early", steps).apply(world).await;
        let flow = world
            .flow_stands("early", "a Blocked, b Succeeded")
            .await;
        assert_eq!(
            step_said(&flow, "a"),
            "Blocked TemplateNotFound: JobTemplate \"absent\" does not exist in this namespace; the step starts when the JobTemplate is created"
        );
        world.jobs_are_named(&["early-b"]).await;
        Flow::of("other", [Step::of("a")]).apply(world).await;
        world.flow_ends("other", FlowState::Succeed).await;
        world.delete::<JobFlow>("other").await;
        world.jobs_are_named(&["early-b"]).await;
        let template = job_flow::template("absent");
        world.make::<JobTemplate>(template).await;
        world.flow_ends("early", FlowState::Succeed).await;
        world.jobs_are_named(&["early-a", "early-b"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_template_that_is_edited_or_deleted_midway_matters_to_later_steps_only() {
    story(async |world: &World| {
        let mut template = job_flow::template("shared");
        template["spec"]["jobTemplate"]["template"]["spec"]["schedulingGates"] =
            json!([{"name": operon_e2e::workload::GATE}]);
        world.make::<JobTemplate>(template).await;
        let steps = [
            Step::from_template("a", "shared"),
            Step::from_template("b", "shared").after(&["a"]),
            Step::from_template("c", "shared").after(&["b"]),
        ];
        Flow::of("used", steps).apply(world).await;
        world.job_appears("used-a").await;
        let edited = json!({"spec": {"jobTemplate": {"backoffLimit": 4}}});
        world.patch::<JobTemplate>("shared", edited).await;
        world.let_job_run("used-a").await;
        let limit = |job: &BatchJob| job.spec.as_ref().and_then(|spec| spec.backoff_limit);
        assert_eq!(limit(&world.job_appears("used-b").await), Some(4));
        let first = world.job_appears("used-a").await;
        assert_eq!((limit(&first), end(&first)), (Some(0), Some("Complete")));
        world.delete::<JobTemplate>("shared").await;
        world.let_job_run("used-b").await;
        let flow = world
            .flow_stands("used", "a Succeeded, b Succeeded, c Blocked")
            .await;
        let why = said(&flow, "Ready");
        assert!(why.contains(" TemplateNotFound: step \"c\": "), "{why}");
        world
            .make::<JobTemplate>(job_flow::template("shared"))
            .await;
        world.flow_ends("used", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn a_step_may_be_edited_until_it_starts_and_added_until_the_flow_is_finished() {
    story(async |world: &World| {
        let first = || Step::of("a").gated();
        let flow = |steps: Vec<Step>| Flow::of("edit", steps);
        flow(vec![first(), Step::of("b").after(&["a"])])
            .apply(world)
            .await;
        world.job_appears("edit-a").await;
        let second = Step::of("b").after(&["a"]).job("backoffLimit", json!(2));
        let edited = vec![
            first().job("backoffLimit", json!(2)),
            second,
            Step::of("c").after(&["b"]),
        ];
        flow(edited).apply(world).await;
        world.let_job_run("edit-a").await;
        let ended = world.flow_ends("edit", FlowState::Succeed).await;
        assert_eq!(phases(&ended), "a Succeeded, b Succeeded, c Succeeded");
        let limits = world.jobs_of_flow("edit").await.expect("Jobs");
        let limits: Vec<_> = limits
            .iter()
            .map(|job| job.spec.as_ref().and_then(|spec| spec.backoff_limit))
            .collect();
        assert_eq!(limits, [Some(0), Some(2), Some(0)]);
        let late = vec![Step::of("a"), Step::of("late")];
        flow(late).apply(world).await;
        let flow = world
            .flow_until("edit", "says that it is too late", |flow| {
                said(flow, "Ready").contains("edits have no effect: \"late\" will not run")
            })
            .await;
        assert_eq!(job_flow::status(&flow).state, Some(FlowState::Succeed));
        world.jobs_stay(&["edit-a", "edit-b", "edit-c"]).await;
    })
    .await;
}

#[tokio::test]
async fn steps_hand_files_on_in_a_shared_volume_and_the_scheduler_is_asked_for_the_node() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        // What is below /run goes with the node.
        let folder = format!("/run/{}", world.namespace);
        let volume =
            json!([{"name": "data", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]);
        let mounts = json!([{"name": "data", "mountPath": "/data"}]);
        let reader = json!([{
            "name": "first", "image": IMAGES[1], "command": ["grep", "-q", "written", "/data/file"]
        }]);
        Flow::of(
            "files",
            [
                Step::of("write")
                    .script("echo written > /data/file")
                    .with("shareVolumeMounts", mounts.clone()),
                Step::of("read")
                    .after(&["write"])
                    .script("grep -q written /data/file && rm -r /data/*")
                    .pod("initContainers", reader)
                    .with("shareVolumeMounts", mounts),
                Step::of("apart").script("test ! -e /data"),
            ],
        )
        .with("shareVolumes", volume)
        .with("globalParams", json!({"nodeName": world.a_node().await}))
        .apply(world)
        .await;
        world.flow_ends("files", FlowState::Succeed).await;
        for pod in world.list::<Pod>().await.expect("pods") {
            let by = pod.condition("PodScheduled").map(|c| c.status.clone());
            assert_eq!(by.as_deref(), Some("True"), "{}", pod.name_any());
        }
    })
    .await;
}

#[tokio::test]
async fn the_environment_of_the_flow_reaches_every_container_beside_its_own() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        let check = "test \"$FOO,$OWN,$BOTH\" = bar,mine,global";
        let own = json!([{"name": "OWN", "value": "mine"}, {"name": "BOTH", "value": "mine"}]);
        let init = json!([{
            "name": "first", "image": IMAGES[1], "command": ["sh", "-c", check], "env": own
        }]);
        let global = json!({
            "env": [{"name": "FOO", "value": "bar"}, {"name": "BOTH", "value": "global"}],
            "labels": {"key1": "value1"}
        });
        Flow::of(
            "env",
            [Step::of("one")
                .script(check)
                .container("env", own.clone())
                .pod("initContainers", init)],
        )
        .with("globalParams", global)
        .apply(world)
        .await;
        world.flow_ends("env", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_a_queue_holds_is_neither_resumed_nor_late() {
    story(async |world: &World| {
        let steps = [
            Step::of("train").gated(),
            Step::of("report").after(&["train"]),
        ];
        Flow::of("queued", steps).apply(world).await;
        world.job_appears("queued-train").await;
        let suspend = |value: bool| json!({"spec": {"suspend": value}});
        world
            .patch::<BatchJob>("queued-train", suspend(true))
            .await;
        // Before that, the gate of the pod may be the reason.
        let why = "Running JobSuspended: Job \"queued-train\" is suspended by another controller or by a user";
        world
            .flow_until("queued", "the step names the suspension", |flow| {
                step_said(flow, "train") == why
            })
            .await;
        world
            .flow_says("queued", "Reconciling", "True JobSuspended: ")
            .await;
        set(world, "queued", "ttlSecondsAfterFinished", json!(900)).await;
        world.jobs_stay(&["queued-train"]).await;
        let job: BatchJob = world.get("queued-train").await.expect("a Job");
        assert_eq!(job.spec.and_then(|spec| spec.suspend), Some(true));
        world
            .patch::<BatchJob>("queued-train", suspend(false))
            .await;
        world.let_job_run("queued-train").await;
        world.flow_ends("queued", FlowState::Succeed).await;
    })
    .await;
}
