//! What keeps a node from getting on: the API server refuses its Job, or the Job can't progress. The
//! words of the first time stay, as long as it is the same trouble: each new try words it differently.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::conditions::{STALLED, find};

use super::{
    Observed,
    survey::{Place, Standing, Survey},
};
use crate::{
    action::Failure,
    jobs::{
        AllMade, Made,
        blocked::{Blocked, blocked},
        time::{PROGRESS_DEADLINE, left},
    },
};

const REFUSES: &str = "the API server refuses the Job";
const CANNOT_PROGRESS: &str = " can't progress";
/// Before the name of a node.
const NODE: &str = "node ";

/// What keeps nodes from getting on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What only a change helps against.
    pub(super) failure: Option<Failure>,
    /// The digests of the nodes whose Job is refused.
    pub(super) refused: BTreeSet<String>,
    /// When more is known.
    pub(super) requeue_after: Option<Duration>,
}

/// What was said before.
struct Said<'a> {
    reason: &'a str,
    /// The node's name, quoted.
    node: &'a str,
    words: &'a str,
}

/// Finds what keeps nodes from getting on.
pub(super) fn trouble(observed: &Observed<'_>, survey: &Survey<'_>, made: &AllMade) -> Trouble {
    let is_over = is_granted_again(survey, made);
    let refused: Vec<_> = survey
        .places
        .iter()
        .filter(|place| is_refused(survey, place, made, is_over))
        .collect();
    let waits = survey.places.iter().filter_map(|place| {
        let job = place.job.filter(|_| place.standing == Standing::Active)?;
        let blocked = blocked(job, observed.pods_of(job))?;
        Some((place, &**job, blocked))
    });
    let (over, waiting): (Vec<_>, Vec<_>) = waits.partition(|(_, _, blocked)| {
        left(blocked.since, PROGRESS_DEADLINE, observed.now).is_none()
    });
    let deadlines = waiting
        .iter()
        .filter_map(|(_, _, blocked)| left(blocked.since, PROGRESS_DEADLINE, observed.now));
    let refusal = refusal(said(observed, REFUSES).as_ref(), &refused, made);
    Trouble {
        failure: refusal.or_else(|| stall(said(observed, CANNOT_PROGRESS).as_ref(), &over)),
        refused: refused.iter().map(|place| place.digest.clone()).collect(),
        requeue_after: deadlines.min(),
    }
}

/// Whether the API server granted a Job that it had refused: what it said of others may be over too.
fn is_granted_again(survey: &Survey<'_>, made: &AllMade) -> bool {
    let refused = &survey.memory.ledger.refused;
    survey.places.iter().any(|place| {
        refused.contains(&place.digest) && matches!(made.get(place.uid), Some(Made::Job(_)))
    })
}

/// Whether the Job that a node is to get was refused, now or when it was tried last.
fn is_refused(survey: &Survey<'_>, place: &Place<'_>, made: &AllMade, is_over: bool) -> bool {
    let is_known = !is_over && survey.memory.ledger.refused.contains(&place.digest);
    let is_now = matches!(made.get(place.uid), Some(Made::Refused(_)));
    match place.standing {
        Standing::Due | Standing::Lost(_) | Standing::Again(_) => is_known || is_now,
        Standing::Replacing
        | Standing::Active
        | Standing::Ending
        | Standing::Succeeded
        | Standing::Failed => false,
    }
}

/// What is said of refused Jobs.
fn refusal(said: Option<&Said<'_>>, refused: &[&Place<'_>], made: &AllMade) -> Option<Failure> {
    let words = |place: &Place<'_>| match made.get(place.uid) {
        Some(Made::Refused(failure)) => Some(failure),
        Some(Made::Job(_) | Made::Leaving) | None => None,
    };
    let is_same = |place: &&&Place<'_>| said.is_some_and(|said| said.node == quoted(place));
    let same = refused.iter().find(is_same);
    let told = refused.iter().find(|place| words(place).is_some());
    let place = same.or(told).or(refused.first())?;
    let (reason, words) = match (words(place), said) {
        (Some(failure), _) => (failure.reason.as_str(), failure.message.as_str()),
        (None, Some(said)) if same.is_some() => (said.reason, said.words),
        (None, _) => ("Refused", "it is tried again"),
    };
    let (node, count) = (quoted(place), refused.len());
    let message = match count {
        1 => format!("{REFUSES} of {NODE}{node}: {words}"),
        _ => format!("{REFUSES}s of {count} nodes, that of {NODE}{node}: {words}"),
    };
    Some(Failure::new(reason, message))
}

/// What is said of Jobs that can't progress.
fn stall(said: Option<&Said<'_>>, over: &[(&Place<'_>, &Job, Blocked)]) -> Option<Failure> {
    let is_same = |place: &Place<'_>| said.is_some_and(|said| said.node == quoted(place));
    let same = over.iter().find(|(place, _, _)| is_same(place));
    let (place, job, blocked) = same.or(over.first())?;
    let known = said.filter(|said| is_same(place) && blocked.is_still(said.reason));
    let words = known.map_or(blocked.message.as_str(), |said| said.words);
    let (job, node, count) = (job.name_any(), quoted(place), over.len());
    let message = match count {
        1 => format!("Job {job:?}{CANNOT_PROGRESS} on {NODE}{node}: {words}"),
        _ => format!("{count} Jobs{CANNOT_PROGRESS}, {job:?} on {NODE}{node}: {words}"),
    };
    Some(Failure::new(blocked.reason.clone(), message))
}

/// What the status says of this kind of trouble.
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
