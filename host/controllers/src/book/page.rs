//! The pages of the book: what is remembered of one target, and of all targets of a job. What they decide needs no lock
//! and no other page's job.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use operon_core::operation_job::{
    conclude::Answer,
    plan::{TargetPlan, TargetStep},
    turns::{self, CallCause},
};
use tokio::{sync::watch, time::Instant};

use super::Turn;
use crate::reads::{Change, Limited, Reads};

/// What a call depended on, and what has changed of it.
pub(super) type Compared = (Arc<Reads>, Change);

/// The pages of one job, by the target's name.
#[derive(Default)]
pub(super) struct Pages {
    pub(super) targets: HashMap<String, Page>,
    /// When the action was last called about a target that waits for a limit of pods, by digests of the limits. Limits
    /// that no target waits for any more are dropped once there are more than targets.
    pub(super) probed: HashMap<u64, Instant>,
    /// Since when the job is being deleted and its action could not be loaded.
    pub(super) blocked: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Page {
    pub(super) under_way: Option<UnderWay>,
    /// The step of the call that ended last, and how many in a row failed.
    pub(super) step: Option<TargetStep>,
    pub(super) failures: u32,
    ended: Option<Instant>,
    /// The next call of the same step is not before this.
    pub(super) due: Option<Instant>,
    /// The number of the call that began last.
    pub(super) number: u64,
    /// The last end of a call, in the order of all ends.
    pub(super) end_number: u64,
    /// An answer that no status has yet, with the number of its call.
    pub(super) answer: Option<(u64, Answer)>,
    /// Something that the target depends on changed after its last call had begun.
    pub(super) changed: bool,
    /// Until when the answer of the call that ended last holds.
    pub(super) basis: Basis,
    /// When the action asked to be called again even if nothing changes.
    recheck: Option<Instant>,
    /// Since when is known that something changed that this target and others read.
    pub(super) gathers: Option<Instant>,
}

/// Until when an answer holds.
pub(super) enum Basis {
    /// Until one of these changes.
    Reads(Arc<Reads>),
    /// It does not hold: the next call has this cause.
    Nothing(CallCause),
}

impl Default for Basis {
    fn default() -> Self {
        Self::Nothing(CallCause::Step)
    }
}

pub(super) struct UnderWay {
    pub(super) step: TargetStep,
    pub(super) stop: watch::Sender<bool>,
}

/// Whether the action can be called, as far as a target's own page says.
pub(super) enum Finding {
    /// This is known.
    Turn(Turn),
    /// What was read by these questions is different now. When the call follows depends on who else asked them.
    Read(Vec<u64>),
    /// It waits for room below a limit of pods, which others may take.
    Limited(Limited),
}

/// The room below a limit of pods.
pub(super) struct Room {
    /// For how many targets there is room.
    left: usize,
    /// The number of the call that was the longest ago.
    oldest: u64,
    /// How long the targets wait for a call if there is no room. None: one of them is called about.
    waits: Option<Duration>,
}

impl Room {
    /// The turn of a target that waits for it, after a call with this number.
    pub(super) fn turn(&mut self, number: u64) -> Turn {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return Turn::Free(number, CallCause::Room);
        }
        match self.waits {
            Some(wait) => Turn::Waits(wait),
            None if number == self.oldest => Turn::Free(number, CallCause::Recheck),
            None => Turn::Settled,
        }
    }
}

impl Pages {
    /// The room below each limit that targets wait for.
    pub(super) fn rooms(
        &mut self,
        targets: &[&TargetPlan],
        findings: &[Finding],
        now: Instant,
    ) -> HashMap<u64, Room> {
        let mut rooms = HashMap::new();
        for (plan, finding) in targets.iter().zip(findings) {
            let Finding::Limited(limited) = finding else {
                continue;
            };
            let page = self.targets.get(&plan.detail.name);
            let number = page.map_or(0, |page| page.number);
            let probed = *self.probed.entry(limited.limit).or_insert(now);
            let room = rooms.entry(limited.limit).or_insert_with(|| Room {
                left: 0,
                oldest: number,
                waits: turns::probing(now.saturating_duration_since(probed)),
            });
            room.left = room.left.max(limited.room);
            room.oldest = room.oldest.min(number);
        }
        if self.probed.len() > self.targets.len() {
            let limits = self.reads().filter_map(|reads| reads.limit());
            let limits: HashSet<u64> = limits.collect();
            self.probed.retain(|limit, _| limits.contains(limit));
        }
        rooms
    }

    /// What the last calls about the targets read.
    fn reads(&self) -> impl Iterator<Item = &Arc<Reads>> {
        self.targets.values().filter_map(|page| match &page.basis {
            Basis::Reads(reads) => Some(reads),
            Basis::Nothing(_) => None,
        })
    }

