//! The state of every node, from its Jobs and what the status remembers of it. A reconcile computes it
//! before and after its writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Node},
    jiff::Timestamp,
};
use operon_api::daemon_job::NodeFailurePolicy;

use super::{
    Observed,
    eligible::{Selection, Skip},
    job::{self, Marks},
    memory::{Memory, digest},
    on_node::{OfNode, Outdated, by_node},
    rollout::Rules,
    standing::{self, NodeState},
    tries::Tries,
    waiting::{self, Wait},
    waves::{self, Frontier, Wave},
};
use crate::{action::Failure, jobs, node::is_ready};

/// The state of every node.
#[derive(Clone, Debug)]
pub(super) struct Survey<'a> {
    pub(super) selection: Selection,
    pub(super) rules: Rules,
    /// Whether `spec.suspend` is true.
    pub(super) is_suspended: bool,
    pub(super) memory: Memory<'a>,
    /// Its Jobs. Other Jobs with its labels are owned by another object.
    pub(super) jobs: Vec<&'a Arc<Job>>,
    /// The nodes that count, in the order in which they go; none if it is finished.
    pub(super) places: Vec<Place<'a>>,
    /// How many others there are, and why they don't.
    pub(super) skipped: BTreeMap<Skip, usize>,
    /// The nodes that are, or will be, waited for.
    pub(super) waits: BTreeMap<String, Wait>,
    /// The Jobs that the nodes have had that do not count.
    pub(super) remembered: BTreeMap<String, Tries>,
    /// On how many nodes something runs, of an older revision too.
    pub(super) busy: usize,
    /// Jobs of older revisions, and unfinished Jobs of deleted nodes.
    pub(super) strays: Vec<&'a Arc<Job>>,
    /// Whether a node waits for pods of a deleted Job: nothing reports when those pods have terminated.
    pub(super) awaits_pods: bool,
    /// Whether more failed than may.
    pub(super) trip: Option<Trip>,
    pub(super) frontier: Frontier,
}

/// A node that counts.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) uid: &'a str,
    /// The node's key in the memory.
    pub(super) digest: String,
    pub(super) standing: NodeState,
    /// The Jobs that it has had.
    pub(super) tries: Tries,
    /// The last of them, if it is still there.
    pub(super) job: Option<&'a Arc<Job>>,
    /// Why it would get no Job now.
    pub(super) skip: Option<Skip>,
    /// Whether the last Job, or a pod of it, is not done yet, so that a retry must wait.
    pub(super) is_held_back: bool,
    pub(super) wave: Wave,
}

