//! A cluster's life: up, found again by its name, down.
//!
//! `up` records every process before it goes on, and a start that fails is ended again;
//! its logs stay for reading. `down` ends exactly what the record names.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::cache::{Lock, make_dir, remove, write_private};
use crate::certificates::{Certificates, Names};
use crate::control_plane::Launcher;
use crate::options::{Fate, Options, check_name, fate, mismatch};
use crate::process::{Process, output_of};
use crate::progress::Progress;
use crate::record::{Record, choose_ports, choose_real_node, clusters_dir, state_dir};
use crate::tools::Tool;
use crate::{Nodes, containers, proxy, real, simulated};

/// How long a component has to end by itself. Its data is thrown away: there is nothing to save.
const PATIENCE: Duration = Duration::from_millis(1500);

/// A cluster to work with.
#[derive(Debug, Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
    record: Option<Record>,
}

/// What [`Cluster::down`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The cluster.
    pub name: String,
    /// The components that were still running.
    pub components: Vec<String>,
}

impl Cluster {
    /// Brings a cluster up, or returns the one of that name if it is up already.
    ///
    /// # Errors
    /// Names the component that failed and its log, quoting the end of it. Nothing is left running then. Or says why the
    /// cluster of that name, which is up, is not what was asked for; it is left as it is.
    pub fn up(options: &Options, progress: &Progress) -> Result<Self> {
        if let Some(kubeconfig) = &options.kubeconfig {
            return Self::external(kubeconfig, progress);
        }
        check_name(&options.name)?;
        let _lock = lock(&options.name, progress)?;
        if let Some(record) = Record::load(&options.name)? {
            match fate(record.is_up(), mismatch(&record, options), options.replace) {
                Fate::Use => {
                    progress.say(format!("cluster {} is up already", options.name));
                    return Ok(Self::of(record));
                }
                Fate::Keep(why) => bail!(
                    "cluster {name} is up, but {why}.\n  End it with `cargo xtask cluster down --name {name}`, or choose another name with --name",
                    name = options.name
                ),
                Fate::End(why) => progress.say(format!(
                    "cluster {} is there, but {why}; ending it first",
                    options.name
                )),
            }
            end(&record)?;
        }
        if options.nodes == Nodes::Real
            && let Some(reason) = real::why_no_real_nodes()
        {
            bail!("a real node is not possible here: {reason}");
        }
        if options.services && options.nodes == Nodes::Simulated {
            bail!("Services have no addresses with simulated nodes: nothing would answer there");
        }
        let kubectl = prepare(options, progress)?;
        let record = reserve(options)?;
        let name = record.name.clone();
        let result = start(record, options, &kubectl, progress);
        if result.is_err()
            && let Some(record) = Record::load(&name)?
        {
            progress.say("failed; ending what was started");
            end_processes(&record)?;
        }
        result
    }

    /// The cluster of that name, if it is up.
    pub fn open(name: &str) -> Result<Option<Self>> {
        Ok(Record::load(name)?.filter(Record::is_up).map(Self::of))
    }

    /// Why the cluster of that name is not what was asked for; nothing if it is, or if none is up.
    pub fn mismatch(options: &Options) -> Result<Option<String>> {
        let record = Record::load(&options.name)?.filter(Record::is_up);
        Ok(record.and_then(|record| mismatch(&record, options)))
    }

    /// Ends the cluster of that name and removes its state. That there is none is fine.
    pub fn down(name: &str, progress: &Progress) -> Result<Option<Ended>> {
        check_name(name)?;
        let _lock = lock(name, progress)?;
        match Record::load(name)? {
            Some(record) => Ok(Some(end(&record)?)),
            None => Ok(None),
        }
    }

    /// All clusters on this machine, up or broken.
    pub fn status() -> Result<Vec<Record>> {
        Record::all()
    }

    fn of(record: Record) -> Self {
        Self {
            kubeconfig: record.kubeconfig.clone(),
            record: Some(record),
        }
    }

