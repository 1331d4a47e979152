//! Where a DaemonJob stands: state, conditions, and the sentence that says why. Pure.

use std::collections::BTreeSet;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    conditions::{self, Standing as Kstatus},
    daemon_job::{FailedNode, FlowState, NodeFailurePolicy},
};

use super::{
    Observed,
    survey::{Place, Standing, Survey, Trip},
    waves::Hold,
};
use crate::{action::Failure, jobs::held::Holder};

/// The reason of one of which more nodes failed than may.
pub(super) const NODES_FAILED: &str = "NodesFailed";

/// How many names a message has at most, and how long it is.
const NAMES: usize = 5;
const MESSAGE: usize = 2048;

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: FlowState,
    pub(super) standing: Kstatus,
    pub(super) reason: String,
    pub(super) message: String,
}

/// What the verdict is made from.
pub(super) struct Case<'a> {
    pub(super) observed: &'a Observed<'a>,
    pub(super) survey: &'a Survey<'a>,
    /// Why no Job can be made, or one can't get on.
    pub(super) trouble: Option<&'a Failure>,
    pub(super) failed: &'a [FailedNode],
    /// The nodes whose Job is held, and who holds it.
    pub(super) held: &'a [(&'a Place<'a>, Holder)],
}

/// Decides where an object stands whose spec can be read, and that is neither finished already nor
/// being deleted.
pub(super) fn verdict(case: &Case<'_>) -> Verdict {
    let survey = case.survey;
    let state = state(survey);
    let (standing, reason, detail) = judge(case, state);
    let mut message = summary(survey, case.held.len());
    if let Some(skipped) = skipped(survey) {
        message = format!("{message}; {skipped}");
    }
    for note in notes(case) {
        message = format!("{message}; {note}");
    }
    if let Some(detail) = detail {
        message = format!("{message}: {detail}");
    }
    Verdict {
        state,
        standing,
        reason,
        message,
    }
}

fn state(survey: &Survey<'_>) -> FlowState {
    let fails_fast = survey.rules.failure == NodeFailurePolicy::FailFast;
    let has_begun = survey.places.iter().any(Place::has_begun);
    match survey.trip {
        Some(_) if fails_fast => FlowState::Failed,
        Some(Trip::TooMany) if survey.is_over() => FlowState::Failed,
        _ if survey.is_over() => FlowState::Succeed,
        _ if has_begun => FlowState::Running,
        _ => FlowState::Pending,
    }
}

/// What kstatus reads, why in one word, and what there is to say beyond the counts.
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
        FlowState::Failed => return stalled(NODES_FAILED, failures(case)),
        FlowState::Succeed => return (Kstatus::Ready, "Succeeded".to_owned(), None),
        FlowState::Pending | FlowState::Running | FlowState::Terminating => {}
    }
    if survey.trip.is_some() && survey.rules.failure == NodeFailurePolicy::Pause {
        return stalled("TooManyFailures", failures(case));
    }
    if survey.is_suspended {
        return waiting("Suspended", Some("spec.suspend is true".to_owned()));
    }
    if let Some(trouble) = case.trouble {
        return stalled(&trouble.reason, trouble.message.clone());
    }
    let may_start = |standing| {
        matches!(
            standing,
            Standing::Due | Standing::Lost(_) | Standing::Again(_)
        )
    };
    if survey.rules.is_paused && survey.count(may_start) > 0 {
        return waiting("Paused", Some("spec.rollout.paused is true".to_owned()));
    }
    match &survey.frontier.hold {
        Some(Hold::NoCanary) => waiting(
            "NoCanaryNodes",
            Some("spec.rollout.canary.selector selects none of them, and nothing goes before a canary".to_owned()),
        ),
        Some(Hold::Pause(wave, at)) => {
            let (wave, at) = (wave.as_str(), whole(*at));
            waiting("WavePause", Some(format!("wave {wave:?} begins at {at}")))
        }
        None => match case.held.first() {
            Some(held) => waiting("JobSuspended", Some(who_holds(held, case.held.len()))),
            None => waiting(state.as_str(), None),
        },
    }
}

