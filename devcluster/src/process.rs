//! Processes of a cluster: started in groups of their own, remembered by pid and start time.
//!
//! A pid alone is not an identity: after a reboot it may belong to somebody else. Nothing
//! here signals a process whose start time differs from the recorded one.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::progress::last_lines;

/// One process of a cluster, as recorded in `cluster.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// What it is, for example `kube-apiserver`.
    pub component: String,
    /// Its process id.
    pub pid: i32,
    /// Its start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub started: u64,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, its output appended to `log`.
    pub fn start(component: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open {}", log.display()))?;
        let errors = output
            .try_clone()
            .with_context(|| format!("failed to open {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {component}: {command:?}"))?;
        let pid = i32::try_from(child.id()).context("process id out of range")?;
        // An unreaped child would read as a zombie for as long as the caller lives.
        let started = stat(pid).map_or(0, |stat| stat.started);
        std::thread::spawn(move || child.wait());
        let process = Self {
            component: component.to_owned(),
            pid,
            started,
            log: log.to_owned(),
        };
        process.until_named();
        Ok(process)
    }

    /// Waits for the command line of a process that has just started: it is empty until the kernel has copied it.
    fn until_named(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let is_named = || self.command_line().is_ok_and(|line| !line.is_empty());
        while !is_named() && self.is_alive() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The words by which the process was started, each with a zero byte behind it; empty if it has ended.
    fn command_line(&self) -> Result<Vec<u8>> {
        fs::read(format!("/proc/{}/cmdline", self.pid))
            .with_context(|| format!("{} does not run", self.component))
    }

    /// Kills the process, and starts its program again as it was started.
    pub(crate) fn restart(&self) -> Result<Self> {
        let line = self.command_line()?;
        let words = line.split(|byte| *byte == 0).map(OsStr::from_bytes);
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let (program, arguments) = words
            .split_first()
            .with_context(|| format!("{} has ended", self.component))?;
        let mut command = Command::new(program);
        command.args(arguments);
        self.end(Duration::ZERO)?;
        Self::start(&self.component, &mut command, &self.log)
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| {
            stat.started == self.started && (stat.state != 'Z' || has_threads(self.pid))
        })
    }

    /// Fails if the process has ended, naming its log and quoting the end of it.
    pub fn expect_alive(&self) -> Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        bail!(
            "{} ended; last lines of {}:\n{}",
            self.component,
            self.log.display(),
            last_lines(&self.log, 12)
        )
    }

    /// Ends the process, and its group if it leads one: asks, and after `patience` insists.
    ///
    /// Returns whether there was something to end.
    pub fn end(&self, patience: Duration) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        let pid = Pid::from_raw(self.pid).context("process id is zero")?;
        let leads_group = getpgid(Some(pid)).is_ok_and(|group| group == pid);
        let signals = if patience.is_zero() {
            &[Signal::KILL][..]
        } else {
            &[Signal::TERM, Signal::KILL]
        };
        for signal in signals {
            // It may have ended by itself in between.
            let _ = if leads_group {
                kill_process_group(pid, *signal)
            } else {
                kill_process(pid, *signal)
            };
            let deadline = Instant::now() + patience.max(Duration::from_secs(5));
            while Instant::now() < deadline {
                if !self.is_alive() {
                    return Ok(true);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        bail!("{} (pid {}) does not end", self.component, self.pid)
    }
}

struct Stat {
    state: char,
    started: u64,
}

/// Whether a process that has ended still has threads: until they end too, its files and ports are open.
fn has_threads(pid: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads.is_ok_and(|threads| threads.count() > 1)
}

/// State and start time of a process, if there is one of that id.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name, in parentheses, may hold anything: fields count from behind it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, started })
}

/// The recorded form of a process that somebody else started.
pub(crate) fn identify(component: &str, pid: i32, log: &Path) -> Option<Process> {
    let started = stat(pid)?.started;
    Some(Process {
        component: component.to_owned(),
        pid,
        started,
        log: log.to_owned(),
    })
}

/// Looks for `name` in `PATH` and in the system folders an ordinary user's `PATH` leaves out.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the message quotes what it wrote to standard error.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_taken_for_one_that_started_at_another_time() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let process = Process::start(
            "sleep",
            Command::new("sleep").arg("60"),
            &folder.path().join("log"),
        )?;
        let other = Process {
            started: process.started + 1,
            ..process.clone()
        };
        assert!(process.is_alive() && !other.is_alive());
        assert!(!other.end(Duration::ZERO)? && process.is_alive());
        assert!(process.end(Duration::from_secs(1))? && !process.is_alive());
        Ok(())
    }

    #[test]
    fn a_process_that_is_restarted_is_another_with_the_same_command() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("sleep");
        let first = Process::start("sleep", command.arg("61"), &folder.path().join("log"))?;
        let second = first.restart()?;
        assert!(second.is_alive() && !first.is_alive());
        let line = fs::read_to_string(format!("/proc/{}/cmdline", second.pid))?;
        assert_eq!(line, "sleep\0".to_owned() + "61\0");
        second.end(Duration::ZERO)?;
        Ok(())
    }
}
