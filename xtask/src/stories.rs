//! The end-to-end stories of `e2e/tests`: which there are, on which cluster each is told, and how.
//!
//! Most run on the nodes that were asked for. Some need several nodes, which come and go, and a machine is
//! only one: theirs are simulated.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, Nodes, Options, Progress, Tool, output_of};

use crate::{host, tools};

/// Files whose names begin with one of these run on simulated nodes.
const SIMULATED: [&str; 2] = ["daemon_job", "lost_node"];

/// Files whose names end so run hosts of their own: they are told last, and alone.
const ALONE: [&str; 2] = ["crash", "kusionstack"];

/// Files whose names begin so measure what clients of pods notice: they run alone, beside the chart's
/// host.
const UNDISTURBED: &str = "traffic";

/// How many stories are told at a time.
const AT_A_TIME: usize = 4;

/// What stories are told with.
pub(crate) struct With {
    /// The host and its chart.
    pub(crate) built: host::Built,
    /// The folder of the components that stories load.
    pub(crate) components: PathBuf,
    /// Whether the clusters are left up.
    pub(crate) keep: bool,
}

/// A file of stories, and those of them that are told: all, unless they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    name: String,
    only: Option<Vec<String>>,
}

/// The stories to tell: all, or those whose name, as `file::story`, holds this text.
pub(crate) fn choose(text: Option<&str>) -> Result<Vec<File>> {
    let folder = tools::workspace_dir().join("e2e/tests");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("failed to read {}", folder.display()))?;
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(name) = name.strip_suffix(".rs") else {
            continue;
        };
        let source = std::fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        files.extend(chosen(name, &source, text));
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.is_empty() {
        bail!("there is no such story in {}", folder.display());
    }
    Ok(files)
}

/// The stories of a file that are told, if there are any.
fn chosen(name: &str, source: &str, text: Option<&str>) -> Option<File> {
    let only = text.map(|text| {
        let stories = stories_in(source);
        let is_meant = |story: &&str| format!("{name}::{story}").contains(text);
        stories.filter(is_meant).map(str::to_owned).collect()
    });
    let file = File {
        name: name.to_owned(),
        only,
    };
    (file.only != Some(Vec::new())).then_some(file)
}

/// The names of the stories in a file: functions that are marked as tests.
fn stories_in(source: &str) -> impl Iterator<Item = &str> {
    let mut lines = source.lines();
    std::iter::from_fn(move || {
        lines.find(|line| line.starts_with("#[tokio::test"))?;
        let function = lines.find_map(|line| line.strip_prefix("async fn "))?;
        function.split_once('(').map(|(name, _)| name)
    })
}

/// Tells these stories: on each kind of nodes that one of them needs, a cluster is brought up, and ended
/// again.
pub(crate) fn tell(files: &[File], nodes: Nodes, with: &With, progress: &Progress) -> Result<()> {
    let nodes_of = |file: &File| {
        if SIMULATED.iter().any(|begin| file.name.starts_with(begin)) {
            Nodes::Simulated
        } else {
            nodes
        }
    };
    for nodes in [Nodes::Real, Nodes::Simulated] {
        let here: Vec<_> = files.iter().filter(|f| nodes_of(f) == nodes).collect();
        if !here.is_empty() {
            tell_on(nodes, &here, with, progress)?;
        }
    }
    Ok(())
}

fn tell_on(nodes: Nodes, files: &[&File], with: &With, progress: &Progress) -> Result<()> {
    let name = format!("test-{nodes}");
    let options = Options {
        services: nodes == Nodes::Real,
        ..Options::new(&name, nodes)
    };
    let mut cluster = Cluster::up(&options, progress)?;
    let told = host::install(&mut cluster, &with.built, progress).and_then(|host| {
        let stage = Stage {
            cluster: &cluster,
            host: &host,
            with,
        };
        stage.tell(files, progress)
    });
    if let Err(error) = &told {
        progress.say(format!("the stories failed: {error:#}"));
        show_host_log(&cluster, progress);
    }
    if with.keep {
        progress.say(format!(
            "cluster {name} is left up: export KUBECONFIG={}",
            cluster.kubeconfig().display()
        ));
    } else {
        Cluster::down(&name, progress)?;
    }
    told
}

