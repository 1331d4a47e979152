//! The programs a cluster is made of, and where each is found.
//!
//! In this order: the folder that `KUBEBUILDER_ASSETS` names, our cache, a build from the
//! Go modules in `devcluster/tools/` into that cache. The module files pin every byte
//! (`go.sum`); a folder of the cache is named by a hash of them, so a change builds anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::cache::{Lock, cache_dir, make_dir};
use crate::image::hex;
use crate::process::{find_program, output_of};
use crate::progress::Progress;

/// The Kubernetes release that is built.
pub const KUBERNETES_VERSION: &str = "v1.34.4";

/// Charts refuse a control plane that does not say which version it is.
const KUBERNETES_STAMP: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.34.4 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=34 \
    -X k8s.io/component-base/version.gitTreeState=clean \
    -X k8s.io/client-go/pkg/version.gitVersion=v1.34.4";

/// A program of the cluster, or one to talk to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The store behind the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The built-in controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The agent of a real node.
    Kubelet,
    /// The command line client.
    Kubectl,
    /// Gives Services their addresses on a real node.
    KubeProxy,
    /// Plays the kubelets of simulated nodes.
    Kwok,
    /// Installs charts.
    Helm,
    /// The same, as of the release that waits by kstatus.
    Helm4,
    /// Tests the templates of a chart.
    HelmUnittest,
    /// Says what kstatus and Argo CD think of objects.
    Judge,
    /// A registry of artifacts in memory, with the referrers API.
    Registry,
    /// The registry that most others are made of, without the referrers API.
    Distribution,
    /// Pushes images to a registry.
    Crane,
    /// Pushes artifacts of any media type to a registry.
    Oras,
    /// Installs plugins of kubectl.
    Krew,
    /// Checks the manifest of a plugin as krew's index does.
    KrewValidator,
    /// Checks the workflows of GitHub Actions.
    Actionlint,
}

impl Tool {
    /// What every cluster needs, whatever its nodes are. Ordered as they are built: the long ones first.
    pub const CONTROL_PLANE: [Self; 5] = [
        Self::Etcd,
        Self::KubeApiserver,
        Self::Kubectl,
        Self::KubeControllerManager,
        Self::KubeScheduler,
    ];

    /// The name of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Kubectl => "kubectl",
            Self::KubeProxy => "kube-proxy",
            Self::Kwok => "kwok",
            Self::Helm => "helm",
            Self::Helm4 => "helm4",
            Self::HelmUnittest => "helm-unittest",
            Self::Judge => "judge",
            Self::Registry => "registry",
            Self::Distribution => "distribution",
            Self::Crane => "crane",
            Self::Oras => "oras",
            Self::Krew => "krew",
            Self::KrewValidator => "validate-krew-manifest",
            Self::Actionlint => "actionlint",
        }
    }

    const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Self::Helm => "helm.sh/helm/v3/cmd/helm",
            Self::Helm4 => "helm.sh/helm/v4/cmd/helm",
            Self::HelmUnittest => "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
            Self::Judge => "operon.dev/devcluster/tools/judge",
            Self::Registry => "operon.dev/devcluster/tools/registry",
            Self::Distribution => "github.com/distribution/distribution/v3/cmd/registry",
            Self::Crane => "github.com/google/go-containerregistry/cmd/crane",
            Self::Oras => "oras.land/oras/cmd/oras",
            Self::Krew => "sigs.k8s.io/krew/cmd/krew",
            Self::KrewValidator => "sigs.k8s.io/krew/cmd/validate-krew-manifest",
            Self::Actionlint => "github.com/rhysd/actionlint/cmd/actionlint",
        }
    }

    /// The Go module in `devcluster/tools/` that pins it.
    const fn module(self) -> &'static str {
        match self {
            Self::Kwok => "kwok",
            Self::KubeProxy => "kube-proxy",
            Self::Helm4 => "helm",
            Self::HelmUnittest => "helm-unittest",
            Self::Judge => "judge",
            Self::Registry | Self::Crane => "registry",
            Self::Distribution => "distribution",
            Self::Oras => "oras",
            Self::Krew | Self::KrewValidator => "krew",
            Self::Actionlint => "actionlint",
            Self::Etcd
            | Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::Kubectl
            | Self::Helm => "kubernetes",
        }
    }

    const fn linker_flags(self) -> &'static str {
        match self {
            Self::Etcd
            | Self::Kwok
            | Self::Helm4
            | Self::HelmUnittest
            | Self::Judge
            | Self::Registry
            | Self::Distribution
            | Self::Crane
            | Self::Oras
            | Self::Krew
            | Self::KrewValidator
            | Self::Actionlint => "-s -w",
            Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::Kubectl
            | Self::KubeProxy
            | Self::Helm => KUBERNETES_STAMP,
        }
    }

    /// Where it is found without building, if anywhere.
    pub fn find(self) -> Option<PathBuf> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS")
            .map(|folder| PathBuf::from(folder).join(self.name()));
        let cached = self.cached().ok();
        assets.into_iter().chain(cached).find(|file| file.is_file())
    }

    /// Where it is found, building it first if need be.
    pub fn ensure(self, progress: &Progress) -> Result<PathBuf> {
        match self.find() {
            Some(file) => Ok(file),
            None => self.build(progress),
        }
    }

    fn cached(self) -> Result<PathBuf> {
        let key = module_key(self.module())?;
        Ok(cache_dir()?
            .join("tools")
            .join(format!("{}-{key}", self.module()))
            .join(self.name()))
    }

    /// Builds it into the cache. The finished program appears under its name whole or not at all.
    fn build(self, progress: &Progress) -> Result<PathBuf> {
        let target = self.cached()?;
        let folder = target.parent().context("the cache has no parent folder")?;
        let _lock = Lock::acquire(&cache_dir()?.join("tools/build.lock"), || {
            progress.say("another build of the cluster's programs is running; waiting for it");
        })?;
        if target.is_file() {
            return Ok(target);
        }
        let go = go(progress)?;
        make_dir(folder)?;
        let began = Instant::now();
        progress.say(format!(
            "building {} (once; later runs use {})",
            self.name(),
            folder.display()
        ));
        let unfinished = folder.join(format!(".{}.unfinished", self.name()));
        let mut command = Command::new(go);
        command
            .current_dir(module_folder(self.module()))
            .env("CGO_ENABLED", "0") // no C compiler needed, no library of this machine linked
            .args([
                "build",
                "-mod=readonly",
                "-buildvcs=false",
                "-trimpath",
                "-ldflags",
                self.linker_flags(),
                "-o",
            ])
            .arg(&unfinished)
            .arg(self.package());
        progress.run_logged(
            &format!("building {}", self.name()),
            &mut command,
            &folder.join(format!("{}.log", self.name())),
        )?;
        fs::rename(&unfinished, &target)
            .with_context(|| format!("failed to write {}", target.display()))?;
        progress.say(format!(
            "built {} in {} s",
            self.name(),
            began.elapsed().as_secs()
        ));
        Ok(target)
    }
}

