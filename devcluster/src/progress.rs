//! What the person in front of the terminal sees while something takes long.
//!
//! One line per step, with the seconds since the command began. A child process that
//! is silent for ten seconds gets a line that says what is still going on.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a child may be silent before a line says that it still runs.
const SILENCE: Duration = Duration::from_secs(10);

type Sink = dyn Fn(Duration, &str) + Send + Sync;

/// Where lines of progress go, and since when their time is counted.
#[derive(Clone)]
pub struct Progress {
    started: Instant,
    sink: Arc<Sink>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Progress")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Lines on standard error, each with the elapsed seconds in front.
    pub fn stderr() -> Self {
        Self::new(|elapsed, line| eprintln!("{:>6.1} s  {line}", elapsed.as_secs_f64()))
    }

    /// No lines at all: for tests.
    pub fn silent() -> Self {
        Self::new(|_, _| ())
    }

    /// Lines go to `sink`, with the time since this call.
    pub fn new(sink: impl Fn(Duration, &str) + Send + Sync + 'static) -> Self {
        Self {
            started: Instant::now(),
            sink: Arc::new(sink),
        }
    }

    /// Says one line.
    pub fn say(&self, line: impl AsRef<str>) {
        (self.sink)(self.started.elapsed(), line.as_ref());
    }

    /// Time since this progress began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs `command` to its end with its output in `log`, saying `what` every ten seconds.
    ///
    /// # Errors
    /// When it cannot be started or fails: the message names the command and the log, and quotes its last lines.
    pub fn run_logged(&self, what: &str, command: &mut Command, log: &Path) -> Result<()> {
        let output =
            fs::File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
        let errors = output
            .try_clone()
            .with_context(|| format!("failed to open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let status = self.run(what, command)?;
        if !status.success() {
            bail!(
                "{what} failed ({status}): {command:?}\nlast lines of {}:\n{}",
                log.display(),
                last_lines(log, 20)
            );
        }
        Ok(())
    }

    /// Runs `command` to its end, saying `what` every ten seconds.
    ///
    /// # Errors
    /// When it cannot be started or waited for. A failing exit status is returned, not an error.
    pub fn run(&self, what: &str, command: &mut Command) -> Result<ExitStatus> {
        let began = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        let mut said = Instant::now();
        loop {
            if let Some(status) = child
                .try_wait()
                .with_context(|| format!("failed to wait for {command:?}"))?
            {
                return Ok(status);
            }
            if said.elapsed() >= SILENCE {
                self.say(format!("… {what}: {} s", began.elapsed().as_secs()));
                said = Instant::now();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The last `count` lines of a file, indented: for quoting a log in an error.
pub fn last_lines(path: &Path, count: usize) -> String {
    let Ok(bytes) = fs::read(path) else {
        return String::from("  (no log)");
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return String::from("  (empty)");
    }
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_command_is_reported_with_the_last_lines_of_its_log() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo why >&2; exit 3"]);
        let error = Progress::silent()
            .run_logged("building", &mut command, &log)
            .err()
            .map(|e| e.to_string());
        let error = error.unwrap_or_default();
        assert!(
            error.contains("building failed") && error.contains("  why"),
            "{error}"
        );
        Ok(())
    }
}
