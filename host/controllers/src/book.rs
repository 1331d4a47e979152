//! The process's memory of every target of an OperationJob: its running call, its answer until a status has
//! it, and the earliest time of the next call. One page per target (`page.rs`).
//!
//! It is a cache: a process that begins without it calls more often, but decides the same. A running call
//! lives no longer than the process that remembers it.

mod page;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use operon_core::operation_job::{
    conclude::Answer,
    plan::{TargetPlan, TargetStep},
    turns::{self, CallCause},
};
use tokio::{sync::watch, time::Instant};

use self::page::{Basis, Compared, Finding, Pages, UnderWay};
use crate::reads::{Change, Reads};

/// For how long what calls read is compared before other tasks have their turn.
const SLICE: Duration = Duration::from_millis(1);

/// The pages of all jobs.
pub struct Book {
    jobs: Mutex<HashMap<String, Pages>>,
    /// The number of the call that began last.
    calls: AtomicU64,
    /// How many calls have ended.
    ended: AtomicU64,
    /// The number of running calls.
    under_way: watch::Sender<usize>,
}

/// Whether the action can be called about a target now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It can, for this cause; the number is that of the previous call.
    Free(u64, CallCause),
    /// Not while this call is running.
    UnderWay,
    /// Not before it has waited for this time.
    Waits(Duration),
    /// Not before a status has its answer, as nothing that it depends on changed since.
    Answered,
    /// Not before something changes that its last call depended on: the answer would be the same.
    Settled,
}

/// A point in time, by which calls had ended. What is read from the caches later has what these calls changed of pods.
/// The caches of other kinds follow their watches.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

/// A call that began: it is running until this is dropped.
pub struct Ticket {
    book: Arc<Book>,
    job: String,
    target: String,
    number: u64,
    /// The previous call performed effects and did not report, so this one has to report.
    pub has_to_report: bool,
    /// Becomes true when the call must not do anything any more.
    pub stop: watch::Receiver<bool>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            calls: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            under_way: watch::Sender::new(0),
        }
    }
}

impl Book {
    /// The present moment.
    pub fn moment(&self) -> Moment {
        Moment(self.ended.load(Ordering::Acquire))
    }

