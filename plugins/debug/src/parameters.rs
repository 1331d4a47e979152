//! The parameters of a job: what the ephemeral container is. The names are those of a container in Kubernetes.

use operon_sdk::{Value, json};
use serde::Deserialize;

/// The environment variable that names the job in the container. It is the proof that the container is this job's:
/// the API server takes no label with an ephemeral container.
pub const JOB: &str = "OPERON_JOB_UID";

/// What the ephemeral container is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    image: String,
    command: Option<Vec<String>>,
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Vec<Value>,
    /// The container that it shares its processes with.
    pub target_container: Option<String>,
    name: Option<String>,
}

impl Parameters {
    /// The JSON Schema.
    pub fn schema() -> Value {
        let name = json!({"type": "string", "maxLength": 63,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"});
        let texts = json!({"type": "array", "items": {"type": "string"}});
        let variable = json!({"type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "minLength": 1, "not": {"const": JOB}},
            "value": {"type": "string"},
        }});
        json!({"type": "object", "required": ["image"], "additionalProperties": false,
        "properties": {
            "image": {"type": "string", "minLength": 1},
            "command": texts,
            "args": texts,
            "env": {"type": "array", "items": variable},
            "targetContainer": name,
            "name": name,
        }})
    }

    /// The name of the container. By default a job has one name for it, so it is added once.
    pub fn name(&self, job: &str) -> String {
        let default = || format!("debug-{job}");
        self.name.clone().unwrap_or_else(default)
    }

    /// The image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The container, as a pod has it.
    pub fn container(&self, job: &str) -> Value {
        let Self {
            image,
            command,
            args,
            env,
            target_container,
            name: _,
        } = self;
        let mut env = env.clone();
        env.push(json!({"name": JOB, "value": job}));
        let mut container = json!({
            "name": self.name(job),
            "image": image,
            "env": env,
            "terminationMessagePolicy": "FallbackToLogsOnError",
        });
        for (field, texts) in [("command", command), ("args", args)] {
            if let Some(texts) = texts {
                container[field] = json!(texts);
            }
        }
        if let Some(name) = target_container {
            container["targetContainerName"] = json!(name);
        }
        container
    }
}
