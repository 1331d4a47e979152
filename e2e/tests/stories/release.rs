//! A release is installed without a network: from its archive, through a registry that the cluster reaches.
//!
//! The story changes the chart's own release, so it runs alone, after most others.

use std::{path::Path, process::Command};

use operon_e2e::{
    environment,
    host::{alone, folder},
    plugin::SYSTEM,
    prelude::*,
    registry::Registry,
    release::Release,
};

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
        let release = Release::of(world);
        release.install(
            &chart,
            &[
                "replicas=1",
                &from_registry,
                "image.tag=",
                "image.pullPolicy=Always",
            ],
        );
        let images = world
            .kubectl_says(&[
                "get",
                "pods",
                "--namespace",
                SYSTEM,
                "--selector=pod-template-hash",
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
        drop(release);
    })
    .await;
}