/// Who holds the first of so many Jobs.
fn who_holds((place, holder): &(&Place<'_>, Holder), count: usize) -> String {
    let node = place.node.name_any();
    let job = place.job.map(|job| job.name_any()).unwrap_or_default();
    match count {
        1 => format!("Job {job:?} on node {node:?} is {holder}"),
        _ => format!("{count} Jobs are suspended, {job:?} on node {node:?} is {holder}"),
    }
}

/// How many nodes stand where; the Jobs of `held` of them are held.
fn summary(survey: &Survey<'_>, held: usize) -> String {
    let desired = survey.places.len();
    if desired == 0 {
        return "no node gets a Job".to_owned();
    }
    let succeeded = survey.count(|standing| standing == Standing::Succeeded);
    let mut summary = format!("{succeeded} of {} succeeded", nodes(desired));
    for (count, what) in [
        (
            survey.count(Standing::is_active).saturating_sub(held),
            "running",
        ),
        (held, "suspended"),
        (survey.count(|s| s == Standing::Failed), "failed"),
        (
            survey.count(|s| matches!(s, Standing::Lost(_) | Standing::Again(_))),
            "to run again",
        ),
        (awaited(survey), "waiting to be Ready"),
        (
            survey.count(|s| s == Standing::Replacing),
            "waiting for Jobs of the spec before to be gone",
        ),
    ] {
        if count > 0 {
            summary = format!("{summary}, {count} {what}");
        }
    }
    summary
}

/// How many nodes are waited for that would get no Job now.
fn awaited(survey: &Survey<'_>) -> usize {
    let waits = |place: &&Place<'_>| {
        !place.is_eligible && matches!(place.standing, Standing::Due | Standing::Lost(_))
    };
    survey.places.iter().filter(waits).count()
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
    (total > 0).then(|| format!("{} {get} none: {}", nodes(total), reasons.join(", ")))
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
            "spec.excludeNodeList has names that no node has: {names}"
        ));
    }
    let global = case.observed.object.spec.global_params.as_ref();
    let name = global.and_then(|global| global.node_name.as_ref());
    if name.is_some_and(|name| !name.is_empty()) {
        notes.push("spec.globalParams.nodeName has no meaning in a DaemonJob".to_owned());
    }
    notes
}

/// Which nodes failed, why the first did, and what to do about it.
fn failures(case: &Case<'_>) -> String {
    let survey = case.survey;
    let limit = match survey.trip {
        Some(Trip::Canary) => "a canary failed".to_owned(),
        Some(Trip::TooMany) | None => format!(
            "spec.rollout.maxFailures allows {}",
            survey.rules.max_failures(survey.places.len())
        ),
    };
    let names = names(case.failed.iter().map(|failed| failed.name.as_str()));
    let first = case.failed.first().map(|failed| {
        let FailedNode {
            reason, message, ..
        } = failed;
        format!(" ({reason}: {message})")
    });
    format!(
        "{limit}; failed: {names}{}; set the annotation operon.dev/retry to another value to run them again",
        first.unwrap_or_default()
    )
}

/// Some of these names, quoted.
fn names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(NAMES);
    let some: Vec<_> = names.take(NAMES).map(|name| format!("{name:?}")).collect();
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

/// The conditions of a verdict.
pub(super) fn conditions(observed: &Observed<'_>, verdict: &Verdict) -> Vec<Condition> {
    let status = observed.object.status.as_ref();
    let message: String = verdict.message.chars().take(MESSAGE).collect();
    conditions::conditions(
        status.map(|s| s.conditions.as_slice()).unwrap_or_default(),
        verdict.standing,
        &verdict.reason,
        &message,
        observed.object.metadata.generation,
        observed.now,
    )
}
