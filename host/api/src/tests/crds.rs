//! What users see of the generated CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::{Value, json};

use crate::all_crds;

fn crd(name: &str) -> CustomResourceDefinition {
    let named = |crd: &CustomResourceDefinition| crd.metadata.name.as_deref() == Some(name);
    all_crds().into_iter().find(named).expect("generated")
}

fn opj() -> CustomResourceDefinition {
    crd("operationjobs.apps.kusionstack.io")
}

fn ptr() -> CustomResourceDefinition {
    crd("podtransitionrules.apps.kusionstack.io")
}

fn ap() -> CustomResourceDefinition {
    crd("actionplugins.operon.dev")
}

/// The columns that `kubectl get` prints, those of `-o wide` in brackets.
fn columns(crd: &CustomResourceDefinition) -> Vec<String> {
    let columns = crd.spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten();
    columns
        .map(|column| match column.priority {
            None | Some(0) => column.name.clone(),
            Some(_) => format!("({})", column.name),
        })
        .collect()
}

fn schema(crd: &CustomResourceDefinition) -> JSONSchemaProps {
    let validation = crd.spec.versions[0].schema.clone().expect("a schema");
    validation.open_api_v3_schema.expect("a schema")
}

/// Every schema within this one, with its path.
fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, visit);
    }
}

/// The schema at a path, as JSON.
fn at(crd: &CustomResourceDefinition, path: &str) -> Value {
    let mut found = Value::Null;
    walk("", &schema(crd), &mut |here, schema| {
        if here == path {
            found = serde_json::to_value(schema).expect("schemas are JSON");
        }
    });
    assert!(found.is_object(), "no schema at {path}");
    found
}

#[test]
fn short_names_scope_and_group_are_those_that_users_type() {
    for (crd, group, short, scope) in [
        (opj(), "apps.kusionstack.io", "opj", "Namespaced"),
        (ptr(), "apps.kusionstack.io", "ptr", "Namespaced"),
        (ap(), "operon.dev", "ap", "Cluster"),
    ] {
        assert_eq!(crd.spec.group, group);
        assert_eq!(crd.spec.names.short_names, Some(vec![short.to_owned()]));
        assert_eq!(crd.spec.scope, scope);
        let [version] = crd.spec.versions.as_slice() else {
            unreachable!("one version")
        };
        assert_eq!(
            (version.name.as_str(), version.served, version.storage),
            ("v1alpha1", true, true)
        );
        let subresources = version.subresources.as_ref().expect("subresources");
        assert!(subresources.status.is_some());
    }
}

#[test]
fn kubectl_get_prints_these_columns_after_the_name() {
    let wide = [
        "PROGRESS",
        "AGE",
        "(ACTION)",
        "(SUCCEEDED)",
        "(FAILED)",
        "(TOTAL)",
        "(SELECTOR)",
        "(MESSAGE)",
    ];
    assert_eq!(columns(&opj()), wide);
    assert_eq!(
        columns(&ap()),
        [
            "ACTION",
            "SOURCE",
            "READY",
            "DIGEST",
            "AGE",
            "(REASON)",
            "(SIGNERS)",
            "(MESSAGE)"
        ]
    );
    assert_eq!(
        columns(&ptr()),
        ["PODS", "WAITING", "READY", "AGE", "(MESSAGE)"]
    );
}

#[test]
fn kubectl_get_operon_lists_every_kind() {
    for crd in all_crds() {
        let categories = crd.spec.names.categories;
        assert_eq!(categories, Some(vec!["operon".to_owned()]));
    }
}

#[test]
fn kstatus_takes_no_object_for_ready_that_no_controller_has_seen() {
    let begins = |crd: &CustomResourceDefinition| {
        let status = schema(crd).properties?.remove("status")?;
        Some(serde_json::to_value(status.default).expect("a default is JSON"))
    };
    let begins: Vec<_> = all_crds()
        .iter()
        .map(|crd| (crd.spec.names.kind.clone(), begins(crd)))
        .collect();
    let unobserved = || Some(json!({"observedGeneration": -1}));
    let wanted = [
        ("OperationJob", unobserved()),
        ("CollaSet", unobserved()),
        ("PodTransitionRule", unobserved()),
        // It has no status.
        ("ResourceContext", None),
        ("ReactiveJob", unobserved()),
        ("JobFlow", unobserved()),
        // Nothing has to be done about it.
        ("JobTemplate", Some(Value::Null)),
        ("DaemonJob", unobserved()),
        ("ActionPlugin", unobserved()),
    ];
    assert_eq!(begins, wanted.map(|(kind, begin)| (kind.to_owned(), begin)));
}

#[test]
fn the_crds_outlive_their_helm_release() {
    for crd in all_crds() {
        let annotations = crd.metadata.annotations.expect("annotations");
        assert_eq!(
            annotations
                .get("helm.sh/resource-policy")
                .map(String::as_str),
            Some("keep")
        );
    }
}

/// Whether a field is one of Kubernetes' own, whose descriptions a CRD has no room for.
fn is_kubernetes(path: &str) -> bool {
    let parts = [
        ".jobTemplate.",
        ".env[].",
        ".shareVolumes[].",
        ".shareVolumeMounts[].",
        ".affinity.",
        ".selector.",
        ".volumeClaimTemplates[].",
    ];
    let of_jobs = [
        ".spec.podFailurePolicy.",
        ".spec.successPolicy.",
        ".spec.template.",
    ];
    parts.iter().any(|part| path.contains(part))
        || of_jobs.iter().any(|part| path.starts_with(part))
}

