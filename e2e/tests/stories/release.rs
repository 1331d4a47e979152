//! A release is installed without a network: from its archive, through a registry that the cluster reaches.
//!
//! The story changes the chart's own release, so it runs alone, after most others.

use std::{
    path::Path,
    process::{Command, Output},
};

use operon_e2e::{
    environment,
    host::{alone, folder},
    plugin::SYSTEM,
    prelude::*,
    registry::Registry,
    release::helm,
};

/// Upgrades the chart's release to a chart, with these values beside those that it has.
fn upgraded(chart: &Path, values: &[&str]) -> Output {
    let chart = chart.to_string_lossy();
    let mut arguments = vec!["upgrade", "operon", &*chart, "--namespace", SYSTEM];
    arguments.extend(["--reuse-values", "--wait", "--timeout=3m"]);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    helm(&arguments)
}

/// The release as other stories know it: without replicas, with the image that the node has.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        let values = [
            "replicas=0",
            "image.repository=localhost/operon",
            "image.tag=dev",
            "image.pullPolicy=Never",
        ];
        let output = upgraded(&environment::chart(), &values);
        if !output.status.success() {
            eprintln!("the chart's release has the image of the story: {output:?}");
        }
    }
}

/// Unpacks the archive for clusters without a network.
fn unpack(version: &str, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder of our own");
    let begin = format!("operon-{version}-linux-");
    let files = std::fs::read_dir(environment::release()).expect("the release's files");
    let mut archives = files
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with(&begin));
    let archive = archives.next().expect("the archive").path();
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=1"]);
    tar.arg("--file").arg(archive).arg("--directory").arg(to);
    let output = tar.output().expect("tar can be started");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_release_is_installed_from_its_archive_without_a_network() {
    if !environment::has_containers() {
        return;
    }
    alone(async |world: &World| {
        let version = env!("CARGO_PKG_VERSION");
        let unpacked = folder(world);
        unpack(version, &unpacked);
        let registry = Registry::of_images(world);
        registry.push_image(&unpacked.join("image"), version, "mirror/operon");
        let repository = format!("{}/mirror/operon", registry.address);
        let chart = unpacked.join(format!("operon-{version}.tgz"));
        let from_registry = format!("image.repository={repository}");
        let restored = Restored;
        let output = upgraded(
            &chart,
            &[
                "replicas=1",
                &from_registry,
                "image.tag=",
                "image.pullPolicy=Always",
            ],
        );
        assert!(output.status.success(), "{output:?}");
        let images = world
            .kubectl_says(&[
                "get",
                "pods",
                "--namespace",
                SYSTEM,
                "--output=jsonpath={.items[*].spec.containers[*].image}",
            ])
            .await;
        assert_eq!(images, format!("{repository}:{version}"));
        let pods = Deployment::of("web", 1).up(world).await;
        let label = Job::of("label", "Label", &names(&pods));
        let label = label.parameters(&json!({"set": {"tier": "canary"}}));
        world.create(&label.object()).await;
        let done = world.finished("label").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);
        drop(restored);
    })
    .await;
}
