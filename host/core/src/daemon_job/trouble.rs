//! What keeps a node from getting on: the API server refuses its Job, or the Job can't progress. The
//! words of the first time stay, as long as it is the same trouble: each new try words it differently.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use operon_api::{
    conditions::{STALLED, find},
    daemon_job::BlockedNode,
};

use super::{
    Observed,
    blocked::BlockedNodes,
    standing::NodeState,
    survey::{Place, Survey},
};
use crate::{
    action::Failure,
    jobs::{MadeJob, MadeJobs},
};

const REFUSES: &str = "The API server refuses the Job";
/// Before the name of a node.
const NODE: &str = "node ";

/// What keeps nodes from getting on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What only a change helps against.
    pub(super) failure: Option<Failure>,
    /// The digests of the nodes with a refused Job.
    pub(super) refused: BTreeSet<String>,
    /// When more is known.
    pub(super) requeue_after: Option<Duration>,
}

/// The previous message.
struct Said<'a> {
    reason: &'a str,
    /// The node's name, quoted.
    node: &'a str,
    words: &'a str,
}

/// Finds what keeps nodes from getting on.
pub(super) fn trouble(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    made: &MadeJobs,
    blocked: &BlockedNodes,
) -> Trouble {
    let is_over = is_granted_again(survey, made);
    let refused: Vec<_> = survey
        .places
        .iter()
        .filter(|place| is_refused(survey, place, made, is_over))
        .collect();
    let refusal = refusal(said(observed, REFUSES).as_ref(), &refused, made);
    Trouble {
        failure: refusal.or_else(|| stall(blocked, observed.now)),
        refused: refused.iter().map(|place| place.digest.clone()).collect(),
        requeue_after: blocked
            .next_moment(observed.now)
            .and_then(|deadline| Duration::try_from(deadline.duration_since(observed.now)).ok()),
    }
}

/// Whether the API server accepted a Job that it had refused: it may accept the others too.
fn is_granted_again(survey: &Survey<'_>, made: &MadeJobs) -> bool {
    let refused = &survey.memory.ledger.refused;
    survey.places.iter().any(|place| {
        refused.contains(&place.digest) && matches!(made.get(place.uid), Some(MadeJob::Job(_)))
    })
}

/// Whether the Job that a node is to get was refused, now or when it was tried last.
fn is_refused(survey: &Survey<'_>, place: &Place<'_>, made: &MadeJobs, is_over: bool) -> bool {
    let is_known = !is_over && survey.memory.ledger.refused.contains(&place.digest);
    let is_now = matches!(made.get(place.uid), Some(MadeJob::Refused(_)));
    match place.standing {
        NodeState::Due | NodeState::Lost(_) | NodeState::Again(_) => is_known || is_now,
        NodeState::Replacing
        | NodeState::Active
        | NodeState::Ending
        | NodeState::Succeeded
        | NodeState::Failed
        | NodeState::Skipped => false,
    }
}

/// The message about refused Jobs.
fn refusal(said: Option<&Said<'_>>, refused: &[&Place<'_>], made: &MadeJobs) -> Option<Failure> {
    let words = |place: &Place<'_>| match made.get(place.uid) {
        Some(MadeJob::Refused(failure)) => Some(failure),
        Some(MadeJob::Job(_) | MadeJob::Leaving) | None => None,
    };
    let is_same = |place: &&&Place<'_>| said.is_some_and(|said| said.node == quoted(place));
    let same = refused.iter().find(is_same);
    let told = refused.iter().find(|place| words(place).is_some());
    let place = same.or(told).or(refused.first())?;
    let (reason, words) = match (words(place), said) {
        (Some(failure), _) => (failure.reason.as_str(), failure.message.as_str()),
        (None, Some(said)) if same.is_some() => (said.reason, said.words),
        (None, _) => ("Refused", "the Job is retried"),
    };
    let (node, count) = (quoted(place), refused.len());
    let message = match count {
        1 => format!("{REFUSES} for {NODE}{node}: {words}"),
        _ => format!("{REFUSES}s for {count} nodes; for {NODE}{node}: {words}"),
    };
    Some(Failure::new(reason, message))
}

/// The message about Jobs that can't progress.
fn stall(blocked: &BlockedNodes, now: Timestamp) -> Option<Failure> {
    let late = blocked.late(now);
    let BlockedNode {
        name,
        job_name,
        reason,
        message,
        since: _,
    } = late.first()?;
    let count = if late.len() == blocked.told.len() {
        blocked.count
    } else {
        late.len()
    };
    let message = match count {
        1 => format!("Job {job_name:?} can't progress on {NODE}{name:?}: {message}"),
        _ => format!("{count} Jobs can't progress; Job {job_name:?} on {NODE}{name:?}: {message}"),
    };
    Some(Failure::new(&**reason, message))
}

/// The status's last message of this kind.
fn said<'a>(observed: &Observed<'a>, kind: &str) -> Option<Said<'a>> {
    let status = observed.object.status.as_ref()?;
    let stalled = find(&status.conditions, STALLED)?;
    let (_, rest) = stalled.message.split_once(kind)?;
    let (_, rest) = rest.split_once(NODE)?;
    let (node, words) = rest.split_once(": ")?;
    Some(Said {
        reason: &stalled.reason,
        node,
        words,
    })
}

fn quoted(place: &Place<'_>) -> String {
    format!("{:?}", place.node.name_any())
}