    /// How many targets asked each question.
    pub(super) fn readers(&self) -> HashMap<u64, usize> {
        let mut readers = HashMap::new();
        for question in self.reads().flat_map(|reads| reads.questions()) {
            *readers.entry(question).or_default() += 1;
        }
        readers
    }
}

impl Page {
    /// What the last call read, if that decides whether another one follows.
    ///
    /// # Errors
    /// Something else decides: this turn.
    pub(super) fn basis(&self, plan: &TargetPlan, now: Instant) -> Result<&Arc<Reads>, Turn> {
        let step = &plan.step;
        if let Some(call) = &self.under_way {
            // A step that only waits for the action leaves it alone: it may be the same one again.
            if call.step.question() != step.question() && !matches!(step, TargetStep::Await(_)) {
                self.stop();
            }
            return Err(Turn::UnderWay);
        }
        let free = |cause| Turn::Free(self.number, cause);
        if self.step.as_ref() != Some(step) {
            return Err(free(CallCause::Step));
        }
        let left = self.due.map(|due| due.saturating_duration_since(now));
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            return Err(Turn::Waits(left));
        }
        match &self.basis {
            Basis::Reads(reads) => Ok(reads),
            Basis::Nothing(CallCause::Effect) if !self.has_to_remember(plan) => {
                Err(free(CallCause::Effect))
            }
            Basis::Nothing(_) if self.answer.is_some() && !self.changed => Err(Turn::Answered),
            Basis::Nothing(cause) => Err(free(*cause)),
        }
    }

    pub(super) fn finding(
        &self,
        plan: &TargetPlan,
        now: Instant,
        compared: Option<Compared>,
    ) -> Finding {
        let reads = match self.basis(plan, now) {
            Ok(reads) => reads,
            Err(turn) => return Finding::Turn(turn),
        };
        // If a call has ended meanwhile, its end wakes the job, and what it read is compared then.
        let compared = compared.filter(|(compared, _)| Arc::ptr_eq(compared, reads));
        let change = compared.map_or(Change::None, |(_, change)| change);
        Finding::Turn(match change {
            Change::Target => Turn::Free(self.number, CallCause::Target),
            Change::Reads(questions) => return Finding::Read(questions),
            Change::Limited(limited) => return Finding::Limited(limited),
            Change::None if self.answer.is_some() => Turn::Answered,
            Change::None => match self.recheck.map(|at| at.saturating_duration_since(now)) {
                None => Turn::Settled,
                Some(left) if left.is_zero() => Turn::Free(self.number, CallCause::Recheck),
                Some(left) => Turn::Waits(left),
            },
        })
    }

    /// Whether the answer has something to remember that the status does not have yet.
    fn has_to_remember(&self, plan: &TargetPlan) -> bool {
        let answer = self.answer.as_ref();
        answer.is_some_and(|(_, answer)| match answer {
            Answer::Acted { extra_info } => *extra_info != plan.detail.extra_info,
            Answer::Report(_)
            | Answer::Operated { .. }
            | Answer::Tried { .. }
            | Answer::Released { .. }
            | Answer::Releasing { .. }
            | Answer::Error { .. } => false,
        })
    }

    /// The turn of a target that read something that is different now. What others read as well is gathered.
    pub(super) fn turn_of_reads(&mut self, is_direct: bool, now: Instant) -> Turn {
        if is_direct {
            return Turn::Free(self.number, CallCause::Read);
        }
        let since = *self.gathers.get_or_insert(now);
        let left = turns::gathering(now.saturating_duration_since(since));
        left.map_or(Turn::Free(self.number, CallCause::SharedRead), Turn::Waits)
    }

    pub(super) fn stop(&self) {
        if let Some(call) = &self.under_way {
            call.stop.send_replace(true);
        }
    }

    /// Brings the next call forward to this time after the previous one.
    pub(super) fn hurry(&mut self, after: Duration) {
        let soonest = self.ended.map(|ended| ended + after);
        self.due = self.due.zip(soonest).map(|(due, soonest)| due.min(soonest));
    }

    pub(super) fn answered(
        &mut self,
        step: TargetStep,
        number: u64,
        answer: Answer,
        reads: Option<Reads>,
    ) {
        let again = self.step.as_ref() == Some(&step);
        let failures = if again { self.failures } else { 0 }.saturating_add(1);
        let wait = turns::wait(&answer, failures);
        let now = Instant::now();
        self.failures = if wait.is_some() { failures } else { 0 };
        self.due = wait.map(|wait| now + wait);
        self.ended = Some(now);
        let again = turns::again(&step, &answer);
        self.recheck = again.flatten().map(|after| now + after);
        self.basis = match (again, reads) {
            (Some(_), Some(reads)) => {
                Basis::Reads(Arc::new(reads.reporting(turns::reported(&answer))))
            }
            (Some(_), None) | (None, _) => Basis::Nothing(turns::unsettled(&answer)),
        };
        self.step = Some(step);
        self.answer = Some((number, answer));
    }
}
