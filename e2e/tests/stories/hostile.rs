//! Actions that load and misbehave: that is an error of their own targets, and of no others.

use operon_api::conditions;
use operon_e2e::{
    plugin::{Plugin, digest, said},
    prelude::*,
    workload::pod_spec,
};

#[tokio::test]
async fn an_action_that_misbehaves_fails_its_own_targets_only() {
    story(async |world: &World| {
        let table = [
            ("endless-loop", "PluginTimeout"),
            ("memory-bomb", "PluginOutOfMemory"),
            ("deep-recursion", "PluginStackOverflow"),
            ("panic", "PluginTrapped"),
            ("host-call-flood", "PluginHostCallBudget"),
            ("giant-result", "PluginResultTooLarge"),
            ("foreign-object", "EffectRefused"),
            ("crooked-name", "InvalidEffect"),
            ("deep-json", "BadEffect"),
            ("json-bomb", "BadEffect"),
        ];
        for (name, _) in table {
            world
                .make::<Pod>(json!({"metadata": {"name": name}, "spec": pod_spec()}))
                .await;
        }
        // Few targets for each action: it is called about all of them before so many faults set it aside.
        let halves = [("bad-0", &table[..5]), ("bad-1", &table[5..])];
        for (bad, half) in halves {
            let plugin = Plugin::hostile(world);
            let action = format!("{}-{bad}", plugin.action);
            let name = format!("{}-{bad}", plugin.name);
            let plugin = plugin.named(&name).with("action", json!(action));
            plugin.up(world).await;
            let targets: Vec<&str> = half.iter().map(|(name, _)| *name).collect();
            let job = Job::of(bad, &action, &targets).deadline(20);
            world.create(&job.object()).await;
        }
        let before = Deployment::of("foo", 3).up(world).await;
        world
            .create(&Job::replace("good", &names(&before)).object())
            .await;
        for (bad, half) in halves {
            for (name, reason) in half {
                world
                    .job_until(bad, &format!("{name} is {reason}"), |found| {
                        let error = job::error(found, name);
                        let is_aside = error.reason == "ActionSuspended";
                        error.reason == *reason || (is_aside && error.message.ends_with(reason))
                    })
                    .await;
            }
        }
        assert_eq!(
            job::progress(&world.finished("good").await),
            Progress::Succeeded
        );
        world.settled("foo", 3).await;
        for (bad, half) in halves {
            let done = world.finished(bad).await;
            assert_eq!(job::progress(&done), Progress::Failed);
            let failed = job::status(&done).failed_pod_count;
            assert_eq!(failed, i32::try_from(half.len()).ok());
        }
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

#[tokio::test]
async fn effects_that_no_action_may_do_are_refused_whatever_its_account_may_do() {
    story(async |world: &World| {
        let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        let plugin = Plugin::hostile(world)
            .with_rules(everything)
            .up(world)
            .await;
        let table = [
            ("connects", "subresource \"proxy\""),
            ("holds", "hostile.example/for-ever"),
            ("holds-by-status", "hostile.example/for-ever"),
            ("gives-away", "may become the controller only"),
        ];
        let targets: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        let orphan = "orphans";
        for name in targets.iter().chain([&orphan]) {
            world
                .make::<Pod>(json!({"metadata": {"name": name}, "spec": pod_spec()}))
                .await;
        }
        world
            .create(&Job::of("bad", &plugin.action, &targets).object())
            .await;
        let done = world.finished("bad").await;
        for (name, rule) in table {
            let error = job::error(&done, name);
            assert_eq!(error.reason, "EffectRefused", "{name}: {}", error.message);
            assert!(error.message.contains(rule), "{name}: {}", error.message);
        }
        world
            .create(
                &Job::of("waits", &plugin.action, &[orphan])
                    .deadline(5)
                    .object(),
            )
            .await;
        world
            .job_until("waits", "waits for an owner that is not there", |found| {
                job::error(found, orphan).reason == "Conflict"
            })
            .await;
        world.finished("waits").await;
        for name in targets.iter().chain([&orphan]) {
            let pod = world.get::<Pod>(name).await.expect("the pod is there");
            assert!(pod.finalizers().is_empty(), "{name}");
            assert!(pod.owner_references().is_empty(), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_action_whose_calls_fault_is_set_aside_and_serves_again_after_one_that_does_not() {
    story(async |world: &World| {
        let plugin = Plugin::hostile(world).up(world).await;
        let bad = ["panic-a", "panic-b", "panic-c"];
        for name in bad.iter().chain(&["web"]) {
            world
                .make::<Pod>(json!({"metadata": {"name": name}, "spec": pod_spec()}))
                .await;
        }
        let job = Job::of("bad", &plugin.action, &bad).deadline(20);
        world.create(&job.object()).await;
        let suspended = async || {
            let plugin = world.plugins().get(&plugin.name).await?;
            let found = plugin.status.clone().unwrap_or_default();
            let is_ready = conditions::find(&found.conditions, conditions::READY)
                .is_some_and(|ready| ready.status == "True");
            ensure!(is_ready, "{found:?}");
            anyhow::Ok(conditions::find(&found.conditions, conditions::SUSPENDED).cloned())
        };
        world
            .eventually("the action is set aside", async || {
                let found = suspended().await?.context("no condition")?;
                ensure!(found.message.contains("PluginTrapped"), "{found:?}");
                Ok(())
            })
            .await;
        world
            .job_until("bad", "its targets wait for the action", |found| {
                bad.iter()
                    .all(|name| job::error(found, name).reason == "ActionSuspended")
            })
            .await;
        // Their deadlines go on.
        let done = world.finished("bad").await;
        assert_eq!(job::status(&done).failed_pod_count, Some(3));
        world
            .create(&Job::of("good", &plugin.action, &["web"]).object())
            .await;
        world
            .eventually("the action serves again", async || {
                let found = suspended().await?;
                ensure!(found.is_none(), "{found:?}");
                Ok(())
            })
            .await;
        let events = kube::Api::<k8s_openapi::api::events::v1::Event>::all(world.client.clone());
        let all = events.list(&kube::api::ListParams::default()).await;
        let about = all.expect("Events").items.into_iter().filter(|event| {
            let about = event.regarding.clone().unwrap_or_default();
            about.name.as_ref() == Some(&plugin.name)
                && event.reason.as_deref() == Some(conditions::SUSPENDED)
        });
        let types: Vec<_> = about.filter_map(|event| event.type_).collect();
        assert_eq!(types, ["Warning"]);
    })
    .await;
}