/// Where stories are told.
struct Stage<'a> {
    cluster: &'a Cluster,
    host: &'a host::Host,
    with: &'a With,
}

impl Stage<'_> {
    /// First those that share the host, then, alone, those that measure, and last those that kill hosts.
    fn tell(&self, files: &[&File], progress: &Progress) -> Result<()> {
        let is_alone = |file: &&&File| ALONE.iter().any(|end| file.name.ends_with(end));
        let (alone, beside_host): (Vec<&File>, Vec<_>) = files.iter().partition(is_alone);
        let (undisturbed, shared): (Vec<&File>, Vec<_>) = beside_host
            .into_iter()
            .partition(|file| file.name.starts_with(UNDISTURBED));
        if !shared.is_empty() {
            let mut stories = self.stories(&shared, AT_A_TIME, progress)?;
            tools::run(progress, "end-to-end stories", &mut stories)?;
        }
        if !undisturbed.is_empty() {
            let mut stories = self.stories(&undisturbed, 1, progress)?;
            stories.arg("--nocapture");
            let what = "end-to-end stories that measure";
            tools::run(progress, what, &mut stories)?;
        }
        if !alone.is_empty() {
            self.stop_host(progress)?;
            let mut stories = self.stories(&alone, 1, progress)?;
            let what = "end-to-end stories that run hosts of their own";
            tools::run(progress, what, &mut stories)?;
        }
        Ok(())
    }

    /// These stories, so many at a time.
    fn stories(&self, files: &[&File], at_a_time: usize, progress: &Progress) -> Result<Command> {
        let mut command = self.cargo_test(progress)?;
        for file in files {
            command.args(["--test", &file.name]);
        }
        command.args(["--", &format!("--test-threads={at_a_time}")]);
        let only = files.iter().filter_map(|file| file.only.as_ref()).flatten();
        let only: Vec<_> = only.collect();
        if !only.is_empty() {
            command.arg("--exact").args(only);
        }
        Ok(command)
    }

    fn cargo_test(&self, progress: &Progress) -> Result<Command> {
        let mut command = tools::cargo();
        command
            .args(["test", "--quiet", "--workspace", "--no-fail-fast"])
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("OPERON_NODES", self.cluster.nodes().to_string())
            .env("OPERON_KUBECTL", Tool::Kubectl.ensure(progress)?)
            .env("OPERON_HELM", Tool::Helm.ensure(progress)?)
            .env("OPERON_REGISTRY", Tool::Registry.ensure(progress)?)
            .env("OPERON_ORAS", Tool::Oras.ensure(progress)?)
            .env("OPERON_CHART", tools::chart_dir())
            .env("OPERON_PLUGINS_DIR", &self.with.built.plugins)
            .env("OPERON_WASM_DIR", &self.with.components)
            .env("OPERON_BINARY", &self.with.built.binary)
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

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
async fn a_helper(world: &World) {}
#[tokio::test]
async fn one_thing() {
#[tokio::test(flavor = \"multi_thread\")]
#[expect(clippy::x)]
async fn another_thing() {
async fn a_last_helper() {
";

    #[test]
    fn stories_are_the_functions_that_are_marked_as_tests() {
        let stories: Vec<_> = stories_in(SOURCE).collect();
        assert_eq!(stories, ["one_thing", "another_thing"]);
    }

    #[test]
    fn a_story_is_chosen_by_its_own_name_or_its_files() {
        let only = |text: Option<&str>| chosen("a_file", SOURCE, text).map(|file| file.only);
        let names = |names: &[&str]| Some(Some(names.iter().map(|n| (*n).to_owned()).collect()));
        assert_eq!(only(None), Some(None));
        assert_eq!(only(Some("one_")), names(&["one_thing"]));
        assert_eq!(only(Some("a_file")), names(&["one_thing", "another_thing"]));
        assert_eq!(only(Some("helper")), None);
    }
}