    fn external(kubeconfig: &Path, progress: &Progress) -> Result<Self> {
        if !kubeconfig.is_file() {
            bail!("there is no kubeconfig {}", kubeconfig.display());
        }
        let cluster = Self {
            kubeconfig: std::path::absolute(kubeconfig)?,
            record: None,
        };
        let mut command = cluster.kubectl(progress)?;
        output_of(command.args(["get", "--raw", "/readyz"]))
            .context("the cluster of --kubeconfig does not answer")?;
        progress.say(format!("using the cluster of {}", kubeconfig.display()));
        Ok(cluster)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What was started; nothing for a cluster of the user's own.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The cluster's state folder: logs, certificates, and room for what a test wants to keep with the cluster.
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.record
            .as_ref()
            .and_then(|record| state_dir(&record.name).ok())
    }

    /// What its nodes are. Those of the user's own cluster are taken for real.
    pub fn nodes(&self) -> Nodes {
        self.record
            .as_ref()
            .map_or(Nodes::Real, |record| record.nodes)
    }

    /// The API server's audit log, one JSON object a line.
    pub fn audit_log(&self) -> Option<&Path> {
        self.record
            .as_ref()
            .and_then(|record| record.audit_log.as_deref())
    }

    /// A kubectl command for this cluster, as administrator.
    pub fn kubectl(&self, progress: &Progress) -> Result<Command> {
        self.client(Tool::Kubectl, progress)
    }

    /// A helm command for this cluster, as administrator.
    pub fn helm(&self, progress: &Progress) -> Result<Command> {
        self.client(Tool::Helm, progress)
    }

