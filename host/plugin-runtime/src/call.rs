//! One call of a component: a store of its own, an instance of its own, and an end.
//!
//! `tokio`'s timeout ends a call that waits; the epoch ends one that computes and lets others run
//! meanwhile. The store is dropped whatever happened, so nothing of a call outlives it.
//!
//! Each plugin runs a bounded number of calls, so that none can take all instances, or all memory, from the others.
//! Calls that release a target have a bound of their own: a plugin whose other calls never end can
//! still clean up.

use std::{sync::Arc, time::Instant};

use futures::future::BoxFuture;
use operon_core::action::{ActionError, ClusterView, Limits};
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{Engine, Store};

use crate::{
    bindings::{Action, ActionPre},
    budget::Budget,
    engine::TICK,
    fault::Fault,
    limits::HANDED_BYTES,
    log::LogLines,
    observer::{CallObserver, Outcome},
    state::State,
};

/// What all calls share.
pub(crate) struct Runtime {
    /// Where instances live.
    pub(crate) engine: Engine,
    /// As many permits as the engine has room for instances.
    pub(crate) slots: Semaphore,
    /// How many of them the calls of one lane may have.
    pub(crate) share: usize,
    /// The memory of all running calls together; unlimited if none.
    pub(crate) memory: Option<MemoryBudget>,
    /// Who counts.
    pub(crate) observer: Arc<dyn CallObserver>,
}

impl Runtime {
    /// How many calls that may each take so many bytes run in one lane of a plugin.
    pub(crate) fn lane(&self, bytes: u64) -> usize {
        let by_memory = self.memory.as_ref().map(|memory| memory.lane(bytes));
        self.share.min(by_memory.unwrap_or(usize::MAX))
    }
}

/// The memory that running calls may take together. Calls wait for each other rather than have the kernel kill the
/// host.
///
/// Calls wait for `free` in their order, so one that waits delays all later ones. A heavy one could keep all memory from
/// the others while it waits for another heavy one to end: so only one of them at a time runs, or waits for `free`.
pub(crate) struct MemoryBudget {
    /// A permit for each MiB.
    free: Semaphore,
    mib: u32,
    /// One permit, for the calls that take more than a third.
    heavy: Semaphore,
}

/// The part of a budget that a running call has.
struct Taken<'a> {
    _memory: Option<SemaphorePermit<'a>>,
    _heavy: Option<SemaphorePermit<'a>>,
}

impl MemoryBudget {
    /// A budget of so many bytes, and at least a MiB.
    pub(crate) fn new(bytes: u64) -> Self {
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).max(1);
        Self {
            free: Semaphore::new(mib as usize),
            mib,
            heavy: Semaphore::new(1),
        }
    }

    /// What a call counts that may take so many bytes, in MiB. One that may take more than there is runs alone.
    fn weight(&self, bytes: u64) -> u32 {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        mib.clamp(1, self.mib)
    }

    /// A plugin has two lanes. Each takes at most a third, so that a third is left to others, or one heavy call.
    fn lane(&self, bytes: u64) -> usize {
        (self.mib / 3 / self.weight(bytes)).max(1) as usize
    }

    /// Waits until there is memory for a call that may take so many bytes.
    async fn take(&self, bytes: u64) -> Taken<'_> {
        let weight = self.weight(bytes);
        // Semaphores are never closed.
        let heavy = if weight > self.mib / 3 {
            self.heavy.acquire().await.ok()
        } else {
            None
        };
        Taken {
            _memory: self.free.acquire_many(weight).await.ok(),
            _heavy: heavy,
        }
    }
}

/// The subject of a call: what it may read, and the fields of its log lines.
pub(crate) struct Context {
    /// Nothing, while the component sets up.
    pub(crate) cluster: Option<Arc<dyn ClusterView>>,
    /// Carries the action, the job and the target.
    pub(crate) log: LogLines,
    /// The call is a part of a release.
    pub(crate) ending: bool,
}

/// The calls that one plugin may run at a time.
pub(crate) struct Lanes {
    operating: Semaphore,
    ending: Semaphore,
}

impl Lanes {
    /// Lanes of so many calls each.
    pub(crate) fn new(share: usize) -> Self {
        Self {
            operating: Semaphore::new(share),
            ending: Semaphore::new(share),
        }
    }
}

/// A component that may be called: its code and its limits.
pub(crate) struct Callable {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) component: Arc<ActionPre<State>>,
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) lanes: Lanes,
}

