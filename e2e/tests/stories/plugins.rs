//! Actions as plugins: how they come, change and go while jobs run, and how a
//! version replaces another.

use operon_e2e::{
    environment,
    plugin::{Plugin, REPLACE_VERBS, SYSTEM, digest, said},
    prelude::*,
};
use serde_json::Value;

/// The same component with another digest: a custom section more.
fn another_version(mut component: Vec<u8>, name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    component.extend([0, length + 1, length]);
    component.extend(name.as_bytes());
    component
}

#[tokio::test]
async fn the_example_works_as_its_readme_says() {
    story(async |world: &World| {
        let example = environment::repository().join("examples/annotate");
        let file = |name: &str| example.join(name).to_string_lossy().into_owned();
        let clean = async || {
            for what in [
                ["-f", &file("plugin.yaml")],
                ["configmap", "action-annotate-example"],
            ] {
                let mut delete = vec!["delete", "--ignore-not-found", "--namespace", SYSTEM];
                delete.extend(what);
                world.kubectl(&delete).await;
            }
        };
        let run = async |arguments: &[&str]| {
            let output = world.kubectl(arguments).await;
            assert!(output.status.success(), "{arguments:?}: {output:?}");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        clean().await;
        let folder = std::env::temp_dir().join(world.named("annotate"));
        std::fs::create_dir_all(&folder).expect("made");
        let wasm = folder.join("plugin.wasm");
        std::fs::write(&wasm, environment::component("operon_example_annotate")).expect("written");
        let from = format!("--from-file=plugin.wasm={}", wasm.display());
        run(&[
            "create",
            "configmap",
            "action-annotate-example",
            "--namespace",
            SYSTEM,
            &from,
        ])
        .await;
        run(&["apply", "--namespace", SYSTEM, "-f", &file("plugin.yaml")]).await;
        run(&[
            "wait",
            "--for=condition=Ready",
            "actionplugin/annotate-example",
            "--timeout=60s",
        ])
        .await;
        let spec = operon_e2e::workload::pod_spec();
        world
            .make::<Pod>(json!({"metadata": {"name": "foo"}, "spec": spec}))
            .await;
        run(&["apply", "-f", &file("job.yaml")]).await;
        let done = "--for=jsonpath={.status.progress}=Succeeded";
        run(&["wait", done, "operationjob/annotate-foo", "--timeout=60s"]).await;
        let path = r"jsonpath={.metadata.annotations.operon\.dev/annotated}";
        assert_eq!(run(&["get", "pod", "foo", "-o", path]).await, "true");

        let job = |name: &str, parameters: &Value| {
            let job = Job::of(name, "AnnotateExample", &["foo"]);
            job.parameters(parameters).object()
        };
        world.create(&job("wrong", &json!({"valeu": "x"}))).await;
        let wrong = world.finished("wrong").await;
        let error = job::error(&wrong, "foo");
        assert_eq!(error.reason, "BadParameters");
        assert_eq!(
            error.message,
            "spec.parameters: Additional properties are not allowed ('valeu' was unexpected)"
        );
        assert_eq!(run(&["get", "pod", "foo", "-o", path]).await, "true");
        world
            .create(&job("right", &json!({"value": "by hand"})))
            .await;
        let right = world.finished("right").await;
        assert_eq!(job::progress(&right), Progress::Succeeded);
        assert_eq!(run(&["get", "pod", "foo", "-o", path]).await, "by hand");
        clean().await;
        let _ = std::fs::remove_dir_all(folder);
    })
    .await;
}

#[tokio::test]
async fn a_new_version_takes_over_while_a_job_runs() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS).up(world).await;
        let first = digest(&world.plugin_until(&plugin.name, "True", "Loaded").await);
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let targets = names(&before);
        world
            .create(&Job::of("opj", &plugin.action, &targets).object())
            .await;
        for target in &targets {
            world
                .job_until("opj", "knows the new pods", |found| {
                    job::new_pod(found, target).is_some()
                })
                .await;
        }
        let component = another_version(environment::component("operon_action_replace"), "two");
        world.component(&plugin.name, &component).await;
        world
            .eventually("another version serves", async || {
                let found = world.plugins().get(&plugin.name).await?;
                ensure!(
                    digest(&found).is_some() && digest(&found) != first,
                    "{:?}",
                    digest(&found)
                );
                Ok(())
            })
            .await;
        for pod in world
            .pods("foo")
            .await
            .expect("pods")
            .iter()
            .filter(|pod| !pod.is_ready())
        {
            world.open(pod).await;
        }
        let done = world.finished("opj").await;
        assert_eq!(
            job::progress(&done),
            Progress::Succeeded,
            "{:?}",
            done.status
        );
        world.settled("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn versions_that_come_and_go_lose_no_call() {
    story(async |world: &World| {
        let plugin = Plugin::annotate(world).up(world).await;
        let before = Deployment::of("foo", 8).up(world).await;
        let component = environment::component("operon_example_annotate");
        for round in 0..6 {
            let name = format!("opj-{round}");
            world
                .create(&Job::of(&name, &plugin.action, &names(&before)).object())
                .await;
            let version = another_version(component.clone(), &round.to_string());
            world.component(&plugin.name, &version).await;
            let settings = json!({"key": format!("e2e.operon.dev/round-{round}"), "value": "x"});
            world
                .patch_plugin(&plugin.name, json!({"spec": {"settings": settings}}))
                .await;
        }
        for round in 0..6 {
            let done = world.finished(&format!("opj-{round}")).await;
            assert_eq!(
                job::progress(&done),
                Progress::Succeeded,
                "{:?}",
                done.status
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_version_that_is_no_good_leaves_the_old_one_serving_and_says_so() {
    story(async |world: &World| {
        let plugin = Plugin::annotate(world).up(world).await;
        let first = world.plugin_until(&plugin.name, "True", "Loaded").await;
        world
            .component(&plugin.name, b"\0asm and then nonsense")
            .await;
        let found = world
            .eventually("the status says so", async || {
                let found = world.plugins().get(&plugin.name).await?;
                ensure!(
                    said(&found).contains("still serves the action"),
                    "{}",
                    said(&found)
                );
                Ok(found)
            })
            .await;
        assert_eq!(digest(&found), digest(&first));
        let pods = Deployment::of("foo", 1).up(world).await;
        world
            .create(&Job::of("opj", &plugin.action, &names(&pods)).object())
            .await;
        assert_eq!(
            job::progress(&world.finished("opj").await),
            Progress::Succeeded
        );
        world
            .component(
                &plugin.name,
                &environment::component("operon_example_annotate"),
            )
            .await;
        world.plugin_until(&plugin.name, "True", "Loaded").await;
    })
    .await;
}

#[tokio::test]
async fn a_plugin_removed_while_a_job_runs_stalls_it_until_it_is_back() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS).up(world).await;
        let before = Deployment::of("foo", 2).gated().up(world).await;
        let target = before[0].name_any();
        world
            .create(&Job::of("opj", &plugin.action, &[&target]).object())
            .await;
        let new = world.another_pod("foo", &before).await;
        world
            .job_until("opj", "knows the new pod", |found| {
                job::new_pod(found, &target).is_some()
            })
            .await;
        world.delete_plugin(&plugin.name).await;
        world
            .job_until("opj", "is stalled", |found| {
                job::reason(found, "Stalled").as_deref() == Some("ActionNotFound")
            })
            .await;
        world.open(&new).await;
        world
            .for_a_while("the old pod stays", async || {
                let pod: Pod = world.get(&target).await?;
                ensure!(pod.is_live(), "it goes");
                Ok(())
            })
            .await;
        let again = json!({
            "metadata": {"name": plugin.name, "labels": {"e2e.operon.dev/world": world.namespace}},
            "spec": {
                "action": plugin.action, "serviceAccountName": plugin.name,
                "source": {"configMap": {"name": plugin.name}}
            }
        });
        let again = serde_json::from_value(again).expect("an ActionPlugin");
        world
            .plugins()
            .create(&kube::api::PostParams::default(), &again)
            .await
            .expect("created");
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        world.settled("foo", 2).await;
    })
    .await;
}

#[tokio::test]
async fn a_job_whose_plugin_was_removed_can_be_deleted() {
    story(async |world: &World| {
        let plugin = Plugin::replace(world, &REPLACE_VERBS).up(world).await;
        let before = Deployment::of("foo", 1).gated().up(world).await;
        world
            .create(&Job::of("opj", &plugin.action, &names(&before)).object())
            .await;
        world.another_pod("foo", &before).await;
        world.delete_plugin(&plugin.name).await;
        world
            .job_until("opj", "is stalled", |found| {
                job::reason(found, "Stalled").is_some()
            })
            .await;
        world.delete::<OperationJob>("opj").await;
        let deleted = std::time::Instant::now();
        world.gone::<OperationJob>("opj").await;
        assert!(
            deleted.elapsed() < Duration::from_secs(45),
            "{:?}",
            deleted.elapsed()
        );
    })
    .await;
}

#[tokio::test]
async fn of_two_plugins_for_one_action_the_older_serves_and_the_other_takes_over() {
    story(async |world: &World| {
        let older = Plugin::annotate(world).up(world).await;
        // Ages are whole seconds, and of equally old ones the first by name serves.
        let newer = Plugin::annotate(world)
            .named(&world.named("z-annotate"))
            .install(world)
            .await;
        let shadowed = world
            .plugin_until(&newer.name, "False", "ActionTaken")
            .await;
        assert!(said(&shadowed).contains(&older.name), "{}", said(&shadowed));
        world.plugin_until(&older.name, "True", "Loaded").await;
        world.delete_plugin(&older.name).await;
        world.plugin_until(&newer.name, "True", "Loaded").await;
        let pods = Deployment::of("foo", 1).up(world).await;
        world
            .create(&Job::of("opj", &newer.action, &names(&pods)).object())
            .await;
        assert_eq!(
            job::progress(&world.finished("opj").await),
            Progress::Succeeded
        );
    })
    .await;
}
