//! Replace while the node of the old pod is lost.

use operon_api::CollaSet;
use operon_e2e::{colla_set::colla_set, daemon_job::STORY, prelude::*, workload::pod_spec};

#[tokio::test]
async fn a_pod_on_a_lost_node_is_replaced_on_another_one_and_the_target_says_what_it_waits_for() {
    story(async |world: &World| {
        world.add_nodes(["a", "b"]).await;
        let mut pod = pod_spec();
        pod["nodeSelector"] = json!({STORY: world.namespace});
        world.make::<CollaSet>(colla_set("shop", 1, &pod)).await;
        let pods = world.colla_set_serves("shop", 1).await;
        let node = pods[0]
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone());
        let (old, node) = (pods[0].name_any(), node.expect("a node"));
        world.hold_pod(&old, true).await;
        world.break_node(&node).await;
        let job = Job::replace("opj", &[&old]).object();
        world.create(&job).await;
        world
            .eventually("the target waits for the node", async || {
                let job = world.get::<OperationJob>("opj").await?;
                let error = job::detail(&job, &old).error;
                let error = error.context("no reason yet")?;
                ensure!(error.reason == "NodeLost", "{error:?}");
                ensure!(error.message.contains(&node), "{error:?}");
                Ok(())
            })
            .await;
        let job = world.get::<OperationJob>("opj").await.expect("the job");
        let new = job::new_pod(&job, &old).expect("a new pod");
        let new = world.get::<Pod>(&new).await.expect("the new pod");
        assert!(new.is_ready());
        world.hold_pod(&old, false).await;
        let job = world.finished("opj").await;
        assert_eq!(job::status(&job).succeeded_pod_count, Some(1));
    })
    .await;
}
