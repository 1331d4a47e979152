//! The parameters of a job: which keys get which values, and which are removed.

use std::collections::BTreeMap;

use operon_sdk::{ActionError, Job, Value, json};

use crate::{kind::Kind, reserved};

/// How many keys a job can set, and how many it can remove.
const MOST: u32 = 16;

/// The syntax of a key: a name of at most 63 characters, behind an optional DNS domain and a slash.
const KEY: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
/// The length of the domain, which the other pattern does not say.
const PREFIX: &str = "^([^/]{1,253}/)?[^/]*$";

/// What every key shall be: a value, or none.
pub(crate) type Wanted = BTreeMap<String, Option<String>>;

/// `spec.parameters`, as the job writes them.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// The JSON Schema of a key: that of a label, an annotation or a condition.
pub fn key_schema() -> Value {
    json!({"type": "string", "allOf": [{"pattern": KEY}, {"pattern": PREFIX}]})
}

/// The JSON Schema of the parameters.
pub(crate) fn schema<K: Kind>() -> Value {
    let key = key_schema();
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": false,
        "properties": {
            "set": {"type": "object", "minProperties": 1, "maxProperties": MOST,
                "propertyNames": key, "additionalProperties": K::value_schema()},
            "remove": {"type": "array", "minItems": 1, "maxItems": MOST, "uniqueItems": true,
                "items": key},
        },
    })
}

/// What a job wants. The schema has checked the syntax.
///
/// Errors: terminal `BadParameters` if a key is to be set and removed; terminal `ReservedKey`.
pub(crate) fn wanted<K: Kind>(job: &Job) -> Result<Wanted, ActionError> {
    let Parameters { set, remove } = job.parameters()?;
    let set = set.into_iter().map(|(key, value)| (key, Some(value)));
    let mut wanted: Wanted = set.collect();
    for key in remove {
        if let Some(Some(_)) = wanted.get(&key) {
            let message = format!(
                "spec.parameters: the {} {key:?} is in both `set` and `remove`: name it once",
                K::NOUN
            );
            return Err(ActionError::terminal("BadParameters", message));
        }
        wanted.insert(key, None);
    }
    for key in wanted.keys() {
        if let Some(depends) = reserved::depends(K::RESERVED, key) {
            let message = format!(
                "spec.parameters: the {} {key:?} is reserved, because {depends}: use another key",
                K::NOUN
            );
            return Err(ActionError::terminal("ReservedKey", message));
        }
    }
    Ok(wanted)
}
