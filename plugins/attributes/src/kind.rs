//! The kinds of attributes: labels and annotations.

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

/// The annotations.
#[derive(Debug)]
pub struct Annotations;

impl Kind for Annotations {
    const NOUN: &'static str = "annotation";
    const RESERVED: &'static [Reserved] = reserved::ANNOTATIONS;

    /// Kubernetes allows any text. A target remembers 1 KiB.
    fn value_schema() -> Value {
        json!({"type": "string", "maxLength": 512})
    }

    fn of<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
        pod.annotation(key)
    }

    fn set(edit: MetadataEdit, key: &str, value: &str) -> MetadataEdit {
        edit.set_annotation(key, value)
    }

    fn remove(edit: MetadataEdit, key: &str) -> MetadataEdit {
        edit.remove_annotation(key)
    }
}
