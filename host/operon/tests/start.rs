//! A host that can't start: it exits with a failure status, and names the cause.

use std::{
    net::TcpListener,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Within which time it must have ended.
const LIMIT: Duration = Duration::from_mins(1);

/// A cluster that gets no requests.
const KUBECONFIG: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: me, user: {token: none}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
current-context: here
";

fn run(kubeconfig: &str, arguments: &[&str]) -> Result<Output> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).context("failed to write a kubeconfig")?;
    let mut host = Command::new(env!("CARGO_BIN_EXE_operon"))
        .args(["run", "--log-format=text"])
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start operon")?;
    let begin = Instant::now();
    while host.try_wait().context("failed to wait")?.is_none() {
        if begin.elapsed() > LIMIT {
            host.kill().context("failed to end it")?;
            bail!("with {arguments:?} it goes on");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    host.wait_with_output().context("failed to read its log")
}

#[test]
fn what_keeps_a_host_from_starting_ends_it_and_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").context("failed to take a port")?;
    let taken = taken.local_addr().context("no address")?.to_string();
    let listen = format!("--listen={taken}");
    for (kubeconfig, argument, named) in [
        ("clusters: 1", "--listen=127.0.0.1:0", "clusters"),
        (KUBECONFIG, &*listen, &*taken),
        (KUBECONFIG, "--log=operon=loud", "--log"),
        (
            KUBECONFIG,
            "--signature-keys=/nowhere/cosign.pub",
            "/nowhere/cosign.pub can't be read",
        ),
        (
            KUBECONFIG,
            "--trusted-root=/nowhere/trusted_root.json",
            "/nowhere/trusted_root.json can't be read",
        ),
    ] {
        let output = run(kubeconfig, &[argument])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{argument}: {said}");
        assert!(said.contains(named), "{argument}: {said}");
        assert!(!said.contains("panicked"), "{argument}: {said}");
    }
    Ok(())
}
