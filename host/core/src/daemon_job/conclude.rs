//! The conclusion of a reconcile: the next status, and the Events for its transitions. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use operon_api::{
    conditions::{End, READY, Standing as Kstatus, find},
    daemon_job::{self, CompletionPolicy, DaemonJobStatus, FlowState},
};
use serde_json::{Map, Value, json};

use super::{
    Observed,
    blocked::BlockedNodes,
    events,
    failed::{failed_node, failed_nodes, run_failure},
    job::{self, Marks},
    memory::Ledger,
    plan::{Plan, chosen, requeue_after},
    standing::NodeState,
    status::{self, Case, Verdict},
    survey::{Place, Survey},
    trouble::{Trouble, trouble},
    waiting::Wait,
    waves::Wave,
};
use crate::{
    action::Failure,
    driver::{self, Asked},
    jobs::{
        MadeJob, MadeJobs,
        blocked::is_live,
        held::{Holder, holder},
        owned::leave_recheck,
    },
    node::is_ready,
};

/// Up to how many Jobs, and bytes, the status has the status of each.
const JOBS: usize = 100;
const JOBS_BYTES: usize = 65_536;

/// The conclusion of a reconcile.
pub(super) type Conclusion = driver::Conclusion<DaemonJobStatus>;

/// Concludes a pass. `observed` is what there is after the plan was carried out; of Jobs that were not
/// tried, `made` says nothing. `asked` is the answer to the question about blocked Jobs.
pub(super) fn conclude(
    observed: &Observed<'_>,
    plan: &Plan,
    made: &MadeJobs,
    asked: &Asked,
) -> Conclusion {
    if observed.object.metadata.deletion_timestamp.is_some() {
        return ending(observed);
    }
    match Survey::of(observed) {
        Err(failure) => unreadable(observed, &failure),
        Ok(survey) if survey.memory.is_finished => finished(observed, &survey),
        Ok(survey) => going(observed, plan, made, asked, &survey),
    }
}

/// The status of a DaemonJob that is being deleted: its Jobs are deleted with it.
fn ending(observed: &Observed<'_>) -> Conclusion {
    let verdict = Verdict {
        state: FlowState::Terminating,
        standing: Kstatus::Reconciling,
        reason: FlowState::Terminating.as_str().to_owned(),
        message: terminating(observed),
    };
    standing_still(observed, &verdict, previous(observed), None)
}

/// What delays the deletion: Jobs whose pods never terminate because their node is dead.
fn terminating(observed: &Observed<'_>) -> String {
    let message = "The DaemonJob and its Jobs are being deleted";
    let own = observed.jobs.iter();
    let mut own = own.filter(|job| job::is_own(observed.object, job));
    let stuck = own.find_map(|job| {
        let marks = Marks::of(&job.metadata)?;
        let mut nodes = observed.nodes.iter();
        let node = nodes.find(|node| node.metadata.uid.as_deref() == Some(marks.node_uid))?;
        let pod = observed.pods_of(job).iter().find(|pod| is_live(pod))?;
        (!is_ready(node)).then(|| (pod.name_any(), marks.node.to_owned()))
    });
    stuck.map_or_else(
        || message.to_owned(),
        |(pod, node)| format!("{message}. Pod {pod:?} can't terminate: node {node:?} is not Ready"),
    )
}

/// The status of a DaemonJob whose spec can't be read: running Jobs continue, and are reconciled once the
/// spec can be read.
fn unreadable(observed: &Observed<'_>, failure: &Failure) -> Conclusion {
    let status = previous(observed);
    let verdict = Verdict {
        state: status.state.unwrap_or_default(),
        standing: Kstatus::Stalled,
        reason: failure.reason.clone(),
        message: failure.message.clone(),
    };
    standing_still(observed, &verdict, status, None)
}

/// The status of a DaemonJob that has finished: it stays as it was at its end.
fn finished(observed: &Observed<'_>, survey: &Survey<'_>) -> Conclusion {
    let status = previous(observed);
    let state = status.state.unwrap_or_default();
    let said = find(&status.conditions, READY);
    let (standing, word) = match state {
        FlowState::Succeed => (Kstatus::Ready, "Succeeded"),
        FlowState::Failed => (Kstatus::Stalled, status::why_failed(said)),
        FlowState::Pending | FlowState::Running | FlowState::Terminating => {
            (Kstatus::Reconciling, state.as_str())
        }
    };
    let verdict = Verdict {
        state,
        standing,
        reason: word.to_owned(),
        message: said.filter(|said| said.reason == word).map_or_else(
            || "Another controller ran the DaemonJob, which has finished".to_owned(),
            |said| said.message.clone(),
        ),
    };
    let status = DaemonJobStatus {
        completion_time: status.completion_time.clone().or(Some(Time(observed.now))),
        revision: Some(survey.memory.revision.clone()),
        retried: survey.memory.token.map(str::to_owned),
        ..status
    };
    standing_still(observed, &verdict, status, state.end())
}

