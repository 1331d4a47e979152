//! Builders for an action's description of itself in `setup`, and the reading of settings.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Mapping, Registration, Watch};

impl Default for Registration {
    /// Nothing is watched, all settings are taken.
    fn default() -> Self {
        Self {
            watches: Vec::new(),
            settings_schema: "{}".to_owned(),
            job_label: None,
            removes_pods: false,
        }
    }
}

impl Registration {
    /// Adds a kind to read.
    #[must_use]
    pub fn watch(mut self, watch: Watch) -> Self {
        self.watches.push(watch);
        self
    }

    /// Sets the JSON Schema of the settings; the host refuses settings that violate it.
    #[must_use]
    pub fn schema(mut self, schema: &Value) -> Self {
        self.settings_schema = schema.to_string();
        self
    }

    /// Names the label by which the action marks the pod of a target that it must finish or release; its
    /// value is the uid of the job. The host reports marked pods with a job that does not exist any more.
    #[must_use]
    pub fn marking(mut self, label: &str) -> Self {
        self.job_label = Some(label.to_owned());
        self
    }

    /// Says that the action removes the pods of its targets. With `enablePodOpsLifecycle`, an operation that
    /// removes the target's pod is performed only when the pod is out of service.
    #[must_use]
    pub fn removing_pods(mut self) -> Self {
        self.removes_pods = true;
        self
    }
}

impl Watch {
    /// All objects of a kind: `Watch::of("apps/v1", "ReplicaSet")`.
    pub fn of(api_version: &str, kind: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            label_selector: String::new(),
            fields: Vec::new(),
            mappings: Vec::new(),
        }
    }

    /// Only objects that this label selector matches.
    #[must_use]
    pub fn selecting(mut self, label_selector: &str) -> Self {
        label_selector.clone_into(&mut self.label_selector);
        self
    }

    /// Only these top-level fields, besides `metadata`: `.reading(&["spec"])`. The host keeps no others.
    #[must_use]
    pub fn reading(mut self, fields: &[&str]) -> Self {
        self.fields = fields.iter().map(|field| (*field).to_owned()).collect();
        self
    }

    /// Sets the targets that a changed object wakes; each mapping adds some.
    #[must_use]
    pub fn waking(mut self, mapping: Mapping) -> Self {
        self.mappings.push(mapping);
        self
    }
}

/// Reads settings (JSON) as a type of the author's.
///
/// # Errors
/// A message that names the invalid part.
pub fn settings<T: DeserializeOwned>(settings: &str) -> Result<T, String> {
    serde_json::from_str(settings).map_err(|error| format!("the settings do not fit: {error}"))
}
