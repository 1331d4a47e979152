//! What a user does with kubectl.

use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::{environment, world::World};

impl World {
    /// Runs kubectl in the world's namespace, unless the arguments name another.
    pub async fn kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(environment::kubectl());
        command.args(arguments);
        if !arguments.contains(&"--namespace") {
            command.arg("--namespace").arg(&self.namespace);
        }
        command
            .output()
            .await
            .unwrap_or_else(|error| panic!("failed to run kubectl: {error}"))
    }

    /// What kubectl prints, if it succeeds.
    pub async fn kubectl_says(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed: {said}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `kubectl apply` on a manifest.
    pub async fn kubectl_apply(&self, manifest: &str) -> Output {
        let file = std::env::temp_dir().join(self.named("manifest.yaml"));
        std::fs::write(&file, manifest)
            .unwrap_or_else(|error| panic!("failed to write {}: {error}", file.display()));
        let applied = self
            .kubectl(&["apply", "-f", &file.to_string_lossy()])
            .await;
        let _ = std::fs::remove_file(file);
        applied
    }
}

/// Runs `kubectl operon` in the world's namespace: its exit code, what it prints, and its errors.
pub async fn operon(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(environment::kubectl_plugin());
    command
        .args(arguments)
        .args(["--namespace", &world.namespace]);
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.unwrap_or_else(|error| panic!("failed to run kubectl-operon: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The rows of a table that kubectl printed, in their columns.
pub fn rows(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect()
}
