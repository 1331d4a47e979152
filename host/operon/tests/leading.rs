//! A host that leads, while its actions load, change and are deleted. The host is the shipped program; its
//! API server is one in memory.

mod api;
mod support;

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use api::{Api, SILENT};
use k8s_openapi::ByteString;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const NAMESPACE: &str = "operon-system";

/// Within which time a host that must end has ended; longer than releasing the Lease may take, shorter than
/// compiling [`heavy`].
const AT_ONCE: Duration = Duration::from_secs(8);

/// A host; it is killed when this is dropped.
struct Host {
    child: Child,
    listen: String,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start(api: &Api) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, api.kubeconfig())?;
        // The port is free again when this statement ends.
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_operon"))
            .args(["run", "--log-format=text", "--instance=one"])
            .arg("--controllers=reactivejob,jobflow,daemonjob")
            .arg(format!("--namespace={NAMESPACE}"))
            .arg(format!("--listen={listen}"))
            .env_clear()
            .env("KUBECONFIG", file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start operon")?;
        Ok(Self {
            child,
            listen,
            _folder: folder,
        })
    }

    fn terminate(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("no process")?;
        kill_process(pid, Signal::TERM).context("failed to signal the host")
    }

    /// Waits until it has exited, and returns its log.
    async fn ended(&mut self) -> Result<(ExitStatus, String)> {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(begin.elapsed() < AT_ONCE, "the host goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let mut log = String::new();
        let pipe = self.child.stderr.as_mut().context("no log")?;
        pipe.read_to_string(&mut log)?;
        Ok((status, log))
    }

    /// What it answers to the readiness probe.
    fn readiness(&self) -> Result<String> {
        let mut stream = TcpStream::connect(&self.listen)?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A component that takes long to compile, and little memory: many functions in each of which much is
/// alive at the same time.
fn heavy() -> Result<Vec<u8>> {
    let body = support::entangled(6_000, 397);
    let locals = "(local i32) ".repeat(400);
    let functions = format!("(func {locals} {body})").repeat(40);
    let handler =
        "(instance $handler) (export \"operon:action/handler@0.2.0\" (instance $handler))";
    let text = format!("(component (core module (memory 1) {functions}) {handler})");
    wat::parse_str(text).context("heavy component")
}

fn install(api: &Api, name: &str, component: &[u8]) {
    api.create(
        "configmaps",
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "binaryData": {"plugin.wasm": ByteString(component.to_vec())},
        }),
    );
}

fn account(api: &Api, name: &str) {
    let labels = json!({"operon.dev/action-account": "true"});
    let metadata = json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    api.create("serviceaccounts", account);
}

/// An ActionPlugin with its account; its component is in the ConfigMap of that name.
fn plugin(api: &Api, component: &str) {
    account(api, "action");
    api.create(
        "actionplugins",
        json!({
            "apiVersion": "operon.dev/v1alpha1", "kind": "ActionPlugin",
            "metadata": {"name": "plugin"},
            "spec": {
                "action": "Act", "serviceAccountName": "action",
                "source": {"configMap": {"name": component, "key": "plugin.wasm"}},
            },
        }),
    );
}

fn job(api: &Api, name: &str) {
    api.create(
        "operationjobs",
        json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"action": "Act", "targets": [{"name": "pod"}]},
        }),
    );
}

/// The condition's status, reason and message, with a word between them.
fn ready(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let ready = conditions.and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
    let text = |field: &str| ready.and_then(|c| c[field].as_str()).unwrap_or_default();
    format!("{} {} {}", text("status"), text("reason"), text("message"))
}

async fn plugin_until(api: &Api, said: &str) -> Result<Value> {
    api.until("actionplugins", "plugin", said, |plugin| {
        ready(plugin).contains(said)
    })
    .await
}

async fn job_until(api: &Api, name: &str, said: &str) -> Result<Value> {
    let so = |job: &Value| ready(job).contains(said);
    api.until("operationjobs", name, said, so).await
}

/// A host that leads, with an action that is being compiled for long.
async fn loading() -> Result<(Api, Host)> {
    let api = Api::start().await?;
    install(&api, "heavy", &heavy()?);
    plugin(&api, "heavy");
    let host = Host::start(&api)?;
    plugin_until(&api, "False Loading").await?;
    Ok((api, host))
}

