//! Host processes of a story's own: started beside each other, killed, asked to end, put to sleep. They
//! act with the chart's own ServiceAccount, so its RBAC is what is tested.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::{
    process::{Child, Command},
    sync::Mutex,
};

use crate::{
    environment,
    plugin::SYSTEM,
    world::{World, story_named, test_name},
};

/// The name of the host's Lease, and of the chart's Deployment.
const OPERON: &str = "operon";

/// A host process. It is killed when this is dropped; if that is because the story failed, the end of
/// its log is printed.
pub struct Host {
    /// The name under which it leads.
    pub name: String,
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Host {
    /// Starts a host.
    pub fn start(world: &World, name: &str) -> Self {
        Self::start_with(world, name, &[])
    }

    /// Starts a host with more arguments.
    pub fn start_with(world: &World, name: &str, arguments: &[&str]) -> Self {
        let (kubeconfig, cache) = (environment::host_kubeconfig(), folder(world).join("cache"));
        Self::start_as(world, name, &kubeconfig, &cache, free_port(), arguments)
    }

    /// Starts a host that reaches the API server by this kubeconfig, keeps compiled components in this folder, and
    /// serves its metrics on this port.
    pub fn start_as(
        world: &World,
        name: &str,
        kubeconfig: &Path,
        cache: &Path,
        port: u16,
        arguments: &[&str],
    ) -> Self {
        let name = world.named(name);
        let folder = folder(world);
        std::fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("failed to create {}: {error}", folder.display()));
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log)
            .unwrap_or_else(|error| panic!("failed to create {}: {error}", log.display()));
        let child = Command::new(environment::binary())
            .args([
                "run",
                &format!("--listen=127.0.0.1:{port}"),
                "--log-format=text",
            ])
            .args(["--instance", &name])
            .arg("--controllers=reactivejob,jobflow,daemonjob,collaset,podopslifecycle")
            .arg("--cache-dir")
            .arg(cache)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // An argument may name another one.
            .env("POD_NAMESPACE", SYSTEM)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("failed to start the host: {error}"));
        Self {
            name,
            child,
            log,
            port,
        }
    }

    /// Waits until it leads.
    pub async fn leads(&self, world: &World) {
        world
            .eventually(&format!("{} leads", self.name), async || {
                let holder = holder(world).await?;
                ensure!(holder.as_deref() == Some(&self.name), "{holder:?} does");
                Ok(())
            })
            .await;
    }

    /// Ends it as a crash would.
    pub async fn kill(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        let pid = self.child.id();
        pid.unwrap_or_else(|| panic!("host {} has ended:\n{}", self.name, self.log()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("host {} has no process id", self.name));
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("failed to signal host {}: {error}", self.name));
    }

    /// Waits, however long, until it has ended by itself.
    pub async fn exit(&mut self) -> ExitStatus {
        let ended = self.child.wait().await;
        ended.unwrap_or_else(|error| panic!("failed to wait for host {}: {error}", self.name))
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => panic!("failed to wait for host {}: {error}", self.name),
            Err(tokio::time::error::Elapsed { .. }) => panic!(
                "host {} did not end within {within:?}:\n{}",
                self.name,
                self.log()
            ),
        }
    }

    /// Its metrics.
    pub fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the last of host {} ---\n{}", self.name, self.log());
        }
    }
}

/// Where the hosts of a world write their logs.
pub fn folder(world: &World) -> PathBuf {
    std::env::temp_dir().join(world.named("operon-e2e"))
}

/// A port without a listener.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address
        .unwrap_or_else(|error| panic!("there is no free port: {error}"))
        .port()
}

/// Who holds the Lease now; none, if it was released or has run out.
async fn holder(world: &World) -> anyhow::Result<Option<String>> {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), SYSTEM);
    let Some(spec) = leases.get_opt(OPERON).await?.and_then(|lease| lease.spec) else {
        return Ok(None);
    };
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let renewed = spec
        .renew_time
        .map_or(SystemTime::UNIX_EPOCH, |time| time.0.into());
    let over = renewed + Duration::from_secs(seconds) < SystemTime::now();
    Ok(spec
        .holder_identity
        .filter(|holder| !holder.is_empty() && !over))
}

/// One story at a time: there is one Lease.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Tells a story in which no host runs but its own.
pub async fn alone<S: AsyncFnOnce(&World)>(tale: S) {
    let _guard = ALONE.lock().await;
    story_named(test_name::<S>(), async |world: &World| {
        let replicas = end_the_charts(world).await;
        // Should the story fail, the chart's host stays ended; what is left is only looked at then.
        tale(world).await;
        // The last host is still there to let everything go.
        let last = Host::start_with(world, "last", &["--no-leader-election"]);
        world.delete_what_hosts_hold().await;
        last.kill().await;
        let_run(world, replicas).await;
    })
    .await;
}

/// Two hosts, the first of which leads.
pub async fn pair(world: &World) -> (Host, Host) {
    let first = Host::start(world, "first");
    first.leads(world).await;
    let second = Host::start(world, "second");
    (first, second)
}

/// Sees to it that no host but the story's own runs: ends the chart's, and waits for its Lease.
/// [`let_run`] brings it back with what this returns.
async fn end_the_charts(world: &World) -> i32 {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), SYSTEM);
    let found = deployments.get(OPERON).await;
    let found = found.unwrap_or_else(|error| panic!("the chart is not installed: {error}"));
    let replicas = found.spec.and_then(|spec| spec.replicas).unwrap_or(0);
    scale(&deployments, 0).await;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), SYSTEM);
    world
        .eventually(
            "no other host runs (`cargo xtask test` ends its own)",
            async || {
                let selector = ListParams::default().labels("app.kubernetes.io/name=operon");
                let left = pods
                    .list(&selector)
                    .await
                    .context("failed to list the host's pods")?;
                ensure!(
                    left.items.is_empty(),
                    "{} pods of the chart's host",
                    left.items.len()
                );
                match holder(world).await? {
                    Some(holder) => bail!("{holder} leads"),
                    None => Ok(()),
                }
            },
        )
        .await;
    replicas
}

/// Brings the chart's host back.
async fn let_run(world: &World, replicas: i32) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), SYSTEM);
    scale(&deployments, replicas).await;
}

async fn scale(deployments: &Api<Deployment>, replicas: i32) {
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let scaled = deployments
        .patch(OPERON, &PatchParams::default(), &patch)
        .await;
    scaled.unwrap_or_else(|error| panic!("failed to scale the chart's host: {error}"));
}
