//! What an OperationJob leaves behind whose finalizer was removed by force: it is reported, and the next
//! job takes it over.

use operon_api::conditions::{PODS_LEFT_BEHIND, find};
use operon_e2e::{
    plugin::{Plugin, REPLACE_VERBS},
    prelude::*,
};

#[tokio::test]
async fn pods_that_a_vanished_job_left_behind_are_reported_until_another_job_takes_them_over() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS).up(world).await;
        let before = Deployment::of("foo", 1).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::of("first", &plugin.action, &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        // Without its action the job can't be released.
        let digest = format!("sha256:{}", "0".repeat(64));
        world
            .patch_plugin(&plugin.name, json!({"spec": {"digest": digest}}))
            .await;
        world
            .plugin_until(&plugin.name, "False", "DigestMismatch")
            .await;
        world.delete::<OperationJob>("first").await;
        world
            .patch::<OperationJob>("first", json!({"metadata": {"finalizers": null}}))
            .await;
        world.gone::<OperationJob>("first").await;
        world
            .patch_plugin(&plugin.name, json!({"spec": {"digest": null}}))
            .await;
        let pod = format!("{}/{target}", world.namespace);
        let said = world
            .eventually("the ActionPlugin names the pod", async || {
                left_behind(world, &plugin).await?.context("no condition")
            })
            .await;
        assert!(said.contains(&pod), "{said}");
        let label = "replace.operon.dev/job";
        assert!(
            said.contains(&format!("`kubectl get pods -A -l {label} -L {label}`")),
            "{said}"
        );
        let listed = world
            .kubectl(&["get", "pods", "-l", label, "--output=name"])
            .await;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!(listed.trim(), format!("pod/{target}"));
        world
            .create(&Job::of("second", &plugin.action, &[&target]).object())
            .await;
        world.open(&new).await;
        let done = world.finished("second").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world
            .eventually("nothing is left behind", async || {
                let said = left_behind(world, &plugin).await?;
                ensure!(said.is_none(), "{said:?}");
                Ok(())
            })
            .await;
    })
    .await;
}

/// What the ActionPlugin says of pods that were left behind.
async fn left_behind(world: &World, plugin: &Plugin) -> Result<Option<String>> {
    let found = world.plugins().get(&plugin.name).await?;
    let conditions = found.status.unwrap_or_default().conditions;
    Ok(find(&conditions, PODS_LEFT_BEHIND).map(|condition| condition.message.clone()))
}
