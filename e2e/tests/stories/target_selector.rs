//! Jobs that select their targets.

use operon_e2e::{kubectl::rows, prelude::*};
use serde_json::Value;

/// A job of this action on what the selector selects.
fn selecting(name: &str, action: &str, selector: Value) -> OperationJob {
    let none: [&str; 0] = [];
    let mut job = Job::of(name, action, &none).object();
    job.spec.target_selector = Some(serde_json::from_value(selector).expect("a selector"));
    job
}

fn targets(found: &OperationJob) -> Vec<String> {
    let targets = job::status(found).targets.into_iter();
    targets.map(|target| target.name).collect()
}

#[tokio::test]
async fn all_of_a_deployment_restart() {
    story(async |world: &World| {
        let before = Deployment::of("foo", 2).up(world).await;
        Deployment::of("bar", 1).up(world).await;
        let mut job = selecting("opj", "Restart", json!({"owner": "deployment/foo"}));
        job.spec.paused = Some(true);
        world.create(&job).await;
        let mut expected = names(&before);
        expected.sort();
        let found = world
            .job_until("opj", "has selected", |found| !targets(found).is_empty())
            .await;
        assert_eq!(targets(&found), expected);

        // What was selected does not change any more.
        world.scale("foo", 3).await.expect("scaled");
        world.settled("foo", 3).await;
        world
            .patch::<OperationJob>("opj", json!({"spec": {"paused": false}}))
            .await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded, "{done:?}");
        assert_eq!(targets(&done), expected);
        let restarts = |pod: &Pod| -> i32 {
            let statuses = pod
                .status
                .as_ref()
                .and_then(|s| s.container_statuses.as_ref());
            statuses
                .into_iter()
                .flatten()
                .map(|c| c.restart_count)
                .sum()
        };
        for pod in world.all_pods().await.expect("pods") {
            let is_target = expected.contains(&pod.name_any());
            assert_eq!(restarts(&pod), i32::from(is_target), "{}", pod.name_any());
        }
        let table = world.kubectl_says(&["get", "opj", "--output=wide"]).await;
        let table = rows(&table);
        assert!(table[0].contains(&"SELECTOR"), "{table:?}");
        assert!(table[1].contains(&"deployment/foo"), "{table:?}");
    })
    .await;
}

#[tokio::test]
async fn a_job_that_selects_nothing_fails_and_says_so() {
    story(async |world: &World| {
        Deployment::of("foo", 1).up(world).await;
        for (name, selector, written) in [
            (
                "owner",
                json!({"owner": "deployment/none"}),
                "deployment/none",
            ),
            (
                "labels",
                json!({"labelSelector": {"matchLabels": {"app": "none"}}}),
                "app=none",
            ),
            (
                "node",
                json!({"nodeName": "none", "owner": "deployment/foo"}),
                "deployment/foo node/none",
            ),
        ] {
            world.create(&selecting(name, "Restart", selector)).await;
            let done = world.finished(name).await;
            assert_eq!(job::progress(&done), Progress::Failed);
            assert_eq!(job::reason(&done, "Stalled").as_deref(), Some("NoTargets"));
            assert_eq!(job::status(&done).selector.as_deref(), Some(written));
        }
        world
            .eventually("an Event says it", async || {
                let reasons = world.event_reasons("owner").await?;
                ensure!(reasons == ["Failed"], "{reasons:?}");
                Ok(())
            })
            .await;
    })
    .await;
}
