//! A real Prometheus with the chart's alerts reads the metrics of a host.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Stdio,
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::DeleteParams};
use operon_e2e::{
    environment,
    host::{Host, alone, folder, free_port},
    plugin::{Plugin, SYSTEM},
    prelude::*,
};
use serde_json::Value;
use tokio::process::{Child, Command};

#[tokio::test]
async fn prometheus_has_every_metric_of_alerts_and_dashboard_and_reports_a_removed_component() {
    alone(async |world: &World| {
        let folder = folder(world);
        let (cache, port) = (folder.join("cache"), free_port());
        let kubeconfig = environment::host_kubeconfig();
        let host = Host::start_as(world, "watched", &kubeconfig, &cache, port, &[]);
        host.leads(world).await;
        let (rules, dashboard) = rendered().await;
        let prometheus = Prometheus::start(&folder, &rules, port);
        let plugin = Plugin::annotate(world).up(world).await;
        let pods = Deployment::of("foo", 1).up(world).await;
        let job = Job::of("opj", &plugin.action, &[&pods[0].name_any()]);
        world.create(&job.object()).await;
        let done = world.finished("opj").await;
        assert_eq!(job::progress(&done), Progress::Succeeded);

        let text = format!("{rules} {dashboard}");
        for metric in named(&text) {
            let query = format!("query?query=count({metric})");
            world
                .eventually(&format!("Prometheus has {metric}"), async || {
                    let answer = prometheus.get(&query)?;
                    let found = answer["data"]["result"].as_array();
                    ensure!(found.is_some_and(|found| !found.is_empty()), "{answer}");
                    Ok(())
                })
                .await;
        }
        world
            .eventually("no alert fires", async || {
                let firing = prometheus.firing()?;
                ensure!(firing.is_empty(), "{firing:?}");
                Ok(())
            })
            .await;

        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), SYSTEM);
        let deleted = maps.delete(&plugin.name, &DeleteParams::default()).await;
        deleted.expect("the component is removed");
        let wanted = ("OperonPluginNotLoaded".to_owned(), plugin.name.clone());
        world
            .eventually("the alert of the component fires", async || {
                let firing = prometheus.firing()?;
                ensure!(firing == BTreeSet::from([wanted.clone()]), "{firing:?}");
                Ok(())
            })
            .await;
        host.kill().await;
    })
    .await;
}

/// The groups of alerts, which wait for a second only, and the dashboard, as Helm renders them.
async fn rendered() -> (Value, String) {
    let run = Command::new(environment::helm())
        .args(["template", "operon"])
        .arg(environment::chart())
        .args(["--namespace", SYSTEM, "--kube-version", "1.34.0"])
        .args(["--show-only", "templates/monitoring.yaml"])
        .args([
            "--set",
            "prometheusRule.enabled=true,grafanaDashboard.enabled=true",
        ])
        .output()
        .await
        .expect("helm runs");
    let manifest = String::from_utf8_lossy(&run.stdout).into_owned();
    let documents = manifest.split("---\n").map(|document| {
        let object: Value = serde_yaml_ng::from_str(document).expect("YAML");
        object
    });
    let documents: Vec<_> = documents.collect();
    let of_kind = |kind: &str| {
        let found = documents.iter().find(|object| object["kind"] == kind);
        found.expect("the chart renders both").clone()
    };
    let mut rules = of_kind("PrometheusRule")["spec"].clone();
    let alerts = rules["groups"][0]["rules"].as_array_mut();
    for alert in alerts.expect("alerts") {
        alert["for"] = json!("1s");
    }
    let dashboard = of_kind("ConfigMap")["data"]["operon.json"].clone();
    (rules, dashboard.as_str().unwrap_or_default().to_owned())
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    let named = words.filter(|word| word.starts_with("operon_"));
    named.map(str::to_owned).collect()
}

/// A Prometheus that runs until this is dropped, and reads one host each second.
struct Prometheus {
    port: u16,
    _process: Child,
}

impl Prometheus {
    fn start(folder: &Path, rules: &Value, host: u16) -> Self {
        let port = free_port();
        let target =
            json!({"targets": [format!("127.0.0.1:{host}")], "labels": {"namespace": SYSTEM}});
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "operon-metrics", "static_configs": [target]}],
        });
        let write = |name: &str, content: &Value| {
            let file = folder.join(name);
            std::fs::write(&file, content.to_string()).expect("a folder of our own");
            file
        };
        write("rules.yaml", rules);
        let config = write("prometheus.yaml", &config);
        let process = Command::new(environment::prometheus())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("series").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus starts");
        Self {
            port,
            _process: process,
        }
    }

    /// What it answers to a request of its API.
    fn get(&self, path: &str) -> Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (_, body) = text.split_once("\r\n\r\n").context("no answer")?;
        Ok(serde_json::from_str(body)?)
    }

    /// The alerts that fire, each with its plugin.
    fn firing(&self) -> Result<BTreeSet<(String, String)>> {
        let answer = self.get("alerts")?;
        let alerts = answer["data"]["alerts"].as_array().context("no alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let label = |alert: &Value, name: &str| {
            let label = alert["labels"][name].as_str().unwrap_or_default();
            label.to_owned()
        };
        Ok(firing
            .map(|alert| (label(alert, "alertname"), label(alert, "plugin")))
            .collect())
    }
}
