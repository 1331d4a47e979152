//! Installs the host into a cluster by its chart, as a user would: what demo, tests and measurements
//! share.
//!
//! On a real node the host runs as the chart's own Deployment, from an image made here. On simulated
//! nodes nothing runs, so the chart is installed with no replicas and the host runs as a process here,
//! with a token of the chart's ServiceAccount: the chart's RBAC is what is tested in both.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Cluster, Nodes, Process, Progress, assemble_rootfs, output_of};

use crate::{image, plugins, tools};

/// Where the host is installed.
pub(crate) const NAMESPACE: &str = "operon-system";
/// The release's name, and so the Deployment's and the ServiceAccount's.
pub(crate) const RELEASE: &str = "operon";

/// What was built for an installation.
pub(crate) struct Built {
    /// The program.
    pub(crate) binary: PathBuf,
    /// The folder of the built-in actions' components.
    pub(crate) plugins: PathBuf,
}

impl Built {
    /// `kubectl operon`, which is built beside a program that is not optimised.
    pub(crate) fn cli(&self) -> PathBuf {
        self.binary.with_file_name("kubectl-operon")
    }
}

/// An installed host.
pub(crate) struct Host {
    /// A kubeconfig with the rights of the chart's ServiceAccount.
    pub(crate) kubeconfig: PathBuf,
    /// The host itself, where nodes are simulated.
    pub(crate) process: Option<Process>,
    /// Where its metrics are served, where nodes are simulated.
    pub(crate) metrics: Option<String>,
}

/// Builds the program and the chart; `release` asks for an optimised program.
pub(crate) fn build(progress: &Progress, release: bool) -> Result<Built> {
    Ok(Built {
        binary: build_program(progress, release)?,
        plugins: plugins::build(progress)?,
    })
}

/// Builds the program and returns its path. Unless it is optimised, `kubectl-operon` is built beside it, for the stories.
pub(crate) fn build_program(progress: &Progress, release: bool) -> Result<PathBuf> {
    let mut command = tools::cargo();
    command.args(["build", "--quiet", "--bin", "operon"]);
    if release {
        command.args(["--package", "operon", "--release"]);
    } else {
        // With the whole workspace selected, dependencies are built once for this and for all tests.
        command.args(["--workspace", "--bin", "kubectl-operon"]);
    }
    tools::run(
        progress,
        "building the host (some minutes the first time)",
        &mut command,
    )?;
    let profile = if release { "release" } else { "debug" };
    Ok(tools::target_dir().join(profile).join("operon"))
}

/// Builds `kubectl operon`, without the host, and returns the program.
pub(crate) fn build_cli(progress: &Progress) -> Result<PathBuf> {
    let mut command = tools::cargo();
    // With the whole workspace selected, it has the dependencies of all other builds.
    command.args(["build", "--quiet", "--workspace", "--bin", "kubectl-operon"]);
    tools::run(progress, "building kubectl operon", &mut command)?;
    Ok(tools::target_dir().join("debug/kubectl-operon"))
}

/// Installs the host and waits until it serves.
pub(crate) fn install(cluster: &mut Cluster, built: &Built, progress: &Progress) -> Result<Host> {
    if cluster.record().is_none() {
        bail!(
            "a cluster of your own can't take an image from here: install the chart with helm instead"
        );
    }
    match cluster.nodes() {
        Nodes::Real => install_on_node(cluster, built, progress),
        Nodes::Simulated => install_beside(cluster, built, progress),
    }
}

/// As the chart's own Deployment.
fn install_on_node(cluster: &Cluster, built: &Built, progress: &Progress) -> Result<Host> {
    let rootfs = tools::target_dir().join("image");
    assemble_rootfs(&built.binary, &rootfs)?;
    plugins::put_into(&rootfs, &built.plugins)?;
    image::load(cluster, &rootfs, image::HOST_IMAGE, progress)?;
    let (repository, tag) = image::HOST_IMAGE
        .rsplit_once(':')
        .context("the image has no tag")?;
    let repository = format!("image.repository={repository}");
    let tag = format!("image.tag={tag}");
    let image = [
        "--set",
        &repository,
        "--set",
        &tag,
        "--set",
        "image.pullPolicy=Never",
        // The node shares the machine with whatever else is built and run on it.
        "--set",
        "resources.requests.cpu=500m",
    ];
    helm_install(cluster, &image, progress)?;
    wait_for_action(cluster, progress)?;
    Ok(Host {
        kubeconfig: account_kubeconfig(cluster, progress)?,
        process: None,
        metrics: None,
    })
}

