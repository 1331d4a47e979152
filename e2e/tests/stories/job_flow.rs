//! What the two READMEs of job-deploy-operator promise of a JobFlow, with their own manifests.
//!
//! They are applied as they are. To run to their end here they need what the nodes lack: the image is
//! another, `nodeName` is that of a node of this cluster, and the containers sleep for seconds.

use k8s_openapi::api::batch::v1::Job as BatchJob;
use operon_api::{
    JobFlow, JobTemplate,
    job_flow::{FlowState, Phase},
};
use operon_e2e::{
    environment,
    job_flow::{self, Flow, IMAGES, Step, assert_in_order, env, phases, said, step, step_said},
    kubectl::{operon, rows},
    prelude::*,
    reactive_job::end,
    world,
};

/// The manifests of the English and of the Chinese README.
const READMES: [&str; 2] = [
    include_str!("../../../host/core/src/job_flow/tests/jobflow-en.yaml"),
    include_str!("../../../host/core/src/job_flow/tests/jobflow-zh.yaml"),
];

const EXAMPLE: &str = include_str!("../../../examples/jobflow/example.yaml");
const FAILURE: &str = include_str!("../../../examples/jobflow/failure.yaml");
const OPTIONS: &str = include_str!("../../../examples/jobflow/options.yaml");

/// A manifest with an image that the nodes have, the name of one of them, and less sleep.
async fn adapted(world: &World, manifest: &str) -> String {
    let node = world.a_node().await;
    manifest
        .replace(IMAGES[0], IMAGES[1])
        .replace("minikube", &node)
        .replace("sleep 100s", "sleep 2s")
        .replace("sleep 10s", "sleep 1s")
}

/// The manifest of the flow that fails, such that its step fails on simulated nodes too.
async fn failing(world: &World) -> String {
    let manifest = adapted(world, FAILURE).await;
    let (before, step) = manifest
        .split_once("- name: job2-error-container")
        .expect("the step that fails");
    let label = "template:\n          metadata: {labels: {operon.dev/devcluster-fail: \"true\"}}\n";
    let step = step.replacen("template:\n", label, 1);
    format!("{before}- name: job2-error-container{step}")
}

async fn apply(world: &World, manifest: &str) -> String {
    let applied = world.kubectl_apply(manifest).await;
    assert!(applied.status.success(), "{applied:?}");
    String::from_utf8_lossy(&applied.stdout).into_owned()
}

/// Waits as a user does.
async fn wait_for(world: &World, condition: &str, name: &str) -> JobFlow {
    let (condition, object) = (
        format!("--for=condition={condition}"),
        format!("jobflow/{name}"),
    );
    world
        .kubectl_says(&["wait", &condition, &object, "--timeout=90s"])
        .await;
    world.flow(name).await.expect("the flow")
}

/// The rows of `kubectl get jobflows.api.practice.com`, without the age.
async fn table(world: &World) -> Vec<Vec<String>> {
    let table = world
        .kubectl_says(&["get", "jobflows.api.practice.com"])
        .await;
    let rows = rows(&table).into_iter();
    rows.map(|row| row.into_iter().take(3).map(str::to_owned).collect())
        .collect()
}

/// Asserts that a Job and its pods have the labels, annotations and environment of the READMEs.
fn assert_has_global_parameters(job: &BatchJob) {
    let name = job.name_any();
    let pod = &job.spec.as_ref().expect("a spec").template;
    let pod_metadata = pod.metadata.as_ref().expect("its metadata");
    for metadata in [&job.metadata, pod_metadata] {
        for pairs in [&metadata.labels, &metadata.annotations] {
            let pairs = pairs.as_ref().expect("some");
            assert_eq!(
                (&*pairs["key1"], &*pairs["key2"]),
                ("value1", "value2"),
                "{name}"
            );
        }
    }
    let values = [env(job, "FOO"), env(job, "QUE")];
    assert_eq!(
        values.map(Option::unwrap_or_default),
        ["bar", "pasa"],
        "{name}"
    );
    let restart = pod.spec.as_ref().and_then(|pod| pod.restart_policy.clone());
    assert_eq!(restart.as_deref(), Some("Never"), "{name}");
}

