//! Which effects the host refuses, whatever RBAC grants: those that connect to an object, those that write who set its
//! fields, and those that change its finalizers, its owners or its controller beyond what an action may decide. RBAC
//! decides everything else. Pure.
//!
//! [`guarded`] says whether an effect concerns these fields at all. If so, [`Change::of`] compares the object before
//! and after it. The host reads the new owners, and sends the effect over the version that it judged.

mod fields;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::core::{Selector, SelectorExt as _};
use serde_json::Value;

pub(super) use self::fields::reaches_owners;
use self::fields::{copies, has_directives, names_judged, reaches_judged, writes_managed};
use super::{Attributes, Effect, ObjectReference, PatchKind, Requirement};

/// Subresources that connect the caller to what runs in or behind an object. A request to `proxy` is passed on with
/// its body, and its answer may be anything.
const CONNECTING: [&str; 4] = ["attach", "exec", "portforward", "proxy"];

/// How many owners an object gets by one effect. Each is read before the effect is sent, one after the other.
const NEW_OWNERS: usize = 8;

/// Why an effect is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {rule}")]
pub struct Refused {
    /// The field that it is about.
    pub field: String,
    /// The rule, as a sentence.
    pub rule: String,
}

impl Refused {
    /// The effect breaks this rule about this field.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
        }
    }
}

/// Why an effect is not performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It never is.
    Refused(Refused),
    /// The object is not as the JSON patch expects it.
    Outdated,
}

impl From<Refused> for Unfit {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// How an effect concerns finalizers and owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarded {
    /// Not at all.
    No,
    /// It names those that the object gets.
    Whole,
    /// It changes those of the object as it is now, which has to be read.
    Patched,
}

/// How an effect concerns finalizers and owners.
///
/// # Errors
/// It is refused whatever the object is.
pub fn guarded(effect: &Effect) -> Result<Guarded, Refused> {
    if writes_managed(effect) {
        return Err(Refused::new(
            "metadata.managedFields",
            "an action may not say who set a field: an apply removes what its manager set before",
        ));
    }
    match effect {
        Effect::Patch {
            subresource,
            kind,
            body,
            ..
        } => {
            check_subresource(subresource.as_deref())?;
            let is_guarded = match kind {
                PatchKind::Merge => names_judged(body),
                PatchKind::Json => reaches_judged(body),
                PatchKind::Strategic if names_judged(body) || has_directives(body) => {
                    return Err(Refused::new(
                        "metadata",
                        "a strategic merge patch may not change finalizers or owner references, and may not have \
                         directives beside them: use a JSON merge patch",
                    ));
                }
                PatchKind::Strategic => false,
            };
            if is_guarded && *kind == PatchKind::Json && copies(body) {
                // Each copy of what holds an earlier copy doubles the object, and the host applies the patch.
                return Err(Refused::new(
                    "body",
                    "a JSON patch of finalizers or owner references copies nothing and moves nothing",
                ));
            }
            Ok(if is_guarded {
                Guarded::Patched
            } else {
                Guarded::No
            })
        }
        Effect::Apply(body) | Effect::Create(body) if names_judged(body) => Ok(Guarded::Whole),
        Effect::Apply(_)
        | Effect::Create(_)
        | Effect::Delete { .. }
        | Effect::Evict { .. }
        | Effect::Event { .. } => Ok(Guarded::No),
    }
}

fn check_subresource(subresource: Option<&str>) -> Result<(), Refused> {
    match subresource {
        Some(name) if CONNECTING.contains(&name) => Err(Refused::new(
            format!("subresource {name:?}"),
            "an action may not connect to an object",
        )),
        Some(_) | None => Ok(()),
    }
}

/// What an effect changes of owners. Its finalizers are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The owners that the object gets: each must exist, and not be being deleted.
    pub owners: Vec<Requirement>,
    /// Another controller than before.
    pub controller: Option<NewController>,
}

/// A controller that an object gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewController {
    /// The one before.
    pub from: Option<Requirement>,
    /// The one after.
    pub to: Requirement,
    /// The labels that the object has then.
    labels: Attributes,
}

impl Change {
    /// What the effect changes on an object that is like this before; null if it is not known, or there is none.
    /// `finalizers` are those that the action may add and remove.
    ///
    /// # Errors
    /// The effect is refused, or the object is not as it expects.
    pub fn of(effect: &Effect, before: &Value, finalizers: &[String]) -> Result<Self, Unfit> {
        let after = after(effect, before)?;
        let (was, is) = (Metadata::of(before)?, Metadata::of(&after)?);
        let changed = difference(&was.finalizers, &is.finalizers);
        if let Some(name) = changed.into_iter().find(|name| !finalizers.contains(name)) {
            return Err(Refused::new(
                format!("metadata.finalizers {name:?}"),
                "an action may only add and remove finalizers of spec.finalizers of its ActionPlugin",
            )
            .into());
        }
        let known = |owner: &&Owner| !was.owners.iter().any(|known| known.is(owner));
        let added = is.owners.iter().filter(known);
        let mut owners: Vec<Requirement> = added.map(|owner| owner.object.clone()).collect();
        let (from, to) = (was.controller()?, is.controller()?);
        let controller = to.filter(|to| !from.is_some_and(|from| from.is(to)));
        let controller = controller.map(|to| NewController {
            from: from.map(|from| from.object.clone()),
            to: to.object.clone(),
            labels: is.labels.clone(),
        });
        if let Some(NewController { to, .. }) = &controller
            && !owners.contains(to)
        {
            owners.push(to.clone());
        }
        if owners.len() > NEW_OWNERS {
            return Err(Refused::new(
                "metadata.ownerReferences",
                format!("an effect gives an object at most {NEW_OWNERS} owners, because each is read before"),
            )
            .into());
        }
        Ok(Self { owners, controller })
    }
}

