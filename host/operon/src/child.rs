//! `operon compile` and `operon check-value`: the child processes for work with a cost that a
//! component's author decides.
//!
//! The host starts them, never a person. They must run before anything else of the program does: no
//! runtime, no client, no thread, so that their limits hold from the first byte of their input on.

use std::process::ExitCode;

use operon_plugin_runtime::{ChildArguments, CompileArguments, check_value_child, compile_child};

/// How a child limits itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Limits {
    /// Bytes of address space
    #[arg(long)]
    memory: u64,
    /// Seconds of processor time
    #[arg(long)]
    cpu_seconds: u64,
}

/// The host's request to the compiler.
#[derive(Debug, clap::Args)]
pub(crate) struct Compile {
    #[command(flatten)]
    limits: Limits,
    /// The compatibility hash that the machine code must have
    #[arg(long)]
    compatibility: String,
}

/// Compiles standard input to standard output.
pub(crate) fn compile(arguments: Compile) -> ExitCode {
    let Compile {
        limits,
        compatibility,
    } = arguments;
    compile_child(&CompileArguments {
        limits: limits.into(),
        compatibility,
    })
}

/// Checks the value on standard input against the schema before it.
pub(crate) fn check_value(limits: Limits) -> ExitCode {
    check_value_child(limits.into())
}

impl From<Limits> for ChildArguments {
    fn from(limits: Limits) -> Self {
        let Limits {
            memory,
            cpu_seconds,
        } = limits;
        Self {
            memory,
            cpu_seconds,
        }
    }
}
