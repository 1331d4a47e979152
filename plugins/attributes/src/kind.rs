//! The kinds of attributes: labels.

use operon_sdk::{MetadataEdit, Pod, Value, json};

use crate::reserved::{self, Reserved};

/// One kind of attributes of a pod.
pub trait Kind {
    /// What a message calls one of them.
    const NOUN: &'static str;
    /// The keys that a job cannot change.
    const RESERVED: &'static [Reserved];

    /// The JSON Schema of a value.
    fn value_schema() -> Value;
    /// The value of a pod.
    fn of<'a>(pod: &'a Pod, key: &str) -> Option<&'a str>;
    /// Sets a value.
    fn set(edit: MetadataEdit, key: &str, value: &str) -> MetadataEdit;
    /// Removes a value.
    fn remove(edit: MetadataEdit, key: &str) -> MetadataEdit;
}

/// The labels.
#[derive(Debug)]
pub struct Labels;

impl Kind for Labels {
    const NOUN: &'static str = "label";
    const RESERVED: &'static [Reserved] = reserved::LABELS;

    fn value_schema() -> Value {
        let pattern = "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
        json!({"type": "string", "pattern": pattern})
    }

    fn of<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
        pod.label(key)
    }

    fn set(edit: MetadataEdit, key: &str, value: &str) -> MetadataEdit {
        edit.set_label(key, value)
    }

    fn remove(edit: MetadataEdit, key: &str) -> MetadataEdit {
        edit.remove_label(key)
    }
}
