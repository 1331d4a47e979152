//! An admission webhook cannot be reached for a while: whatever makes Jobs says so, and goes on by itself
//! when the webhook is back.

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, batch::v1::Job as BatchJob,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use operon_api::{
    DaemonJob, JobFlow, ReactiveJob,
    conditions::{STALLED, find},
    daemon_job::FlowState as DaemonState,
    job_flow::FlowState,
    reactive_job::State,
};
use operon_e2e::{
    daemon_job::Daemon,
    job_flow::{Flow, Step},
    prelude::*,
    reactive_job::Reactive,
};

/// A webhook for the Jobs of the story's namespace whose Service has no endpoints.
fn outage(world: &World) -> ValidatingWebhookConfiguration {
    let namespace = &world.namespace;
    let webhook = json!({
        "metadata": {"name": namespace},
        "webhooks": [{
            "name": "jobs.e2e.operon.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 1,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{
                "apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["jobs"],
            }],
            "clientConfig": {"service": {"namespace": namespace, "name": "absent"}},
        }],
    });
    serde_json::from_value(webhook).expect("a ValidatingWebhookConfiguration")
}

#[tokio::test]
async fn jobs_are_made_by_themselves_when_a_webhook_is_back() {
    story(async |world: &World| {
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
        let made = webhooks
            .create(&PostParams::default(), &outage(world))
            .await;
        made.expect("a webhook");
        Reactive::of("reactive").apply(world).await;
        Flow::of("flow", [Step::of("a")]).apply(world).await;
        Daemon::of(world, "daemon")
            .with("nodes", json!({}))
            .apply(world)
            .await;
        world
            .eventually("each says what the API server refuses", async || {
                let reactive: ReactiveJob = world.get("reactive").await?;
                let flow: JobFlow = world.get("flow").await?;
                let daemon: DaemonJob = world.get("daemon").await?;
                for conditions in [
                    reactive.status.map(|status| status.conditions),
                    flow.status.map(|status| status.conditions),
                    daemon.status.map(|status| status.conditions),
                ] {
                    let conditions = conditions.unwrap_or_default();
                    let stalled = find(&conditions, STALLED).context("not stalled")?;
                    ensure!(
                        stalled.message.contains("failed calling webhook"),
                        "{stalled:?}"
                    );
                }
                Ok(())
            })
            .await;
        let jobs: Vec<BatchJob> = world.list().await.expect("Jobs");
        assert_eq!(jobs.len(), 0);

        let delete = DeleteParams::default();
        webhooks
            .delete(&world.namespace, &delete)
            .await
            .expect("it is deleted");
        world.comes_to("reactive", State::Ready).await;
        world.flow_ends("flow", FlowState::Succeed).await;
        let daemon = world.daemon_comes_to("daemon", DaemonState::Succeed).await;
        let conditions = daemon.status.expect("a status").conditions;
        assert!(find(&conditions, STALLED).is_none(), "{conditions:?}");
    })
    .await;
}
