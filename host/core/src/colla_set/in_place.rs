//! Updating a pod in place: what may change in a pod that exists, and when its containers run what it says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use kube::ResourceExt;
use operon_api::{embedded::PodTemplateSpec, keys};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    pods::{container_statuses, is_observed, observed_generation},
    resources::{self, Resources},
    revision::stored,
    selection::texts,
};
use crate::pod_lifecycle::labels::Labels;

/// The change from one template to another, as a strategic merge patch of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Change {
    labels: BTreeMap<String, Option<String>>,
    annotations: BTreeMap<String, Option<String>>,
    /// The new images, by the name of the container.
    images: BTreeMap<String, String>,
    /// The new CPU and memory, which are written by themselves.
    resources: Resources,
}

impl Change {
    /// The change, if only images, CPU, memory, labels and annotations differ.
    ///
    /// # Errors
    /// The field that differs and cannot be changed in a pod.
    pub(super) fn between(old: &PodTemplateSpec, new: &PodTemplateSpec) -> Result<Self, String> {
        let (stored_old, stored_new) = comparable(old, new);
        let part = |template: &Value, name: &str| {
            let part = template.get(name).and_then(Value::as_object);
            part.cloned().unwrap_or_default()
        };
        let metadata = |template| part(template, "metadata");
        let (before, after) = (metadata(&stored_old), metadata(&stored_new));
        fields_are_same("metadata", &before, &after, &["labels", "annotations"])?;
        let (before, after) = (part(&stored_old, "spec"), part(&stored_new, "spec"));
        fields_are_same("spec", &before, &after, &["containers"])?;
        let resources = resources::change(
            &Value::Object(before.clone()),
            &Value::Object(after.clone()),
        );
        Ok(Self {
            labels: difference(&texts(old, "labels"), &texts(new, "labels")),
            annotations: difference(&texts(old, "annotations"), &texts(new, "annotations")),
            images: images(before.get("containers"), after.get("containers"))?,
            resources: resources?,
        })
    }

    /// A container whose CPU or memory changes.
    pub(super) fn resized(&self) -> Option<&str> {
        self.resources.keys().next().map(String::as_str)
    }

    /// The patch of a pod, which notes what runs now: it is done when something else does.
    pub(super) fn patch(&self, pod: &Pod, revision: &str) -> Value {
        let noted = Noted::of(pod).then(pod, self);
        let mut labels = json!(self.labels);
        labels[keys::CONTROLLER_REVISION] = json!(revision);
        let mut annotations = json!(self.annotations);
        annotations[keys::IN_PLACE_UPDATE] = json!(json!(noted).to_string());
        let images = self.images.iter();
        let containers: Vec<_> = images
            .map(|(name, image)| json!({"name": name, "image": image}))
            .collect();
        let mut patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
        if !containers.is_empty() {
            patch["spec"] = json!({"containers": containers});
        }
        patch
    }
}

/// What a pod ran before its images changed.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Noted {
    /// Its `metadata.generation`, if the API server counts it.
    generation: Option<i64>,
    /// The containers whose image changes.
    containers: BTreeMap<String, Before>,
    /// The CPU and memory that containers get, each written after this was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    resources: Resources,
}

/// A container before its image changed.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Before {
    /// Its id.
    id: String,
    /// Its image in the spec.
    image: String,
}

impl Noted {
    fn of(pod: &Pod) -> Self {
        let noted = pod.annotations().get(keys::IN_PLACE_UPDATE);
        let noted = noted.and_then(|text| serde_json::from_str(text).ok());
        noted.unwrap_or_default()
    }

    /// What is noted when a change is written too. What changed before and is not done yet must still be done.
    fn then(mut self, pod: &Pod, change: &Change) -> Self {
        self.resources.extend(change.resources.clone());
        let differs = |(name, image): &(&String, &String)| spec_image(pod, name) != Some(image);
        for (name, _) in change.images.iter().filter(differs) {
            let id = container_id(pod, name).unwrap_or_default();
            let known = self.containers.get(name);
            // The container that runs has the image that was noted, unless it has started since.
            if known.is_none_or(|known| known.id != id) {
                let image = spec_image(pod, name).cloned().unwrap_or_default();
                self.containers.insert(name.clone(), Before { id, image });
            }
            // Only a change of the spec is a new generation.
            self.generation = pod.metadata.generation;
        }
        self
    }
}

