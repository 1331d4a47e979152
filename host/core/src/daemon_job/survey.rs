//! Where every node stands, from its Jobs and what the status remembers of it. Both halves of a pass
//! look at it: before the writes, and after them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Node},
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;
use operon_api::{daemon_job::NodeFailurePolicy, keys};

use super::{
    Observed, RETRY_GRACE,
    eligible::{Selection, Skip},
    job::{self, Marks},
    memory::{Memory, Tries, digest},
    on_node::{OfNode, Outdated, by_node},
    rollout::Rules,
    waves::{self, Frontier, Wave},
};
use crate::{
    action::Failure,
    jobs::{self, Finish, time},
};

/// Where every node stands.
#[derive(Clone, Debug)]
pub(super) struct Survey<'a> {
    pub(super) selection: Selection,
    pub(super) rules: Rules,
    /// Whether `spec.suspend` is true.
    pub(super) is_suspended: bool,
    pub(super) memory: Memory<'a>,
    /// Its Jobs: what else has its labels is somebody else's.
    pub(super) jobs: Vec<&'a Arc<Job>>,
    /// The nodes that count, in the order in which they go; none if it is finished.
    pub(super) places: Vec<Place<'a>>,
    /// How many others there are, and why they don't.
    pub(super) skipped: BTreeMap<Skip, usize>,
    /// The Jobs that those have had.
    pub(super) remembered: BTreeMap<String, Tries>,
    /// On how many nodes something runs, of an older revision too.
    pub(super) busy: usize,
    /// Jobs of older revisions, and unfinished ones of nodes that are gone.
    pub(super) strays: Vec<&'a Arc<Job>>,
    /// Whether a node waits for pods whose Job is gone: nothing tells when they are.
    pub(super) awaits_pods: bool,
    /// Until when the first is waited for of those that are not Ready.
    pub(super) awaits_ready: Option<Timestamp>,
    /// Whether more failed than may.
    pub(super) trip: Option<Trip>,
    pub(super) frontier: Frontier,
}

/// A node that counts.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) uid: &'a str,
    /// What the node is remembered by.
    pub(super) digest: String,
    pub(super) standing: Standing,
    /// The Jobs that it has had.
    pub(super) tries: Tries,
    /// The last of them, if it is still there.
    pub(super) job: Option<&'a Arc<Job>>,
    /// Whether it would get a Job now.
    pub(super) is_eligible: bool,
    pub(super) wave: Wave,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has had no Job, or lost it unfinished.
    Due,
    /// It lost Jobs unfinished, more than one in a row; it gets another at this time.
    Lost(Timestamp),
    /// Its last Job failed; it runs again at this time.
    Again(Timestamp),
    /// A Job of an older revision, or a pod of one, is not gone yet.
    Replacing,
    /// It has a Job that is not finished.
    Active,
    /// Somebody deletes its unfinished Job, or pods of its last one are not gone yet.
    Ending,
    /// Its Job succeeded.
    Succeeded,
    /// Its Job failed, and is not run again.
    Failed,
}

impl Standing {
    /// Whether it will not change by itself any more.
    pub(super) fn is_over(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed => true,
            Self::Due
            | Self::Lost(_)
            | Self::Again(_)
            | Self::Replacing
            | Self::Active
            | Self::Ending => false,
        }
    }

    /// Whether something runs.
    pub(super) fn is_active(self) -> bool {
        match self {
            Self::Active | Self::Ending => true,
            Self::Due
            | Self::Lost(_)
            | Self::Again(_)
            | Self::Replacing
            | Self::Succeeded
            | Self::Failed => false,
        }
    }
}

impl Place<'_> {
    /// Whether it has had a Job.
    pub(super) fn has_begun(&self) -> bool {
        self.tries.attempts > 0 || self.standing.is_over() || self.standing.is_active()
    }
}

/// Why nothing more should start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trip {
    /// More nodes failed than `maxFailures`.
    TooMany,
    /// A canary failed, and nothing else has begun.
    Canary,
}

