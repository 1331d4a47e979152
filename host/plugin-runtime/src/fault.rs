//! The fault of a call without an answer: from wasmtime's error and the store's records to one outcome and
//! one sentence.

use std::time::Duration;

use operon_core::action::{ActionError, Failure};
use wasmtime::{Trap, WasmBacktrace};

use crate::{
    budget::TimeUsed,
    engine::TRACE_FRAMES,
    limits::{HANDED_BYTES, HOST_CALLS, PANIC_BYTES},
    log::one_line,
    observer::Outcome,
    state::State,
};

/// wasmtime's error if the guest passes more than `HANDED_BYTES`; the error has no public type.
const TOO_MUCH_DATA: &str = "fuel allocated for hostcalls has been exhausted";

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What to count.
    pub(crate) outcome: Outcome,
    /// What to say.
    pub(crate) message: String,
}

impl Fault {
    /// The call took longer than it may, waiting included.
    pub(crate) fn timeout(function: &str, limit: Duration) -> Self {
        let limit = limit.as_millis();
        let message = format!("{function} took longer than {limit} ms (spec.limits.callTimeout)");
        Self {
            outcome: Outcome::Timeout,
            message,
        }
    }

    /// The guest was stopped, or stopped itself. `output` is its earlier output; `timeout` is the fault if
    /// it used up its time.
    pub(crate) fn of(
        error: &wasmtime::Error,
        state: &State,
        output: &str,
        memory: u64,
        timeout: impl FnOnce() -> Self,
    ) -> Self {
        let outcome = classify(error, state);
        let message = match outcome {
            Outcome::Timeout => return timeout(),
            Outcome::Memory => {
                let mebibytes = memory >> 20;
                format!(
                    "the component needs more than {mebibytes} MiB of memory: raise spec.limits.memory"
                )
            }
            Outcome::HostCalls => {
                format!("the component called the host more than {HOST_CALLS} times")
            }
            Outcome::ResultTooLarge => {
                format!(
                    "the component passed more than {} MiB to the host in one call",
                    HANDED_BYTES >> 20
                )
            }
            Outcome::StackOverflow => "the component recursed too deep".to_owned(),
            Outcome::Ok | Outcome::ActionError | Outcome::Trap if output.is_empty() => {
                format!(
                    "the component trapped: {}",
                    one_line(&root(error), PANIC_BYTES)
                )
            }
            Outcome::Ok | Outcome::ActionError | Outcome::Trap => {
                format!("the component trapped: {}", one_line(output, PANIC_BYTES))
            }
        };
        Self { outcome, message }
    }

    /// The fault as the core's error.
    pub(crate) fn into_error(self) -> ActionError {
        let reason = match self.outcome {
            Outcome::Ok | Outcome::ActionError | Outcome::Trap => "PluginTrapped",
            Outcome::Timeout => "PluginTimeout",
            Outcome::Memory => "PluginOutOfMemory",
            Outcome::StackOverflow => "PluginStackOverflow",
            Outcome::HostCalls => "PluginHostCallBudget",
            Outcome::ResultTooLarge => "PluginResultTooLarge",
        };
        ActionError::Plugin(Failure::new(reason, self.message))
    }
}

fn classify(error: &wasmtime::Error, state: &State) -> Outcome {
    if state.budget.host_calls_denied {
        return Outcome::HostCalls;
    }
    if error.downcast_ref::<TimeUsed>().is_some() {
        return Outcome::Timeout;
    }
    if error
        .chain()
        .any(|cause| cause.to_string().contains(TOO_MUCH_DATA))
    {
        return Outcome::ResultTooLarge;
    }
    // A recursion reaches the end of wasmtime's stack or that of its own, which is in its memory.
    let deep = error
        .downcast_ref::<WasmBacktrace>()
        .is_some_and(|trace| trace.frames().len() >= TRACE_FRAMES);
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Outcome::StackOverflow,
        Some(Trap::MemoryOutOfBounds) if deep => Outcome::StackOverflow,
        Some(Trap::Interrupt) => Outcome::Timeout,
        _ if state.budget.memory_denied => Outcome::Memory,
        _ => Outcome::Trap,
    }
}

/// The innermost cause: outside of it wasmtime prints a trace of nameless functions.
fn root(error: &wasmtime::Error) -> String {
    error.root_cause().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{budget::Budget, log::LogLines};

    #[test]
    fn the_text_of_a_panic_is_short() {
        let state = State::new(Budget::new(0, 1), None, LogLines::default());
        let timeout = || Fault::timeout("setup", Duration::ZERO);
        let long = "p\n".repeat(1 << 20);
        for (cause, output) in [("trap", long.as_str()), (long.as_str(), "")] {
            let error = wasmtime::Error::msg(cause.to_owned());
            let fault = Fault::of(&error, &state, output, 0, timeout);
            assert_eq!(fault.outcome, Outcome::Trap);
            assert!(fault.message.len() < PANIC_BYTES + 50 && !fault.message.contains('\n'));
        }
    }
}