/// As a process of this machine.
fn install_beside(cluster: &mut Cluster, built: &Built, progress: &Progress) -> Result<Host> {
    helm_install(cluster, &["--set", "replicas=0"], progress)?;
    let kubeconfig = account_kubeconfig(cluster, progress)?;
    let (process, metrics) = start_process(cluster, built, &kubeconfig, progress)?;
    Ok(Host {
        kubeconfig,
        process: Some(process),
        metrics: Some(metrics),
    })
}

/// Starts the host as a process, with the rights of the chart's ServiceAccount, and waits until it serves.
pub(crate) fn start_process(
    cluster: &mut Cluster,
    built: &Built,
    kubeconfig: &Path,
    progress: &Progress,
) -> Result<(Process, String)> {
    let (process, listen) = spawn(cluster, built, kubeconfig, progress)?;
    wait_for_action(cluster, progress).and_then(|()| process.expect_alive())?;
    Ok((process, listen))
}

/// Starts the process; the address is that of its probes and metrics.
pub(crate) fn spawn(
    cluster: &mut Cluster,
    built: &Built,
    kubeconfig: &Path,
    progress: &Progress,
) -> Result<(Process, String)> {
    let state = cluster
        .state_dir()
        .context("the cluster has no state folder")?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(&built.binary);
    command
        .args([
            "run",
            "--log-format",
            "text",
            "--listen",
            &listen,
            "--namespace",
            NAMESPACE,
        ])
        .args(["--instance", "operon-process"])
        .arg("--controllers=reactivejob,jobflow,daemonjob,collaset,podopslifecycle")
        .arg("--cache-dir")
        .arg(state.join("compiled"))
        .arg("--plugins-dir")
        .arg(&built.plugins)
        .env("KUBECONFIG", kubeconfig)
        // As the chart is installed here.
        .env("OPERON_MAX_COMPONENT_SIZE", "32")
        .env("OPERON_COMPILE_TIMEOUT", "120")
        // As in the chart.
        .env("MALLOC_ARENA_MAX", "2");
    let process = cluster.attach("operon", &mut command)?;
    progress.say(format!(
        "the host runs as a process (its log: {})",
        process.log.display()
    ));
    Ok((process, listen))
}

/// Makes the operator's namespace, in which only pods of the strictest Pod Security Standard may run.
fn make_namespace(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let kubectl = |arguments: &[&str]| output_of(cluster.kubectl(progress)?.args(arguments));
    let found = [
        "get",
        "namespace",
        NAMESPACE,
        "--ignore-not-found",
        "--output=name",
    ];
    if kubectl(&found)?.trim().is_empty() {
        kubectl(&["create", "namespace", NAMESPACE])?;
    }
    let standard = "pod-security.kubernetes.io/enforce=restricted";
    kubectl(&["label", "namespace", NAMESPACE, standard, "--overwrite"]).map(drop)
}

fn helm_install(cluster: &Cluster, settings: &[&str], progress: &Progress) -> Result<()> {
    make_namespace(cluster, progress)?;
    let mut helm = cluster.helm(progress)?;
    helm.args(["upgrade", "--install", RELEASE])
        .arg(tools::chart_dir())
        .args(["--namespace", NAMESPACE, "--wait", "--timeout", "3m"])
        // The stories replace all pods of a Deployment at the same time.
        .args(["--set-string", "actions.replace.settings.maxReleased=100%"])
        .args(["--set", "controllers.collaSet.enabled=true"])
        .args(["--set", "controllers.podOpsLifecycle.enabled=true"])
        // The stories of Debug.
        .args(["--set", "actions.debug.enabled=true"])
        // The story of a private registry.
        .args(["--set", "oci.pullSecrets={e2e-registry,e2e-signed}"])
        // The story of Python.
        .args([
            "--set",
            "components.maxSizeMiB=32,components.compileSeconds=120",
        ])
        .args(settings);
    progress.say(format!(
        "helm upgrade --install {RELEASE} … --namespace {NAMESPACE} --wait"
    ));
    output_of(&mut helm).context("helm could not install the chart")?;
    Ok(())
}

