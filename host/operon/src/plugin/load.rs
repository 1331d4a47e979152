//! Loads a component as the host does: same compiler, same refusals, and the largest limits that the chart can set.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use operon_core::{
    action::{Action, ActionLoader as _, Limits, LoadError},
    action_plugin::registration,
};
use operon_plugin_runtime::{ChildLimits, Loader, LoaderConfig, MOST_COMPONENT_BYTES};
use serde_json::{Value, json};

use super::{component::Component, manifests};

/// The processor time for compiling that the chart can allow.
const MOST_COMPILE_TIME: Duration = Duration::from_mins(2);

/// A component that the host would run.
pub(super) struct Loaded {
    pub(super) component: Component,
    pub(super) action: Arc<dyn Action>,
    pub(super) settings: Value,
    /// The finalizers that the ActionPlugin declares.
    pub(super) finalizers: Vec<String>,
}

/// Loads the component of a file with the settings of another, `{}` if there is none.
///
/// # Errors
/// Those of the condition `Ready` of an ActionPlugin, after the file's name.
pub(super) async fn load(file: &Path, settings: Option<&Path>) -> anyhow::Result<Loaded> {
    let (settings, finalizers) =
        settings.map_or_else(|| Ok((json!({}), Vec::new())), settings_of)?;
    let component = Component::read(file)?;
    let loader = Loader::new(LoaderConfig {
        max_instances: 1,
        // The most that the chart can allow: the report says what this component needs.
        component_bytes: MOST_COMPONENT_BYTES,
        compile_limits: ChildLimits {
            cpu: MOST_COMPILE_TIME,
            wall: MOST_COMPILE_TIME * 4,
            ..ChildLimits::COMPILE
        },
        ..LoaderConfig::default()
    })?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let limits = Limits::default();
    let action = loader.load(&name, &component.bytes, &settings, &limits);
    let refused = |error: LoadError| {
        let (file, reason) = (file.display(), error.reason);
        anyhow!("{file}: {reason}: {}", error.message)
    };
    let action = action.await.map_err(refused)?;
    registration::watches(&name, action.registration()).map_err(refused)?;
    Ok(Loaded {
        component,
        action,
        settings,
        finalizers,
    })
}

/// The settings in a file, and the declared finalizers: those of the ActionPlugin in it; otherwise all of it are
/// settings.
fn settings_of(file: &Path) -> anyhow::Result<(Value, Vec<String>)> {
    let mut documents = manifests::read(file)?;
    let plugin = documents.iter().find(|one| one["kind"] == "ActionPlugin");
    if let Some(plugin) = plugin {
        let settings = plugin["spec"].get("settings").cloned();
        let finalizers = plugin["spec"]["finalizers"].as_array();
        let names = finalizers.into_iter().flatten().filter_map(Value::as_str);
        let finalizers = names.map(str::to_owned).collect();
        return Ok((settings.unwrap_or_else(|| json!({})), finalizers));
    }
    match (documents.pop(), documents.is_empty()) {
        (Some(settings), true) if settings.is_object() => Ok((settings, Vec::new())),
        _ => Err(anyhow!(
            "it must be one object with the settings, or have an ActionPlugin"
        ))
        .with_context(|| file.display().to_string()),
    }
}
