//! The PersistentVolumeClaims of a set: one of each claim template for each instance id. A pod is created only when
//! its claims exist, and with the claims that its id has already, so a pod that comes back finds its data.
//!
//! A claim says in labels which id and which template it is for, and in an annotation whose it is. An owner
//! reference says whether it is deleted with its set. [`claim_upkeep`](super::claim_upkeep) keeps these true, and
//! deletes claims.
//!
//! The name of a claim is derived from what it is for, so a repeated creation finds the claim that exists already.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::ResourceExt;
use operon_api::{CollaSet, colla_set::ClaimRetention, keys};
use serde_json::{Value, json};

use super::{
    Seen,
    claim_template::{self, Template, start},
    claim_upkeep::taken,
    pods::{Pods, creation, instance_id, is_finished, is_scheduled, owner_uid, revision},
    revision::{Revisions, claim_templates},
};
use crate::driver::Write;

/// The id that a claim is for.
pub(super) fn id_of(claim: &PersistentVolumeClaim) -> Option<u32> {
    claim.labels().get(keys::INSTANCE_ID)?.parse().ok()
}

/// Whether a claim is being deleted.
pub(super) fn is_deleted(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some()
}

/// Whether a claim belongs to the set: by its owner reference, or without any, by what it says.
pub(super) fn is_own(object: &CollaSet, claim: &PersistentVolumeClaim) -> bool {
    let uid = object.metadata.uid.as_deref();
    let said = claim.annotations().get(keys::CLAIM_OF).map(String::as_str);
    uid.is_some() && owner_uid(claim).or(said) == uid
}

/// Whether the set may take a claim without an owner, by its labels. Without `matchLabels` the name decides.
pub fn may_take(object: &CollaSet, claim: &PersistentVolumeClaim) -> bool {
    let labels = claim.labels();
    let matched = object.spec.selector.match_labels.as_ref();
    let matched = matched.filter(|matched| !matched.is_empty());
    let is_selected = match matched {
        Some(matched) => matched
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value)),
        None => claim_template::is_named_after(object, claim),
    };
    is_selected && claim.owner_references().is_empty() && !labels.contains_key(keys::ORPHANED)
}

/// The claims that a new pod needs.
#[derive(Debug, PartialEq)]
pub(super) enum Needed {
    /// They exist: the names of the volumes, and of the claims.
    There(Vec<(String, String)>),
    /// They must be created or taken first.
    Missing(Vec<Write>),
    /// They cannot be had now; what must happen first.
    Held(String),
}

/// The claims of a set.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    pub(super) object: &'a CollaSet,
    /// Those that belong to it, the oldest first.
    pub(super) own: Vec<&'a PersistentVolumeClaim>,
    /// Those that it may take, the oldest first.
    pub(super) free: Vec<&'a PersistentVolumeClaim>,
    /// All of these by the ids that they are for.
    by_id: BTreeMap<u32, Vec<&'a PersistentVolumeClaim>>,
    /// The pods that mount each claim.
    mounts: BTreeMap<&'a str, Vec<&'a Pod>>,
    /// The claim templates of each revision, by its name.
    templates: BTreeMap<String, Vec<Template>>,
}

impl<'a> Claims<'a> {
    pub(super) fn of(seen: &'a Seen, revisions: &Revisions<'a>) -> Self {
        let object = &*seen.object;
        let mut all: Vec<&PersistentVolumeClaim> = seen.claims.iter().map(AsRef::as_ref).collect();
        all.sort_by_key(|claim| (claim.metadata.creation_timestamp.clone(), claim.name_any()));
        let (own, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|claim| is_own(object, claim));
        let is_free = |claim: &&PersistentVolumeClaim| claim.owner_references().is_empty();
        let free: Vec<_> = others.into_iter().filter(is_free).collect();
        let mut by_id: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for claim in own.iter().chain(&free) {
            if let Some(id) = id_of(claim) {
                by_id.entry(id).or_default().push(*claim);
            }
        }
        let with_claims = revisions
            .all()
            .filter(|one| !claim_templates(one).is_empty());
        let templates = with_claims.map(|one| {
            let templates = claim_templates(one).iter().map(Template::of);
            (one.name_any(), templates.collect())
        });
        let mut templates: BTreeMap<String, Vec<Template>> = templates.collect();
        claim_template::share(&mut templates);
        let mut claims = Self {
            object,
            own,
            free,
            by_id,
            mounts: BTreeMap::new(),
            templates,
        };
        // Most sets have no claims.
        if !seen.claims.is_empty() {
            for pod in seen.pods.iter().map(AsRef::as_ref) {
                for claim in mounted(pod) {
                    claims.mounts.entry(claim).or_default().push(pod);
                }
            }
        }
        claims
    }

