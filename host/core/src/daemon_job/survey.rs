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
    Observed, RETRY_BACKOFF, RETRY_GRACE,
    eligible::{Selection, Skip},
    job,
    memory::{Memory, digest},
    rollout::Rules,
    seconds,
    waves::{self, Frontier, Wave},
};
use crate::{
    action::Failure,
    jobs::{self, Finish},
};

/// Where every node stands.
#[derive(Clone, Debug)]
pub(super) struct Survey<'a> {
    pub(super) selection: Selection,
    pub(super) rules: Rules,
    pub(super) memory: Memory<'a>,
    /// The nodes that count, in the order in which they go; none if it is finished.
    pub(super) places: Vec<Place<'a>>,
    /// How many others there are, and why they don't.
    pub(super) skipped: BTreeMap<Skip, usize>,
    /// Of those that have had Jobs, how many.
    pub(super) remembered: BTreeMap<String, u32>,
    /// On how many nodes something runs, of an older revision too.
    pub(super) busy: usize,
    /// Jobs of older revisions, and unfinished ones of nodes that are gone.
    pub(super) strays: Vec<&'a Arc<Job>>,
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
    /// How many Jobs it has had.
    pub(super) attempts: u32,
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
    /// Its last Job failed; it runs again at this time.
    Again(Timestamp),
    /// A Job of an older revision is not gone yet.
    Replacing,
    /// It has a Job that is not finished.
    Active,
    /// Somebody deletes its unfinished Job.
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
            Self::Due | Self::Again(_) | Self::Replacing | Self::Active | Self::Ending => false,
        }
    }

    /// Whether something runs.
    pub(super) fn is_active(self) -> bool {
        match self {
            Self::Active | Self::Ending => true,
            Self::Due | Self::Again(_) | Self::Replacing | Self::Succeeded | Self::Failed => false,
        }
    }
}

impl Place<'_> {
    /// Whether it has had a Job.
    pub(super) fn has_begun(&self) -> bool {
        self.attempts > 0 || self.standing.is_over() || self.standing.is_active()
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

/// The Jobs of one node.
#[derive(Clone, Debug, Default)]
struct OfNode<'a> {
    /// The last of this revision, and whether one of them succeeded.
    last: Option<&'a Arc<Job>>,
    succeeded: bool,
    /// Whether there is one of another, and whether one of those is not finished.
    outdated: bool,
    outdated_runs: bool,
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
        let by_node = by_node(observed, &memory);
        let strays = strays(observed, &memory, &rules);
        let mut survey = Self {
            selection,
            rules,
            memory,
            places: Vec::new(),
            skipped: BTreeMap::new(),
            remembered: BTreeMap::new(),
            busy: 0,
            strays,
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
            + by_node.values().filter(|jobs| jobs.outdated_runs).count();
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
            let known = self.memory.ledger.attempts(&digest);
            let attempts = jobs.last.map_or(0, |job| job::attempt(job)).max(known);
            let skip = self.selection.skip(node);
            let standing = self.standing(&digest, jobs, observed.now);
            match counts(standing, skip, observed.now) {
                Err(skip) => {
                    *self.skipped.entry(skip).or_default() += 1;
                    if attempts > 0 {
                        self.remembered.insert(digest, attempts);
                    }
                }
                Ok(standing) => self.places.push(Place {
                    node,
                    uid,
                    digest,
                    standing,
                    attempts,
                    job: jobs.last,
                    is_eligible: skip.is_none(),
                    wave: Wave::Rest,
                }),
            }
        }
    }

    /// Where a node stands, whether or not it would get a Job now.
    fn standing(&self, digest: &str, jobs: &OfNode<'_>, now: Timestamp) -> Standing {
        let ledger = &self.memory.ledger;
        if ledger.completed.contains(digest) || jobs.succeeded {
            return Standing::Succeeded;
        }
        let known = ledger.attempts(digest);
        let last = jobs.last.filter(|job| job::attempt(job) >= known);
        let is_failed = ledger.failed.contains_key(digest);
        let standing = match last.map(|job| (job, jobs::finish(job))) {
            Some((job, None)) if jobs::is_deleted(job) => Standing::Ending,
            Some((_, None)) => Standing::Active,
            Some(_) | None if is_failed => Standing::Failed,
            Some((job, Some(finish))) => self.after_failure(job, &finish, now),
            None => Standing::Due,
        };
        match standing {
            Standing::Due | Standing::Again(_) if jobs.outdated => Standing::Replacing,
            standing => standing,
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
        let first = retry.backoff_seconds.map_or(RETRY_BACKOFF.0, seconds);
        let doublings = (attempt - 1).min(16);
        let wait = first
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(RETRY_BACKOFF.1);
        let wait = SignedDuration::try_from(wait).unwrap_or_default();
        Standing::Again(failed.checked_add(wait).unwrap_or(failed))
    }

    /// Puts the places, which are sorted by name, into the order in which they go.
    fn order(&mut self) {
        let nodes: Vec<_> = self.places.iter().map(|place| place.node).collect();
        let waves = waves::assign(&self.rules, &nodes);
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
/// is over stays so; one that is to run again is waited for a while, and then it has failed.
fn counts(standing: Standing, skip: Option<Skip>, now: Timestamp) -> Result<Standing, Skip> {
    let Some(skip) = skip else {
        return Ok(standing);
    };
    match standing {
        Standing::Due | Standing::Replacing => Err(skip),
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

fn by_node<'a>(observed: &Observed<'a>, memory: &Memory<'_>) -> HashMap<&'a str, OfNode<'a>> {
    let mut by_node: HashMap<&str, OfNode<'_>> = HashMap::new();
    for job in observed.jobs {
        let Some((node, revision)) = job::marks(job) else {
            continue;
        };
        let of_node = by_node.entry(node).or_default();
        if revision != memory.revision {
            of_node.outdated = true;
            of_node.outdated_runs |= jobs::finish(job).is_none();
            continue;
        }
        of_node.succeeded |= job::is_successful(job);
        let rank = |job: &Job| (job::attempt(job), job.name_any());
        if of_node.last.is_none_or(|last| rank(last) < rank(job)) {
            of_node.last = Some(job);
        }
    }
    by_node
}

/// The Jobs that are deleted. While it is paused, what runs goes on.
fn strays<'a>(observed: &Observed<'a>, memory: &Memory<'_>, rules: &Rules) -> Vec<&'a Arc<Job>> {
    let nodes = uids(observed);
    let is_stray = |job: &&Arc<Job>| {
        let runs = jobs::finish(job).is_none();
        let Some((node, revision)) = job::marks(job) else {
            return false;
        };
        let is_outdated = revision != memory.revision && !(runs && rules.is_paused);
        let is_left = runs && !nodes.is_empty() && !nodes.contains(node);
        !jobs::is_deleted(job) && (is_outdated || is_left)
    };
    observed.jobs.iter().filter(is_stray).collect()
}

/// The uids of the nodes that there are.
pub(super) fn uids<'a>(observed: &Observed<'a>) -> BTreeSet<&'a str> {
    let nodes = observed.nodes.iter();
    nodes
        .filter_map(|node| node.metadata.uid.as_deref())
        .collect()
}
