//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their flags, and their start.
//!
//! The same for simulated and real nodes; only how a process is started differs, and that
//! is the `Launcher`'s business.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::cache::write;
use crate::certificates::Certificates;
use crate::process::{Process, output_of};
use crate::progress::Progress;
use crate::record::Record;
use crate::simulated::lease_seconds;
use crate::tools::Tool;

/// How long a component may take to become ready on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long a node's Lease may be late before the node is not Ready any more, in seconds: Kubernetes' own
/// default.
const NODE_GRACE: u32 = 50;

/// Who wrote what, without the objects: enough to count requests by user, verb and resource.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// Starts a cluster's processes and records them.
#[derive(Debug)]
pub(crate) struct Launcher<'a> {
    pub(crate) record: Record,
    pub(crate) state: PathBuf,
    pub(crate) certificates: Certificates,
    pub(crate) progress: &'a Progress,
    /// The process whose mount and pid namespaces the cluster's processes live in, if not ours.
    pub(crate) namespace: Option<i32>,
}

impl Launcher<'_> {
    /// A command that runs `program` where this cluster's processes run.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let Some(pid) = self.namespace else {
            return Command::new(program);
        };
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &pid.to_string(), "--mount", "--pid", "--"])
            .arg(program);
        command
    }

    /// Starts `command` and writes it into the record immediately, so that `down` finds it whatever happens next.
    pub(crate) fn start(&mut self, component: &str, command: &mut Command) -> Result<()> {
        let log = self.state.join("logs").join(format!("{component}.log"));
        let process = Process::start(component, command, &log)?;
        self.record.processes.push(process);
        self.record.save()
    }

    /// Repeats `check` until it holds. Fails immediately if a process of the cluster ends meanwhile.
    pub(crate) fn wait_until(&self, what: &str, check: impl Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        let mut said = Instant::now();
        while !check() {
            for process in &self.record.processes {
                process.expect_alive()?;
            }
            if began.elapsed() > PATIENCE {
                let logs = self.state.join("logs");
                bail!(
                    "{what}: not after {} s; the logs are in {}",
                    PATIENCE.as_secs(),
                    logs.display()
                );
            }
            if said.elapsed() > Duration::from_secs(10) {
                self.progress.say(format!("… waiting: {what}"));
                said = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.progress.say(what);
        Ok(())
    }

    /// Whether kubectl, as administrator, succeeds with `arguments`.
    pub(crate) fn kubectl_succeeds(&self, kubectl: &Path, arguments: &[&str]) -> bool {
        output_of(
            Command::new(kubectl)
                .arg("--kubeconfig")
                .arg(&self.record.kubeconfig)
                .args(arguments),
        )
        .is_ok()
    }

    /// Where the Service `kubernetes` leads to: only kube-proxy has to know.
    fn endpoint_flag(&self) -> String {
        match &self.record.real {
            Some(real) if real.services => format!("--advertise-address={}", real.gateway()),
            _ => String::from("--endpoint-reconciler-type=none"),
        }
    }

    fn service_range(&self) -> String {
        self.record.real.as_ref().map_or_else(
            || String::from("10.96.0.0/16"),
            crate::record::RealNode::service_range,
        )
    }

    /// Starts the control plane and waits until it answers and can make pods.
    pub(crate) fn start_control_plane(&mut self, kubectl: &Path) -> Result<()> {
        let mut etcd = self.command(&Tool::Etcd.ensure(self.progress)?);
        self.etcd_flags(&mut etcd);
        self.start("etcd", &mut etcd)?;

        let mut apiserver = self.command(&Tool::KubeApiserver.ensure(self.progress)?);
        self.apiserver_flags(&mut apiserver)?;
        self.start("kube-apiserver", &mut apiserver)?;
        let api = (Ipv4Addr::LOCALHOST, self.record.ports.api);
        self.wait_until("kube-apiserver ready", || {
            TcpStream::connect(api).is_ok()
                && self.kubectl_succeeds(kubectl, &["get", "--raw", "/readyz"])
        })?;

        let mut manager = self.command(&Tool::KubeControllerManager.ensure(self.progress)?);
        self.client_flags(
            &mut manager,
            "kube-controller-manager",
            self.record.ports.controller_manager,
        );
        self.controller_manager_flags(&mut manager);
        self.start("kube-controller-manager", &mut manager)?;

        let mut scheduler = self.command(&Tool::KubeScheduler.ensure(self.progress)?);
        self.client_flags(
            &mut scheduler,
            "kube-scheduler",
            self.record.ports.scheduler,
        );
        self.start("kube-scheduler", &mut scheduler)
    }

    fn etcd_flags(&self, command: &mut Command) {
        let client = format!("http://127.0.0.1:{}", self.record.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.record.ports.etcd_peer);
        command
            .args([
                "--name=etcd",
                "--unsafe-no-fsync",
                "--logger=zap",
                "--log-level=warn",
            ])
            .arg(format!("--data-dir={}", self.state.join("etcd").display()))
            .args([
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
            ])
            .args([
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
            ])
            .arg(format!("--initial-cluster=etcd={peer}"));
    }

    fn apiserver_flags(&self, command: &mut Command) -> Result<()> {
        let mut flag = |name: &str, file: &str| {
            command.arg(format!(
                "--{name}={}",
                self.certificates.file(file).display()
            ));
        };
        flag("tls-cert-file", "kube-apiserver.crt");
        flag("tls-private-key-file", "kube-apiserver.key");
        flag("client-ca-file", "ca.crt");
        flag("service-account-key-file", "service-accounts.pub");
        flag("service-account-signing-key-file", "service-accounts.key");
        flag("requestheader-client-ca-file", "front-proxy-ca.crt");
        flag("proxy-client-cert-file", "front-proxy.crt");
        flag("proxy-client-key-file", "front-proxy.key");
        flag("kubelet-certificate-authority", "ca.crt");
        flag("kubelet-client-certificate", "kubelet-client.crt");
        flag("kubelet-client-key", "kubelet-client.key");
        command
            .arg(format!(
                "--etcd-servers=http://127.0.0.1:{}",
                self.record.ports.etcd
            ))
            .arg(format!("--secure-port={}", self.record.ports.api))
            .arg(format!(
                "--service-cluster-ip-range={}",
                self.service_range()
            ))
            .arg("--bind-address=127.0.0.1")
            .arg(self.endpoint_flag())
            .args(["--authorization-mode=Node,RBAC", "--allow-privileged=true"])
            // Off by default, and on where administrators are strict: `blockOwnerDeletion` takes a right.
            .arg("--enable-admission-plugins=OwnerReferencesPermissionEnforcement")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .args([
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-username-headers=X-Remote-User",
            ])
            .args([
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            ])
            // A real node's name is known to no DNS; /etc/hosts of its namespace has it on loopback.
            .arg("--kubelet-preferred-address-types=Hostname,InternalIP")
            // Webhooks are called at their pods' addresses: Services need not have any.
            .arg("--enable-aggregator-routing=true")
            .args([
                "--max-requests-inflight=800",
                "--max-mutating-requests-inflight=400",
                "--profiling=false",
            ]);
        if let Some(log) = &self.record.audit_log {
            let policy = self.state.join("audit-policy.yaml");
            write(&policy, AUDIT_POLICY)?;
            command
                .arg(format!("--audit-policy-file={}", policy.display()))
                .arg(format!("--audit-log-path={}", log.display()))
                .args(["--audit-log-mode=batch", "--audit-log-maxsize=4096"]);
        }
        Ok(())
    }

    fn client_flags(&self, command: &mut Command, component: &str, port: u16) {
        let kubeconfig = self.certificates.kubeconfig(component);
        for flag in [
            "kubeconfig",
            "authentication-kubeconfig",
            "authorization-kubeconfig",
        ] {
            command.arg(format!("--{flag}={}", kubeconfig.display()));
        }
        // With the default of 20 requests a second the default service account alone comes 5 s late.
        command
            .args([
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                "--profiling=false",
            ])
            .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
            .arg(format!("--secure-port={port}"))
            .arg(format!(
                "--cert-dir={}",
                self.state.join("certificates").join(component).display()
            ));
    }

    fn controller_manager_flags(&self, command: &mut Command) {
        let mut flag = |name: &str, file: &str| {
            command.arg(format!(
                "--{name}={}",
                self.certificates.file(file).display()
            ));
        };
        flag("service-account-private-key-file", "service-accounts.key");
        flag("root-ca-file", "ca.crt");
        flag("cluster-signing-cert-file", "ca.crt");
        flag("cluster-signing-key-file", "ca.key");
        // A node is not Ready any more when its Lease was not renewed for so long.
        let grace = lease_seconds(&self.record).max(NODE_GRACE);
        command
            .arg(format!("--node-monitor-grace-period={grace}s"))
            .arg("--use-service-account-credentials=true")
            .arg(format!(
                "--flex-volume-plugin-dir={}",
                self.state.join("volume-plugins").display()
            ));
    }
}
