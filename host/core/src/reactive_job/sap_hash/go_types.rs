//! The Go structs of a Job template, as far as they matter for the JSON encoding.
//!
//! The table `go_types.txt` is generated from k8s.io/api, because the order of the fields of a Go
//! struct is in no schema. A field that is newer than the table gets lost, as it would in Go.

use std::{collections::HashMap, sync::LazyLock};

static STRUCTS: LazyLock<HashMap<&str, Vec<Field>>> =
    LazyLock::new(|| parse(include_str!("go_types.txt")));

/// A field of a Go struct; the fields of inlined structs are in the outer one.
#[derive(Debug)]
pub(super) struct Field {
    /// The key in JSON.
    pub(super) name: &'static str,
    /// When the key is written.
    pub(super) presence: Presence,
    /// The type that the value decodes into.
    pub(super) go_type: GoType,
}

/// When Go writes a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Presence {
    /// Whatever its value.
    Always,
    /// `omitempty`: not if it is a zero scalar, a nil pointer, or an empty list or map. Never left
    /// out if it is a struct.
    UnlessEmpty,
    /// `omitzero`: not if it is the zero value. Builds that do not know the tag follow `omitempty`.
    UnlessZero,
}

/// A Go type, as far as JSON distinguishes types.
#[derive(Debug)]
pub(super) enum GoType {
    /// `bool`.
    Bool,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `string`, or a named kind of string.
    String,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`.
    Time,
    /// A struct of the table, by name.
    Struct(&'static str),
    /// A pointer.
    Pointer(Box<GoType>),
    /// A slice.
    List(Box<GoType>),
    /// A map with strings as keys.
    Map(Box<GoType>),
}

/// The fields of a struct in the order of their declaration; none for an unknown struct.
pub(super) fn fields(name: &str) -> &'static [Field] {
    STRUCTS.get(name).map_or(&[], Vec::as_slice)
}

fn parse(table: &'static str) -> HashMap<&'static str, Vec<Field>> {
    let mut structs = HashMap::new();
    let mut current = "";
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (name, line_fields) = line.split_once(" =").unwrap_or((current, line));
        current = name;
        let known: &mut Vec<Field> = structs.entry(name).or_default();
        known.extend(line_fields.split_whitespace().filter_map(parse_field));
    }
    structs
}

/// Reads `name:type`, `name?:type` or `name!:type`.
fn parse_field(text: &'static str) -> Option<Field> {
    let (key, go_type) = text.split_once(':')?;
    let (name, presence) = if let Some(name) = key.strip_suffix('?') {
        (name, Presence::UnlessEmpty)
    } else if let Some(name) = key.strip_suffix('!') {
        (name, Presence::UnlessZero)
    } else {
        (key, Presence::Always)
    };
    Some(Field {
        name,
        presence,
        go_type: parse_type(go_type),
    })
}

fn parse_type(text: &'static str) -> GoType {
    if let Some(inner) = text.strip_prefix('*') {
        return GoType::Pointer(Box::new(parse_type(inner)));
    }
    if let Some(inner) = text.strip_prefix("[]") {
        return GoType::List(Box::new(parse_type(inner)));
    }
    if let Some(inner) = text.strip_prefix("map[string]") {
        return GoType::Map(Box::new(parse_type(inner)));
    }
    match text {
        "bool" => GoType::Bool,
        "int32" => GoType::Int32,
        "int64" => GoType::Int64,
        "string" => GoType::String,
        "quantity" => GoType::Quantity,
        "intOrString" => GoType::IntOrString,
        "time" => GoType::Time,
        name => GoType::Struct(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown_struct(go_type: &GoType) -> Option<&'static str> {
        match go_type {
            GoType::Struct(name) => (!STRUCTS.contains_key(name)).then_some(name),
            GoType::Pointer(inner) | GoType::List(inner) | GoType::Map(inner) => {
                unknown_struct(inner)
            }
            GoType::Bool
            | GoType::Int32
            | GoType::Int64
            | GoType::String
            | GoType::Quantity
            | GoType::IntOrString
            | GoType::Time => None,
        }
    }

    #[test]
    fn every_struct_that_a_field_names_is_in_the_table() {
        let unknown: Vec<_> = STRUCTS
            .values()
            .flatten()
            .filter_map(|field| unknown_struct(&field.go_type))
            .collect();
        assert_eq!(unknown, Vec::<&str>::new());
    }

    #[test]
    fn the_table_is_read_with_inlined_structs_and_marks() {
        let names: Vec<_> = fields("SecretKeySelector")
            .iter()
            .map(|field| field.name)
            .collect();
        assert_eq!(names, ["name", "key", "optional"]);
        let presences: Vec<_> = fields("JobSpec")
            .iter()
            .map(|field| field.presence)
            .collect();
        assert_eq!(
            presences
                .iter()
                .filter(|one| **one == Presence::Always)
                .count(),
            1
        );
        assert_eq!(STRUCTS.values().flatten().count(), 538);
    }
}
