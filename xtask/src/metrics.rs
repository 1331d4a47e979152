//! `cargo xtask metrics`: the table of metrics in `docs/metrics.md`, from the host.
//!
//! `operon metrics` prints every series that a host can have, with one ActionPlugin and one kind, which have names in
//! capital letters. So a metric, a label or a value that the host has is in the table, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use operon_devcluster::{Progress, output_of};

pub(crate) use crate::generated::Arguments;
use crate::generated::Page;
use crate::host;

const PAGE: Page = Page {
    file: "docs/metrics.md",
    command: "metrics",
    source: "the host",
};

/// Writes the table, or compares it with the one that is there.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let progress = Progress::stderr();
    PAGE.run(arguments, &table(&exposed(&progress)?)?, &progress)
}

/// Fails if the table is not what the host says.
pub(crate) fn check(progress: &Progress) -> Result<()> {
    PAGE.check(&table(&exposed(progress)?)?, progress)
}

/// Every series that the host can have, as `OpenMetrics` text.
pub(crate) fn exposed(progress: &Progress) -> Result<String> {
    output_of(Command::new(host::build_program(progress, false)?).arg("metrics"))
}

/// A metric, as its series show it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Metric {
    name: String,
    kind: String,
    unit: String,
    help: String,
    /// The values of each label; none of one that is any name.
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Metric {
    /// The name that queries use; of a histogram, what its series begin with.
    fn queried(&self) -> String {
        match self.kind.as_str() {
            "counter" => format!("{}_total", self.name),
            _ => self.name.clone(),
        }
    }

    /// The names of its series.
    pub(crate) fn series(&self) -> Vec<String> {
        match self.kind.as_str() {
            "histogram" => ["bucket", "sum", "count"]
                .iter()
                .map(|part| format!("{}_{part}", self.name))
                .collect(),
            _ => vec![self.queried()],
        }
    }
}

/// The metrics of an `OpenMetrics` text.
pub(crate) fn metrics(text: &str) -> Result<Vec<Metric>> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        let Some(comment) = line.strip_prefix("# ") else {
            let metric = metrics.last_mut().context("a series before its metric")?;
            add(metric, line)?;
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(what), Some(name), Some(value)) = (words.next(), words.next(), words.next())
        else {
            bail!("a line that is no OpenMetrics text: {line}");
        };
        if metrics.last().is_none_or(|metric| metric.name != name) {
            metrics.push(Metric {
                name: name.to_owned(),
                ..Metric::default()
            });
        }
        let metric = metrics.last_mut().context("no metric")?;
        let field = match what {
            "HELP" => &mut metric.help,
            "TYPE" => &mut metric.kind,
            "UNIT" => &mut metric.unit,
            _ => bail!("a line that is no OpenMetrics text: {line}"),
        };
        value.clone_into(field);
    }
    Ok(metrics)
}

/// Adds the labels of a series. No value has a quotation mark in it.
fn add(metric: &mut Metric, series: &str) -> Result<()> {
    let name = series.split(['{', ' ']).next().unwrap_or_default();
    if !metric.series().iter().any(|known| known == name) {
        bail!("series {name} is not one of the metric {}", metric.name);
    }
    let Some((_, labels)) = series.split_once('{') else {
        return Ok(());
    };
    let labels = labels.split_once('}').map_or(labels, |(labels, _)| labels);
    for label in labels.split("\",").map(|label| label.trim_end_matches('"')) {
        let (key, value) = label.split_once("=\"").context("a label without a value")?;
        if key != "le" {
            let values = metric.labels.entry(key.to_owned()).or_default();
            values.insert(value.to_owned());
        }
    }
    Ok(())
}

/// Whether the values of a label are any names: then one of them has a word in capital letters.
fn is_open(values: &BTreeSet<String>) -> bool {
    let is_any = |word: &str| word.chars().all(|letter| letter.is_ascii_uppercase());
    values.iter().any(|value| value.split(' ').any(is_any))
}

/// The table, and the values that several metrics share.
fn table(text: &str) -> Result<String> {
    let metrics = metrics(text)?;
    let mut uses: BTreeMap<(&String, &BTreeSet<String>), usize> = BTreeMap::new();
    for label in metrics.iter().flat_map(|metric| &metric.labels) {
        *uses.entry(label).or_default() += 1;
    }
    let is_shared = |label: &(&String, &BTreeSet<String>)| uses.get(label).is_some_and(|n| *n > 1);
    let list = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut table =
        String::from("\n| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n");
    for metric in &metrics {
        let labels = metric.labels.iter().map(|(key, values)| {
            if is_open(values) || is_shared(&(key, values)) {
                format!("`{key}`")
            } else {
                format!("`{key}`: {}", list(values))
            }
        });
        let labels = labels.collect::<Vec<_>>().join("; ");
        let (
            name,
            Metric {
                kind, unit, help, ..
            },
        ) = (metric.queried(), metric);
        let help = help.trim_end_matches('.');
        let _ = writeln!(table, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
    }
    table.push('\n');
    for ((key, values), _) in uses.iter().filter(|(label, _)| is_shared(label)) {
        if !is_open(values) {
            let _ = writeln!(table, "`{key}` is one of: {}.\n", list(values));
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP operon_leader 1 while it leads.
# TYPE operon_leader gauge
operon_leader 0
# HELP operon_reconciles Reconciles.
# TYPE operon_reconciles counter
operon_reconciles_total{controller=\"a\",result=\"ok\"} 0
operon_reconciles_total{controller=\"b\",result=\"error\"} 0
# HELP operon_call_duration_seconds The time of a call.
# TYPE operon_call_duration_seconds histogram
# UNIT operon_call_duration_seconds seconds
operon_call_duration_seconds_sum{controller=\"a\"} 0.0
operon_call_duration_seconds_bucket{le=\"+Inf\",controller=\"b\"} 0
# HELP operon_panics Panics.
# TYPE operon_panics counter
operon_panics_total{place=\"a\"} 0
operon_panics_total{place=\"watch KIND\"} 0
# EOF
";

    #[test]
    fn the_table_has_what_the_host_exposes_and_shared_values_once() -> Result<()> {
        let wanted = "
| name | type | unit | labels | meaning |
|---|---|---|---|---|
| `operon_leader` | gauge |  |  | 1 while it leads |
| `operon_reconciles_total` | counter |  | `controller`; `result`: error, ok | Reconciles |
| `operon_call_duration_seconds` | histogram | seconds | `controller` | The time of a call |
| `operon_panics_total` | counter |  | `place` | Panics |

`controller` is one of: a, b.

";
        assert_eq!(table(TEXT)?, wanted);
        Ok(())
    }

    #[test]
    fn a_series_of_another_metric_is_refused() {
        let counter = "# TYPE operon_x counter\noperon_x 1\n";
        assert!(metrics(counter).is_err(), "the name lacks _total");
        assert!(metrics("operon_x_total 1\n").is_err());
    }
}
