//! One run of a job from a fresh world, as the host drives it, with what goes wrong in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use operon_core::action::{ActionError, Failure, ObjectReference, Operation, OpsProgress};

use super::{
    super::{
        subject::{State, Subject},
        world::World,
    },
    twist::{Function, Mishap, Twist},
};

/// A call that was made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) function: Function,
    pub(super) target: String,
    /// How many effects it answered with.
    pub(super) effects: usize,
    /// The round in which it was made, from 1.
    pub(super) round: usize,
}

/// An object that the action created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) target: usize,
    pub(super) object: ObjectReference,
}

/// A run, and what it has seen so far.
pub(super) struct Run<'a> {
    pub(super) subject: Subject<'a>,
    /// The world with which it began.
    pub(super) began: World,
    /// Whether the mishap changed anything.
    pub(super) has_met: bool,
    /// The uids of the objects that another client has changed.
    pub(super) touched: BTreeSet<String>,
    pub(super) twist: Twist,
    pub(super) calls: Vec<Call>,
    pub(super) made: Vec<Made>,
    /// The most objects that the action had created at the same time, by target and kind.
    pub(super) most: BTreeMap<(usize, String), Vec<String>>,
    /// The rules that the action broke.
    pub(super) faults: Vec<String>,
    pub(super) rounds: usize,
    /// The last round in which something changed, other than the message of a failure.
    pub(super) last_change: usize,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    Refused,
    Killed,
}

impl<'a> Run<'a> {
    /// Drives the job until all its targets have finished, nothing changes any more, or there are no rounds left.
    pub(super) async fn of(subject: Subject<'a>, twist: Twist, rounds: usize) -> Self {
        let mut run = Self {
            began: subject.world.clone(),
            has_met: twist.mishap.is_none(),
            touched: BTreeSet::new(),
            subject,
            twist,
            calls: Vec::new(),
            made: Vec::new(),
            most: BTreeMap::new(),
            faults: Vec::new(),
            rounds: 0,
            last_change: 0,
        };
        let mut idle = 0;
        while run.rounds < rounds && idle < 2 && !run.is_over() {
            run.rounds += 1;
            let (before, old) = (run.shown(), run.state());
            let saved = run.subject.targets.clone();
            let is_killed = run.round().await == Ended::Killed;
            if is_killed {
                run.subject.targets = saved;
                for state in &mut run.subject.targets {
                    state.has_acted = false;
                }
            }
            let waits = run.open().filter_map(|state| state.recheck_after).min();
            run.subject.world.pass(waits.unwrap_or_default());
            if run.state() != old {
                run.last_change = run.rounds;
            }
            idle = if run.shown() == before && waits.is_none() && !is_killed {
                idle + 1
            } else {
                0
            };
        }
        // What others do after that: pods disappear, ReplicaSets create others, and those become ready.
        for _ in 0..3 {
            run.subject.world.pass(Duration::ZERO);
        }
        run
    }

    fn open(&self) -> impl Iterator<Item = &State> {
        let targets = self.subject.targets.iter();
        targets.filter(|state| !is_over(state))
    }

    fn is_processing(&self, place: usize) -> bool {
        let state = self.subject.targets.get(place);
        state.is_some_and(|state| state.progress == OpsProgress::Processing)
    }

    fn is_over(&self) -> bool {
        self.open().next().is_none()
    }

    /// Whether the last rounds of so many changed nothing, or nothing is left to do.
    pub(super) fn is_at_rest(&self, rounds: usize) -> bool {
        self.last_change < rounds || self.is_over()
    }

    /// What the status would show, and what the world is.
    fn shown(&self) -> Vec<String> {
        let targets = self.subject.targets.iter();
        let messages = targets.map(|state| format!("{:?}", state.failure));
        messages.chain(self.state()).collect()
    }

    /// The state without the messages of failures: a message may count the seconds of a wait.
    fn state(&self) -> Vec<String> {
        let targets = self.subject.targets.iter();
        let targets = targets.map(|state| {
            let State {
                progress,
                failure,
                extra_info,
                ..
            } = state;
            let reason = failure.as_ref().map(|failure| &failure.reason);
            format!("{progress:?} {reason:?} {extra_info:?}")
        });
        let objects = self.subject.world.objects();
        targets.chain(objects.map(ToString::to_string)).collect()
    }

    async fn round(&mut self) -> Ended {
        let seen = self.subject.look();
        for place in 0..self.subject.targets.len() {
            if self.turn(place, &seen).await == Ended::Killed {
                return Ended::Killed;
            }
        }
        Ended::Done
    }

