//! The status of a DaemonJob: state, conditions, and their messages. Pure.

use std::collections::BTreeSet;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    conditions::{self, End, Standing as Kstatus},
    daemon_job::{FailedNode, FlowState, NodeFailurePolicy},
};

use super::{
    Observed,
    awaited::awaited,
    blocked::BlockedNodes,
    eligible::Skip,
    failed::end,
    standing::NodeState,
    survey::{Place, Survey, Trip},
    waves::Hold,
};
use crate::{
    action::Failure,
    jobs::{held::Holder, text::short},
};

/// The reason of a DaemonJob with more failed nodes than allowed.
pub(super) const NODES_FAILED: &str = "NodesFailed";

/// The reason of a DaemonJob with nodes that did not become available in time.
pub(super) const NODES_SKIPPED: &str = "NodesSkipped";

/// How many names a message has at most, and how long it is.
pub(super) const NAMES: usize = 5;
const MESSAGE: usize = 2048;

/// The state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: FlowState,
    pub(super) standing: Kstatus,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What the verdict is derived from.
pub(super) struct Case<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) survey: &'a Survey<'a>,
    /// Why no Job can be created, or a Job can't progress.
    pub(super) trouble: Option<&'a Failure>,
    pub(super) failed: &'a [FailedNode],
    /// The nodes whose Job is held, and its holder.
    pub(super) held: &'a [(&'a Place<'a>, Holder)],
    /// The nodes whose Job does not progress.
    pub(super) blocked: &'a BlockedNodes,
}

/// Why a DaemonJob failed, by its last `Ready` condition.
pub(super) fn why_failed(said: Option<&Condition>) -> &'static str {
    match said {
        Some(said) if said.reason == NODES_SKIPPED => NODES_SKIPPED,
        Some(_) | None => NODES_FAILED,
    }
}

/// Decides the state of an object that has a readable spec, has not finished and is not being deleted.
pub(super) fn verdict(case: &Case<'_>) -> Verdict {
    let survey = case.survey;
    let state = state(survey);
    let (standing, reason, detail) = judge(case, state);
    // The detail is last: it quotes others.
    let sentences = [Some(summary(case)), skipped(survey)]
        .into_iter()
        .chain(notes(case).into_iter().map(Some))
        .chain([awaited(case, detail.is_some()), detail]);
    let sentences: Vec<_> = sentences
        .flatten()
        .map(|sentence| end(&sentence).to_owned())
        .collect();
    Verdict {
        state,
        standing,
        reason,
        message: sentences.join(". "),
    }
}

fn state(survey: &Survey<'_>) -> FlowState {
    let fails_fast = survey.rules.failure == NodeFailurePolicy::FailFast;
    let has_begun = survey.places.iter().any(Place::has_begun);
    match survey.trip {
        Some(_) if fails_fast => FlowState::Failed,
        Some(Trip::TooMany) if survey.is_over() => FlowState::Failed,
        _ if survey.is_over() && survey.count(|s| s == NodeState::Skipped) > 0 => FlowState::Failed,
        _ if survey.is_over() => FlowState::Succeed,
        _ if has_begun => FlowState::Running,
        _ => FlowState::Pending,
    }
}

