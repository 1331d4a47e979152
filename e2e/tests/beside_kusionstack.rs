//! A cluster with KusionStack: Operon stands down while KusionStack's controllers run, and takes over when they
//! go.
//!
//! These stories run hosts of their own, so they run alone, after most others.

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use operon_api::{CollaSet, conditions::find};
use operon_e2e::{
    colla_set::{colla_set, status},
    host::{Host, alone},
    prelude::*,
    workload::pod_spec,
};

const WEBHOOK: &str = "kusionstack-controller-manager-mutating";

const STANDING_DOWN: &str = "StandingDown";

fn webhooks(world: &World) -> Api<MutatingWebhookConfiguration> {
    Api::all(world.client.clone())
}

/// KusionStack is installed; its webhook has no rule, so nobody calls it.
async fn install(world: &World) {
    let configuration = serde_json::from_value(json!({"metadata": {"name": WEBHOOK}}));
    let configuration = configuration.expect("a MutatingWebhookConfiguration");
    // A story that failed may have left it.
    let _ = webhooks(world)
        .delete(WEBHOOK, &DeleteParams::default())
        .await;
    let created = webhooks(world)
        .create(&PostParams::default(), &configuration)
        .await;
    created.expect("the configuration of the webhook");
}

async fn uninstall(world: &World) {
    let deleted = webhooks(world)
        .delete(WEBHOOK, &DeleteParams::default())
        .await;
    deleted.expect("the configuration of the webhook");
}

/// The value of the metric for this controller.
fn metric(host: &Host, controller: &str) -> Result<String> {
    let text = host.metrics()?;
    let name = format!("operon_controller_standing_down{{controller=\"{controller}\"}} ");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&name));
    value.map(str::to_owned).context("no such metric")
}

#[tokio::test]
async fn while_kusionstacks_webhook_is_configured_operon_says_so_and_writes_nothing_else() {
    alone(async |world: &World| {
        install(world).await;
        let deployment = Deployment::of("other", 1).up(world).await;
        let host = Host::start(world, "beside");
        host.leads(world).await;
        world
            .make::<CollaSet>(colla_set("shop", 2, &pod_spec()))
            .await;
        world
            .create(&Job::replace("opj", &names(&deployment)).object())
            .await;
        world
            .eventually("the condition of the CollaSet", async || {
                let status = status(&world.get::<CollaSet>("shop").await?);
                let condition = find(&status.conditions, STANDING_DOWN).context("none")?;
                ensure!(condition.message.contains(WEBHOOK), "{condition:?}");
                Ok(())
            })
            .await;
        let job = world
            .job_until("opj", "has the condition", |job| {
                find(&job::status(job).conditions, STANDING_DOWN).is_some()
            })
            .await;
        assert_eq!(job::status(&job).progress, None);
        for controller in ["collaset", "podopslifecycle", "operationjob"] {
            let value = metric(&host, controller).expect("the metric");
            assert_eq!(value, "1", "{controller}");
        }
        let version = async || -> Result<Option<String>> {
            Ok(world.get::<CollaSet>("shop").await?.resource_version())
        };
        let before = version().await.expect("a version");
        world
            .for_a_while("no pods, and no other write", async || {
                ensure!(world.pods("shop").await?.is_empty());
                ensure!(version().await? == before);
                ensure!(world.job("opj").await?.resource_version() == job.resource_version());
                Ok(())
            })
            .await;
        uninstall(world).await;
        world.colla_set_serves("shop", 2).await;
        let done = world.finished("opj").await;
        let status_of_job = job::status(&done);
        assert_eq!(status_of_job.progress, Some(Progress::Succeeded));
        assert!(find(&status_of_job.conditions, STANDING_DOWN).is_none());
        let status = status(&world.get::<CollaSet>("shop").await.expect("it"));
        assert!(find(&status.conditions, STANDING_DOWN).is_none());
        assert_eq!(metric(&host, "collaset").expect("the metric"), "0");
        host.kill().await;
    })
    .await;
}
