//! A CollaSet as the driver sees it: which writes its plan means, in which order, and what came of them.

use operon_api::{colla_set::CollaSetStatus, keys};
use serde_json::Value;

use super::{
    Seen, claim_template, claim_wait,
    conclude::conclude,
    context, new_pod,
    plan::{Plan, plan},
    revision,
};
use crate::driver::{self, Asked, Batch, Claim, Conclusion, Done, Kind, Question, Start, Write};

/// How many claims are created in one reconcile even if some are refused.
const CLAIMS: usize = 16;

/// The decisions about a CollaSet.
#[derive(Debug)]
pub struct Driven;

impl Kind for Driven {
    type Seen = Seen;
    type Plan = Plan;
    type Status = CollaSetStatus;

    fn plan(seen: &Seen) -> Plan {
        plan(seen)
    }

    fn batches(seen: &Seen, plan: &Plan) -> Vec<Batch> {
        let Plan {
            problem,
            end,
            revision,
            renumber,
            context,
            create,
            held: _,
            claims,
            claim_waits: _,
            claim_changes,
            pair,
            edit,
            delete,
            scaled_in,
            scale_waits: _,
            update_waits: _,
            impossible: _,
            requeue_after: _,
        } = plan;
        let writes = |effects: &[_]| effects.iter().cloned().map(Write::Do).collect::<Vec<_>>();
        // The set is held before its first pod exists, and goes when none is left.
        let is_held = match end {
            None => problem.is_none().then_some(true),
            Some(end) => end.left.is_none().then_some(false),
        };
        let hold = is_held.and_then(|is_held| {
            driver::set_finalizer(&*seen.object, keys::COLLA_SET_FINALIZER, is_held)
        });
        let pair = if hold.is_some() { &[][..] } else { pair };
        let claims = if hold.is_some() { &[][..] } else { claims };
        let hold = hold.map(|hold| Batch::dependent([Write::Do(hold)]));
        let mut batches: Vec<_> = hold.into_iter().chain(slow_start(create)).collect();
        let (first, more) = claims.split_at(claims.len().min(CLAIMS));
        batches.push(Batch::independent(first.iter().cloned()));
        // What fails keeps nothing else from being done.
        batches.extend([
            Batch::independent(pair.iter().cloned().map(Write::Make)),
            Batch::independent(context.iter().cloned()),
            Batch::independent(revision.iter().cloned().map(Write::Make)),
            Batch::independent(renumber.iter().cloned().map(Write::Do)),
            // The claims of a pod leave the set before the pod does: without it they can't be found.
            Batch::independent(writes(claim_changes)),
            Batch::independent(writes(edit)),
            Batch::independent(writes(delete)),
            Batch::dependent(scaled_in.iter().cloned().map(Write::Do)),
        ]);
        // Where the API server refuses some claims, it is not asked for hundreds.
        let more = (!more.is_empty()).then(|| Batch::dependent(more.iter().cloned()));
        batches.extend(more);
        batches
    }

    fn claim(seen: &Seen, start: &Start, found: &Value) -> Claim {
        match &*start.subject {
            revision::SUBJECT => revision::claim(&seen.object, found),
            // The cache has it now, so the next reconcile changes it.
            context::SUBJECT => Claim::Mine,
            _ if claim_template::is_start(start) => {
                claim_template::claim(&seen.object, start, found)
            }
            _ => new_pod::claim(&seen.object, start, found),
        }
    }

    fn question(seen: &Seen) -> Option<Question> {
        claim_wait::question(seen)
    }

    fn conclude(
        seen: &Seen,
        plan: &Plan,
        done: &Done,
        asked: &Asked,
    ) -> Option<Conclusion<CollaSetStatus>> {
        let goes = plan.end.as_ref().is_some_and(|end| end.left.is_none());
        (!goes || !done.refused.is_empty()).then(|| conclude(seen, plan, done, asked))
    }

    fn is_progress(previous: &CollaSetStatus, next: &CollaSetStatus) -> bool {
        let turning_points = |status: &CollaSetStatus| {
            let conditions = status.conditions.iter();
            let conditions: Vec<_> = conditions
                .map(|one| (one.type_.clone(), one.status.clone(), one.reason.clone()))
                .collect();
            (
                status.observed_generation,
                status.current_revision.clone(),
                status.updated_revision.clone(),
                status.selector.clone(),
                status.created_pods,
                conditions,
            )
        };
        turning_points(previous) == turning_points(next)
    }
}

/// New pods come in batches of 1, 2, 4 and so on, each only after those before it were created: what the API
/// server refuses once is not tried a thousand times.
fn slow_start(create: &[Start]) -> Vec<Batch> {
    let mut batches = Vec::new();
    let (mut rest, mut size) = (create, 1);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        batches.push(Batch::dependent(batch.iter().cloned().map(Write::Make)));
        (rest, size) = (later, size * 2);
    }
    batches
}
