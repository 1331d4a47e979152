//! The hash of a Job template as SAP's reactivejob-operator writes it on its Jobs, so that they can
//! be recognised and are not run again.
//!
//! A claim template of a CollaSet is hashed over what Go writes too, see [`go_claims`].
//!
//! It is the SHA-256 of what Go writes after having read the template into its types, which are the
//! table of `go_types`. Only the hash needs this: no object is ever written from this encoding.

mod go_types;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::go_types::{Field, GoType, Presence, fields};
use crate::quantity;

/// The hashes that SAP's operator gives to one template, in 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SapHashes {
    /// By v0.1.37 and later.
    pub(super) current: String,
    /// By older versions, which also wrote `"creationTimestamp":null` into each metadata.
    pub(super) before_0_1_37: String,
}

/// The two generations of SAP's builds that encode differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// v0.1.37 and later: with k8s.io/api 0.35 and later.
    Current,
    /// Before v0.1.37: with k8s.io/api 0.31 or 0.32, which does not know `omitzero`. Even older
    /// ones agree on templates without a pod failure policy and without resource claims.
    Before0_1_37,
}

/// The hashes of `spec.jobTemplate` of a ReactiveJob, as read from the API server.
///
/// Guarantees: never panics. Keys that Go does not know are ignored, null is the same as absent.
/// None if Go could not read the template, because a value has another type than Go's.
///
/// Assumptions: times are in seconds and UTC, the way the API server writes them; other forms yield
/// None. The template has no field that is newer than the table of Go types, or that the builds
/// before v0.1.37 did not know.
pub(super) fn sap_hashes(template: &Value) -> Option<SapHashes> {
    Some(SapHashes {
        current: sha256(&go_json(template, Build::Current)?),
        before_0_1_37: sha256(&go_json(template, Build::Before0_1_37)?),
    })
}

/// What Go writes for a template that it has read; None if it cannot read it.
pub(super) fn go_json(template: &Value, build: Build) -> Option<String> {
    encode_struct("JobTemplateSpec", template, build)
}

/// What Go writes for a PersistentVolumeClaim that it has read as a template: by builds that write
/// `"creationTimestamp":null`, and by those that do not. None if Go cannot read it.
pub(crate) fn go_claims(claim: &Value) -> Option<[String; 2]> {
    let part = |key: &str| claim.get(key).unwrap_or(&Value::Null);
    let text = |build| {
        let types = ["kind", "apiVersion"].into_iter();
        let types = types.filter_map(|key| Some(member(key, &quote(part(key).as_str()?))));
        let metadata = encode_struct("ObjectMeta", part("metadata"), build)?;
        let spec = encode_struct("PersistentVolumeClaimSpec", part("spec"), build)?;
        let parts = [("metadata", &*metadata), ("spec", &spec), ("status", "{}")];
        let parts = parts.map(|(key, text)| member(key, text));
        Some(object(&types.chain(parts).collect::<Vec<_>>()))
    };
    Some([text(Build::Before0_1_37)?, text(Build::Current)?])
}

/// The SHA-256 of a text, in 64 lower-case hexadecimal digits.
pub(super) fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Encodes a value of a Go type; an absent one is given as null.
fn encode(value: &Value, go_type: &GoType, build: Build) -> Option<String> {
    match (go_type, value) {
        (GoType::Struct(name), _) => encode_struct(name, value, build),
        (_, Value::Null) => Some(zero(go_type).to_owned()),
        (GoType::Pointer(inner), _) => encode(value, inner, build),
        (GoType::List(inner), Value::Array(items)) => encode_list(items, inner, build),
        (GoType::Map(inner), Value::Object(entries)) => encode_map(entries, inner, build),
        (GoType::Bool, Value::Bool(flag)) => Some(flag.to_string()),
        (GoType::Int64, Value::Number(number)) => Some(number.as_i64()?.to_string()),
        (GoType::Int32 | GoType::IntOrString, Value::Number(number)) => {
            Some(i32::try_from(number.as_i64()?).ok()?.to_string())
        }
        (GoType::String | GoType::IntOrString, Value::String(text)) => Some(quote(text)),
        (GoType::Quantity, Value::String(_) | Value::Number(_)) => {
            Some(quote(&quantity::canonical_of(value)?))
        }
        (GoType::Time, Value::String(text)) => encode_time(text),
        _ => None,
    }
}

/// What Go writes for the zero value of a type that is not a struct of the table.
fn zero(go_type: &GoType) -> &'static str {
    match go_type {
        GoType::Bool => "false",
        GoType::Int32 | GoType::Int64 | GoType::IntOrString => "0",
        GoType::String => r#""""#,
        GoType::Quantity => r#""0""#,
        GoType::Time | GoType::Pointer(_) | GoType::List(_) | GoType::Map(_) => "null",
        GoType::Struct(_) => "{}",
    }
}

fn encode_list(items: &[Value], item_type: &GoType, build: Build) -> Option<String> {
    let texts = items.iter().map(|item| encode(item, item_type, build));
    Some(format!(
        "[{}]",
        texts.collect::<Option<Vec<_>>>()?.join(",")
    ))
}

fn encode_map(entries: &Map<String, Value>, value_type: &GoType, build: Build) -> Option<String> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    let members = entries
        .into_iter()
        .map(|(key, value)| Some(member(key, &encode(value, value_type, build)?)));
    Some(object(&members.collect::<Option<Vec<_>>>()?))
}

fn encode_struct(name: &str, value: &Value, build: Build) -> Option<String> {
    if !value.is_object() && !value.is_null() {
        return None;
    }
    let mut members = Vec::new();
    for field in fields(name) {
        let field_value = value.get(field.name).unwrap_or(&Value::Null);
        let text = encode(field_value, &field.go_type, build)?;
        if !is_left_out(field, field_value, &text, build) {
            members.push(member(field.name, &text));
        }
    }
    Some(object(&members))
}

fn member(key: &str, text: &str) -> String {
    format!("{}:{text}", quote(key))
}

fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

/// Whether Go leaves out a field that is given as `value` and that it would write as `text`.
fn is_left_out(field: &Field, value: &Value, text: &str, build: Build) -> bool {
    let is_zero = text == zero(&field.go_type);
    match field.presence {
        Presence::Always => false,
        Presence::UnlessZero if build == Build::Current => is_zero,
        Presence::UnlessZero | Presence::UnlessEmpty => match &field.go_type {
            GoType::Bool | GoType::Int32 | GoType::Int64 | GoType::String => is_zero,
            // A set pointer stays, even if it points to a zero.
            GoType::Pointer(_) => value.is_null(),
            GoType::List(_) => is_zero || text == "[]",
            GoType::Map(_) => is_zero || text == "{}",
            // For Go a struct is never empty.
            GoType::Struct(_) | GoType::Quantity | GoType::IntOrString | GoType::Time => false,
        },
    }
}

/// Returns a time in the form in which Go would write it again.
fn encode_time(text: &str) -> Option<String> {
    let shape: String = text
        .chars()
        .map(|one| if one.is_ascii_digit() { '0' } else { one })
        .collect();
    match text {
        "0001-01-01T00:00:00Z" => Some("null".to_owned()),
        _ => (shape == "0000-00-00T00:00:00Z").then(|| quote(text)),
    }
}

/// A JSON string as Go writes it: escaped for HTML and JavaScript.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
