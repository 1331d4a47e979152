//! A Job rendered from a user's spec and from what is laid over it: a flow's or a DaemonJob's common
//! parameters, shared volumes, a node.

use std::collections::BTreeMap;

use operon_api::{
    embedded::{JobSpec, Volume, VolumeMount},
    job_flow::GlobalParams,
    keys,
};
use serde_json::{Map, Value, json};

use crate::action::Failure;

/// What is laid over the spec of a Job. Its values override the user's values under the same keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay<'a> {
    /// What every Job of the object gets.
    pub(crate) global: Option<&'a GlobalParams>,
    /// More environment variables of every container; they win over the global ones.
    pub(crate) env: Vec<(String, String)>,
    /// The volumes that may be mounted, and which of them are.
    pub(crate) volumes: &'a [Volume],
    pub(crate) mounts: &'a [VolumeMount],
    /// The node that the pods must run on.
    pub(crate) node: Option<&'a str>,
    /// Whether the pods tolerate every taint.
    pub(crate) tolerates_all: bool,
    /// The longest time that the Job may take, in seconds.
    pub(crate) timeout: Option<i32>,
    /// The queue of the object, which the Job gets too.
    pub(crate) queue: Option<&'a str>,
}

/// A Job in the making.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    /// Its `spec`, without `ttlSecondsAfterFinished`: a Job must not be deleted before its result is
    /// recorded.
    pub(crate) spec: Value,
    /// That field, to be set when the result is recorded.
    pub(crate) ttl: Option<Value>,
    /// Labels and annotations of the Job itself.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Lays `overlay` over a spec.
///
/// # Errors
/// A mount of a volume that exists nowhere, and a shared volume that has the name of one of the pod's
/// own: the API server would refuse the Job with less helpful words.
pub(crate) fn render(spec: &JobSpec, overlay: &Overlay<'_>) -> Result<Rendered, Failure> {
    let JobSpec(spec) = spec;
    let mut spec = spec.clone();
    // An API server takes null for absent.
    spec.retain(|_, value| !value.is_null());
    let ttl = spec.remove("ttlSecondsAfterFinished");
    // With a limit per index Kubernetes' own default is right: 0 would end the Job at the first failure.
    if !spec.contains_key("backoffLimitPerIndex") {
        spec.entry("backoffLimit").or_insert(json!(0));
    }
    if let Some(timeout) = overlay.timeout {
        let own = spec.get("activeDeadlineSeconds").and_then(Value::as_i64);
        let timeout = own.map_or(i64::from(timeout), |own| own.min(i64::from(timeout)));
        spec.insert("activeDeadlineSeconds".to_owned(), json!(timeout));
    }
    let is_suspended = spec.get("suspend") == Some(&json!(true));
    let template = object(spec.entry("template").or_insert(json!({})));
    let (mut labels, mut annotations) = overlay.global.map_or_else(Default::default, |global| {
        (global.labels.clone(), global.annotations.clone())
    });
    let metadata = object(template.entry("metadata").or_insert(json!({})));
    merge(metadata, "labels", &labels);
    merge(metadata, "annotations", &annotations);
    let pod = object(template.entry("spec").or_insert(json!({})));
    pod.insert("restartPolicy".to_owned(), json!("Never"));
    mount(pod, overlay)?;
    let env = environment(overlay);
    for container in containers(pod) {
        set_environment(container, &env);
    }
    if let Some(node) = overlay.node.filter(|node| !node.is_empty()) {
        pin(pod, node);
    }
    if overlay.tolerates_all {
        pod.insert("tolerations".to_owned(), json!([{"operator": "Exists"}]));
    }
    if let Some(queue) = overlay.queue {
        labels.insert(keys::QUEUE_NAME.to_owned(), queue.to_owned());
    }
    if is_suspended {
        annotations.insert(keys::SUSPENDED.to_owned(), "true".to_owned());
    } else {
        annotations.remove(keys::SUSPENDED);
    }
    Ok(Rendered {
        spec: Value::Object(spec),
        ttl,
        labels,
        annotations,
    })
}

/// A value as an object; any other value is replaced by an empty object.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object above")
}

