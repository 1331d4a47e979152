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
use kube::{Resource, ResourceExt};
use operon_api::{CollaSet, colla_set::ClaimRetention, embedded::VolumeClaimTemplate, keys};
use serde_json::{Value, json};

use super::{
    Seen,
    claim_upkeep::taken,
    pods::{Pods, instance_id, is_finished, is_scheduled, owner_uid, revision},
    revision::{Revisions, claim_templates},
};
use crate::{
    action::Failure,
    driver::{Claim, Start, Write},
    jobs::{
        name::{cut, five},
        owned::owner,
    },
    reactive_job::sap_hash::go_claims,
};

/// What the creation of a claim is for begins with this.
const SUBJECT: &str = "claim/";

/// How long the beginning of a claim's name may be, as with `generateName`.
const BEGINNING: usize = 57;

/// How many names are tried if other objects have them.
const NAMES: u32 = 3;

/// A claim template.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) name: String,
    /// The values that the label of its claims may have: ours, and one of KusionStack's controller built with a
    /// newer library.
    hashes: [String; 2],
    body: Value,
}

impl Template {
    fn of(body: &Value) -> Self {
        let name = body.pointer("/metadata/name").and_then(Value::as_str);
        // What Go cannot read has no hash of KusionStack's.
        let texts = go_claims(body).unwrap_or_else(|| [body.to_string(), body.to_string()]);
        Self {
            name: name.unwrap_or_default().to_owned(),
            hashes: texts.map(|text| hash(&text)),
            body: body.clone(),
        }
    }

    /// Whether a claim was created from it.
    pub(super) fn is_of(&self, object: &CollaSet, claim: &PersistentVolumeClaim) -> bool {
        let hash = claim.labels().get(keys::CLAIM_HASH);
        let has_hash = hash.is_some_and(|hash| self.hashes.contains(hash));
        has_hash && template_name(object, claim).is_some_and(|name| name == self.name)
    }
}

/// The hash of a claim template as KusionStack's controller writes it: 32 bits, FNV-1, in decimal digits, each of
/// which is replaced by a letter.
fn hash(text: &str) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = text.bytes().fold(0x811c_9dc5_u32, |digest, byte| {
        digest.wrapping_mul(0x0100_0193) ^ u32::from(byte)
    });
    let letter = |byte: u8| LETTERS.get(usize::from(byte) % LETTERS.len());
    let letters = digest.to_string().into_bytes().into_iter();
    letters
        .filter_map(letter)
        .map(|byte| char::from(*byte))
        .collect()
}

/// The template that a claim was created from. Old versions of KusionStack's controller wrote it only into the name.
fn template_name<'a>(object: &CollaSet, claim: &'a PersistentVolumeClaim) -> Option<&'a str> {
    if let Some(name) = claim.labels().get(keys::CLAIM_TEMPLATE) {
        return Some(name);
    }
    let name = claim.metadata.name.as_deref()?;
    let (beginning, _) = name.rsplit_once('-')?;
    beginning
        .strip_prefix(&*object.name_any())?
        .strip_prefix('-')
}

/// The id that a claim is for.
pub(super) fn id_of(claim: &PersistentVolumeClaim) -> Option<u32> {
    claim.labels().get(keys::INSTANCE_ID)?.parse().ok()
}

/// Whether a claim is being deleted.
pub(super) fn is_deleted(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some()
}

/// Whether a claim belongs to the set: by its owner reference, or without any, by what it says.
fn is_own(object: &CollaSet, claim: &PersistentVolumeClaim) -> bool {
    let uid = object.metadata.uid.as_deref();
    let said = claim.annotations().get(keys::CLAIM_OF).map(String::as_str);
    uid.is_some() && owner_uid(claim).or(said) == uid
}

/// Whether the set may take a claim that nobody owns, by its labels. Without `matchLabels` the name decides.
pub fn may_take(object: &CollaSet, claim: &PersistentVolumeClaim) -> bool {
    let labels = claim.labels();
    let matched = object.spec.selector.match_labels.as_ref();
    let matched = matched.filter(|matched| !matched.is_empty());
    let is_selected = match matched {
        Some(matched) => matched
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value)),
        None => claim
            .name_any()
            .starts_with(&format!("{}-", object.name_any())),
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
        let free = others.into_iter().filter(is_free).collect();
        let with_claims = revisions
            .all()
            .filter(|one| !claim_templates(one).is_empty());
        let templates = with_claims.map(|one| {
            let templates = claim_templates(one).iter().map(Template::of);
            (one.name_any(), templates.collect())
        });
        let mut claims = Self {
            object,
            own,
            free,
            mounts: BTreeMap::new(),
            templates: templates.collect(),
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
        let is_it = |claim: &&&PersistentVolumeClaim| {
            id_of(claim) == Some(id) && template.is_of(self.object, claim)
        };
        // A pod that stays keeps its claims.
        let is_left = |claim: &&&PersistentVolumeClaim| {
            let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none() && !is_finished(pod);
            !self.mounting(claim).iter().any(|pod| stays(pod))
        };
        let mut own = self.own.iter().filter(is_it).filter(is_left);
        if let Some(claim) = own.clone().find(|claim| !is_deleted(claim)) {
            return Found::Own(claim);
        }
        if let Some(claim) = own.next() {
            return Found::Deleted(claim);
        }
        let may_take =
            |claim: &&&PersistentVolumeClaim| !is_deleted(claim) && may_take(self.object, claim);
        let mut free = self.free.iter().filter(is_it).filter(is_left);
        free.find(may_take)
            .map_or(Found::Nothing, |claim| Found::Free(claim))
    }

    /// Whether a pod that is not gone yet mounts a claim that is not made for several pods.
    fn is_mounted_alone(&self, claim: &PersistentVolumeClaim) -> bool {
        let modes = claim.spec.iter().flat_map(|spec| &spec.access_modes);
        let is_shared = |mode: &String| mode == "ReadWriteMany" || mode == "ReadOnlyMany";
        let mut pods = self.mounting(claim).iter();
        !modes.flatten().any(is_shared) && pods.any(|pod| !is_finished(pod))
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
        self.mounting(claim).iter().copied().partition(is_member)
    }
}

