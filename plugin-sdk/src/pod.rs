//! Accessors for the typed pod, and its reading from a pod's JSON, which `Cluster::get` gives.

use serde_json::Value;

use crate::{
    Attributes, Condition, Container, ContainerKind, ContainerPhase, OwnerReference, Pod, time,
};

impl Pod {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        lookup(&self.labels, key)
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        lookup(&self.annotations, key)
    }

    /// The owner that controls this pod; at most one does.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// The controller's uid.
    pub fn controller_uid(&self) -> Option<&str> {
        self.controller().map(|owner| owner.uid.as_str())
    }

    /// All its containers have ended, for good.
    pub fn ended(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Its node runs it from a file, and would start it again.
    pub fn is_static(&self) -> bool {
        self.annotation("kubernetes.io/config.mirror").is_some()
    }

    /// What a target waits for while the pod is being deleted, with the finalizers that hold it.
    pub fn waits_to_terminate(&self) -> String {
        let held = match self.finalizers.as_slice() {
            [] => String::new(),
            finalizers => format!("; it has the finalizers {}", finalizers.join(", ")),
        };
        format!("waiting for pod {:?} to terminate{held}", self.name)
    }

    /// It is neither being deleted nor has it ended.
    pub fn live(&self) -> bool {
        !self.deleting && !self.ended()
    }

    /// The condition of this type.
    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.name == name)
    }

    /// The container of this name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers
            .iter()
            .find(|container| container.name == name)
    }

    /// Its ordinary containers.
    pub fn ordinary_containers(&self) -> impl Iterator<Item = &Container> {
        let containers = self.containers.iter();
        containers.filter(|container| container.kind == ContainerKind::Ordinary)
    }

    /// Why it is not ready, from the statuses of its containers: `container "app" waits: ImagePullBackOff`.
    pub fn unready_because(&self) -> Option<String> {
        let mut containers = self.ordinary_containers();
        let container = containers.find(|container| !container.ready)?;
        let does = match container.phase {
            ContainerPhase::Waiting => "waits",
            ContainerPhase::Running => "is not ready",
            ContainerPhase::Terminated => "has ended",
        };
        let reason = container.reason.as_deref();
        Some(match reason {
            Some(reason) => format!("container {:?} {does}: {reason}", container.name),
            None => format!("container {:?} {does}", container.name),
        })
    }

    /// Reads a pod's JSON; none if it lacks what every pod in a cluster has.
    pub fn from_object(object: &Value) -> Option<Self> {
        let metadata = &object["metadata"];
        let status = &object["status"];
        let ready = list(&status["conditions"]).find(|condition| condition["type"] == "Ready");
        Some(Self {
            name: text(&metadata["name"])?,
            uid: text(&metadata["uid"])?,
            resource_version: text(&metadata["resourceVersion"])?,
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            observed_generation: status["observedGeneration"].as_i64(),
            created_at: moment(&metadata["creationTimestamp"])?,
            phase: text(&status["phase"]).unwrap_or_else(|| "Pending".to_owned()),
            ready: ready.is_some_and(|condition| condition["status"] == "True"),
            ready_since: ready.and_then(|condition| moment(&condition["lastTransitionTime"])),
            deleting: metadata["deletionTimestamp"].is_string(),
            node: text(&object["spec"]["nodeName"]),
            labels: attributes(&metadata["labels"]),
            annotations: attributes(&metadata["annotations"]),
            finalizers: list(&metadata["finalizers"]).filter_map(text).collect(),
            owners: list(&metadata["ownerReferences"])
                .filter_map(OwnerReference::from_object)
                .collect(),
            conditions: list(&status["conditions"]).filter_map(condition).collect(),
            containers: containers(&object["spec"], status),
        })
    }
}

fn condition(condition: &Value) -> Option<Condition> {
    Some(Condition {
        name: text(&condition["type"])?,
        status: text(&condition["status"])?,
        reason: text(&condition["reason"]).unwrap_or_default(),
        message: text(&condition["message"]).unwrap_or_default(),
        since: moment(&condition["lastTransitionTime"]),
    })
}

