//! JobFlows that make no sense, and Jobs that are in the way, gone, or can't be made: the flow says so in
//! words that help, and goes on as soon as it can.

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{
    JobFlow,
    job_flow::{FlowState, Phase},
    keys,
};
use operon_e2e::{
    job_flow::{self, Flow, Step, attempt, job_spec, phases, said, step, step_said},
    prelude::*,
    reactive_job::Made,
};

#[tokio::test]
async fn flows_whose_jobs_would_have_the_same_name_have_a_job_each() {
    story(async |world: &World| {
        Flow::of("a", [Step::of("b-c")]).apply(world).await;
        Flow::of("a-b", [Step::of("c")]).apply(world).await;
        let one = world.flow_ends("a", FlowState::Succeed).await;
        let other = world.flow_ends("a-b", FlowState::Succeed).await;
        let mut jobs = [step(&one, "b-c"), step(&other, "c")].map(|s| s.job_name.expect("a Job"));
        jobs.sort();
        assert_eq!(jobs[0], "a-b-c");
        assert!(
            jobs[1].starts_with("a-b-c-") && jobs[1].len() == "a-b-c-x7r3s".len(),
            "{jobs:?}"
        );
        world.jobs_are_named(&[&jobs[0], &jobs[1]]).await;
        for flow in ["a", "a-b"] {
            assert_eq!(world.jobs_of_flow(flow).await.expect("Jobs").len(), 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_name_that_is_too_long_is_cut_and_a_second_attempt_is_no_step_of_that_name() {
    story(async |world: &World| {
        let flow = "f".repeat(40);
        let (one, two) = (
            format!("{}-one", "s".repeat(40)),
            format!("{}-two", "s".repeat(40)),
        );
        Flow::of(&flow, [Step::of(&one), Step::of(&two)])
            .apply(world)
            .await;
        let ended = world.flow_ends(&flow, FlowState::Succeed).await;
        let names = [&one, &two].map(|name| step(&ended, name).job_name.expect("a Job"));
        assert_ne!(names[0], names[1]);
        for name in &names {
            assert!(name.len() <= 63 && name.starts_with(&flow), "{name}");
        }
        let steps = [
            Step::of("try")
                .failing()
                .with("retry", json!({"limit": 1, "backoffSeconds": 1})),
            Step::of("try-2"),
        ];
        Flow::of("twice", steps).apply(world).await;
        let ended = world.flow_ends("twice", FlowState::Failed).await;
        assert_eq!(phases(&ended), "try Failed, try-2 Succeeded");
        let jobs = world.jobs_of_flow("twice").await.expect("Jobs");
        let mut made: Vec<_> = jobs
            .iter()
            .map(|job| (job.labels()[keys::STEP].as_str(), attempt(job)))
            .collect();
        made.sort_unstable();
        assert_eq!(made, [("try", "1"), ("try", "2"), ("try-2", "1")]);
    })
    .await;
}

#[tokio::test]
async fn somebody_elses_job_of_the_name_is_left_alone() {
    story(async |world: &World| {
        let mut spec = job_spec();
        spec["template"]["spec"]["restartPolicy"] = json!("Never");
        spec["suspend"] = json!(true);
        let theirs = json!({"metadata": {"name": "flow-a"}, "spec": spec});
        let before: BatchJob = world.make(theirs).await;
        Flow::of("flow", [Step::of("a")]).apply(world).await;
        let ended = world.flow_ends("flow", FlowState::Succeed).await;
        let own = step(&ended, "a").job_name.expect("a Job");
        assert!(own.starts_with("flow-a-"), "{own}");
        world.delete::<JobFlow>("flow").await;
        world.gone::<BatchJob>(&own).await;
        let after: BatchJob = world.get("flow-a").await.expect("it is still there");
        assert_eq!(after.uid(), before.uid());
        assert_eq!(after.labels(), before.labels());
        assert!(after.owner_references().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_flow_that_is_deleted_and_applied_again_at_once_has_jobs_of_the_same_names() {
    story(async |world: &World| {
        let flow = Flow::of(
            "again",
            [Step::of("a"), Step::of("b").after(&["a"]).gated()],
        );
        flow.apply(world).await;
        let wanted = "a Succeeded, b Running";
        let former = world.flow_stands("again", wanted).await;
        world.delete::<JobFlow>("again").await;
        flow.apply(world).await;
        let now = world.flow_stands("again", wanted).await;
        assert_ne!(now.uid(), former.uid());
        world.jobs_are_named(&["again-a", "again-b"]).await;
        world.let_job_run("again-b").await;
        world.flow_ends("again", FlowState::Succeed).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_is_deleted_by_hand_while_it_runs_is_made_again_and_a_finished_one_is_not() {
    story(async |world: &World| {
        let made = Made::watch(world);
        let steps = [
            Step::of("done"),
            Step::of("run").after(&["done"]).gated(),
            Step::of("then").after(&["run"]),
        ];
        Flow::of("hand", steps).apply(world).await;
        world
            .flow_stands("hand", "done Succeeded, run Running, then Waiting")
            .await;
        world.delete::<BatchJob>("hand-done").await;
        world.delete::<BatchJob>("hand-run").await;
        let second = world.job_appears("hand-run-2").await;
        assert_eq!(attempt(&second), "2");
        world.let_job_run("hand-run-2").await;
        let flow = world.flow_ends("hand", FlowState::Succeed).await;
        assert_eq!(step(&flow, "run").attempts, Some(2));
        assert_eq!(step(&flow, "done").phase, Phase::Succeeded);
        assert_eq!(made.all().len(), 4, "done, run twice, then");
        world.jobs_are_named(&["hand-run-2", "hand-then"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_cycle_among_many_steps_is_shown_and_nothing_starts_until_it_is_mended() {
    story(async |world: &World| {
        let name = |number: usize| format!("s{number:03}");
        let steps = |mended: bool| {
            (0..200).map(move |number| {
                let (own, before) = (name(number), name(number.saturating_sub(1)));
                // Each after the one before, and the first of three in the middle after the last.
                let mut dependencies = vec![before.as_str()];
                let last = name(102);
                if number == 0 {
                    dependencies.clear();
                }
                if number == 100 && !mended {
                    dependencies.push(&last);
                }
                Step::of(&own).after(&dependencies).gated()
            })
        };
        Flow::of("ring", steps(false)).apply(world).await;
        let flow = world
            .flow_says("ring", "Stalled", "True InvalidFlow: ")
            .await;
        let why = said(&flow, "Stalled");
        let path = why
            .strip_prefix("True InvalidFlow: these steps wait for each other: ")
            .expect("the path");
        let mut path: Vec<_> = path.split(" → ").collect();
        assert_eq!(path.first(), path.last());
        path.pop();
        path.sort_unstable();
        assert_eq!(path, ["s100", "s101", "s102"]);
        let status = job_flow::status(&flow);
        assert_eq!(status.state, Some(FlowState::Pending));
        world.jobs_are_named(&[]).await;
        world.flow_is_left_alone(&flow).await;
        Flow::of("ring", steps(true)).apply(world).await;
        let flow = world
            .flow_until("ring", "starts", |flow| {
                step(flow, "s000").phase == Phase::Running
            })
            .await;
        assert_eq!(said(&flow, "Stalled"), "");
        world.jobs_are_named(&["ring-s000"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_flow_that_makes_no_sense_starts_nothing_and_says_what_to_mend() {
    story(async |world: &World| {
        let (a, b) = (|| Step::of("build"), |name: &str| Step::of(name).after(&["build"]));
        let input = |output: &str| json!([{"env": "E", "step": "build", "output": output}]);
        let table = [
            (
                Flow::of("syntax", [a(), b("deploy").with("when", json!("steps.build.phase =="))]),
                "the when of step \"deploy\" can't be evaluated: ",
            ),
            (
                Flow::of("apart", [a(), Step::of("x").with("when", json!("steps.build.phase == ''"))]),
                "the when of step \"x\" refers to step \"build\", which the step does not depend on",
            ),
            (
                Flow::of("undeclared", [a(), b("deploy").with("inputs", input("version"))]),
                "input \"E\" of step \"deploy\" is the output \"version\" of step \"build\", which does not declare it",
            ),
            (
                Flow::of("exit", [a()]).with("onExit", json!("biuld")),
                "onExit names \"biuld\", which is not a step of this flow; did you mean \"build\"?",
            ),
        ];
        for (flow, _) in &table {
            flow.apply(world).await;
        }
        for (flow, fault) in &table {
            let name = flow.name();
            let found = world
                .flow_says(name, "Stalled", "True InvalidFlow: ")
                .await;
            let why = said(&found, "Stalled");
            assert!(why.contains(fault), "{name}: {why}");
            world
                .eventually("an Event says so", async || {
                    let reasons = world.event_reasons(name).await?;
                    ensure!(reasons == ["InvalidFlow"], "{name}: {reasons:?}");
                    Ok(())
                })
                .await;
        }
        world.jobs_are_named(&[]).await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_dependency_blocks_its_step_and_the_others_run() {
    story(async |world: &World| {
        let steps = [Step::of("build"), Step::of("deploy").after(&["buidl"])];
        Flow::of("unknown", steps).apply(world).await;
        let flow = world
            .flow_says("unknown", "Stalled", "True UnknownDependency: ")
            .await;
        let why = said(&flow, "Stalled");
        assert!(
            why.contains(
                "step \"deploy\": it depends on \"buidl\", which is not a step of this flow; did you mean \"build\"?"
            ),
            "{why}"
        );
        world.jobs_are_named(&["unknown-build"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_step_of_which_no_job_can_be_made_says_why_and_is_made_when_it_can() {
    story(async |world: &World| {
        let mounts = |name: &str| json!([{"name": name, "mountPath": "/data"}]);
        let volumes = json!([{"name": "data", "emptyDir": {}}]);
        let blocked = [
            Step::of("no-volume").with("shareVolumeMounts", mounts("datta")),
            Step::of("taken")
                .pod("volumes", volumes.clone())
                .with("shareVolumeMounts", mounts("data")),
            Step::of("invalid").container("volumeMounts", mounts("nowhere")),
            Step::of("fine"),
        ];
        Flow::of("odd", blocked)
            .with("shareVolumes", volumes.clone())
            .apply(world)
            .await;
        let flow = world
            .flow_stands(
                "odd",
                "no-volume Blocked, taken Blocked, invalid Blocked, fine Succeeded",
            )
            .await;
        let table = [
            ("no-volume", "Blocked UnknownVolume: shareVolumeMounts mounts \"datta\", which is neither in shareVolumes nor in the pod template"),
            ("taken", "Blocked VolumeNameTaken: shareVolumes and the pod template both have a volume \"data\": rename one of them"),
            ("invalid", "Blocked Invalid: "),
        ];
        for (name, wanted) in table {
            let why = step_said(&flow, name);
            assert!(why.starts_with(wanted), "{why}");
        }
        let why = step_said(&flow, "invalid");
        assert!(why.contains("volumeMounts[0].name") && why.contains("Not found"), "{why}");
        assert!(said(&flow, "Stalled").starts_with("True UnknownVolume: step \"no-volume\": "));
        let mended = ["no-volume", "taken", "invalid", "fine"].map(|name| {
            Step::of(name).with("shareVolumeMounts", mounts("data"))
        });
        Flow::of("odd", mended)
            .with("shareVolumes", volumes)
            .apply(world)
            .await;
        let flow = world.flow_ends("odd", FlowState::Succeed).await;
        assert_eq!(said(&flow, "Stalled"), "");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_the_quota_forbids_is_made_as_soon_as_it_may() {
    story(async |world: &World| {
        world.set_quota_of("count/jobs.batch", 0).await;
        Flow::of("crowd", [Step::of("a")]).apply(world).await;
        let flow = world.flow_stands("crowd", "a Blocked").await;
        let why = step_said(&flow, "a");
        assert!(
            why.starts_with("Blocked Forbidden: ") && why.contains("exceeded quota"),
            "{why}"
        );
        world.flow_is_left_alone(&flow).await;
        world.lift_quota().await;
        world.flow_ends("crowd", FlowState::Succeed).await;
    })
    .await;
}