fn module_folder(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tools")
        .join(module)
}

/// Names a build by everything that decides its bytes: the module's files, the flags, the architecture.
fn module_key(module: &str) -> Result<String> {
    let mut hash = Sha256::new();
    for name in ["go.mod", "go.sum", "main.go"] {
        let file = module_folder(module).join(name);
        // Most modules have no program of their own.
        if name == "main.go" && !file.is_file() {
            continue;
        }
        hash.update(fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?);
    }
    hash.update(KUBERNETES_STAMP);
    hash.update(std::env::consts::ARCH);
    Ok(hex(hash).chars().take(12).collect())
}

/// The Go command: present, or installed from the distribution where that is possible and recent enough.
fn go(progress: &Progress) -> Result<PathBuf> {
    if let Some(go) = find_program("go") {
        return Ok(go);
    }
    if install_go(progress).unwrap_or(false)
        && let Some(go) = find_program("go")
    {
        return Ok(go);
    }
    bail!(
        "Go is missing: the control plane ({KUBERNETES_VERSION}) and other tools are built from Go modules, once.\n  \
         Install Go 1.21 or newer from https://go.dev/dl/ (it fetches the release the modules ask for by itself),\n  \
         or name a folder with {} in KUBEBUILDER_ASSETS,\n  \
         or use a cluster of your own with --kubeconfig.",
        Tool::CONTROL_PLANE.map(Tool::name).join(", ")
    )
}

/// Go 1.21 is the first that fetches the newer release a module asks for.
fn install_go(progress: &Progress) -> Result<bool> {
    if !rustix::process::getuid().is_root() || find_program("apt-get").is_none() {
        return Ok(false);
    }
    let policy = output_of(Command::new("apt-cache").args(["policy", "golang-go"]))?;
    let candidate = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: 2:1."))
        .unwrap_or_default();
    let minor: u32 = candidate
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    if minor < 21 {
        return Ok(false);
    }
    progress.say("installing the distribution's Go (golang-go)");
    let mut command = Command::new("apt-get");
    command.args([
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "golang-go",
    ]);
    Ok(progress
        .run("installing golang-go", &mut command)?
        .success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_declared_by_its_module() -> Result<()> {
        let all = [
            Tool::Kubelet,
            Tool::KubeProxy,
            Tool::Kwok,
            Tool::Helm,
            Tool::Helm4,
            Tool::HelmUnittest,
            Tool::Judge,
            Tool::Registry,
            Tool::Distribution,
            Tool::Crane,
            Tool::Oras,
            Tool::Krew,
            Tool::KrewValidator,
            Tool::Actionlint,
        ];
        for tool in Tool::CONTROL_PLANE.into_iter().chain(all) {
            let declared = fs::read_to_string(module_folder(tool.module()).join("go.mod"))?;
            assert!(declared.contains(tool.package()), "{}", tool.name());
        }
        Ok(())
    }

    #[test]
    fn the_version_stamped_is_the_version_required() -> Result<()> {
        for module in ["kubernetes", "kube-proxy"] {
            let module = fs::read_to_string(module_folder(module).join("go.mod"))?;
            assert!(module.contains(&format!("k8s.io/kubernetes {KUBERNETES_VERSION}")));
        }
        assert!(KUBERNETES_STAMP.contains(&format!("gitVersion={KUBERNETES_VERSION}")));
        Ok(())
    }
}
