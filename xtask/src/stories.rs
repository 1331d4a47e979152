//! The end-to-end stories of `e2e/tests/stories`: which there are, on which cluster each runs, and how.
//!
//! Most run on the nodes that were asked for. Some need several nodes, which come and go, and a machine is
//! only one: theirs are simulated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, Nodes, Options, Progress, Tool, output_of, prometheus};

use crate::rights::{self, Right};
use crate::{host, release, tools};

/// Files whose names begin with one of these run on simulated nodes.
const SIMULATED: [&str; 3] = ["daemon_job", "gitops", "lost_node"];

/// A story that has a line which begins so ends the chart's host and runs its own: it runs last, and alone.
const ALONE: &str = "\n    alone(async";

/// Files whose names begin so measure what clients of pods notice, or take every node of the cluster: their stories
/// run one by one, beside the chart's host.
const UNDISTURBED: [&str; 2] = ["traffic", "daemon_job_seed"];

/// The file with stories that need Prometheus, which not every machine can have.
const PROMETHEUS: &str = "prometheus";

/// The file with stories of the files that a release publishes.
const RELEASE: &str = "release";

/// How many stories run at a time.
const AT_A_TIME: usize = 4;

/// What stories run with.
pub(crate) struct With {
    /// The host and its chart.
    pub(crate) built: host::Built,
    /// The folder of the components that stories load.
    pub(crate) components: PathBuf,
    /// Whether the clusters are left up.
    pub(crate) keep: bool,
    /// Whether the stories have to use each right that the chart grants.
    pub(crate) compares_rights: bool,
}

/// A story: a test of the program `stories` of the package `operon-e2e`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Story {
    /// The name of its file.
    file: String,
    /// `file::function`, as the test is called.
    name: String,
    /// Whether it ends the chart's host and runs its own.
    runs_hosts: bool,
}

impl Story {
    fn needs_simulated_nodes(&self) -> bool {
        SIMULATED.iter().any(|begin| self.file.starts_with(begin))
    }

    fn is_undisturbed(&self) -> bool {
        UNDISTURBED.iter().any(|begin| self.file.starts_with(begin))
    }
}

/// The stories to tell: all, or those whose name, as `file::story`, holds this text.
pub(crate) fn choose(text: Option<&str>) -> Result<Vec<Story>> {
    let folder = tools::workspace_dir().join("e2e/tests/stories");
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("failed to read {}", folder.display()))?;
    let main = source(&folder.join("main.rs"))?;
    let mut stories = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(file) = name.strip_suffix(".rs").filter(|file| *file != "main") else {
            continue;
        };
        let declaration = format!("mod {file};");
        if !main.lines().any(|line| line == declaration) {
            bail!(
                "{} lacks the line `{declaration}`",
                folder.join("main.rs").display()
            );
        }
        stories.extend(stories_in(file, &source(&path)?));
    }
    stories.retain(|story| text.is_none_or(|text| story.name.contains(text)));
    stories.sort();
    if stories.is_empty() {
        bail!("there is no such story in {}", folder.display());
    }
    Ok(stories)
}

fn source(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

/// The stories of a file: its functions that are marked as tests.
fn stories_in(file: &str, source: &str) -> Vec<Story> {
    let tests = source.split("\n#[tokio::test").skip(1);
    tests
        .filter_map(|test| {
            let (_, function) = test.split_once("\nasync fn ")?;
            let (name, rest) = function.split_once('(')?;
            let body = rest.split("\n}").next()?;
            Some(Story {
                file: file.to_owned(),
                name: format!("{file}::{name}"),
                runs_hosts: body.contains(ALONE),
            })
        })
        .collect()
}

/// Tells these stories: on each kind of nodes that one of them needs, a cluster is brought up, and ended
/// again.
pub(crate) fn tell(
    stories: &[Story],
    nodes: Nodes,
    with: &With,
    progress: &Progress,
) -> Result<()> {
    let nodes_of = |story: &Story| {
        if story.needs_simulated_nodes() {
            Nodes::Simulated
        } else {
            nodes
        }
    };
    let mut used = BTreeSet::new();
    for nodes in [Nodes::Real, Nodes::Simulated] {
        let here: Vec<_> = stories.iter().filter(|s| nodes_of(s) == nodes).collect();
        if !here.is_empty() {
            used.extend(tell_on(nodes, &here, with, progress)?);
        }
    }
    if with.compares_rights {
        rights::check(&used, progress)?;
    }
    Ok(())
}

/// Tells stories on a cluster of their own, and returns the rights that they used, if that matters.
fn tell_on(
    nodes: Nodes,
    stories: &[&Story],
    with: &With,
    progress: &Progress,
) -> Result<BTreeSet<Right>> {
    let name = format!("test-{nodes}");
    let options = Options {
        services: nodes == Nodes::Real,
        replace: true,
        audit: with.compares_rights,
        ..Options::new(&name, nodes)
    };
    let mut cluster = Cluster::up(&options, progress)?;
    let told = host::install(&mut cluster, &with.built, progress).and_then(|host| {
        let stage = Stage {
            cluster: &cluster,
            host: &host,
            with,
        };
        stage.tell(stories, progress)
    });
    if let Err(error) = &told {
        progress.say(format!("the stories failed: {error:#}"));
        show_host_log(&cluster, progress);
    }
    let used = match cluster.audit_log() {
        Some(log) if told.is_ok() => rights::used(log),
        _ => Ok(BTreeSet::new()),
    };
    if with.keep {
        progress.say(format!(
            "cluster {name} is left up: export KUBECONFIG={}",
            cluster.kubeconfig().display()
        ));
    } else {
        Cluster::down(&name, progress)?;
    }
    told.and(used)
}

/// Where stories run.
struct Stage<'a> {
    cluster: &'a Cluster,
    host: &'a host::Host,
    with: &'a With,
}

