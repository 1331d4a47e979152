//! Which crates are in which program: the host has nothing of the command, and the command nothing of the host.

use std::process::Command;

/// The names of all packages that a package is built from, without its tests.
fn dependencies_of(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ])
        .args(["--format", "{p}", "--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = lines
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_host_is_built_from_nothing_of_the_command() {
    let found = dependencies_of("operon");
    assert!(found.iter().any(|name| name == "operon-api"), "{found:?}");
    for forbidden in [
        "kubectl-operon",
        "operon-cli-cluster",
        "operon-cli-model",
        "operon-dashboard",
        "operon-flow-graph",
    ] {
        assert!(!found.iter().any(|name| name == forbidden), "{forbidden}");
    }
}

#[test]
fn the_command_is_built_from_neither_the_controllers_nor_wasmtime() {
    let found = dependencies_of("kubectl-operon");
    for forbidden in ["wasmtime", "wasmparser"] {
        assert!(!found.iter().any(|name| name == forbidden), "{forbidden}");
    }
    let expected = [
        "kubectl-operon",
        "operon-api",
        "operon-cli-cluster",
        "operon-cli-model",
        "operon-core",
        "operon-dashboard",
        "operon-flow-graph",
    ];
    assert_eq!(ours("kubectl-operon"), expected);
}

#[test]
fn of_the_workspace_the_model_is_built_from_the_api_types_only() {
    assert_eq!(ours("operon-cli-model"), ["operon-api", "operon-cli-model"]);
}

#[test]
fn what_the_command_and_its_page_read_comes_from_one_crate_that_knows_neither() {
    let expected = ["operon-api", "operon-cli-cluster", "operon-cli-model"];
    assert_eq!(ours("operon-cli-cluster"), expected);
    assert!(!ours("operon-dashboard").contains(&"kubectl-operon".to_owned()));
}

#[test]
fn of_the_workspace_the_drawing_of_flows_is_built_from_the_api_types_and_the_decisions_only() {
    let expected = ["operon-api", "operon-core", "operon-flow-graph"];
    assert_eq!(ours("operon-flow-graph"), expected);
}

/// The packages of the workspace that a package is built from, in alphabetical order.
fn ours(package: &str) -> Vec<String> {
    let mut found = dependencies_of(package);
    found.retain(|name| name.contains("operon"));
    found.sort_unstable();
    found.dedup();
    found
}
