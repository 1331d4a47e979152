//! Updates: how the pods of older revisions get the template as it is now, a few at a time, each out of
//! service meanwhile.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::ResourceExt;
use operon_api::{
    CollaSet,
    colla_set::{PodUpgradePolicy, UpdateStrategy},
    keys,
};

use super::{
    Seen, delay,
    edits::Edits,
    in_place::{self, Change},
    pair::{Pairs, is_stamp},
    pods::{Pods, is_available, revision},
    resources,
    revision::{Revisions, stored_claims, template},
    room,
    scale::{Scale, is_scaling_in, rank, waits_for},
};
use crate::{
    action::{Effect, PatchKind, Propagation},
    driver,
    pod_lifecycle::{
        adapter::{Adapter, Standing},
        labels::PREPARING_TO_DELETE,
    },
};

/// The operation that takes a pod out of service for an update.
pub(super) const UPDATE: Adapter<'static> = Adapter {
    id: keys::COLLA_SET_OPERATION,
    kind: "update",
};

/// What an update does besides changing labels.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// Changes of pods in place.
    pub(super) patches: Vec<Effect>,
    /// Deletions of pods that are created again.
    pub(super) deletions: Vec<Effect>,
    /// Pods that cannot be changed in place though they must be, and the field that differs.
    pub(super) impossible: Vec<(String, String)>,
    /// Pods that do not get on, and what they wait for.
    pub(super) waiting: Vec<(String, String)>,
    /// When the next update may act.
    pub(super) requeue_after: Option<Duration>,
}

/// Whether a pod that has not the revision of the template keeps its own because of its labels.
pub(super) fn is_left_out(object: &CollaSet, pod: &Pod) -> bool {
    object.is_updated_by_label() && !pod.labels().contains_key(keys::UPDATE_INCLUDED)
}

fn strategy(object: &CollaSet) -> UpdateStrategy {
    object.spec.update_strategy.clone().unwrap_or_default()
}

/// Whether the pod has the update operation of its set.
pub(super) fn is_updating(pod: &Pod) -> bool {
    UPDATE.has_begun(pod.labels())
}

/// Goes on with an update in place, finishes one that is done, brings back a pod that waits only for room on its
/// node, and takes back an update that has not acted. A pod that serves again is not deleted.
pub(super) fn end_operation<'a>(pod: &'a Pod, edits: &mut Edits<'a>) {
    if !in_place::is_under_way(pod) {
        return edits.take_back(UPDATE, pod);
    }
    if let Some(body) = in_place::resize(pod) {
        return edits.resize(pod, body);
    }
    let is_done = in_place::is_done(pod);
    if is_done {
        for note in in_place::notes(pod) {
            edits.unannotate(pod, note);
        }
    }
    if is_done || room::serves_meanwhile(pod) {
        match UPDATE.finish(pod.labels()) {
            Some(finish) => edits.labels(pod, finish),
            None => edits.take_back(UPDATE, pod),
        }
        // Another operation may have set it meanwhile.
        if UPDATE.has_begun(pod.labels()) && pod.labels().contains_key(PREPARING_TO_DELETE) {
            edits.unlabel(pod, PREPARING_TO_DELETE);
        }
    }
}

/// What an update works with.
struct Updater<'a, 'b> {
    seen: &'b Seen,
    revisions: &'b Revisions<'a>,
    updated: &'a ControllerRevision,
    strategy: UpdateStrategy,
    /// What changes from each older revision, by its name: most pods have the same one.
    changes: BTreeMap<String, Result<Change, String>>,
    done: Update,
}

