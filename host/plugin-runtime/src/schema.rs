//! The limits of a settings schema: checked before a validator sees it.
//!
//! The schema comes from the component, so it is not trusted. A validator follows references and recurses
//! as deep as they lead, so size and depth are those with references followed. References by other means
//! than a plain path, and other dialects, are refused by name: they would escape this check.

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    limits::{SCHEMA_DEPTH, SCHEMA_VALUES},
    log::one_line,
};

/// The one dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords that name schemas, or find them, by other means than a path; `id` is draft 4's.
const UNCHECKED: [&str; 8] = [
    "$id",
    "id",
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "$vocabulary",
];
/// How much of a reference a message quotes.
const QUOTED_BYTES: usize = 100;

/// Returns the error of a schema.
///
/// Guarantees of a schema that passes: with its references followed it is a tree of at most
/// [`SCHEMA_VALUES`] values and [`SCHEMA_DEPTH`] levels, and nothing outside of it is needed.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    let unfolding = Unfolding {
        schema,
        known: HashMap::new(),
    };
    unfolding.check()
}

/// The role of a value in a schema.
#[derive(Clone, Copy)]
enum Role {
    /// A schema, or a list of schemas.
    Schema,
    /// Schemas by name: `properties` and the like.
    Named,
    /// Any value: `default` and the like.
    Data,
}

impl Role {
    /// The role of a member of an object in this role.
    fn of_member(self, name: &str) -> Self {
        match (self, name) {
            (Self::Data, _) | (Self::Schema, "const" | "default" | "enum" | "examples") => {
                Self::Data
            }
            (
                Self::Schema,
                "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties"
                | "properties",
            ) => Self::Named,
            (Self::Schema | Self::Named, _) => Self::Schema,
        }
    }
}

/// The measures of a value with its references followed.
#[derive(Clone, Copy)]
struct Size {
    values: usize,
    levels: usize,
}

impl Size {
    const ONE: Self = Self {
        values: 1,
        levels: 1,
    };

    /// A value that has these members so far, and one more.
    fn with(self, member: Self) -> Result<Self, String> {
        let size = Self {
            values: self.values.saturating_add(member.values),
            levels: self.levels.max(member.levels.saturating_add(1)),
        };
        if size.values > SCHEMA_VALUES {
            return Err(format!(
                "it has more than {SCHEMA_VALUES} values with its references followed"
            ));
        }
        if size.levels > SCHEMA_DEPTH {
            return Err(too_deep());
        }
        Ok(size)
    }
}

fn too_deep() -> String {
    format!("it is more than {SCHEMA_DEPTH} levels deep with its references followed")
}

/// Measures a schema with its references followed.
struct Unfolding<'a> {
    schema: &'a Value,
    /// The sizes of schemas that are referred to; none while one is being measured.
    known: HashMap<&'a str, Option<Size>>,
}

impl<'a> Unfolding<'a> {
    fn check(mut self) -> Result<(), String> {
        self.size(self.schema, Role::Schema, 1).map(drop)
    }

    /// The size of a value that is at this level. It recurses to the deepest level that is allowed.
    fn size(&mut self, value: &'a Value, role: Role, level: usize) -> Result<Size, String> {
        if level > SCHEMA_DEPTH {
            return Err(too_deep());
        }
        let mut size = Size::ONE;
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let member = self.member(name, member, role, level + 1)?;
                    size = size.with(member)?;
                }
            }
            Value::Array(items) => {
                for item in items {
                    size = size.with(self.size(item, role, level + 1)?)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(size)
    }

    fn member(
        &mut self,
        name: &'a str,
        member: &'a Value,
        role: Role,
        level: usize,
    ) -> Result<Size, String> {
        match (role, name) {
            (Role::Schema, "$ref") => match member {
                Value::String(reference) => self.referred(reference, level),
                _ => Err("$ref is not a string".to_owned()),
            },
            (Role::Schema, "$schema") if member.as_str().map(dialect) != Some(DIALECT) => {
                let member = one_line(&member.to_string(), QUOTED_BYTES);
                Err(format!(
                    "its $schema is {member}; only {DIALECT:?} is checked"
                ))
            }
            (Role::Schema, _) if UNCHECKED.contains(&name) => {
                Err(format!("it uses {name}, which is not checked"))
            }
            _ => self.size(member, role.of_member(name), level),
        }
    }

    fn referred(&mut self, reference: &'a str, level: usize) -> Result<Size, String> {
        let refused = |why: &str| {
            let reference = one_line(reference, QUOTED_BYTES);
            Err(format!("its $ref {reference:?} {why}"))
        };
        match self.known.get(reference) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return refused("refers to itself"),
            None => {}
        }
        if reference.contains('%') {
            return refused("is percent-encoded; write the characters themselves");
        }
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| self.schema.pointer(pointer));
        let Some(target) = target else {
            return refused("is not a path within it (#/…)");
        };
        self.known.insert(reference, None);
        let size = self.size(target, Role::Schema, level)?;
        self.known.insert(reference, Some(size));
        Ok(size)
    }
}

