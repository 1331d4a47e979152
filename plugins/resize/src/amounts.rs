//! Requests and limits of containers: what a job asks for, what a spec has, what a kubelet reports.

use std::collections::BTreeMap;

use operon_sdk::Value;
use serde_json::Map;

use crate::quantity;

/// What can be changed of a container: requests and limits, of these resources.
pub const FIELDS: [(&str, &str); 4] = [
    ("requests", "cpu"),
    ("requests", "memory"),
    ("limits", "cpu"),
    ("limits", "memory"),
];

/// Requests and limits of one container.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Amounts(BTreeMap<(&'static str, &'static str), String>);

/// Those of several containers, by their names.
pub type ByContainer = BTreeMap<String, Amounts>;

impl Amounts {
    /// Reads `{requests: {cpu, memory}, limits: {cpu, memory}}`. A number counts as its text.
    pub fn of(resources: &Value) -> Self {
        let field = |(kind, resource): (&'static str, &'static str)| {
            let text = match &resources[kind][resource] {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some(((kind, resource), text))
        };
        Self(FIELDS.into_iter().filter_map(field).collect())
    }

    /// The same form again.
    pub fn to_value(&self) -> Value {
        let mut kinds = Map::new();
        for ((kind, resource), text) in &self.0 {
            let amounts = kinds.entry(*kind).or_insert_with(|| Map::new().into());
            amounts[*resource] = text.as_str().into();
        }
        kinds.into()
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn get(&self, kind: &'static str, resource: &'static str) -> Option<&str> {
        self.0.get(&(kind, resource)).map(String::as_str)
    }

    /// Those that a condition holds for.
    #[must_use]
    pub fn filtered(&self, holds: impl Fn(&'static str, &'static str, &str) -> bool) -> Self {
        let chosen = self.0.iter();
        let chosen = chosen.filter(|((kind, resource), text)| holds(kind, resource, text));
        Self(chosen.map(|(field, text)| (*field, text.clone())).collect())
    }

    /// Those that are also asked for.
    #[must_use]
    pub fn limited_to(&self, asked: &Self) -> Self {
        self.filtered(|kind, resource, _| asked.get(kind, resource).is_some())
    }

    /// Whether these have what is asked for.
    pub fn meet(&self, asked: &Self) -> bool {
        self.difference(asked).is_none()
    }

    /// The first that is not as asked for, in words.
    pub fn difference(&self, asked: &Self) -> Option<String> {
        asked.0.iter().find_map(
            |((kind, resource), wanted)| match self.get(kind, resource) {
                Some(found) if quantity::is_same(resource, found, wanted) => None,
                Some(found) => Some(format!("{kind}.{resource} {found} instead of {wanted}")),
                None => Some(format!("no {kind}.{resource} instead of {wanted}")),
            },
        )
    }
}

/// Those of several containers, as a value of extra-info.
pub fn to_text(all: &ByContainer) -> String {
    let all = all.iter();
    let object: Map<_, _> = all
        .map(|(name, amounts)| (name.clone(), amounts.to_value()))
        .collect();
    Value::from(object).to_string()
}

/// Reads a value of extra-info; empty if there is none.
pub fn from_text(text: Option<&str>) -> ByContainer {
    let object: Option<Map<String, Value>> = text.and_then(|text| serde_json::from_str(text).ok());
    let all = object.into_iter().flatten();
    all.map(|(name, value)| (name, Amounts::of(&value)))
        .collect()
}
