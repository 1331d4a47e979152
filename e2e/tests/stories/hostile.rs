//! Actions that load and misbehave: that is an error of their own targets, and nobody else's business.

use operon_e2e::{
    plugin::{Plugin, digest, said},
    prelude::*,
    workload::pod_spec,
};

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
            ("deep-json", "BadEffect"),
            ("json-bomb", "BadEffect"),
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
        assert_eq!(job::status(&done).failed_pod_count, Some(10));
    })
    .await;
}

#[tokio::test]
async fn an_action_whose_schema_is_beyond_a_limit_is_not_loaded_and_the_host_lives() {
    story(async |world: &World| {
        let named = |plugin: Plugin, name: &str| {
            let name = world.named(name);
            let action = json!(format!("{}-{name}", plugin.action));
            plugin.named(&name).with("action", action)
        };
        for (name, settings, reason, limit) in [
            (
                "chain",
                json!({"mode": "reference-chain"}),
                "SetupFailed",
                "at most 65536",
            ),
            (
                "itself",
                json!({"schema": {"$ref": "#"}}),
                "BadSettings",
                "refers to itself",
            ),
            (
                "draft",
                json!({"schema": {"id": "#a"}}),
                "BadSettings",
                "it uses id",
            ),
        ] {
            let plugin = named(Plugin::hostile(world), name)
                .with("settings", settings)
                .install(world)
                .await;
            let found = world.plugin_until(&plugin.name, "False", reason).await;
            assert!(said(&found).contains(limit), "{name}: {}", said(&found));
            assert_eq!(digest(&found), None, "{name}");
        }
        let fits = Plugin::hostile(world)
            .with("settings", json!({"seconds": 1}))
            .up(world)
            .await;
        assert!(world.plugins().get(&fits.name).await.is_ok());
        let before = Deployment::of("foo", 2).up(world).await;
        world
            .create(&Job::replace("good", &names(&before)).object())
            .await;
        assert_eq!(
            job::progress(&world.finished("good").await),
            Progress::Succeeded
        );
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
