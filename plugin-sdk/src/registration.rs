//! Builders for an action's description of itself in `setup`, and the reading of settings.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Mapping, Registration, Traits, Watch};

/// The schema of settings or parameters of which there are none: one that is given is an error, not ignored.
const NO_FIELDS: &str = r#"{"type":"object","properties":{},"additionalProperties":false}"#;

impl Default for Registration {
    /// Nothing is watched, and a job can have no parameters. The schema of the settings is that of
    /// [`Action::Settings`](crate::Action::Settings).
    fn default() -> Self {
        Self {
            watches: Vec::new(),
            settings_schema: "{}".to_owned(),
            parameters_schema: NO_FIELDS.to_owned(),
            job_label: None,
            traits: Traits::empty(),
            extra: Vec::new(),
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

    /// Sets the JSON Schema of the parameters of a job (`spec.parameters`). A job whose parameters violate it
    /// fails before any of its targets starts. By default a job can have no parameters.
    #[must_use]
    pub fn parameters(mut self, schema: &Value) -> Self {
        self.parameters_schema = schema.to_string();
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
        self.traits |= Traits::REMOVES_PODS;
        self
    }

    /// Says that the first operation of a target with effects is all that the action does, so that a dry run
    /// (`spec.dryRun` of the job) shows everything.
    #[must_use]
    pub fn done_in_one_step(mut self) -> Self {
        self.traits |= Traits::SUPPORTS_DRY_RUN;
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
            optional: false,
            cluster_scoped: false,
            extra: Vec::new(),
        }
    }

    /// The nodes of the cluster, which have no namespaces. The targets whose pods run on a node are woken when the
    /// node changes.
    pub fn nodes() -> Self {
        Self {
            cluster_scoped: true,
            ..Self::of("v1", "Node").waking(Mapping::Node)
        }
    }

    /// The API server may not serve the kind: reads then answer `NotServed`, until it does.
    #[must_use]
    pub fn if_served(mut self) -> Self {
        self.optional = true;
        self
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

/// What `spec.settings` of an `ActionPlugin` may be.
///
/// The schema is written by hand: one that is derived from the type makes a small component a fifth larger.
pub trait ActionSettings: DeserializeOwned {
    /// The JSON Schema of the settings; the host refuses settings that violate it. `{}` accepts all that the type
    /// does.
    fn schema() -> Value;
}

/// Those of an action without settings: a setting that is given is an error, not ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

impl ActionSettings for NoSettings {
    fn schema() -> Value {
        json!({"type": "object", "properties": {}, "additionalProperties": false})
    }
}

/// Reads settings (JSON) as a type of the author's.
///
/// # Errors
/// A message that names the invalid part.
pub fn settings<T: DeserializeOwned>(settings: &str) -> Result<T, String> {
    serde_json::from_str(settings).map_err(|error| format!("the settings do not fit: {error}"))
}
