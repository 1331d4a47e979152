//! `operon check`: whether the installed host works, as far as the cluster shows it. `helm test` runs it in a pod of its own.
//!
//! It only reads: the Lease, the pod that leads, and the ActionPlugins. A replica cannot lead without its caches, and cannot
//! load actions without its ServiceAccount's rights, so what is found here has passed through most of the host.

use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, Config, ResourceExt as _, api::ListParams};
use operon_api::{ActionPlugin, conditions};
use operon_controllers::apply::client_config;

use crate::{leader::LEASE, stdout, stores::plugins_of};

/// How often the cluster is read until everything works.
const INTERVAL: Duration = Duration::from_secs(1);

/// Which host, and how long it may take.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The operator's namespace
    #[arg(long, env = "POD_NAMESPACE", default_value = "operon-system")]
    namespace: String,

    /// The shard of the host [default: none]
    #[arg(long)]
    shard: Option<String>,

    /// How long to wait until everything works, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let findings = runtime.block_on(until_it_works(arguments))?;
    let lines = findings.iter().map(|finding| finding.line() + "\n");
    stdout::print(&lines.collect::<String>())?;
    anyhow::ensure!(
        works(&findings),
        "the host in namespace {:?} does not work",
        arguments.namespace
    );
    Ok(())
}

/// Reads the cluster until everything works or the time is over, and returns what was found last.
async fn until_it_works(arguments: &Arguments) -> anyhow::Result<Vec<Finding>> {
    let config = Config::infer().await.context(
        "failed to find a cluster: this does not run in a pod, and there is no kubeconfig",
    )?;
    let client = Client::try_from(client_config(config)).context("failed to build a client")?;
    let limit = Duration::from_secs(arguments.timeout);
    let begin = Instant::now();
    loop {
        let findings = match read(&client, arguments).await {
            Ok(seen) => seen.findings(Timestamp::now()),
            Err(error) => vec![Finding::Broken(format!("{error:#}"))],
        };
        if works(&findings) || begin.elapsed() >= limit {
            return Ok(findings);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn read(client: &Client, arguments: &Arguments) -> anyhow::Result<Seen> {
    let namespace = &arguments.namespace;
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = leases.get_opt(LEASE).await;
    let lease = lease
        .with_context(|| format!("failed to read Lease {LEASE:?} in namespace {namespace:?}"))?;
    let pod = match lease.as_ref().and_then(holder) {
        Some(name) => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let pod = pods.get_opt(name).await;
            pod.with_context(|| format!("failed to read pod {name:?} in namespace {namespace:?}"))?
        }
        None => None,
    };
    let plugins: Api<ActionPlugin> = Api::all(client.clone());
    let selector = ListParams::default().labels(&plugins_of(arguments.shard.as_deref()));
    let plugins = plugins.list(&selector).await;
    let plugins = plugins.context("failed to list ActionPlugins")?.items;
    Ok(Seen {
        lease,
        pod,
        plugins,
    })
}

/// What the cluster shows of a host.
struct Seen {
    lease: Option<Lease>,
    /// The one that holds the Lease.
    pod: Option<Pod>,
    /// Those that the host loads.
    plugins: Vec<ActionPlugin>,
}

/// One line of the answer.
#[derive(Debug, PartialEq)]
enum Finding {
    Works(String),
    Broken(String),
    /// Not as it should be, which is no fault of the installation.
    Remark(String),
}

impl Finding {
    fn line(&self) -> String {
        match self {
            Self::Works(text) => format!("ok      {text}"),
            Self::Broken(text) => format!("FAILED  {text}"),
            Self::Remark(text) => format!("note    {text}"),
        }
    }
}

fn works(findings: &[Finding]) -> bool {
    let is_broken = |finding: &Finding| matches!(finding, Finding::Broken(_));
    !findings.iter().any(is_broken)
}

impl Seen {
    fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let mut findings = vec![match self.leader(now) {
            Ok(text) => Finding::Works(text),
            Err(text) => Finding::Broken(text),
        }];
        let mut loaded = Vec::new();
        for plugin in &self.plugins {
            let is_builtin = plugin.spec.source.builtin.is_some();
            match (unloaded(plugin), is_builtin) {
                (None, true) => loaded.push(plugin.spec.action.as_str()),
                (None, false) => {}
                (Some(why), true) => findings.push(Finding::Broken(why)),
                (Some(why), false) => findings.push(Finding::Remark(why)),
            }
        }
        if !loaded.is_empty() {
            let text = format!("built-in actions are loaded: {}", loaded.join(", "));
            findings.push(Finding::Works(text));
        }
        findings
    }

    /// Which replica leads and is ready, or what is wrong.
    fn leader(&self, now: Timestamp) -> Result<String, String> {
        let holder = self.lease.as_ref().and_then(holder);
        let holder = holder.ok_or("no replica leads: the Lease has no holder")?;
        if let Some(seconds) = self.lease.as_ref().and_then(|lease| silence(lease, now)) {
            return Err(format!(
                "no replica leads: {holder} has not renewed the Lease for {seconds} s"
            ));
        }
        let Some(pod) = &self.pod else {
            return Err(format!("{holder} leads, but there is no such pod"));
        };
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref());
        let ready = conditions.and_then(|all| all.iter().find(|one| one.type_ == "Ready"));
        match ready {
            Some(ready) if ready.status == "True" => Ok(format!("{holder} leads, and is ready")),
            Some(ready) => {
                let message = ready.message.as_deref().unwrap_or_default();
                Err(format!("{holder} leads, but is not ready: {message}"))
            }
            None => Err(format!("{holder} leads, but is not ready")),
        }
    }
}

