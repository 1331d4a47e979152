//! What stories ask of pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::ResourceExt as _;

/// The prefix of everything that Replace writes on a pod of a Deployment.
const MARKS: &str = "replace.operon.dev/";

/// The prefix of what stays on a pod for good: where a bare pod's copy comes from.
const KEPT: [&str; 2] = [
    "replace.operon.dev/replaces",
    "replace.operon.dev/base-name",
];

/// Questions to a pod.
pub trait PodExt {
    /// Its condition of this type.
    fn condition(&self, type_: &str) -> Option<&PodCondition>;
    /// The condition `Ready` is true.
    fn is_ready(&self) -> bool;
    /// It has neither ended nor been asked to.
    fn is_live(&self) -> bool;
    /// Its controller.
    fn controller(&self) -> Option<&OwnerReference>;
    /// Labels and annotations of a replacement that is under way.
    fn marks(&self) -> Vec<String>;
    /// Its uid.
    fn identity(&self) -> String;
}

impl PodExt for Pod {
    fn condition(&self, type_: &str) -> Option<&PodCondition> {
        let conditions = self.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == type_)
    }

    fn is_ready(&self) -> bool {
        self.condition("Ready")
            .is_some_and(|condition| condition.status == "True")
    }

    fn is_live(&self) -> bool {
        let phase = self
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        self.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Failed" | "Succeeded"))
    }

    fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references()
            .iter()
            .find(|owner| owner.controller == Some(true))
    }

    fn marks(&self) -> Vec<String> {
        let keys = self.labels().keys().chain(self.annotations().keys());
        let marks = keys.filter(|key| key.starts_with(MARKS) && !KEPT.contains(&key.as_str()));
        marks.cloned().collect()
    }

    fn identity(&self) -> String {
        self.uid().unwrap_or_default()
    }
}

/// The pods' names, sorted.
pub fn names<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Vec<String> {
    let mut names: Vec<String> = pods.into_iter().map(kube::ResourceExt::name_any).collect();
    names.sort();
    names
}

/// The pods' uids, sorted.
pub fn identities<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Vec<String> {
    let mut uids: Vec<String> = pods.into_iter().map(PodExt::identity).collect();
    uids.sort();
    uids
}

/// How many pods each controller has, by its name; standalone pods count under `""`.
pub fn by_controller<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods {
        let owner = pod.controller().map(|owner| owner.name.clone());
        *counts.entry(owner.unwrap_or_default()).or_default() += 1;
    }
    counts
}

/// A pod in one line.
pub fn describe(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    format!(
        "{} {} {}{}{} owner={} {:?}",
        pod.name_any(),
        pod.identity(),
        status
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("?"),
        if pod.is_ready() { " ready" } else { "" },
        if pod.metadata.deletion_timestamp.is_some() {
            " terminating"
        } else {
            ""
        },
        pod.controller().map_or("none", |owner| owner.name.as_str()),
        pod.marks(),
    )
}