/// What a pod ran before KusionStack's controller changed its images.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NotedByKusionStack {
    container_states: BTreeMap<String, ImageBefore>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageBefore {
    #[serde(rename = "latestImage")]
    new: String,
    #[serde(rename = "lastImageID")]
    id: String,
}

impl NotedByKusionStack {
    /// Nothing, if it cannot be read: then all containers must be ready.
    fn of(pod: &Pod) -> Option<Self> {
        let noted = pod.annotations().get(keys::LAST_POD_STATUS)?;
        Some(serde_json::from_str(noted).unwrap_or_default())
    }

    /// Whether all containers are ready, and each runs another image than before, or the one that was written.
    fn is_done(&self, pod: &Pod) -> bool {
        let is_seen = is_observed(pod).unwrap_or(true);
        let is_new = |now: &ContainerStatus| {
            let before = self.container_states.get(&now.name);
            before.is_none_or(|before| {
                let name = now.image.strip_suffix(&before.new);
                let is_named = name.is_some_and(|host| host.is_empty() || host.ends_with('/'));
                now.image_id != before.id || (!before.new.is_empty() && is_named)
            })
        };
        let mut all = container_statuses(pod);
        is_seen && all.all(|now| now.ready && is_new(now))
    }
}

/// The annotations that say that an update in place is under way, of those that a pod has.
pub(super) fn notes(pod: &Pod) -> impl Iterator<Item = &'static str> {
    let all = [keys::IN_PLACE_UPDATE, keys::LAST_POD_STATUS].into_iter();
    all.filter(|key| pod.annotations().contains_key(*key))
}

/// Whether an update of a pod was written and is not done yet.
pub(super) fn is_under_way(pod: &Pod) -> bool {
    notes(pod).next().is_some()
}

/// Whether an update of a pod was written and does not run yet.
pub(super) fn is_unfinished(pod: &Pod) -> bool {
    is_under_way(pod) && !is_done(pod)
}

/// The change of a pod's CPU and memory that is left to write.
pub(super) fn resize(pod: &Pod) -> Option<Value> {
    resources::patch(pod, &Noted::of(pod).resources)
}

/// Why the kubelet does not give a pod its new CPU and memory, if nothing else is left to do in the pod.
pub(super) fn waits_for_room(pod: &Pod) -> Option<&PodCondition> {
    let noted = Noted::of(pod);
    let is_written =
        !noted.resources.is_empty() && resources::patch(pod, &noted.resources).is_none();
    resources::pending(pod).filter(|_| is_written && runs(pod, &noted))
}

/// Whether a pod runs what was written: the kubelet has seen it, each container whose image changed is another
/// one, and ready, and the containers have the CPU and memory of the spec. Images are not compared: one image has
/// several names.
pub(super) fn is_done(pod: &Pod) -> bool {
    let noted = Noted::of(pod);
    let is_resized = noted.resources.is_empty()
        || resources::patch(pod, &noted.resources).is_none() && resources::is_actuated(pod);
    is_resized && runs(pod, &noted)
}

/// Whether a pod runs the images that were written.
fn runs(pod: &Pod, noted: &Noted) -> bool {
    if NotedByKusionStack::of(pod).is_some_and(|noted| !noted.is_done(pod)) {
        return false;
    }
    let seen = observed_generation(pod);
    // A kubelet that is too old reports no generation.
    let is_seen = noted.containers.is_empty()
        || noted
            .generation
            .zip(seen)
            .is_none_or(|(before, seen)| seen > before);
    let is_as_written = |(name, before): (&String, &Before)| {
        let now = container_statuses(pod).find(|status| status.name == *name);
        let is_another = |now: &ContainerStatus| now.container_id.as_ref() != Some(&before.id);
        // An image that is changed back before the kubelet saw the change restarts nothing.
        let is_as_before = spec_image(pod, name) == Some(&before.image);
        now.is_some_and(|now| now.ready && (is_another(now) || is_as_before))
    };
    is_seen && noted.containers.iter().all(is_as_written)
}

