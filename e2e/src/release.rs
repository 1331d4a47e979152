//! Releases of the chart, as helm installs and removes them, and kubeconfigs of their accounts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::{environment, host::folder, plugin::SYSTEM, world::World};

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

/// The chart's own release, which a story changes. It is as before when this is dropped, but without replicas, as the stories
/// that run hosts of their own want it.
pub struct Release {
    values: PathBuf,
}

impl Release {
    /// The release with its values.
    pub fn of(world: &World) -> Self {
        let get = ["get", "values", "operon", "--namespace", SYSTEM];
        let values = helm_does(&[&get[..], &["--output=yaml"]].concat());
        let folder = folder(world);
        fs::create_dir_all(&folder).expect("a folder of our own");
        let file = folder.join("values.yaml");
        fs::write(&file, values).expect("a file of our own");
        Self { values: file }
    }

    /// Installs or upgrades it from a chart, with other values, and waits until its replicas are ready.
    pub fn try_install(&self, chart: &Path, others: &[&str]) -> Output {
        let (chart, values) = (chart.to_string_lossy(), self.values.to_string_lossy());
        let install = ["upgrade", "--install", "operon", &*chart];
        let namespace = ["--namespace", SYSTEM, "--wait", "--timeout=3m"];
        let mut arguments = [&install[..], &namespace, &["--values", &*values]].concat();
        arguments.extend(others.iter().flat_map(|other| ["--set", other]));
        helm(&arguments)
    }

    /// As [`Release::try_install`]; it succeeds.
    pub fn install(&self, chart: &Path, others: &[&str]) {
        let output = self.try_install(chart, others);
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        let output = self.try_install(&environment::chart(), &["replicas=0"]);
        if output.status.success() {
            // The tokens of a ServiceAccount end with it, and there may be a new one.
            write_kubeconfig("operon", SYSTEM, &environment::host_kubeconfig());
        } else {
            eprintln!("the chart is not installed as before: {output:?}");
        }
    }
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
