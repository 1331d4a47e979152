//! What the tools that deploy objects see: kubectl wait, kstatus, the health script of Argo CD, and Helm.

mod helm;
mod states;

use k8s_openapi::api::core::v1::ConfigMap;
use operon_e2e::{kubectl::rows, prelude::*};

use self::states::{Verdict, verdicts};

#[tokio::test]
async fn kstatus_and_argo_cd_judge_every_state_of_every_kind_as_it_is() {
    story(async |world: &World| {
        let expected = states::create(world).await;
        world
            .eventually("each object has its verdict", async || {
                let found = verdicts(world).await?;
                let wrong: Vec<_> = expected
                    .iter()
                    .map(|wanted| (wanted, found.iter().find(|one| one.object == wanted.object)))
                    .filter(|(wanted, found)| *found != Some(*wanted))
                    .collect();
                ensure!(wrong.is_empty(), "wanted and found: {wrong:#?}");
                Ok(())
            })
            .await;
        states::let_go(world).await;
    })
    .await;
}

#[tokio::test]
async fn kubectl_waits_for_objects_that_finish_and_lists_all_of_a_namespace() {
    story(async |world: &World| {
        world.add_nodes(["a"]).await;
        states::finished(world).await;
        for kind in ["opj", "jobflow", "daemonjob"] {
            for (condition, name) in [("Complete", "succeeded"), ("Failed", "failed")] {
                let condition = format!("--for=condition={condition}");
                let object = format!("{kind}/{name}");
                let said = world
                    .kubectl_says(&["wait", &condition, &object, "--timeout=2m"])
                    .await;
                assert!(said.contains("condition met"), "{said}");
            }
        }
        let listed = world.kubectl_says(&["get", "operon", "-o", "name"]).await;
        for object in [
            "operationjob.apps.kusionstack.io/succeeded",
            "jobflow.api.practice.com/failed",
            "daemonjob.api.practice.com/succeeded",
        ] {
            assert!(listed.lines().any(|line| line == object), "{listed}");
        }
        let wide = world.kubectl_says(&["get", "opj", "-o", "wide"]).await;
        let table = rows(&wide);
        assert_eq!(table[0].last(), Some(&"MESSAGE"), "{wide}");
        assert!(wide.contains("1 of 1 targets succeeded"), "{wide}");
    })
    .await;
}

#[tokio::test]
async fn the_health_script_is_added_to_what_argo_cd_is_configured_with() {
    story(async |world: &World| {
        let own = json!({
            "metadata": {"name": "argocd-cm", "labels": {"app.kubernetes.io/part-of": "argocd"}},
            "data": {"url": "https://argocd.example.com"},
        });
        world.make::<ConfigMap>(own).await;
        let script = states::health_script();
        let key = "resource.customizations.health.apps.kusionstack.io_OperationJob";
        let file = format!("--from-file={key}={}", script.display());
        let make = [
            "create",
            "configmap",
            "argocd-cm",
            "--dry-run=client",
            "-o",
            "yaml",
        ];
        let manifest = world.kubectl_says(&[&make[..], &[&*file]].concat()).await;
        let path = std::env::temp_dir().join(world.named("argocd-cm.yaml"));
        std::fs::write(&path, manifest).expect("a file of our own");
        let path = path.to_string_lossy();
        let apply = [
            "apply",
            "--server-side",
            "--field-manager=operon-health",
            "-f",
            &path,
        ];
        world.kubectl_says(&apply).await;
        let merged: ConfigMap = world.get("argocd-cm").await.expect("the ConfigMap");
        assert_eq!(merged.labels().len(), 1);
        let data = merged.data.expect("data");
        assert_eq!(data["url"], "https://argocd.example.com");
        let text = std::fs::read_to_string(script).expect("the script");
        assert_eq!(data[key], text);
    })
    .await;
}

#[tokio::test]
async fn helm_waits_until_all_objects_of_a_chart_have_succeeded() {
    story(async |world: &World| {
        let pod = helm::prepare(world).await;
        let installed = helm::install(world, "web", &[&pod], "2m").await;
        assert!(installed.is_ok(), "{installed:?}");
        for verdict in verdicts(world).await.expect("verdicts") {
            let Verdict {
                object, kstatus, ..
            } = &verdict;
            assert!(
                !object.ends_with("/web") || kstatus == "Current",
                "{verdict:?}"
            );
        }
        let upgraded = helm::install(world, "web", &[&pod, "label=foo"], "2m").await;
        assert!(upgraded.is_ok(), "{upgraded:?}");
    })
    .await;
}

#[tokio::test]
async fn helm_reports_which_object_a_release_waited_for_in_vain() {
    story(async |world: &World| {
        let pod = helm::prepare(world).await;
        let waits = helm::install(world, "waits", &[&pod, "suspend=true"], "10s").await;
        let said = waits.expect_err("the flow is suspended");
        assert!(
            said.contains("resource JobFlow/")
                && said
                    .contains("/waits not ready. status: InProgress, message: 0/2 steps are done"),
            "{said}"
        );
        assert!(said.contains("context deadline exceeded"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn helm_does_not_wait_for_an_object_that_has_failed() {
    story(async |world: &World| {
        helm::prepare(world).await;
        let begin = std::time::Instant::now();
        let failed = helm::install(world, "fails", &["pod=not-there"], "5m").await;
        let said = failed.expect_err("there is no such pod");
        assert!(
            said.contains(
                "/fails not ready. status: Failed, message: 0 of 1 targets succeeded, 1 failed"
            ),
            "{said}"
        );
        assert!(begin.elapsed() < Duration::from_mins(2), "{said}");
    })
    .await;
}
