//! Events that the host may count: calls and compilations, as they end.
//!
//! The binary implements [`CallObserver`] with its metrics; this crate exports none.

use std::time::Duration;

/// Observes every call of an action and every component that was prepared to run.
pub trait CallObserver: Send + Sync {
    /// A call ended.
    fn called(&self, action: &str, function: &'static str, outcome: Outcome, duration: Duration);
    /// A component became executable.
    fn compiled(&self, action: &str, source: CodeSource, duration: Duration);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn called(&self, _: &str, _: &'static str, _: Outcome, _: Duration) {}
    fn compiled(&self, _: &str, _: CodeSource, _: Duration) {}
}

/// Where executable code came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeSource {
    /// The same component is loaded already.
    Memory,
    /// A verified file.
    Cache,
    /// The compile child.
    Compiler,
}

impl CodeSource {
    /// The source in one word, as metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cache => "cache",
            Self::Compiler => "compiler",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With an answer.
    Ok,
    /// With an error that the action reported.
    ActionError,
    /// The component trapped: a panic, an illegal access, an exit.
    Trap,
    /// It took too long.
    Timeout,
    /// It requested more memory than it may have.
    Memory,
    /// It recursed too deep.
    StackOverflow,
    /// It called the host too often.
    HostCalls,
    /// It handed the host more data than one call may.
    ResultTooLarge,
}

impl Outcome {
    /// The outcome in `snake_case`, as metrics and logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ActionError => "action_error",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::StackOverflow => "stack_overflow",
            Self::HostCalls => "host_calls",
            Self::ResultTooLarge => "result_too_large",
        }
    }
}
