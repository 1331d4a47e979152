//! Ids: which number each pod of a set has, and what is remembered of a pod that does not exist any more.
//!
//! The label of a pod is the truth about an id that a pod has. The ResourceContext is the truth about all
//! other ids: those of pods that are gone and come back, and those that are reserved for pods that are yet to
//! be created. Where the two disagree the context follows the label, with one exception: an id that another
//! set has in a shared context is that set's, and a pod of this set with this id gets another one.
//!
//! A pod is only created with an id, and only gets a number, that the context reserves for its set. The
//! reservation is a write over the version of the context that was read, so neither a crash nor another set
//! can assign an id twice. One write reserves the ids of all pods that are missing.
//!
//! Everything else is written together with that, or once the set is at rest, or when it concerns an eighth
//! of the ids. The context is one object: if it was written for each pod, the cost would grow with the square
//! of the number of pods. So it may be a moment behind the labels while pods change. If such a pod is lost in
//! this moment, it comes back at its previous revision, and the update continues.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{
    colla_set::PodNamingSuffixPolicy,
    keys,
    resource_context::{
        JUST_CREATE, OWNER, RECREATE_UPDATE, REPLACE_NEW_ID, REPLACE_ORIGIN_ID, REVISION, SCALE_IN,
    },
};

use super::{
    Seen,
    claim_upkeep::Living,
    claims::Claims,
    context::{Data, Known},
    edits::Edits,
    pair::Pairs,
    pods::{Pods, instance_id, is_finished, owner_uid, revision},
    scale::{Scale, is_scaling_in},
    update::is_updating,
};
use crate::driver::Write;

/// The ids that a set assigns.
#[derive(Debug, Default)]
pub(super) struct Ids<'a> {
    /// The places of missing pods, as far as they are reserved.
    pub(super) places: Vec<Place<'a>>,
    /// The reserved ids of the new pods of pairs, by the name of the origin.
    pub(super) beside: BTreeMap<String, u32>,
    /// The pods that get another number.
    numbers: Vec<(&'a Pod, u32)>,
    /// Which ids need their claims.
    pub(super) living: Living,
    /// The write of the context.
    pub(super) write: Option<Write>,
}

/// The place of a missing pod.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) id: u32,
    /// The revision of the pod that had it, if there was one.
    pub(super) revision: Option<&'a str>,
}