    /// The ids that its claims are for.
    pub(super) fn ids(&self) -> BTreeSet<u32> {
        self.own.iter().filter_map(|claim| id_of(claim)).collect()
    }

    /// Whether there are claims for an id, its own or such that it may take.
    pub(super) fn exist_for(&self, id: u32) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The ids that no new pod may have, because the claims of a former pod with them are to be deleted.
    /// `replaced`: the ids of pods that were replaced.
    pub(super) fn busy(&self, replaced: &BTreeSet<u32>) -> BTreeSet<u32> {
        let goes_with_pod = self.object.claims_when_scaled() == ClaimRetention::Delete;
        let with_ids = self
            .own
            .iter()
            .filter_map(|claim| Some((id_of(claim)?, *claim)));
        let busy = with_ids
            .filter(|(id, claim)| goes_with_pod || replaced.contains(id) || is_deleted(claim));
        busy.map(|(id, _)| id).collect()
    }

    /// The pods that mount a claim.
    pub(super) fn mounting(&self, claim: &PersistentVolumeClaim) -> &[&'a Pod] {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        self.mounts.get(name).map_or(&[], Vec::as_slice)
    }

    /// The claim templates of a revision.
    pub(super) fn templates(&self, revision: &str) -> &[Template] {
        self.templates.get(revision).map_or(&[], Vec::as_slice)
    }

    /// The claims that a new pod needs which has this id and this revision.
    pub(super) fn needed(&self, id: u32, revision: &ControllerRevision) -> Needed {
        let mut there = Vec::new();
        let mut missing = Vec::new();
        for template in self.templates(&revision.name_any()) {
            match self.find(id, template) {
                Found::Own(claim) if self.is_mounted_alone(claim) => {
                    return Needed::Held(format!(
                        "the pods that mount PersistentVolumeClaim {:?} to be gone",
                        claim.name_any()
                    ));
                }
                Found::Own(claim) => there.push((template.name.clone(), claim.name_any())),
                Found::Free(claim) => {
                    missing.push(Write::Do(taken(self.object, claim, Some(id), true)));
                }
                Found::Deleted(claim) => {
                    return Needed::Held(format!(
                        "PersistentVolumeClaim {:?}, which is being deleted, to be gone",
                        claim.name_any()
                    ));
                }
                Found::Nothing => missing.push(Write::Make(start(self.object, id, template))),
            }
        }
        if missing.is_empty() {
            Needed::There(there)
        } else {
            Needed::Missing(missing)
        }
    }

    /// The creations of claims that pods without a node mount, and that were deleted: Kubernetes keeps only the
    /// claims of pods with a node.
    pub(super) fn again(&self, pods: &Pods<'_>) -> Vec<Write> {
        let waiting = pods.active.iter().filter(|pod| !is_scheduled(pod));
        let all = self.own.iter().chain(&self.free);
        let known: BTreeSet<_> = all
            .filter_map(|claim| claim.metadata.name.as_deref())
            .collect();
        let mut again = Vec::new();
        for pod in waiting {
            let templates = revision(pod).map_or(&[][..], |revision| self.templates(revision));
            for template in templates {
                let claim = mounts(pod).find(|(volume, _)| *volume == template.name);
                let claim = claim.filter(|(_, claim)| !known.contains(claim));
                if let Some(((_, claim), id)) = claim.zip(instance_id(pod)) {
                    let mut start = start(self.object, id, template);
                    start.names = vec![claim.to_owned()];
                    again.push(Write::Make(start));
                }
            }
        }
        again
    }