#[tokio::test]
async fn both_readmes_manifests_are_taken_as_they_are() {
    story(async |world: &World| {
        for readme in READMES {
            let answer = apply(world, readme).await;
            let created = "jobflow.api.practice.com/jobflow-example created";
            assert!(answer.contains(created), "{answer}");
            // No node is called minikube here, so what starts first waits for one.
            let flow = world
                .flow_stands(
                    "jobflow-example",
                    "job1 Running, job2 Waiting, job3 Waiting, job4 Running, job5 Waiting",
                )
                .await;
            assert_eq!(job_flow::status(&flow).state, Some(FlowState::Running));
            for name in ["jobflow-example-job1", "jobflow-example-job4"] {
                let job = world.job_appears(name).await;
                assert_has_global_parameters(&job);
                let pod = world.pod_of(&job).await;
                let containers = pod.spec.map(|spec| spec.containers).unwrap_or_default();
                assert_eq!(containers[0].image.as_deref(), Some(IMAGES[0]));
            }
            // So its Jobs are gone, and their names free, when the command returns.
            world
                .kubectl_says(&["delete", "--cascade=foreground", "jobflow/jobflow-example"])
                .await;
            let left = world.job_names().await.expect("Jobs");
            let is_its = |name: &String| name.starts_with("jobflow-example-job");
            assert!(!left.iter().any(is_its), "{left:?}");
        }
        let names = ["job1-template", "job2-template"];
        for name in names {
            world.get::<JobTemplate>(name).await.expect("it is there");
        }
    })
    .await;
}

#[tokio::test]
async fn the_readmes_flow_runs_in_the_order_of_its_dependencies_and_takes_its_jobs_with_it() {
    story(async |world: &World| {
        apply(world, &adapted(world, READMES[0]).await).await;
        let flow = wait_for(world, "Ready", "jobflow-example").await;
        assert_eq!(
            table(world).await,
            [
                ["NAME", "STATUS", "STEPS"],
                ["jobflow-example", "Succeed", "5/5"]
            ]
        );
        let names: Vec<_> = (1..=5)
            .map(|number| format!("jobflow-example-job{number}"))
            .collect();
        assert_eq!(world.job_names().await.expect("Jobs"), names);
        let jobs = world.jobs_of_flow("jobflow-example").await.expect("Jobs");
        assert_in_order(&flow, &jobs);
        jobs.iter().for_each(assert_has_global_parameters);
        let node = flow
            .spec
            .global_params
            .as_ref()
            .and_then(|p| p.node_name.clone());
        let nodes = world.nodes_by_job().await.expect("pods");
        assert_eq!(nodes.len(), 5);
        assert!(
            nodes.values().all(|found| Some(found) == node.as_ref()),
            "{nodes:?}"
        );
        let list = job_flow::status(&flow).job_status_list;
        let keys: Vec<_> = names
            .iter()
            .map(|name| format!("{name}/{}", world.namespace))
            .collect();
        assert!(list.keys().eq(&keys), "{list:?}");
        assert_eq!(list[&keys[0]]["succeeded"], json!(1));
        world
            .eventually("Events tell of it", async || {
                let reasons = world.event_reasons("jobflow-example").await?;
                let count = |wanted: &str| reasons.iter().filter(|r| *r == wanted).count();
                let counts = (count("Created"), count("Succeed"));
                ensure!(counts == (5, 1), "{reasons:?}");
                Ok(())
            })
            .await;
        world
            .kubectl_says(&["delete", "jobflow", "jobflow-example"])
            .await;
        world.jobs_are_named(&[]).await;
    })
    .await;
}

#[tokio::test]
async fn the_readmes_failing_flow_ends_failed_after_what_does_not_depend_on_the_failure() {
    story(async |world: &World| {
        apply(world, &failing(world).await).await;
        let name = "jobflow-example-error";
        let flow = wait_for(world, "Stalled", name).await;
        assert_eq!(
            table(world).await[1..],
            [["jobflow-example-error", "Failed", "2/4"]]
        );
        assert_eq!(
            phases(&flow),
            "job1 Succeeded, job2-error-container Failed, job3 Skipped, job4 Succeeded"
        );
        let jobs = world.job_names().await.expect("Jobs");
        assert_eq!(
            jobs,
            [
                "jobflow-example-error-job1",
                "jobflow-example-error-job2-error-container",
                "jobflow-example-error-job4"
            ]
        );
        let why = said(&flow, "Stalled");
        assert!(
            why.starts_with("True StepFailed: step \"job2-error-container\" failed: BackoffLimit")
                && why.contains("operon.dev/retry"),
            "{why}"
        );
        if environment::has_containers() {
            assert!(why.contains("exited with 1"), "{why}");
        }
        let skipped = step_said(&flow, "job3");
        assert!(skipped.starts_with("Skipped "), "{skipped}");
        let (code, picture, error) = operon(world, &["graph", "jobflow", name]).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
        let title = format!("JobFlow {}/{name}: Failed · 2/4 · ", world.namespace);
        assert!(picture.starts_with(&title), "{picture}");
        let is_failed = |line: &&str| line.contains("✗") && line.contains("job2-error-container");
        let failed = picture.lines().find(is_failed).unwrap_or_default();
        assert!(failed.ends_with("← job1"), "{picture}");
        world.flow_is_left_alone(&flow).await;
    })
    .await;
}

