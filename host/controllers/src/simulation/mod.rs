//! For tests: what the simulations of the controllers share. A [`World`] is a cluster in memory and the
//! process that leads.
//!
//! A process is a shipped controller, with its queue, caches and triggers, in a runtime of its own whose
//! time is paused: no schedule waits, and dropping the runtime is the death. Each simulation is a seed:
//! `cargo xtask simulate` runs many of them; the tests run a bounded number.

#[path = "../../../core/src/driver/memory/chance.rs"]
mod chance;
mod coverage;
mod objects;
mod server;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::LocalBoxFuture;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

pub(crate) use self::{
    chance::Chance,
    coverage::Coverage,
    objects::{Objects, name_of},
    server::{Promises, Server, State, Write, plurals},
};
use crate::{
    error::Error,
    run::{Next, Reconciler},
};

/// The shipped controller, and how often it reconciled.
pub(crate) struct Counted<R>(pub(crate) R, pub(crate) Arc<AtomicUsize>);

impl<R: Reconciler> Reconciler for Counted<R> {
    type Object = R::Object;
    const NAME: &'static str = R::NAME;
    const STATUS_MANAGER: Option<&'static str> = R::STATUS_MANAGER;

    async fn reconcile(&self, object: Arc<R::Object>) -> Result<Next, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.reconcile(object).await
    }

    fn pace(object: &R::Object) -> Duration {
        R::pace(object)
    }

    fn leave(&self, object: &R::Object) {
        self.0.leave(object);
    }

    async fn stop(&self) {
        self.0.stop().await;
    }
}

/// Starts a process, in its runtime.
pub(crate) type Start<P> = Box<dyn Fn(Arc<Server>, Arc<AtomicUsize>) -> LocalBoxFuture<'static, P>>;

/// A cluster, and the process that leads.
pub(crate) struct World<P> {
    pub(crate) server: Arc<Server>,
    passes: Arc<AtomicUsize>,
    start: Start<P>,
    running: Option<(tokio::runtime::Runtime, P)>,
}

impl<P> World<P> {
    /// A cluster that this fills, and then a process.
    pub(crate) fn new(
        promises: impl Promises + 'static,
        start: Start<P>,
        fill: impl FnOnce(&mut State, Timestamp),
    ) -> Self {
        let server = Arc::new(Server::new(Box::new(promises)));
        fill(&mut server.state(), server.now());
        let mut world = Self {
            server,
            passes: Arc::default(),
            start,
            running: None,
        };
        world.lead();
        world
    }

    /// A process begins to lead.
    fn lead(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        self.server.state().is_watch_down = false;
        let process = runtime.block_on(async {
            self.server.process_begins();
            (self.start)(Arc::clone(&self.server), Arc::clone(&self.passes)).await
        });
        self.running = Some((runtime, process));
    }

    /// The process that leads ends, wherever it is; another one begins after this time.
    pub(crate) fn hand_over(&mut self, away: Duration) {
        if let Some((runtime, _)) = self.running.take() {
            {
                let _context = runtime.enter();
                self.server.process_ends(away);
            }
            drop(runtime);
        }
        self.lead();
    }

    /// Time goes by; a process that dies is followed by another one.
    pub(crate) fn pass(&mut self, time: Duration) {
        let (runtime, _) = self.running.as_ref().expect("a process");
        let lives = runtime.block_on(async {
            tokio::select! {
                () = self.server.died() => false,
                () = tokio::time::sleep(time) => true,
            }
        });
        if !lives {
            self.hand_over(Duration::from_secs(3));
        }
        let broken = self.server.state().promises.broken().to_vec();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// Changes what there is, as users, nodes and controllers do.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let (runtime, _) = self.running.as_ref().expect("a process");
        let _context = runtime.enter();
        let now = self.server.now();
        let changed = change(&mut self.server.state(), now);
        self.server.announce();
        changed
    }

    /// Changes one of the objects of a kind, if there is one.
    pub(crate) fn change_any(
        &self,
        chance: &mut Chance,
        plural: &'static str,
        edit: impl FnOnce(&mut State, Timestamp, Value),
    ) {
        self.change(|state, now| {
            let all = state.objects.all(plural);
            if !all.is_empty() {
                let object = chance.pick(&all);
                edit(state, now, object);
            }
        });
    }

    /// Does something with the process, in its runtime.
    pub(crate) fn in_process(&self, act: impl AsyncFnOnce(&P, Timestamp)) {
        let (runtime, process) = self.running.as_ref().expect("a process");
        runtime.block_on(async { act(process, self.server.now()).await });
    }

    /// Something goes wrong, or right again: watches, requests, the process.
    pub(crate) fn disturb(&mut self, chance: &mut Chance) {
        match chance.of(12) {
            0 => self.change(|state, _| state.is_watch_down = !state.is_watch_down),
            1 => self.change(|state, _| state.objects.lag()),
            2..=5 => self.server.catch_up(),
            6 => {
                let seconds = chance.pick(&[0, 3, 90]);
                self.hand_over(Duration::from_secs(seconds));
            }
            7 => {
                let faults = (!chance.once_in(3)).then(|| Chance::new(chance.next()));
                self.server.state().faults = faults;
            }
            _ => {
                let writes = chance.of(5);
                self.server.state().dies_after = Some(writes);
            }
        }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        {
            let mut state = self.server.state();
            state.faults = None;
            state.dies_after = None;
            state.is_watch_down = false;
        }
        self.server.catch_up();
    }

    /// In a world that has settled nothing happens any more.
    pub(crate) fn assert_rests(&mut self, time: Duration) {
        let (writes, passes) = (self.writes(), self.passes());
        self.pass(time);
        assert_eq!(self.writes(), writes, "a settled world causes no write");
        assert_eq!(self.passes(), passes, "nor a reconcile");
    }

    pub(crate) fn writes(&self) -> usize {
        self.server.state().coverage.writes
    }

    fn passes(&self) -> usize {
        self.passes.load(Ordering::Relaxed)
    }

    /// What this schedule covered.
    pub(crate) fn coverage(&self) -> Coverage {
        Coverage {
            schedules: 1,
            reconciles: self.passes(),
            ..self.server.state().coverage
        }
    }
}

/// Runs schedules: as many as the environment says, or a bounded number. A run is the same each time, but
/// for the order in which maps give their keys.
pub(crate) fn simulate(kind: &str, bounded: u64, schedule: impl Fn(u64) -> Coverage) {
    let number = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("OPERON_SIMULATE_FIRST", 0);
    let seeds = number("OPERON_SIMULATE_SEEDS", bounded);
    let mut coverage = Coverage::default();
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| schedule(seed))) {
            Ok(covered) => coverage.add(&covered),
            Err(panic) => {
                eprintln!(
                    "seed {seed} fails: cargo xtask simulate --kind {kind} --first {seed} --seeds 1"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{kind}: {coverage}");
    assert!(seeds < bounded || coverage.is_whole(), "{coverage}");
}
