//! What one call may use, and what it has used so far.
//!
//! Denials are remembered, because a guest that is denied memory traps like one that panics. The call
//! itself limits time; this file limits what the guest uses while it runs.

use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::{
    engine::{
        INSTANCES_PER_COMPONENT, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS, TABLES_PER_COMPONENT,
    },
    limits::{HOST_CALLS, READ_BYTES, READS},
};

/// The budget of one call.
#[derive(Debug)]
pub(crate) struct Budget {
    memory_limit: u64,
    memory: u64,
    /// The guest requested more memory than it may have.
    pub(crate) memory_denied: bool,
    table_elements: usize,
    ticks_left: u64,
    host_calls: u32,
    /// The guest called the host more often than it may.
    pub(crate) host_calls_denied: bool,
    reads: u32,
    read_bytes: usize,
}

/// The guest used up its time: the callback's way to say so through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("the call used up its computing time")]
pub(crate) struct TimeUsed;

/// The guest called the host too often: an import's way to say so through wasmtime.
#[derive(Debug, thiserror::Error)]
#[error("more than {HOST_CALLS} calls of the host")]
pub(crate) struct TooManyHostCalls;

impl Budget {
    /// The whole budget: bytes of linear memory, and ticks of the epoch that the guest may compute.
    pub(crate) fn new(memory_limit: u64, ticks: u64) -> Self {
        Self {
            memory_limit,
            memory: 0,
            memory_denied: false,
            table_elements: 0,
            ticks_left: ticks.max(1),
            host_calls: 0,
            host_calls_denied: false,
            reads: 0,
            read_bytes: 0,
        }
    }

    /// The guest computed for a tick: it lets others run, or it has used up its time.
    ///
    /// `yield_now` is tokio's because wasmtime's own yield starves the timers of a runtime with one
    /// worker.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        if self.ticks_left == 0 {
            return Err(wasmtime::Error::new(TimeUsed));
        }
        Ok(UpdateDeadline::YieldCustom(
            1,
            Box::pin(tokio::task::yield_now()),
        ))
    }

    /// The guest calls the host; beyond the budget, the call is ended.
    pub(crate) fn host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls = self.host_calls.saturating_add(1);
        if self.host_calls > HOST_CALLS {
            self.host_calls_denied = true;
            return Err(wasmtime::Error::new(TooManyHostCalls));
        }
        Ok(())
    }

    /// The guest reads; beyond the budget, the guest gets an error.
    pub(crate) fn read(&mut self) -> Result<(), String> {
        self.reads = self.reads.saturating_add(1);
        if self.reads > READS {
            return Err(format!("one call may read {READS} times"));
        }
        self.read_bytes(0)
    }

    /// So many bytes are about to be handed to the guest.
    pub(crate) fn read_bytes(&mut self, bytes: usize) -> Result<(), String> {
        self.read_bytes = self.read_bytes.saturating_add(bytes);
        if self.read_bytes > READ_BYTES {
            return Err(format!("one call may read {} MiB", READ_BYTES >> 20));
        }
        Ok(())
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let memory = self.memory.saturating_add(more);
        if memory > self.memory_limit {
            self.memory_denied = true;
            return Ok(false);
        }
        self.memory = memory;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self
            .table_elements
            .saturating_add(desired.saturating_sub(current));
        if elements > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.table_elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES_PER_COMPONENT as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_COMPONENT as usize
    }

    fn tables(&self) -> usize {
        TABLES_PER_COMPONENT as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_of_the_host_and_a_read_are_counted_up_to_their_numbers() {
        let mut budget = Budget::new(0, 1);
        for _ in 0..HOST_CALLS {
            assert!(budget.host_call().is_ok());
        }
        assert!(!budget.host_calls_denied);
        assert!(budget.host_call().is_err() && budget.host_calls_denied);
        for _ in 0..READS {
            assert_eq!(budget.read(), Ok(()));
        }
        let refused = budget.read();
        assert!(refused.is_err_and(|why| why.contains("1000 times")));
    }

    #[test]
    fn what_is_read_has_a_sum_that_does_not_wrap() {
        let mut budget = Budget::new(0, 1);
        assert_eq!(budget.read_bytes(READ_BYTES), Ok(()));
        assert!(budget.read_bytes(1).is_err());
        assert!(budget.read_bytes(usize::MAX).is_err());
        assert!(budget.read_bytes(1).is_err());
    }

    #[test]
    fn memories_and_tables_share_their_limits() -> wasmtime::Result<()> {
        let mut budget = Budget::new(100, 1);
        // The sizes before and after; whether it may grow so.
        for (current, desired, may) in [
            (0, 60, true),
            (0, 50, false),
            (0, 40, true),
            (40, 41, false),
        ] {
            let found = budget.memory_growing(current, desired, None)?;
            assert_eq!(found, may, "{current} to {desired}");
        }
        assert!(budget.memory_denied);
        for (desired, may) in [(TABLE_ELEMENTS, true), (1, false)] {
            assert_eq!(budget.table_growing(0, desired, None)?, may, "{desired}");
        }
        Ok(())
    }
}