/// Who has the Lease; a Lease that was released has an empty name.
fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|name| !name.is_empty())
}

/// For how many seconds a Lease was not renewed, if that is longer than it holds.
fn silence(lease: &Lease, now: Timestamp) -> Option<i64> {
    let spec = lease.spec.as_ref()?;
    let renewed = spec
        .renew_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let seconds = now.duration_since(renewed).as_secs();
    let holds = spec.lease_duration_seconds.unwrap_or_default();
    (seconds > i64::from(holds)).then_some(seconds)
}

/// Why the component of an ActionPlugin does not serve; nothing if it does.
fn unloaded(plugin: &ActionPlugin) -> Option<String> {
    let name = plugin.name_any();
    let status = plugin.status.as_ref();
    let all = status.map_or(&[][..], |status| &status.conditions);
    let Some(ready) = conditions::find(all, conditions::READY) else {
        return Some(format!("ActionPlugin {name} has no status"));
    };
    if ready.status != "True" {
        let (reason, message) = (&ready.reason, &ready.message);
        return Some(format!(
            "ActionPlugin {name} is not Ready: {reason}: {message}"
        ));
    }
    let observed = status.and_then(|status| status.observed_generation);
    (observed != plugin.metadata.generation)
        .then(|| format!("ActionPlugin {name} was changed, and its status is older than its spec"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T00:01:00Z";

    fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    fn lease(holder: &str, renewed: &str) -> Lease {
        object(json!({"spec": {
            "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed,
        }}))
    }

    fn pod(ready: &str) -> Pod {
        let condition = json!({"type": "Ready", "status": ready, "message": "containers with unready status: [operon]"});
        object(json!({"metadata": {"name": "operon-1"}, "status": {"conditions": [condition]}}))
    }

    fn plugin(name: &str, source: &Value, ready: &str, observed: i64) -> ActionPlugin {
        object(json!({
            "apiVersion": "operon.dev/v1alpha1", "kind": "ActionPlugin",
            "metadata": {"name": name, "generation": 2},
            "spec": {"action": name.to_uppercase(), "source": source, "serviceAccountName": name},
            "status": {"observedGeneration": observed, "conditions": [{
                "type": "Ready", "status": ready, "reason": "NoServiceAccount", "message": "there is none",
                "lastTransitionTime": NOW,
            }]},
        }))
    }

    fn builtin(name: &str, ready: &str, observed: i64) -> ActionPlugin {
        plugin(name, &json!({"builtin": {"name": name}}), ready, observed)
    }

    fn findings(
        lease: Option<Lease>,
        pod: Option<Pod>,
        plugins: Vec<ActionPlugin>,
    ) -> Vec<Finding> {
        let seen = Seen {
            lease,
            pod,
            plugins,
        };
        seen.findings(NOW.parse().expect("a time"))
    }

    /// What is found of the replica that leads.
    fn leader(lease: Option<Lease>, pod: Option<Pod>) -> Finding {
        findings(lease, pod, Vec::new()).remove(0)
    }

    #[test]
    fn a_host_works_if_its_leader_is_ready_and_its_built_in_actions_are_loaded() {
        let lease = lease("operon-1", "2026-01-01T00:00:50.000000Z");
        let plugins = vec![builtin("a", "True", 2), builtin("b", "True", 2)];
        let found = findings(Some(lease), Some(pod("True")), plugins);
        let lines: Vec<_> = found.iter().map(Finding::line).collect();
        let wanted = [
            "ok      operon-1 leads, and is ready",
            "ok      built-in actions are loaded: A, B",
        ];
        assert_eq!(lines, wanted);
        assert!(works(&found));
    }

    #[test]
    fn a_host_without_a_leader_that_is_ready_does_not_work() {
        let fresh = || Some(lease("operon-1", "2026-01-01T00:00:45.000000Z"));
        let late = Some(lease("operon-1", "2026-01-01T00:00:44.000000Z"));
        let released = Some(lease("", "2026-01-01T00:00:59.000000Z"));
        let cases = vec![
            (None, None, "no replica leads: the Lease has no holder"),
            (released, None, "no replica leads: the Lease has no holder"),
            (
                late,
                Some(pod("True")),
                "no replica leads: operon-1 has not renewed the Lease for 16 s",
            ),
            (fresh(), None, "operon-1 leads, but there is no such pod"),
            (
                fresh(),
                Some(pod("False")),
                "operon-1 leads, but is not ready: containers with unready status: [operon]",
            ),
            (
                fresh(),
                Some(Pod::default()),
                "operon-1 leads, but is not ready",
            ),
        ];
        for (lease, pod, wanted) in cases {
            assert_eq!(leader(lease, pod), Finding::Broken(wanted.to_owned()));
        }
    }

    #[test]
    fn a_built_in_action_that_is_not_loaded_is_a_failure_and_any_other_a_remark() {
        let lease = lease("operon-1", "2026-01-01T00:00:50.000000Z");
        let config_map = json!({"configMap": {"name": "c", "key": "k"}});
        let plugins = vec![
            builtin("a", "False", 2),
            builtin("b", "True", 1),
            plugin("c", &config_map, "False", 2),
            object(json!({
                "apiVersion": "operon.dev/v1alpha1", "kind": "ActionPlugin",
                "metadata": {"name": "d", "generation": 1},
                "spec": {"action": "D", "source": {"builtin": {"name": "d"}}, "serviceAccountName": "d"},
            })),
        ];
        let found = findings(Some(lease), Some(pod("True")), plugins);
        let wanted = [
            "ok      operon-1 leads, and is ready",
            "FAILED  ActionPlugin a is not Ready: NoServiceAccount: there is none",
            "FAILED  ActionPlugin b was changed, and its status is older than its spec",
            "note    ActionPlugin c is not Ready: NoServiceAccount: there is none",
            "FAILED  ActionPlugin d has no status",
        ];
        let lines: Vec<_> = found.iter().map(Finding::line).collect();
        assert_eq!(lines, wanted);
        assert!(!works(&found));
    }
}
