//! What an effect changes, field by field: removed lines begin with `-`, added ones with `+`.

use std::collections::BTreeMap;

use serde_json::Value;

/// Fields that every write changes.
const NOISE: [&str; 1] = ["metadata.resourceVersion"];

/// Text with colours, or without.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The lines of a change, sorted by field.
pub(super) fn lines(before: Option<&Value>, after: Option<&Value>, paint: Paint) -> Vec<String> {
    let (before, after) = (fields(before), fields(after));
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let mut lines = Vec::new();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new || NOISE.contains(&name.as_str()) {
            continue;
        }
        let old = old.map(|old| paint.bad(&format!("- {name}: {old}")));
        let new = new.map(|new| paint.good(&format!("+ {name}: {new}")));
        lines.extend(old);
        lines.extend(new);
    }
    lines
}

/// Every value of an object by its path, such as `metadata.labels["a/b"]`.
pub(super) fn fields(object: Option<&Value>) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    if let Some(object) = object {
        collect("", object, &mut fields);
    }
    fields
}

fn collect(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                collect(&joined(path, key), value, fields);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (place, item) in items.iter().enumerate() {
                collect(&format!("{path}[{place}]"), item, fields);
            }
        }
        leaf => {
            fields.insert(path.to_owned(), leaf.to_string());
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    let is_plain = key.chars().all(|c| c.is_ascii_alphanumeric());
    match (path, is_plain) {
        ("", true) => key.to_owned(),
        (_, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_shown_field_by_field() {
        let before = json!({"metadata": {"labels": {"a/b": "1"}, "resourceVersion": "1"},
            "spec": {"items": [1, 2]}});
        let after = json!({"metadata": {"labels": {"a/b": "2", "c": "3"}, "resourceVersion": "2"},
            "spec": {"items": [1]}});
        let shown = lines(Some(&before), Some(&after), Paint(false));
        assert_eq!(
            shown,
            [
                "+ metadata.labels.c: \"3\"",
                "- metadata.labels[\"a/b\"]: \"1\"",
                "+ metadata.labels[\"a/b\"]: \"2\"",
                "- spec.items[1]: 2",
            ]
        );
        let colored = lines(None, Some(&json!({"a": 1})), Paint(true));
        assert_eq!(colored, ["\u{1b}[32m+ a: 1\u{1b}[0m"]);
    }
}