/// All containers, the ordinary ones first.
fn containers(spec: &Value, status: &Value) -> Vec<Container> {
    let of = |containers: &str, statuses: &str, kind: fn(&Value) -> ContainerKind| {
        let all = list(&spec[containers]);
        all.filter_map(|spec| container(spec, kind(spec), &status[statuses]))
            .collect::<Vec<_>>()
    };
    let ordinary = of("containers", "containerStatuses", |_| {
        ContainerKind::Ordinary
    });
    let init = of("initContainers", "initContainerStatuses", |spec| {
        if spec["restartPolicy"] == "Always" {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        }
    });
    let ephemeral = of("ephemeralContainers", "ephemeralContainerStatuses", |_| {
        ContainerKind::Ephemeral
    });
    [ordinary, init, ephemeral].concat()
}

fn container(spec: &Value, kind: ContainerKind, statuses: &Value) -> Option<Container> {
    let name = text(&spec["name"])?;
    let status = list(statuses).find(|status| status["name"] == name.as_str());
    let status = status.unwrap_or(&Value::Null);
    let state = &status["state"];
    let (phase, detail) = match (state.get("running"), state.get("terminated")) {
        (Some(running), _) => (ContainerPhase::Running, running),
        (None, Some(terminated)) => (ContainerPhase::Terminated, terminated),
        (None, None) => (ContainerPhase::Waiting, &state["waiting"]),
    };
    let last = &status["lastState"]["terminated"]["exitCode"];
    let exit_code = state["terminated"]["exitCode"].as_i64().or(last.as_i64());
    Some(Container {
        name,
        kind,
        image: text(&spec["image"]).unwrap_or_default(),
        image_id: text(&status["imageID"]).filter(|image| !image.is_empty()),
        ready: status["ready"].as_bool().unwrap_or(false),
        restart_count: status["restartCount"]
            .as_u64()
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(0),
        phase,
        reason: text(&detail["reason"]),
        message: text(&detail["message"]),
        exit_code: exit_code.and_then(|code| i32::try_from(code).ok()),
        container_id: text(&status["containerID"]),
    })
}

fn attributes(object: &Value) -> Attributes {
    let entries = object.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect()
}

fn lookup<'a>(attributes: &'a Attributes, key: &str) -> Option<&'a str> {
    let entry = attributes.iter().find(|(name, _)| name == key);
    entry.map(|(_, value)| value.as_str())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn moment(value: &Value) -> Option<i64> {
    time::parse(value.as_str()?)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pods_json_reads_as_the_typed_pod() {
        let object = json!({
            "metadata": {
                "name": "foo", "uid": "u1", "resourceVersion": "7",
                "creationTimestamp": "1970-01-01T00:01:00Z", "labels": {"app": "foo"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs",
                    "uid": "r1", "controller": true}]
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "app"}, {"name": "side"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False",
                    "lastTransitionTime": "1970-01-01T00:02:00Z"}],
                "containerStatuses": [
                    {"name": "app", "ready": true, "restartCount": 2, "containerID": "c://1",
                        "state": {"running": {}}},
                    {"name": "side", "ready": false,
                        "state": {"waiting": {"reason": "ImagePullBackOff"}}}]
            }
        });
        let pod = Pod::from_object(&object).expect("the object is whole");
        assert_eq!((pod.created_at, pod.ready_since), (60, Some(120)));
        assert_eq!(pod.controller_uid(), Some("r1"));
        assert_eq!(pod.label("app"), Some("foo"));
        assert!(pod.live() && !pod.ready);
        assert_eq!(pod.containers[0].restart_count, 2);
        assert_eq!(
            pod.unready_because().as_deref(),
            Some(r#"container "side" waits: ImagePullBackOff"#)
        );
    }

    #[test]
    fn an_object_that_is_no_pod_of_a_cluster_reads_as_none() {
        assert_eq!(Pod::from_object(&Value::Null), None);
        assert_eq!(
            Pod::from_object(&json!({"metadata": {"name": "foo"}})),
            None
        );
    }
}
