//! `cluster.json`: what runs under a cluster's name, as the next command needs to know it.
//!
//! Written whenever a process was started, so that a cluster whose start failed half-way
//! can still be ended completely.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::Nodes;
use crate::cache::{cache_dir, write};
use crate::process::Process;

/// Clusters with a real node that can run side by side: each has a subnet of its own.
const REAL_CLUSTERS: u8 = 32;

/// A cluster that was started, with everything needed to find and end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The cluster's name.
    pub name: String,
    /// What its nodes are.
    pub nodes: Nodes,
    /// How many nodes it has.
    pub node_count: u32,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The API server's audit log, if it writes one.
    pub audit_log: Option<PathBuf>,
    /// The ports on loopback it uses.
    pub ports: Ports,
    /// What a real node takes from the machine; absent for simulated nodes.
    pub real: Option<RealNode>,
    /// Everything that was started, in order.
    pub processes: Vec<Process>,
    /// What others started against it: no part of it, but it ends with it.
    #[serde(default)]
    pub attached: Vec<Process>,
}

/// Ports on 127.0.0.1, chosen free when the cluster starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ports {
    /// The API server.
    pub api: u16,
    /// etcd for its clients.
    pub etcd: u16,
    /// etcd for its peers, of which there are none.
    pub etcd_peer: u16,
    /// The controller manager's metrics.
    pub controller_manager: u16,
    /// The scheduler's metrics.
    pub scheduler: u16,
    /// The kubelet.
    pub kubelet: u16,
    /// The kubelet's health.
    pub kubelet_health: u16,
    /// containerd's streams for logs and exec.
    pub streaming: u16,
    /// kube-proxy's metrics.
    #[serde(default)]
    pub proxy: u16,
    /// kube-proxy's health.
    #[serde(default)]
    pub proxy_health: u16,
}

/// What a real node takes from the machine, numbered so that clusters do not meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RealNode {
    /// The cluster's number among those with real nodes.
    pub index: u8,
    /// The node's name.
    pub node: String,
    /// The bridge that pods hang on.
    pub bridge: String,
    /// The first three numbers of the pods' addresses.
    pub pod_network: [u8; 3],
    /// Whether the kernel forwarded packets before the first such cluster came up.
    pub forwarding_before: String,
    /// The cgroup below which the kubelet makes its own, in every hierarchy.
    pub cgroup: String,
    /// Whether Services have addresses, by kube-proxy. Its tables in the kernel have the same names whatever
    /// the cluster, so one cluster at a time has it.
    #[serde(default)]
    pub services: bool,
}

impl RealNode {
    /// What cluster number `index` takes.
    pub fn new(index: u8, name: &str, forwarding_before: String) -> Self {
        Self {
            index,
            node: format!("{name}-node"),
            bridge: format!("operon{index}"),
            pod_network: [10, 88, index],
            forwarding_before,
            cgroup: format!("/operon-{name}"),
            services: false,
        }
    }

    /// The bridge's address, by which pods reach the machine.
    pub fn gateway(&self) -> Ipv4Addr {
        let [a, b, c] = self.pod_network;
        Ipv4Addr::new(a, b, c, 1)
    }

    /// The pods' addresses.
    pub fn pod_subnet(&self) -> String {
        let [a, b, c] = self.pod_network;
        format!("{a}.{b}.{c}.0/24")
    }

    /// The second number of the services' addresses.
    fn service_network(&self) -> u8 {
        96 + self.index
    }

    /// The services' addresses.
    pub fn service_range(&self) -> String {
        format!("10.{}.0.0/16", self.service_network())
    }

    /// The address under which pods know the API server.
    pub fn api_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.service_network(), 0, 1)
    }
}

/// The folder that holds all clusters' state folders.
pub fn clusters_dir() -> Result<PathBuf> {
    Ok(cache_dir()?.join("clusters"))
}

/// A cluster's state folder.
pub(crate) fn state_dir(name: &str) -> Result<PathBuf> {
    Ok(clusters_dir()?.join(name))
}

impl Record {
    /// The record of the cluster `name`, if there is one.
    pub fn load(name: &str) -> Result<Option<Self>> {
        let file = state_dir(name)?.join("cluster.json");
        if !file.is_file() {
            return Ok(None);
        }
        let text = fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let record = serde_json::from_slice(&text)
            .with_context(|| format!("failed to understand {}", file.display()))?;
        Ok(Some(record))
    }