impl NewController {
    /// Whether one of the two controls the other: an object may go from a controller to its controller, and back.
    /// `from` is the metadata of the controller before, if that exists.
    pub fn is_of_the_same_family(&self, from: Option<&ObjectMeta>, to: &ObjectMeta) -> bool {
        let Some(before) = &self.from else {
            return false;
        };
        controls(&before.uid, to) || from.is_some_and(|from| controls(&self.to.uid, from))
    }

    /// Whether the new controller selects the object, which would make it adopt the object anyway. That is enough for
    /// an object without a controller.
    pub fn is_selected_by(&self, to: &Value) -> bool {
        let selector = to["spec"]["selector"].clone();
        let Ok(selector) = serde_json::from_value::<LabelSelector>(selector) else {
            return false;
        };
        // An empty one selects everything.
        let is_empty = selector
            .match_labels
            .as_ref()
            .is_none_or(BTreeMap::is_empty)
            && selector
                .match_expressions
                .as_ref()
                .is_none_or(Vec::is_empty);
        let selector = Selector::try_from(selector);
        !is_empty && selector.is_ok_and(|selector| selector.matches(&self.labels))
    }

    /// The refusal of a controller that is neither.
    pub fn refused(&self) -> Refused {
        let ObjectReference { kind, name, .. } = &self.to.object;
        Refused::new(
            "metadata.ownerReferences",
            format!(
                "{kind} {name:?} may become the controller only of an object of its own controller or of one that it \
                 controls, or of an object without a controller that it selects"
            ),
        )
    }
}

/// Whether the object of this uid is the controller of the object with this metadata.
fn controls(uid: &str, metadata: &ObjectMeta) -> bool {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

/// The object after the effect, as far as the effect names it.
fn after(effect: &Effect, before: &Value) -> Result<Value, Unfit> {
    let mut after = before.clone();
    match effect {
        Effect::Patch { kind, body, .. } => match kind {
            PatchKind::Merge | PatchKind::Strategic => json_patch::merge(&mut after, body),
            PatchKind::Json => {
                let patch: json_patch::Patch = serde_json::from_value(body.clone())
                    .map_err(|_| Refused::new("body", "its JSON patch can't be read"))?;
                json_patch::patch(&mut after, &patch).map_err(|_| Unfit::Outdated)?;
            }
        },
        Effect::Apply(body) | Effect::Create(body) => after = body.clone(),
        Effect::Delete { .. } | Effect::Evict { .. } | Effect::Event { .. } => {}
    }
    Ok(after)
}

/// What is guarded of an object.
struct Metadata {
    finalizers: Vec<String>,
    owners: Vec<Owner>,
    labels: Attributes,
}

/// An entry of `metadata.ownerReferences`.
struct Owner {
    object: Requirement,
    is_controller: bool,
}

impl Owner {
    fn is(&self, other: &Self) -> bool {
        self.object == other.object
    }
}

impl Metadata {
    fn of(object: &Value) -> Result<Self, Refused> {
        let metadata = &object["metadata"];
        let unreadable = |field: &str, rule: &str| Refused::new(format!("metadata.{field}"), rule);
        let list = |field: &str| match &metadata[field] {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => Ok(list.clone()),
            _ => Err(unreadable(field, "it must be a list")),
        };
        let finalizer = |name: &Value| {
            let name = name.as_str().map(str::to_owned);
            name.ok_or_else(|| unreadable("finalizers", "each must be a text"))
        };
        let owner = |owner: &Value| {
            let rule = "each must have apiVersion, kind, name and uid";
            Owner::of(owner).ok_or_else(|| unreadable("ownerReferences", rule))
        };
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let label = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.into()));
        Ok(Self {
            finalizers: list("finalizers")?
                .iter()
                .map(finalizer)
                .collect::<Result<_, _>>()?,
            owners: list("ownerReferences")?
                .iter()
                .map(owner)
                .collect::<Result<_, _>>()?,
            labels: labels.filter_map(label).collect(),
        })
    }

    fn controller(&self) -> Result<Option<&Owner>, Refused> {
        let mut controllers = self.owners.iter().filter(|owner| owner.is_controller);
        let first = controllers.next();
        match controllers.next() {
            None => Ok(first),
            Some(_) => Err(Refused::new(
                "metadata.ownerReferences",
                "an object has at most one controller",
            )),
        }
    }
}

impl Owner {
    fn of(owner: &Value) -> Option<Self> {
        let text = |key: &str| owner[key].as_str().map(str::to_owned);
        let object = ObjectReference {
            api_version: text("apiVersion")?,
            kind: text("kind")?,
            name: text("name")?,
        };
        Some(Self {
            object: Requirement {
                object,
                uid: text("uid")?,
                resource_version: None,
            },
            is_controller: owner["controller"] == true,
        })
    }
}

/// What only one of the two has.
fn difference(one: &[String], other: &[String]) -> Vec<String> {
    let lacks = |list: &[String], name: &String| !list.contains(name);
    let removed = one.iter().filter(|name| lacks(other, name));
    let added = other.iter().filter(|name| lacks(one, name));
    removed.chain(added).cloned().collect()
}

#[cfg(test)]
mod tests;