impl Update {
    /// What brings the pods to the revision of the template that stay after scaling.
    pub(super) fn of<'a>(
        seen: &Seen,
        pods: &Pods<'a>,
        pairs: &Pairs<'a>,
        revisions: &Revisions<'a>,
        scale: &Scale,
        edits: &mut Edits<'a>,
    ) -> Self {
        let Some(updated) = revisions.updated else {
            return Self::default();
        };
        let name = updated.name_any();
        let mut work = Updater {
            seen,
            revisions,
            updated,
            strategy: strategy(&seen.object),
            changes: BTreeMap::new(),
            done: Self::default(),
        };
        let members = pods.active.iter().copied().filter(|pod| !pairs.is_new(pod));
        let (going, staying): (Vec<_>, Vec<_>) = members
            .filter(|pod| !scale.leaving.contains(&pod.name_any()) && !is_scaling_in(pod))
            .partition(|pod| pod.labels().contains_key(keys::TO_DELETE));
        // Its deletion waits for every other operation.
        for pod in going {
            edits.take_back(UPDATE, pod);
        }
        let (current, outdated): (Vec<_>, Vec<_>) = staying
            .into_iter()
            .partition(|pod| revision(pod) == Some(&name));
        for pod in &current {
            if pod.labels().contains_key(keys::UPDATE_INCLUDED) && !in_place::is_unfinished(pod) {
                edits.unlabel(pod, keys::UPDATE_INCLUDED);
            }
        }
        let (left_out, mut outdated): (Vec<_>, Vec<_>) = outdated
            .into_iter()
            .partition(|pod| is_left_out(&seen.object, pod));
        outdated.sort_by_cached_key(|pod| (!is_updating(pod), !is_replaced(pod), rank(pod)));
        let due = outdated.len().saturating_sub(seen.object.partition());
        let serves = |pod: &Pod| {
            is_available(pod)
                && !is_updating(pod)
                && !is_replaced(pod)
                && !pod.labels().contains_key(keys::TO_DELETE)
        };
        // A scale-in that does not get on must not stop updates.
        let counted = pods
            .active
            .iter()
            .filter(|pod| !pairs.is_new(pod) && !scale.leaving.contains(&pod.name_any()));
        let unavailable = counted.filter(|pod| !serves(pod));
        let unavailable = unavailable.count() + scale.missing + scale.returning;
        let mut room = at_once(&seen.object).saturating_sub(unavailable);
        let due: Vec<_> = outdated.drain(..due).collect();
        // What the partition keeps, or has no label, is not updated any more.
        let staying = current.into_iter().chain(outdated).chain(left_out);
        let (stuck, ending): (Vec<_>, Vec<_>) = staying.partition(|pod| work.is_stuck(pod));
        for pod in stuck {
            let has_begun = is_updating(pod) || !is_available(pod);
            if has_begun || room > 0 {
                work.create_again(pod, edits);
                room -= usize::from(!has_begun);
            }
        }
        for pod in due {
            let has_begun = is_updating(pod) || is_replaced(pod) || !is_available(pod);
            if !has_begun && room == 0 {
                continue;
            }
            let begins = work.update(pod, pairs, edits);
            room -= usize::from(begins && !has_begun);
        }
        for pod in ending {
            work.end(pod, edits);
        }
        work.done
    }
}

/// What changes from one revision to another, or the field that cannot be changed in a pod.
fn change_between(old: &ControllerRevision, new: &ControllerRevision) -> Result<Change, String> {
    if stored_claims(old) != stored_claims(new) {
        return Err("spec.volumeClaimTemplates".to_owned());
    }
    Change::between(&template(old), &template(new))
}

/// How many pods may be out of service for updates at the same time: a quarter of them.
fn at_once(object: &CollaSet) -> usize {
    usize::try_from(object.spec.replicas / 4)
        .unwrap_or(0)
        .max(1)
}

/// Withdraws what an update requested of a pod: a new pod.
fn end_replacement<'a>(pod: &'a Pod, edits: &mut Edits<'a>) {
    if is_replaced(pod) {
        edits.unlabel(pod, keys::REPLACED_BY_UPDATE);
        let request = pod.labels().get(keys::TO_REPLACE);
        if request.is_some_and(|value| is_stamp(value)) {
            edits.unlabel(pod, keys::TO_REPLACE);
        }
    }
}

/// Whether a pod is replaced because of an update.
fn is_replaced(pod: &Pod) -> bool {
    pod.labels().contains_key(keys::REPLACED_BY_UPDATE)
}

