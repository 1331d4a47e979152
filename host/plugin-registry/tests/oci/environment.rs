//! What only the environment of a process decides: each test runs itself again in another one.

use anyhow::{Context as _, Result, ensure};
use operon_plugin_registry::oci::{PullRequest, Puller, PullerConfig};
use tokio::process::Command;

use crate::support::{Artifact, COMPONENT, Fake, puller, request};

/// Set in the process that a test starts.
const AGAIN: &str = "OPERON_TEST_AGAIN";

/// Runs the test of this name in a process of its own, started by a line of the shell.
async fn again(name: &str, line: &str) -> Result<()> {
    let line = format!(r#"{line}; exec "$0" --exact "$1" --nocapture"#);
    let mut command = Command::new("sh");
    command
        .args(["-c", &line])
        .arg(std::env::current_exe()?)
        .arg(name)
        .env(AGAIN, "1");
    let output = command.output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn is_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used() -> Result<()> {
    if is_again() {
        assert_eq!(
            puller().pull(&request("registry.example/a:1")).await?.bytes,
            COMPONENT
        );
        return Ok(());
    }
    let proxy = Fake::with_artifact(&Artifact::component(), |_| None).await?;
    let line = format!(
        "export http_proxy=http://{} no_proxy= NO_PROXY=",
        proxy.address
    );
    again("environment::the_proxy_of_the_environment_is_used", &line).await?;
    let seen = proxy.seen();
    assert!(
        !seen.is_empty()
            && seen
                .iter()
                .all(|seen| seen.host.as_deref() == Some("registry.example")),
        "{seen:?}"
    );
    Ok(())
}

/// A limit of the size of files fails in the midst of a write, as a full disk does.
#[tokio::test]
async fn a_cache_on_a_full_disk_keeps_nothing_and_costs_no_pull() -> Result<()> {
    if !is_again() {
        let line = "trap '' XFSZ; ulimit -f 1";
        return again(
            "environment::a_cache_on_a_full_disk_keeps_nothing_and_costs_no_pull",
            line,
        )
        .await;
    }
    let artifact = Artifact::of(&vec![7; 1 << 20]);
    let registry = Fake::with_artifact(&artifact, |_| None).await?;
    let folder = tempfile::tempdir()?;
    let puller = Puller::new(PullerConfig {
        cache: Some(folder.path().to_owned()),
        ..PullerConfig::default()
    });
    let (reference, manifest) = (registry.reference(), artifact.digest());
    for _ in 0..2 {
        let known = PullRequest {
            manifest: Some(&manifest),
            ..request(&reference)
        };
        assert_eq!(puller.pull(&known).await?.bytes, artifact.layer);
    }
    let downloads = registry
        .seen()
        .iter()
        .filter(|seen| seen.line.contains("/blobs/"))
        .count();
    assert_eq!(downloads, 2, "the layer does not fit");
    for file in std::fs::read_dir(folder.path())? {
        let file = file?
            .file_name()
            .into_string()
            .ok()
            .context("a name of ours")?;
        assert!(file.starts_with("sha256-"), "{file} is left over");
    }
    Ok(())
}
