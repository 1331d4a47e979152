//! Releases of the chart, as helm installs and removes them, and kubeconfigs of their accounts.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::environment;

/// Runs helm.
pub fn helm(arguments: &[&str]) -> Output {
    let run = Command::new(environment::helm()).args(arguments).output();
    run.unwrap_or_else(|error| panic!("failed to run helm: {error}"))
}

/// Runs helm, which succeeds, and returns what it prints.
pub fn helm_does(arguments: &[&str]) -> String {
    let output = helm(arguments);
    assert!(output.status.success(), "helm {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a kubeconfig with the rights of a ServiceAccount, made from the chart's own. A token ends with its ServiceAccount.
pub fn write_kubeconfig(account: &str, namespace: &str, file: &Path) {
    let token = Command::new(environment::kubectl())
        .args(["create", "token", account, "--namespace", namespace])
        .output()
        .unwrap_or_else(|error| panic!("failed to run kubectl: {error}"));
    assert!(token.status.success(), "no token for {account}: {token:?}");
    let token = String::from_utf8_lossy(&token.stdout);
    let own = environment::host_kubeconfig();
    let text = std::fs::read_to_string(&own).expect("the chart's account has a kubeconfig");
    let mut config: Value = serde_yaml_ng::from_str(&text).expect("YAML");
    for user in config["users"].as_array_mut().expect("users") {
        user["user"] = json!({"token": token.trim()});
    }
    let folder = file.parent().expect("a file in a folder");
    std::fs::create_dir_all(folder).expect("a folder of our own");
    let text = serde_yaml_ng::to_string(&config).expect("YAML");
    std::fs::write(file, text).expect("a kubeconfig");
}