impl<'a> Ids<'a> {
    /// The ids of a set in which so many pods are missing. Some pods that do not count keep their ids: those that
    /// have just finished, and those that have not left the set yet.
    pub(super) fn of(
        seen: &'a Seen,
        pods: &Pods<'a>,
        pairs: &Pairs<'a>,
        scale: &Scale,
        claims: &Claims<'_>,
        keeping: &[&'a Pod],
        missing: usize,
    ) -> Self {
        let known = Known::of(seen);
        let holders = Holders::of(seen, pods, keeping, &known);
        let origins = holders.origins(pairs);
        let replaced = replaced(&known, &holders, &origins);
        let with_claims = claims.ids();
        let vacant = Vacant::of(&known, &holders, &origins, &replaced, &with_claims);
        let Vacant { mut places, beside } = vacant;
        places.truncate(missing + holders.unnumbered.len());
        let mut more = Vec::new();
        let mut more_beside = BTreeMap::new();
        {
            let busy = claims.busy(&replaced);
            let mut free = free(&known, &holders, &places, &beside, &busy);
            let short = missing + holders.unnumbered.len() - places.len();
            more.extend(free.by_ref().take(short));
            let without = origins.keys().filter(|id| !beside.contains_key(id));
            // The claims of a new pod of a pair are deleted if it is given up, so it gets none of a former pod.
            let fresh = free.filter(|id| !claims.exist_for(*id));
            more_beside.extend(without.copied().zip(fresh));
        }
        let numbers = places.get(missing..).unwrap_or_default().iter();
        let numbers = holders.unnumbered.iter().zip(numbers);
        let numbers: Vec<_> = numbers.map(|(pod, (id, _))| (*pod, *id)).collect();

        let mut desired = Desired {
            known: &known,
            name: seen.object.name_any(),
            ids: BTreeMap::new(),
        };
        desired.keep(holders.keeping.iter());
        desired.places(&places, &more);
        desired.beside(&beside, &more_beside);
        let gone = replaced.intersection(&with_claims);
        let of_pods = holders.by_id.iter().map(|(id, pod)| (*pod, *id));
        let mut related = Related::of(pods, pairs, &origins, beside.iter().chain(&more_beside));
        related.remember(&known, &holders, &with_claims);
        for (pod, id) in of_pods.chain(numbers.iter().copied()) {
            desired.pod(id, pod, &related, scale);
        }
        let ids = desired.ids.keys().chain(&holders.keeping);
        let living = Living {
            ids: ids.copied().collect(),
            replaced: replaced.clone(),
        };
        // Until its claims are deleted, it is known that they must be.
        desired.keep(gone);
        let is_urgent =
            !more.is_empty() || !more_beside.is_empty() || desired.scales_in_differently();
        let is_changing = |pod: &&Pod| is_scaling_in(pod) || is_updating(pod) || pairs.is_new(pod);
        let is_at_rest = missing == 0
            && pods.terminating.is_empty()
            && pods.finished.is_empty()
            && pairs.alone.is_empty()
            && !pods.active.iter().any(is_changing);
        let write = known.write(&seen.object, &desired.ids, is_urgent, is_at_rest);
        places.truncate(missing);
        Self {
            places: places.into_iter().map(Place::of).collect(),
            beside: beside
                .iter()
                .filter_map(|(origin, id)| Some((origins.get(origin)?.name_any(), *id)))
                .collect(),
            numbers,
            living,
            write,
        }
    }

    /// Numbers the pods that have no number, or one that another pod has.
    pub(super) fn number(&self, edits: &mut Edits<'a>) {
        for (pod, id) in &self.numbers {
            edits.label(pod, keys::INSTANCE_ID, id.to_string());
        }
    }
}

impl<'a> Place<'a> {
    fn of((id, data): (u32, &'a Data)) -> Self {
        let revision = data.get(REVISION).map(String::as_str);
        let is_new = is_set(data, JUST_CREATE) || is_set(data, RECREATE_UPDATE);
        Self {
            id,
            revision: revision.filter(|_| !is_new),
        }
    }
}

fn is_set(data: &Data, key: &str) -> bool {
    data.get(key).is_some_and(|value| value == "true")
}

fn id_in(data: &Data, key: &str) -> Option<u32> {
    data.get(key)?.parse().ok()
}

/// The pods that have ids.
struct Holders<'a> {
    by_id: BTreeMap<u32, &'a Pod>,
    /// The ids of pods that keep them though they do not count.
    keeping: BTreeSet<u32>,
    /// The pods that have no id, or one of another pod.
    unnumbered: Vec<&'a Pod>,
    /// The ids whose names other pods have, if names are made of ids.
    named: BTreeSet<u32>,
}

impl<'a> Holders<'a> {
    fn of(seen: &Seen, pods: &Pods<'a>, keeping: &[&Pod], known: &Known<'_>) -> Self {
        let mut by_id = BTreeMap::new();
        let mut unnumbered = Vec::new();
        for pod in pods.active.iter().chain(&pods.adopt).copied() {
            let id = instance_id(pod);
            let id = id.filter(|id| !known.others.contains_key(id) && !by_id.contains_key(id));
            match id {
                Some(id) => {
                    by_id.insert(id, pod);
                }
                None => unnumbered.push(pod),
            }
        }
        Self {
            by_id,
            keeping: keeping.iter().filter_map(|pod| instance_id(pod)).collect(),
            unnumbered,
            named: named(seen),
        }
    }

    fn has(&self, id: u32) -> bool {
        self.by_id.contains_key(&id) || self.keeping.contains(&id)
    }