impl Stage<'_> {
    /// First those that share the host, then, one by one, those that nothing may disturb, and last those that kill hosts.
    fn tell(&self, stories: &[&Story], progress: &Progress) -> Result<()> {
        let (alone, beside_host): (Vec<&Story>, Vec<_>) =
            stories.iter().partition(|story| story.runs_hosts);
        let (undisturbed, shared): (Vec<&Story>, Vec<_>) = beside_host
            .into_iter()
            .partition(|story| story.is_undisturbed());
        if !shared.is_empty() {
            let mut stories = self.stories(&shared, AT_A_TIME, progress)?;
            tools::run(progress, "end-to-end stories", &mut stories)?;
        }
        if !undisturbed.is_empty() {
            let mut stories = self.stories(&undisturbed, 1, progress)?;
            stories.arg("--nocapture");
            let what = "end-to-end stories that run one by one";
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
    fn stories(
        &self,
        stories: &[&Story],
        at_a_time: usize,
        progress: &Progress,
    ) -> Result<Command> {
        let mut command = self.cargo_test(progress)?;
        if stories.iter().any(|story| story.file == PROMETHEUS) {
            command.env("OPERON_PROMETHEUS", prometheus("prometheus", progress)?);
        }
        if stories.iter().any(|story| story.file == RELEASE) {
            let folder = tools::target_dir().join("release-files");
            let built = &self.with.built;
            release::assemble(built, &built.cli(), &folder, progress)?;
            command.env("OPERON_RELEASE", folder);
        }
        command
            .args(["--", "--exact", &format!("--test-threads={at_a_time}")])
            .args(stories.iter().map(|story| &story.name));
        Ok(command)
    }

    fn cargo_test(&self, progress: &Progress) -> Result<Command> {
        let mut command = tools::cargo();
        command
            .args(["test", "--workspace", "--test", "stories"])
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("OPERON_NODES", self.cluster.nodes().to_string())
            .env("OPERON_KUBECTL", Tool::Kubectl.ensure(progress)?)
            .env("OPERON_HELM", Tool::Helm.ensure(progress)?)
            .env("OPERON_HELM_4", Tool::Helm4.ensure(progress)?)
            .env("OPERON_JUDGE", Tool::Judge.ensure(progress)?)
            .env("OPERON_REGISTRY", Tool::Registry.ensure(progress)?)
            .env("OPERON_ORAS", Tool::Oras.ensure(progress)?)
            .env("OPERON_CHART", tools::chart_dir())
            .env("OPERON_PLUGINS_DIR", &self.with.built.plugins)
            .env("OPERON_WASM_DIR", &self.with.components)
            .env("OPERON_BINARY", &self.with.built.binary)
            .env("OPERON_KUBECTL_PLUGIN", self.with.built.cli())
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
    story(async |world: &World| {});
}
#[tokio::test(flavor = \"multi_thread\")]
#[expect(clippy::x)]
async fn another_thing() {
    let arguments = [];
    alone(async |world: &World| {});
}
async fn a_last_helper() {
";

    #[test]
    fn stories_are_the_functions_that_are_marked_as_tests() {
        let stories = stories_in("a_file", SOURCE);
        let names: Vec<_> = stories.iter().map(|story| story.name.as_str()).collect();
        assert_eq!(names, ["a_file::one_thing", "a_file::another_thing"]);
    }

    #[test]
    fn a_story_that_ends_the_charts_host_is_told_apart() {
        let stories = stories_in("a_file", SOURCE);
        let alone: Vec<_> = stories.iter().map(|story| story.runs_hosts).collect();
        assert_eq!(alone, [false, true]);
        let all = choose(None).expect("the stories of the project");
        let signatures = all.iter().filter(|story| story.file == "signatures");
        assert_eq!(signatures.filter(|story| story.runs_hosts).count(), 1);
    }

    #[test]
    fn a_story_is_chosen_by_its_own_name_or_its_files() {
        let one = choose(Some("lost_node::")).expect("a file of the project");
        assert!(
            !one.is_empty() && one.iter().all(|story| story.file == "lost_node"),
            "{one:?}"
        );
        let all = choose(None).expect("the stories of the project");
        assert_eq!(
            all.iter().filter(|story| story.file == "lost_node").count(),
            one.len()
        );
        let name = one[0].name.split_once("::").expect("a name").1;
        assert!(choose(Some(name)).expect("a story").contains(&one[0]));
        assert!(choose(Some("there is none of this name")).is_err());
    }
}
