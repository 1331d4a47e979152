//! The compile child, and what its failures mean to whoever wrote the component.
//!
//! The child is this same program: it limits itself, reads a component from its standard input and
//! writes machine code to its standard output. It runs before there is a runtime, a client or a
//! second thread, and it never runs what it compiles.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use operon_compiled_code::{CompileError, REFUSED, compatibility, hex};
use operon_core::action::LoadError;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{engine, world::MAX_COMPONENT};

/// How the parent asks its child to limit itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileArguments {
    /// Bytes of address space.
    pub memory: u64,
    /// Seconds of processor time.
    pub cpu_seconds: u64,
    /// The compatibility hash that the code must have, in hexadecimal digits.
    pub compatibility: String,
}

/// The child's whole life: limits itself, compiles standard input to standard output.
///
/// Guarantees: the status is zero only if the whole code was written. Why not is on standard error.
pub fn compile_child(arguments: &CompileArguments) -> ExitCode {
    match limit(arguments).and_then(|()| compile(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Complaint { status, text }) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(status)
        }
    }
}

struct Complaint {
    status: u8,
    text: String,
}

impl<E: std::fmt::Display> From<(&str, E)> for Complaint {
    fn from((what, error): (&str, E)) -> Self {
        Self {
            status: 1,
            text: format!("failed to {what}: {error:#}"),
        }
    }
}

fn limit(arguments: &CompileArguments) -> Result<(), Complaint> {
    let hard = |limit| Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    let cpu = Rlimit {
        current: Some(arguments.cpu_seconds),
        // The signal at the first limit can be told apart from a kill; the second is for certain.
        maximum: Some(arguments.cpu_seconds.saturating_add(2)),
    };
    setrlimit(Resource::As, hard(arguments.memory)).map_err(|e| ("limit the memory", e))?;
    setrlimit(Resource::Cpu, cpu).map_err(|e| ("limit the processor time", e))?;
    setrlimit(Resource::Core, hard(0)).map_err(|e| ("limit the core file", e))?;
    // If the machine runs out of memory after all, this process is the one to go.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

fn compile(arguments: &CompileArguments) -> Result<(), Complaint> {
    let engine = engine::compiling().map_err(|e| ("start the compiler", e))?;
    if hex(&compatibility(&engine)) != arguments.compatibility {
        let text = "the compiler is of another build than the program that asks".to_owned();
        return Err(Complaint { status: 1, text });
    }
    let mut component = Vec::new();
    let limit = MAX_COMPONENT as u64 + 1;
    io::stdin()
        .take(limit)
        .read_to_end(&mut component)
        .map_err(|e| ("read the component", e))?;
    if component.len() > MAX_COMPONENT {
        return Err(Complaint {
            status: REFUSED,
            text: "the component is too large".to_owned(),
        });
    }
    let code = engine
        .precompile_component(&component)
        .map_err(|error| Complaint {
            status: REFUSED,
            text: format!("{error:#}"),
        })?;
    let mut out = io::stdout().lock();
    out.write_all(&code)
        .and_then(|()| out.flush())
        .map_err(|e| ("write the code", e))?;
    Ok(())
}

/// What the author of the component, or who runs the host, can do about a failure.
pub(crate) fn explain(error: &CompileError) -> LoadError {
    let (reason, transient) = match error {
        CompileError::Refused(text) if cut_off(text) => ("Truncated", false),
        CompileError::Refused(_) => ("Malformed", false),
        CompileError::Memory { .. } => ("CompileMemory", false),
        CompileError::CpuTime { .. } => ("CompileTimeout", false),
        CompileError::WallTime { .. } => ("CompileTimeout", true),
        CompileError::Output { .. } => ("TooLarge", false),
        CompileError::Killed => ("CompileMemory", true),
        CompileError::Run { .. } | CompileError::Failed { .. } => ("CompileFailed", true),
    };
    let message = match (error, reason) {
        (CompileError::Refused(text), "Truncated") => format!("the component is cut off: {text}"),
        (CompileError::Refused(text), _) => format!("this is not a valid component: {text}"),
        (CompileError::Memory { .. } | CompileError::CpuTime { .. }, _) => {
            format!("{error}; build the component smaller (opt-level \"s\", fewer dependencies)")
        }
        (CompileError::Run { source, .. }, _) => format!("{error}: {source}"),
        _ => error.to_string(),
    };
    LoadError {
        reason,
        message,
        transient,
    }
}

/// Whether the parser ran out of bytes.
fn cut_off(text: &str) -> bool {
    text.contains("unexpected end") || text.contains("is out of bounds (bound =")
}