impl<'a> Updater<'a, '_> {
    /// The next step of the update of one pod; whether it takes the pod out of service, or replaces it.
    fn update(&mut self, pod: &'a Pod, pairs: &Pairs<'a>, edits: &mut Edits<'a>) -> bool {
        let policy = self.strategy.pod_upgrade_policy.unwrap_or_default();
        if policy == PodUpgradePolicy::Replace {
            self.replace(pod, pairs, edits);
            return true;
        }
        // A new pod of another revision is of no use: the policy decides anew.
        if is_replaced(pod) && !self.is_replaced_by_updated(pod, pairs) {
            end_replacement(pod, edits);
            return false;
        }
        // A pod whose new pod is on its way is not taken out of service before.
        if pod.labels().contains_key(keys::TO_REPLACE) {
            edits.take_back(UPDATE, pod);
            return false;
        }
        let change = self.change(pod);
        let change = match (policy, change) {
            (PodUpgradePolicy::InPlaceOnly, Err(field)) => {
                self.done.impossible.push((pod.name_any(), field));
                end_operation(pod, edits);
                return false;
            }
            (PodUpgradePolicy::Recreate, _) | (_, Err(_)) => None,
            (_, Ok(change)) => Some(change),
        };
        let now = self.seen.now.as_nanosecond();
        match UPDATE.standing(pod.labels(), now) {
            Standing::Begin(begin) => {
                edits.labels(pod, begin);
                if change.is_none() {
                    edits.label(pod, PREPARING_TO_DELETE, now.to_string());
                }
            }
            Standing::Allowed(since) if self.is_time(since) => self.act(pod, change.as_ref()),
            standing => self.done.waiting.extend(waits_for(pod, &standing)),
        }
        true
    }

    /// Changes or deletes a pod that is out of service.
    fn act(&mut self, pod: &Pod, change: Option<&Change>) {
        let Some(change) = change else {
            let deletion = driver::delete_unchanged(pod, Propagation::Background);
            return self.done.deletions.push(deletion);
        };
        self.done.patches.push(Effect::Patch {
            object: driver::reference(pod),
            subresource: None,
            kind: PatchKind::Strategic,
            body: change.patch(pod, &self.updated.name_any()),
            uid: pod.uid(),
            resource_version: pod.resource_version(),
        });
    }

    /// Requests a new pod of the new revision for a pod, which goes when the new one serves.
    fn replace(&mut self, pod: &'a Pod, pairs: &Pairs<'a>, edits: &mut Edits<'a>) {
        let name = self.updated.name_any();
        let now = self.seen.now.as_nanosecond().to_string();
        edits.take_back(UPDATE, pod);
        if !pod.labels().contains_key(keys::TO_REPLACE) {
            edits.label(pod, keys::TO_REPLACE, now.clone());
        }
        if pod.labels().get(keys::REPLACED_BY_UPDATE) != Some(&name) {
            edits.label(pod, keys::REPLACED_BY_UPDATE, &name);
        }
        // The new pod of another revision is one too many.
        let new_pod = pairs.new_pod(pod);
        let is_other = |new_pod: &&Pod| revision(new_pod) != Some(&name);
        if let Some(new_pod) = new_pod.filter(is_other)
            && !new_pod.labels().contains_key(keys::TO_DELETE)
        {
            edits.label(new_pod, keys::TO_DELETE, now);
        }
    }

    /// Whether a pod is replaced by one of the revision of the template.
    fn is_replaced_by_updated(&self, pod: &Pod, pairs: &Pairs<'a>) -> bool {
        let name = self.updated.name_any();
        let new_pod = pairs.new_pod(pod);
        pod.labels().get(keys::REPLACED_BY_UPDATE) == Some(&name)
            && new_pod.is_none_or(|new_pod| revision(new_pod) == Some(&name))
    }

    /// The pod has the template that it shall have: its update is finished, or taken back.
    fn end(&mut self, pod: &'a Pod, edits: &mut Edits<'a>) {
        end_replacement(pod, edits);
        self.done.waiting.extend(room::waits_for(pod));
        end_operation(pod, edits);
    }

    /// Whether a pod is created again, because its node has no room for its CPU and memory.
    fn is_stuck(&mut self, pod: &Pod) -> bool {
        let policy = self.strategy.pod_upgrade_policy.unwrap_or_default();
        policy != PodUpgradePolicy::InPlaceOnly
            && room::is_stuck(pod, self.seen.now, &mut self.done.requeue_after)
    }

    /// Deletes a pod that is out of service, or takes it out of service for that.
    fn create_again(&mut self, pod: &'a Pod, edits: &mut Edits<'a>) {
        // A pod whose new pod is on its way is not taken out of service before.
        if pod.labels().contains_key(keys::TO_REPLACE) && !is_replaced(pod) {
            return self.end(pod, edits);
        }
        end_replacement(pod, edits);
        let now = self.seen.now.as_nanosecond();
        match UPDATE.standing(pod.labels(), now) {
            Standing::Begin(begin) => {
                edits.labels(pod, begin);
                edits.label(pod, PREPARING_TO_DELETE, now.to_string());
            }
            Standing::Allowed(since) if self.is_time(since) => self.act(pod, None),
            standing => self.done.waiting.extend(waits_for(pod, &standing)),
        }
    }

    /// What changes in the pod, or the field that cannot be changed.
    fn change(&mut self, pod: &Pod) -> Result<Change, String> {
        let old = revision(pod).and_then(|name| self.revisions.named(name));
        let old = old.ok_or_else(|| "metadata.labels[controller-revision-hash]".to_owned())?;
        let known = self.changes.entry(old.name_any());
        let change = known.or_insert_with(|| change_between(old, self.updated));
        let change = change.clone()?;
        let can_resize = self.seen.can_resize && resources::is_supported(pod);
        match change.resized() {
            Some(name) if !can_resize => Err(format!("spec.containers[{name}].resources")),
            _ => Ok(change),
        }
    }

    /// Whether the delay is over since a pod has been out of service.
    fn is_time(&mut self, since: i128) -> bool {
        let delay = self.strategy.operation_delay_seconds;
        delay::is_over(delay, since, self.seen.now, &mut self.done.requeue_after)
    }
}
