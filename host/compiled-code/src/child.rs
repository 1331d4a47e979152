//! The parent's side of the compile child: starts it, feeds it, and takes what it wrote.
//!
//! Compiling is the one step whose cost a component's author decides, so it happens in a process
//! that may be killed. The child limits its own memory and processor time before it reads a byte;
//! the time it may take as a whole and the size of its answer are limited here.

use std::{
    ffi::OsString, os::unix::process::ExitStatusExt as _, path::PathBuf, process::ExitStatus,
    process::Stdio, time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{CompiledComponent, hex};

/// The child's exit status for bytes that are no valid component; its standard error says why.
pub const REFUSED: u8 = 65;

/// How much of the child's standard error is kept.
const COMPLAINT_BYTES: u64 = 8 << 10;

/// Signal numbers of Linux that end a child at a limit.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

/// The program that compiles. It is trusted: what it writes is executed.
#[derive(Clone, Debug)]
pub struct CompileCommand {
    /// The executable.
    pub program: PathBuf,
    /// What comes before the arguments that this crate adds.
    pub arguments: Vec<OsString>,
}

impl CompileCommand {
    /// This very program with the subcommand `compile`.
    ///
    /// Errors: the path of the running executable is unknown.
    pub fn this_program() -> std::io::Result<Self> {
        Ok(Self::subcommand_of(std::env::current_exe()?))
    }

    /// A program with the subcommand `compile`.
    pub fn subcommand_of(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec!["compile".into()],
        }
    }
}

/// How much one compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of address space of the child, its own executable included.
    pub memory: u64,
    /// Processor time, rounded up to seconds.
    pub cpu: Duration,
    /// Time as a whole.
    pub wall: Duration,
    /// Bytes of machine code.
    pub output: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            cpu: Duration::from_secs(30),
            wall: Duration::from_mins(2),
            output: 128 << 20,
        }
    }
}

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The child could not be started, or the pipes to it broke.
    #[error("failed to run the compiler {program:?}")]
    Run {
        /// The executable.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no valid component.
    #[error("{0}")]
    Refused(String),
    /// The child met its memory limit.
    #[error("compiling needs more than {} MiB of memory", .limit >> 20)]
    Memory {
        /// Bytes.
        limit: u64,
    },
    /// The child met its limit of processor time.
    #[error("compiling takes more than {} s of processor time", .limit.as_secs())]
    CpuTime {
        /// The limit.
        limit: Duration,
    },
    /// The child met its limit of time.
    #[error("compiling took longer than {} s", .limit.as_secs_f32())]
    WallTime {
        /// The limit.
        limit: Duration,
    },
    /// The machine code is too large.
    #[error("the compiled component is larger than {} KiB", .limit >> 10)]
    Output {
        /// Bytes.
        limit: u64,
    },
    /// Something outside killed the child.
    #[error("the compiler was killed, probably because the machine is out of memory")]
    Killed,
    /// The child ended in any other way.
    #[error("the compiler failed ({status}): {complaint}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to its standard error.
        complaint: String,
    },
}

/// Compiles a component in a child process.
///
/// Guarantees: the child is dead when this returns or is dropped. Errors: see [`CompileError`].
pub async fn compile(
    command: &CompileCommand,
    compatibility: &[u8; 32],
    component: &[u8],
    limits: &CompileLimits,
) -> Result<CompiledComponent, CompileError> {
    tokio::time::timeout(limits.wall, run(command, compatibility, component, limits))
        .await
        .unwrap_or(Err(CompileError::WallTime { limit: limits.wall }))
}

async fn run(
    command: &CompileCommand,
    compatibility: &[u8; 32],
    component: &[u8],
    limits: &CompileLimits,
) -> Result<CompiledComponent, CompileError> {
    let broken = |source| CompileError::Run {
        program: command.program.clone(),
        source,
    };
    let seconds = limits.cpu.as_millis().div_ceil(1000).max(1);
    let mut child = Command::new(&command.program)
        .args(&command.arguments)
        .arg(format!("--memory={}", limits.memory))
        .arg(format!("--cpu-seconds={seconds}"))
        .arg(format!("--compatibility={}", hex(compatibility)))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that ends early breaks the pipe; its exit status says why.
            let _ = stdin.write_all(component).await;
        }
    };
    let ((), code, complaint) = tokio::join!(
        feed,
        read_up_to(stdout, limits.output.saturating_add(1)),
        read_up_to(stderr, COMPLAINT_BYTES),
    );
    let code = code.map_err(broken)?;
    if code.len() as u64 > limits.output {
        return Err(CompileError::Output {
            limit: limits.output,
        });
    }
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return Ok(CompiledComponent { code });
    }
    let complaint = complaint.map_err(broken)?;
    Err(why(status, &String::from_utf8_lossy(&complaint), limits))
}

/// Reads to the end, or to `limit`. Dropping the rest of the pipe ends a child that writes on.
async fn read_up_to(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// What the way a child ended means.
fn why(status: ExitStatus, complaint: &str, limits: &CompileLimits) -> CompileError {
    let complaint = complaint.trim().to_owned();
    let out_of_memory = [
        "memory allocation of",
        "out of memory",
        "Cannot allocate memory",
    ]
    .iter()
    .any(|sign| complaint.contains(sign));
    if status.code() == Some(i32::from(REFUSED)) {
        return CompileError::Refused(complaint);
    }
    match status.signal() {
        Some(SIGXCPU) => CompileError::CpuTime { limit: limits.cpu },
        Some(SIGKILL) => CompileError::Killed,
        // Without memory to report that there is none, the child dies of it.
        Some(SIGABRT | SIGSEGV) if out_of_memory || complaint.is_empty() => CompileError::Memory {
            limit: limits.memory,
        },
        _ if out_of_memory => CompileError::Memory {
            limit: limits.memory,
        },
        _ => CompileError::Failed { status, complaint },
    }
}
