//! The targets of unfinished OperationJobs by everything through which an object can concern them. It
//! is kept by the watches of jobs and pods, and holds nothing that they do not say. Finding the targets
//! of a key costs the same however many jobs there are.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};
use operon_core::operation_job::RELEASED;

/// Something that leads from an object to targets of its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The name of a target that is not finished and released.
    Name(String),
    /// An entry of a started target's extra-info.
    ExtraInfo(String, String),
    /// A label of a started target's pod.
    PodLabel(String, String),
    /// Any started target of this action.
    Started(String),
    /// The node of a started target's pod.
    Node(String),
}

/// A target that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// The job's name.
    pub(crate) job: String,
    /// The job's uid.
    pub(crate) uid: String,
    /// The target's name.
    pub(crate) target: String,
}

/// The index, by namespace.
#[derive(Default)]
pub(crate) struct TargetIndex {
    namespaces: HashMap<String, Namespace>,
}

#[derive(Default)]
struct Namespace {
    jobs: HashMap<String, Entry>,
    /// The names of jobs and of their targets.
    keys: HashMap<Key, HashSet<(String, String)>>,
}

/// An unfinished job.
pub(crate) struct Entry {
    uid: String,
    action: String,
    /// Targets that are not finished and released.
    targets: HashMap<String, Target>,
}

#[derive(Default)]
struct Target {
    started: bool,
    keys: HashSet<Key>,
}

/// What of a pod leads to the target.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodFacts {
    labels: BTreeMap<String, String>,
    node: Option<String>,
}

impl PodFacts {
    /// Those of a pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            labels: pod.labels().clone(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        }
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let labels = self.labels.iter();
        let labels = labels.map(|(label, value)| Key::PodLabel(label.clone(), value.clone()));
        labels.chain(self.node.clone().map(Key::Node))
    }
}

