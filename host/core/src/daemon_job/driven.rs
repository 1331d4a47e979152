//! A DaemonJob as the driver sees it: which writes its plan means, in which order, and what came of them.

use operon_api::daemon_job::DaemonJobStatus;
use serde_json::Value;

use super::{
    Seen,
    blocked::question,
    conclude::conclude,
    job::{claim, is_foreign},
    plan::{Plan, adopts, plan},
};
use crate::{
    action::Propagation,
    driver::{self, Asked, Batch, Claim, Conclusion, Done, Kind, Question, Start, Write},
    jobs::{all_made, job_of},
};

/// The decisions about a DaemonJob.
#[derive(Debug)]
pub struct Driven;

impl Kind for Driven {
    type Seen = Seen;
    type Plan = Plan;
    type Status = DaemonJobStatus;

    fn plan(seen: &Seen) -> Plan {
        plan(&seen.observed())
    }

    fn batches(_seen: &Seen, plan: &Plan) -> Vec<Batch> {
        let Plan {
            start,
            adjust,
            delete,
            failure: _,
            requeue_after: _,
        } = plan;
        let adjust = adjust
            .iter()
            .map(|(job, patch)| driver::patch(&**job, patch.clone()));
        let delete = delete
            .iter()
            .map(|job| driver::delete(&**job, Propagation::Foreground));
        // What fails keeps nothing else from being done.
        vec![
            Batch::independent(start.iter().cloned().map(Write::Make)),
            Batch::independent(adjust.map(Write::Do)),
            Batch::independent(delete.map(Write::Do)),
        ]
    }

    fn claim(seen: &Seen, start: &Start, found: &Value) -> Claim {
        let object = &seen.object;
        let adopts = adopts(object);
        job_of(found).map_or(Claim::Others, |found| {
            claim(object, start, adopts, &found, seen.now)
        })
    }

    fn question(seen: &Seen) -> Option<Question> {
        let is_ours = !is_foreign(&seen.object);
        is_ours.then(|| question(&seen.observed())).flatten()
    }

    fn conclude(
        seen: &Seen,
        plan: &Plan,
        done: &Done,
        asked: &Asked,
    ) -> Option<Conclusion<DaemonJobStatus>> {
        let is_ours = !is_foreign(&seen.object);
        is_ours.then(|| conclude(&seen.observed(), plan, &all_made(done), asked))
    }
}
