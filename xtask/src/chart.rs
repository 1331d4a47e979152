//! The chart: helm accepts it, its version is the program's, each template has tests, and wrong values are refused.

mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use operon_devcluster::{Progress, Tool};
use serde_json::Value;

use crate::{monitoring, tools};

/// The suites of tests, beside the tests of the alerts.
const SUITES: &str = "tests/*_test.yaml";

/// Fails if something of the chart is not as it should be.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    let chart = tools::chart_dir();
    check_version(&chart.join("Chart.yaml"))?;
    let mut helm = Command::new(Tool::Helm.ensure(progress)?);
    helm.args(["lint", "--strict"]).arg(&chart);
    tools::run(progress, "helm lint --strict", &mut helm)?;
    check_tested(&templates(&chart)?, &tested(&chart)?)?;
    let mut unittest = Command::new(Tool::HelmUnittest.ensure(progress)?);
    unittest
        .args(["--strict", "--file", SUITES])
        .arg(&chart)
        // Where it would look for plugins of helm.
        .env_remove("HELM_PLUGINS");
    tools::run(progress, "helm unittest", &mut unittest)?;
    values::check(&chart, progress)?;
    monitoring::check(progress)
}

/// The chart is released with the program, under the same version.
fn check_version(file: &Path) -> Result<()> {
    let text = read(file)?;
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("version: {version}"),
        format!("appVersion: {version:?}"),
    ] {
        if !text.lines().any(|found| found == line) {
            bail!(
                "{} lacks the line `{line}`: the workspace has that version",
                file.display()
            );
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

/// The names of the files in a folder of the chart.
fn names(folder: &Path) -> Result<Vec<String>> {
    let failure = || format!("failed to read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(failure)?;
    let name = |entry: std::io::Result<fs::DirEntry>| -> Result<String> {
        Ok(entry?.file_name().to_string_lossy().into_owned())
    };
    entries
        .map(name)
        .collect::<Result<_>>()
        .with_context(failure)
}

/// The templates that render something of their own.
fn templates(chart: &Path) -> Result<BTreeSet<String>> {
    let names = names(&chart.join("templates"))?.into_iter();
    Ok(names.filter(|name| !name.starts_with('_')).collect())
}

/// The templates that suites name.
fn tested(chart: &Path) -> Result<BTreeSet<String>> {
    let folder = chart.join("tests");
    let mut tested = BTreeSet::new();
    for name in names(&folder)? {
        if name.ends_with("_test.yaml") {
            let text = read(&folder.join(&name))?;
            tested.extend(suites(&text).with_context(|| format!("failed to read {name}"))?);
        }
    }
    Ok(tested)
}

/// The templates that the suites of a file name.
fn suites(text: &str) -> Result<Vec<String>> {
    let mut named = Vec::new();
    for suite in text.split("\n---\n") {
        let suite: Value = serde_yaml_ng::from_str(suite)?;
        let templates = suite["templates"].as_array();
        let templates = templates.context("a suite without `templates`")?;
        ensure!(
            suite["tests"]
                .as_array()
                .is_some_and(|tests| !tests.is_empty()),
            "a suite without tests"
        );
        let templates = templates.iter().filter_map(Value::as_str);
        named.extend(templates.map(|name| name.trim_start_matches("templates/").to_owned()));
    }
    Ok(named)
}

/// Each template has a suite, and each suite a template.
fn check_tested(templates: &BTreeSet<String>, tested: &BTreeSet<String>) -> Result<()> {
    if let Some(untested) = templates.difference(tested).next() {
        bail!("no suite of charts/operon/{SUITES} tests templates/{untested}");
    }
    match tested.difference(templates).next() {
        Some(missing) => bail!("a suite tests templates/{missing}, which does not exist"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_template_has_a_suite_and_each_suite_a_template() -> Result<()> {
        let suites = suites(
            "templates: [a.yaml]\ntests: [{it: x}]\n---\ntemplates:\n  - b.yaml\ntests: [{it: x}]\n",
        )?;
        let tested: BTreeSet<_> = suites.into_iter().collect();
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert!(check_tested(&all(&["a.yaml", "b.yaml"]), &tested).is_ok());
        assert!(check_tested(&all(&["a.yaml", "b.yaml", "c.yaml"]), &tested).is_err());
        assert!(check_tested(&all(&["a.yaml"]), &tested).is_err());
        Ok(())
    }

    #[test]
    fn a_suite_without_tests_is_refused() {
        assert!(suites("templates: [a.yaml]\ntests: []\n").is_err());
        assert!(suites("tests: [{it: x}]\n").is_err());
    }
}
