//! The machine, and what a process used of it: all read from `/proc`.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use operon_devcluster::output_of;

use crate::tools;

/// Processors, memory, load and the version that is measured, in a sentence.
pub(super) fn description() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let model =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").and_then(|text| kib(&text));
    format!(
        "{processors} × {model}, {:.0} GiB of memory, load {} before the bench; Operon {}",
        memory.unwrap_or(0.0) / 1024.0 / 1024.0,
        load_average(),
        version()
    )
}

/// The average number of processes that ran or wanted to in the last minute.
pub(super) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn version() -> String {
    let mut describe = Command::new("git");
    describe.current_dir(tools::workspace_dir()).args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=9",
    ]);
    let commit = output_of(&mut describe).unwrap_or_default();
    format!("{} ({})", env!("CARGO_PKG_VERSION"), commit.trim())
}

/// What a process used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Processor time in seconds, in user and kernel mode.
    pub(super) cpu: f64,
    /// Resident memory in MiB.
    pub(super) rss: f64,
    /// The most that it ever was, in MiB.
    pub(super) peak_rss: f64,
}

impl Usage {
    /// Of the process with this id.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} is gone"))?;
        // The command name, in parentheses, may hold anything: fields count from behind it.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok());
        let status = format!("/proc/{pid}/status");
        let mib = |name: &str| {
            field(&status, name)
                .and_then(|text| kib(&text))
                .map(|kib| kib / 1024.0)
        };
        Ok(Self {
            cpu: (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / ticks_per_second(),
            rss: mib("VmRSS").unwrap_or(0.0),
            peak_rss: mib("VmHWM").unwrap_or(0.0),
        })
    }
}

fn ticks_per_second() -> f64 {
    let printed = output_of(Command::new("getconf").arg("CLK_TCK"));
    printed
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(100.0)
}

/// The value of a line `name: value`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// The number of `123 kB`.
fn kib(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}
