//! What a kubelet does to the containers of running pods: it starts them, restarts one when its image changes, gives it
//! the resources of the spec, and runs each ephemeral container once. A status that a file gives stays until then.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use operon_sdk::testing::FakeCluster;
use serde_json::{Value, json};

/// The images that containers were started with, by the pod's uid and the container.
#[derive(Clone, Debug, Default)]
pub(super) struct Kubelet(BTreeMap<(String, String), Value>);

impl Kubelet {
    /// Brings the status of every running pod up to date.
    pub(super) fn run(&mut self, cluster: &mut FakeCluster) {
        for pod in cluster.pods() {
            if pod.phase != "Running" || pod.deleting {
                continue;
            }
            let Some(object) = cluster.object("v1", "Pod", &pod.name) else {
                continue;
            };
            let mut status = object["status"].clone();
            let containers = list(&object["spec"]["containers"]);
            let all = containers.map(|container| {
                let before = named(&status["containerStatuses"], &container["name"]);
                let started = self.image(&pod.uid, container);
                ordinary(&pod.name, container, before, &started)
            });
            status["containerStatuses"] = all.collect();
            let ephemeral = list(&object["spec"]["ephemeralContainers"]);
            let all: Vec<_> = ephemeral
                .map(|one| {
                    ephemeral_status(
                        one,
                        named(&status["ephemeralContainerStatuses"], &one["name"]),
                    )
                })
                .collect();
            if !all.is_empty() {
                status["ephemeralContainerStatuses"] = all.into();
            }
            if object["metadata"]["generation"].is_number() {
                status["observedGeneration"] = object["metadata"]["generation"].clone();
            }
            if status != object["status"] {
                cluster.change_pod(&pod.name, &json!({ "status": status }));
            }
        }
    }

    /// The image that a container was started with; that of its spec from now on.
    fn image(&mut self, pod: &str, container: &Value) -> Value {
        let name = container["name"].as_str().unwrap_or_default();
        let key = (pod.to_owned(), name.to_owned());
        let image = container["image"].clone();
        self.0.insert(key, image.clone()).unwrap_or(image)
    }
}

/// The status of a container that runs.
fn ordinary(pod: &str, container: &Value, before: Option<&Value>, started: &Value) -> Value {
    let (name, image) = (&container["name"], &container["image"]);
    let is_changed = image != started;
    let mut status = match before {
        Some(status) if !is_changed => status.clone(),
        Some(status) => {
            let mut status = status.clone();
            let restarts = status["restartCount"].as_u64().unwrap_or_default() + 1;
            status["restartCount"] = restarts.into();
            status["ready"] = true.into();
            status["state"] = json!({"running": {}});
            status["containerID"] = container_id(pod, name, restarts);
            status["image"] = image.clone();
            status["imageID"] = image_id(image);
            status
        }
        None => json!({
            "name": name, "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {}}, "containerID": container_id(pod, name, 0),
            "image": image, "imageID": image_id(image), "resources": {},
        }),
    };
    // A kubelet that cannot resize reports no resources.
    if status["resources"].is_object() && container["resources"].is_object() {
        status["resources"] = container["resources"].clone();
    }
    status
}

/// An ephemeral container runs, and has ended a second later.
fn ephemeral_status(container: &Value, before: Option<&Value>) -> Value {
    let state = match before {
        None => json!({"running": {}}),
        Some(_) => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
    };
    json!({"name": container["name"], "image": container["image"], "ready": false, "restartCount": 0, "state": state})
}

fn container_id(pod: &str, container: &Value, restarts: u64) -> Value {
    let container = container.as_str().unwrap_or_default();
    format!("containerd://{pod}-{container}-{restarts}").into()
}

/// The image by its digest; an image that names none gets one that depends on its name.
fn image_id(image: &Value) -> Value {
    let image = image.as_str().unwrap_or_default();
    if let Some((name, digest)) = image.split_once('@') {
        return format!("{}@{digest}", without_tag(name)).into();
    }
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    format!("{}@sha256:{:064x}", without_tag(image), hasher.finish()).into()
}

fn without_tag(image: &str) -> &str {
    // A colon before the last slash is that of a port.
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    let colon = image[last..].find(':');
    colon.map_or(image, |colon| &image[..last + colon])
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn named<'a>(values: &'a Value, name: &Value) -> Option<&'a Value> {
    list(values).find(|value| value["name"] == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_restarts_once_when_its_image_changes() {
        let mut cluster = FakeCluster::new();
        cluster.add_pod("foo", &json!({}));
        let mut kubelet = Kubelet::default();
        let status = |cluster: &FakeCluster| {
            let pod = cluster.object("v1", "Pod", "foo").expect("the pod");
            pod["status"]["containerStatuses"][0].clone()
        };
        kubelet.run(&mut cluster);
        let first = status(&cluster);
        assert_eq!(first["restartCount"], 0);
        let image = "registry.example:5000/app:1@sha256:ab";
        cluster.change_pod(
            "foo",
            &json!({"spec": {"containers": [{"name": "app", "image": image}]}}),
        );
        for _ in 0..2 {
            kubelet.run(&mut cluster);
            assert_eq!(status(&cluster)["restartCount"], 1);
        }
        assert_ne!(status(&cluster)["containerID"], first["containerID"]);
        assert_eq!(
            status(&cluster)["imageID"],
            "registry.example:5000/app@sha256:ab"
        );
    }

    #[test]
    fn an_ephemeral_container_runs_and_ends() {
        let mut cluster = FakeCluster::new();
        cluster.add_pod("foo", &json!({}));
        cluster.change_pod(
            "foo",
            &json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "tools:1"}]}}),
        );
        let mut kubelet = Kubelet::default();
        for state in ["running", "terminated", "terminated"] {
            kubelet.run(&mut cluster);
            let pod = cluster.object("v1", "Pod", "foo").expect("the pod");
            let status = &pod["status"]["ephemeralContainerStatuses"][0];
            assert!(status["state"][state].is_object(), "{status}");
        }
    }
}
