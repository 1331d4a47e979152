//! `cargo xtask test`: every check there is, as steps that can be run one by one.
//!
//! `cargo xtask ci` is the same, for machines: all steps, from nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use operon_devcluster::{Cluster, Nodes, Options, Progress, Tool, output_of};

use crate::{chart, cluster, crds, demo, deny, host, tools};

/// Which checks to run, and where.
#[derive(Debug, Default, Args)]
pub(crate) struct Arguments {
    /// The steps to run [default: all]
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// What the nodes of the end-to-end cluster are [default: real where this machine can]
    #[arg(long)]
    nodes: Option<cluster::NodesArgument>,
    /// Leave the end-to-end cluster up
    #[arg(long)]
    keep: bool,
    /// Only the end-to-end stories whose name holds this
    #[arg(long, value_name = "TEXT")]
    story: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Format,
    /// Clippy has nothing to say
    Lint,
    /// Unit tests, native tests of actions, tests of the runtime with real components
    Unit,
    /// Generated files are up to date
    Generated,
    /// Licences, duplicates and sources of dependencies
    Deny,
    /// The chart passes `helm lint --strict`
    Chart,
    /// Stories on a real control plane, the host installed by its chart
    E2e,
    /// The demo
    Demo,
}

const ALL: [Step; 8] = [
    Step::Format,
    Step::Lint,
    Step::Generated,
    Step::Unit,
    Step::Deny,
    Step::Chart,
    Step::E2e,
    Step::Demo,
];

/// Components that tests load, by package.
const COMPONENTS: [&str; 3] = [
    "operon-action-replace",
    "operon-example-annotate",
    "operon-hostile-guest",
];

/// The cluster of the end-to-end stories.
const CLUSTER: &str = "test";

/// Runs the steps that were asked for; the first that fails ends the run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    let steps = if arguments.steps.is_empty() {
        &ALL[..]
    } else {
        &arguments.steps
    };
    let mut times = Vec::new();
    for step in steps {
        let name = step
            .to_possible_value()
            .map_or_else(String::new, |v| v.get_name().to_owned());
        eprintln!("\n━━ {name}");
        let begin = Instant::now();
        run_step(*step, arguments, &progress).with_context(|| format!("step {name}"))?;
        times.push((name, begin.elapsed()));
    }
    report(&times);
    Ok(())
}

fn report(times: &[(String, Duration)]) {
    println!("\nAll checks passed:");
    for (name, time) in times {
        println!("  {name:<10} {:>6.1} s", time.as_secs_f64());
    }
}

fn run_step(step: Step, arguments: &Arguments, progress: &Progress) -> Result<()> {
    match step {
        Step::Format => cargo(progress, "cargo fmt", &["fmt", "--all", "--check"]),
        Step::Lint => cargo(
            progress,
            "cargo clippy",
            &[
                "clippy",
                "--quiet",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ],
        ),
        Step::Unit => unit(progress),
        Step::Generated => crds::check(progress),
        Step::Deny => deny::check(progress),
        Step::Chart => lint_chart(progress),
        Step::E2e => end_to_end(arguments, progress),
        Step::Demo => demo::check(arguments.nodes),
    }
}

fn cargo(progress: &Progress, what: &str, arguments: &[&str]) -> Result<()> {
    tools::run(progress, what, tools::cargo().args(arguments))
}

fn unit(progress: &Progress) -> Result<()> {
    let components = components(progress)?;
    let mut command = tools::cargo();
    command
        .args(["test", "--quiet", "--workspace", "--exclude", "operon-e2e"])
        .env("OPERON_WASM_DIR", components);
    tools::run(
        progress,
        "cargo test, all but the end-to-end stories",
        &mut command,
    )
}

/// Builds the components that tests load and returns their folder.
fn components(progress: &Progress) -> Result<PathBuf> {
    let mut folder = PathBuf::new();
    for package in COMPONENTS {
        let file = tools::build_wasm(progress, package)?;
        folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    }
    Ok(folder)
}

fn lint_chart(progress: &Progress) -> Result<()> {
    let chart = chart::stage(progress)?;
    let mut helm = std::process::Command::new(Tool::Helm.ensure(progress)?);
    tools::run(
        progress,
        "helm lint --strict",
        helm.args(["lint", "--strict"]).arg(chart),
    )
}

