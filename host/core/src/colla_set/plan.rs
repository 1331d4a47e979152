//! What a reconcile writes.

use super::{
    Seen,
    edits::Edits,
    membership,
    new_pod::{New, new_pods},
    pair::Pairs,
    pods::Pods,
    revision::Revisions,
    scale::Scale,
    selection::selector,
    update::Update,
};
use crate::{
    action::{Effect, Failure, Propagation, Severity},
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
    /// The new pods of pairs.
    pub(super) pair: Vec<Start>,
    /// Pods are adopted, numbered and released; scale-ins begin and are taken back.
    pub(super) edit: Vec<Effect>,
    /// Pods that are out of service or have finished, and revisions of which there are too many.
    pub(super) delete: Vec<Effect>,
    /// What the deletion of pods for a scale-in is reported by.
    pub(super) scaled_in: Option<Effect>,
    /// The pods whose scale-in does not get on, and what they wait for.
    pub(super) scale_waits: Vec<(String, String)>,
    /// The pods whose update does not get on, and what they wait for.
    pub(super) update_waits: Vec<(String, String)>,
    /// The pods that cannot be updated in place though they must be, and the field that differs.
    pub(super) impossible: Vec<(String, String)>,
    /// When the next update may act.
    pub(super) requeue_after: Option<std::time::Duration>,
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
    let update = Update::of(seen, &pods, &pairs, &revisions, &scale, &mut edits);
    // What is adopted counts, and has a number, in the next reconcile.
    let missing = if pods.adopt.is_empty() {
        scale.missing
    } else {
        0
    };
    let scaled_in = (!scale.deleted.is_empty()).then(|| Effect::Event {
        severity: Severity::Normal,
        reason: "ScaledIn".to_owned(),
        message: format!(
            "scaled in to {}: deleted {}",
            object.spec.replicas,
            scale.deleted.join(", ")
        ),
    });
    let finished = pods.finished.iter();
    let finished = finished.map(|pod| driver::delete(*pod, Propagation::Background));
    let mut edit = edits.into_effects();
    edit.extend(update.patches);
    let mut delete = scale.deletions;
    delete.extend(update.deletions);
    delete.extend(finished);
    delete.extend(revisions.prune(seen));
    let New { beside, instead } = new_pods(seen, &pods, &pairs, &revisions, updated, missing);
    Plan {
        problem: None,
        revision,
        renumber: revisions.renumber(),
        create: instead,
        pair: beside,
        edit,
        delete,
        scaled_in,
        scale_waits: scale.waiting,
        update_waits: update.waiting,
        impossible: update.impossible,
        requeue_after: update.requeue_after,
    }
}
