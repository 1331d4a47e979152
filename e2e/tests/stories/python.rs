//! An action in Python, installed and used as the README of its example says: a component that only a registry holds.

use std::process::Command;

use operon_e2e::{environment, plugin::SYSTEM, prelude::*, registry::Registry};

/// A file of the example.
fn file(name: &str) -> String {
    let example = environment::repository().join("examples/python");
    example.join(name).to_string_lossy().into_owned()
}

/// `operon plugin push`: the reference with the digest, as it prints it.
fn push(world: &World, registry: &Registry) -> String {
    let component = std::env::temp_dir().join(world.named("annotate-py.wasm"));
    std::fs::write(&component, environment::component("annotate_py")).expect("written");
    let tag = format!("{}/actions/annotate-py:0.1.0", registry.address);
    let output = Command::new(environment::binary())
        .args(["plugin", "push"])
        .arg(&component)
        .args([&tag, "--plain-http"])
        .output()
        .expect("operon runs");
    assert!(output.status.success(), "{output:?}");
    let _ = std::fs::remove_file(component);
    let printed = String::from_utf8_lossy(&output.stdout);
    let reference = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("reference: "));
    reference.expect("a reference").to_owned()
}

/// The example's manifests with that reference.
fn manifests(world: &World, reference: &str) -> String {
    let manifests = std::fs::read_to_string(file("plugin.yaml")).expect("the example");
    let tag = "registry.example.com/actions/annotate-py:0.1.0";
    assert!(manifests.contains(tag), "{manifests}");
    let source = format!("{reference}\n      plainHttp: true");
    let path = std::env::temp_dir().join(world.named("python.yaml"));
    std::fs::write(&path, manifests.replace(tag, &source)).expect("written");
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn the_example_works_from_a_registry_as_its_readme_says() {
    story(async |world: &World| {
        let registry = Registry::open(world).await;
        let reference = push(world, &registry);
        let plugin = manifests(world, &reference);
        let delete = ["delete", "--ignore-not-found", "--namespace", SYSTEM];
        let delete = [&delete[..], &["-f", &plugin]].concat();
        world.kubectl(&delete).await;
        world
            .kubectl_says(&["apply", "--namespace", SYSTEM, "-f", &plugin])
            .await;
        let ready = ["wait", "--for=condition=Ready", "actionplugin/annotate-py"];
        world
            .kubectl_says(&[&ready[..], &["--timeout=300s"]].concat())
            .await;
        let digest = r"jsonpath={.status.artifact.manifest}";
        let digest = world
            .kubectl_says(&["get", "actionplugin", "annotate-py", "-o", digest])
            .await;
        assert!(reference.ends_with(&digest), "{reference}: {digest}");

        let spec = operon_e2e::workload::pod_spec();
        world
            .make::<Pod>(json!({"metadata": {"name": "foo"}, "spec": spec}))
            .await;
        world
            .kubectl_says(&["apply", "-f", &file("job.yaml")])
            .await;
        let done = "--for=jsonpath={.status.progress}=Succeeded";
        let job = "operationjob/annotate-py-foo";
        world
            .kubectl_says(&["wait", done, job, "--timeout=60s"])
            .await;
        let path = r"jsonpath={.metadata.annotations.example\.com/annotate-py}";
        let value = async || world.kubectl_says(&["get", "pod", "foo", "-o", path]).await;
        assert_eq!(value().await, "true");

        // Its schema is checked as that of any action, and what it raises is the failure of a target.
        let job = |name: &str, pod: &str, parameters| {
            let job = Job::of(name, "AnnotatePy", &[pod]);
            job.parameters(&parameters).object()
        };
        world
            .create(&job("wrong", "foo", json!({"valeu": "x"})))
            .await;
        let wrong = world.finished("wrong").await;
        assert_eq!(job::error(&wrong, "foo").reason, "BadParameters");
        world.create(&job("missing", "bar", json!({}))).await;
        let missing = world.finished("missing").await;
        assert_eq!(job::error(&missing, "bar").reason, "PodNotFound");
        world
            .create(&job("right", "foo", json!({"value": "by hand"})))
            .await;
        let right = world.finished("right").await;
        assert_eq!(job::progress(&right), Progress::Succeeded);
        assert_eq!(value().await, "by hand");
        world.kubectl_says(&delete).await;
        let _ = std::fs::remove_file(plugin);
    })
    .await;
}