#[tokio::test]
async fn the_readmes_templates_make_the_jobs_of_several_flows() {
    story(async |world: &World| {
        let manifest = adapted(world, EXAMPLE).await;
        let from = manifest.find("---").expect("several objects");
        let (templates, other) = (
            &manifest[from..],
            manifest.replace("-example-template", "-two"),
        );
        let other = &other[other.rfind("---").expect("several objects")..];
        apply(world, &format!("{templates}{other}")).await;
        for name in ["jobflow-example-template", "jobflow-two"] {
            let flow = wait_for(world, "Ready", name).await;
            let jobs = world.jobs_of_flow(name).await.expect("Jobs");
            assert_in_order(&flow, &jobs);
            for (job, template) in jobs.iter().zip(["job1-template", "job2-template"]) {
                let from = job.annotations().get("createByJobTemplate");
                let wanted = format!("{}.{template}", world.namespace);
                assert_eq!(from, Some(&wanted));
                assert_has_global_parameters(job);
            }
        }
        world
            .eventually("the templates name their Jobs", async || {
                let template: JobTemplate = world.get("job1-template").await?;
                let list = template.status.unwrap_or_default().dependency_list;
                let wanted = ["jobflow-example-template-job1", "jobflow-two-job1"];
                ensure!(list == wanted, "{list:?}");
                Ok(())
            })
            .await;
        let table = world.kubectl_says(&["get", "jobtemplates"]).await;
        let rows = rows(&table);
        assert_eq!(rows[0], ["NAME", "JOBS", "AGE"]);
        assert_eq!(rows[1][..2], ["job1-template", "2"]);
    })
    .await;
}

#[tokio::test]
async fn a_step_of_several_pods_is_done_when_its_job_is_and_a_vanished_job_does_not_run_again() {
    story(async |world: &World| {
        Flow::of(
            "many",
            [
                Step::of("three").job("completions", json!(3)),
                Step::of("then")
                    .after(&["three"])
                    .job("ttlSecondsAfterFinished", json!(0)),
                Step::of("last").after(&["then"]).gated(),
            ],
        )
        .apply(world)
        .await;
        world.job_appears("many-last").await;
        let three: BatchJob = world.get("many-three").await.expect("the Job");
        assert_eq!(end(&three), Some("Complete"));
        world.gone::<BatchJob>("many-then").await;
        world.delete::<BatchJob>("many-three").await;
        world.gone::<BatchJob>("many-three").await;
        world.let_job_run("many-last").await;
        let flow = world.flow_ends("many", FlowState::Succeed).await;
        assert_eq!(step(&flow, "three").attempts, Some(1));
        assert_eq!(step(&flow, "then").phase, Phase::Succeeded);
        world.jobs_stay(&["many-last"]).await;
    })
    .await;
}

#[tokio::test]
async fn flows_of_one_name_in_two_namespaces_have_nothing_to_do_with_each_other() {
    story(async |world: &World| {
        world::story_named("the-other-namespace", async |other: &World| {
            let steps = |first: Step| [first, Step::of("b").after(&["a"])];
            Flow::of("same", steps(Step::of("a"))).apply(world).await;
            Flow::of("same", steps(Step::of("a").gated()))
                .apply(other)
                .await;
            world.flow_ends("same", FlowState::Succeed).await;
            let flow = other.flow_stands("same", "a Running, b Waiting").await;
            assert_eq!(
                job_flow::status(&flow).progress.as_deref(),
                Some("0/2"),
                "{flow:?}"
            );
            other.jobs_are_named(&["same-a"]).await;
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_example_with_every_option_runs() {
    if !environment::has_containers() {
        return;
    }
    story(async |world: &World| {
        apply(world, &adapted(world, OPTIONS).await).await;
        let flow = wait_for(world, "Ready", "release").await;
        assert_eq!(
            phases(&flow),
            "build Succeeded, check Succeeded, deploy Succeeded, rollback Skipped, report Succeeded"
        );
        let log = world.kubectl_says(&["logs", "job/release-deploy"]).await;
        assert_eq!(log.trim(), "deploying shop 1.2 to staging");
        let jobs = world.jobs_of_flow("release").await.expect("Jobs");
        let last = jobs.last().map(kube::ResourceExt::name_any);
        assert_eq!(last.as_deref(), Some("release-report"));
    })
    .await;
}