/// The list under `key`, which is created if it is absent or null; none if the value is not a list.
fn list<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let value = map.entry(key).or_insert(json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

/// Puts these pairs into the map under `key`.
fn merge(metadata: &mut Map<String, Value>, key: &str, pairs: &BTreeMap<String, String>) {
    if pairs.is_empty() {
        return;
    }
    let map = object(metadata.entry(key).or_insert(json!({})));
    map.extend(pairs.iter().map(|(key, value)| (key.clone(), json!(value))));
}

fn containers(pod: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    pod.iter_mut()
        .filter(|(key, _)| matches!(key.as_str(), "containers" | "initContainers"))
        .filter_map(|(_, list)| list.as_array_mut())
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// The variables of every container; of two with one name the last is taken.
fn environment(overlay: &Overlay<'_>) -> Vec<Value> {
    let global = overlay.global.map(|global| global.env.as_slice());
    let global = global.unwrap_or_default().iter();
    let own = overlay.env.iter();
    global
        .map(|variable| json!(variable))
        .chain(own.map(|(name, value)| json!({"name": name, "value": value})))
        .collect()
}

fn set_environment(container: &mut Map<String, Value>, variables: &[Value]) {
    if variables.is_empty() {
        return;
    }
    let Some(list) = list(container, "env") else {
        return;
    };
    let mut new: Vec<Value> = Vec::new();
    for variable in variables {
        let is_same = |old: &Value| old["name"] == variable["name"];
        let known = list.iter().position(is_same);
        // A container may list a name more than once, and Kubernetes takes the last.
        list.retain(|old| !is_same(old));
        new.retain(|old| !is_same(old));
        match known {
            Some(place) => list.insert(place, variable.clone()),
            None => new.push(variable.clone()),
        }
    }
    // A variable's value can refer to those before it.
    list.splice(0..0, new);
}

/// Adds the shared volumes that are mounted, and mounts them in every container.
fn mount(pod: &mut Map<String, Value>, overlay: &Overlay<'_>) -> Result<(), Failure> {
    if overlay.mounts.is_empty() {
        return Ok(());
    }
    let name_of = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let own = pod.get("volumes").and_then(Value::as_array);
    let own = own.cloned().unwrap_or_default();
    let mut volumes = own.clone();
    for VolumeMount(mount) in overlay.mounts {
        let name = name_of(mount.get("name")).unwrap_or_default();
        let shared = overlay
            .volumes
            .iter()
            .find(|Volume(volume)| name_of(volume.get("name")).as_ref() == Some(&name));
        let is_own = own.iter().any(|volume| volume["name"] == *name);
        match (shared, is_own) {
            (Some(_), true) => {
                return Err(Failure::new(
                    "VolumeNameTaken",
                    format!(
                        "shareVolumes and the pod template both have a volume {name:?}: rename one of them"
                    ),
                ));
            }
            (None, false) => {
                return Err(Failure::new(
                    "UnknownVolume",
                    format!(
                        "shareVolumeMounts mounts {name:?}, which is neither in shareVolumes nor in the pod template"
                    ),
                ));
            }
            (Some(volume), false) => {
                if !volumes.iter().any(|known| known["name"] == *name) {
                    volumes.push(json!(volume));
                }
            }
            (None, true) => {}
        }
    }
    pod.insert("volumes".to_owned(), Value::Array(volumes));
    for container in containers(pod) {
        let Some(list) = list(container, "volumeMounts") else {
            continue;
        };
        for VolumeMount(mount) in overlay.mounts {
            // A container that mounts something else there means that.
            let is_taken = |old: &Value| Some(&old["mountPath"]) == mount.get("mountPath");
            if !list.iter().any(is_taken) {
                list.push(json!(mount));
            }
        }
    }
    Ok(())
}

/// Lets the scheduler place the pods on this node only, so that resources, volumes and taints are
/// respected: `spec.nodeName` would go past it.
fn pin(pod: &mut Map<String, Value>, node: &str) {
    pod.remove("nodeName");
    let affinity = object(pod.entry("affinity").or_insert(json!({})));
    let affinity = object(affinity.entry("nodeAffinity").or_insert(json!({})));
    let required = object(
        affinity
            .entry("requiredDuringSchedulingIgnoredDuringExecution")
            .or_insert(json!({})),
    );
    let name = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let terms = required.entry("nodeSelectorTerms").or_insert(json!([]));
    match terms.as_array_mut().filter(|terms| !terms.is_empty()) {
        // Any of the terms may hold, so each of them gets the name; an empty one never holds.
        Some(terms) => {
            let terms = terms.iter_mut().filter(|term| !is_empty_term(term));
            for fields in terms.filter_map(|term| list(object(term), "matchFields")) {
                fields.retain(|field| field["key"] != "metadata.name");
                fields.push(name.clone());
            }
        }
        None => *terms = json!([{"matchFields": [name]}]),
    }
}

fn is_empty_term(term: &Value) -> bool {
    ["matchExpressions", "matchFields"]
        .iter()
        .all(|key| term[*key].as_array().is_none_or(Vec::is_empty))
}

#[cfg(test)]
mod tests;
