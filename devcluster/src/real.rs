//! One real node: a kubelet, containerd and a pod network, in namespaces of their own.
//!
//! Everything runs in one mount and one pid namespace, so that what kubelet and containerd
//! write under `/run`, `/var/lib` and `/var/log` lands in the state folder, and killing the
//! namespace's first process ends every process and every mount. Outside of it are only the
//! bridge, the kubelet's cgroups and one switch for forwarding; `give_back` undoes them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cache::{make_dir, write};
use crate::containers;
use crate::control_plane::Launcher;
use crate::process::{Process, find_program, identify, output_of};
use crate::proxy;
use crate::record::{RealNode, Record};
use crate::tools::Tool;

/// Whether the kernel forwards packets: the bridge plugin turns it on.
pub(crate) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

const INIT_SCRIPT: &str = include_str!("../assets/node-init.sh");
const CGROUPS: &str = "/sys/fs/cgroup";
/// The kubelet sets these for the whole machine. Here it writes files that look like them.
const SETTINGS: [(&str, &str); 4] = [
    ("kernel.panic", "10"),
    ("kernel.panic_on_oops", "1"),
    ("vm.overcommit_memory", "1"),
    ("vm.panic_on_oom", "0"),
];
/// Locally administered; each bridge is a wire of its own, so all may have the same.
const BRIDGE_MAC: &str = "02:00:00:00:00:01";
/// Covered by the node's own inside its namespace, so the state folder may not be there.
const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// Why this machine cannot have a real node, if it cannot.
pub fn why_no_real_nodes() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some(String::from("it needs root"));
    }
    for program in ["unshare", "nsenter", "ip", "apt-get", "dpkg"] {
        if find_program(program).is_none() {
            return Some(format!("{program} is missing"));
        }
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let modules = Command::new("modprobe").arg("overlay").output();
    if !filesystems.contains("overlay") && !modules.is_ok_and(|output| output.status.success()) {
        return Some(String::from("the kernel has no overlay filesystem"));
    }
    let probes: [(&str, &[&str]); 2] = [
        (
            "mount and pid namespaces",
            &["--mount", "--pid", "--fork", "true"],
        ),
        (
            "network bridges",
            &["--net", "ip", "link", "add", "probe", "type", "bridge"],
        ),
    ];
    for (what, arguments) in probes {
        if let Err(error) = output_of(Command::new("unshare").args(arguments)) {
            return Some(format!("no {what}: {error:#}"));
        }
    }
    None
}

/// The first process of a cluster's node namespace, if it runs.
pub(crate) fn namespace_of(record: &Record) -> Option<i32> {
    record
        .processes
        .iter()
        .filter(|process| process.component == "node" && process.is_alive())
        .nth(1)
        .map(|p| p.pid)
}

/// Makes the namespace, the cgroup and the pods' network; starts containerd and the forwarder.
pub(crate) fn enter(
    launcher: &mut Launcher<'_>,
    node: &RealNode,
    forwarder: Option<&Path>,
) -> Result<()> {
    let state = launcher.state.clone();
    if let Some(covered) = COVERED.iter().find(|folder| state.starts_with(folder)) {
        bail!(
            "the cache may not be below {covered} for a cluster with a real node: set OPERON_CACHE_DIR"
        );
    }
    write_node_files(&state, node)?;
    start_namespace(launcher, &state)?;
    make_cgroup(node)?;
    make_bridge(node)?;

    // A copy: the program may be rebuilt while the cluster runs.
    let own = state.join("forwarder");
    let source = match forwarder {
        Some(program) => program.to_owned(),
        None => std::env::current_exe().context("failed to find this program")?,
    };
    fs::copy(&source, &own).with_context(|| format!("failed to copy {}", source.display()))?;
    let from = api_of_pods(node, launcher.record.ports.api);
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, launcher.record.ports.api));
    let mut forward = launcher.command(&own);
    forward
        .arg("forward")
        .arg(from.to_string())
        .arg(to.to_string());
    launcher.start("forwarder", &mut forward)?;
    containers::start(launcher, node)
}

/// Starts the kubelet; waits until the node is Ready.
pub(crate) fn start(launcher: &mut Launcher<'_>, node: &RealNode, kubectl: &Path) -> Result<()> {
    let config = launcher.state.join("kubelet.yaml");
    write(&config, kubelet_config(launcher, node))?;
    let mut kubelet = launcher.command(&Tool::Kubelet.ensure(launcher.progress)?);
    kubelet
        .env("PATH", containers::search_path()?)
        .arg(format!("--config={}", config.display()))
        .arg(format!(
            "--kubeconfig={}",
            launcher.certificates.kubeconfig("kubelet").display()
        ))
        .arg(format!("--hostname-override={}", node.node))
        .args([
            "--root-dir=/var/lib/kubelet",
            "--cert-dir=/var/lib/kubelet/pki",
        ]);
    launcher.start("kubelet", &mut kubelet)?;
    let wait = [
        "wait",
        "node",
        &node.node,
        "--for=condition=Ready",
        "--timeout=1s",
    ];
    launcher.wait_until("node Ready", || launcher.kubectl_succeeds(kubectl, &wait))?;
    if node.services {
        proxy::start(launcher, node)?;
    }
    Ok(())
}

/// Where the forwarder to the API server listens. With kube-proxy, pods get there by the Service `kubernetes`.
fn api_of_pods(node: &RealNode, port: u16) -> SocketAddr {
    if node.services {
        SocketAddr::from((node.gateway(), port))
    } else {
        SocketAddr::from((node.api_address(), 443))
    }
}