fn standing_still(
    observed: &Observed<'_>,
    verdict: &Verdict,
    status: DaemonJobStatus,
    end: Option<End>,
) -> Conclusion {
    let status = DaemonJobStatus {
        observed_generation: observed.object.metadata.generation,
        state: Some(verdict.state),
        conditions: status::conditions(observed, verdict, end),
        ..status
    };
    Conclusion {
        events: events::transition(&previous(observed), &status),
        status,
        requeue_after: None,
    }
}

fn previous(observed: &Observed<'_>) -> DaemonJobStatus {
    observed.object.status.clone().unwrap_or_default()
}

/// One that goes on, or finishes with this pass.
fn going(
    observed: &Observed<'_>,
    plan: &Plan,
    made: &MadeJobs,
    asked: &Asked,
    survey: &Survey<'_>,
) -> Conclusion {
    let blocked = BlockedNodes::of(observed, survey, asked);
    let trouble = trouble(observed, survey, made, &blocked);
    let failed_nodes = failed_nodes(observed, survey);
    let verdict = status::verdict(&Case {
        observed,
        survey,
        trouble: plan.failure.as_ref().or(trouble.failure.as_ref()),
        failed: &failed_nodes,
        held: &held(observed, survey),
        blocked: &blocked,
    });
    let succeeded = survey.count(|standing| standing == NodeState::Succeeded);
    let skipped = survey.count(|standing| standing == NodeState::Skipped);
    let desired = survey.places.len();
    let is_finished = match survey.rules.completion {
        CompletionPolicy::Always => survey.is_over(),
        CompletionPolicy::Never => false,
    };
    let end = verdict.state.end().filter(|_| is_finished);
    let mut next = DaemonJobStatus {
        observed_generation: observed.object.metadata.generation,
        state: Some(verdict.state),
        progress: Some(format!("{succeeded}/{desired}")),
        desired: Some(number(desired)),
        active: Some(number(survey.count(NodeState::is_active))),
        succeeded: Some(number(succeeded)),
        failed: Some(number(
            survey.count(|standing| standing == NodeState::Failed),
        )),
        skipped: Some(number(survey.skipped.values().sum::<usize>() + skipped)),
        start_time: start_time(survey),
        completion_time: is_finished.then_some(Time(observed.now)),
        failed_nodes,
        blocked_nodes: blocked.told,
        wave: wave(survey, made),
        revision: Some(survey.memory.revision.clone()),
        job_status_list: job_status_list(survey),
        retried: survey.memory.token.map(str::to_owned),
        conditions: status::conditions(observed, &verdict, end),
        ..DaemonJobStatus::default()
    };
    let Trouble {
        failure: _,
        refused,
        requeue_after: deadline,
    } = trouble;
    let is_more_due = plan.failure.is_none() && is_more_due(observed, survey, made, &refused);
    let more = is_more_due.then_some(Duration::ZERO);
    ledger(observed, survey, refused).write(&mut next);
    let next_moment = requeue_after(survey, observed.now);
    Conclusion {
        events: events::events(
            &previous(observed),
            &next,
            survey,
            |place| failed_node(observed, survey, place),
            |place, job| run_failure(observed, survey, place, job),
        ),
        status: next,
        requeue_after: next_moment
            .into_iter()
            .chain(deadline)
            .chain(more)
            .chain(leave_recheck(made))
            .min(),
    }
}

/// The nodes whose Job is held, and its holder.
fn held<'s, 'a>(observed: &Observed<'a>, survey: &'s Survey<'a>) -> Vec<(&'s Place<'a>, Holder)> {
    let active = survey.places.iter();
    let active = active.filter(|place| place.standing == NodeState::Active);
    let held = active.filter_map(|place| {
        let job = place.job?;
        Some((place, holder(job, observed.pods_of(job))?))
    });
    held.collect()
}