    /// The pods that shall get a new pod beside them, by their ids.
    fn origins(&self, pairs: &Pairs<'a>) -> BTreeMap<u32, &'a Pod> {
        let holds = |pod: &Pod, id: u32| {
            let holder = self.by_id.get(&id);
            holder.is_some_and(|holder| holder.metadata.name == pod.metadata.name)
        };
        let with_id = |pod: &&'a Pod| Some((instance_id(pod)?, *pod));
        let all = pairs.alone.iter().filter_map(with_id);
        all.filter(|(id, pod)| holds(pod, *id)).collect()
    }
}

/// The ids whose names pods have that do not have the ids, and stay.
fn named(seen: &Seen) -> BTreeSet<u32> {
    let object = &*seen.object;
    if object.naming() == PodNamingSuffixPolicy::Random {
        return BTreeSet::new();
    }
    let beginning = format!("{}-", object.name_any());
    let uid = object.metadata.uid.as_deref();
    let named = seen.pods.iter().filter_map(|pod| {
        let id = pod.name_any().strip_prefix(&beginning)?.parse().ok()?;
        let is_owned = owner_uid(&**pod) == uid;
        let is_its_own = is_owned && (instance_id(pod) == Some(id) || is_finished(pod));
        let stays = pod.metadata.deletion_timestamp.is_none();
        (stays && !is_its_own).then_some(id)
    });
    named.collect()
}

/// The ids of the set that no pod has.
struct Vacant<'a> {
    /// Those of missing pods: first those of pods that are gone.
    places: Vec<(u32, &'a Data)>,
    /// Those that are reserved for the new pods of pairs, by the id of the origin.
    beside: BTreeMap<u32, u32>,
}

impl<'a> Vacant<'a> {
    fn of(
        known: &Known<'a>,
        holders: &Holders<'_>,
        origins: &BTreeMap<u32, &Pod>,
        replaced: &BTreeSet<u32>,
        with_claims: &BTreeSet<u32>,
    ) -> Self {
        let mut vacant = Self {
            places: Vec::new(),
            beside: BTreeMap::new(),
        };
        for (id, data) in &known.own {
            let origin = id_in(data, REPLACE_ORIGIN_ID).filter(|id| holders.has(*id));
            let new_pod = id_in(data, REPLACE_NEW_ID).filter(|id| holders.has(*id));
            match (origin, new_pod) {
                _ if holders.has(*id) => {}
                (Some(origin), _) if origins.contains_key(&origin) => {
                    vacant.beside.entry(origin).or_insert(*id);
                }
                // The origin needs no new pod any more. A pod that was replaced does not come back.
                (Some(_), _) | (_, Some(_)) => {}
                (None, None) if replaced.contains(id) => {}
                (None, None) if is_set(data, SCALE_IN) || holders.named.contains(id) => {}
                (None, None) => vacant.places.push((*id, *data)),
            }
        }
        // If the context was deleted, claims know the ids of pods that come back.
        let lost = with_claims.iter().filter(|_| known.context.is_none());
        let lost = lost.filter(|id| !holders.has(**id) && !holders.named.contains(*id));
        vacant.places.extend(lost.map(|id| (*id, &NOTHING)));
        vacant
            .places
            .sort_by_key(|(id, data)| (is_set(data, JUST_CREATE), *id));
        vacant
    }
}

/// What is remembered of an id of which nothing is known.
static NOTHING: Data = Data::new();

/// The ids of pods that are gone because others replaced them, and of those that were to replace others which stay.
fn replaced(
    known: &Known<'_>,
    holders: &Holders<'_>,
    origins: &BTreeMap<u32, &Pod>,
) -> BTreeSet<u32> {
    let all = known.own.iter().filter_map(|(id, data)| {
        let origin = id_in(data, REPLACE_ORIGIN_ID);
        let is_replaced = id_in(data, REPLACE_NEW_ID).is_some_and(|id| holders.has(id));
        match (holders.has(*id), origin.filter(|id| holders.has(*id))) {
            (true, None) => origin,
            (false, Some(origin)) if !origins.contains_key(&origin) => Some(*id),
            (false, _) if is_replaced => Some(*id),
            (true, Some(_)) | (false, _) => None,
        }
    });
    all.collect()
}

/// The ids that are free, the smallest first.
fn free(
    known: &Known<'_>,
    holders: &Holders<'_>,
    places: &[(u32, &Data)],
    beside: &BTreeMap<u32, u32>,
    busy: &BTreeSet<u32>,
) -> impl Iterator<Item = u32> {
    let kept = places.iter().map(|(id, _)| *id);
    let taken: BTreeSet<_> = kept.chain(beside.values().copied()).collect();
    let is_free = move |id: &u32| {
        let is_taken = holders.has(*id) || holders.named.contains(id) || taken.contains(id);
        !is_taken && !busy.contains(id) && !known.others.contains_key(id)
    };
    (0..).filter(is_free)
}

/// Which ids replace which.
struct Related {
    new_ids: BTreeMap<u32, u32>,
    origins: BTreeMap<u32, u32>,
}

impl Related {
    fn of<'b>(
        pods: &Pods<'_>,
        pairs: &Pairs<'_>,
        origins: &BTreeMap<u32, &Pod>,
        reserved: impl Iterator<Item = (&'b u32, &'b u32)>,
    ) -> Self {
        let old = pods.active.iter().chain(&pods.terminating);
        let pair = |pod: &&Pod| Some((instance_id(pod)?, instance_id(pairs.new_pod(pod)?)?));
        let found: BTreeMap<_, _> = old.filter_map(pair).collect();
        let reserved = reserved.filter(|(origin, _)| origins.contains_key(origin));
        let reserved = reserved.map(|(origin, new)| (*origin, *new));
        Self {
            origins: found.iter().map(|(origin, new)| (*new, *origin)).collect(),
            new_ids: found.into_iter().chain(reserved).collect(),
        }
    }