impl Callable {
    /// Calls the component and translates its answer. `call` is the generated binding of a function;
    /// `translate` checks the answer.
    ///
    /// Waiting for a free place is not the component's fault and does not count.
    pub(crate) async fn ask<A, T>(
        &self,
        function: &'static str,
        context: Context,
        call: impl for<'a> FnOnce(
            &'a mut Store<State>,
            &'a Action,
        ) -> BoxFuture<'a, wasmtime::Result<A>>
        + Send,
        translate: impl FnOnce(A) -> Result<T, ActionError> + Send,
    ) -> Result<T, ActionError>
    where
        A: Send,
    {
        // Semaphores are never closed; without a permit the pool itself would refuse. The plugin's own
        // comes first: its waiting calls do not delay those of other plugins.
        let Lanes { operating, ending } = &self.lanes;
        let lane = if context.ending { ending } else { operating };
        let _place = lane.acquire().await.ok();
        let _slot = self.runtime.slots.acquire().await.ok();
        let _memory = match &self.runtime.memory {
            Some(memory) => Some(memory.take(self.limits.memory).await),
            None => None,
        };
        let started = Instant::now();
        let (outcome, result) = match self.call(function, context, call).await {
            Ok(answer) => {
                let result = translate(answer);
                (outcome(&result), result)
            }
            Err(fault) => (fault.outcome, Err(fault.into_error())),
        };
        self.runtime
            .observer
            .called(&self.name, function, outcome, started.elapsed());
        result
    }

    async fn call<A>(
        &self,
        function: &'static str,
        context: Context,
        call: impl for<'a> FnOnce(
            &'a mut Store<State>,
            &'a Action,
        ) -> BoxFuture<'a, wasmtime::Result<A>>
        + Send,
    ) -> Result<A, Fault>
    where
        A: Send,
    {
        let mut store = self.store(context);
        let Limits {
            memory,
            call_timeout,
        } = self.limits;
        let answer = tokio::time::timeout(call_timeout, async {
            let instance = self.component.instantiate_async(&mut store).await?;
            call(&mut store, &instance).await
        })
        .await;
        let state = store.data();
        let output = state.output.text();
        let result = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let timeout = || Fault::timeout(function, call_timeout);
                Err(Fault::of(&error, state, &output, memory, timeout))
            }
            Err(_elapsed) => Err(Fault::timeout(function, call_timeout)),
        };
        state.log.conclude(function, &output, result.as_ref().err());
        result
    }

    fn store(&self, context: Context) -> Store<State> {
        let Context {
            cluster,
            log,
            ending: _,
        } = context;
        let ticks = self
            .limits
            .call_timeout
            .as_nanos()
            .div_ceil(TICK.as_nanos());
        let budget = Budget::new(self.limits.memory, u64::try_from(ticks).unwrap_or(u64::MAX));
        let mut store = Store::new(&self.runtime.engine, State::new(budget, cluster, log));
        store.limiter(|state| &mut state.budget);
        store.set_hostcall_fuel(HANDED_BYTES);
        store.epoch_deadline_callback(|mut store| store.data_mut().budget.tick());
        store.set_epoch_deadline(1);
        store
    }
}

/// How an answer that could be read counts.
fn outcome<T>(result: &Result<T, ActionError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Ok,
        Err(ActionError::Plugin(_)) => Outcome::ResultTooLarge,
        Err(ActionError::Retry(..) | ActionError::Terminal(_)) => Outcome::ActionError,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn calls_count_with_the_memory_that_they_may_take() {
        // The budget, what a call may take, what it counts, and how many run in a lane.
        for (budget, call, weight, lane) in [
            (384, 32, 32, 4),
            (384, 1, 1, 128),
            (384, 256, 256, 1),
            (128, 256, 128, 1),
            (0, 32, 1, 1),
        ] {
            let memory = MemoryBudget::new(budget << 20);
            assert_eq!(memory.weight(call << 20), weight, "{call} of {budget}");
            assert_eq!(memory.lane(call << 20), lane, "{call} of {budget}");
        }
        assert_eq!(MemoryBudget::new(384 << 20).weight(1), 1);
    }

    #[test]
    fn a_heavy_call_that_waits_for_a_heavy_one_delays_no_other() {
        let memory = MemoryBudget::new(384 << 20);
        let take = |mib: u64| memory.take(mib << 20);
        let first = take(256).now_or_never().expect("there is room");
        let mut second = pin!(take(256));
        assert!(second.as_mut().now_or_never().is_none(), "it waits");
        let others: Vec<_> = [32, 64, 32]
            .into_iter()
            .map(|mib| take(mib).now_or_never().expect("they do not"))
            .collect();
        assert!(take(1).now_or_never().is_none(), "all of it is in use");
        drop(first);
        let second = second.now_or_never().expect("it is the next");
        assert!(take(1).now_or_never().is_none(), "all of it is in use");
        drop((second, others));
        // One that takes more than there is runs alone, and gives all of it back.
        for _ in 0..2 {
            let all = take(1024).now_or_never().expect("there is room");
            assert!(take(1).now_or_never().is_none(), "all of it is in use");
            drop(all);
        }
    }
}
