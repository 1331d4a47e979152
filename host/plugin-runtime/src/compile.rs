//! The compile child, and the meaning of its failures to the author of the component.
//!
//! The child reads a component from its standard input and writes machine code to its standard output. It
//! never runs the compiled code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use operon_compiled_code::{ChildError, compatibility, hex};
use operon_core::action::LoadError;

use crate::{
    child::{self, ChildArguments, Complaint},
    engine,
    limits::MOST_COMPONENT_BYTES,
    symbols,
};

/// The parent's request to the compile child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileArguments {
    /// How it limits itself.
    pub limits: ChildArguments,
    /// The compatibility hash that the code must have, in hexadecimal digits.
    pub compatibility: String,
}

/// The child's whole life: limits itself, compiles standard input to standard output.
///
/// Guarantees: the status is zero only if the whole code was written. Why not is on standard error.
pub fn compile_child(arguments: &CompileArguments) -> ExitCode {
    child::live(arguments.limits, || compile(&arguments.compatibility))
}

fn compile(wanted: &str) -> Result<(), Complaint> {
    let engine = engine::compiling().map_err(|e| ("start the compiler", e))?;
    if hex(&compatibility(&engine)) != wanted {
        let text = "the compiler is of another build than the program that started it".to_owned();
        return Err(Complaint::broken(text));
    }
    let component = child::input(MOST_COMPONENT_BYTES)?;
    symbols::check(&component).map_err(Complaint::refused)?;
    let code = engine
        .precompile_component(&component)
        .map_err(|error| Complaint::refused(format!("{error:#}")))?;
    let mut out = io::stdout().lock();
    out.write_all(&code)
        .and_then(|()| out.flush())
        .map_err(|e| ("write the code", e))?;
    Ok(())
}

/// What costs less to compile.
const SMALLER: &str = "build the component smaller (opt-level \"s\", fewer dependencies)";

/// What the author of the component, or who runs the host, can do about a failure.
pub(crate) fn explain(error: &ChildError) -> LoadError {
    let (reason, transient) = match error {
        ChildError::Refused(text) if cut_off(text) => ("Truncated", false),
        ChildError::Refused(_) => ("Malformed", false),
        ChildError::Memory { .. } => ("CompileMemory", false),
        ChildError::CpuTime { .. } => ("CompileTimeout", false),
        ChildError::WallTime { .. } => ("CompileTimeout", true),
        ChildError::Output { .. } => ("TooLarge", false),
        ChildError::Killed => ("CompileMemory", true),
        ChildError::Run { .. } | ChildError::Failed { .. } => ("CompileFailed", true),
    };
    let message = match error {
        ChildError::Refused(text) if cut_off(text) => format!("the component is truncated: {text}"),
        ChildError::Refused(text) => format!("this is not a valid component: {text}"),
        ChildError::Memory { .. } => format!("the compiler {error}; {SMALLER}"),
        ChildError::CpuTime { .. } | ChildError::WallTime { .. } => format!(
            "the compiler {error}; raise components.compileSeconds of the chart, or {SMALLER}"
        ),
        ChildError::Output { limit } => {
            format!("the compiled component is larger than {} KiB", limit >> 10)
        }
        ChildError::Run { source, .. } => format!("the compiler {error}: {source}"),
        ChildError::Killed | ChildError::Failed { .. } => {
            format!("the compiler {error}")
        }
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