/// The standing for kstatus, its reason, and the message beyond the counts.
fn judge(case: &Case<'_>, state: FlowState) -> (Kstatus, String, Option<String>) {
    let survey = case.survey;
    let stalled =
        |reason: &str, detail: String| (Kstatus::Stalled, reason.to_owned(), Some(detail));
    let waiting =
        |reason: &str, detail: Option<String>| (Kstatus::Reconciling, reason.to_owned(), detail);
    if survey.places.is_empty() {
        return waiting("NoEligibleNodes", None);
    }
    match state {
        FlowState::Failed if survey.trip.is_none() || case.failed.is_empty() => {
            return stalled(NODES_SKIPPED, skips(survey));
        }
        FlowState::Failed => return stalled(NODES_FAILED, failures(case)),
        FlowState::Succeed => return (Kstatus::Ready, "Succeeded".to_owned(), None),
        FlowState::Pending | FlowState::Running | FlowState::Terminating => {}
    }
    if survey.trip.is_some() && survey.rules.failure == NodeFailurePolicy::Pause {
        if case.failed.is_empty() {
            return stalled(NODES_SKIPPED, skips(survey));
        }
        return stalled("TooManyFailures", failures(case));
    }
    if survey.is_suspended {
        return waiting("Suspended", Some("spec.suspend is true".to_owned()));
    }
    if let Some(trouble) = case.trouble {
        return stalled(&trouble.reason, trouble.message.clone());
    }
    let now = case.observed.now;
    let may_start = |standing: NodeState| standing.due_at(now).is_some();
    if survey.rules.is_paused && survey.count(may_start) > 0 {
        return waiting("Paused", Some("spec.rollout.paused is true".to_owned()));
    }
    match &survey.frontier.hold {
        Some(Hold::NoCanary) => waiting(
            "NoCanaryNodes",
            Some("spec.rollout.canary.selector selects none of these nodes, and the other nodes wait for the canary nodes".to_owned()),
        ),
        Some(Hold::Pause(wave, at)) => {
            let (wave, at) = (wave.as_str(), whole(*at));
            waiting("WavePause", Some(format!("Wave {wave:?} starts at {at}")))
        }
        None => match case.held.first() {
            Some(held) => waiting("JobSuspended", Some(who_holds(held, case.held.len()))),
            None => waiting(state.as_str(), None),
        },
    }
}

