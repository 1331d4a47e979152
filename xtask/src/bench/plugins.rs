//! What actions cost: calls, memory, loading and pulling, measured by a program of the host's package; and the start of
//! a host whose plugins are compiled already, on a cluster of its own.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use operon_devcluster::{Cluster, Progress, Tool, output_of};
use serde_json::json;

use super::machine;
use super::metrics;
use super::table::Table;
use super::test_bed::Setup;
use crate::example::Example;
use crate::{host, tools};

/// Plugins of the host that starts, the built-in ones included.
const PLUGINS: usize = 20;

/// How soon such a host is to be ready.
const READY: Duration = Duration::from_secs(3);

/// How often a host is started.
const STARTS: usize = 5;

/// How large the bench is.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Measure only this
    #[arg(long, value_enum)]
    only: Option<Part>,
    #[command(flatten)]
    setup: Setup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls, memory, loading and pulling, in one process
    Actions,
    /// The start of a host, on a cluster
    Start,
}

/// Measures, and prints the table.
pub(super) fn run(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let Arguments { only, setup } = arguments;
    let is_wanted = |part| only.is_none_or(|only| only == part);
    tools::build_wasm(progress, "operon-example-annotate")?;
    let guest = tools::build_wasm(progress, "operon-hostile-guest")?;
    let components = guest.parent().unwrap_or(&guest);
    let mut table = Table::default();
    let machine = machine::description();
    if is_wanted(Part::Actions) {
        for example in Example::build_all(progress)? {
            example.put_into(components)?;
        }
        measure(components, setup.debug, &mut table, progress)?;
    }
    if is_wanted(Part::Start) {
        starts(components, setup, &mut table, progress)?;
    }
    println!("{machine}; load {} after it.\n", machine::load_average());
    println!("{}", table.markdown());
    Ok(())
}

/// Adds what the program of the host's package measures.
fn measure(components: &Path, debug: bool, table: &mut Table, progress: &Progress) -> Result<()> {
    let mut cargo = tools::cargo();
    cargo.args([
        "bench",
        "--quiet",
        "--package",
        "operon",
        "--bench",
        "plugins",
    ]);
    if debug {
        cargo.args(["--profile", "dev"]);
    }
    cargo
        .env("OPERON_WASM_DIR", components)
        .env("OPERON_REGISTRY", Tool::Registry.ensure(progress)?)
        .stdout(Stdio::piped());
    progress.say("cargo bench (builds the optimised host first), some minutes");
    let output = cargo.spawn()?.wait_with_output()?;
    if !output.status.success() {
        bail!("cargo bench failed ({})", output.status);
    }
    add_rows(&String::from_utf8(output.stdout)?, table)
}

/// Adds the measures that the program prints.
fn add_rows(printed: &str, table: &mut Table) -> Result<()> {
    for line in printed.lines() {
        let columns: Vec<_> = line.split('\t').collect();
        match columns.as_slice() {
            [measure, value, "", ""] => table.row(*measure, *value),
            [measure, value, goal, met @ ("met" | "missed")] => {
                table.goal(*measure, *value, goal, *met == "met");
            }
            _ => bail!("the benchmark printed a line that is no measure: {line:?}"),
        }
    }
    Ok(())
}

/// Adds how long a host takes from its start until it is ready, with the compiled code of all plugins in its cache.
fn starts(components: &Path, setup: &Setup, table: &mut Table, progress: &Progress) -> Result<()> {
    let component = components.join("operon_example_annotate.wasm");
    let prepared = setup.prepare("plugins", progress)?;
    let times = prepared.with_host("", 1, |cluster, host| {
        add_plugins(cluster, &component, progress)?;
        let mut running = host.process.context("the host runs as no process")?;
        let mut times = Vec::new();
        for _ in 0..STARTS {
            running.end(Duration::from_secs(10))?;
            let started = Instant::now();
            let (process, address) =
                host::spawn(cluster, &prepared.built, &host.kubeconfig, progress)?;
            while !serves_all(&address) {
                process.expect_alive()?;
                if started.elapsed() > READY * 20 {
                    bail!("the host was not ready after {} s", READY.as_secs() * 20);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            times.push(started.elapsed());
            running = process;
        }
        Ok(times)
    })?;
    let mut times = times;
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    table.goal(
        format!(
            "start of a host with {PLUGINS} plugins until it is ready, their code in the cache"
        ),
        format!("{middle:.1?}"),
        &format!("below {} s", READY.as_secs()),
        middle < READY,
    );
    Ok(())
}

/// Whether the host has loaded all plugins, and is ready for jobs.
fn serves_all(address: &str) -> bool {
    let is_ready = metrics::is_ready(address);
    let loaded = metrics::get(address, "/metrics").ok().and_then(|text| {
        let line = |line: &str| {
            line.strip_prefix("operon_plugins_loaded ")?
                .parse::<usize>()
                .ok()
        };
        text.lines().find_map(line)
    });
    is_ready && loaded.is_some_and(|loaded| loaded >= PLUGINS)
}

/// Adds plugins of components that differ, up to their number, and waits until all are loaded.
fn add_plugins(cluster: &Cluster, component: &Path, progress: &Progress) -> Result<()> {
    let present =
        output_of(
            cluster
                .kubectl(progress)?
                .args(["get", "actionplugins", "--output=name"]),
        )?;
    let bytes = std::fs::read(component).context("the example's component can't be read")?;
    let folder = cluster
        .state_dir()
        .context("the cluster has no state folder")?;
    for number in present.lines().count()..PLUGINS {
        let name = format!("bench-{number}");
        let file = folder.join("plugin.wasm");
        // A custom section that nothing reads makes another digest.
        let section = [0, 3, 1, b'x', u8::try_from(number)?];
        std::fs::write(&file, [&bytes[..], &section].concat())?;
        let mut create = cluster.kubectl(progress)?;
        create.args([
            "--namespace",
            host::NAMESPACE,
            "create",
            "configmap",
            &name,
            "--from-file",
        ]);
        output_of(create.arg(&file))?;
        let plugin = json!({
            "apiVersion": "operon.dev/v1alpha1",
            "kind": "ActionPlugin",
            "metadata": {"name": name},
            "spec": {
                "action": format!("Bench{number}"),
                "source": {"configMap": {"name": name}},
                "serviceAccountName": "action-replace",
            },
        });
        let manifest = folder.join("plugin.json");
        std::fs::write(&manifest, plugin.to_string())?;
        output_of(
            cluster
                .kubectl(progress)?
                .args(["create", "--filename"])
                .arg(&manifest),
        )?;
    }
    let mut wait = cluster.kubectl(progress)?;
    wait.args([
        "wait",
        "--for=condition=Ready",
        "actionplugins",
        "--all",
        "--timeout=300s",
    ]);
    output_of(&mut wait).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_benchmark_is_a_row_or_an_error() -> Result<()> {
        let mut table = Table::default();
        add_rows("a\t1\t\t\nb\t2\tat most 3\tmet\n", &mut table)?;
        let expected = "\
| measure | value | goal           |
|---------|-------|----------------|
| a       | 1     |                |
| b       | 2     | at most 3: met |
";
        assert_eq!(table.markdown(), expected);
        for line in ["a\t1", "warning", "a\t1\tat most 3\tno", ""] {
            let added = add_rows(&format!("{line}\n"), &mut table);
            assert!(added.is_err(), "{line:?}");
        }
        Ok(())
    }
}
