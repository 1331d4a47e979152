//! The ControllerRevisions of a CollaSet: what its template was, so that pods of an older template are
//! known, and a template that is applied again is the same revision.

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::{Resource, ResourceExt};
use operon_api::{CollaSet, colla_set::HISTORY_LIMIT, embedded::PodTemplateSpec, keys};
use serde_json::{Value, json};

use super::{
    Seen,
    pods::{is_finished, owner_uid, revision, was_excluded},
};
use crate::{
    action::{Effect, Propagation},
    driver::{self, Claim, Start},
    jobs::{
        name::{cut, five},
        owned::owner,
        stored::{stored_claim, stored_pod_template},
    },
};

/// What the creation of a revision is for.
pub(super) const SUBJECT: &str = "revision";

/// How long the beginning of a revision's name may be: the name is the value of a label of pods.
const BEGINNING: usize = 52;

/// How many names are tried if another object has one.
const NAMES: u32 = 3;

/// The revisions of a set.
#[derive(Debug)]
pub(super) struct Revisions<'a> {
    /// Those that it owns, the oldest first.
    owned: Vec<&'a ControllerRevision>,
    /// The one of the template, if it exists.
    pub(super) updated: Option<&'a ControllerRevision>,
}

impl<'a> Revisions<'a> {
    pub(super) fn of(seen: &'a Seen) -> Self {
        let object = &*seen.object;
        let uid = object.metadata.uid.as_deref();
        let owned = seen.revisions.iter().map(AsRef::as_ref);
        let mut owned: Vec<&ControllerRevision> = owned
            .filter(|one: &&ControllerRevision| uid.is_some() && owner_uid(*one) == uid)
            .filter(|one| one.metadata.deletion_timestamp.is_none())
            .collect();
        owned.sort_by_key(|one| (one.revision, one.name_any()));
        let updated = known(object, &owned).or_else(|| {
            let content = Content::of(object);
            let mut newest_first = owned.iter().rev();
            newest_first.find(|one| content.is_in(one)).copied()
        });
        Self { owned, updated }
    }

    /// The revision that must be created: there is none of the template.
    pub(super) fn start(&self, object: &CollaSet) -> Option<Start> {
        if self.updated.is_some() {
            return None;
        }
        let data = data(object);
        let digest = digest(object, 0);
        let matched = object.spec.selector.match_labels.clone();
        let mut labels = matched.unwrap_or_default();
        labels.insert(keys::REVISION_DIGEST.to_owned(), digest);
        Some(Start {
            subject: SUBJECT.to_owned(),
            names: (0..NAMES).map(|salt| name(object, salt)).collect(),
            body: json!({
                "apiVersion": ControllerRevision::api_version(&()),
                "kind": ControllerRevision::kind(&()),
                "metadata": {"labels": labels, "ownerReferences": [owner(object)]},
                "data": data,
                "revision": self.newest() + 1,
            }),
        })
    }

    /// An older template was applied again: its revision becomes the newest.
    pub(super) fn renumber(&self) -> Option<Effect> {
        let updated = self.updated?;
        let is_newest = updated.revision == self.newest();
        (!is_newest).then(|| driver::unchanged(updated, json!({"revision": self.newest() + 1})))
    }

    /// The oldest of those that no pod has, beyond the limit.
    pub(super) fn prune(&self, seen: &Seen) -> Vec<Effect> {
        let Some(updated) = self.updated else {
            return Vec::new();
        };
        let object = &*seen.object;
        let status = object.status.as_ref();
        let current = status.and_then(|status| status.current_revision.as_deref());
        let uid = object.metadata.uid.as_deref();
        // A pod that has finished, or was excluded, is not adopted.
        let may_count = |pod: &Pod| !is_finished(pod) && !was_excluded(pod);
        let counts = |pod: &&Pod| owner_uid(*pod) == uid || may_count(pod);
        let pods: Vec<&Pod> = seen.pods.iter().map(AsRef::as_ref).filter(counts).collect();
        let is_kept = |one: &ControllerRevision| {
            let name = one.metadata.name.as_deref();
            let has = |pod: &&Pod| revision(pod) == name;
            name == updated.metadata.name.as_deref() || name == current || pods.iter().any(has)
        };
        let unused: Vec<_> = self.owned.iter().filter(|one| !is_kept(one)).collect();
        let limit = object.spec.history_limit.unwrap_or(HISTORY_LIMIT);
        let limit = usize::try_from(limit).unwrap_or(0);
        let surplus = unused.len().saturating_sub(limit);
        let oldest = unused.into_iter().take(surplus);
        oldest
            .map(|one| driver::delete(*one, Propagation::Background))
            .collect()
    }

