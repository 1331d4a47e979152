//! Which fields of metadata the body of an effect writes, before anything of it is applied.

use serde_json::Value;

use super::super::{Effect, PatchKind};

/// What is judged by the object that has it.
pub(super) const JUDGED: [&str; 2] = ["finalizers", OWNERS];

const OWNERS: &str = "ownerReferences";

/// Who set which field. By it the API server decides which fields an `apply` removes.
const MANAGED: &str = "managedFields";

/// Whether an object, or a merge patch of one, has judged fields, or metadata that may hide some.
pub(super) fn names_judged(body: &Value) -> bool {
    match body.get("metadata") {
        None => false,
        Some(Value::Object(metadata)) => JUDGED.iter().any(|field| metadata.contains_key(*field)),
        Some(_) => true,
    }
}

/// Whether an effect writes `metadata.managedFields`.
pub(super) fn writes_managed(effect: &Effect) -> bool {
    match effect {
        Effect::Patch {
            kind: PatchKind::Json,
            body,
            ..
        } => writes(body).any(step_writes_managed),
        Effect::Patch { body, .. } | Effect::Apply(body) | Effect::Create(body) => {
            body["metadata"].get(MANAGED).is_some()
        }
        Effect::Delete { .. } | Effect::Evict { .. } | Effect::Event { .. } => false,
    }
}

fn step_writes_managed(step: &Value) -> bool {
    let value = &step["value"];
    pointers(step).any(|pointer| match parts(pointer) {
        (None, _) => value["metadata"].get(MANAGED).is_some(),
        (Some("metadata"), None) => value.get(MANAGED).is_some(),
        (Some("metadata"), Some(field)) => field == MANAGED,
        (Some(_), _) => false,
    })
}

/// Whether a JSON patch can write judged fields: a step names one, or something around them.
pub(super) fn reaches_judged(body: &Value) -> bool {
    writes(body).any(|step| reaches(step, &JUDGED))
}

/// Whether a JSON patch can write owner references.
pub(in crate::action) fn reaches_owners(body: &Value) -> bool {
    writes(body).any(|step| reaches(step, &[OWNERS]))
}

fn reaches(step: &Value, fields: &[&str]) -> bool {
    pointers(step).any(|pointer| match parts(pointer) {
        (None, _) => true,
        (Some("metadata"), field) => field.is_none_or(|field| fields.contains(&field)),
        (Some(_), _) => false,
    })
}

/// Whether a JSON patch writes values that it takes from the object.
pub(super) fn copies(body: &Value) -> bool {
    writes(body).any(|step| step["op"] == "copy" || step["op"] == "move")
}

/// Whether a strategic merge patch has directives that can reach judged fields.
pub(super) fn has_directives(body: &Value) -> bool {
    let of = |value: Option<&Value>| {
        let fields = value.and_then(Value::as_object);
        fields.is_some_and(|fields| fields.keys().any(|field| field.starts_with('$')))
    };
    of(Some(body)) || of(body.get("metadata"))
}

/// The steps of a JSON patch that are not only tests.
fn writes(body: &Value) -> impl Iterator<Item = &Value> {
    let steps = body.as_array().into_iter().flatten();
    steps.filter(|step| step["op"] != "test")
}

fn pointers(step: &Value) -> impl Iterator<Item = &str> {
    let pointers = ["path", "from"].map(|key| step[key].as_str());
    pointers.into_iter().flatten()
}

/// The first two parts of a JSON pointer. The API server ignores what is before the first slash.
fn parts(pointer: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = pointer.split('/').skip(1);
    (parts.next(), parts.next())
}
