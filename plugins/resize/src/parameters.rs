//! The parameters of a job: which CPU and memory containers get.

use std::collections::BTreeMap;

use operon_sdk::{Container, ContainerKind, Failure, Pod, Target, Value, json};
use serde::Deserialize;

use crate::amounts::{Amounts, ByContainer};

/// What containers get.
#[derive(Debug, Clone, Deserialize)]
pub struct Parameters {
    /// All containers of the target.
    resources: Option<Value>,
    /// These containers, instead.
    #[serde(default)]
    containers: BTreeMap<String, Value>,
}

impl Parameters {
    /// The JSON Schema.
    pub fn schema() -> Value {
        let quantity = json!({"type": ["string", "number"], "minimum": 0,
            "pattern": "^\\+?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"});
        let amounts = json!({"type": "object", "minProperties": 1, "additionalProperties": false,
            "properties": {"cpu": quantity, "memory": quantity}});
        let resources = json!({"type": "object", "minProperties": 1, "additionalProperties": false,
            "properties": {"requests": amounts, "limits": amounts}});
        json!({"type": "object", "minProperties": 1, "additionalProperties": false,
        "properties": {
            "resources": resources,
            "containers": {"type": "object", "minProperties": 1,
                "additionalProperties": resources},
        }})
    }

    /// What each container of a pod gets.
    ///
    /// # Errors
    /// The container that the pod has not, or that cannot be resized.
    pub fn asked(&self, target: &Target, pod: &Pod) -> Result<ByContainer, Failure> {
        let Self {
            resources,
            containers,
        } = self;
        let mut asked = ByContainer::new();
        let common = resources.iter().flat_map(|resources| {
            let named = target.containers.iter();
            named.map(move |name| (name, resources))
        });
        for (name, resources) in common.chain(containers) {
            let Some(container) = pod.container(name) else {
                let message = format!("pod {:?} has no container {name:?}", pod.name);
                return Err(Failure::new("ContainerNotFound", message));
            };
            check_kind(container)?;
            asked.insert(name.clone(), Amounts::of(resources));
        }
        Ok(asked)
    }
}

fn check_kind(container: &Container) -> Result<(), Failure> {
    let kind = match container.kind {
        ContainerKind::Ordinary | ContainerKind::Sidecar => return Ok(()),
        ContainerKind::Init => "an init container",
        ContainerKind::Ephemeral => "an ephemeral container",
    };
    let message = format!(
        "container {:?} is {kind}, of which Kubernetes changes no resources in a pod that exists",
        container.name
    );
    Err(Failure::new("CannotResize", message))
}
