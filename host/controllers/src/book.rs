//! The process's memory of every target of an OperationJob: its running call, its answer until a status has
//! it, and the earliest time of the next call. One page per target.
//!
//! It is a cache: a process that begins without it calls more often, but decides the same. A running call
//! lives no longer than the process that remembers it.

use std::{
    collections::{HashMap, HashSet},
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

use crate::reads::{Change, Limited, Reads};

/// For how long what calls read is compared before other tasks have their turn.
const SLICE: Duration = Duration::from_millis(1);

/// What a call depended on, and what has changed of it.
type Compared = (Arc<Reads>, Change);

/// The pages of all jobs.
pub struct Book {
    jobs: Mutex<HashMap<String, Pages>>,
    /// The number of the call that began last.
    calls: AtomicU64,
    /// The number of running calls.
    under_way: watch::Sender<usize>,
}

/// The pages of one job, by the target's name.
#[derive(Default)]
struct Pages {
    targets: HashMap<String, Page>,
    /// When the action was last called about a target that waits for a limit of pods, by digests of the limits. Limits
    /// that no target waits for any more are dropped once there are more than targets.
    probed: HashMap<u64, Instant>,
    /// Since when the job is being deleted and its action could not be loaded.
    blocked: Option<Instant>,
}

#[derive(Default)]
struct Page {
    under_way: Option<UnderWay>,
    /// The step of the call that ended last, and how many in a row failed.
    step: Option<TargetStep>,
    failures: u32,
    ended: Option<Instant>,
    /// The next call of the same step is not before this.
    due: Option<Instant>,
    /// The number of the call that began last.
    number: u64,
    /// An answer that no status has yet, with the number of its call.
    answer: Option<(u64, Answer)>,
    /// Something that the target depends on changed after its last call had begun.
    changed: bool,
    /// Until when the answer of the call that ended last holds.
    basis: Basis,
    /// When the action asked to be called again even if nothing changes.
    recheck: Option<Instant>,
    /// Since when is known that something changed that this target and others read.
    gathers: Option<Instant>,
}

/// Until when an answer holds.
enum Basis {
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

struct UnderWay {
    step: TargetStep,
    stop: watch::Sender<bool>,
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

/// Whether the action can be called, as far as a target's own page says.
enum Finding {
    /// This is known.
    Turn(Turn),
    /// What was read by these questions is different now. When the call follows depends on who else asked them.
    Read(Vec<u64>),
    /// It waits for room below a limit of pods, which others may take.
    Limited(Limited),
}

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
            under_way: watch::Sender::new(0),
        }
    }
}

impl Book {
    /// The targets that may have a turn, in the order of `targets`. Stops every call that the plan no
    /// longer contains: a target is never released while a call that operates it is running. `change` says what has
    /// changed of what a call about a target depended on. That takes its time, so nothing else waits for it: neither
    /// who uses the book, nor other tasks.
    pub async fn turns(
        &self,
        job: &str,
        targets: &[&TargetPlan],
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
        self.turns_after(job, targets, changes, now)
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
        changes: Vec<Option<Compared>>,
        now: Instant,
    ) -> Vec<Turn> {
        let mut jobs = self.lock();
        let Some(pages) = jobs.get_mut(job) else {
            return vec![Turn::Free(0, CallCause::Step); targets.len()];
        };
        let finding = |(plan, change): (&&TargetPlan, Option<Compared>)| {
            let page = pages.targets.get(&plan.detail.name);
            page.map_or(Finding::Turn(Turn::Free(0, CallCause::Step)), |page| {
                page.finding(plan, now, change)
            })
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

/// The room below a limit of pods.
struct Room {
    /// For how many targets there is room.
    left: usize,
    /// The number of the call that was the longest ago.
    oldest: u64,
    /// How long the targets wait for a call if there is no room. None: one of them is called about.
    waits: Option<Duration>,
}

impl Room {
    /// The turn of a target that waits for it, after a call with this number.
    fn turn(&mut self, number: u64) -> Turn {
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
    fn rooms(
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
    fn readers(&self) -> HashMap<u64, usize> {
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
    fn basis(&self, plan: &TargetPlan, now: Instant) -> Result<&Arc<Reads>, Turn> {
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

    fn finding(&self, plan: &TargetPlan, now: Instant, compared: Option<Compared>) -> Finding {
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
    fn turn_of_reads(&mut self, is_direct: bool, now: Instant) -> Turn {
        if is_direct {
            return Turn::Free(self.number, CallCause::Read);
        }
        let since = *self.gathers.get_or_insert(now);
        let left = turns::gathering(now.saturating_duration_since(since));
        left.map_or(Turn::Free(self.number, CallCause::SharedRead), Turn::Waits)
    }

    fn stop(&self) {
        if let Some(call) = &self.under_way {
            call.stop.send_replace(true);
        }
    }

    /// Brings the next call forward to this time after the previous one.
    fn hurry(&mut self, after: Duration) {
        let soonest = self.ended.map(|ended| ended + after);
        self.due = self.due.zip(soonest).map(|(due, soonest)| due.min(soonest));
    }

    fn answered(&mut self, step: TargetStep, number: u64, answer: Answer, reads: Option<Reads>) {
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
            && let Some(answer) = answer
        {
            page.answered(step, self.number, answer, reads);
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
