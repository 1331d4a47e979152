//! Objects in files of YAML or JSON.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::Value;

/// All objects of a file; of a list of objects, those in it.
///
/// # Errors
/// The file, and the line that is not valid.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Value>> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {shown}"))?;
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let value = Value::deserialize(document)
            .with_context(|| format!("{shown} is not valid YAML or JSON"))?;
        match value {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                let items = list.remove("items");
                let items = items.as_ref().and_then(Value::as_array);
                objects.extend(items.into_iter().flatten().cloned());
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}