    /// All that it owns, the oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a ControllerRevision> {
        self.owned.iter().copied()
    }

    /// The revision of this name, if the set owns it.
    pub(super) fn named(&self, name: &str) -> Option<&'a ControllerRevision> {
        let mut owned = self.owned.iter();
        owned
            .find(|one| one.metadata.name.as_deref() == Some(name))
            .copied()
    }

    fn newest(&self) -> i64 {
        self.owned.last().map_or(0, |one| one.revision)
    }
}

/// The revision of a template that was not edited since it was noted. What the template holds may differ all
/// the same: a schema may have got a default.
fn known<'a>(
    object: &CollaSet,
    owned: &[&'a ControllerRevision],
) -> Option<&'a ControllerRevision> {
    let status = object.status.as_ref()?;
    let generation = object.metadata.generation;
    let is_observed = generation.is_some() && status.observed_generation == generation;
    let updated = status.updated_revision.as_ref().filter(|_| is_observed)?;
    let mut owned = owned.iter();
    owned
        .find(|one| one.metadata.name.as_ref() == Some(updated))
        .copied()
}

/// Decides about a ControllerRevision that has a name of the one that is to be created.
pub(super) fn claim(object: &CollaSet, found: &Value) -> Claim {
    let Ok(found) = serde_json::from_value::<ControllerRevision>(found.clone()) else {
        return Claim::Others;
    };
    let is_same = found.metadata.deletion_timestamp.is_none() && Content::of(object).is_in(&found);
    match owner_uid(&found) {
        uid if is_same && uid.is_some() && uid == object.metadata.uid.as_deref() => Claim::Mine,
        None if is_same => {
            let mut owners = found.metadata.owner_references.unwrap_or_default();
            owners.extend(owner(object));
            Claim::Adopt(json!({"metadata": {"ownerReferences": owners}}))
        }
        _ => Claim::Others,
    }
}

/// What a revision holds: the template, such that a strategic merge patch of it replaces the other, and the claim
/// templates, if there are any.
fn data(object: &CollaSet) -> Value {
    let mut template = json!(object.spec.template);
    template["$patch"] = json!("replace");
    let mut spec = json!({"template": template});
    if !object.spec.volume_claim_templates.is_empty() {
        spec["volumeClaimTemplates"] = json!(object.spec.volume_claim_templates);
    }
    json!({"spec": spec})
}

/// What a revision is of, in its stored form. The Go operator wrote its templates with all defaults, and with
/// nulls.
struct Content {
    template: Value,
    claims: Vec<Value>,
}

impl Content {
    fn of(object: &CollaSet) -> Self {
        let claims = object.spec.volume_claim_templates.iter();
        Self {
            template: stored(&object.spec.template),
            claims: claims.map(|one| stored_claim(&json!(one))).collect(),
        }
    }

    fn is_in(&self, one: &ControllerRevision) -> bool {
        self.claims == stored_claims(one) && stored(&template(one)) == self.template
    }
}

/// The claim templates that a revision holds.
pub(super) fn claim_templates(one: &ControllerRevision) -> &[Value] {
    let held = one.data.as_ref();
    let held = held.and_then(|held| held.0.pointer("/spec/volumeClaimTemplates"));
    held.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What the claim templates of a revision mean, however they are written.
pub(super) fn stored_claims(one: &ControllerRevision) -> Vec<Value> {
    claim_templates(one).iter().map(stored_claim).collect()
}

/// The template that a revision holds.
pub(super) fn template(one: &ControllerRevision) -> PodTemplateSpec {
    let held = one
        .data
        .as_ref()
        .and_then(|held| held.0.pointer("/spec/template"));
    let mut template = held.and_then(Value::as_object).cloned().unwrap_or_default();
    template.remove("$patch");
    PodTemplateSpec(template)
}

/// What a template means, however it is written.
pub(super) fn stored(template: &PodTemplateSpec) -> Value {
    stored_pod_template(&json!(template))
}

fn digest(object: &CollaSet, salt: u32) -> String {
    let data = data(object);
    five(&format!("{data}{salt}")) + &five(&format!("{salt}{data}"))
}

fn name(object: &CollaSet, salt: u32) -> String {
    let set = object.name_any();
    format!("{}-{}", cut(&set, BEGINNING), digest(object, salt))
}