fn container_id(pod: &Pod, name: &str) -> Option<String> {
    let mut statuses = container_statuses(pod).filter(|status| status.name == name);
    statuses.next()?.container_id.clone()
}

/// The image that a pod's spec has for a container.
fn spec_image<'a>(pod: &'a Pod, name: &str) -> Option<&'a String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut named = containers.filter(|container| container.name == name);
    named.next()?.image.as_ref()
}

/// What changes, but for what the set itself puts on its pods.
fn difference(old: &Labels, new: &Labels) -> BTreeMap<String, Option<String>> {
    let own = [keys::CONTROL, keys::CONTROLLER_REVISION, keys::CREATION];
    let is_theirs = |key: &String| !own.contains(&key.as_str());
    let removed = old.keys().filter(|key| !new.contains_key(*key));
    let set = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(*value));
    let set = set.map(|(key, value)| (key.clone(), Some(value.clone())));
    let removed = removed.map(|key| (key.clone(), None));
    removed
        .chain(set)
        .filter(|(key, _)| is_theirs(key))
        .collect()
}

/// Two templates as they mean the same: fields that only one of them writes out with their default are no
/// difference. The default pull policy depends on the image, which may change, but the policy of a pod may not; so
/// it counts only where both write it.
fn comparable(old: &PodTemplateSpec, new: &PodTemplateSpec) -> (Value, Value) {
    let stored = |template: &PodTemplateSpec, other: &PodTemplateSpec| {
        let mut form = stored(template);
        for list in ["containers", "initContainers"] {
            let containers = form["spec"].get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let has_policy = |template| has_pull_policy(template, list, &container["name"]);
                let both = has_policy(template) && has_policy(other);
                if let Some(container) = container.as_object_mut().filter(|_| !both) {
                    container.remove(PULL_POLICY);
                }
            }
        }
        form
    };
    (stored(old, new), stored(new, old))
}

const PULL_POLICY: &str = "imagePullPolicy";

/// Whether a template writes the pull policy of this container.
fn has_pull_policy(template: &PodTemplateSpec, list: &str, name: &Value) -> bool {
    let containers = template.at(&["spec", list]).and_then(Value::as_array);
    let mut containers = containers.into_iter().flatten();
    containers.any(|one| one["name"] == *name && one[PULL_POLICY].is_string())
}

fn images(old: Option<&Value>, new: Option<&Value>) -> Result<BTreeMap<String, String>, String> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (list(old), list(new));
    let names = |list: &[Value]| {
        list.iter()
            .map(|one| one["name"].clone())
            .collect::<Vec<_>>()
    };
    if names(&old) != names(&new) {
        return Err("spec.containers".to_owned());
    }
    let mut images = BTreeMap::new();
    for (before, after) in old.iter().zip(&new) {
        let name = after["name"].as_str().unwrap_or_default();
        let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else {
            return Err("spec.containers".to_owned());
        };
        fields_are_same(
            &format!("spec.containers[{name}]"),
            before,
            after,
            &["image", "resources"],
        )?;
        if before.get("image") != after.get("image") {
            let image = after
                .get("image")
                .and_then(Value::as_str)
                .unwrap_or_default();
            images.insert(name.to_owned(), image.to_owned());
        }
    }
    Ok(images)
}

/// Fails with the first field that differs and may not.
fn fields_are_same(
    path: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    may_differ: &[&str],
) -> Result<(), String> {
    let mut names = old.keys().chain(new.keys());
    let differs =
        names.find(|name| !may_differ.contains(&name.as_str()) && old.get(*name) != new.get(*name));
    differs.map_or(Ok(()), |name| Err(format!("{path}.{name}")))
}