/// A claim of a template for an id.
enum Found<'a> {
    Own(&'a PersistentVolumeClaim),
    /// It belongs to nobody.
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

/// The creation of a claim.
fn start(object: &CollaSet, id: u32, template: &Template) -> Start {
    let texts = |field: &str| {
        let texts = template.body.pointer(field).and_then(Value::as_object);
        texts.cloned().unwrap_or_default()
    };
    let mut labels = texts("/metadata/labels");
    let matched = object.spec.selector.match_labels.iter().flatten();
    labels.extend(matched.map(|(key, value)| (key.clone(), json!(value))));
    let [hash, _] = &template.hashes;
    let own = [
        (keys::CONTROL, "true"),
        (keys::INSTANCE_ID, &id.to_string()),
        (keys::CLAIM_TEMPLATE, &template.name),
        (keys::CLAIM_HASH, hash),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), json!(value))));
    let mut annotations = texts("/metadata/annotations");
    annotations.insert(keys::CLAIM_OF.to_owned(), json!(object.metadata.uid));
    let owners: Vec<_> = owner(object).into_iter().collect();
    let is_owned = object.claims_when_deleted() == ClaimRetention::Delete;
    Start {
        subject: format!("{SUBJECT}{id}/{}", template.name),
        names: names(object, id, template),
        body: json!({
            "apiVersion": "v1",
            "kind": PersistentVolumeClaim::kind(&()),
            "metadata": {
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": if is_owned { owners } else { Vec::new() },
            },
            "spec": template.body.get("spec"),
        }),
    }
}

fn names(object: &CollaSet, id: u32, template: &Template) -> Vec<String> {
    let (uid, name, [hash, _]) = (
        object.uid().unwrap_or_default(),
        &template.name,
        &template.hashes,
    );
    let beginning = format!("{}-{name}", object.name_any());
    let beginning = cut(&beginning, BEGINNING);
    let ends = (0..NAMES).map(|salt| five(&format!("{uid}/{name}/{id}/{hash}/{salt}")));
    ends.map(|end| format!("{beginning}-{end}")).collect()
}

/// Whether a creation is that of a claim.
pub(super) fn is_start(start: &Start) -> bool {
    start.subject.starts_with(SUBJECT)
}

/// Decides about a claim that has a name of the one that is to be created.
pub(super) fn claim(object: &CollaSet, start: &Start, found: &Value) -> Claim {
    let Ok(found) = serde_json::from_value::<PersistentVolumeClaim>(found.clone()) else {
        return Claim::Others;
    };
    let labels = [keys::INSTANCE_ID, keys::CLAIM_TEMPLATE, keys::CLAIM_HASH];
    let is_same = |key: &str| {
        let value = found.labels().get(key);
        value.is_some_and(|value| start.body["metadata"]["labels"][key] == **value)
    };
    match is_own(object, &found) && labels.into_iter().all(is_same) {
        true if is_deleted(&found) => Claim::Leaving,
        true => Claim::Mine,
        false => Claim::Others,
    }
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

/// Why the claim templates of a set cannot be used. The CRD refuses this, unless it is KusionStack's.
pub(super) fn problem(templates: &[VolumeClaimTemplate]) -> Option<Failure> {
    let mut known = BTreeSet::new();
    let of_one = |template: &VolumeClaimTemplate| {
        let name = template.at(&["metadata", "name"]).and_then(Value::as_str);
        let modes = template.at(&["spec", "accessModes"]);
        let modes = modes.and_then(Value::as_array).map_or(0, Vec::len);
        match name.unwrap_or_default() {
            "" => Some("has a template without metadata.name".to_owned()),
            name if name.len() > 63 => Some(format!("has the name {name:?}, which is too long")),
            name if !known.insert(name.to_owned()) => {
                Some(format!("has two templates with the name {name:?}"))
            }
            name if modes == 0 => Some(format!(
                "has the template {name:?} without spec.accessModes"
            )),
            _ => None,
        }
    };
    let why = templates.iter().find_map(of_one)?;
    let message = format!("spec.volumeClaimTemplates {why}");
    Some(Failure::new("InvalidTemplate", message))
}