/// Who holds the first of so many Jobs.
fn who_holds((place, holder): &(&Place<'_>, Holder), count: usize) -> String {
    let node = place.name();
    let job = place.job.map(|job| job.name_any()).unwrap_or_default();
    match count {
        1 => format!("Job {job:?} on node {node:?} is {holder}"),
        _ => format!("{count} Jobs are held. Job {job:?} on node {node:?} is {holder}"),
    }
}

/// The number of nodes in each state.
fn summary(case: &Case<'_>) -> String {
    let (survey, held) = (case.survey, case.held.len());
    let desired = survey.places.len();
    if desired == 0 {
        return "No node gets a Job".to_owned();
    }
    let is_next = |place: &&Place<'_>| place.standing == NodeState::Due && place.skip.is_none();
    let is_stopped = survey.trip.is_some() && survey.rules.failure != NodeFailurePolicy::Continue;
    let next = survey.places.iter().filter(is_next).count();
    let next = if is_stopped { 0 } else { next };
    let missing = survey.places.iter().filter(|place| place.is_missing());
    let missing = missing.count();
    let succeeded = survey.count(|standing| standing == NodeState::Succeeded);
    let mut summary = format!("{succeeded} of {} succeeded", nodes(desired));
    for (count, what) in [
        (
            survey.count(NodeState::is_active).saturating_sub(held),
            "running",
        ),
        (held, "suspended"),
        (survey.count(|s| s == NodeState::Failed), "failed"),
        (
            survey.count(|s| matches!(s, NodeState::Lost(_) | NodeState::Again(_))),
            "to run again",
        ),
        (next, "waiting to start"),
        (missing, "unavailable"),
        (survey.count(|s| s == NodeState::Skipped), "skipped"),
        (
            survey.count(|s| s == NodeState::Replacing),
            "waiting until the Jobs of the previous spec are deleted",
        ),
    ] {
        if count > 0 {
            summary = format!("{summary}, {count} {what}");
        }
    }
    summary
}

/// How many nodes get no Job, and why.
fn skipped(survey: &Survey<'_>) -> Option<String> {
    let total: usize = survey.skipped.values().sum();
    let reasons: Vec<_> = survey
        .skipped
        .iter()
        .map(|(skip, count)| format!("{count} {}", skip.as_str()))
        .collect();
    let get = if total == 1 { "gets" } else { "get" };
    (total > 0).then(|| format!("{} {get} no Job: {}", nodes(total), reasons.join(", ")))
}

/// What in the spec has no effect.
fn notes(case: &Case<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let there = case.observed.nodes.iter();
    let there: BTreeSet<&str> = there.filter_map(|n| n.metadata.name.as_deref()).collect();
    let unknown = case.survey.selection.unknown(&there);
    if !unknown.is_empty() {
        let names = names(unknown.into_iter());
        notes.push(format!(
            "spec.excludeNodeList names nodes that do not exist: {names}"
        ));
    }
    let global = case.observed.object.spec.global_params.as_ref();
    let name = global.and_then(|global| global.node_name.as_ref());
    if name.is_some_and(|name| !name.is_empty()) {
        notes.push("spec.globalParams.nodeName has no effect in a DaemonJob".to_owned());
    }
    notes
}

/// Which nodes failed, why the first did, and what to do about it.
fn failures(case: &Case<'_>) -> String {
    let survey = case.survey;
    let limit = match survey.trip {
        Some(Trip::Canary) => "A canary failed".to_owned(),
        Some(Trip::TooMany) | None => format!(
            "More nodes failed than spec.rollout.maxFailures, which is {}",
            survey.rules.max_failures(survey.places.len())
        ),
    };
    let names = names(case.failed.iter().map(|failed| failed.name.as_str()));
    let first = case.failed.first().map(|failed| {
        let FailedNode {
            reason, message, ..
        } = failed;
        format!(" ({reason}: {})", end(message))
    });
    let skipped = survey.places.iter();
    let skipped = skipped.filter(|place| place.standing == NodeState::Skipped);
    let skipped: Vec<_> = skipped.map(Place::name).collect();
    let skipped = if skipped.is_empty() {
        String::new()
    } else {
        format!(". Skipped: {}", self::names(skipped.into_iter()))
    };
    let first = first.unwrap_or_default();
    format!("{limit}. Failed: {names}{first}{skipped}. {RETRY}")
}

/// Which nodes did not become available in time, and why.
fn skips(survey: &Survey<'_>) -> String {
    let skipped = survey.places.iter();
    let skipped: Vec<_> = skipped
        .filter(|place| place.standing == NodeState::Skipped)
        .collect();
    let canary = match survey.trip {
        Some(Trip::Canary) => "A canary node could not get a Job. ",
        Some(Trip::TooMany) | None => "",
    };
    let wait = survey.selection.unavailable_timeout.as_secs();
    let names = some(skipped.iter().map(|place| with_skip(place)));
    format!("{canary}These nodes did not become available within {wait} s: {names}. {RETRY}")
}

/// What to do about it.
const RETRY: &str = "Set the annotation operon.dev/retry to another value to run them again";

/// A node, and why it gets no Job.
pub(super) fn with_skip(place: &Place<'_>) -> String {
    let why = place.skip.map_or("available again", Skip::as_str);
    format!("{:?} ({why})", place.name())
}

/// Some of these names, quoted.
fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    some(names.map(|name| format!("{name:?}")))
}

/// Some of these words.
pub(super) fn some(words: impl ExactSizeIterator<Item = String>) -> String {
    let more = words.len().saturating_sub(NAMES);
    let some: Vec<_> = words.take(NAMES).collect();
    match more {
        0 => some.join(", "),
        _ => format!("{} and {more} more", some.join(", ")),
    }
}

/// So many nodes, in words.
pub(super) fn nodes(count: usize) -> String {
    match count {
        1 => "1 node".to_owned(),
        _ => format!("{count} nodes"),
    }
}

/// A time without fractions of a second.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// The conditions of a DaemonJob with this verdict, which has finished so, if it has.
pub(super) fn conditions(
    observed: &Observed<'_>,
    verdict: &Verdict,
    end: Option<End>,
) -> Vec<Condition> {
    let status = observed.object.status.as_ref();
    let previous = status.map_or(&[][..], |status| &status.conditions);
    let had_finished = status.is_some_and(|status| status.completion_time.is_some());
    let message = short(&verdict.message, MESSAGE);
    let standing = conditions::conditions(
        previous,
        verdict.standing,
        &verdict.reason,
        &message,
        observed.object.metadata.generation,
        observed.now,
    );
    conditions::with_end(previous, standing, end, had_finished, observed.now)
}