    /// The claim of a template for an id.
    fn find(&self, id: u32, template: &Template) -> Found<'a> {
        // A pod that stays keeps its claims.
        let is_left = |claim: &PersistentVolumeClaim| {
            let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none() && !is_finished(pod);
            let mut pods = self.concerned(claim);
            !pods.any(stays)
        };
        let of_id = self.by_id.get(&id).into_iter().flatten().copied();
        let of_id = of_id.filter(|claim| template.is_of(self.object, claim) && is_left(claim));
        let (own, free): (Vec<_>, Vec<_>) =
            of_id.partition(|claim: &&PersistentVolumeClaim| is_own(self.object, claim));
        if let Some(claim) = own.iter().find(|claim| !is_deleted(claim)) {
            return Found::Own(claim);
        }
        if let Some(claim) = own.first() {
            return Found::Deleted(claim);
        }
        let may_take =
            |claim: &&&PersistentVolumeClaim| !is_deleted(claim) && may_take(self.object, claim);
        let mut free = free.iter();
        free.find(may_take)
            .map_or(Found::Nothing, |claim| Found::Free(claim))
    }

    /// Whether a pod that is not gone yet mounts a claim that is not made for several pods.
    fn is_mounted_alone(&self, claim: &PersistentVolumeClaim) -> bool {
        let modes = claim.spec.iter().flat_map(|spec| &spec.access_modes);
        let is_shared = |mode: &String| mode == "ReadWriteMany" || mode == "ReadOnlyMany";
        let mut pods = self.concerned(claim);
        !modes.flatten().any(is_shared) && pods.any(|pod| !is_finished(pod))
    }

    /// The pods that mount a claim and are the set's, or were. Any other pod that mounts it, such as one that a user
    /// started to save the data, changes nothing, but the claim is not deleted meanwhile.
    fn concerned(&self, claim: &PersistentVolumeClaim) -> impl Iterator<Item = &'a Pod> {
        let object = self.object;
        let id = id_of(claim);
        let pods = self.mounting(claim).to_vec();
        pods.into_iter().filter(move |pod| {
            owner_uid(*pod) == object.metadata.uid.as_deref()
                || creation(object, pod) > 0
                || (id.is_some() && instance_id(pod) == id)
        })
    }

    /// Whether a pod mounts a claim as that of a claim template, and not because its pod template names the claim.
    pub(super) fn is_of_template(&self, pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
        let templates = revision(pod).map_or(&[][..], |revision| self.templates(revision));
        let name = claim.metadata.name.as_deref();
        let mut volumes = mounts(pod).filter(|(_, mounted)| Some(*mounted) == name);
        id_of(claim).is_some()
            && volumes.any(|(volume, _)| templates.iter().any(|template| template.name == volume))
    }

    /// The pods of the set that mount a claim, and those that have left it, or leave it now.
    pub(super) fn users(
        &self,
        claim: &PersistentVolumeClaim,
        pods: &Pods<'a>,
    ) -> (Vec<&'a Pod>, Vec<&'a Pod>) {
        let has = |list: &[&Pod], pod: &Pod| {
            let mut list = list.iter();
            list.any(|known| known.metadata.name == pod.metadata.name)
        };
        let uid = self.object.metadata.uid.as_deref();
        let is_member = |pod: &&Pod| {
            let is_owned = owner_uid(*pod) == uid;
            let leaves = has(&pods.exclude, pod) || has(&pods.release, pod);
            (is_owned && !leaves) || has(&pods.adopt, pod)
        };
        self.concerned(claim).partition(is_member)
    }
}

/// A claim of a template for an id.
enum Found<'a> {
    Own(&'a PersistentVolumeClaim),
    /// It has no owner.
    Free(&'a PersistentVolumeClaim),
    /// It is being deleted.
    Deleted(&'a PersistentVolumeClaim),
    Nothing,
}

/// The names of the claims that a pod mounts.
pub(super) fn mounted(pod: &Pod) -> impl Iterator<Item = &str> {
    mounts(pod).map(|(_, claim)| claim)
}

/// The names of the volumes of a pod that are claims, and of the claims.
fn mounts(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
    volumes.filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref()?;
        Some((&*volume.name, &*claim.claim_name))
    })
}

/// Puts the claims of a new pod into its spec; they replace volumes of the same names.
pub(super) fn mount(spec: &mut Value, claims: &[(String, String)]) {
    if claims.is_empty() {
        return;
    }
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let is_replaced = |volume: &Value| claims.iter().any(|(name, _)| volume["name"] == **name);
    let kept = volumes.into_iter().filter(|volume| !is_replaced(volume));
    let own = claims
        .iter()
        .map(|(name, claim)| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
    spec["volumes"] = json!(own.chain(kept).collect::<Vec<_>>());
}
