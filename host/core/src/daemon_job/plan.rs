//! The plan of a reconcile for the Jobs. Pure: it reads [`Observed`] and nothing else.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::DaemonJob;
use serde_json::Value;

use super::{
    MAX_STARTS, Observed,
    job::{self, Marks, Purpose},
    memory::digest,
    standing,
    survey::{Place, Survey, uids},
    waves::Hold,
};
use crate::{
    action::Failure,
    driver::Start,
    jobs::{self, held::suspend_patch, refused::a_few, time::PODS_RECHECK},
};

/// The steps of the plan, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The Jobs to create, in this order; the subject is the node's uid.
    pub start: Vec<Start>,
    /// These Jobs get a merge patch.
    pub adjust: Vec<(Arc<Job>, Value)>,
    /// These Jobs are deleted, pods first.
    pub delete: Vec<Arc<Job>>,
    /// Why no Job can be rendered from the spec.
    pub failure: Option<Failure>,
    /// When time alone changes the plan.
    pub requeue_after: Option<Duration>,
}

/// Decides what this reconcile does.
pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let object = observed.object;
    if object.metadata.deletion_timestamp.is_some() || job::is_foreign(object) {
        return Plan::default();
    }
    let Ok(survey) = Survey::of(observed) else {
        return Plan::default();
    };
    let mut plan = Plan {
        adjust: adjust(observed, &survey),
        delete: survey.strays.iter().copied().map(Arc::clone).collect(),
        requeue_after: requeue_after(&survey, observed.now),
        ..Plan::default()
    };
    match starts(observed, &survey) {
        Ok(start) => plan.start = start,
        Err(failure) => plan.failure = Some(failure),
    }
    plan
}

/// Whether a Job of such a name that another operator created for this object is taken over instead of
/// creating one. After an edit of the spec it is not.
pub(super) fn adopts(object: &DaemonJob) -> bool {
    let status = object.status.as_ref();
    status.is_none_or(|status| status.revision.is_none())
}

/// The Jobs to create.
fn starts(observed: &Observed<'_>, survey: &Survey<'_>) -> Result<Vec<Start>, Failure> {
    // Another node's Job may have the name that this one would get: `a-b` and `2`, `a` and `b-2`.
    let mut taken: HashSet<String> = survey.jobs.iter().map(|job| job.name_any()).collect();
    let chosen = chosen(survey, &survey.memory.ledger.refused, observed.now);
    let starts = chosen.into_iter().map(|place| {
        let mut start = start(observed, survey, place)?;
        start.names.retain(|name| !taken.contains(name));
        taken.extend(start.names.iter().cloned());
        Ok(start)
    });
    starts.collect()
}

/// The nodes that get a Job now, in this order: a node whose Job was refused at the last attempt comes
/// after all others.
pub(super) fn chosen<'s, 'a>(
    survey: &'s Survey<'a>,
    refused: &BTreeSet<String>,
    now: Timestamp,
) -> Vec<&'s Place<'a>> {
    if survey.memory.is_finished || survey.is_held() {
        return Vec::new();
    }
    let may_start = |place: &&Place<'_>| may_start(survey, place, now);
    let places = survey.places.iter().filter(may_start);
    let (last, first): (Vec<_>, Vec<_>) = places.partition(|place| refused.contains(&place.digest));
    first
        .into_iter()
        .chain(a_few(&last, now))
        .take(survey.room().min(MAX_STARTS))
        .collect()
}

fn may_start(survey: &Survey<'_>, place: &Place<'_>, now: Timestamp) -> bool {
    let is_due = place.standing.due_at(now).is_some_and(|at| at <= now);
    is_due && place.skip.is_none() && !place.is_held_back && survey.may_go(place)
}

fn start(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    place: &Place<'_>,
) -> Result<Start, Failure> {
    let marks = Marks {
        node: place.node.metadata.name.as_deref().unwrap_or_default(),
        node_uid: place.uid,
        revision: &survey.memory.revision,
        attempt: place.tries.attempts.saturating_add(1),
    };
    let failures = place.tries.failures;
    let names = job::names(observed.object, &marks);
    let purpose = Purpose {
        marks,
        failures,
        token: survey.memory.token,
        wave: survey.rules.has_waves().then(|| place.wave.as_str()),
        timeout: survey.rules.timeout,
        tolerates_all: survey.selection.includes_unschedulable,
    };
    Ok(Start {
        subject: place.uid.to_owned(),
        names,
        body: job::body(observed.object, &purpose)?,
    })
}

/// Suspends and resumes Jobs, and removes our finalizer from those whose result is in the status, or is not
/// needed any more.
fn adjust(observed: &Observed<'_>, survey: &Survey<'_>) -> Vec<(Arc<Job>, Value)> {
    let nodes = uids(observed);
    let ledger = &survey.memory.ledger;
    let is_recorded = |job: &Job| {
        let Some(marks) = Marks::of(&job.metadata) else {
            return false;
        };
        let digest = digest(marks.node_uid);
        let is_gone = !nodes.is_empty() && !nodes.contains(marks.node_uid);
        let failed = ledger.failed.get(&digest);
        let started = ledger.started.get(&digest);
        marks.revision == survey.memory.revision
            && (is_gone
                || ledger.completed.contains(&digest)
                || failed.is_some_and(|attempts| *attempts >= marks.attempt)
                || started.is_some_and(|tries| tries.attempts > marks.attempt))
    };
    let is_current = |job: &Job| {
        Marks::of(&job.metadata).is_some_and(|marks| marks.revision == survey.memory.revision)
    };
    let edit = |job: &Job| {
        is_current(job)
            .then(|| job::ttl_edit(observed.object, job))
            .flatten()
    };
    let let_go = |job: &Job| jobs::ttl_patch(job).filter(|_| is_recorded(job));
    let patch = |job: &Arc<Job>| {
        let patch = suspend_patch(job, survey.is_suspended)
            .or_else(|| edit(job))
            .or_else(|| let_go(job))?;
        Some((Arc::clone(job), patch))
    };
    survey.jobs.iter().copied().filter_map(patch).collect()
}

/// When time alone changes something: a retry is due, a wave begins, pods may have terminated, a Job's
/// deadline passes, or the wait for a node ends.
pub(super) fn requeue_after(survey: &Survey<'_>, now: Timestamp) -> Option<Duration> {
    let places = survey.places.iter();
    let retries = places
        .clone()
        .filter_map(|place| place.standing.due_at(now));
    let active = places.filter(|place| place.standing.is_active());
    let deadlines = active.filter_map(|place| standing::deadline(place.job?, place.tries));
    let pause = match &survey.frontier.hold {
        Some(Hold::Pause(_, at)) => Some(*at),
        Some(Hold::NoCanary) | None => None,
    };
    let waits = survey.waits.values();
    let waits = waits.filter_map(|wait| survey.until(*wait));
    let moments = retries.chain(deadlines).chain(pause).chain(waits);
    let next = moments.filter(|at| *at > now).min();
    let next = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
    let pods = survey.awaits_pods.then_some(PODS_RECHECK);
    next.into_iter().chain(pods).min()
}
