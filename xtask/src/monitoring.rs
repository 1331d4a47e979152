//! The chart's alerts and dashboard, as Helm renders them: promtool accepts and tests each alert, each has a runbook, and
//! the host has every metric that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use operon_devcluster::{Progress, Tool, output_of, prometheus};
use serde_json::Value;

use crate::{metrics, tools};

/// Fails if one of them is not as it should be.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    let promtool = prometheus("promtool", progress)?;
    let (rules, dashboard) = rendered(progress)?;
    let alerts = alerts(&rules)?;
    let folder = tools::target_dir().join("monitoring");
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))
    };
    let read = |file: &Path| {
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
    };
    let tests = read(&tools::chart_dir().join("tests/alerts.yaml"))?;
    write("rules.yaml", &serde_yaml_ng::to_string(&rules)?)?;
    write("tests.yaml", &tests)?;
    for (what, file) in [("check", "rules.yaml"), ("test", "tests.yaml")] {
        let mut command = Command::new(&promtool);
        command.args([what, "rules", file]).current_dir(&folder);
        tools::run(progress, &format!("promtool {what} rules"), &mut command)?;
    }
    check_tested(&alerts, &serde_yaml_ng::from_str(&tests)?)?;
    let runbooks = read(&tools::workspace_dir().join("docs/runbooks.md"))?;
    check_runbooks(&alerts, &runbooks)?;
    let exposed = metrics::exposed(progress)?;
    check_names(&promtool, &exposed)?;
    let series = metrics::metrics(&exposed)?;
    let series: BTreeSet<_> = series.iter().flat_map(metrics::Metric::series).collect();
    for (what, text) in [
        ("an alert", rules.to_string()),
        ("the dashboard", dashboard),
    ] {
        if let Some(name) = named(&text).iter().find(|name| !series.contains(*name)) {
            bail!("{what} of the chart names the metric {name}, which the host does not have");
        }
    }
    progress.say(format!(
        "{} alerts have tests and runbooks, and the host has their metrics",
        alerts.len()
    ));
    Ok(())
}

/// The groups of alerts, and the text of the dashboard, as Helm renders them.
fn rendered(progress: &Progress) -> Result<(Value, String)> {
    let mut helm = Command::new(Tool::Helm.ensure(progress)?);
    helm.args(["template", "operon"])
        .arg(tools::chart_dir())
        .args(["--namespace", "operon-system", "--kube-version", "1.34.0"])
        .args(["--show-only", "templates/monitoring.yaml"])
        .args([
            "--set",
            "prometheusRule.enabled=true,grafanaDashboard.enabled=true",
        ]);
    let manifest = output_of(&mut helm)?;
    let documents = manifest.split("---\n").map(serde_yaml_ng::from_str);
    let documents: Vec<Value> = documents.collect::<Result<_, _>>()?;
    let of_kind = |kind: &str| {
        let found = documents.iter().find(|object| object["kind"] == kind);
        found.with_context(|| format!("the chart has no {kind}"))
    };
    let dashboard = &of_kind("ConfigMap")?["data"]["operon.json"];
    let dashboard = dashboard.as_str().context("no dashboard")?;
    serde_json::from_str::<Value>(dashboard).context("the dashboard is no JSON")?;
    Ok((
        of_kind("PrometheusRule")?["spec"].clone(),
        dashboard.to_owned(),
    ))
}

/// The runbook's address of each alert, by its name.
fn alerts(rules: &Value) -> Result<BTreeMap<String, String>> {
    let groups = rules["groups"].as_array().context("no groups")?;
    let rules = groups.iter().filter_map(|group| group["rules"].as_array());
    let alert = |rule: &Value| -> Result<(String, String)> {
        let name = rule["alert"].as_str().context("a rule without an alert")?;
        let runbook = rule["annotations"]["runbook_url"].as_str();
        let runbook = runbook.with_context(|| format!("{name} has no runbook_url"))?;
        Ok((name.to_owned(), runbook.to_owned()))
    };
    rules.flatten().map(alert).collect()
}

/// Each alert fires in one case at least, and is silent in another.
fn check_tested(alerts: &BTreeMap<String, String>, tests: &Value) -> Result<()> {
    let tests = tests["tests"].as_array().context("no tests")?;
    let cases = tests
        .iter()
        .filter_map(|test| test["alert_rule_test"].as_array());
    let cases: Vec<_> = cases.flatten().collect();
    for name in alerts.keys() {
        for (fires, word) in [(true, "fires"), (false, "is silent")] {
            let is_one = |case: &&Value| {
                let expected = case["exp_alerts"].as_array().map_or(0, Vec::len);
                case["alertname"] == **name && (expected > 0) == fires
            };
            ensure!(
                cases.iter().any(is_one),
                "charts/operon/tests/alerts.yaml has no case in which {name} {word}"
            );
        }
    }
    Ok(())
}

