//! What the schemas need beyond what is derived from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Makes a schema, and all within it, take `null` for absent and read well.
///
/// A field that is `nullable` keeps a null that a user wrote, and so misses its default: a job with
/// `activeDeadlineSeconds: null` would have none. An API server drops the null of any other field. Parts of
/// Kubernetes' own objects, which have no descriptions, decide for themselves.
pub(crate) fn tidy(schema: &mut JSONSchemaProps) {
    if schema.description.is_some() {
        schema.nullable = None;
    }
    if let Some(description) = &mut schema.description {
        *description = unwrapped(description);
    }
    let properties = schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut());
    properties.for_each(tidy);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}

/// Gives an object that no controller has seen yet a status that says so: kstatus, and with it Helm, Flux and kubectl,
/// takes an object without a status for one that is as desired.
pub(crate) fn begin_unobserved(schema: &mut JSONSchemaProps) {
    let status = schema.properties.as_mut();
    let status = status.and_then(|properties| properties.get_mut("status"));
    let observes = |status: &&mut JSONSchemaProps| {
        let properties = status.properties.as_ref();
        properties.is_some_and(|properties| properties.contains_key("observedGeneration"))
    };
    if let Some(status) = status.filter(observes) {
        status.default = Some(JSON(json!({"observedGeneration": -1})));
    }
}

/// Any object: its fields are decided elsewhere.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true
    })
}

/// The rule that refuses a field which Operon does not support, with this message.
pub(crate) fn unsupported(message: &str) -> Value {
    json!({"rule": "false", "message": message})
}

/// The rule that refuses the items of a list which Operon does not support, with this message.
pub(crate) fn unsupported_items(message: &str) -> Value {
    json!({"rule": "size(self) == 0", "message": message})
}

/// The rule of a number, or a percentage of a total.
pub(crate) fn amount() -> Value {
    json!({
        "rule": "type(self) == int ? self >= 0 && self <= 2147483647 : self.matches('^[0-9]{1,9}%$')",
        "message": "must be a number that is not negative, or a percentage such as 10%",
    })
}

/// The rule of a number that is at least 1, or a percentage of a total.
pub(crate) fn positive_amount() -> Value {
    json!({
        "rule": "type(self) == int ? self >= 1 && self <= 2147483647 : self.matches('^[1-9][0-9]{0,8}%$')",
        "message": "must be a number of at least 1, or a percentage such as 10%; to start no target, set paused",
    })
}

/// A text without the line breaks of the source; paragraphs stay.
fn unwrapped(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
