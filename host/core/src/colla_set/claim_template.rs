//! Claim templates: how they are hashed, which claims are of one, and what a new claim is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource, ResourceExt};
use operon_api::{CollaSet, colla_set::ClaimRetention, embedded::VolumeClaimTemplate, keys};
use serde_json::{Value, json};

use super::claims::{is_deleted, is_own};
use crate::{
    action::Failure,
    driver::{Claim, Start},
    jobs::{
        name::{cut, five},
        owned::owner,
        stored::stored_claim,
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
    /// The value of the label of new claims.
    hash: String,
    /// The values that the label of its claims may have: those of all spellings of the template, ours and those of
    /// KusionStack's controller built with a newer library.
    hashes: BTreeSet<String>,
    body: Value,
}

impl Template {
    pub(super) fn of(body: &Value) -> Self {
        let name = body.pointer("/metadata/name").and_then(Value::as_str);
        // What Go cannot read has no hash of KusionStack's.
        let texts =
            |body: &Value| go_claims(body).unwrap_or_else(|| [body.to_string(), body.to_string()]);
        let [written, _] = texts(body);
        let all = spellings(body).into_iter().flat_map(|one| texts(&one));
        Self {
            name: name.unwrap_or_default().to_owned(),
            hash: hash(&written),
            hashes: all.map(|text| hash(&text)).collect(),
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

/// The same template with and without what the API server fills in: claims that were created from one are claims of
/// the other.
fn spellings(body: &Value) -> Vec<Value> {
    let types = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim"});
    let mut all = vec![body.clone()];
    for is_typed in [false, true] {
        for has_mode in [false, true] {
            let mut one = body.clone();
            if let Some(fields) = one.as_object_mut() {
                fields.retain(|key, _| key != "apiVersion" && key != "kind");
                fields.extend(
                    types
                        .as_object()
                        .filter(|_| is_typed)
                        .cloned()
                        .into_iter()
                        .flatten(),
                );
            }
            let spec = one.get_mut("spec").and_then(Value::as_object_mut);
            if let Some(spec) = spec.filter(|spec| {
                let mode = spec.get("volumeMode");
                mode.is_none_or(|mode| mode.is_null() || mode == "Filesystem")
            }) {
                spec.remove("volumeMode");
                spec.extend(has_mode.then(|| ("volumeMode".to_owned(), json!("Filesystem"))));
            }
            all.push(one);
        }
    }
    all
}

/// Templates of several revisions that mean the same have the same claims, however they are written.
pub(super) fn share(templates: &mut BTreeMap<String, Vec<Template>>) {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let meaning = |template: &Template| stored_claim(&template.body).to_string();
    for template in templates.values().flatten() {
        let hashes = known.entry(meaning(template)).or_default();
        hashes.extend(template.hashes.iter().cloned());
    }
    for template in templates.values_mut().flatten() {
        if let Some(hashes) = known.get(&meaning(template)) {
            template.hashes.clone_from(hashes);
        }
    }
}

/// Whether the name of a claim is one that a claim of the set and of its template has.
pub(super) fn is_named_after(object: &CollaSet, claim: &PersistentVolumeClaim) -> bool {
    let name = claim.name_any();
    let Some((beginning, _)) = name.rsplit_once('-') else {
        return false;
    };
    match claim.labels().get(keys::CLAIM_TEMPLATE) {
        Some(template) => beginning == cut(&format!("{}-{template}", object.name_any()), BEGINNING),
        None => beginning.starts_with(&format!("{}-", object.name_any())),
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

/// The creation of a claim.
pub(super) fn start(object: &CollaSet, id: u32, template: &Template) -> Start {
    let texts = |field: &str| {
        let texts = template.body.pointer(field).and_then(Value::as_object);
        texts.cloned().unwrap_or_default()
    };
    let mut labels = texts("/metadata/labels");
    let matched = object.spec.selector.match_labels.iter().flatten();
    labels.extend(matched.map(|(key, value)| (key.clone(), json!(value))));
    let own = [
        (keys::CONTROL, "true"),
        (keys::INSTANCE_ID, &id.to_string()),
        (keys::CLAIM_TEMPLATE, &template.name),
        (keys::CLAIM_HASH, &template.hash),
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
    let (uid, name, hash) = (
        object.uid().unwrap_or_default(),
        &template.name,
        &template.hash,
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
