//! One call of a component: a store of its own, an instance of its own, and an end.
//!
//! A timeout ends a call that waits (`slices`); the epoch ends one that computes and lets others run
//! meanwhile. The store is dropped whatever happened, so nothing of a call outlives it.
//!
//! Each plugin runs a bounded number of calls, so that none can take all instances, or all memory, from the others; its
//! jobs take turns. Calls that release a target have a bound of their own: a plugin whose other calls never end can
//! still clean up.

use std::{sync::Arc, time::Instant};

use futures::future::BoxFuture;
use operon_core::{
    action::{ActionError, Admit, ClusterView, Limits},
    shares::{Claim, Shares},
};
use wasmtime::{Engine, Store};

use crate::{
    bindings::{Action, ActionPre},
    budget::Budget,
    engine::TICK,
    fault::Fault,
    limits::HANDED_BYTES,
    log::LogLines,
    observer::{CallObserver, Function, Outcome},
    slices::{Guest, Slices},
    state::State,
};

/// What all calls share.
pub(crate) struct Runtime {
    /// Where instances live.
    pub(crate) engine: Engine,
    /// The places of running calls.
    pub(crate) calls: CallPlaces,
    /// The processors, for the calls that compute.
    pub(crate) slices: Slices,
    /// Who counts.
    pub(crate) observer: Arc<dyn CallObserver>,
}

/// The part of all calls that the calls of one lane of a plugin may have.
const SHARE: usize = 8;

/// The places of running calls: the memory that they may take together, so that calls wait for each other rather than
/// have the kernel kill the host.
pub(crate) struct CallPlaces {
    shares: Shares,
    /// How many places there are: a MiB each, or a call each if memory is unlimited.
    all: usize,
    /// How many calls run at a time; there is room for as many instances.
    calls: usize,
    counts_memory: bool,
}

impl CallPlaces {
    /// Places for so many calls, which may take so many bytes together.
    pub(crate) fn new(calls: usize, memory: Option<u64>) -> Self {
        let mib = memory.map(|bytes| usize::try_from(bytes >> 20).unwrap_or(usize::MAX));
        let calls = calls.max(1);
        let all = mib.unwrap_or(calls).max(1);
        Self {
            shares: Shares::new(all),
            all,
            calls,
            counts_memory: mib.is_some(),
        }
    }

    /// What a call takes that may take so many bytes. One that may take more than there is runs alone. A lane has at
    /// most a third, so that of two lanes a third is left to others, or one call at least.
    fn claim(&self, bytes: u64) -> Claim {
        let mib = usize::try_from(bytes.div_ceil(1 << 20)).unwrap_or(usize::MAX);
        let least = self.all.div_ceil(self.calls);
        let places = if self.counts_memory {
            mib.clamp(least, self.all)
        } else {
            least
        };
        let calls = (self.calls / SHARE).max(1);
        Claim {
            places,
            most: places.saturating_mul(calls).min(self.all / 3),
        }
    }
}

/// The subject of a call: what it may read, and the fields of its log lines.
pub(crate) struct Context<'a> {
    /// Nothing, while the component sets up.
    pub(crate) cluster: Option<Arc<dyn ClusterView>>,
    /// Carries the action, the job and the target.
    pub(crate) log: LogLines,
    /// The uid of the job, which takes turns with the plugin's others.
    pub(crate) job: String,
    /// What the call is for.
    pub(crate) lane: Lane,
    /// Whether it may begin, when it has its place.
    pub(crate) admit: Option<Admit<'a>>,
}

/// What the calls of a plugin are for. Each of these has a share of its own of the places for calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The component sets up.
    Load,
    /// A target is operated.
    Operate,
    /// A target is released.
    Release,
}

impl Lane {
    /// The owner of the places of this plugin's calls. Names of plugins have no space.
    fn owner(self, plugin: &str) -> String {
        let lane = match self {
            Self::Load => "load",
            Self::Operate => "operate",
            Self::Release => "release",
        };
        format!("{plugin} {lane}")
    }
}

/// A component that may be called: its code and its limits.
pub(crate) struct Callable {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) component: Arc<ActionPre<State>>,
    pub(crate) name: String,
    pub(crate) limits: Limits,
}

impl Callable {
    /// Calls the component and translates its answer. `call` is the generated binding of a function;
    /// `translate` checks the answer.
    ///
    /// Waiting for a free place is not the component's fault and does not count.
    pub(crate) async fn ask<A, T>(
        &self,
        function: Function,
        context: Context<'_>,
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
        let (places, owner) = (&self.runtime.calls, context.lane.owner(&self.name));
        let claim = places.claim(self.limits.memory);
        let _place = places.shares.take(&owner, &context.job, claim).await;
        if let Some(admit) = context.admit {
            admit()?;
        }
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
        function: Function,
        context: Context<'_>,
        call: impl for<'a> FnOnce(
            &'a mut Store<State>,
            &'a Action,
        ) -> BoxFuture<'a, wasmtime::Result<A>>
        + Send,
    ) -> Result<A, Fault>
    where
        A: Send,
    {
        let (lane, job) = (context.lane, context.job.clone());
        let mut store = self.store(context);
        let Limits {
            memory,
            call_timeout,
        } = self.limits;
        let work = async {
            let instance = self.component.instantiate_async(&mut store).await?;
            call(&mut store, &instance).await
        };
        let guest = Guest {
            plugin: &self.name,
            job: &job,
            lane,
            limit: call_timeout,
        };
        let answer = self.runtime.slices.run(guest, work).await;
        let state = store.data();
        let output = state.output.text();
        let result = match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => {
                let timeout = || Fault::timeout(function.as_str(), call_timeout);
                Err(Fault::of(&error, state, &output, memory, timeout))
            }
            None => Err(Fault::timeout(function.as_str(), call_timeout)),
        };
        state
            .log
            .conclude(function.as_str(), &output, result.as_ref().err());
        result
    }

    fn store(&self, context: Context<'_>) -> Store<State> {
        let Context {
            cluster,
            log,
            job: _,
            lane: _,
            admit: _,
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
    use super::*;

    #[test]
    fn calls_count_with_the_memory_that_they_may_take() {
        // The budget, what a call may take, what it counts, and how many run in a lane.
        for (budget, call, places, lane) in [
            (384, 32, 32, 4),
            (384, 1, 6, 8),
            (384, 256, 256, 1),
            (128, 256, 128, 1),
            (2432, 32, 38, 8),
            (0, 32, 1, 1),
        ] {
            let calls = CallPlaces::new(64, Some(budget << 20));
            let claim = calls.claim(call << 20);
            assert_eq!(claim.places, places, "{call} of {budget}");
            let in_lane = (claim.most / claim.places).max(1);
            assert_eq!(in_lane, lane, "{call} of {budget}");
        }
    }

    #[test]
    fn calls_count_alike_where_memory_is_unlimited() {
        for (calls, lane) in [(64, 8), (8, 1), (1, 0), (0, 0)] {
            let claim = CallPlaces::new(calls, None).claim(256 << 20);
            assert_eq!((claim.places, claim.most), (1, lane), "{calls}");
        }
    }
}
