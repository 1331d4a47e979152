//! What a target remembers of the keys that it changes, in its extra-info: the value before, and the value that the
//! action writes. A release puts back only what the action has written and what is still as the action wrote it.

use std::collections::BTreeMap;

use operon_sdk::{ActionError, MetadataEdit, Target};

use crate::kind::Kind;

/// The entry of extra-info. Its value is a JSON object: `{"tier": ["blue", "green"], "old": ["x", null]}`.
pub const CHANGED: &str = "Changed";

/// The entry of extra-info that says that a write succeeded.
pub const WRITTEN: &str = "Written";

/// The bytes that a value of extra-info can have.
const MOST: usize = 1024;

/// The value before, and the value that is written; none: the pod does not have the key.
type Change = (Option<String>, Option<String>);

/// The changes by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changed(BTreeMap<String, Change>);

impl Changed {
    /// What a target remembers.
    pub(crate) fn of(target: &Target) -> Self {
        let text = target.extra(CHANGED);
        let changes = text.and_then(|text| serde_json::from_str(text).ok());
        Self(changes.unwrap_or_default())
    }

    /// A key will be written.
    pub(crate) fn note(&mut self, key: &str, before: Option<&str>, after: Option<&str>) {
        let change = (before.map(str::to_owned), after.map(str::to_owned));
        self.0.insert(key.to_owned(), change);
    }

    /// The value of the entry.
    ///
    /// Errors: terminal `TooMuchToRemember` if it is too long.
    pub(crate) fn to_text<K: Kind>(&self) -> Result<String, ActionError> {
        let text = serde_json::to_string(&self.0).unwrap_or_default();
        if text.len() <= MOST {
            return Ok(text);
        }
        let noun = K::NOUN;
        let message = format!(
            "the previous and the new values of the {noun}s take {} bytes, and a target remembers at most {MOST} to undo its changes: change fewer {noun}s in one job, or shorter ones",
            text.len()
        );
        Err(ActionError::terminal("TooMuchToRemember", message))
    }

    /// Puts back the keys that still have the value that was written; none if there are no such keys.
    ///
    /// A target that does not remember a write may have written, if the host ended before the status had it. All keys
    /// are written at the same time, so then each of them has its new value. Otherwise another client wrote them.
    pub(crate) fn undo<K: Kind>(&self, target: &Target) -> Option<MetadataEdit> {
        let pod = target.pod.as_ref()?;
        let is_new = |(key, (_, after)): &(&String, &Change)| K::of(pod, key) == after.as_deref();
        if target.extra(WRITTEN).is_none() && !self.0.iter().all(|change| is_new(&change)) {
            return None;
        }
        let mut written = self.0.iter().filter(is_new).peekable();
        written.peek()?;
        Some(written.fold(pod.edit(), |edit, (key, (before, _))| {
            change::<K>(edit, key, before.as_deref())
        }))
    }
}

/// Sets a value, or removes it.
pub(crate) fn change<K: Kind>(edit: MetadataEdit, key: &str, value: Option<&str>) -> MetadataEdit {
    match value {
        Some(value) => K::set(edit, key, value),
        None => K::remove(edit, key),
    }
}