    /// That a pod replaced another one is known until the claims of that are deleted.
    fn remember(&mut self, known: &Known<'_>, holders: &Holders<'_>, with_claims: &BTreeSet<u32>) {
        for (id, data) in &known.own {
            let origin = id_in(data, REPLACE_ORIGIN_ID).filter(|id| with_claims.contains(id));
            if let Some(origin) = origin.filter(|origin| holders.has(*id) && !holders.has(*origin))
            {
                self.origins.entry(*id).or_insert(origin);
            }
        }
    }
}

/// What the context shall say of the set.
struct Desired<'a> {
    known: &'a Known<'a>,
    name: String,
    ids: BTreeMap<u32, Data>,
}

impl Desired<'_> {
    /// What is known of these ids stays.
    fn keep<'b>(&mut self, ids: impl Iterator<Item = &'b u32>) {
        for id in ids {
            if let Some(data) = self.known.own.get(id) {
                self.ids.insert(*id, (*data).clone());
            }
        }
    }

    fn places(&mut self, places: &[(u32, &Data)], more: &[u32]) {
        for (id, data) in places {
            let mut data = (*data).clone();
            data.retain(|key, _| key != REPLACE_ORIGIN_ID && key != REPLACE_NEW_ID);
            data.insert(OWNER.to_owned(), self.name.clone());
            self.ids.insert(*id, data);
        }
        for id in more {
            self.ids.insert(*id, self.reserved());
        }
    }

    fn beside(&mut self, beside: &BTreeMap<u32, u32>, more: &BTreeMap<u32, u32>) {
        self.keep(beside.values());
        for (origin, id) in more {
            let mut data = self.reserved();
            data.insert(REPLACE_ORIGIN_ID.to_owned(), origin.to_string());
            self.ids.insert(*id, data);
        }
    }

    fn reserved(&self) -> Data {
        let owner = (OWNER.to_owned(), self.name.clone());
        [owner, (JUST_CREATE.to_owned(), "true".to_owned())].into()
    }

    /// A pod has this id. Keys that are none of ours stay.
    fn pod(&mut self, id: u32, pod: &Pod, related: &Related, scale: &Scale) {
        let known = self.known.own.get(&id).copied().cloned();
        let mut data = known.unwrap_or_default();
        let texts = |ids: &BTreeMap<u32, u32>| ids.get(&id).map(ToString::to_string);
        let is_leaving = scale.leaving.contains(&pod.name_any());
        for (key, value) in [
            (OWNER, Some(self.name.clone())),
            (REVISION, revision(pod).map(str::to_owned)),
            (JUST_CREATE, None),
            (RECREATE_UPDATE, None),
            (SCALE_IN, is_leaving.then(|| "true".to_owned())),
            (REPLACE_NEW_ID, texts(&related.new_ids)),
            (REPLACE_ORIGIN_ID, texts(&related.origins)),
        ] {
            match value {
                Some(value) => data.insert(key.to_owned(), value),
                None => data.remove(key),
            };
        }
        self.ids.insert(id, data);
    }

    /// Whether a scale-in began or was taken back: the context must know it before the pod is gone.
    fn scales_in_differently(&self) -> bool {
        self.ids.iter().any(|(id, data)| {
            let known = self.known.own.get(id);
            known.is_some_and(|known| is_set(known, SCALE_IN) != is_set(data, SCALE_IN))
        })
    }
}
