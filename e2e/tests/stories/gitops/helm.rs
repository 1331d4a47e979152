//! The chart of this folder, installed by Helm 4, which waits.

use operon_e2e::{environment, prelude::*};
use tokio::process::Command;

use super::states::{self, POD};

/// A node for the Jobs, and the value that names a pod for the OperationJob.
pub(super) async fn prepare(world: &World) -> String {
    world.add_nodes(["a"]).await;
    states::pod(world).await;
    format!("pod={POD}")
}

/// Installs the chart with these values, or upgrades it, and waits that long. If it fails, returns what Helm said.
pub(super) async fn install(
    world: &World,
    name: &str,
    values: &[&str],
    timeout: &str,
) -> Result<(), String> {
    let chart = environment::repository().join("e2e/tests/stories/gitops/chart");
    let mut command = Command::new(environment::helm_4());
    command
        .args(["upgrade", "--install", name])
        .arg(chart)
        .args([
            "--namespace",
            &world.namespace,
            "--wait",
            "--timeout",
            timeout,
        ])
        .arg("--set-json")
        .arg(format!("nodeLabels={}", states::node(world)));
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().await.expect("helm can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(said)
    }
}
