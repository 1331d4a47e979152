//! A label selector as kubectl's `-l` has it: `app=web,tier!=db,zone in (a,b),canary,!old`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::{Refusal, verb::refuse};

/// The selector that the text describes.
pub(crate) fn parse(text: &str) -> Result<LabelSelector, Refusal> {
    let mut selector = LabelSelector::default();
    for part in parts(text) {
        let part = part.trim();
        let Some(requirement) = requirement(part) else {
            return refuse(format!(
                "{part:?} is no label selector; write for example app=web, app!=web, \"app in (web,api)\", app or \"!app\""
            ));
        };
        match requirement {
            Requirement::Equal(key, value) => {
                let labels = selector.match_labels.get_or_insert_default();
                if let Some(other) = labels.insert(key.clone(), value.clone())
                    && other != value
                {
                    return refuse(format!(
                        "no pod has two values of one label: {key}={other},{key}={value}"
                    ));
                }
            }
            Requirement::Other(key, operator, values) => {
                let expressions = selector.match_expressions.get_or_insert_default();
                expressions.push(LabelSelectorRequirement {
                    key,
                    operator: operator.to_owned(),
                    values,
                });
            }
        }
    }
    Ok(selector)
}

enum Requirement {
    Equal(String, String),
    Other(String, &'static str, Option<Vec<String>>),
}

/// The text between commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_end = |letter: char| {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    text.split(is_end).collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    for (operator, name) in [(" notin ", "NotIn"), (" in ", "In")] {
        if let Some((key, rest)) = part.split_once(operator) {
            let inside = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            let values: Option<Vec<_>> = inside.split(',').map(value).collect();
            return Some(Requirement::Other(key_of(key)?, name, values));
        }
    }
    if let Some((key, text)) = part.split_once("!=") {
        let values = Some(vec![value(text)?]);
        return Some(Requirement::Other(key_of(key)?, "NotIn", values));
    }
    if let Some((key, text)) = part.split_once('=') {
        let text = text.strip_prefix('=').unwrap_or(text);
        return Some(Requirement::Equal(key_of(key)?, value(text)?));
    }
    match part.strip_prefix('!') {
        Some(key) => Some(Requirement::Other(key_of(key)?, "DoesNotExist", None)),
        None => Some(Requirement::Other(key_of(part)?, "Exists", None)),
    }
}

/// A key of a label. The API server checks the details.
fn key_of(text: &str) -> Option<String> {
    let key = text.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    (!key.is_empty() && key.chars().all(fits)).then(|| key.to_owned())
}

/// A value of a label, which may be empty.
fn value(text: &str) -> Option<String> {
    let value = text.trim();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    value.chars().all(fits).then(|| value.to_owned())
}