/// Each alert has a section of the runbooks, which says what it means and what to do, and each section an alert.
fn check_runbooks(alerts: &BTreeMap<String, String>, runbooks: &str) -> Result<()> {
    let sections = runbooks.split("\n## ").skip(1);
    let sections: BTreeMap<_, _> = sections
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect();
    for (name, runbook) in alerts {
        let section = sections.get(name.as_str());
        let section = section.with_context(|| format!("docs/runbooks.md lacks ## {name}"))?;
        for part in ["**Symptom.**", "**Meaning.**", "**What to do.**"] {
            ensure!(section.contains(part), "the runbook of {name} lacks {part}");
        }
        let wanted = format!("/docs/runbooks.md#{}", name.to_lowercase());
        ensure!(
            runbook.ends_with(&wanted),
            "{name}: {runbook} is not {wanted}"
        );
    }
    let without = sections.keys().find(|name| !alerts.contains_key(**name));
    without.map_or(Ok(()), |name| {
        bail!("docs/runbooks.md has {name}, which is no alert")
    })
}

/// The metrics of Operon that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words
        .filter(|word| word.starts_with("operon_"))
        .map(str::to_owned)
        .collect()
}

/// The names follow Prometheus' rules. promtool reads the older format, in which the type of a counter names its series.
fn check_names(promtool: &Path, exposed: &str) -> Result<()> {
    let typed = exposed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let typed: BTreeMap<_, _> = typed.filter_map(|line| line.split_once(' ')).collect();
    ensure!(
        typed.keys().all(|name| name.starts_with("operon_")),
        "a metric's name does not begin with operon_"
    );
    let lines = exposed.lines().map(|line| {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what), Some(name), Some(rest))
                if typed.get(name) == Some(&"counter") =>
            {
                format!("# {what} {name}_total {rest}\n")
            }
            _ => format!("{line}\n"),
        }
    });
    let text: String = lines.collect();
    let mut command = Command::new(promtool);
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("failed to start promtool")?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let complaints = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success() && complaints.is_empty(),
        "promtool check metrics: {}",
        String::from_utf8_lossy(&complaints)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one_alert() -> BTreeMap<String, String> {
        let address = "https://example.com/docs/runbooks.md#operonx".to_owned();
        BTreeMap::from([("OperonX".to_owned(), address)])
    }

    #[test]
    fn an_alert_needs_a_case_that_fires_and_one_that_is_silent() {
        let case = |alerts: Value| json!({"alertname": "OperonX", "exp_alerts": alerts});
        let tests = |cases: &[Value]| json!({"tests": [{"alert_rule_test": cases}]});
        let (fires, silent) = (case(json!([{}])), case(json!([])));
        let both = tests(&[fires.clone(), silent.clone()]);
        assert!(check_tested(&one_alert(), &both).is_ok());
        for one in [fires, silent] {
            assert!(check_tested(&one_alert(), &tests(&[one])).is_err());
        }
    }

    #[test]
    fn an_alert_needs_a_runbook_at_its_address_and_a_runbook_an_alert() {
        let section = "\n## OperonX\n**Symptom.** a\n\n**Meaning.** b\n\n**What to do.** c\n";
        let page = format!("# Runbooks\n{section}");
        assert!(check_runbooks(&one_alert(), &page).is_ok());
        for bad in [
            page.replace("OperonX", "OperonY"),
            page.replace("**Meaning.**", ""),
            format!("{page}{}", section.replace("OperonX", "OperonY")),
        ] {
            assert!(check_runbooks(&one_alert(), &bad).is_err(), "{bad}");
        }
        let elsewhere = one_alert().into_keys().map(|name| (name, String::new()));
        assert!(check_runbooks(&elsewhere.collect(), &page).is_err());
    }

    #[test]
    fn the_metrics_in_an_expression_are_found() {
        let found =
            named("sum by (x) (rate(operon_a_total{job=\"operon-metrics\"}[5m])) / operon_b");
        let wanted = ["operon_a_total", "operon_b"].map(str::to_owned);
        assert_eq!(found, wanted.into());
    }
}
