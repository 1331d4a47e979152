//! What a pass does to the Jobs. Pure: it reads [`Observed`] and nothing else.

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::{api::batch::v1::Job, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::daemon_job::NodeFailurePolicy;
use serde_json::Value;

use super::{
    MAX_STARTS, Observed,
    job::{self, Purpose},
    memory::digest,
    survey::{Place, Standing, Survey, uids},
    waves::Hold,
};
use crate::{action::Failure, jobs::Start};

/// What a pass does, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// These Jobs are made, in this order; the subject is the node's uid.
    pub start: Vec<Start>,
    /// Whether a Job of such a name that another operator made for this object is taken for the one to
    /// make. Once the spec was edited it is not.
    pub adopts: bool,
    /// These Jobs get a merge patch.
    pub adjust: Vec<(Arc<Job>, Value)>,
    /// These Jobs are deleted, pods first.
    pub delete: Vec<Arc<Job>>,
    /// Why no Job can be made of the spec.
    pub failure: Option<Failure>,
    /// Whether more Jobs are due than are made in one pass.
    pub more: bool,
    /// When time alone changes the plan.
    pub requeue_after: Option<Duration>,
}

/// Decides what this pass does.
pub fn plan(observed: &Observed<'_>) -> Plan {
    if observed.object.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let Ok(survey) = Survey::of(observed) else {
        return Plan::default();
    };
    let status = observed.object.status.as_ref();
    let mut plan = Plan {
        adopts: status.is_none_or(|status| status.revision.is_none()),
        adjust: adjust(observed, &survey),
        delete: survey.strays.iter().copied().map(Arc::clone).collect(),
        requeue_after: requeue_after(&survey, observed.now),
        ..Plan::default()
    };
    match starts(observed, &survey) {
        Ok((start, more)) => {
            plan.start = start;
            plan.more = more;
        }
        Err(failure) => plan.failure = Some(failure),
    }
    plan
}

/// The Jobs to make, and whether there are more than are made in one pass.
fn starts(observed: &Observed<'_>, survey: &Survey<'_>) -> Result<(Vec<Start>, bool), Failure> {
    if survey.memory.is_finished || survey.rules.is_paused {
        return Ok((Vec::new(), false));
    }
    let refused = &survey.memory.ledger.refused;
    let may_start = |place: &&Place<'_>| may_start(survey, place, observed.now);
    let (last, first): (Vec<_>, Vec<_>) = survey
        .places
        .iter()
        .filter(may_start)
        .partition(|place| refused.contains(&place.digest));
    let parallelism = survey.rules.parallelism(survey.places.len());
    let room = parallelism.saturating_sub(survey.busy);
    let due = (first.len() + last.len()).min(room);
    // Another node's Job may have the name that this one would get: `a-b` and `2`, `a` and `b-2`.
    let mut taken: HashSet<String> = observed.jobs.iter().map(|job| job.name_any()).collect();
    let chosen = first.into_iter().chain(last).take(due.min(MAX_STARTS));
    let starts = chosen.map(|place| {
        let mut start = start(observed, survey, place)?;
        start.names.retain(|name| !taken.contains(name));
        taken.extend(start.names.iter().cloned());
        Ok(start)
    });
    Ok((starts.collect::<Result<_, _>>()?, due > MAX_STARTS))
}

fn may_start(survey: &Survey<'_>, place: &Place<'_>, now: Timestamp) -> bool {
    let is_due = match place.standing {
        Standing::Due => true,
        Standing::Again(at) => at <= now,
        Standing::Replacing
        | Standing::Active
        | Standing::Ending
        | Standing::Succeeded
        | Standing::Failed => false,
    };
    let is_stopped = survey.trip.is_some()
        && match survey.rules.failure {
            NodeFailurePolicy::FailFast => true,
            // What has begun is not a further node.
            NodeFailurePolicy::Pause => place.standing == Standing::Due,
            NodeFailurePolicy::Continue => false,
        };
    let is_open = survey
        .frontier
        .open
        .as_ref()
        .is_some_and(|open| place.wave <= *open);
    is_due && place.is_eligible && is_open && !is_stopped
}

fn start(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    place: &Place<'_>,
) -> Result<Start, Failure> {
    let purpose = Purpose {
        node: place.node.metadata.name.as_deref().unwrap_or_default(),
        node_uid: place.uid,
        revision: &survey.memory.revision,
        attempt: place.attempts.saturating_add(1),
        token: survey.memory.token,
        timeout: survey.rules.timeout,
        tolerates_all: survey.selection.includes_unschedulable,
    };
    Ok(Start {
        subject: place.uid.to_owned(),
        names: job::names(observed.object, &purpose),
        body: job::body(observed.object, &purpose)?,
    })
}

/// Lets the Jobs go whose result is in the status, or is nobody's any more.
fn adjust(observed: &Observed<'_>, survey: &Survey<'_>) -> Vec<(Arc<Job>, Value)> {
    let nodes = uids(observed);
    let ledger = &survey.memory.ledger;
    let is_recorded = |job: &Job| {
        let Some((node, revision)) = job::marks(job) else {
            return false;
        };
        let (digest, attempt) = (digest(node), job::attempt(job));
        let is_gone = !nodes.is_empty() && !nodes.contains(node);
        let is_before = |known: Option<&u32>, attempt: u32| known.is_some_and(|n| *n >= attempt);
        revision == survey.memory.revision
            && (is_gone
                || ledger.completed.contains(&digest)
                || is_before(ledger.failed.get(&digest), attempt)
                || is_before(ledger.started.get(&digest), attempt.saturating_add(1)))
    };
    let patch = |job: &Arc<Job>| {
        let patch = job::ttl_patch(job)?;
        is_recorded(job).then(|| (Arc::clone(job), patch))
    };
    observed.jobs.iter().filter_map(patch).collect()
}

/// When time alone changes something: a retry is due, or a wave begins.
pub(super) fn requeue_after(survey: &Survey<'_>, now: Timestamp) -> Option<Duration> {
    let retries = survey
        .places
        .iter()
        .filter_map(|place| match place.standing {
            Standing::Again(at) => Some(at),
            Standing::Due
            | Standing::Replacing
            | Standing::Active
            | Standing::Ending
            | Standing::Succeeded
            | Standing::Failed => None,
        });
    let pause = match &survey.frontier.hold {
        Some(Hold::Pause(_, at)) => Some(*at),
        Some(Hold::NoCanary) | None => None,
    };
    let next = retries.chain(pause).filter(|at| *at > now).min()?;
    Duration::try_from(next.duration_since(now)).ok()
}
