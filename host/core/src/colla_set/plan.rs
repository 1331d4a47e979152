//! What a reconcile writes.

use super::{
    Seen, edits::Edits, membership, new_pod::starts, pair::Pairs, pods::Pods, revision::Revisions,
    scale::Scale, selection::selector,
};
use crate::{
    action::{Effect, Failure, Propagation},
    driver::{self, Start},
};

/// What a reconcile writes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Why nothing is written, if the spec allows nothing.
    pub(super) problem: Option<Failure>,
    /// The revision of the template, if there is none.
    pub(super) revision: Option<Start>,
    /// The revision of the template becomes the newest.
    pub(super) renumber: Option<Effect>,
    /// The new pods.
    pub(super) create: Vec<Start>,
    /// Pods are adopted, numbered and released; scale-ins begin and are taken back.
    pub(super) edit: Vec<Effect>,
    /// Pods that are out of service or have finished, and revisions of which there are too many.
    pub(super) delete: Vec<Effect>,
    /// The pods that cannot be scaled in, and the operations that they wait for.
    pub(super) blocked: Vec<(String, Vec<String>)>,
}

/// Decides what is written.
pub(super) fn plan(seen: &Seen) -> Plan {
    let object = &*seen.object;
    if object.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let selector = match selector(object) {
        Ok(selector) => selector,
        Err(problem) => {
            return Plan {
                problem: Some(problem),
                ..Plan::default()
            };
        }
    };
    let revisions = Revisions::of(seen);
    let revision = revisions.start(object);
    let is_paused = object.spec.paused == Some(true);
    // Pods are labelled with the name of their revision, so the revision comes first.
    let Some(updated) = revisions.updated.filter(|_| !is_paused) else {
        return Plan {
            revision,
            renumber: revisions.renumber(),
            ..Plan::default()
        };
    };
    let pods = Pods::of(seen, &selector);
    let pairs = Pairs::of(&pods);
    let mut edits = Edits::default();
    membership::change(object, &pods, &mut edits);
    pairs.change(&pods, seen.now, &mut edits);
    let scale = Scale::of(seen, &pods, &pairs, &mut edits);
    let missing = scale.missing.saturating_sub(pods.adopt.len());
    let finished = pods.finished.iter();
    let finished = finished.map(|pod| driver::delete(*pod, Propagation::Background));
    let mut delete = scale.deletions;
    delete.extend(finished);
    delete.extend(revisions.prune(seen));
    Plan {
        problem: None,
        revision,
        renumber: revisions.renumber(),
        create: starts(seen, &pods, &pairs, &revisions, updated, missing),
        edit: edits.into_effects(),
        delete,
        blocked: scale.blocked,
    }
}
