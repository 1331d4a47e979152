//! A host that can't start: it ends, with a status that says so, and names what is in the way.

use std::{
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};

/// A cluster that nothing is asked of.
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
    Command::new(env!("CARGO_BIN_EXE_operon"))
        .args(["run", "--log-format=text"])
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", file)
        .stdin(Stdio::null())
        .output()
        .context("failed to start operon")
}

#[test]
fn jf_28_jf_29_what_keeps_a_host_from_starting_ends_it_and_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").context("failed to take a port")?;
    let taken = taken.local_addr().context("no address")?.to_string();
    let listen = format!("--listen={taken}");
    for (kubeconfig, argument, named) in [
        ("clusters: 1", "--listen=127.0.0.1:0", "KUBECONFIG"),
        (KUBECONFIG, &*listen, &*taken),
        (KUBECONFIG, "--log=operon=loud", "--log"),
    ] {
        let output = run(kubeconfig, &[argument])?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{argument}: {said}");
        assert!(said.contains(named), "{argument}: {said}");
        assert!(!said.contains("panicked"), "{argument}: {said}");
    }
    Ok(())
}