impl Place<'_> {
    /// Whether it has had a Job.
    pub(super) fn has_begun(&self) -> bool {
        let is_over = self.standing.is_over() && self.standing != NodeState::Skipped;
        self.tries.attempts > 0 || is_over || self.standing.is_active()
    }

    /// The node's name.
    pub(super) fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
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
    /// The error of the spec.
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
            waits: BTreeMap::new(),
            remembered: BTreeMap::new(),
            busy: 0,
            strays,
            awaits_pods: false,
            trip: None,
            frontier: Frontier::default(),
        };
        if survey.memory.is_finished {
            return Ok(survey);
        }
        survey.place(observed, &by_node);
        survey.order();
        survey.stop(observed.now);
        survey.busy = survey.count(NodeState::is_active) + outdated(observed, &survey, &by_node);
        survey.waits = waiting::turns(&survey, observed.now);
        Ok(survey)
    }

    /// The number of places that satisfy this.
    pub(super) fn count(&self, holds: impl Fn(NodeState) -> bool) -> usize {
        let standings = self.places.iter().map(|place| place.standing);
        standings.filter(|standing| holds(*standing)).count()
    }

    /// Whether nothing runs, and nothing will until something is changed.
    pub(super) fn is_over(&self) -> bool {
        let fails_fast = self.trip.is_some() && self.rules.failure == NodeFailurePolicy::FailFast;
        let has_failed = fails_fast && self.count(NodeState::is_active) == 0;
        !self.places.is_empty()
            && (has_failed || self.count(NodeState::is_over) == self.places.len())
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
            let (standing, tries) =
                standing::standing(&self.memory, &self.rules, &digest, jobs, observed.now);
            let wait = self.wait(&digest, tries, skip, observed.now);
            if let Some(wait) = wait {
                self.waits.insert(digest.clone(), wait);
            }
            match self.counts(standing, skip, wait, observed.now) {
                Err(skip) => {
                    *self.skipped.entry(skip).or_default() += 1;
                    if tries.attempts > 0 {
                        self.remembered.insert(digest, tries);
                    }
                }
                Ok(standing) => {
                    let standing = unless_pods_go_on(standing, skip, jobs);
                    let is_unfinished = jobs.last.is_some_and(|job| jobs::finish(job).is_none());
                    let is_held_back = jobs.has_pods || is_unfinished;
                    self.awaits_pods |= jobs.has_pods && awaits_pods(standing);
                    self.places.push(Place {
                        node,
                        uid,
                        digest,
                        standing,
                        tries,
                        job: jobs.last,
                        skip,
                        is_held_back,
                        wave: Wave::Rest,
                    });
                }
            }
        }
    }

    /// Whether the user keeps Jobs from starting.
    pub(super) fn is_held(&self) -> bool {
        self.rules.is_paused || self.is_suspended
    }

    /// On how many more nodes Jobs may run now.
    pub(super) fn room(&self) -> usize {
        let parallelism = self.rules.parallelism(self.places.len());
        parallelism.saturating_sub(self.busy)
    }

    /// Whether it is the turn of a node's wave, and neither a failure nor the user stops it.
    pub(super) fn may_go(&self, place: &Place<'_>) -> bool {
        let is_stopped = self.trip.is_some()
            && match self.rules.failure {
                NodeFailurePolicy::FailFast => true,
                // What has begun is not a further node.
                NodeFailurePolicy::Pause => place.standing == NodeState::Due,
                NodeFailurePolicy::Continue => false,
            };
        let open = self.frontier.open.as_ref();
        let is_open = open.is_some_and(|open| place.wave <= *open);
        is_open && !is_stopped && !self.is_held()
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
        let failed = self.count(|standing| standing == NodeState::Failed);
        let is_canary = |place: &Place<'_>| place.wave == Wave::Canary;
        let mut others = self
            .places
            .iter()
            .filter(|place| !is_canary(place))
            .peekable();
        let only_canaries_began = others.peek().is_some() && others.all(|place| !place.has_begun());
        let is_lacking = |standing| matches!(standing, NodeState::Failed | NodeState::Skipped);
        let has_failed = |place: &Place<'_>| is_canary(place) && is_lacking(place.standing);
        self.trip = if failed > self.rules.max_failures(self.places.len()) {
            Some(Trip::TooMany)
        } else if only_canaries_began && self.places.iter().any(has_failed) {
            Some(Trip::Canary)
        } else {
            None
        };
        if self.trip.is_some() && self.rules.failure == NodeFailurePolicy::FailFast {
            for place in &mut self.places {
                if matches!(place.standing, NodeState::Again(_)) {
                    place.standing = NodeState::Failed;
                }
            }
        }
        self.frontier = waves::frontier(&self.rules, &self.memory, &self.places, now);
    }
}

/// Whether a node waits for pods whose Job is deleted, so that nothing reports when they have terminated.
fn awaits_pods(standing: NodeState) -> bool {
    match standing {
        NodeState::Ending | NodeState::Replacing | NodeState::Again(_) => true,
        NodeState::Due
        | NodeState::Lost(_)
        | NodeState::Active
        | NodeState::Succeeded
        | NodeState::Failed
        | NodeState::Skipped => false,
    }
}

/// The state of a node that would get a Job if pods of the last one did not remain: two Jobs must not run
/// on it at the same time.
fn unless_pods_go_on(standing: NodeState, skip: Option<Skip>, jobs: &OfNode<'_>) -> NodeState {
    match standing {
        NodeState::Due | NodeState::Lost(_) if skip.is_none() && jobs.has_pods => NodeState::Ending,
        standing => standing,
    }
}

/// On how many nodes a Job or pod of an older revision runs. A deleted pod on a dead node never terminates,
/// and must not hold up the others.
fn outdated(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    by_node: &HashMap<&str, OfNode<'_>>,
) -> usize {
    let dead = observed.nodes.iter().filter(|node| !is_ready(node));
    let dead: BTreeSet<_> = dead
        .filter_map(|node| node.metadata.uid.as_deref())
        .collect();
    let runs = by_node.iter().filter(|(uid, jobs)| {
        jobs.outdated == Outdated::Running && (survey.rules.is_paused || !dead.contains(*uid))
    });
    runs.count()
}

/// The Jobs to delete. While the rollout is paused, running Jobs continue.
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