    /// The targets that may have a turn, in the order of `targets`. If a call ended after `observed`, what was observed
    /// may lack its effects: such a target has no turn, and the end of its call has woken the job.
    ///
    /// Stops every call that the plan no longer contains: a target is never released while a call that operates it is
    /// running. `change` says what has changed of what a call about a target depended on. The comparison takes time, so
    /// neither the users of the book nor other tasks wait for it.
    pub async fn turns(
        &self,
        job: &str,
        targets: &[&TargetPlan],
        observed: Moment,
        change: impl Fn(&TargetPlan, &Reads) -> Change,
    ) -> Vec<Turn> {
        let now = Instant::now();
        let mut changes = Vec::with_capacity(targets.len());
        let mut since = now;
        for (plan, reads) in targets.iter().zip(self.bases(job, targets, now)) {
            if !changes.is_empty() && since.elapsed() >= SLICE {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
            changes.push(reads.map(|reads| {
                let change = change(plan, &reads);
                (reads, change)
            }));
        }
        self.turns_after(job, targets, observed, changes, now)
    }

    /// What decides whether the action is called about each target again, where that is what its last call read.
    fn bases(&self, job: &str, targets: &[&TargetPlan], now: Instant) -> Vec<Option<Arc<Reads>>> {
        let jobs = self.lock();
        let pages = jobs.get(job);
        let basis = |plan: &&TargetPlan| {
            let page = pages?.targets.get(&plan.detail.name)?;
            page.basis(plan, now).ok().map(Arc::clone)
        };
        targets.iter().map(basis).collect()
    }

    fn turns_after(
        &self,
        job: &str,
        targets: &[&TargetPlan],
        observed: Moment,
        changes: Vec<Option<Compared>>,
        now: Instant,
    ) -> Vec<Turn> {
        let mut jobs = self.lock();
        let Some(pages) = jobs.get_mut(job) else {
            return vec![Turn::Free(0, CallCause::Step); targets.len()];
        };
        let finding = |(plan, change): (&&TargetPlan, Option<Compared>)| {
            let page = pages.targets.get(&plan.detail.name);
            match page {
                None => Finding::Turn(Turn::Free(0, CallCause::Step)),
                Some(page) if page.end_number > observed.0 => Finding::Turn(Turn::UnderWay),
                Some(page) => page.finding(plan, now, change),
            }
        };
        let findings: Vec<_> = targets.iter().zip(changes).map(finding).collect();
        let mut readers = None;
        let mut rooms = pages.rooms(targets, &findings, now);
        let turn = |(plan, finding): (&&TargetPlan, Finding)| {
            let (questions, limit) = match finding {
                Finding::Turn(turn) => return turn,
                Finding::Read(questions) => (questions, None),
                Finding::Limited(limited) => (limited.changed, Some(limited.limit)),
            };
            let is_alone = |question: &u64| {
                let readers = readers.get_or_insert_with(|| pages.readers());
                readers.get(question).is_none_or(|count| *count <= 1)
            };
            let is_direct = questions.iter().any(is_alone);
            let page = pages.targets.entry(plan.detail.name.clone()).or_default();
            match limit.and_then(|limit| rooms.get_mut(&limit)) {
                Some(room) if !is_direct => room.turn(page.number),
                Some(_) | None => page.turn_of_reads(is_direct, now),
            }
        };
        targets.iter().zip(findings).map(turn).collect()
    }

    /// A call begins. The target must be free.
    pub fn begin(self: &Arc<Self>, job: &str, plan: &TargetPlan) -> Ticket {
        let (stop, stopped) = watch::channel(false);
        let mut jobs = self.lock();
        let pages = jobs.entry(job.to_owned()).or_default();
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let page = pages.targets.entry(plan.detail.name.clone()).or_default();
        if let Basis::Reads(reads) = &page.basis
            && let Some(limit) = reads.limit()
        {
            pages.probed.insert(limit, Instant::now());
        }
        let has_acted = matches!(page.basis, Basis::Nothing(CallCause::Effect));
        let has_to_report = has_acted && page.step.as_ref() == Some(&plan.step);
        page.number = number;
        page.changed = false;
        page.gathers = None;
        page.under_way = Some(UnderWay {
            step: plan.step.clone(),
            stop,
        });
        self.under_way.send_modify(|calls| *calls += 1);
        Ticket {
            book: Arc::clone(self),
            job: job.to_owned(),
            target: plan.detail.name.clone(),
            number,
            has_to_report,
            stop: stopped,
        }
    }

    /// The answer that no status has yet, with the number of its call, if it is one to this step.
    pub fn answer(&self, job: &str, plan: &TargetPlan) -> Option<(u64, Answer)> {
        let jobs = self.lock();
        let page = jobs.get(job)?.targets.get(&plan.detail.name)?;
        let same = page.step.as_ref().and_then(TargetStep::question) == plan.step.question();
        page.answer.clone().filter(|_| same)
    }

    /// A status has the answers of these calls.
    pub fn written(&self, job: &str, answers: &[(String, u64)]) {
        let mut jobs = self.lock();
        let Some(pages) = jobs.get_mut(job) else {
            return;
        };
        for (target, number) in answers {
            let page = pages.targets.get_mut(target);
            if let Some(page) = page.filter(|p| p.answer.as_ref().is_some_and(|a| a.0 == *number)) {
                page.answer = None;
            }
        }
    }

    /// Something that a target depends on changed: it need not wait any longer.
    pub fn changed(&self, job: &str, target: &str) {
        let mut jobs = self.lock();
        let page = jobs.get_mut(job).and_then(|p| p.targets.get_mut(target));
        if let Some(page) = page {
            page.changed = true;
            page.hurry(turns::soonest_after_change(page.failures));
        }
    }

    /// The action itself changed: no target of the job need wait any longer.
    pub fn action_changed(&self, job: &str) {
        let mut jobs = self.lock();
        for page in jobs
            .get_mut(job)
            .into_iter()
            .flat_map(|p| p.targets.values_mut())
        {
            page.failures = 0;
            page.due = None;
            page.basis = Basis::Nothing(CallCause::Target);
        }
    }

    /// For how long a job that is being deleted has been found `blocked`: its action could not be loaded.
    pub fn blocked(&self, job: &str, blocked: bool) -> Duration {
        let mut jobs = self.lock();
        if !blocked {
            if let Some(pages) = jobs.get_mut(job) {
                pages.blocked = None;
            }
            return Duration::ZERO;
        }
        let pages = jobs.entry(job.to_owned()).or_default();
        pages.blocked.get_or_insert_with(Instant::now).elapsed()
    }

    /// The job was deleted: its running calls stop, and the book drops its entries.
    pub fn forget(&self, job: &str) {
        let forgotten = self.lock().remove(job);
        for page in forgotten.iter().flat_map(|pages| pages.targets.values()) {
            page.stop();
        }
    }

    /// Stops every call, and waits until none is running.
    pub async fn stop(&self) {
        for page in self
            .lock()
            .values()
            .flat_map(|pages| pages.targets.values())
        {
            page.stop();
        }
        // The sender is this book's own.
        let _ = self
            .under_way
            .subscribe()
            .wait_for(|calls| *calls == 0)
            .await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pages>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The call ended, with this answer if it was not stopped. It depended on `reads`; on everything, if there are none.
    pub fn end(self, answer: Option<Answer>, reads: Option<Reads>) {
        self.close(answer, reads);
    }

    fn close(&self, answer: Option<Answer>, reads: Option<Reads>) {
        let mut jobs = self.book.lock();
        let page = jobs
            .get_mut(&self.job)
            .and_then(|pages| pages.targets.get_mut(&self.target))
            .filter(|page| page.number == self.number);
        if let Some(page) = page
            && let Some(UnderWay { step, stop: _ }) = page.under_way.take()
        {
            page.end_number = self.book.ended.fetch_add(1, Ordering::AcqRel) + 1;
            if let Some(answer) = answer {
                page.answered(step, self.number, answer, reads);
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.close(None, None);
        self.book.under_way.send_modify(|calls| *calls -= 1);
    }
}

#[cfg(test)]
mod tests;
