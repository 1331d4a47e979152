//! The first step of the host's child processes: they limit themselves.
//!
//! A child is this same program. It runs before there is a runtime, a client or a second thread, reads
//! its input from standard input, and answers by its standard output and its exit status.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use operon_compiled_code::REFUSED;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The arguments by which the parent sets a child's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildArguments {
    /// Bytes of address space.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu_seconds: u64,
}

/// By how much a child's priority is lower than the host's, as in `nice -n 10`.
const NICENESS: i32 = 10;

/// Why a child ends without an answer.
pub(crate) struct Complaint {
    status: u8,
    text: String,
}

impl Complaint {
    /// The input is not valid: trying it again can't help.
    pub(crate) fn refused(text: String) -> Self {
        Self {
            status: REFUSED,
            text,
        }
    }

    /// The child itself does not work.
    pub(crate) fn broken(text: String) -> Self {
        Self { status: 1, text }
    }
}

impl<E: std::fmt::Display> From<(&str, E)> for Complaint {
    fn from((what, error): (&str, E)) -> Self {
        Self::broken(format!("failed to {what}: {error:#}"))
    }
}

/// The child's whole life: it limits itself, then works.
///
/// Guarantees: the status is zero only if the work was done. Why not is on standard error.
pub(crate) fn live(
    limits: ChildArguments,
    work: impl FnOnce() -> Result<(), Complaint>,
) -> ExitCode {
    match limit(limits).and_then(|()| work()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Complaint { status, text }) => {
            // A failure can't be reported to anyone.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(status)
        }
    }
}

/// Standard input, of at most so many bytes.
pub(crate) fn input(limit: usize) -> Result<Vec<u8>, Complaint> {
    read(io::stdin(), limit)
}

fn read(from: impl io::Read, limit: usize) -> Result<Vec<u8>, Complaint> {
    let mut bytes = Vec::new();
    from.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ("read the input", error))?;
    if bytes.len() > limit {
        return Err(Complaint::refused(format!(
            "it has more than {limit} bytes"
        )));
    }
    Ok(bytes)
}

fn limit(arguments: ChildArguments) -> Result<(), Complaint> {
    let hard = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    let cpu = Rlimit {
        current: Some(arguments.cpu_seconds),
        // The signal at the first limit differs from a kill; the second is for certain.
        maximum: Some(arguments.cpu_seconds.saturating_add(2)),
    };
    setrlimit(Resource::As, hard(arguments.memory)).map_err(|e| ("limit the memory", e))?;
    setrlimit(Resource::Cpu, cpu).map_err(|e| ("limit the processor time", e))?;
    setrlimit(Resource::Core, hard(0)).map_err(|e| ("limit the core file", e))?;
    // The host's own work goes first: reconciles do not wait for a compilation.
    rustix::process::nice(NICENESS).map_err(|e| ("lower the priority", e))?;
    // If the machine runs out of memory after all, this process is the one to be killed.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{MOST_COMPONENT_BYTES, SCHEMA_BYTES, VALUE_BYTES};

    #[test]
    fn a_child_reads_no_more_than_its_input_may_have() {
        for limit in [MOST_COMPONENT_BYTES, SCHEMA_BYTES + VALUE_BYTES] {
            let endless = || io::repeat(b'x');
            let most = read(endless().take(limit as u64), limit);
            assert_eq!(most.map(|bytes| bytes.len()).ok(), Some(limit));
            let more = read(endless(), limit).err();
            let (status, text) = more
                .map(|more| (more.status, more.text))
                .unwrap_or_default();
            assert_eq!(status, REFUSED);
            assert!(text.contains(&limit.to_string()), "{text}");
        }
    }
}
