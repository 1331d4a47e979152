//! `operon compile`: the child process in which components become machine code.
//!
//! The host starts it, never a person. It must run before anything else of the program does: no
//! runtime, no client, no thread, so that its limits hold from the first byte of the component on.

use std::process::ExitCode;

use operon_plugin_runtime::{CompileArguments, compile_child};

/// What the host asks its child for.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Bytes of address space
    #[arg(long)]
    memory: u64,
    /// Seconds of processor time
    #[arg(long)]
    cpu_seconds: u64,
    /// The compatibility hash that the machine code must have
    #[arg(long)]
    compatibility: String,
}

/// Compiles standard input to standard output.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let Arguments {
        memory,
        cpu_seconds,
        compatibility,
    } = arguments;
    compile_child(&CompileArguments {
        memory,
        cpu_seconds,
        compatibility,
    })
}
