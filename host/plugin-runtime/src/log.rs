//! The host's side of the import `log`: a component's lines in the host's log.
//!
//! Each line carries the action, the job and the target. A call has a budget of lines and bytes; further
//! lines are counted and dropped, so that a chatty action can't flood the host's own log.

use operon_core::action::{JobView, Target};
use tracing::{debug, error, info, warn};

use crate::{
    bindings::operon::action::log::{Host, Level},
    fault::Fault,
    limits::{LOG_BYTES, LOG_LINE_BYTES, LOG_LINES},
    state::State,
};

/// Where one call's lines go.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogLines {
    action: String,
    namespace: String,
    job: String,
    target: String,
    lines: u32,
    bytes: usize,
    dropped: u32,
}

impl LogLines {
    /// The log of a call for this action, outside of any job.
    pub(crate) fn of_action(action: &str) -> Self {
        Self {
            action: action.to_owned(),
            ..Self::default()
        }
    }

    /// The log of a call for this target.
    pub(crate) fn of_target(action: &str, job: &JobView, target: &Target) -> Self {
        Self {
            namespace: job.namespace.clone(),
            job: job.name.clone(),
            target: target.name.clone(),
            ..Self::of_action(action)
        }
    }

    /// Writes a line, or drops it if the budget is used up.
    pub(crate) fn write(&mut self, level: Level, message: &str) {
        if self.lines >= LOG_LINES || self.bytes >= LOG_BYTES {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        let message = one_line(message, LOG_LINE_BYTES);
        self.lines += 1;
        self.bytes += message.len();
        let Self {
            action,
            namespace,
            job,
            target,
            ..
        } = self;
        match level {
            Level::Debug => debug!(action, namespace, job, target, "{message}"),
            Level::Info => info!(action, namespace, job, target, "{message}"),
            Level::Warn => warn!(action, namespace, job, target, "{message}"),
            Level::Error => error!(action, namespace, job, target, "{message}"),
        }
    }

    /// The call has ended: logs how many lines were dropped, what the component wrote to its standard
    /// output, and why it was stopped.
    pub(crate) fn conclude(&self, function: &str, output: &str, fault: Option<&Fault>) {
        let Self {
            action,
            namespace,
            job,
            target,
            dropped,
            ..
        } = self;
        if *dropped > 0 {
            warn!(
                action,
                namespace, job, target, function, dropped, "dropped log lines of one call"
            );
        }
        let output = one_line(output, LOG_LINE_BYTES);
        if let Some(fault) = fault {
            let outcome = fault.outcome.as_str();
            let message = &fault.message;
            warn!(
                action,
                namespace, job, target, function, outcome, output, "{message}"
            );
        } else if !output.is_empty() {
            debug!(
                action,
                namespace, job, target, function, "standard output: {output}"
            );
        }
    }
}

impl Host for State {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.budget.host_call()?;
        self.log.write(level, &message);
        Ok(())
    }
}

/// Text without control characters, shortened to at most this number of bytes.
pub(crate) fn one_line(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    let mut line = text[..end].replace(char::is_control, " ");
    if end < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_writes_lines_and_bytes_up_to_their_limits_and_the_rest_is_counted() {
        let much = "l".repeat(1 << 20);
        for (line, lines) in [("short", 100), (much.as_str(), 16)] {
            let mut log = LogLines::default();
            for _ in 0..1_000 {
                log.write(Level::Debug, line);
            }
            assert_eq!((log.lines, log.dropped), (lines, 1_000 - lines));
            assert!(log.bytes <= LOG_BYTES + LOG_LINE_BYTES, "{}", log.bytes);
        }
    }

    #[test]
    fn a_line_is_one_line_and_has_an_end() {
        assert_eq!(one_line("a\nb\u{1b}c", 10), "a b c");
        assert_eq!(one_line("ääää", 3), "ä…");
        let line = one_line(&"x".repeat(1 << 20), LOG_LINE_BYTES);
        assert_eq!(line.len(), LOG_LINE_BYTES + '…'.len_utf8());
    }
}
