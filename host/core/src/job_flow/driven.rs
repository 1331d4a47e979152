//! A JobFlow as the driver sees it: which writes its plan means, in which order, and what came of them.

use operon_api::job_flow::JobFlowStatus;
use serde_json::Value;

use super::{
    Seen,
    conclude::{conclude, question},
    make::claim,
    plan::{Plan, is_foreign, meanwhile, plan},
};
use crate::{
    action::{Effect, Propagation, Severity},
    driver::{self, Asked, Batch, Claim, Conclusion, Done, Kind, Question, Start, Write},
    jobs::{all_made, job_of},
};

/// The decisions about a JobFlow.
#[derive(Debug)]
pub struct Driven;

impl Kind for Driven {
    type Seen = Seen;
    type Plan = Plan;
    type Status = JobFlowStatus;

    fn plan(seen: &Seen) -> Plan {
        plan(&seen.observed())
    }

    fn batches(seen: &Seen, plan: &Plan) -> Vec<Batch> {
        let Plan {
            expire,
            delete,
            adjust,
            start,
            requeue_after: _,
        } = plan;
        if *expire {
            return expiring(seen);
        }
        let delete = delete
            .iter()
            .map(|job| driver::delete(&**job, Propagation::Foreground));
        let adjust = adjust
            .iter()
            .map(|(job, patch)| driver::patch(&**job, patch.clone()));
        // What fails keeps nothing else from being done.
        vec![
            Batch::independent(delete.map(Write::Do)),
            Batch::independent(adjust.map(Write::Do)),
            Batch::independent(start.iter().cloned().map(Write::Make)),
        ]
    }

    fn claim(seen: &Seen, start: &Start, found: &Value) -> Claim {
        let flow = &seen.flow;
        let now = seen.around.now;
        job_of(found).map_or(Claim::Others, |found| claim(flow, start, &found, now))
    }

    fn question(seen: &Seen) -> Option<Question> {
        let is_ours = !is_foreign(&seen.flow);
        is_ours.then(|| question(&seen.observed())).flatten()
    }

    fn conclude(
        seen: &Seen,
        plan: &Plan,
        done: &Done,
        asked: &Asked,
    ) -> Option<Conclusion<JobFlowStatus>> {
        let is_ours = !plan.expire && !is_foreign(&seen.flow);
        is_ours.then(|| conclude(&seen.observed(), plan, &all_made(done), asked))
    }

    fn meanwhile(seen: &Seen, sent: &JobFlowStatus) -> Vec<Start> {
        meanwhile(&seen.observed(), sent)
    }
}

/// The flow is deleted, and its Jobs with it, because it finished long enough ago.
fn expiring(seen: &Seen) -> Vec<Batch> {
    let ttl = seen
        .flow
        .spec
        .ttl_seconds_after_finished
        .unwrap_or_default();
    let delete = driver::delete_unchanged(&*seen.flow, Propagation::Background);
    let event = Effect::Event {
        severity: Severity::Normal,
        reason: "TTL".to_owned(),
        message: format!("deleted {ttl} s after it finished (spec.ttlSecondsAfterFinished)"),
    };
    vec![
        Batch::dependent([Write::Do(delete)]),
        Batch::dependent([Write::Do(event)]),
    ]
}
