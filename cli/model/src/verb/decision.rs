//! What a user confirms, and whether it is still what would be written when the answer arrives.
//!
//! A running object gets a new version with each status, so the version cannot be what is compared. What decides is
//! compared instead: the object's uid, its spec, what was requested of it, and the effect itself.

use std::fmt;

use operon_api::keys;
use serde_json::Value;

use super::{Effect, Refusal, Verb, effect};
use crate::Object;

/// An effect that a user is asked to confirm, and what it was decided from.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    verb: Verb,
    origin: Origin,
    effect: Effect,
}

/// What of an object decides an effect, beside its status.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    uid: Option<String>,
    /// Which spec it had.
    generation: Option<i64>,
    /// The retry and the rerun that were requested.
    requests: [Option<String>; 2],
}

/// Why nothing is written although a user confirmed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed(String);

impl fmt::Display for Changed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Changed {}

impl Origin {
    fn of(object: &Object) -> Self {
        let metadata = object.metadata();
        let annotations = metadata.annotations.as_ref();
        let request = |key| annotations.and_then(|annotations| annotations.get(key).cloned());
        Self {
            uid: metadata.uid.clone(),
            generation: metadata.generation,
            requests: [keys::RETRY, keys::RERUN].map(request),
        }
    }
}

impl Decision {
    /// What a user who wants this is asked to confirm.
    pub fn of(object: &Object, verb: Verb) -> Result<Self, Refusal> {
        Ok(Self {
            verb,
            origin: Origin::of(object),
            effect: effect(object, verb)?,
        })
    }

    /// The effect.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    /// The effect on the object as it is now. Guarantees that it is the one that was confirmed, and that the API server
    /// refuses a patch if the object changes or is replaced before.
    pub fn confirmed(&self, object: &Object) -> Result<Effect, Changed> {
        let called = object.called();
        let origin = Origin::of(object);
        if origin.uid != self.origin.uid {
            return Err(Changed(format!(
                "{called} is another object now: the one that you looked at was deleted"
            )));
        }
        let effect = match effect(object, self.verb) {
            Ok(effect) => effect,
            Err(refusal) => return Err(Changed(refusal.to_string())),
        };
        if origin != self.origin || !effect.is_like(&self.effect) {
            return Err(Changed(format!(
                "{called} was changed after you looked at it; see whether the effect is still what you want"
            )));
        }
        Ok(effect.over(object))
    }
}

/// What a user must be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Change an object.
    Patch,
    /// Create one.
    Create,
    /// Delete one.
    Delete,
}

impl Right {
    /// The verb of RBAC.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

impl Effect {
    /// What it needs.
    pub fn right(&self) -> Right {
        match self {
            Self::Patch { .. } => Right::Patch,
            Self::Create { .. } => Right::Create,
            Self::Delete { .. } => Right::Delete,
        }
    }

    /// What it does, in a sentence.
    pub fn says(&self) -> &str {
        match self {
            Self::Patch { says, .. } | Self::Create { says, .. } | Self::Delete { says } => says,
        }
    }

    /// What is written: the fields of a patch, or a new object.
    pub fn written(&self) -> Option<Value> {
        match self {
            Self::Patch { patch, says: _ } => Some(without_version(patch)),
            Self::Create { object, says: _ } => Some(object.clone()),
            Self::Delete { says: _ } => None,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.says() == other.says() && self.written() == other.written()
    }

    /// The same effect, of a patch only on the object exactly as it was read. A deletion has its uid anyway.
    fn over(self, object: &Object) -> Self {
        let metadata = object.metadata();
        match self {
            Self::Patch { mut patch, says } => {
                patch["metadata"]["uid"] = metadata.uid.clone().into();
                patch["metadata"]["resourceVersion"] = metadata.resource_version.clone().into();
                Self::Patch { patch, says }
            }
            other @ (Self::Create { .. } | Self::Delete { .. }) => other,
        }
    }
}

/// The patch without the version that it is over.
fn without_version(patch: &Value) -> Value {
    let mut patch = patch.clone();
    if let Some(metadata) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        if metadata.is_empty()
            && let Some(fields) = patch.as_object_mut()
        {
            fields.remove("metadata");
        }
    }
    patch
}