impl<'a> Survey<'a> {
    /// Looks at everything.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub(super) fn of(observed: &Observed<'a>) -> Result<Self, Failure> {
        let selection = Selection::read(&observed.object.spec)?;
        let rules = Rules::read(observed.object.spec.rollout.as_ref())?;
        let memory = Memory::of(observed.object, rules.completion);
        let jobs = observed.jobs.iter();
        let jobs: Vec<_> = jobs
            .filter(|job| job::is_own(observed.object, job))
            .collect();
        let by_node = by_node(observed, &jobs, &memory);
        let strays = strays(observed, &jobs, &memory, &rules);
        let mut survey = Self {
            selection,
            rules,
            is_suspended: job::is_suspended(observed.object),
            memory,
            jobs,
            places: Vec::new(),
            skipped: BTreeMap::new(),
            remembered: BTreeMap::new(),
            busy: 0,
            strays,
            awaits_pods: false,
            awaits_ready: None,
            trip: None,
            frontier: Frontier::default(),
        };
        if survey.memory.is_finished {
            return Ok(survey);
        }
        survey.place(observed, &by_node);
        survey.order();
        survey.stop(observed.now);
        survey.busy = survey.count(Standing::is_active)
            + by_node
                .values()
                .filter(|jobs| jobs.outdated == Outdated::Running)
                .count();
        Ok(survey)
    }

    /// How many places there are of which this holds.
    pub(super) fn count(&self, holds: impl Fn(Standing) -> bool) -> usize {
        let standings = self.places.iter().map(|place| place.standing);
        standings.filter(|standing| holds(*standing)).count()
    }

    /// Whether nothing runs, and nothing will until something is changed.
    pub(super) fn is_over(&self) -> bool {
        let fails_fast = self.trip.is_some() && self.rules.failure == NodeFailurePolicy::FailFast;
        let has_failed = fails_fast && self.count(Standing::is_active) == 0;
        !self.places.is_empty()
            && (has_failed || self.count(Standing::is_over) == self.places.len())
    }

    /// Gives every node that counts its place, by name.
    fn place(&mut self, observed: &Observed<'a>, by_node: &HashMap<&str, OfNode<'a>>) {
        let mut nodes: Vec<_> = observed.nodes.iter().collect();
        nodes.sort_by_key(|node| node.metadata.name.as_deref());
        let nobody = OfNode::default();
        for node in nodes {
            let Some(uid) = node.metadata.uid.as_deref() else {
                continue;
            };
            let jobs = by_node.get(uid).unwrap_or(&nobody);
            let digest = digest(uid);
            let skip = self.selection.skip(node);
            let standing = self.standing(&digest, jobs, observed.now);
            let tries = self.tries(&digest, jobs, standing, observed.now);
            let until = self.selection.awaited_until(observed.object, node, skip);
            let until = until.filter(|until| *until > observed.now);
            self.awaits_ready = self.awaits_ready.into_iter().chain(until).min();
            match counts(standing, skip, until, observed.now) {
                Err(skip) => {
                    *self.skipped.entry(skip).or_default() += 1;
                    if tries.attempts > 0 {
                        self.remembered.insert(digest, tries);
                    }
                }
                Ok(standing) => {
                    let standing = unless_pods_go_on(standing, skip, jobs);
                    self.awaits_pods |=
                        jobs.has_pods && matches!(standing, Standing::Ending | Standing::Replacing);
                    self.places.push(Place {
                        node,
                        uid,
                        digest,
                        standing,
                        tries,
                        job: jobs.last,
                        is_eligible: skip.is_none(),
                        wave: Wave::Rest,
                    });
                }
            }
        }
    }

    /// Where a node stands, whether or not it would get a Job now.
    fn standing(&self, digest: &str, jobs: &OfNode<'_>, now: Timestamp) -> Standing {
        let ledger = &self.memory.ledger;
        if ledger.completed.contains(digest) || jobs.succeeded {
            return Standing::Succeeded;
        }
        let known = ledger.tries(digest);
        let last = jobs.last.filter(|job| job::attempt(job) >= known.attempts);
        let is_failed = ledger.failed.contains_key(digest);
        let standing = match last.map(|job| (job, jobs::finish(job))) {
            Some((job, None)) if jobs::is_deleted(job) => Standing::Ending,
            Some((_, None)) => Standing::Active,
            Some(_) | None if is_failed => Standing::Failed,
            Some((job, Some(finish))) => self.after_failure(job, &finish, now),
            None => self.after_loss(known, now),
        };
        match standing {
            Standing::Due | Standing::Lost(_) | Standing::Again(_)
                if jobs.outdated > Outdated::Nothing =>
            {
                Standing::Replacing
            }
            standing => standing,
        }
    }

    /// When a node gets another Job that has none: at once, unless it has lost one in this way before.
    fn after_loss(&self, known: Tries, now: Timestamp) -> Standing {
        if known.attempts == 0 || known.losses == 0 {
            return Standing::Due;
        }
        let first = self.rules.retry.as_ref().and_then(|r| r.backoff_seconds);
        let wait = time::backoff(first, known.losses.into());
        Standing::Lost(time::after(known.lost_at.unwrap_or(now), wait))
    }

    /// The Jobs that a node has had.
    fn tries(&self, digest: &str, jobs: &OfNode<'_>, standing: Standing, now: Timestamp) -> Tries {
        let known = self.memory.ledger.tries(digest);
        let attempts = jobs.last.map_or(0, |job| job::attempt(job));
        if attempts > known.attempts {
            // The one before is kept until this one is written down: if it is gone, somebody deleted it.
            let is_lost = known.attempts > 0 && !jobs.finished.contains(&known.attempts);
            return Tries {
                attempts,
                losses: if is_lost { known.losses + 1 } else { 0 },
                lost_at: None,
            };
        }
        let is_lost = matches!(standing, Standing::Lost(_));
        Tries {
            lost_at: is_lost.then(|| known.lost_at.unwrap_or(now)),
            ..known
        }
    }

    /// Whether a node runs again whose Job failed, and when.
    fn after_failure(&self, job: &Job, finish: &Finish, now: Timestamp) -> Standing {
        let created = job.metadata.creation_timestamp.as_ref();
        let failed = finish.time.as_ref().or(created).map_or(now, |time| time.0);
        let ran_for = job.annotations().get(keys::RETRY).map(String::as_str);
        if self.memory.token.is_some() && self.memory.token != ran_for {
            return Standing::Again(failed);
        }
        let attempt = job::attempt(job);
        let retry = self.rules.retry.as_ref();
        let Some(retry) = retry.filter(|retry| i64::from(attempt) <= i64::from(retry.limit)) else {
            return Standing::Failed;
        };
        let wait = time::backoff(retry.backoff_seconds, attempt.into());
        Standing::Again(time::after(failed, wait))
    }

    /// Puts the places, which are sorted by name, into the order in which they go.
    fn order(&mut self) {
        let waves = waves::assign(&self.rules, &self.memory.ledger.canaries, &self.places);
        for (place, wave) in self.places.iter_mut().zip(waves) {
            place.wave = wave;
        }
        self.places.sort_by(|a, b| a.wave.cmp(&b.wave));
    }

    /// Finds out whether too many failed, and how far the waves have got.
    fn stop(&mut self, now: Timestamp) {
        let failed = self.count(|standing| standing == Standing::Failed);
        let is_canary = |place: &Place<'_>| place.wave == Wave::Canary;
        let mut others = self
            .places
            .iter()
            .filter(|place| !is_canary(place))
            .peekable();
        let only_canaries_began = others.peek().is_some() && others.all(|place| !place.has_begun());
        let has_failed = |place: &Place<'_>| is_canary(place) && place.standing == Standing::Failed;
        self.trip = if failed > self.rules.max_failures(self.places.len()) {
            Some(Trip::TooMany)
        } else if only_canaries_began && self.places.iter().any(has_failed) {
            Some(Trip::Canary)
        } else {
            None
        };
        if self.trip.is_some() && self.rules.failure == NodeFailurePolicy::FailFast {
            for place in &mut self.places {
                if matches!(place.standing, Standing::Again(_)) {
                    place.standing = Standing::Failed;
                }
            }
        }
        self.frontier = waves::frontier(&self.rules, &self.memory, &self.places, now);
    }
}

