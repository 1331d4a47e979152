//! Parts of Kubernetes' own objects as a user writes them inside ours: kept as they were written,
//! checked by Kubernetes' schemas.
//!
//! They are JSON and no typed values on purpose: what is read can never fail to decode, a hash of it
//! does not depend on the fields that this program knows, and a Job made of it is what the user wrote.
//! Descriptions are left out of the schemas: with them a CRD is too large for `kubectl apply`.

use std::borrow::Cow;

use k8s_openapi::api::{batch, core};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A part of an object, as JSON with a schema of Kubernetes.
macro_rules! embedded {
    ($(#[doc = $doc:literal])* $name:ident, $typed:ty) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Map<String, Value>);

        impl $name {
            /// The part at this path of keys.
            pub fn at(&self, path: &[&str]) -> Option<&Value> {
                let (first, rest) = path.split_first()?;
                rest.iter()
                    .try_fold(self.0.get(*first)?, |value, key| value.get(key))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut schema = generator.subschema_for::<$typed>().to_value();
                tidy("", &mut schema);
                complete(stringify!($name), &mut schema);
                Schema::try_from(schema).unwrap_or_default()
            }
        }
    };
}

embedded!(
    /// `metadata` and `spec` of a Job.
    JobTemplateSpec, batch::v1::JobTemplateSpec
);
embedded!(
    /// The `spec` of a Job.
    JobSpec, batch::v1::JobSpec
);
embedded!(
    /// A volume of a pod.
    Volume, core::v1::Volume
);
embedded!(
    /// Where a container mounts a volume.
    VolumeMount, core::v1::VolumeMount
);
embedded!(
    /// A variable of a container's environment.
    EnvVar, core::v1::EnvVar
);

/// The schema of an object of which nothing is said.
pub(crate) struct AnyObject;

impl JsonSchema for AnyObject {
    fn schema_name() -> Cow<'static, str> {
        "AnyObject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        Schema::try_from(schema).unwrap_or_default()
    }
}

/// What a part needs beyond Kubernetes' schema.
fn complete(name: &str, schema: &mut Value) {
    if name == "JobTemplateSpec" {
        schema["properties"]["metadata"] = job_metadata();
    }
}

/// What may be said of the Jobs: everything but who they are.
fn job_metadata() -> Value {
    let mut metadata = embedded_metadata();
    metadata["properties"]["generateName"] = json!({"type": "string"});
    let refused = |field: &str, why: &str| {
        json!({
            "rule": format!("!has(self.{field}) || size(self.{field}) == 0"),
            "message": format!("{field} must not be specified: {why}"),
            "fieldPath": format!(".{field}"),
        })
    };
    metadata["x-kubernetes-validations"] = json!([
        refused("name", "each Job gets a name of its own"),
        refused("generateName", "each Job gets a name of its own"),
        refused(
            "namespace",
            "the Jobs are in the namespace of the object that makes them"
        ),
        refused(
            "finalizers",
            "nobody would remove them, and the Jobs could never be deleted"
        ),
    ]);
    metadata
}
/// The metadata that an object inside another may have. A `creationTimestamp` is what generators of
/// manifests leave there; an API server takes its `null` for absent.
fn embedded_metadata() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    json!({
        "type": "object",
        "properties": {
            "annotations": texts,
            "creationTimestamp": {"type": "string", "format": "date-time"},
            "finalizers": {"type": "array", "items": text},
            "labels": texts,
            "name": text,
            "namespace": text,
        },
    })
}

/// Takes out what a CRD has no room or no use for, and puts in what Kubernetes' own types carry as
/// markers, or take without saying so: lists with keys, defaults, and quantities that are numbers.
fn tidy(name: &str, schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    fields.remove("description");
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            if name == "metadata" {
                *property = embedded_metadata();
            } else {
                tidy(name, property);
            }
        }
        if let Some((field, default)) = defaulted(name)
            && let Some(property) = properties.get_mut(field)
        {
            property["default"] = json!(default);
        }
    }
    if matches!(name, "limits" | "requests") && fields.contains_key("additionalProperties") {
        fields.insert("additionalProperties".to_owned(), quantity());
    }
    if matches!(name, "sizeLimit" | "divisor") {
        fields.clear();
        fields.extend(quantity().as_object().cloned().unwrap_or_default());
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = fields.get_mut(nested) {
            tidy(name, nested);
        }
    }
    let is_list = fields.get("type").is_some_and(|kind| kind == "array");
    if is_list && matches!(name, "containers" | "initContainers") {
        fields.insert("x-kubernetes-list-type".to_owned(), json!("map"));
        fields.insert("x-kubernetes-list-map-keys".to_owned(), json!(["name"]));
    }
}

/// A quantity: a string, or a number with or without a fraction. No type of a CRD is both, so it has none;
/// what is no quantity is refused with the Job.
fn quantity() -> Value {
    json!({"x-kubernetes-preserve-unknown-fields": true})
}

/// The field of the objects under this name that an API server fills in, inside of a template too.
fn defaulted(name: &str) -> Option<(&'static str, &'static str)> {
    match name {
        "ports" => Some(("protocol", "TCP")),
        "grpc" => Some(("service", "")),
        "onPodConditions" => Some(("status", "True")),
        "configMap" | "configMapKeyRef" | "configMapRef" | "imagePullSecrets" | "secret"
        | "secretKeyRef" | "secretRef" => Some(("name", "")),
        _ => None,
    }
}
