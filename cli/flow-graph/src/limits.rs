//! The CRD's constraints on a value beyond its type: length, pattern, required fields, unique items, and
//! rules in CEL. The API server refuses a flow that violates them, so no picture of it is drawn.

use std::collections::HashSet;

use anyhow::{bail, ensure};
use cel::{Context, Program};
use regex::Regex;
use serde_json::Value;

use super::yaml::{Content, Node};

/// Checks one value, but not its content.
///
/// # Errors
/// The first limit that it breaks.
pub(super) fn check(node: &Node, schema: &Value, path: &str) -> anyhow::Result<()> {
    let at = node.at();
    match &node.content {
        Content::Scalar(Value::String(text)) => check_text(text, schema, &format!("{at}{path}")),
        Content::Scalar(Value::Number(number)) => {
            let number = number.as_f64().unwrap_or_default();
            let least = schema["minimum"].as_f64();
            let most = schema["maximum"].as_f64();
            if let Some(least) = least.filter(|least| number < *least) {
                bail!("{at}{path} must be at least {least}, not {number}");
            }
            if let Some(most) = most.filter(|most| number > *most) {
                bail!("{at}{path} must be at most {most}, not {number}");
            }
            Ok(())
        }
        Content::Scalar(_) => Ok(()),
        Content::List(items) => check_list(node, items, schema, path),
        Content::Map(_) => check_map(node, schema, path),
    }
}

fn number(schema: &Value, limit: &str) -> Option<usize> {
    usize::try_from(schema[limit].as_u64()?).ok()
}

fn check_text(text: &str, schema: &Value, place: &str) -> anyhow::Result<()> {
    let length = text.chars().count();
    if let Some(most) = number(schema, "maxLength").filter(|most| length > *most) {
        bail!("{place} has {length} characters; at most {most} are allowed");
    }
    if let Some(least) = number(schema, "minLength").filter(|least| length < *least) {
        bail!("{place} has {length} characters; at least {least} are required");
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.is_empty()) {
        let names = known.iter().filter_map(Value::as_str);
        let names: Vec<_> = names.map(|name| format!("{name:?}")).collect();
        ensure!(
            known.iter().any(|name| name == text),
            "{place} is {text:?}, but must be one of {}",
            names.join(", ")
        );
    }
    let pattern = schema["pattern"].as_str();
    if let Some(pattern) = pattern.and_then(|pattern| Regex::new(pattern).ok()) {
        ensure!(
            pattern.is_match(text),
            "{place} is {text:?}, but must match {pattern}"
        );
    }
    Ok(())
}

fn check_list(node: &Node, items: &[Node], schema: &Value, path: &str) -> anyhow::Result<()> {
    let at = node.at();
    let count = items.len();
    if let Some(most) = number(schema, "maxItems").filter(|most| count > *most) {
        bail!("{at}{path} has {count} items; at most {most} are allowed");
    }
    if let Some(least) = number(schema, "minItems").filter(|least| count < *least) {
        bail!("{at}{path} has {count} items; at least {least} are required");
    }
    let keys: Vec<_> = match schema["x-kubernetes-list-type"].as_str() {
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            keys.into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        }
        Some("set") => Vec::new(),
        Some(_) | None => return Ok(()),
    };
    let mut known = HashSet::new();
    for item in items {
        let of_keys = keys.iter().map(|key| item.get(key).map(Node::to_json));
        let identity = if keys.is_empty() {
            item.to_json().to_string()
        } else {
            let parts = keys.iter().zip(of_keys);
            let parts = parts.filter_map(|(key, value)| Some(format!("{key} {}", value?)));
            parts.collect::<Vec<_>>().join(", ")
        };
        ensure!(
            known.insert(identity.clone()),
            "{}{path} has two items with {identity}",
            item.at()
        );
    }
    Ok(())
}

fn check_map(node: &Node, schema: &Value, path: &str) -> anyhow::Result<()> {
    let at = node.at();
    let required = schema["required"].as_array().into_iter().flatten();
    for field in required.filter_map(Value::as_str) {
        let is_null = |node: &Node| matches!(node.content, Content::Scalar(Value::Null));
        let is_there = node.get(field).is_some_and(|node| !is_null(node));
        let has_default = !schema["properties"][field]["default"].is_null();
        ensure!(is_there || has_default, "{at}{path}.{field} is missing");
    }
    let rules = schema["x-kubernetes-validations"].as_array();
    for rule in rules.into_iter().flatten() {
        if is_broken(rule["rule"].as_str().unwrap_or_default(), node) {
            let message = rule["message"].as_str().unwrap_or_default();
            let field = rule["fieldPath"].as_str().unwrap_or_default();
            bail!("{at}{path}{field}: {message}");
        }
    }
    Ok(())
}

/// Whether a rule of the CRD is false of a value. What can't be evaluated here is left to the API server.
fn is_broken(rule: &str, node: &Node) -> bool {
    let (Ok(program), Ok(value)) = (Program::compile(rule), cel::to_value(node.to_json())) else {
        return false;
    };
    let mut context = Context::default();
    context.add_variable_from_value("self", value);
    program.execute(&context) == Ok(cel::Value::Bool(false))
}
