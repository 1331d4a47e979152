//! Events that the host may count: calls and compilations, as they end.
//!
//! The binary implements [`CallObserver`] with its metrics; this crate exports none.

use std::time::Duration;

/// Observes every call of an action and every component that was prepared to run.
pub trait CallObserver: Send + Sync {
    /// A call ended.
    fn called(&self, action: &str, function: Function, outcome: Outcome, duration: Duration);
    /// A component became executable.
    fn compiled(&self, action: &str, source: CodeSource, duration: Duration);
    /// The cache of compiled code can't be used for a component.
    fn cache_failed(&self, fault: CacheFault);
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl CallObserver for NoObserver {
    fn called(&self, _: &str, _: Function, _: Outcome, _: Duration) {}
    fn compiled(&self, _: &str, _: CodeSource, _: Duration) {}
    fn cache_failed(&self, _: CacheFault) {}
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

operon_core::words!(CodeSource {
    Memory => "memory",
    Cache => "cache",
    Compiler => "compiler",
});

/// What can't be done with the files of compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheFault {
    /// A file can't be read or verified, so the component is compiled again.
    Read,
    /// A file can't be written, so the component is compiled again after a restart.
    Write,
}

operon_core::words!(CacheFault {
    Read => "read",
    Write => "write",
});

/// The functions of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// Once when a component is loaded.
    Setup,
    /// Operates a target.
    OperateTarget,
    /// Reports the progress of a target.
    GetOpsProgress,
    /// Releases a target.
    ReleaseTarget,
}

operon_core::words!(Function {
    Setup => "setup",
    OperateTarget => "operate-target",
    GetOpsProgress => "get-ops-progress",
    ReleaseTarget => "release-target",
});

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

operon_core::words!(Outcome {
    Ok => "ok",
    ActionError => "action_error",
    Trap => "trap",
    Timeout => "timeout",
    Memory => "memory",
    StackOverflow => "stack_overflow",
    HostCalls => "host_calls",
    ResultTooLarge => "result_too_large",
});
