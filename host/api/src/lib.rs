//! Operon's resources as Rust types: what `crds/` is generated from, and what every other crate reads
//! and writes.
//!
//! One file per kind; [`keys`] holds every name that Operon puts on an object. Nothing here decides.

#![expect(
    clippy::duplicated_attributes,
    reason = "columns of kube's derive repeat json_path and type_ on purpose"
)]

pub mod action_plugin;
pub mod colla_set;
pub mod conditions;
pub mod daemon_job;
pub mod embedded;
pub mod job_flow;
pub mod job_template;
pub mod keys;
pub mod operation_job;
pub mod owner_kind;
pub mod pod_decoration;
pub mod pod_transition_rule;
pub mod reactive_job;
pub mod resource_context;

mod schema;
#[cfg(test)]
mod tests;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, Resource as _};

pub use action_plugin::ActionPlugin;
pub use colla_set::CollaSet;
pub use daemon_job::DaemonJob;
pub use job_flow::JobFlow;
pub use job_template::JobTemplate;
pub use operation_job::OperationJob;
pub use pod_decoration::PodDecoration;
pub use pod_transition_rule::PodTransitionRule;
pub use reactive_job::ReactiveJob;
pub use resource_context::ResourceContext;

/// The category of every kind: `kubectl get operon` lists their objects.
pub const CATEGORY: &str = "operon";

/// Every CustomResourceDefinition of Operon, in the order in which they are documented.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        OperationJob::crd(),
        CollaSet::crd(),
        PodTransitionRule::crd(),
        ResourceContext::crd(),
        reactive_job::crd(),
        JobFlow::crd(),
        JobTemplate::crd(),
        DaemonJob::crd(),
        ActionPlugin::crd(),
    ];
    for crd in &mut crds {
        let annotations = crd.metadata.annotations.get_or_insert_default();
        // `helm uninstall` must not take users' objects with it.
        annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
        crd.spec.names.categories = Some(vec![CATEGORY.to_owned()]);
        let schemas = crd
            .spec
            .versions
            .iter_mut()
            .filter_map(|version| version.schema.as_mut());
        for schema in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
            schema::tidy(schema);
            schema::begin_unobserved(schema);
        }
    }
    for crd in &mut crds {
        let is_daemon_job = crd.spec.names.kind == DaemonJob::kind(&());
        let versions = crd.spec.versions.iter_mut().filter(|_| is_daemon_job);
        let schemas = versions.filter_map(|version| version.schema.as_mut());
        let schemas = schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut());
        let specs = schemas.filter_map(|schema| schema.properties.as_mut()?.get_mut("spec"));
        specs.for_each(embedded::take_nulls);
    }
    crds
}
