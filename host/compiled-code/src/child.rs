//! The parent's side of a child process: starts it, writes its input, and reads its output.
//!
//! Work with a cost that a component's author decides (compiling, checking settings against a schema) runs
//! in a process that may be killed. The child limits its own memory and processor time before it reads a
//! byte; its total time and the size of its answer are limited here.

use std::{
    ffi::OsString, os::unix::process::ExitStatusExt as _, path::PathBuf, process::ExitStatus,
    process::Stdio, time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
};

use crate::{CompiledComponent, hex};

/// The child's exit status for input that is not valid; its standard error has the reason.
pub const REFUSED: u8 = 65;

/// How much of the child's standard error is kept.
const COMPLAINT_BYTES: u64 = 8 << 10;

/// Signal numbers of Linux that end a child at a limit.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;

/// The program that runs as a child. It is trusted: what it compiles is executed.
#[derive(Clone, Debug)]
pub struct ChildProgram {
    /// The executable; it has the subcommands of `operon`.
    pub path: PathBuf,
}

impl ChildProgram {
    /// This program itself.
    ///
    /// Errors: the path of the running executable is unknown.
    pub fn this() -> std::io::Result<Self> {
        std::env::current_exe().map(Self::at)
    }

    /// The program at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

/// How much one child process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLimits {
    /// Bytes of address space of the child, its own executable included.
    pub memory: u64,
    /// Processor time, rounded up to seconds.
    pub cpu: Duration,
    /// Total time.
    pub wall: Duration,
    /// Bytes of its answer.
    pub output: u64,
}

impl ChildLimits {
    /// The limits of compiling one component.
    pub const COMPILE: Self = Self {
        memory: 512 << 20,
        cpu: Duration::from_secs(30),
        wall: Duration::from_mins(2),
        output: 128 << 20,
    };
}

/// Why a child process has no answer. The texts are predicates: the caller puts the subject before them.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The child could not be started, or the pipes to it broke.
    #[error("could not be run as {program:?}")]
    Run {
        /// The executable.
        program: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The input is not valid.
    #[error("refused its input: {0}")]
    Refused(String),
    /// The child met its memory limit.
    #[error("needs more than {} MiB of memory", .limit >> 20)]
    Memory {
        /// Bytes.
        limit: u64,
    },
    /// The child met its limit of processor time.
    #[error("takes more than {} s of processor time", .limit.as_secs())]
    CpuTime {
        /// The limit.
        limit: Duration,
    },
    /// The child met its limit of time.
    #[error("took longer than {} s", .limit.as_secs_f32())]
    WallTime {
        /// The limit.
        limit: Duration,
    },
    /// The answer is too large.
    #[error("wrote more than {} KiB", .limit >> 10)]
    Output {
        /// Bytes.
        limit: u64,
    },
    /// Something outside killed the child.
    #[error("was killed, probably because the machine is out of memory")]
    Killed,
    /// The child ended in any other way.
    #[error("failed ({status}): {complaint}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// Its standard error.
        complaint: String,
    },
}

/// What records begin with: another version of Operon may accept what this one refuses.
const VERSION: &str = concat!("operon ", env!("CARGO_PKG_VERSION"), "\n");

impl ChildError {
    /// The error as a text, if the same input meets it again.
    pub(crate) fn record(&self) -> Option<String> {
        let text = match self {
            Self::Refused(text) => format!("refused {text}"),
            Self::Memory { limit } => format!("memory {limit}"),
            Self::CpuTime { limit } => format!("cpu {}", limit.as_secs()),
            Self::Output { limit } => format!("output {limit}"),
            Self::Run { .. } | Self::WallTime { .. } | Self::Killed | Self::Failed { .. } => {
                return None;
            }
        };
        Some(format!("{VERSION}{text}"))
    }

    /// The error of a text, if it was this version that recorded it, and if these limits allow no more than was allowed
    /// then.
    pub(crate) fn recorded(text: &str, limits: &ChildLimits) -> Option<Self> {
        let (what, value) = text.strip_prefix(VERSION)?.split_once(' ')?;
        let limit = || value.parse().ok();
        match what {
            "refused" => Some(Self::Refused(value.to_owned())),
            "memory" => limit()
                .filter(|limit| *limit >= limits.memory)
                .map(|limit| Self::Memory { limit }),
            "cpu" => limit()
                .map(Duration::from_secs)
                .filter(|limit| *limit >= limits.cpu)
                .map(|limit| Self::CpuTime { limit }),
            "output" => limit()
                .filter(|limit| *limit >= limits.output)
                .map(|limit| Self::Output { limit }),
            _ => None,
        }
    }
}

