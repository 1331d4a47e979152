//! Parts of Kubernetes' own objects as a user writes them inside ours: kept as they were written,
//! checked by Kubernetes' schemas.
//!
//! They are JSON and no typed values on purpose: what is read can never fail to decode, a hash of it
//! does not depend on the fields that this program knows, and a Job made of it is what the user wrote. Only
//! nulls are dropped, which mean nothing.
//! Descriptions are left out of the schemas: with them a CRD is too large for `kubectl apply`.

use std::borrow::Cow;

use k8s_openapi::{
    api::{batch, core},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

/// A part of an object, as JSON with a schema of Kubernetes.
macro_rules! embedded {
    ($(#[doc = $doc:literal])* $name:ident, $typed:ty) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Map<String, Value>);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut fields = Map::deserialize(deserializer)?;
                drop_nulls(&mut fields);
                Ok(Self(fields))
            }
        }

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
    /// `metadata` and `spec` of a pod.
    PodTemplateSpec, core::v1::PodTemplateSpec
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
embedded!(
    /// A PersistentVolumeClaim to create for each pod.
    VolumeClaimTemplate, core::v1::PersistentVolumeClaim
);

/// Lets the optional fields of a Job be null in a schema that has them beside others.
pub(crate) fn take_nulls(schema: &mut JSONSchemaProps) {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let mut generator = SchemaGenerator::new(settings);
    let job = generator.subschema_for::<batch::v1::JobSpec>().to_value();
    let is_optional = |name: &str| {
        let mut required = job["required"].as_array().into_iter().flatten();
        !job["properties"][name].is_null() && !required.any(|field| field == name)
    };
    let fields = schema.properties.iter_mut().flatten();
    for (_, field) in fields.filter(|(name, _)| is_optional(name)) {
        field.nullable = Some(true);
    }
}

/// Drops fields that are null, as batch/v1 does: a null that comes or goes changes nothing.
fn drop_nulls(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
    let mut left: Vec<_> = fields.values_mut().collect();
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, value| !value.is_null());
                left.extend(fields.values_mut());
            }
            Value::Array(items) => left.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

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
    if name == "VolumeClaimTemplate" {
        complete_claim(schema);
    }
}

/// A claim template needs a name, which is also the name of a volume, and access modes, without which no claim is
/// valid. Its status means nothing.
fn complete_claim(schema: &mut Value) {
    let mut metadata = embedded_metadata();
    metadata["required"] = json!(["name"]);
    metadata["properties"]["name"] = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    });
    schema["required"] = json!(["metadata", "spec"]);
    schema["properties"]["spec"]["required"] = json!(["accessModes"]);
    schema["properties"]["spec"]["properties"]["accessModes"]["minItems"] = json!(1);
    for required in [&mut metadata, &mut schema["properties"]["spec"]] {
        remove_nullable(required);
    }
    remove_nullable(&mut schema["properties"]["spec"]["properties"]["accessModes"]);
    schema["properties"]["metadata"] = metadata;
    schema["properties"]["status"] = json!({
        "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true,
    });
}

/// A null would stay in place of what is required.
fn remove_nullable(schema: &mut Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("nullable");
    }
}

/// What may be said of the Jobs: everything but who they are.
fn job_metadata() -> Value {
    let mut metadata = embedded_metadata();
    // Its rules are read without asking whether it is null.
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("nullable");
    }
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
    let texts = json!({
        "type": "object",
        "nullable": true,
        "additionalProperties": {"type": "string", "nullable": true},
    });
    json!({
        "type": "object",
        "nullable": true,
        "properties": {
            "annotations": texts,
            "creationTimestamp": {"type": "string", "format": "date-time", "nullable": true},
            "finalizers": {"type": "array", "items": text, "nullable": true},
            "labels": texts,
            "name": text,
            "namespace": text,
        },
    })
}

/// Fields that keys of lists may be, and what is no field of a Job.
const IDENTITIES: [&str; 2] = ["name", "metadata"];

/// Takes out what a CRD has no room or no use for, and puts in what Kubernetes' own types carry as
/// markers, or take without saying so: lists with keys, defaults, nulls, and quantities that are numbers.
fn tidy(name: &str, schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    fields.remove("description");
    let required = fields.get("required").and_then(Value::as_array);
    let required = required.cloned().unwrap_or_default();
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            if name == "metadata" {
                *property = embedded_metadata();
            } else {
                tidy(name, property);
            }
            let is_required = required.iter().any(|field| field == name);
            let has_type = property.get("type").is_some();
            if has_type && !is_required && !IDENTITIES.contains(&name.as_str()) {
                // Server-side apply keeps a null, which batch/v1 takes for absent.
                property["nullable"] = json!(true);
            }
        }
        if let Some((field, default)) = defaulted(name)
            && let Some(property) = properties.get_mut(field)
        {
            property["default"] = json!(default);
            if let Some(property) = property.as_object_mut() {
                // A null would stay in place of the default.
                property.remove("nullable");
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_means_nothing_wherever_it_is() {
        let spec: JobSpec = serde_json::from_value(json!({
            "suspend": null,
            "template": {"metadata": {"labels": null}, "spec": {"containers": [{"name": "a", "command": null}]}},
        }))
        .expect("a spec");
        let expected =
            json!({"template": {"metadata": {}, "spec": {"containers": [{"name": "a"}]}}});
        assert_eq!(json!(spec), expected);
    }
}
