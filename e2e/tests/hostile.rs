//! Actions that load and misbehave: that is an error of their own targets, and nobody else's business.

use operon_e2e::{plugin::Plugin, prelude::*, workload::pod_spec};

#[tokio::test]
async fn an_action_that_misbehaves_fails_its_own_targets_only() {
    story(async |world: &World| {
        let plugin = Plugin::hostile(world).up(world).await;
        let table = [
            ("endless-loop", "PluginTimeout"),
            ("memory-bomb", "PluginOutOfMemory"),
            ("deep-recursion", "PluginStackOverflow"),
            ("panic", "PluginTrapped"),
            ("host-call-flood", "PluginHostCallBudget"),
            ("giant-result", "PluginResultTooLarge"),
            ("foreign-object", "InvalidEffect"),
            ("crooked-name", "InvalidEffect"),
        ];
        for (name, _) in table {
            world
                .make::<Pod>(json!({"metadata": {"name": name}, "spec": pod_spec()}))
                .await;
        }
        let targets: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        world
            .create(
                &Job::of("bad", &plugin.action, &targets)
                    .deadline(20)
                    .object(),
            )
            .await;
        let before = Deployment::of("foo", 3).up(world).await;
        world
            .create(&Job::replace("good", &names(&before)).object())
            .await;
        for (name, reason) in table {
            world
                .job_until("bad", &format!("{name} is {reason}"), |found| {
                    job::error(found, name).reason == reason
                })
                .await;
        }
        assert_eq!(
            job::progress(&world.finished("good").await),
            Progress::Succeeded
        );
        world.settled("foo", 3).await;
        let done = world.finished("bad").await;
        assert_eq!(job::progress(&done), Progress::Failed);
        assert_eq!(job::status(&done).failed_pod_count, Some(8));
    })
    .await;
}

#[tokio::test]
async fn a_job_of_an_action_that_misbehaves_can_be_deleted() {
    story(async |world: &World| {
        let plugin = Plugin::hostile(world).up(world).await;
        world
            .make::<Pod>(json!({"metadata": {"name": "endless-loop"}, "spec": pod_spec()}))
            .await;
        world
            .create(&Job::of("bad", &plugin.action, &["endless-loop"]).object())
            .await;
        world
            .job_until("bad", "is in trouble", |found| {
                job::error(found, "endless-loop").reason == "PluginTimeout"
            })
            .await;
        world.delete::<OperationJob>("bad").await;
        world.gone::<OperationJob>("bad").await;
    })
    .await;
}
