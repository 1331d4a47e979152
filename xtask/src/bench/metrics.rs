//! The host's own metrics and readiness, read over HTTP; its metrics once before and once after what is measured.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result};

/// What the host counted so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    /// Passes of one controller.
    pub(super) passes: f64,
    /// Their time in seconds.
    pub(super) pass_time: f64,
    /// Calls of the action.
    pub(super) calls: f64,
    /// Their time in seconds.
    pub(super) call_time: f64,
    /// Those about targets, by their cause.
    pub(super) causes: BTreeMap<String, f64>,
}

impl Counted {
    /// Asks the host that serves its metrics at this address; of passes, those of this controller count.
    pub(super) fn ask(address: &str, controller: &str) -> Result<Self> {
        let text = get(address, "/metrics")?;
        let controller = format!("controller=\"{controller}\"");
        let passes = |part: &str| {
            let name = format!("operon_reconcile_duration_seconds_{part}");
            sum(&text, &name, &controller)
        };
        let calls = |part: &str| {
            let name = format!("operon_action_call_duration_seconds_{part}");
            sum(&text, &name, "action=")
        };
        Ok(Self {
            passes: passes("count"),
            pass_time: passes("sum"),
            calls: calls("count"),
            call_time: calls("sum"),
            causes: by_label(&text, "operon_action_calls_by_cause_total", "cause"),
        })
    }

    /// What was counted since `earlier`.
    pub(super) fn since(self, earlier: &Self) -> Self {
        let earlier_of = |cause: &str| earlier.causes.get(cause).copied().unwrap_or(0.0);
        let causes = self.causes.into_iter().map(|(cause, count)| {
            let count = count - earlier_of(&cause);
            (cause, count)
        });
        Self {
            causes: causes.collect(),
            passes: self.passes - earlier.passes,
            pass_time: self.pass_time - earlier.pass_time,
            calls: self.calls - earlier.calls,
            call_time: self.call_time - earlier.call_time,
        }
    }
}

/// Whether the host at this address says that it is ready for jobs.
pub(super) fn is_ready(address: &str) -> bool {
    get(address, "/readyz").is_ok_and(|text| text.contains(" 200 "))
}

/// What the host answers to a request: status, headers and text.
pub(super) fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)
        .with_context(|| format!("the host serves nothing at {address}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .context("the host's answer can't be read")?;
    Ok(text)
}

/// The sums of the samples of this name by the value of this label.
fn by_label(text: &str, name: &str, label: &str) -> BTreeMap<String, f64> {
    let start = format!("{label}=\"");
    let value_of = |line: &str| {
        let labels = line.strip_prefix(name)?.strip_prefix('{')?;
        let (_, rest) = labels.split_once(&start)?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let values: Vec<String> = text.lines().filter_map(value_of).collect();
    let sum_of = |value: String| {
        let sum = sum(text, name, &format!("{start}{value}\""));
        (value, sum)
    };
    values.into_iter().map(sum_of).collect()
}

/// The sum of the samples of this name whose labels hold this.
pub(super) fn sum(text: &str, name: &str, label: &str) -> f64 {
    let value = |line: &str| {
        let (labels, value) = line
            .strip_prefix(name)?
            .strip_prefix('{')?
            .split_once('}')?;
        if labels.contains(label) {
            value.trim().parse::<f64>().ok()
        } else {
            None
        }
    };
    text.lines().filter_map(value).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_label() {
        let text = "\
# TYPE x histogram
x_count{a=\"1\",b=\"c\"} 2
x_count{a=\"1\"} 3.5
x_count{a=\"2\"} 7
x_counted{a=\"1\"} 11
";
        assert!((sum(text, "x_count", "a=\"1\"") - 5.5).abs() < 1e-9);
        let sums = by_label(text, "x_count", "a");
        let sums: Vec<_> = sums
            .iter()
            .map(|(value, sum)| format!("{value} {sum}"))
            .collect();
        assert_eq!(sums, ["1 5.5", "2 7"]);
    }
}
