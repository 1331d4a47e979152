//! What a reconcile writes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;

use super::{
    Seen,
    claims::Claims,
    deletion::{End, end},
    edits::Edits,
    ids::Ids,
    membership,
    new_pod::{New, new_pods},
    pair::{Pairs, replaces},
    pods::Pods,
    revision::Revisions,
    scale::{SCALE_IN, Scale},
    selection::selector,
    update::{Update, end_operation},
};
use crate::{
    action::{Effect, Failure, Propagation, Severity},
    driver::{self, Start, Write},
};

/// What a reconcile writes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Why nothing is written, if the spec allows nothing.
    pub(super) problem: Option<Failure>,
    /// What becomes of a set that is being deleted.
    pub(super) end: Option<End>,
    /// The revision of the template, if there is none.
    pub(super) revision: Option<Start>,
    /// The revision of the template becomes the newest.
    pub(super) renumber: Option<Effect>,
    /// What the context must say of the ids.
    pub(super) context: Option<Write>,
    /// The new pods.
    pub(super) create: Vec<Start>,
    /// The names that new pods need and that pods have which are not gone yet.
    pub(super) held: Vec<String>,
    /// The claims that must exist before new pods are created.
    pub(super) claims: Vec<Write>,
    /// The ids of new pods that wait for claims, and what must happen first.
    pub(super) claim_waits: Vec<(u32, String)>,
    /// Claims follow their pods, and get the owners that they shall have.
    pub(super) claim_changes: Vec<Effect>,
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
    pub(super) requeue_after: Option<Duration>,
}

/// How long a finished pod keeps its place.
const FINISHED: Duration = Duration::from_secs(10);

/// How long ago a pod was created.
fn age(pod: &Pod, seen: &Seen) -> Duration {
    let created = pod.metadata.creation_timestamp.as_ref();
    let age = created.map(|created| seen.now.duration_since(created.0));
    age.map_or(FINISHED, |age| Duration::try_from(age).unwrap_or_default())
}

/// What reports the deletion of pods for a scale-in.
fn scaled_in(scale: &Scale, replicas: i32) -> Option<Effect> {
    (!scale.deleted.is_empty()).then(|| Effect::Event {
        severity: Severity::Normal,
        reason: "ScaledIn".to_owned(),
        message: format!(
            "scaled in to {replicas}: deleted {}",
            scale.deleted.join(", ")
        ),
    })
}

/// What is written of a set that is paused, or whose revision does not exist yet.
fn held(seen: &Seen, revisions: &Revisions<'_>, pods: &Pods<'_>, is_paused: bool) -> Plan {
    let mut edits = Edits::default();
    // No pod stays out of service for an operation that does not go on.
    for pod in pods.active.iter().filter(|_| is_paused) {
        edits.take_back(SCALE_IN, pod);
        end_operation(pod, &mut edits);
    }
    Plan {
        revision: revisions.start(&seen.object),
        renumber: revisions.renumber(),
        claim_changes: Claims::of(seen, revisions).settle(),
        edit: edits.into_effects(),
        ..Plan::default()
    }
}

/// Decides what is written.
pub(super) fn plan(seen: &Seen) -> Plan {
    let object = &*seen.object;
    if object.metadata.deletion_timestamp.is_some() {
        return end(seen);
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
    let is_paused = object.spec.paused == Some(true);
    // Pods are labelled with the name of their revision, so the revision comes first.
    let pods = Pods::of(seen, &selector);
    let Some(updated) = revisions.updated.filter(|_| !is_paused) else {
        return held(seen, &revisions, &pods, is_paused);
    };
    let mut edits = Edits::default();
    let mut pairs = Pairs::of(&pods);
    membership::change(object, &pods, &mut edits);
    pairs.change(&pods, &updated.name_any(), seen.now, &mut edits);
    let scale = Scale::of(seen, &pods, &pairs, &mut edits);
    // What leaves is not replaced: its new pod would leave with it. Nor is what has a new pod that is excluded
    // and has not left the set.
    let has_excluded = |pod: &Pod| pods.exclude.iter().any(|new| replaces(new, pod));
    pairs
        .alone
        .retain(|pod| !scale.leaving.contains(&pod.name_any()) && !has_excluded(pod));
    let update = Update::of(seen, &pods, &pairs, &revisions, &scale, &mut edits);
    // What has just finished keeps its place for a moment: a pod that ends immediately is not created again immediately.
    let (young, finished): (Vec<&Pod>, Vec<&Pod>) = pods
        .finished
        .iter()
        .partition(|pod| age(pod, seen) < FINISHED);
    let missing = scale.missing.saturating_sub(pods.adopt.len());
    let missing = missing.saturating_sub(young.len());
    // What is excluded makes room when it has left the set.
    let missing = missing.saturating_sub(pods.exclude.len());
    let requeue = (!young.is_empty()).then_some(FINISHED);
    let finished = finished.into_iter();
    let finished = finished.map(|pod| driver::delete(pod, Propagation::Background));
    // What leaves the set has its id until it has left.
    let keeping = young.iter().chain(&pods.exclude).chain(&pods.release);
    let keeping: Vec<&Pod> = keeping.copied().collect();
    let claims = Claims::of(seen, &revisions);
    let ids = Ids::of(seen, &pods, &pairs, &scale, &claims, &keeping, missing);
    ids.number(&mut edits);
    let mut edit = edits.into_effects();
    edit.extend(update.patches);
    let scaled_in = scaled_in(&scale, object.spec.replicas);
    let mut delete = scale.deletions;
    delete.extend(update.deletions);
    delete.extend(finished);
    delete.extend(revisions.prune(seen));
    let (useless, recheck) = claims.deletions(seen, &pods, &updated.name_any(), &ids.living);
    delete.extend(useless);
    let requeue_after = requeue
        .into_iter()
        .chain(scale.requeue_after)
        .chain(update.requeue_after)
        .chain(recheck)
        .min();
    let New {
        beside,
        instead,
        held,
        claims: missing_claims,
        claim_waits,
    } = new_pods(seen, &pods, &pairs, &revisions, updated, &ids, &claims);
    Plan {
        problem: None,
        end: None,
        revision: revisions.start(object),
        renumber: revisions.renumber(),
        context: ids.write,
        create: instead,
        held,
        claims: claims
            .again(&pods)
            .into_iter()
            .chain(missing_claims)
            .collect(),
        claim_waits,
        claim_changes: claims.changes(&pods),
        pair: beside,
        edit,
        delete,
        scaled_in,
        scale_waits: scale.waiting,
        update_waits: update.waiting,
        impossible: update.impossible,
        requeue_after,
    }
}
