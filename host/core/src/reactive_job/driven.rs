//! A ReactiveJob as the driver sees it: which writes its plan means, in which order, and what came of them.

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use operon_api::{
    ReactiveJob, keys,
    reactive_job::{Inputs, ReactiveJobStatus},
};
use serde_json::{Value, json};

use super::{
    Seen,
    conclude::{StartResult, conclude, conclude_end, question},
    family, job,
    plan::{End, JobPlan, Plan, plan},
};
use crate::{
    action::Propagation,
    driver::{self, Asked, Batch, Claim, Conclusion, Done, Kind, Question, Start, Write},
    jobs::{job_of, owned::owner},
};

/// The decisions about a ReactiveJob.
#[derive(Debug)]
pub struct Driven;

/// The subject of the one Job that a plan may create.
const NEXT: &str = "next";

impl Kind for Driven {
    type Seen = Seen;
    type Plan = Plan;
    type Status = ReactiveJobStatus;

    fn plan(seen: &Seen) -> Plan {
        plan(&seen.observed())
    }

    fn batches(seen: &Seen, plan: &Plan) -> Vec<Batch> {
        match plan {
            Plan::End(end) => ending(&seen.object, end),
            Plan::Run(run) => running(&seen.object, run),
        }
    }

    fn claim(_seen: &Seen, start: &Start, found: &Value) -> Claim {
        job_of(found).map_or(Claim::Others, |found| job::claim(&start.body, &found))
    }

    fn question(seen: &Seen) -> Option<Question> {
        let is_deleted = seen.object.metadata.deletion_timestamp.is_some();
        question(&seen.observed()).filter(|_| !is_deleted)
    }

    fn conclude(
        seen: &Seen,
        plan: &Plan,
        done: &Done,
        asked: &Asked,
    ) -> Option<Conclusion<ReactiveJobStatus>> {
        match plan {
            Plan::End(end) if end.lets_go() => None,
            Plan::End(end) => Some(conclude_end(&seen.observed(), end)),
            Plan::Run(run) => {
                let made = made(run, done);
                Some(conclude(&seen.observed(), run, &made, asked))
            }
        }
    }
}

/// The Jobs go first, the object last.
fn ending(object: &ReactiveJob, end: &End) -> Vec<Batch> {
    let End::Delete {
        release,
        delete,
        left: _,
    } = end
    else {
        return Vec::new();
    };
    let let_go = driver::set_finalizer(object, keys::REACTIVE_JOB_FINALIZER, false);
    vec![
        Batch::dependent(release.iter().filter_map(|job| released(job))),
        Batch::dependent(delete.iter().map(|job| deleted(job))),
        Batch::dependent(let_go.filter(|_| end.lets_go()).map(Write::Do)),
    ]
}

/// Each of these stops at the first write that fails: no Job is created for an object without our
/// finalizer, and no Job of the history is deleted before the new Job exists.
fn running(object: &ReactiveJob, run: &JobPlan) -> Vec<Batch> {
    let JobPlan {
        adopt,
        start,
        adjust,
        release,
        delete,
        waiting: _,
        inputs: _,
        pending: _,
        deletions: _,
        requeue_after: _,
    } = run;
    let hold = driver::set_finalizer(object, keys::REACTIVE_JOB_FINALIZER, true);
    let start = start.as_ref().map(|start| Start {
        subject: NEXT.to_owned(),
        names: start.names.clone(),
        body: start.body.clone(),
    });
    let adjust = adjust
        .as_ref()
        .map(|(job, patch)| driver::patch(&**job, patch.clone()));
    // An adopted Job has another version by then: the next reconcile releases it.
    let is_unchanged = |job: &&_| !adopt.contains(job);
    vec![
        Batch::dependent(hold.map(Write::Do)),
        Batch::dependent(adopt.iter().map(|job| adopted(object, job))),
        Batch::dependent(start.map(Write::Make)),
        Batch::dependent(adjust.map(Write::Do)),
        Batch::dependent(
            release
                .iter()
                .filter(is_unchanged)
                .filter_map(|job| released(job)),
        ),
        Batch::dependent(delete.iter().map(|job| deleted(job))),
    ]
}

/// Puts the marks of the object's own on a Job that has none. What another operator wrote stays, so that
/// it finds its Jobs again.
fn adopted(object: &ReactiveJob, job: &Job) -> Write {
    let generation = family::generation(object, job)
        .unwrap_or_default()
        .to_string();
    let patch = json!({"metadata": {
        "labels": {keys::CONTROLLER_UID: object.uid()},
        "annotations": {keys::ADOPTED: job.uid(), keys::CONTROLLER_GENERATION: generation},
        "ownerReferences": [owner(object)],
    }});
    Write::Do(driver::unchanged(job, patch))
}

fn released(job: &Job) -> Option<Write> {
    driver::set_finalizer(job, keys::REACTIVE_JOB_FINALIZER, false).map(Write::Do)
}

fn deleted(job: &Job) -> Write {
    Write::Do(driver::delete(job, Propagation::Foreground))
}

/// The result of creating the Job, or of changing the newest.
fn made(run: &JobPlan, done: &Done) -> StartResult {
    let refused = || {
        done.refused
            .first()
            .map_or(StartResult::Nothing, |refusal| {
                StartResult::Refused(refusal.into())
            })
    };
    match (&run.start, done.made.get(NEXT)) {
        (Some(start), Some(driver::Made::There(job))) => StartResult::Job(Inputs {
            job_uid: job["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            ..start.inputs.clone()
        }),
        (Some(_), Some(driver::Made::Refused(refusal))) => StartResult::Refused(refusal.into()),
        (Some(_), Some(driver::Made::Leaving) | None) | (None, _) => refused(),
    }
}