/// Whether a Job is due that was not tried in this reconcile: more Jobs are due than one reconcile creates,
/// or the Job became due only now. A Job that was refused before waits until the refusals end, not for the
/// next reconcile.
fn is_more_due(
    observed: &Observed<'_>,
    survey: &Survey<'_>,
    made: &MadeJobs,
    refused: &BTreeSet<String>,
) -> bool {
    let is_granted = made.values().any(|made| matches!(made, MadeJob::Job(_)));
    let chosen = chosen(survey, refused, observed.now);
    chosen.iter().any(|place| {
        let was_tried = made.contains_key(place.uid);
        !was_tried && (is_granted || !refused.contains(&place.digest))
    })
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// When the first Job of this revision was created.
fn start_time(survey: &Survey<'_>) -> Option<Time> {
    let known = survey
        .memory
        .status
        .and_then(|status| status.start_time.clone());
    known.or_else(|| {
        let is_of_now = |marks: Marks<'_>| marks.revision == survey.memory.revision;
        let jobs = survey.jobs.iter();
        let jobs = jobs.filter(|job| Marks::of(&job.metadata).is_some_and(is_of_now));
        let times = jobs.filter_map(|job| job.metadata.creation_timestamp.as_ref());
        times.min_by_key(|time| time.0).cloned()
    })
}

/// The wave that began last: it begins when the first of its Jobs is wanted, whether or not the API server
/// grants it.
fn wave(survey: &Survey<'_>, made: &MadeJobs) -> Option<daemon_job::Wave> {
    if !survey.rules.has_waves() {
        return None;
    }
    let known = survey.memory.status.and_then(|status| status.wave.clone());
    let is_wanted = |place: &&Place<'_>| made.contains_key(place.uid);
    let wanted = survey.places.iter().rev().find(is_wanted);
    let wanted = wanted.map(|place| &place.wave);
    let begun = survey.frontier.begun.as_ref();
    let Some(started) = wanted.max(begun) else {
        return known;
    };
    let end = survey.frontier.end.filter(|_| begun == Some(started));
    Some(daemon_job::Wave {
        name: started.as_str().to_owned(),
        completion_time: end.map(Time),
    })
}

/// What is remembered of each node. Deleted nodes are forgotten; but an empty list of nodes is not trusted.
fn ledger(observed: &Observed<'_>, survey: &Survey<'_>, refused: BTreeSet<String>) -> Ledger {
    if observed.nodes.is_empty() {
        return survey.memory.ledger.clone();
    }
    let mut ledger = Ledger {
        started: survey.remembered.clone(),
        refused,
        canaries: canaries(survey),
        waiting: waiting(survey),
        ..Ledger::default()
    };
    for place in &survey.places {
        let digest = place.digest.clone();
        match place.standing {
            NodeState::Succeeded => {
                ledger.completed.insert(digest);
            }
            NodeState::Failed => {
                ledger.failed.insert(digest, place.tries.attempts);
            }
            NodeState::Skipped if place.tries.attempts == 0 => {}
            NodeState::Due
            | NodeState::Lost(_)
            | NodeState::Again(_)
            | NodeState::Replacing
            | NodeState::Active
            | NodeState::Ending
            | NodeState::Skipped => {
                if place.tries.attempts > 0 {
                    ledger.started.insert(digest, place.tries);
                }
            }
        }
    }
    ledger
}

/// The nodes that are, or will be, waited for. Nodes that have had a Job are always waited for, so they are
/// not listed.
fn waiting(survey: &Survey<'_>) -> BTreeMap<String, Wait> {
    let mut waiting = survey.waits.clone();
    waiting
        .retain(|digest, wait| *wait != Wait::Expected || !survey.remembered.contains_key(digest));
    for place in &survey.places {
        let is_missing = place.standing == NodeState::Skipped || place.is_absent();
        let is_to_come = place.standing == NodeState::Due && place.tries.attempts == 0;
        if !is_missing && !is_to_come {
            waiting.remove(&place.digest);
        }
    }
    waiting
}

/// The canaries, once one of them has begun: they stay the canaries, even if nodes join, leave or are
/// relabelled later.
fn canaries(survey: &Survey<'_>) -> BTreeSet<String> {
    let canaries = survey
        .places
        .iter()
        .filter(|place| place.wave == Wave::Canary);
    if !canaries.clone().any(Place::has_begun) {
        return survey.memory.ledger.canaries.clone();
    }
    canaries.map(|place| place.digest.clone()).collect()
}

/// The status of each Job, if there are few.
fn job_status_list(survey: &Survey<'_>) -> BTreeMap<String, Map<String, Value>> {
    if survey.jobs.len() > JOBS {
        return BTreeMap::new();
    }
    let mut bytes = 0;
    let list = survey.jobs.iter().map(|job| {
        let status = json!(job.status.clone().unwrap_or_default());
        bytes += status.to_string().len();
        let key = format!("{}/{}", job.name_any(), job.namespace().unwrap_or_default());
        (key, status.as_object().cloned().unwrap_or_default())
    });
    let list = list.collect();
    if bytes > JOBS_BYTES {
        return BTreeMap::new();
    }
    list
}