/// Brings up a cluster, installs the host, runs the stories, and ends the cluster again.
fn end_to_end(arguments: &Arguments, progress: &Progress) -> Result<()> {
    let nodes = match arguments.nodes {
        Some(nodes) => nodes.into(),
        None => cluster::default_nodes(progress),
    };
    let built = host::build(progress, false)?;
    let components = components(progress)?;
    let mut cluster = Cluster::up(&Options::new(CLUSTER, nodes), progress)?;
    let stories = host::install(&mut cluster, &built, progress).and_then(|host| {
        let stories = Stories {
            cluster: &cluster,
            host: &host,
            built: &built,
            components: &components,
        };
        stories.run(arguments.story.as_deref(), progress)
    });
    if let Err(error) = &stories {
        progress.say(format!("the stories failed: {error:#}"));
        show_host_log(&cluster, progress);
    }
    if arguments.keep {
        progress.say(format!(
            "cluster {CLUSTER} is left up: export KUBECONFIG={}",
            cluster.kubeconfig().display()
        ));
    } else {
        Cluster::down(CLUSTER, progress)?;
    }
    stories
}

/// What a story is told with.
struct Stories<'a> {
    cluster: &'a Cluster,
    host: &'a host::Host,
    built: &'a host::Built,
    components: &'a Path,
}

impl Stories<'_> {
    /// First those that share the host, then, alone, those that kill hosts.
    fn run(&self, only: Option<&str>, progress: &Progress) -> Result<()> {
        let (alone, shared): (Vec<_>, Vec<_>) = Self::targets()?
            .into_iter()
            .partition(|name| name.ends_with("crash"));
        let mut stories = self.stories(&shared, 4, progress)?;
        tools::run(progress, "end-to-end stories", stories.args(only))?;
        self.stop_host(progress)?;
        let mut stories = self.stories(&alone, 1, progress)?;
        tools::run(
            progress,
            "end-to-end stories in which hosts are killed",
            stories.args(only),
        )
    }

    /// These files of stories, so many stories at a time.
    fn stories(
        &self,
        files: &[String],
        at_a_time: usize,
        progress: &Progress,
    ) -> Result<std::process::Command> {
        let mut command = self.cargo_test(progress)?;
        for file in files {
            command.args(["--test", file]);
        }
        command.args(["--", &format!("--test-threads={at_a_time}")]);
        Ok(command)
    }

    /// The test files.
    fn targets() -> Result<Vec<String>> {
        let folder = tools::workspace_dir().join("e2e/tests");
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("failed to read {}", folder.display()))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
            .collect();
        names.sort();
        if names.is_empty() {
            bail!("there are no stories in {}", folder.display());
        }
        Ok(names)
    }

    fn cargo_test(&self, progress: &Progress) -> Result<std::process::Command> {
        let mut command = tools::cargo();
        command
            .args(["test", "--quiet", "--workspace", "--no-fail-fast"])
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("OPERON_NODES", self.cluster.nodes().to_string())
            .env("OPERON_KUBECTL", Tool::Kubectl.ensure(progress)?)
            .env("OPERON_HELM", Tool::Helm.ensure(progress)?)
            .env("OPERON_CHART", &self.built.chart)
            .env("OPERON_WASM_DIR", self.components)
            .env("OPERON_BINARY", &self.built.binary)
            .env("OPERON_HOST_KUBECONFIG", &self.host.kubeconfig);
        Ok(command)
    }

    /// Ends the host that the chart installed: the stories that follow run hosts of their own.
    fn stop_host(&self, progress: &Progress) -> Result<()> {
        if let Some(process) = &self.host.process {
            process.end(Duration::from_secs(10))?;
        }
        let mut scale = self.cluster.kubectl(progress)?;
        scale.args([
            "--namespace",
            host::NAMESPACE,
            "scale",
            "deployment",
            host::RELEASE,
            "--replicas=0",
        ]);
        output_of(&mut scale)?;
        let mut gone = self.cluster.kubectl(progress)?;
        gone.args([
            "--namespace",
            host::NAMESPACE,
            "wait",
            "--for=delete",
            "pods",
            "--all",
            "--timeout=60s",
        ]);
        output_of(&mut gone)
            .context("the chart's host does not end")
            .map(drop)
    }
}

/// The last lines of the host's log, to see what went wrong before the cluster is gone.
fn show_host_log(cluster: &Cluster, progress: &Progress) {
    let printed = match cluster.nodes() {
        Nodes::Real => cluster.kubectl(progress).and_then(|mut kubectl| {
            output_of(kubectl.args([
                "--namespace",
                host::NAMESPACE,
                "logs",
                "--selector=app.kubernetes.io/name=operon",
                "--prefix",
                "--tail=40",
            ]))
        }),
        Nodes::Simulated => cluster
            .state_dir()
            .context("no state folder")
            .map(|state| operon_devcluster::last_lines(&state.join("logs/operon.log"), 40)),
    };
    match printed {
        Ok(lines) => eprintln!("the host's log ends so:\n{lines}"),
        Err(error) => eprintln!("the host's log can't be read: {error:#}"),
    }
}
