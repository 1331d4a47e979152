//! `operon plugin inspect`: what the host would make of a component, before it is in a cluster.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use operon_core::action::{Mapping, Registration, Watch};
use operon_plugin_runtime::{Description, describe};
use serde_json::{Value, json};

use super::{component::Component, load, rbac};
use crate::stdout::print;

/// The prefix of the export that makes a component an action.
pub(super) const HANDLER: &str = "operon:action/handler@";

/// Bytes of a schema on one line.
const SHORT: usize = 100;

/// What is inspected.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  operon plugin inspect mark-pod.wasm
  operon plugin inspect mark-pod.wasm --settings plugin.yaml
  operon plugin inspect mark-pod.wasm --rbac > rbac.yaml

The component is compiled and set up as the host does it, within the same limits. An error begins with the
reason that the ActionPlugin would have.")]
pub(super) struct Arguments {
    /// The component
    file: PathBuf,

    /// A file with the settings, or with an ActionPlugin that has them
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// Print only the manifest of the ServiceAccount, with the rights for what the action reads
    #[arg(long)]
    rbac: bool,

    /// The namespace of the operator, where the ServiceAccount is
    #[arg(long, default_value = "operon-system")]
    namespace: String,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments {
        file,
        settings,
        rbac,
        namespace,
    } = arguments;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start")?;
    let loaded = runtime.block_on(load::load(file, settings.as_deref()))?;
    let registration = loaded.action.registration();
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let manifest = rbac::manifest(&name, namespace, &registration.watches);
    if *rbac {
        return print(&manifest);
    }
    let description = describe(&loaded.component.bytes);
    let text = text(file, &loaded.component, &description, registration);
    print(&format!("{text}\n{manifest}"))
}

fn text(
    file: &Path,
    component: &Component,
    description: &Description,
    registration: &Registration,
) -> String {
    let Registration {
        watches,
        settings_schema,
        parameters_schema,
        job_label,
        removes_pods,
        supports_dry_run,
    } = registration;
    let mut text = format!("{}\n", file.display());
    let mut line = |name: &str, value: &str| {
        let value = value.replace('\n', "\n             ");
        // Writing to a String can't fail.
        let _ = writeln!(text, "  {name:<11}{value}");
    };
    line("size", &component.size());
    if let Some(needs) = component.needs() {
        line("needs", &needs);
    }
    line("digest", &component.digest());
    line("interface", &interface(description));
    line("imports", &imports(description));
    line("made by", &producers(description));
    line("watches", &lines(watches.iter().map(watch)));
    line("job label", job_label.as_deref().unwrap_or("none"));
    line("traits", &traits(*removes_pods, *supports_dry_run));
    line("settings", &schema(settings_schema));
    line("parameters", &schema(parameters_schema));
    text
}

/// One below the other; `none` if there are none.
fn lines(all: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = all.collect();
    if all.is_empty() {
        "none".to_owned()
    } else {
        all.join("\n")
    }
}

fn interface(description: &Description) -> String {
    let handler = description.exports.iter();
    let handler = handler.filter(|name| name.starts_with(HANDLER)).cloned();
    lines(handler)
}

/// The contract's, then how many of WASI.
fn imports(description: &Description) -> String {
    let imports = description.imports.iter();
    let (wasi, own): (Vec<_>, Vec<_>) = imports.partition(|name| name.starts_with("wasi:"));
    let wasi = match wasi.len() {
        0 => None,
        1 => Some("1 interface of WASI, which is empty here".to_owned()),
        more => Some(format!("{more} interfaces of WASI, which are empty here")),
    };
    lines(own.into_iter().cloned().chain(wasi))
}

fn producers(description: &Description) -> String {
    let all = description.producers.iter().map(|producer| {
        let operon_plugin_runtime::Producer {
            role: _,
            name,
            version,
        } = producer;
        format!("{name} {version}").trim_end().to_owned()
    });
    let all: Vec<_> = all.collect();
    if all.is_empty() {
        "unknown: it has no section \"producers\"".to_owned()
    } else {
        all.join(", ")
    }
}

fn watch(watch: &Watch) -> String {
    let Watch {
        api_version,
        kind,
        label_selector,
        fields,
        mappings,
        is_optional,
        is_cluster_scoped: _,
    } = watch;
    let mut text = format!("{api_version} {kind}");
    if !label_selector.is_empty() {
        let _ = write!(text, ", labels {label_selector}");
    }
    if !fields.is_empty() {
        let _ = write!(text, ", fields {}", fields.join(", "));
    }
    if *is_optional {
        text.push_str(", if served");
    }
    let mappings: Vec<_> = mappings.iter().map(mapping).collect();
    if mappings.is_empty() {
        text.push_str("; wakes no target");
    } else {
        let _ = write!(text, "; wakes by {}", mappings.join(", "));
    }
    text.replace(char::is_control, " ")
}

fn mapping(mapping: &Mapping) -> String {
    match mapping {
        Mapping::Label(key) => format!("label {key}"),
        Mapping::ExtraInfo(key) => format!("extra-info {key}"),
        Mapping::UidInLabel(key) => format!("uid in label {key}"),
        Mapping::UidInExtraInfo(key) => format!("uid in extra-info {key}"),
        Mapping::Namespace => "namespace".to_owned(),
        Mapping::Node => "node".to_owned(),
    }
}

fn traits(removes_pods: bool, supports_dry_run: bool) -> String {
    let all = [
        (removes_pods, "removes-pods"),
        (supports_dry_run, "supports-dry-run"),
    ];
    let all = all.into_iter().filter(|(has, _)| *has);
    lines(all.map(|(_, name)| name.to_owned()))
}

/// A schema in words where it accepts all or nothing; as JSON otherwise, on one line if it is short.
fn schema(schema: &Value) -> String {
    let none = json!({"type": "object", "properties": {}, "additionalProperties": false});
    if *schema == json!({}) || *schema == Value::Bool(true) {
        "any".to_owned()
    } else if *schema == none {
        "none".to_owned()
    } else {
        let line = schema.to_string();
        if line.len() <= SHORT {
            line
        } else {
            format!("{schema:#}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_one_line() {
        let replica_sets = Watch {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            label_selector: "a=b".to_owned(),
            fields: vec!["spec".to_owned(), "status".to_owned()],
            mappings: vec![Mapping::Label("a/b".to_owned()), Mapping::Namespace],
            is_optional: true,
            is_cluster_scoped: false,
        };
        assert_eq!(
            watch(&replica_sets),
            "apps/v1 ReplicaSet, labels a=b, fields spec, status, if served; wakes by label a/b, namespace"
        );
        let pods = Watch {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            ..Watch::default()
        };
        assert_eq!(watch(&pods), "v1 Pod; wakes no target");
    }
}
