//! kube-proxy: gives Services of a cluster with a real node their addresses, for pods and for this machine.
//!
//! It writes into the network of the machine, by the program nft: two tables of fixed names, which
//! `give_back` removes. The programs come from the cache; an nft that is installed goes first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::write;
use crate::control_plane::Launcher;
use crate::debian;
use crate::process::{find_program, output_of};
use crate::progress::Progress;
use crate::record::RealNode;
use crate::tools::Tool;

/// The families of kube-proxy's tables, all named `kube-proxy`.
const FAMILIES: [&str; 2] = ["ip", "ip6"];

/// The program nft, and what it needs in its environment.
struct Nft {
    program: PathBuf,
    /// Where its libraries are, if they are not installed.
    libraries: Option<PathBuf>,
}

impl Nft {
    /// The installed one, or else the one in the cache, if it is there.
    fn find() -> Result<Self> {
        if let Some(program) = find_program("nft") {
            return Ok(Self {
                program,
                libraries: None,
            });
        }
        let packages = debian::NFTABLES.unpacked()?;
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        Ok(Self {
            program: packages.join("usr/sbin/nft"),
            libraries: Some(packages.join(libraries)),
        })
    }

    /// Lets `command` find the libraries, for itself or for an nft that it runs.
    fn provide(&self, command: &mut Command) {
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        self.provide(&mut command);
        command
    }
}

/// Builds kube-proxy and fetches nft, and sees whether the kernel knows its tables.
pub(crate) fn ensure(progress: &Progress) -> Result<()> {
    Tool::KubeProxy.ensure(progress)?;
    if find_program("nft").is_none() {
        debian::NFTABLES.ensure(progress)?;
    }
    output_of(Nft::find()?.command().args(["list", "tables"]))
        .context("kube-proxy needs nftables in the kernel")?;
    Ok(())
}

/// Starts kube-proxy; waits until it has written what it knows.
pub(crate) fn start(launcher: &mut Launcher<'_>, node: &RealNode) -> Result<()> {
    let config = launcher.state.join("kube-proxy.yaml");
    write(&config, config_of(launcher, node))?;
    let nft = Nft::find()?;
    let mut proxy = launcher.command(&Tool::KubeProxy.ensure(launcher.progress)?);
    nft.provide(&mut proxy);
    proxy
        .env("PATH", path_with(nft.program.parent())?)
        .arg(format!("--config={}", config.display()));
    launcher.start("kube-proxy", &mut proxy)?;
    launcher.wait_until("Services have addresses", || {
        let mut list = nft.command();
        output_of(list.args(["list", "map", "ip", "kube-proxy", "service-ips"]))
            .is_ok_and(|map| map.contains(&node.api_address().to_string()))
    })
}

/// Removes kube-proxy's tables. It has ended.
pub(crate) fn give_back() {
    let Ok(nft) = Nft::find() else {
        return;
    };
    for family in FAMILIES {
        // One that was never made cannot be removed.
        let _ = output_of(
            nft.command()
                .args(["delete", "table", family, "kube-proxy"]),
        );
    }
}

fn path_with(folder: Option<&Path>) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = folder.map(Path::to_path_buf);
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))
        .context("PATH cannot be extended")
}

fn config_of(launcher: &Launcher<'_>, node: &RealNode) -> String {
    let kubeconfig = launcher.certificates.kubeconfig("kube-proxy");
    let ports = &launcher.record.ports;
    serde_json::json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node.node,
        "clientConnection": { "kubeconfig": kubeconfig },
        "healthzBindAddress": format!("127.0.0.1:{}", ports.proxy_health),
        "metricsBindAddress": format!("127.0.0.1:{}", ports.proxy),
        "clusterCIDR": node.pod_subnet(),
        "nodePortAddresses": [node.pod_subnet()],
        // The machine's own settings stay as they are.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
    })
    .to_string()
}
