//! The pods that a CollaSet's scale strategy names.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{CollaSet, colla_set::ScaleStrategy};

use super::{Seen, pods::Pods};

/// The names of pods in a scale strategy.
#[derive(Debug, Default)]
pub(super) struct Named<'a> {
    delete: BTreeSet<&'a str>,
    exclude: BTreeSet<&'a str>,
    include: BTreeSet<&'a str>,
}

impl<'a> Named<'a> {
    pub(super) fn of(object: &'a CollaSet) -> Self {
        let Some(strategy) = &object.spec.scale_strategy else {
            return Self::default();
        };
        let ScaleStrategy {
            pod_to_delete,
            pod_to_exclude,
            pod_to_include,
            operation_delay_seconds: _,
            context: _,
            persistent_volume_claim_retention_policy: _,
        } = strategy;
        let names = |list: &'a [String]| list.iter().map(String::as_str).collect();
        Self {
            delete: names(pod_to_delete),
            exclude: names(pod_to_exclude),
            include: names(pod_to_include),
        }
    }

    /// Whether a pod is to be deleted.
    pub(super) fn deletes(&self, pod: &Pod) -> bool {
        has(&self.delete, pod)
    }

    /// Whether a pod does not belong to the set any more.
    pub(super) fn excludes(&self, pod: &Pod) -> bool {
        has(&self.exclude, pod)
    }

    /// Whether a pod belongs to the set whatever its labels are.
    pub(super) fn includes(&self, pod: &Pod) -> bool {
        has(&self.include, pod)
    }
}

fn has(names: &BTreeSet<&str>, pod: &Pod) -> bool {
    let name = pod.metadata.name.as_deref();
    name.is_some_and(|name| names.contains(name))
}

/// The names that mean no pod, as a sentence. Pods of other controllers are not seen.
pub(super) fn unknown(seen: &Seen, pods: &Pods<'_>) -> Option<String> {
    let Named {
        delete,
        exclude,
        include,
    } = Named::of(&seen.object);
    let members = pods.active.iter().chain(&pods.terminating);
    let members = members.chain(&pods.finished).chain(&pods.adopt);
    let members: BTreeSet<_> = members.map(|pod| pod.name_any()).collect();
    let all: BTreeSet<_> = seen.pods.iter().map(|pod| pod.name_any()).collect();
    let lists = [
        ("podToDelete", delete, &members),
        ("podToExclude", exclude, &all),
        ("podToInclude", include, &members),
    ];
    let lists = lists.into_iter().filter_map(|(field, names, known)| {
        let names = names.into_iter().filter(|name| !known.contains(*name));
        let names: Vec<_> = names.collect();
        (!names.is_empty()).then(|| format!("{field}: {}", names.join(", ")))
    });
    let lists: Vec<_> = lists.collect();
    (!lists.is_empty()).then(|| {
        format!(
            "spec.scaleStrategy names pods that do not exist or belong to another controller: {}",
            lists.join("; ")
        )
    })
}
