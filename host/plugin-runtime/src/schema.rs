//! Checks an action's settings against the schema that the action declared in `setup`.
//!
//! The schema comes from the component, so it is not trusted either: nothing is fetched, patterns run
//! in linear time, and a schema that refers to itself or unfolds to too much is refused before it is
//! used, because a validator would not come back from it.

use std::collections::HashMap;

use jsonschema::PatternOptions;
use serde_json::Value;

use crate::log::one_line;

/// Nodes of a schema with all its references followed.
const NODES: u64 = 10_000;
/// Bytes of memory for one compiled pattern.
const PATTERN_BYTES: usize = 1 << 20;
/// How many mistakes are named.
const MISTAKES: usize = 3;
/// How long a mistake's description, which quotes the value, may be.
const MISTAKE_BYTES: usize = 300;
/// Keywords that name or find schemas by other means than a path.
const UNKNOWN_REFERENCES: [&str; 5] = [
    "$dynamicRef",
    "$recursiveRef",
    "$id",
    "$anchor",
    "$dynamicAnchor",
];

/// Says what is wrong with the schema, or where the settings break it.
pub(crate) fn check(schema: &Value, settings: &Value) -> Result<(), String> {
    if schema.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(());
    }
    let unusable = |why: &str| format!("the action's settings schema can't be used: {why}");
    Unfolding {
        schema,
        known: HashMap::new(),
    }
    .size()
    .map_err(|why| unusable(&why))?;
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES);
    let validator = jsonschema::options()
        .with_pattern_options(patterns)
        .build(schema)
        .map_err(|error| unusable(&error.to_string()))?;
    let mistakes: Vec<_> = validator
        .iter_errors(settings)
        .take(MISTAKES)
        .map(|mistake| {
            let place = path(mistake.instance_path().as_str());
            one_line(&format!("spec.settings{place}: {mistake}"), MISTAKE_BYTES)
        })
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes.join("; "))
    }
}

/// A JSON pointer as Kubernetes writes paths: `/a/0/b` is `.a[0].b`.
fn path(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1);
    segments.fold(String::new(), |path, segment| {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        match segment.parse::<usize>() {
            Ok(index) => format!("{path}[{index}]"),
            Err(_) => format!("{path}.{segment}"),
        }
    })
}

/// Counts what a schema is with its references followed.
struct Unfolding<'a> {
    schema: &'a Value,
    /// Sizes of referred schemas; none while one is being counted.
    known: HashMap<&'a str, Option<u64>>,
}

impl<'a> Unfolding<'a> {
    fn size(mut self) -> Result<u64, String> {
        self.of(self.schema)
    }

    fn of(&mut self, node: &'a Value) -> Result<u64, String> {
        let mut size = 1_u64;
        match node {
            Value::Object(members) => {
                for (name, member) in members {
                    size = size.saturating_add(match member {
                        Value::String(reference) if name == "$ref" => self.referred(reference)?,
                        Value::String(_) if UNKNOWN_REFERENCES.contains(&name.as_str()) => {
                            return Err(format!("it uses {name}"));
                        }
                        _ => self.of(member)?,
                    });
                }
            }
            Value::Array(items) => {
                for item in items {
                    size = size.saturating_add(self.of(item)?);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if size > NODES {
            return Err(format!(
                "it has more than {NODES} nodes with its references followed"
            ));
        }
        Ok(size)
    }

    fn referred(&mut self, reference: &'a str) -> Result<u64, String> {
        match self.known.get(reference) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(format!("{reference} refers to itself")),
            None => {}
        }
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| self.schema.pointer(pointer));
        let target = target.ok_or_else(|| format!("{reference} is not a path within it"))?;
        self.known.insert(reference, None);
        let size = self.of(target)?;
        self.known.insert(reference, Some(size));
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_break_the_schema_are_named_by_path() {
        let schema = json!({
            "type": "object",
            "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}},
            "$defs": {"step": {"type": "object", "properties": {"seconds": {"type": "integer"}}}},
        });
        assert_eq!(check(&schema, &json!({"steps": [{"seconds": 1}]})), Ok(()));
        let broken = check(&schema, &json!({"steps": [{}, {"seconds": "two"}]}));
        let message = "spec.settings.steps[1].seconds: \"two\" is not of type \"integer\"";
        assert_eq!(broken, Err(message.to_owned()));
    }

    #[test]
    fn an_empty_schema_takes_all() {
        assert_eq!(check(&json!({}), &json!({"any": ["thing"]})), Ok(()));
    }

    #[test]
    fn schemas_that_would_keep_a_validator_busy_are_refused() {
        let mut definitions = serde_json::Map::new();
        for level in 0..50 {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            definitions.insert(level.to_string(), json!({"allOf": [next.clone(), next]}));
        }
        definitions.insert("50".to_owned(), json!({"type": "object"}));
        let deep = json!({"$ref": "#/$defs/0", "$defs": definitions});
        for (schema, expected) in [
            (json!({"$ref": "#"}), "refers to itself"),
            (json!({"allOf": [{"$ref": "#"}]}), "refers to itself"),
            (
                json!({"$ref": "https://example.com/schema"}),
                "not a path within it",
            ),
            (
                json!({"$ref": "file:///etc/passwd"}),
                "not a path within it",
            ),
            (json!({"$dynamicRef": "#a"}), "it uses $dynamicRef"),
            (deep, "more than 10000 nodes"),
            (json!({"type": "nonsense"}), "can't be used"),
            (json!({"pattern": "(a{1000}){1000}"}), "can't be used"),
            (json!([]), "can't be used"),
        ] {
            let refused = check(&schema, &json!({}));
            assert!(
                refused.as_ref().is_err_and(|why| why.contains(expected)),
                "{schema}: {refused:?}"
            );
        }
    }
}