/// A host that leads, with an action that is loaded.
async fn loaded() -> Result<(Api, Host)> {
    let api = Api::start().await?;
    install(&api, "annotate", support::annotate()?);
    plugin(&api, "annotate");
    let host = Host::start(&api)?;
    plugin_until(&api, "True Loaded").await?;
    Ok((api, host))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_asked_to_end_while_an_action_loads_releases_its_lease() -> Result<()> {
    let (api, mut host) = loading().await?;
    let lease = api.get("leases", "operon").context("a lease")?;
    assert_eq!(lease["spec"]["holderIdentity"], "one");
    let probe = host.readiness()?;
    assert!(probe.contains("503"), "{probe}");
    assert!(probe.contains("actions are being loaded"), "{probe}");
    host.terminate()?;
    let (status, log) = host.ended().await?;
    assert!(status.success(), "{status}: {log}");
    let lease = api.get("leases", "operon").context("a lease")?;
    assert_eq!(lease["spec"].get("holderIdentity"), None, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lost_while_an_action_loads_ends_the_host() -> Result<()> {
    let (api, mut host) = loading().await?;
    let taken = json!({"spec": {"holderIdentity": "another"}});
    api.edit("leases", "operon", &taken)?;
    let (status, log) = host.ended().await?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("leadership was lost"), "{log}");
    let lease = api.get("leases", "operon").context("a lease")?;
    assert_eq!(lease["spec"]["holderIdentity"], "another", "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lost_while_writes_are_finished_ends_the_host_immediately() -> Result<()> {
    let api = Api::start().await?;
    let mut host = Host::start(&api)?;
    api.create(
        "jobflows",
        json!({
            "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
            "metadata": {"name": SILENT, "namespace": "default"},
            "spec": {"flows": [{"name": "a", "jobTemplateRef": "none"}]},
        }),
    );
    api.until(SILENT, "jobflows", "a write is under way", |_| true)
        .await?;
    host.terminate()?;
    let taken = json!({"spec": {"holderIdentity": "another"}});
    api.edit("leases", "operon", &taken)?;
    let (status, log) = host.ended().await?;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("leadership was lost"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_deleted_while_it_loads_leaves_nothing_behind() -> Result<()> {
    let (api, host) = loading().await?;
    api.delete("actionplugins", "plugin")?;
    // Its load ends with it, so nothing delays the jobs.
    job(&api, "job");
    job_until(&api, "job", "ActionNotFound").await?;
    let probe = host.readiness()?;
    assert!(probe.contains("200 OK"), "{probe}");
    // Created again, it is loaded again, and the job continues.
    install(&api, "annotate", support::annotate()?);
    plugin(&api, "annotate");
    plugin_until(&api, "True Loaded").await?;
    job_until(&api, "job", "PodNotFound").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changes_keeps_the_component_and_a_pin_stops_it_immediately() -> Result<()> {
    let (api, _host) = loaded().await?;
    let heavy = heavy()?;
    install(&api, "heavy", &heavy);
    let source = json!({"spec": {"source": {"configMap": {"name": "heavy"}}}});
    api.edit("actionplugins", "plugin", &source)?;
    plugin_until(&api, "True Loading").await?;
    let digest = format!("sha256:{:x}", Sha256::digest(&heavy));
    let pin = json!({"spec": {"digest": digest}});
    api.edit("actionplugins", "plugin", &pin)?;
    // The pinned component is still being compiled.
    let stopped = plugin_until(&api, "False Loading").await?;
    assert!(ready(&stopped).contains("spec.digest pins"), "{stopped:#}");
    assert_eq!(stopped["status"].get("digest"), None);
    job(&api, "job");
    job_until(&api, "job", "ActionNotReady").await?;
    // Taken back, with the source, the first one serves again.
    let back = json!({"spec": {"digest": null, "source": {"configMap": {"name": "annotate"}}}});
    api.edit("actionplugins", "plugin", &back)?;
    plugin_until(&api, "True Loaded").await?;
    job_until(&api, "job", "PodNotFound").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_replaced_or_deleted_acts_no_more() -> Result<()> {
    let (api, _host) = loaded().await?;
    let other = json!({"spec": {"serviceAccountName": "other"}});
    api.edit("actionplugins", "plugin", &other)?;
    let stopped = plugin_until(&api, "False ServiceAccountNotFound").await?;
    assert_eq!(stopped["status"].get("digest"), None);
    account(&api, "other");
    plugin_until(&api, "True Loaded").await?;
    api.delete("serviceaccounts", "other")?;
    plugin_until(&api, "False ServiceAccountNotFound").await?;
    job(&api, "job");
    job_until(&api, "job", "ActionNotReady").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_does_not_say_that_actions_may_act_as_it_is_not_used() -> Result<()> {
    let (api, _host) = loaded().await?;
    let unlabelled = json!({"metadata": {"labels": {"operon.dev/action-account": null}}});
    api.edit("serviceaccounts", "action", &unlabelled)?;
    let stopped = plugin_until(&api, "False ServiceAccountNotAllowed").await?;
    let command = format!(
        "--namespace {NAMESPACE} label serviceaccount action operon.dev/action-account=true"
    );
    assert!(ready(&stopped).contains(&command), "{stopped:#}");
    assert_eq!(stopped["status"].get("digest"), None);
    job(&api, "job");
    job_until(&api, "job", "ActionNotReady").await?;
    let labelled = json!({"metadata": {"labels": {"operon.dev/action-account": "true"}}});
    api.edit("serviceaccounts", "action", &labelled)?;
    plugin_until(&api, "True Loaded").await?;
    job_until(&api, "job", "PodNotFound").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_know_who_it_is_lets_no_action_act() -> Result<()> {
    let api = Api::start().await?;
    api.review("selfsubjectreviews", json!({}));
    install(&api, "annotate", support::annotate()?);
    plugin(&api, "annotate");
    let _host = Host::start(&api)?;
    plugin_until(&api, "False HostUserUnknown").await?;
    // It is asked again.
    let user = json!({"userInfo": {"username": "operon"}});
    api.review("selfsubjectreviews", user);
    plugin_until(&api, "True Loaded").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_action_acts_as_the_host() -> Result<()> {
    let api = Api::start().await?;
    let user = format!("system:serviceaccount:{NAMESPACE}:action");
    api.review(
        "selfsubjectreviews",
        json!({"userInfo": {"username": user}}),
    );
    install(&api, "annotate", support::annotate()?);
    plugin(&api, "annotate");
    let _host = Host::start(&api)?;
    plugin_until(&api, "False HostServiceAccount").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_another_digest_stops_what_it_rejects() -> Result<()> {
    let (api, _host) = loaded().await?;
    let pin = json!({"spec": {"digest": format!("sha256:{}", "0".repeat(64))}});
    api.edit("actionplugins", "plugin", &pin)?;
    let stopped = plugin_until(&api, "False DigestMismatch").await?;
    assert_eq!(stopped["status"].get("digest"), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_effect_of_an_action_is_in_the_audit_log_of_the_host() -> Result<()> {
    let (api, mut host) = loaded().await?;
    let plugin = api.get("actionplugins", "plugin").context("a plugin")?;
    let metadata = json!({"name": "pod", "namespace": "default"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
    api.create("pods", pod);
    job(&api, "job");
    let is_done = |job: &Value| job["status"]["progress"] == "Succeeded";
    let done = api.until("operationjobs", "job", "succeeds", is_done);
    let done = done.await?;
    host.terminate()?;
    let (_, log) = host.ended().await?;
    let lines = log.lines().filter(|line| line.contains("operon::audit"));
    let lines: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    // The action patches the pod once.
    let [line] = lines.as_slice() else {
        anyhow::bail!("one line for one effect, not {lines:#?}");
    };
    let pod = api.get("pods", "pod").context("a pod")?;
    for (field, wanted) in [
        ("uid", &done["metadata"]["uid"]),
        ("digest", &plugin["status"]["digest"]),
        ("object_uid", &pod["metadata"]["uid"]),
        ("plugin", &json!("plugin")),
        (
            "account",
            &json!(format!("system:serviceaccount:{NAMESPACE}:action")),
        ),
        ("verb", &json!("patch")),
        ("result", &json!("ok")),
    ] {
        assert_eq!(&line[field], wanted, "{line:#}");
    }
    Ok(())
}