/// Waits until the built-in action serves.
pub(crate) fn wait_for_action(cluster: &Cluster, progress: &Progress) -> Result<()> {
    let mut wait = cluster.kubectl(progress)?;
    wait.args([
        "wait",
        "--for=condition=Ready",
        "actionplugin/replace",
        "--timeout=120s",
    ]);
    output_of(&mut wait).context("the action Replace is not served")?;
    Ok(())
}

/// A kubeconfig with a token of the chart's ServiceAccount, made from the administrator's.
fn account_kubeconfig(cluster: &Cluster, progress: &Progress) -> Result<PathBuf> {
    let state = cluster
        .state_dir()
        .context("the cluster has no state folder")?;
    let file = state.join("operon.kubeconfig");
    let mut token = cluster.kubectl(progress)?;
    token.args([
        "--namespace",
        NAMESPACE,
        "create",
        "token",
        RELEASE,
        "--duration=24h",
    ]);
    let token = output_of(&mut token).context("no token for the chart's ServiceAccount")?;
    fs::copy(cluster.kubeconfig(), &file)
        .with_context(|| format!("failed to write {}", file.display()))?;
    for arguments in [
        vec![
            "config",
            "set-credentials",
            "operon",
            "--token",
            token.trim(),
        ],
        vec!["config", "set-context", "--current", "--user=operon"],
    ] {
        let mut config = cluster.kubectl(progress)?;
        output_of(config.args(&arguments).env("KUBECONFIG", &file))
            .context("failed to write the host's kubeconfig")?;
    }
    Ok(file)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
    Ok(listener
        .local_addr()
        .context("no free port on loopback")?
        .port())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every package of a build of the workspace, with its features.
    fn packages(edges: &str) -> Result<BTreeSet<String>> {
        let mut command = tools::cargo();
        command.args(["tree", "--offline", "--workspace", "--prefix", "none"]);
        command.args(["--format", "{p} {f}", "--edges", edges]);
        let lines = output_of(&mut command)?;
        let packages = lines.lines().map(|line| line.trim_end_matches(" (*)"));
        Ok(packages.map(str::to_owned).collect())
    }

    #[test]
    fn the_programs_and_the_tests_share_their_dependencies() -> Result<()> {
        let programs = packages("normal,build")?;
        let tests = packages("normal,build,dev")?;
        let built_twice: Vec<_> = programs.difference(&tests).collect();
        assert!(
            built_twice.is_empty(),
            "tests turn on features, so that the packages that depend on these are built twice: name the features in \
             e2e/Cargo.toml: {built_twice:?}"
        );
        Ok(())
    }

    #[test]
    fn the_profile_of_tests_names_each_package_of_the_workspace() -> Result<()> {
        let mut command = tools::cargo();
        command.args(["metadata", "--offline", "--no-deps", "--format-version=1"]);
        let metadata: serde_json::Value = serde_json::from_str(&output_of(&mut command)?)?;
        let manifest = fs::read_to_string(tools::workspace_dir().join("Cargo.toml"))?;
        let packages = metadata["packages"].as_array();
        for package in packages.context("cargo metadata lists packages")? {
            let name = package["name"].as_str().context("a package has a name")?;
            let line = format!("{name} = {{ opt-level = 0, debug = \"line-tables-only\" }}");
            assert!(
                manifest.lines().any(|found| found == line),
                "add a line to [profile.dev.package] in Cargo.toml, or {name} is optimised in each build of the tests: {line}"
            );
        }
        Ok(())
    }
}