#[test]
fn every_field_is_described_without_line_breaks_of_the_source() {
    for crd in all_crds() {
        let mut bare = Vec::new();
        walk("", &schema(&crd), &mut |path, schema| {
            let text = schema.description.as_deref().unwrap_or_default();
            // What an item is, its list says.
            // An API server takes no description of an object's own metadata.
            let is_own = path == ".metadata" || path == ".metadata.name";
            let is_bare =
                text.is_empty() && !path.ends_with("[]") && !is_kubernetes(path) && !is_own;
            if is_bare || text.replace("\n\n", "").contains('\n') {
                bare.push(path.to_owned());
            }
        });
        assert_eq!(bare, Vec::<String>::new(), "{:?}", crd.metadata.name);
    }
}

#[test]
fn null_is_not_kept_where_there_is_a_default() {
    for crd in all_crds() {
        walk("", &schema(&crd), &mut |path, schema| {
            // Of fields of a Job server-side apply keeps it, and batch/v1 takes it for absent.
            let description = schema.description.as_deref().unwrap_or_default();
            let stands_beside =
                crd.spec.names.kind == "DaemonJob" && path.matches('.').count() == 2;
            let is_of_job = stands_beside || (is_kubernetes(path) && description.is_empty());
            let is_kept = schema.nullable == Some(true);
            assert!(
                !is_kept || (is_of_job && schema.default.is_none()),
                "{path}"
            );
        });
    }
}

#[test]
fn the_fields_have_these_defaults_and_limits() {
    for (path, key, wanted) in [
        (".spec.activeDeadlineSeconds", "default", json!(10_800)),
        (".spec.activeDeadlineSeconds", "minimum", json!(1.0)),
        (".spec.TTLSecondsAfterFinished", "default", json!(1_800)),
        (".spec.TTLSecondsAfterFinished", "minimum", json!(-1.0)),
        (".spec.partition", "minimum", json!(0.0)),
        (".spec.partition", "default", Value::Null),
        (".spec.operationDelaySeconds", "minimum", json!(0.0)),
        (".spec.action", "minLength", json!(1)),
        (".spec.action", "maxLength", json!(63)),
        (".spec.targets", "minItems", json!(1)),
        (
            ".spec.targets",
            "maxItems",
            json!(crate::operation_job::MAX_TARGETS),
        ),
        (".spec.targets", "x-kubernetes-list-type", json!("map")),
        (
            ".spec.targets",
            "x-kubernetes-list-map-keys",
            json!(["name"]),
        ),
        (
            ".spec.targets[].containers",
            "x-kubernetes-list-type",
            json!("set"),
        ),
        (".spec", "required", json!(["action"])),
        (
            ".status.targetDetails",
            "x-kubernetes-list-type",
            json!("atomic"),
        ),
        (
            ".status.conditions",
            "x-kubernetes-list-map-keys",
            json!(["type"]),
        ),
    ] {
        assert_eq!(at(&opj(), path)[key], wanted, "{path} {key}");
    }
    for (path, key, wanted) in [
        (
            ".spec.source.configMap.key",
            "default",
            json!("plugin.wasm"),
        ),
        (".spec.enablePodOpsLifecycle", "default", json!(false)),
        (
            ".spec.settings",
            "x-kubernetes-preserve-unknown-fields",
            json!(true),
        ),
        (
            ".spec",
            "required",
            json!(["action", "serviceAccountName", "source"]),
        ),
    ] {
        assert_eq!(at(&ap(), path)[key], wanted, "{path} {key}");
    }
}

/// What they do, the stories of the end-to-end tests tell; here, that they are generated.
#[test]
fn the_rules_are_these() {
    for (crd, path, rules) in [
        (
            opj(),
            ".spec",
            &[
                "has(self.targets) != has(self.targetSelector)",
                "has(self.targets) == has(oldSelf.targets)",
                "(has(self.dryRun) && self.dryRun) == (has(oldSelf.dryRun) && oldSelf.dryRun)",
                "!has(self.partition) || has(oldSelf.partition)",
                "!has(self.partition) || !has(oldSelf.partition) || self.partition >= oldSelf.partition",
            ][..],
        ),
        (opj(), ".spec.action", &["self == oldSelf"][..]),
        (
            opj(),
            ".spec.targets",
            &["self == oldSelf && self.map(t, t.name) == oldSelf.map(t, t.name)"][..],
        ),
        (ap(), ".spec.action", &["self == oldSelf"][..]),
        (
            ap(),
            ".spec.source",
            &[
                "[has(self.builtin), has(self.configMap), has(self.oci)].filter(named, named).size() == 1",
            ][..],
        ),
    ] {
        let schema = at(&crd, path);
        let found = schema["x-kubernetes-validations"]
            .as_array()
            .expect("rules");
        // An API server refuses the schema if a rule makes its message: that has no bounded cost.
        assert!(
            found.iter().all(|rule| rule["messageExpression"].is_null()),
            "{path}"
        );
        let found: Vec<_> = found
            .iter()
            .filter_map(|rule| rule["rule"].as_str())
            .collect();
        assert_eq!(found, rules, "{path}");
    }
}