/// Compiles a component in a child process.
///
/// Guarantees: the child is dead when this returns or is dropped. Errors: see [`ChildError`].
pub async fn compile(
    program: &ChildProgram,
    compatibility: &[u8; 32],
    component: &[u8],
    limits: &ChildLimits,
) -> Result<CompiledComponent, ChildError> {
    let compatibility = format!("--compatibility={}", hex(compatibility));
    let arguments = ["compile".into(), compatibility.into()];
    let code = run_child(program, &arguments, component, limits).await?;
    Ok(CompiledComponent { code })
}

/// Runs a subcommand of the program in a child process, and returns its standard output.
///
/// Guarantees: the child is dead when this returns or is dropped. Errors: see [`ChildError`].
pub async fn run_child(
    program: &ChildProgram,
    arguments: &[OsString],
    input: &[u8],
    limits: &ChildLimits,
) -> Result<Vec<u8>, ChildError> {
    tokio::time::timeout(limits.wall, run(program, arguments, input, limits))
        .await
        .unwrap_or(Err(ChildError::WallTime { limit: limits.wall }))
}

async fn run(
    program: &ChildProgram,
    arguments: &[OsString],
    input: &[u8],
    limits: &ChildLimits,
) -> Result<Vec<u8>, ChildError> {
    let broken = |source| ChildError::Run {
        program: program.path.clone(),
        source,
    };
    let seconds = limits.cpu.as_millis().div_ceil(1000).max(1);
    let mut child = Command::new(&program.path)
        .args(arguments)
        .arg(format!("--memory={}", limits.memory))
        .arg(format!("--cpu-seconds={seconds}"))
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
            // A child that ends early breaks the pipe; its exit status has the reason.
            let _ = stdin.write_all(input).await;
        }
    };
    let ((), answer, complaint) = tokio::join!(
        feed,
        read_up_to(stdout, limits.output.saturating_add(1)),
        read_up_to(stderr, COMPLAINT_BYTES),
    );
    let answer = answer.map_err(broken)?;
    if answer.len() as u64 > limits.output {
        return Err(ChildError::Output {
            limit: limits.output,
        });
    }
    let status = child.wait().await.map_err(broken)?;
    if status.success() {
        return Ok(answer);
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

/// The meaning of a child's exit.
fn why(status: ExitStatus, complaint: &str, limits: &ChildLimits) -> ChildError {
    let complaint = complaint.trim().to_owned();
    let out_of_memory = [
        "memory allocation of",
        "out of memory",
        "Cannot allocate memory",
    ]
    .iter()
    .any(|sign| complaint.contains(sign));
    if status.code() == Some(i32::from(REFUSED)) {
        return ChildError::Refused(complaint);
    }
    match status.signal() {
        Some(SIGXCPU) => ChildError::CpuTime { limit: limits.cpu },
        Some(SIGKILL) => ChildError::Killed,
        // Without memory to report that there is none, the child dies of it.
        Some(SIGABRT | SIGSEGV) if out_of_memory || complaint.is_empty() => ChildError::Memory {
            limit: limits.memory,
        },
        _ if out_of_memory => ChildError::Memory {
            limit: limits.memory,
        },
        _ => ChildError::Failed { status, complaint },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_error_holds_for_the_same_limits_and_for_lower_ones() {
        let limits = ChildLimits::COMPILE;
        let more = ChildLimits {
            memory: limits.memory + 1,
            cpu: limits.cpu + Duration::from_secs(1),
            output: limits.output + 1,
            ..limits
        };
        let refused = ChildError::Refused("no such section\nat 3".to_owned());
        for (error, depends) in [
            (refused, false),
            (
                ChildError::Memory {
                    limit: limits.memory,
                },
                true,
            ),
            (ChildError::CpuTime { limit: limits.cpu }, true),
            (
                ChildError::Output {
                    limit: limits.output,
                },
                true,
            ),
        ] {
            let text = error.record().expect("it lasts");
            let again = |limits| ChildError::recorded(&text, &limits).map(|it| it.to_string());
            assert_eq!(again(limits), Some(error.to_string()));
            assert_eq!(again(more).is_none(), depends, "{error}");
        }
        assert!(ChildError::Killed.record().is_none());
        assert!(ChildError::recorded("operon 0.0.0\nrefused x", &limits).is_none());
        assert!(ChildError::recorded("", &limits).is_none());
    }
}