/// A dialect's name; an empty fragment has no meaning.
fn dialect(name: &str) -> &str {
    name.strip_suffix('#').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    /// Schemas of which each but the last is a reference to the next.
    fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
        let mut schemas: BTreeMap<String, Value> = (0..length)
            .map(|number| {
                let next = json!({"$ref": format!("#/$defs/{:05}", number + 1)});
                (format!("{number:05}"), link(next))
            })
            .collect();
        schemas.insert(format!("{length:05}"), json!({}));
        json!({"$ref": "#/$defs/00000", "$defs": schemas})
    }

    /// A schema of so many lists inside each other.
    fn nested(levels: usize) -> Value {
        (1..levels).fold(json!({}), |inner, _| json!({ "not": inner }))
    }

    /// On a stack that a recursion without limit would leave within a few hundred levels.
    fn check_on_small_stack(schema: Value) -> Result<(), String> {
        let thread = std::thread::Builder::new().stack_size(128 << 10);
        let result = thread.spawn(move || {
            let result = check(&schema);
            // Dropping recurses too, as deep as the text is nested; the parser limits that.
            std::mem::forget(schema);
            result
        });
        result.expect("a thread").join().expect("no panic")
    }

    #[test]
    fn schemas_that_would_keep_a_validator_busy_are_refused() {
        let deep = "more than 64 levels deep";
        let large = "more than 10000 values";
        let enumeration: Vec<_> = (0..10_000).collect();
        for (what, schema, expected) in [
            ("55,000 references", chain(55_000, |next| next), deep),
            (
                "55,000 references, the last first",
                {
                    // The definitions are measured in order, so each reference is known when it is met.
                    let schemas: BTreeMap<String, Value> = (0..55_000)
                        .map(|number| {
                            let previous = format!("#/$defs/{:05}", number - 1);
                            let schema = if number == 0 {
                                json!({})
                            } else {
                                json!({"$ref": previous})
                            };
                            (format!("{number:05}"), schema)
                        })
                        .collect();
                    json!({ "$defs": schemas })
                },
                deep,
            ),
            (
                "two references over 50 levels",
                chain(50, |next| json!({"allOf": [next.clone(), next]})),
                deep,
            ),
            (
                "ten references over 10 levels",
                chain(10, |next| json!({"allOf": vec![next; 10]})),
                large,
            ),
            ("nested", nested(65), deep),
            ("deep data", json!({"default": nested(64)}), deep),
            ("many values", json!({ "enum": enumeration }), large),
        ] {
            let refused = check_on_small_stack(schema);
            assert!(
                refused.as_ref().is_err_and(|why| why.contains(expected)),
                "{what}: {refused:?}"
            );
        }
    }

    #[test]
    fn schemas_at_the_limits_are_taken() {
        for (what, schema) in [
            ("nested", nested(64)),
            ("references", chain(30, |next| next)),
            ("values", json!({"enum": (0..9_998).collect::<Vec<_>>()})),
        ] {
            assert_eq!(check_on_small_stack(schema), Ok(()), "{what}");
        }
    }

    #[test]
    fn what_is_not_checked_is_refused_by_name() {
        for (schema, expected) in [
            (json!({"$ref": "#"}), "\"#\" refers to itself"),
            (json!({"allOf": [{"$ref": "#"}]}), "refers to itself"),
            (
                json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}}),
                "refers to itself",
            ),
            (
                json!({"$ref": "https://example.com/s"}),
                "not a path within it",
            ),
            (
                json!({"$ref": "file:///etc/passwd"}),
                "not a path within it",
            ),
            (json!({"$ref": "#name"}), "not a path within it"),
            (json!({"$ref": "#/$defs/none"}), "not a path within it"),
            (json!({"$ref": "%23/$defs/a"}), "percent-encoded"),
            (
                json!({"$ref": "#/%24defs/a", "$defs": {"a": {}}}),
                "percent-encoded",
            ),
            (json!({"$ref": 1}), "$ref is not a string"),
            (json!({"$dynamicRef": "#a"}), "uses $dynamicRef,"),
            (
                json!({"items": {"$dynamicAnchor": "a"}}),
                "uses $dynamicAnchor,",
            ),
            (json!({"$recursiveRef": "#"}), "uses $recursiveRef,"),
            (json!({"$id": "https://example.com/s"}), "uses $id,"),
            (json!({"$defs": {"a": {"id": "#b"}}}), "uses id,"),
            (json!({"if": {"$anchor": "a"}}), "uses $anchor,"),
            (json!({"$vocabulary": {}}), "uses $vocabulary,"),
            (
                json!({"$schema": "http://json-schema.org/draft-04/schema#"}),
                "only \"https://json-schema.org/draft/2020-12/schema\" is checked",
            ),
            (
                json!({"items": {"$schema": "http://json-schema.org/draft-07/schema"}}),
                "$schema is \"http://json-schema.org/draft-07/schema\"",
            ),
        ] {
            let refused = check(&schema);
            assert!(
                refused.as_ref().is_err_and(|why| why.contains(expected)),
                "{schema}: {refused:?}"
            );
        }
    }

    #[test]
    fn names_and_data_are_no_keywords() {
        for schema in [
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}),
            json!({"properties": {"id": {"type": "string"}, "$ref": {}, "default": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}}),
            json!({"default": {"id": "main", "$ref": "nowhere"}}),
            json!({"enum": [{"$id": 1}], "const": {"$anchor": "a"}, "examples": [{"$ref": "#"}]}),
            json!({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {}}}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }
}