    /// The calls for one target in one reconcile.
    async fn turn(&mut self, place: usize, seen: &Arc<World>) -> Ended {
        let Some(state) = self.subject.targets.get(place) else {
            return Ended::Done;
        };
        if is_over(state) {
            return Ended::Done;
        }
        let has_failed = state.progress == OpsProgress::Failed;
        let is_canceled = |call| self.calls.len() >= call;
        if !self.subject.is_ending() && self.twist.canceled.is_some_and(is_canceled) {
            self.subject.end();
        }
        if has_failed {
            return self.release(place, seen).await;
        }
        if !self.subject.is_ending() {
            return self.operate(place, seen).await;
        }
        if self.ask(place, seen).await == Ended::Killed {
            return Ended::Killed;
        }
        if !self.is_processing(place) {
            return Ended::Done;
        }
        self.release(place, seen).await
    }

    async fn operate(&mut self, place: usize, seen: &Arc<World>) -> Ended {
        let (number, mut seen) = self.begin(Function::Operate, place, seen);
        let mishap = self.mishap(number);
        if mishap == Some(Mishap::AskedFirst) {
            self.ask(place, &seen).await;
            if !self.is_processing(place) {
                return Ended::Done;
            }
        }
        let (extra_info, has_acted) = (self.extra_info(place), self.has_acted(place));
        let answer = self.subject.operate(place, &seen).await;
        let mut ended = self.perform(number, place, answer);
        if mishap == Some(Mishap::Twice) && ended == Ended::Done {
            self.restore(place, extra_info, has_acted);
            seen = self.subject.look();
            let answer = self.subject.operate(place, &seen).await;
            ended = self.perform(number, place, answer);
        }
        if ended != Ended::Done || self.has_acted(place) {
            return ended;
        }
        self.ask(place, &seen).await
    }

    async fn ask(&mut self, place: usize, seen: &Arc<World>) -> Ended {
        let (number, seen) = self.begin(Function::Progress, place, seen);
        let (extra_info, has_acted) = (self.extra_info(place), self.has_acted(place));
        let mishap = self.mishap(number);
        let times = if mishap == Some(Mishap::Twice) { 2 } else { 1 };
        for _ in 0..times {
            self.restore(place, extra_info.clone(), has_acted);
            let report = self.subject.progress(place, &seen).await;
            self.reported(place, report);
        }
        if let Some(Mishap::Killed(_)) = mishap {
            return Ended::Killed;
        }
        Ended::Done
    }

    async fn release(&mut self, place: usize, seen: &Arc<World>) -> Ended {
        let (number, seen) = self.begin(Function::Release, place, seen);
        let (extra_info, has_acted) = (self.extra_info(place), self.has_acted(place));
        let answer = self.subject.release(place, &seen).await;
        let mut unfinished = waits_for(&answer);
        let mut ended = self.perform(number, place, answer);
        if self.mishap(number) == Some(Mishap::Twice) && ended == Ended::Done {
            self.restore(place, extra_info, has_acted);
            let seen = self.subject.look();
            let answer = self.subject.release(place, &seen).await;
            unfinished = waits_for(&answer);
            ended = self.perform(number, place, answer);
        }
        let is_ending = self.subject.is_ending();
        let Some(state) = self.subject.targets.get_mut(place) else {
            return ended;
        };
        match (ended, unfinished) {
            (Ended::Done, None) => {
                state.is_released = true;
                state.recheck_after = None;
                if is_ending && state.progress == OpsProgress::Processing {
                    state.progress = OpsProgress::Failed;
                    state.failure = Some(Failure::new("JobDeleted", "the job was deleted"));
                }
            }
            (Ended::Done, Some((failure, after))) => {
                state.failure = Some(failure);
                state.recheck_after = after;
            }
            (Ended::Refused | Ended::Killed, _) => {}
        }
        ended
    }
}

/// Whether nothing is left to do for a target.
fn is_over(state: &State) -> bool {
    match state.progress {
        OpsProgress::Processing => false,
        OpsProgress::Failed => state.is_released,
        OpsProgress::Succeeded => true,
    }
}

/// What a release waits for that needs further calls.
fn waits_for(answer: &Result<Operation, ActionError>) -> Option<(Failure, Option<Duration>)> {
    let unfinished = answer.as_ref().ok()?.unfinished.as_ref()?;
    Some((unfinished.failure.clone(), unfinished.recheck_after))
}
