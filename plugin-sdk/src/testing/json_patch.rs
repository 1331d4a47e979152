//! JSON patches (RFC 6902), as an API server applies them: all operations, or none.

use serde_json::Value;

/// The object with all operations of a patch applied.
///
/// # Errors
/// The operation that can't be applied, in words.
pub(super) fn applied(object: &Value, patch: &Value) -> Result<Value, String> {
    let operations = patch.as_array().ok_or("a JSON patch must be a list")?;
    operations.iter().try_fold(object.clone(), apply)
}

fn apply(mut object: Value, operation: &Value) -> Result<Value, String> {
    let failed = |why: &str| format!("{why}: {operation}");
    let text = |key: &str| {
        operation[key]
            .as_str()
            .ok_or_else(|| failed("no such field"))
    };
    let path = text("path")?;
    match text("op")? {
        "add" => insert(&mut object, path, operation["value"].clone()),
        "replace" => match object.pointer_mut(path) {
            Some(place) => {
                *place = operation["value"].clone();
                Some(())
            }
            None => None,
        },
        "remove" => take(&mut object, path).map(drop),
        "test" if object.pointer(path) == Some(&operation["value"]) => Some(()),
        "test" => return Err(failed("the test fails")),
        "move" => {
            take(&mut object, text("from")?).and_then(|value| insert(&mut object, path, value))
        }
        "copy" => {
            let value = object.pointer(text("from")?).cloned();
            value.and_then(|value| insert(&mut object, path, value))
        }
        _ => return Err(failed("an unknown operation")),
    }
    .ok_or_else(|| failed("the path does not exist"))?;
    Ok(object)
}

/// The parent of a path, and the last key.
fn parent<'a>(object: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    let key = key.replace("~1", "/").replace("~0", "~");
    Some((object.pointer_mut(parent)?, key))
}

fn insert(object: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *object = value;
        return Some(());
    }
    match parent(object, path)? {
        (Value::Object(fields), key) => {
            fields.insert(key, value);
        }
        (Value::Array(items), key) if key == "-" => items.push(value),
        (Value::Array(items), key) => {
            let place = key.parse().ok().filter(|place| *place <= items.len())?;
            items.insert(place, value);
        }
        _ => return None,
    }
    Some(())
}

fn take(object: &mut Value, path: &str) -> Option<Value> {
    match parent(object, path)? {
        (Value::Object(fields), key) => fields.remove(&key),
        (Value::Array(items), key) => {
            let place = key.parse().ok().filter(|place| *place < items.len())?;
            Some(items.remove(place))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_are_applied_in_their_order() {
        let object = json!({"a": {"b/c": 1}, "list": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/a/b~1c", "value": 1},
            {"op": "replace", "path": "/a/b~1c", "value": 2},
            {"op": "add", "path": "/list/1", "value": 2},
            {"op": "add", "path": "/list/-", "value": 4},
            {"op": "copy", "from": "/list/0", "path": "/first"},
            {"op": "move", "from": "/a", "path": "/z"},
            {"op": "remove", "path": "/list/0"},
        ]);
        let expected = json!({"z": {"b/c": 2}, "list": [2, 3, 4], "first": 1});
        assert_eq!(applied(&object, &patch), Ok(expected));
    }

    #[test]
    fn an_operation_that_can_not_be_applied_is_named() {
        let object = json!({"a": 1, "list": []});
        for (operation, why) in [
            (
                json!({"op": "test", "path": "/a", "value": 2}),
                "the test fails",
            ),
            (
                json!({"op": "replace", "path": "/b", "value": 2}),
                "does not exist",
            ),
            (json!({"op": "remove", "path": "/list/0"}), "does not exist"),
            (
                json!({"op": "add", "path": "/b/c", "value": 2}),
                "does not exist",
            ),
            (
                json!({"op": "add", "path": "/list/1", "value": 2}),
                "does not exist",
            ),
            (json!({"op": "swap", "path": "/a"}), "an unknown operation"),
            (json!({"op": "remove"}), "no such field"),
        ] {
            let error = applied(&object, &json!([operation])).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        assert!(applied(&object, &json!({})).is_err());
    }
}
