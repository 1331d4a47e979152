//! The schema of the chart's values: it is closed, and helm refuses what does not fit it, in words that name the value.
//!
//! Unknown keys and wrong types are made from the schema, for every value in it. `tests/refused.yaml` has the rest: ranges, patterns, required keys.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use operon_devcluster::{Progress, Tool};
use serde_json::{Map, Value, json};

use super::read;
use crate::tools;

/// Objects that may have any keys: parts of Kubernetes' objects, settings of actions, and what charts share.
const OPEN: [&str; 9] = [
    "/actions/debug/settings",
    "/actions/evict/settings",
    "/actions/recreate/settings",
    "/actions/replace/settings",
    "/actions/resize/settings",
    "/actions/restart/settings",
    "/affinity",
    "/global",
    "/resources",
];

/// A key that no value has.
const UNKNOWN: &str = "unknown";

/// Fails if a wrong value is accepted, or refused in other words.
pub(super) fn check(chart: &Path, progress: &Progress) -> Result<()> {
    let schema: Value = serde_json::from_str(&read(&chart.join("values.schema.json"))?)
        .context("values.schema.json is no JSON")?;
    let found = Found::of(&schema)?;
    check_closed(&found.open)?;
    let helm = Helm::new(chart, progress)?;
    let unknown = found.closed.iter().map(|path| {
        let message = format!("at '{path}': additional properties '{UNKNOWN}' not allowed");
        (format!("{path}/{UNKNOWN}"), json!(true), message)
    });
    helm.refuses_all(&unknown.collect::<Vec<_>>())?;
    let mistyped = found
        .leaves
        .iter()
        .map(|(path, wrong)| (path.clone(), wrong.clone(), format!("at '{path}': ")));
    helm.refuses_all(&mistyped.collect::<Vec<_>>())?;
    let listed: Vec<Value> = serde_yaml_ng::from_str(&read(&chart.join("tests/refused.yaml"))?)
        .context("tests/refused.yaml can't be read")?;
    for case in &listed {
        let expected = case["prints"].as_str();
        let expected = expected.with_context(|| format!("{case} has no `prints`"))?;
        let printed = helm.printed(&case["values"])?;
        ensure!(
            printed.contains(expected),
            "with {} helm does not print {expected:?}, but:\n{printed}",
            case["values"]
        );
    }
    progress.say(format!(
        "helm refuses unknown keys in {} objects, wrong types of {} values, and {} other wrong values",
        found.closed.len(),
        found.leaves.len(),
        listed.len()
    ));
    Ok(())
}

/// `helm template` with values of a file.
struct Helm<'a> {
    program: PathBuf,
    chart: &'a Path,
    file: PathBuf,
}

impl<'a> Helm<'a> {
    fn new(chart: &'a Path, progress: &Progress) -> Result<Self> {
        let program = Tool::Helm.ensure(progress)?;
        let file = tools::target_dir().join("refused-values.json");
        let helm = Self {
            program,
            chart,
            file,
        };
        // Otherwise everything is refused, for another reason.
        let output = helm.run(&json!({}))?;
        ensure!(
            output.status.success(),
            "the chart's own values are refused"
        );
        Ok(helm)
    }