fn write_node_files(state: &Path, node: &RealNode) -> Result<()> {
    for folder in ["run", "var/lib", "var/log", "sysctl"] {
        make_dir(&state.join("node").join(folder))?;
    }
    for (name, value) in SETTINGS {
        write(&state.join("node/sysctl").join(name), format!("{value}\n"))?;
    }
    // The API server finds the kubelet by the node's name; a node may not have a loopback address.
    write(
        &state.join("node/hosts"),
        format!("127.0.0.1 localhost {}\n", node.node),
    )?;
    write(&state.join("node-init.sh"), INIT_SCRIPT)
}

fn start_namespace(launcher: &mut Launcher<'_>, state: &Path) -> Result<()> {
    let mut unshare = Command::new("unshare");
    unshare
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation=private",
            "sh",
        ])
        .arg(state.join("node-init.sh"))
        .arg(state.join("node"));
    launcher.start("node", &mut unshare)?;
    let outer = launcher
        .record
        .processes
        .last()
        .context("the node was not recorded")?
        .clone();
    let ready = state.join("node/ready");
    launcher.wait_until("node's namespace made", || ready.is_file())?;
    let children = format!("/proc/{0}/task/{0}/children", outer.pid);
    let text =
        fs::read_to_string(&children).with_context(|| format!("failed to read {children}"))?;
    let pid = text
        .trim()
        .parse()
        .context("the node's namespace has no first process")?;
    let inner = identify("node", pid, &outer.log).context("the node's namespace ended")?;
    launcher.record.processes.push(inner);
    launcher.namespace = Some(pid);
    launcher.record.save()
}

/// Pods reach the machine at the bridge's first address, and the API server at its second, which with
/// kube-proxy is the address of a Service like any other.
///
/// The bridge has an address of its own on the wire too. Without one it takes that of one of its pods,
/// another whenever pods come and go, and all the others lose their way for seconds.
fn make_bridge(node: &RealNode) -> Result<()> {
    let bridge = node.bridge.as_str();
    let gateway = format!("{}/24", node.gateway());
    let api = format!("{}/32", node.api_address());
    let services = node.service_range();
    // With a way to Services that every machine has; which pod it leads to, kube-proxy decides.
    let api: &[&str] = if node.services {
        &["route", "add", &services, "dev", bridge]
    } else {
        &["addr", "add", &api, "dev", bridge]
    };
    let commands: [&[&str]; 4] = [
        &[
            "link", "add", bridge, "address", BRIDGE_MAC, "type", "bridge",
        ],
        &["addr", "add", &gateway, "dev", bridge],
        &["link", "set", bridge, "up"],
        api,
    ];
    for arguments in commands {
        output_of(Command::new("ip").args(arguments))?;
    }
    Ok(())
}

/// The roots of the cgroup hierarchies: one of version 2, or one for each controller of version 1.
fn cgroup_roots() -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUPS);
    if root.join("cgroup.controllers").is_file() {
        return vec![root];
    }
    let Ok(entries) = fs::read_dir(&root) else {
        return Vec::new();
    };
    // Some are links to others: cpu to cpu,cpuacct.
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn cgroup_path(root: &Path, node: &RealNode) -> PathBuf {
    root.join(node.cgroup.trim_start_matches('/'))
}

fn make_cgroup(node: &RealNode) -> Result<()> {
    for root in cgroup_roots() {
        let own = cgroup_path(&root, node);
        make_dir(&own)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // In version 1 a new cpuset is empty, and nothing can run in it.
            if let Ok(value) = fs::read(root.join(file)) {
                write(&own.join(file), value)?;
            }
        }
        if let Ok(controllers) = fs::read_to_string(own.join("cgroup.controllers")) {
            for controller in controllers.split_whitespace() {
                // One that cannot be delegated is one the kubelet does without.
                let _ = fs::write(own.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }
    Ok(())
}

/// Gives back what the node took outside of its namespace. Its processes have ended.
pub(crate) fn give_back(node: &RealNode) -> Result<()> {
    for root in cgroup_roots() {
        remove_cgroup(&cgroup_path(&root, node))?;
    }
    if node.services {
        proxy::give_back();
    }
    if output_of(Command::new("ip").args(["link", "show", &node.bridge])).is_ok() {
        output_of(Command::new("ip").args(["link", "delete", &node.bridge]))?;
    }
    let in_use =
        |other: &Record| other.real.is_some() && other.processes.iter().any(Process::is_alive);
    if !Record::all()?.iter().any(in_use) && !node.forwarding_before.is_empty() {
        write(Path::new(FORWARDING), &node.forwarding_before)?;
    }
    Ok(())
}

/// Removes a cgroup with all below it. The kernel may need a moment to see that the processes are gone.
fn remove_cgroup(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("failed to remove {}", folder.display()));
            }
        }
    }
}

fn kubelet_config(launcher: &Launcher<'_>, node: &RealNode) -> String {
    let certificates = &launcher.certificates;
    serde_json::json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": launcher.record.ports.kubelet,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": launcher.record.ports.kubelet_health,
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": certificates.file("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": certificates.file("kubelet-server.crt"),
        "tlsPrivateKeyFile": certificates.file("kubelet-server.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        "resolvConf": "",
        // There is no DNS in this cluster. So a lookup fails immediately, and no pod gets a warning about it.
        "clusterDNS": ["127.0.0.1"],
        "clusterDomain": "cluster.local",
        "serializeImagePulls": false,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "nodeStatusReportFrequency": "1m",
        // Images were imported, not pulled: once collected, they would be gone.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": { "memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi" },
    })
    .to_string()
}
