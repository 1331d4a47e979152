//! The nodes whose Job does not progress, as the status remembers them, so that the time counts from the
//! first observation and the reason outlives the pod.

use std::collections::HashMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::daemon_job::BlockedNode;

use super::{
    Observed,
    standing::NodeState,
    survey::{Place, Survey},
};
use crate::{
    driver::{Asked, Question},
    jobs::{
        blocked::{Blocked, blocked, stage},
        explain::Known,
        time::{NAMED_AFTER, PROGRESS_DEADLINE, after},
    },
};

/// The most nodes that the status lists.
const MOST: usize = 20;

/// The nodes whose Job does not progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BlockedNodes {
    /// The nodes that the status lists, by name.
    pub(super) told: Vec<BlockedNode>,
    /// How many there are.
    pub(super) count: usize,
    /// The next question to the API server about one of them, and when it is asked.
    question: Option<(Timestamp, Question)>,
}

/// What must be asked before the reconcile can be concluded: the first of the Jobs that wait for what their
/// pods do not say, if the status does not say it yet.
pub(super) fn question(observed: &Observed<'_>) -> Option<Question> {
    let is_deleted = observed.object.metadata.deletion_timestamp.is_some();
    let survey = Survey::of(observed).ok().filter(|_| !is_deleted)?;
    let (at, question) = BlockedNodes::of(observed, &survey, &Asked::default()).question?;
    (at <= observed.now).then_some(question)
}

impl BlockedNodes {
    /// Finds them. Those that the status tells of already come first.
    pub(super) fn of(observed: &Observed<'_>, survey: &Survey<'_>, asked: &Asked) -> Self {
        let known: HashMap<_, _> = known(survey)
            .iter()
            .map(|known| (known.job_name.as_str(), known))
            .collect();
        let active = survey.places.iter();
        let active = active.filter(|place| place.standing == NodeState::Active);
        let blocked = active.filter_map(|place| {
            let job = place.job?;
            let blocked = blocked(job, observed.pods_of(job))?;
            let known = known.get(job.name_any().as_str()).copied();
            let node = node(place, blocked, known, asked, observed.now);
            Some((known.is_none(), node))
        });
        let mut blocked: Vec<_> = blocked.collect();
        blocked.sort_by_key(|(is_new, _)| *is_new);
        let count = blocked.len();
        blocked.truncate(MOST);
        let (mut told, questions): (Vec<_>, Vec<_>) =
            blocked.into_iter().map(|(_, node)| node).unzip();
        told.sort_by(|a, b| a.name.cmp(&b.name));
        let questions = questions.into_iter().flatten();
        Self {
            told,
            count,
            question: questions.min_by_key(|(at, _)| *at),
        }
    }

    /// The nodes that have waited too long, the longest wait first.
    pub(super) fn late(&self, now: Timestamp) -> Vec<&BlockedNode> {
        let mut late: Vec<_> = self
            .told
            .iter()
            .filter(|node| deadline(node) <= now)
            .collect();
        late.sort_by_key(|node| node.since.0);
        late
    }

    /// When the next of them has waited too long, or is to be asked about.
    pub(super) fn next_moment(&self, now: Timestamp) -> Option<Timestamp> {
        let deadlines = self.told.iter().map(deadline);
        let asking = self.question.iter().map(|(at, _)| *at);
        deadlines.chain(asking).filter(|at| *at > now).min()
    }

    /// What is known of the Job of this name.
    pub(super) fn find(&self, job: &str) -> Option<&BlockedNode> {
        self.told.iter().find(|node| node.job_name == job)
    }
}

/// The nodes that the status lists.
pub(super) fn known<'a>(survey: &Survey<'a>) -> &'a [BlockedNode] {
    let status = survey.memory.status;
    status.map_or(&[], |status| status.blocked_nodes.as_slice())
}

fn deadline(node: &BlockedNode) -> Timestamp {
    after(node.since.0, PROGRESS_DEADLINE)
}

/// A node whose Job does not get on, and when the API server is asked why. The time is that of the stage that
/// it is in. While it waits for the same, its words stay too: each new try words it differently.
fn node(
    place: &Place<'_>,
    blocked: Blocked,
    before: Option<&BlockedNode>,
    asked: &Asked,
    now: Timestamp,
) -> (BlockedNode, Option<(Timestamp, Question)>) {
    let known = before.map(|before| Known {
        reason: before.reason.clone(),
        words: before.message.clone(),
    });
    let is_still = |before: &&BlockedNode| {
        let is_told = known
            .as_ref()
            .is_some_and(|known| blocked.is_told_by(known));
        stage(&before.reason) == stage(&blocked.reason) || (blocked.ask.is_some() && is_told)
    };
    let since = before.filter(is_still).map(|before| before.since.clone());
    let since = since.unwrap_or(Time(now));
    let question = blocked.question(known.as_ref());
    let explained = blocked.explained(asked, known.as_ref());
    let node = BlockedNode {
        name: place.name().to_owned(),
        job_name: place.job.map(|job| job.name_any()).unwrap_or_default(),
        message: explained.message,
        reason: explained.reason,
        since,
    };
    let at = after(node.since.0, NAMED_AFTER);
    (node, question.map(|question| (at, question)))
}