impl TargetIndex {
    /// Sets what is known of a job; none drops it.
    pub(crate) fn set(&mut self, namespace: &str, job: &str, entry: Option<Entry>) {
        let known = self.namespaces.entry(namespace.to_owned()).or_default();
        let old = known.jobs.remove(job);
        let target = |entry: &Option<Entry>, name: &str| -> HashSet<Key> {
            let target = entry.as_ref().and_then(|entry| entry.targets.get(name));
            target.map(|target| target.keys.clone()).unwrap_or_default()
        };
        let names = |entry: &Option<Entry>| -> Vec<String> {
            let targets = entry.iter().flat_map(|entry| entry.targets.keys());
            targets.cloned().collect()
        };
        let all: HashSet<_> = names(&old).into_iter().chain(names(&entry)).collect();
        for name in all {
            known.move_keys(job, &name, &target(&old, &name), &target(&entry, &name));
        }
        if let Some(entry) = entry {
            known.jobs.insert(job.to_owned(), entry);
        }
        if known.jobs.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Whether the pod of this name is that of a started target.
    pub(crate) fn has_started(&self, namespace: &str, pod: &str) -> bool {
        self.namespaces
            .get(namespace)
            .is_some_and(|known| !known.started(pod).is_empty())
    }

    /// The namespaces with unfinished jobs.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    /// A pod changed, or was deleted.
    pub(crate) fn set_facts(&mut self, namespace: &str, pod: &str, facts: Option<&PodFacts>) {
        let Some(known) = self.namespaces.get_mut(namespace) else {
            return;
        };
        for job in known.started(pod) {
            let entry = known.jobs.get_mut(&job);
            let Some(target) = entry.and_then(|entry| entry.targets.get_mut(pod)) else {
                continue;
            };
            let others = target
                .keys
                .iter()
                .filter(|key| !matches!(key, Key::PodLabel(..) | Key::Node(_)));
            let facts = facts.into_iter().flat_map(PodFacts::keys);
            let keys: HashSet<Key> = others.cloned().chain(facts).collect();
            let old = std::mem::replace(&mut target.keys, keys.clone());
            known.move_keys(&job, pod, &old, &keys);
        }
    }

    /// The targets of a key; only those of one action, where one is named.
    pub(crate) fn find(&self, namespace: &str, key: &Key, action: Option<&str>) -> Vec<Found> {
        let Some(known) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        let targets = known.keys.get(key).into_iter().flatten();
        targets
            .filter_map(|(job, target)| {
                let entry = known.jobs.get(job)?;
                action
                    .is_none_or(|action| entry.action == action)
                    .then(|| Found {
                        job: job.clone(),
                        uid: entry.uid.clone(),
                        target: target.clone(),
                    })
            })
            .collect()
    }

    /// The jobs of an action: their namespaces, names and uids.
    pub(crate) fn of_action(&self, action: &str) -> Vec<(String, String, String)> {
        let jobs = self.namespaces.iter().flat_map(|(namespace, known)| {
            known
                .jobs
                .iter()
                .map(move |(job, entry)| (namespace, job, entry))
        });
        jobs.filter(|(_, _, entry)| entry.action == action)
            .map(|(namespace, job, entry)| (namespace.clone(), job.clone(), entry.uid.clone()))
            .collect()
    }

    /// Whether nothing is known.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}

impl Namespace {
    /// The jobs in which the target of this name has started.
    fn started(&self, target: &str) -> Vec<String> {
        let named = self.keys.get(&Key::Name(target.to_owned()));
        let jobs = named.into_iter().flatten().map(|(job, _)| job);
        let has_started = |job: &&String| {
            let entry = self.jobs.get(*job);
            entry
                .and_then(|entry| entry.targets.get(target))
                .is_some_and(|t| t.started)
        };
        jobs.filter(has_started).cloned().collect()
    }

    fn move_keys(&mut self, job: &str, target: &str, old: &HashSet<Key>, new: &HashSet<Key>) {
        let place = (job.to_owned(), target.to_owned());
        for key in old.difference(new) {
            if let Some(targets) = self.keys.get_mut(key) {
                targets.remove(&place);
                if targets.is_empty() {
                    self.keys.remove(key);
                }
            }
        }
        for key in new.difference(old) {
            self.keys
                .entry(key.clone())
                .or_default()
                .insert(place.clone());
        }
    }
}

impl Entry {
    /// What the index holds of a job; none once nothing is left to do. `facts` are those of the pod of a
    /// name.
    pub(crate) fn of(job: &OperationJob, facts: impl Fn(&str) -> Option<PodFacts>) -> Option<Self> {
        let details = job.status.iter().flat_map(|status| &status.target_details);
        let known: HashMap<&str, &TargetDetail> = details
            .map(|detail| (detail.name.as_str(), detail))
            .collect();
        let targets: HashMap<String, Target> = job
            .targets()
            .iter()
            .filter_map(|target| {
                let name = target.name.as_str();
                let entry = Target::of(name, known.get(name).copied(), &job.spec.action, &facts)?;
                Some((name.to_owned(), entry))
            })
            .collect();
        if targets.is_empty() && job.metadata.deletion_timestamp.is_none() {
            return None;
        }
        Some(Self {
            uid: job.uid().unwrap_or_default(),
            action: job.spec.action.clone(),
            targets,
        })
    }
}

impl Target {
    fn of(
        name: &str,
        detail: Option<&TargetDetail>,
        action: &str,
        facts: impl Fn(&str) -> Option<PodFacts>,
    ) -> Option<Self> {
        let mut target = Self::default();
        target.keys.insert(Key::Name(name.to_owned()));
        let Some(detail) = detail.filter(|detail| detail.progress != Progress::Pending) else {
            return Some(target);
        };
        if is_closed(detail) {
            return None;
        }
        let extra_info = detail.extra_info.clone().into_iter();
        target
            .keys
            .extend(extra_info.map(|(key, value)| Key::ExtraInfo(key, value)));
        target
            .keys
            .extend(facts(name).iter().flat_map(PodFacts::keys));
        target.keys.insert(Key::Started(action.to_owned()));
        target.started = true;
        Some(target)
    }
}

/// Whether a target is finished and nothing of it is left to release.
fn is_closed(detail: &TargetDetail) -> bool {
    match detail.progress {
        Progress::Succeeded => true,
        Progress::Failed => detail.start_time.is_none() || detail.extra_info.contains_key(RELEASED),
        Progress::Pending | Progress::Processing => false,
    }
}
