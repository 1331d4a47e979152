//! The conclusion of a reconcile: the next status, and the Events for its transitions. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time};
use kube::ResourceExt;
use operon_api::job_flow::{FlowState, JobFlowStatus};

use super::{
    Observed,
    assess::{Assessment, assess},
    events::events,
    plan::{self, Plan},
    status,
    step_jobs::StepJobs,
};
use crate::{
    driver::{self, Asked, Question, Start},
    jobs::{MadeJob, MadeJobs, blocked::blocked, owned::leave_recheck},
};

/// The conclusion of a reconcile.
pub(super) type Conclusion = driver::Conclusion<JobFlowStatus>;

/// What must be asked before the reconcile can be concluded: the first of the Jobs that wait for what their
/// pods do not say, if the status does not say it yet.
pub(super) fn question(observed: &Observed<'_>) -> Option<Question> {
    let asks = |job: &Arc<Job>| {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let pods = observed.pods.get(uid).map_or(&[][..], Vec::as_slice);
        blocked(job, pods).is_some_and(|blocked| blocked.ask.is_some())
    };
    if observed.flow.metadata.deletion_timestamp.is_some() || !observed.jobs.iter().any(asks) {
        return None;
    }
    assess(observed, None, &Asked::default()).question
}

/// Concludes a pass. `observed` is what there is after the plan was carried out, `made` what came of
/// `plan.start` by the step's name, `asked` the answer to the [question].
pub(super) fn conclude(
    observed: &Observed<'_>,
    plan: &Plan,
    made: &MadeJobs,
    asked: &Asked,
) -> Conclusion {
    let previous = observed.flow.status.clone().unwrap_or_default();
    if observed.flow.metadata.deletion_timestamp.is_some() {
        return terminating(observed, previous);
    }
    let assessment = assess(observed, Some(made), asked);
    // What has become due within this pass is not left to a timer that is set already.
    let is_late = assessment.start.iter().any(|start| !is_done(start, made));
    let state = status::state(&assessment, &previous);
    let verdict = status::verdict(observed, &assessment, state);
    let jobs = StepJobs::of(observed, Some(made));
    let ended = || {
        previous
            .completion_time
            .clone()
            .filter(|_| assessment.was_finished)
    };
    let next = JobFlowStatus {
        observed_generation: observed.flow.metadata.generation,
        state: Some(state),
        progress: status::progress(&assessment.steps),
        start_time: status::start_time(&previous, &assessment.steps),
        completion_time: assessment
            .is_finished
            .then(|| ended().unwrap_or(Time(observed.now))),
        conditions: verdict.conditions(observed, state.end().filter(|_| assessment.is_finished)),
        steps: assessment
            .steps
            .into_iter()
            .chain(assessment.orphans)
            .collect(),
        job_status_list: BTreeMap::new(),
        retried: assessment.retried,
    };
    let next = JobFlowStatus {
        job_status_list: status::job_status_list(observed, &jobs, &next.steps),
        ..next
    };
    let expiry = plan::expiry(observed.flow, &next, observed).filter(|_| !plan.expire);
    let follow_up = is_late || plan::has_follow_up(observed, &next);
    Conclusion {
        events: events(observed.flow, &previous, &next),
        requeue_after: assessment
            .look_after
            .into_iter()
            .chain(verdict.look_after)
            .chain(leave_recheck(made))
            .chain(expiry)
            .chain(follow_up.then_some(Duration::ZERO))
            .min(),
        status: next,
    }
}

/// Whether this reconcile created the Job, or tried to.
fn is_done(start: &Start, made: &MadeJobs) -> bool {
    match made.get(&start.subject) {
        Some(MadeJob::Job(job)) => start.names.contains(&job.name_any()),
        Some(MadeJob::Refused(_) | MadeJob::Leaving) => true,
        None => false,
    }
}

/// A flow that is being deleted: its Jobs go with it.
fn terminating(observed: &Observed<'_>, previous: JobFlowStatus) -> Conclusion {
    let state = FlowState::Terminating;
    let verdict = status::verdict(observed, &Assessment::default(), state);
    Conclusion {
        status: JobFlowStatus {
            observed_generation: observed.flow.metadata.generation,
            state: Some(state),
            conditions: verdict.conditions(observed, None),
            ..previous
        },
        events: Vec::new(),
        requeue_after: None,
    }
}