    /// Writes the record into the cluster's state folder.
    pub fn save(&self) -> Result<()> {
        let file = state_dir(&self.name)?.join("cluster.json");
        let unfinished = file.with_extension("json.unfinished");
        write(
            &unfinished,
            serde_json::to_vec_pretty(self).context("failed to write cluster.json")?,
        )?;
        fs::rename(&unfinished, &file)
            .with_context(|| format!("failed to write {}", file.display()))
    }

    /// The records of all clusters, sorted by name.
    pub fn all() -> Result<Vec<Self>> {
        let folder = clusters_dir()?;
        let mut records = Vec::new();
        for name in names_in(&folder) {
            records.extend(Self::load(&name)?);
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Whether all of its processes run.
    pub fn is_up(&self) -> bool {
        !self.processes.is_empty() && self.processes.iter().all(Process::is_alive)
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Chooses what the real node of cluster `name` takes, apart from what `others` have; with kube-proxy if it
/// shall have `services`.
pub(crate) fn choose_real_node(name: &str, services: bool, others: &[Record]) -> Result<RealNode> {
    let taken: Vec<&RealNode> = others
        .iter()
        .filter_map(|other| other.real.as_ref())
        .collect();
    let proxied = |other: &&Record| other.real.as_ref().is_some_and(|real| real.services);
    if services && let Some(other) = others.iter().find(proxied) {
        bail!(
            "cluster {} has kube-proxy, and only one cluster at a time can have it",
            other.name
        );
    }
    let free = (0..REAL_CLUSTERS).find(|index| taken.iter().all(|real| real.index != *index));
    let Some(index) = free else {
        bail!("{REAL_CLUSTERS} clusters with real nodes are there already")
    };
    let forwarding = match taken.first() {
        Some(real) => real.forwarding_before.clone(),
        None => fs::read_to_string(crate::real::FORWARDING).unwrap_or_default(),
    };
    Ok(RealNode {
        services,
        ..RealNode::new(index, name, forwarding)
    })
}

/// Chooses free ports on loopback, apart from those `others` will want.
pub(crate) fn choose_ports(others: &[Record]) -> Result<Ports> {
    let taken: Vec<u16> = others.iter().flat_map(|other| other.ports.all()).collect();
    // Below the range from which the kernel takes ports of outgoing connections.
    let mut free = (20_000..32_000_u16).filter(|port| {
        !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    });
    let mut next = || free.next().context("no free port between 20000 and 32000");
    Ok(Ports {
        api: next()?,
        etcd: next()?,
        etcd_peer: next()?,
        controller_manager: next()?,
        scheduler: next()?,
        kubelet: next()?,
        kubelet_health: next()?,
        streaming: next()?,
        proxy: next()?,
        proxy_health: next()?,
    })
}

impl Ports {
    fn all(&self) -> [u16; 10] {
        let Self {
            api,
            etcd,
            etcd_peer,
            controller_manager,
            scheduler,
            kubelet,
            kubelet_health,
            streaming,
            proxy,
            proxy_health,
        } = self;
        [
            *api,
            *etcd,
            *etcd_peer,
            *controller_manager,
            *scheduler,
            *kubelet,
            *kubelet_health,
            *streaming,
            *proxy,
            *proxy_health,
        ]
    }
}

/// A record for tests.
#[cfg(test)]
pub(crate) fn record(name: &str, ports: Ports, real: Option<RealNode>) -> Record {
    Record {
        name: name.to_owned(),
        nodes: Nodes::Simulated,
        node_count: 1,
        kubeconfig: PathBuf::new(),
        audit_log: None,
        ports,
        real,
        processes: Vec::new(),
        attached: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_side_by_side_share_no_port_and_no_subnet() -> Result<()> {
        let first = record(
            "a",
            choose_ports(&[])?,
            Some(RealNode::new(0, "a", String::from("0"))),
        );
        let ports = choose_ports(std::slice::from_ref(&first))?;
        assert!(
            ports
                .all()
                .iter()
                .all(|port| !first.ports.all().contains(port))
        );
        let real = choose_real_node("b", false, &[first])?;
        assert_eq!(
            (real.index, real.pod_subnet().as_str()),
            (1, "10.88.1.0/24")
        );
        assert_eq!(
            real.forwarding_before, "0",
            "what the first cluster found is what is restored"
        );
        Ok(())
    }

    #[test]
    fn only_one_cluster_at_a_time_has_kube_proxy() -> Result<()> {
        let first = choose_real_node("a", true, &[])?;
        let first = record("a", choose_ports(&[])?, Some(first));
        assert!(choose_real_node("b", true, std::slice::from_ref(&first)).is_err());
        assert!(!choose_real_node("b", false, &[first])?.services);
        Ok(())
    }
}