    fn client(&self, tool: Tool, progress: &Progress) -> Result<Command> {
        let mut command = Command::new(tool.ensure(progress)?);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Starts a program that ends with the cluster, for example the host where nodes are simulated; one of
    /// the same name that was attached before is ended first. Its output goes to the cluster's logs.
    pub fn attach(&mut self, component: &str, command: &mut Command) -> Result<Process> {
        let state = self.state_dir();
        let (Some(record), Some(state)) = (self.record.as_mut(), state) else {
            bail!("nothing can be attached to a cluster of your own");
        };
        for earlier in record.attached.iter().filter(|p| p.component == component) {
            earlier.end(PATIENCE)?;
        }
        record.attached.retain(|p| p.component != component);
        let log = state.join("logs").join(format!("{component}.log"));
        let process = Process::start(component, command, &log)?;
        record.attached.push(process.clone());
        record.save()?;
        Ok(process)
    }

    /// Kills a process of a cluster with simulated nodes, `etcd` or `kube-apiserver` for example, and starts it again. Does
    /// not wait until it serves.
    pub fn restart(&mut self, component: &str) -> Result<()> {
        let Some(record) = self.record.as_mut().filter(|record| record.real.is_none()) else {
            bail!("only a cluster with simulated nodes has processes that can be restarted");
        };
        let mut processes = record.processes.iter_mut();
        let process = processes
            .find(|process| process.component == component)
            .with_context(|| format!("the cluster has no process {component:?}"))?;
        *process = process.restart()?;
        record.save()
    }

    /// Gives the real node an image, as [`crate::image_from_rootfs`] writes it.
    ///
    /// # Errors
    /// When the nodes are not real, or not ours.
    pub fn import_image(&self, tar: &Path) -> Result<()> {
        match &self.record {
            Some(record) if record.nodes == Nodes::Real => containers::import_image(record, tar),
            Some(record) => bail!(
                "cluster {} has simulated nodes: they run no images",
                record.name
            ),
            None => bail!("a cluster of your own fetches its images itself"),
        }
    }
}

fn lock(name: &str, progress: &Progress) -> Result<Lock> {
    Lock::acquire(&clusters_dir()?.join(format!("{name}.lock")), || {
        progress.say(format!(
            "another command works on cluster {name}; waiting for it"
        ));
    })
}

/// Finds or builds every program, so that nothing is built while half a cluster runs. Returns kubectl.
fn prepare(options: &Options, progress: &Progress) -> Result<PathBuf> {
    for tool in Tool::CONTROL_PLANE {
        tool.ensure(progress)?;
    }
    match options.nodes {
        Nodes::Simulated => {
            Tool::Kwok.ensure(progress)?;
        }
        Nodes::Real => {
            Tool::Kubelet.ensure(progress)?;
            containers::ensure_runtime(progress)?;
            if options.services {
                proxy::ensure(progress)?;
            }
        }
    }
    Tool::Kubectl.ensure(progress)
}

/// Takes ports and, for a real node, a subnet: in one step, so that two commands do not take the same.
fn reserve(options: &Options) -> Result<Record> {
    let _lock = Lock::acquire(&clusters_dir()?.join("reserve.lock"), || ())?;
    let others: Vec<Record> = Record::all()?
        .into_iter()
        .filter(|other| other.name != options.name)
        .collect();
    let state = state_dir(&options.name)?;
    remove(&state)?;
    make_dir(&state.join("logs"))?;
    let (node_count, real) = match options.nodes {
        Nodes::Real => {
            let real = choose_real_node(&options.name, options.services, &others)?;
            (1, Some(real))
        }
        Nodes::Simulated => (options.simulated_nodes, None),
    };
    let record = Record {
        name: options.name.clone(),
        nodes: options.nodes,
        node_count,
        kubeconfig: state.join("kubeconfig"),
        audit_log: options.audit.then(|| state.join("audit.log")),
        ports: choose_ports(&others)?,
        real,
        processes: Vec::new(),
        attached: Vec::new(),
    };
    record.save()?;
    Ok(record)
}

fn start(
    record: Record,
    options: &Options,
    kubectl: &Path,
    progress: &Progress,
) -> Result<Cluster> {
    progress.say(format!(
        "starting cluster {} with {} nodes",
        record.name, record.nodes
    ));
    let state = state_dir(&record.name)?;
    let api_addresses: Vec<Ipv4Addr> = match &record.real {
        Some(real) => vec![real.api_address(), real.gateway()],
        None => vec![Ipv4Addr::new(10, 96, 0, 1)],
    };
    let names = Names {
        api_port: record.ports.api,
        api_addresses: &api_addresses,
        node: record.real.as_ref().map(|real| real.node.as_str()),
    };
    let certificates = Certificates::make(&state.join("certificates"), &names)?;
    let admin = certificates.kubeconfig("admin");
    let content =
        std::fs::read(&admin).with_context(|| format!("failed to read {}", admin.display()))?;
    write_private(&record.kubeconfig, content)?;

    let mut launcher = Launcher {
        record,
        state,
        certificates,
        progress,
        namespace: None,
    };
    if let Some(node) = launcher.record.real.clone() {
        real::enter(&mut launcher, &node, options.forwarder.as_deref())?;
        launcher.start_control_plane(kubectl)?;
        real::start(&mut launcher, &node, kubectl)?;
    } else {
        launcher.start_control_plane(kubectl)?;
        simulated::start(&mut launcher, kubectl)?;
    }
    launcher.wait_until("pods can be made", || {
        launcher.kubectl_succeeds(
            kubectl,
            &["get", "serviceaccount", "default", "--output=name"],
        )
    })?;
    Ok(Cluster::of(launcher.record))
}

/// Ends a cluster's processes and removes its state.
fn end(record: &Record) -> Result<Ended> {
    let components = end_processes(record)?;
    remove(&state_dir(&record.name)?)?;
    Ok(Ended {
        name: record.name.clone(),
        components,
    })
}

/// Ends a cluster's processes and gives back what its node took from the machine.
fn end_processes(record: &Record) -> Result<Vec<String>> {
    let mut running: Vec<String> = record
        .processes
        .iter()
        .filter(|process| process.is_alive())
        .map(|p| p.component.clone())
        .collect();
    running.dedup();
    // In reverse: those who talk to the API server first. Of a real node the first started is pid 1 of its
    // namespace; when that ends, the kernel ends all that is in there, pods included.
    let patience = if record.real.is_some() {
        Duration::ZERO
    } else {
        PATIENCE
    };
    for process in &record.attached {
        process.end(PATIENCE)?;
    }
    for process in record.processes.iter().rev() {
        process.end(patience)?;
    }
    if let Some(real) = &record.real {
        real::give_back(real)?;
    }
    Ok(running)
}