    fn run(&self, values: &Value) -> Result<std::process::Output> {
        fs::write(&self.file, values.to_string())
            .with_context(|| format!("failed to write {}", self.file.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(["template", "operon", "--kube-version", "1.34.0", "--values"])
            .args([&*self.file, self.chart]);
        command.output().context("failed to start helm")
    }

    /// What it prints about values that it refuses.
    fn printed(&self, values: &Value) -> Result<String> {
        let output = self.run(values)?;
        ensure!(!output.status.success(), "helm accepts {values}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Each of these paths with its value is refused with its message. All are tried in one run, which prints all mistakes.
    fn refuses_all(&self, wrong: &[(String, Value, String)]) -> Result<()> {
        let mut values = json!({});
        for (path, value, _) in wrong {
            put(&mut values, path, value.clone());
        }
        let printed = self.printed(&values)?;
        let accepted = wrong
            .iter()
            .find(|(_, _, message)| !printed.contains(message));
        match accepted {
            Some((path, value, message)) => {
                bail!("with {value} at {path} helm does not print {message:?}, but:\n{printed}")
            }
            None => Ok(()),
        }
    }
}

/// Writes a value at a path, with the objects and lists around it.
fn put(values: &mut Value, path: &str, value: Value) {
    let mut place = values;
    for key in path.split('/').skip(1) {
        if key == "0" {
            if !place.is_array() {
                *place = json!([{}]);
            }
            place = &mut place[0];
        } else {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[key];
        }
    }
    *place = value;
}

fn check_closed(open: &BTreeSet<String>) -> Result<()> {
    let expected: BTreeSet<_> = OPEN.iter().map(|path| (*path).to_owned()).collect();
    let differs = open.symmetric_difference(&expected).next();
    match differs {
        Some(path) if open.contains(path) => bail!(
            "values.schema.json accepts any key in {path}: set additionalProperties, or add it to OPEN in chart/values.rs"
        ),
        Some(path) => bail!("OPEN in chart/values.rs has {path}, whose keys are known"),
        None => Ok(()),
    }
}

/// What a schema says, by the paths of values.
#[derive(Debug, Default)]
struct Found {
    /// Objects with known keys only.
    closed: Vec<String>,
    /// Objects with any keys.
    open: BTreeSet<String>,
    /// Values of one type, each with a value of another one.
    leaves: Vec<(String, Value)>,
}

impl Found {
    fn of(schema: &Value) -> Result<Self> {
        let mut found = Self::default();
        found.visit(schema, schema, "")?;
        Ok(found)
    }

    fn visit(&mut self, schema: &Value, node: &Value, path: &str) -> Result<()> {
        if let Some(reference) = node["$ref"].as_str() {
            let definition = schema.pointer(reference.trim_start_matches('#'));
            let definition = definition.with_context(|| format!("there is no {reference}"))?;
            return self.visit(schema, definition, path);
        }
        match node["type"].as_str() {
            Some("object") => return self.visit_object(schema, node, path),
            Some("array") => {
                let item = format!("{path}/0");
                // Items of Kubernetes' objects may have any keys.
                if node["items"] != json!({"type": "object"}) {
                    return self.visit(schema, &node["items"], &item);
                }
                self.leaves.push((item, json!("wrong")));
            }
            Some("string") => self.leaves.push((path.to_owned(), json!(true))),
            Some("boolean" | "integer" | "number") => {
                self.leaves.push((path.to_owned(), json!("wrong")));
            }
            None if node["enum"].is_array() || node["oneOf"].is_array() => {
                self.leaves.push((path.to_owned(), json!(true)));
            }
            other => bail!("values.schema.json has no type that is known at {path}: {other:?}"),
        }
        Ok(())
    }

    fn visit_object(&mut self, schema: &Value, node: &Value, path: &str) -> Result<()> {
        match &node["additionalProperties"] {
            Value::Bool(false) => self.closed.push(path.to_owned()),
            Value::Object(_) => {
                let key = format!("{path}/{UNKNOWN}");
                return self.visit(schema, &node["additionalProperties"], &key);
            }
            _ => {
                self.open.insert(path.to_owned());
                self.leaves.push((path.to_owned(), json!("wrong")));
            }
        }
        let empty = Map::new();
        let properties = node["properties"].as_object().unwrap_or(&empty);
        for (key, property) in properties {
            self.visit(schema, property, &format!("{path}/{key}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_schema_is_found() -> Result<()> {
        let schema = json!({
            "type": "object",
            "additionalProperties": false,
            "definitions": {"strings": {"type": "object", "additionalProperties": {"type": "string"}}},
            "properties": {
                "a": {"type": "object", "additionalProperties": false, "properties": {"b": {"type": "boolean"}}},
                "c": {"$ref": "#/definitions/strings"},
                "d": {"type": "array", "items": {"type": "integer"}},
                "e": {"type": "array", "items": {"type": "object"}},
                "f": {"type": "object"},
                "g": {"enum": ["x"]},
            },
        });
        let found = Found::of(&schema)?;
        assert_eq!(found.closed, ["", "/a"]);
        assert_eq!(found.open, BTreeSet::from(["/f".to_owned()]));
        let leaves: Vec<_> = found.leaves.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(leaves, ["/a/b", "/c/unknown", "/d/0", "/e/0", "/f", "/g"]);
        Ok(())
    }

    #[test]
    fn an_object_with_any_keys_is_refused_unless_it_is_listed() {
        let listed: BTreeSet<_> = OPEN.iter().map(|path| (*path).to_owned()).collect();
        assert!(check_closed(&listed).is_ok());
        let mut more = listed.clone();
        more.insert("/image".to_owned());
        assert!(check_closed(&more).is_err());
        assert!(check_closed(&BTreeSet::new()).is_err());
    }

    #[test]
    fn a_value_is_put_into_the_objects_and_lists_of_its_path() {
        let mut values = json!({});
        put(&mut values, "/a/b", json!(1));
        put(&mut values, "/a/c/0/d", json!(2));
        put(&mut values, "/a/c/0/e", json!(3));
        put(&mut values, "/f/0", json!(4));
        let wanted = json!({"a": {"b": 1, "c": [{"d": 2, "e": 3}]}, "f": [4]});
        assert_eq!(values, wanted);
    }
}