/// Whether a node counts of which `skip` says why it would get no Job now. What runs goes on, and what
/// is over stays so; one that is to run again is waited for a while, and then it has failed; one that may
/// become Ready is waited for `until` that time, and then it does not count.
fn counts(
    standing: Standing,
    skip: Option<Skip>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Standing, Skip> {
    let Some(skip) = skip else {
        return Ok(standing);
    };
    match standing {
        Standing::Due | Standing::Lost(_) | Standing::Replacing => {
            until.map(|_| standing).ok_or(skip)
        }
        Standing::Again(at) => {
            let grace = SignedDuration::try_from(RETRY_GRACE).unwrap_or_default();
            let until = at.checked_add(grace).unwrap_or(at);
            Ok(if until > now {
                Standing::Again(until)
            } else {
                Standing::Failed
            })
        }
        Standing::Active | Standing::Ending | Standing::Succeeded | Standing::Failed => {
            Ok(standing)
        }
    }
}

/// Where a node stands that would get a Job, but for pods of the last one: two Jobs must not run on it
/// at the same time.
fn unless_pods_go_on(standing: Standing, skip: Option<Skip>, jobs: &OfNode<'_>) -> Standing {
    match standing {
        Standing::Due | Standing::Lost(_) | Standing::Again(_)
            if skip.is_none() && jobs.has_pods =>
        {
            Standing::Ending
        }
        standing => standing,
    }
}

/// The Jobs that are deleted. While it is paused, what runs goes on.
fn strays<'a>(
    observed: &Observed<'a>,
    jobs: &[&'a Arc<Job>],
    memory: &Memory<'_>,
    rules: &Rules,
) -> Vec<&'a Arc<Job>> {
    let nodes = uids(observed);
    let is_stray = |job: &&Arc<Job>| {
        let runs = jobs::finish(job).is_none();
        let Some(marks) = Marks::of(&job.metadata) else {
            return false;
        };
        let is_outdated = marks.revision != memory.revision && !(runs && rules.is_paused);
        let is_left = runs && !nodes.is_empty() && !nodes.contains(marks.node_uid);
        !jobs::is_deleted(job) && (is_outdated || is_left)
    };
    jobs.iter().copied().filter(is_stray).collect()
}

/// The uids of the nodes that there are.
pub(super) fn uids<'a>(observed: &Observed<'a>) -> BTreeSet<&'a str> {
    let nodes = observed.nodes.iter();
    nodes
        .filter_map(|node| node.metadata.uid.as_deref())
        .collect()
}
