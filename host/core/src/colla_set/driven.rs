//! A CollaSet as the driver sees it: which writes its plan means, in which order, and what came of them.

use operon_api::colla_set::CollaSetStatus;
use serde_json::Value;

use super::{
    Seen,
    conclude::conclude,
    new_pod,
    plan::{Plan, plan},
    revision,
};
use crate::driver::{Asked, Batch, Claim, Conclusion, Done, Kind, Start, Write};

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

    fn batches(_seen: &Seen, plan: &Plan) -> Vec<Batch> {
        let Plan {
            problem: _,
            revision,
            renumber,
            create,
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
        let mut batches = slow_start(create);
        // What fails keeps nothing else from being done.
        batches.extend([
            Batch::independent(pair.iter().cloned().map(Write::Make)),
            Batch::independent(revision.iter().cloned().map(Write::Make)),
            Batch::independent(renumber.iter().cloned().map(Write::Do)),
            Batch::independent(writes(edit)),
            Batch::independent(writes(delete)),
            Batch::dependent(scaled_in.iter().cloned().map(Write::Do)),
        ]);
        batches
    }

    fn claim(seen: &Seen, start: &Start, found: &Value) -> Claim {
        if start.subject == revision::SUBJECT {
            revision::claim(&seen.object, found)
        } else {
            new_pod::claim(&seen.object, start, found)
        }
    }

    fn conclude(
        seen: &Seen,
        plan: &Plan,
        done: &Done,
        _asked: &Asked,
    ) -> Option<Conclusion<CollaSetStatus>> {
        Some(conclude(seen, plan, done))
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
