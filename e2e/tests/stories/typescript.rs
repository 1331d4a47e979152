//! An action in TypeScript, installed and used as the README of its example says: a component that fits into a ConfigMap
//! only gzipped.

use std::{path::Path, process::Command};

use operon_e2e::{environment, plugin::SYSTEM, prelude::*};
use serde_json::Value;

const NAME: &str = "action-annotate-ts";

/// What kubectl prints if it succeeds.
async fn kubectl(world: &World, arguments: &[&str]) -> String {
    let output = world.kubectl(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file of the example.
fn file(name: &str) -> String {
    let example = environment::repository().join("examples/typescript");
    example.join(name).to_string_lossy().into_owned()
}

/// `gzip -9 annotate-ts.wasm`; the path of the result.
fn gzipped(folder: &Path) -> String {
    let component = folder.join("annotate-ts.wasm");
    std::fs::write(&component, environment::component("annotate_ts")).expect("written");
    let status = Command::new("gzip").arg("-9").arg(&component).status();
    assert!(status.expect("gzip runs").success());
    format!("{}.gz", component.display())
}

/// `kubectl create configmap … --dry-run=client -o yaml | kubectl apply --server-side --force-conflicts -f -`
async fn put(world: &World, folder: &Path, component: &str) {
    let from = format!("--from-file=plugin.wasm={component}");
    let create = ["create", "configmap", NAME, "--namespace", SYSTEM, &from];
    let dry = [&create[..], &["--dry-run=client", "-o", "yaml"]].concat();
    let manifest = folder.join("manifest.yaml");
    std::fs::write(&manifest, kubectl(world, &dry).await).expect("written");
    let manifest = manifest.to_string_lossy();
    let apply = ["apply", "--namespace", SYSTEM, "--server-side"];
    let apply = [&apply[..], &["--force-conflicts", "-f", &manifest]].concat();
    kubectl(world, &apply).await;
}

async fn clean(world: &World) {
    for what in [["-f", &file("plugin.yaml")], ["configmap", NAME]] {
        let delete = ["delete", "--ignore-not-found", "--namespace", SYSTEM];
        world.kubectl(&[&delete[..], &what].concat()).await;
    }
}

#[tokio::test]
async fn the_example_works_from_a_config_map_as_its_readme_says() {
    story(async |world: &World| {
        clean(world).await;
        let folder = std::env::temp_dir().join(world.named("typescript"));
        std::fs::create_dir_all(&folder).expect("made");
        put(world, &folder, &gzipped(&folder)).await;
        let plugin = file("plugin.yaml");
        kubectl(world, &["apply", "--namespace", SYSTEM, "-f", &plugin]).await;
        let ready = ["wait", "--for=condition=Ready", "actionplugin/annotate-ts"];
        kubectl(world, &[&ready[..], &["--timeout=120s"]].concat()).await;

        let spec = operon_e2e::workload::pod_spec();
        world
            .make::<Pod>(json!({"metadata": {"name": "foo"}, "spec": spec}))
            .await;
        kubectl(world, &["apply", "-f", &file("job.yaml")]).await;
        let done = "--for=jsonpath={.status.progress}=Succeeded";
        let job = "operationjob/annotate-ts-foo";
        kubectl(world, &["wait", done, job, "--timeout=60s"]).await;
        let path = r"jsonpath={.metadata.annotations.example\.com/annotate-ts}";
        let value = async || kubectl(world, &["get", "pod", "foo", "-o", path]).await;
        assert_eq!(value().await, "true");

        // Its schema is checked as that of any action.
        let job = |name: &str, parameters: &Value| {
            let job = Job::of(name, "AnnotateTs", &["foo"]);
            job.parameters(parameters).object()
        };
        let unknown = json!({"valeu": "x"});
        world.create(&job("wrong", &unknown)).await;
        let wrong = world.finished("wrong").await;
        assert_eq!(job::error(&wrong, "foo").reason, "BadParameters");
        let by_hand = json!({"value": "by hand"});
        world.create(&job("right", &by_hand)).await;
        let right = world.finished("right").await;
        assert_eq!(job::progress(&right), Progress::Succeeded);
        assert_eq!(value().await, "by hand");
        clean(world).await;
        let _ = std::fs::remove_dir_all(folder);
    })
    .await;
}
