//! The Jobs and pods on each node.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use super::{
    Observed,
    job::{self, Marks},
    memory::Memory,
};
use crate::jobs::{self, blocked::is_live};

/// The Jobs of one node.
#[derive(Clone, Debug, Default)]
pub(super) struct OfNode<'a> {
    /// The last of this revision, which attempts are finished, and whether one of them succeeded.
    pub(super) last: Option<&'a Arc<Job>>,
    pub(super) finished: BTreeSet<u32>,
    pub(super) succeeded: bool,
    /// Whether there is one of another.
    pub(super) outdated: Outdated,
    /// Whether a pod is live although its Job was deleted or has finished.
    pub(super) has_pods: bool,
}

/// The Jobs and pods of other revisions on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outdated {
    #[default]
    Nothing,
    /// Jobs that are finished.
    Over,
    /// Something that runs.
    Running,
}

/// The Jobs and pods on each node, by its uid; `jobs` are the Jobs of the object.
pub(super) fn by_node<'a>(
    observed: &Observed<'a>,
    jobs: &[&'a Arc<Job>],
    memory: &Memory<'_>,
) -> HashMap<&'a str, OfNode<'a>> {
    let mut by_node: HashMap<&str, OfNode<'_>> = HashMap::new();
    for marks in pods_alone(observed, jobs) {
        let of_node = by_node.entry(marks.node_uid).or_default();
        of_node.has_pods = true;
        if marks.revision != memory.revision {
            of_node.outdated = Outdated::Running;
        }
    }
    for job in jobs {
        let Some(marks) = Marks::of(&job.metadata) else {
            continue;
        };
        let of_node = by_node.entry(marks.node_uid).or_default();
        if marks.revision != memory.revision {
            let runs = jobs::finish(job).is_none() && !jobs::is_failing(job);
            let outdated = if runs {
                Outdated::Running
            } else {
                Outdated::Over
            };
            of_node.outdated = of_node.outdated.max(outdated);
            continue;
        }
        if jobs::finish(job).is_some() {
            of_node.finished.insert(marks.attempt);
        }
        of_node.succeeded |= job::is_successful(job);
        let rank = |job: &Job| (job::attempt(job), job.name_any());
        if of_node.last.is_none_or(|last| rank(last) < rank(job)) {
            of_node.last = Some(job);
        }
    }
    by_node
}

/// What the pods were created for that are live without a live Job: the Job was deleted without waiting for
/// them, or finished before them, or its labels were removed.
fn pods_alone<'a>(
    observed: &Observed<'a>,
    jobs: &[&'a Arc<Job>],
) -> impl Iterator<Item = Marks<'a>> {
    let running = jobs.iter().filter(|job| jobs::finish(job).is_none());
    let running: HashSet<_> = running
        .filter_map(|job| job.metadata.uid.as_deref())
        .collect();
    let object = observed.object;
    let alone = observed.all_pods.iter().filter(move |pod| {
        let mut owners = pod.owner_references().iter();
        let has_job = owners.any(|owner| running.contains(owner.uid.as_str()));
        is_live(pod) && !has_job && job::is_own_pod(object, pod)
    });
    alone.filter_map(|pod| Marks::of(&pod.metadata))
}
