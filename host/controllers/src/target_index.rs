//! The targets of unfinished OperationJobs by everything through which an object can concern them. It
//! is kept by the watches of jobs and pods, and holds nothing that they do not say. Finding the targets
//! of a key costs the same however many jobs there are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};
use operon_core::operation_job::RELEASED;

use crate::digests::digest;

/// Something that leads from an object to targets of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key<'a> {
    /// The name of a target that is not finished and released.
    Name(&'a str),
    /// An entry of a started target's extra-info.
    ExtraInfo(&'a str, &'a str),
    /// A label of a started target's pod.
    PodLabel(&'a str, &'a str),
    /// Any started target of this action.
    Started(&'a str),
    /// The node of a started target's pod.
    Node(&'a str),
}

/// What is kept of a [`Key`]: 8 bytes, however long its texts are. Two keys may have the same one; then a change
/// concerns one target more than it should, and the action is asked about that target for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fingerprint(u64);

impl From<Key<'_>> for Fingerprint {
    fn from(key: Key<'_>) -> Self {
        Self(digest(key))
    }
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
    jobs: HashMap<Arc<str>, Entry>,
    places: Places,
}

/// An unfinished job.
pub(crate) struct Entry {
    uid: String,
    action: String,
    /// Targets that are not finished and released.
    targets: HashMap<Arc<str>, Target>,
}

#[derive(Clone, Default)]
struct Target {
    started: bool,
    /// The keys that the job says.
    keys: Vec<Fingerprint>,
    /// The keys of a started target's pod.
    pod_keys: Vec<Fingerprint>,
}

impl Target {
    fn all_keys(&self) -> impl Iterator<Item = Fingerprint> {
        self.keys.iter().chain(&self.pod_keys).copied()
    }
}

/// Each key with the names of a job and of its target.
type Places = BTreeSet<(Fingerprint, Arc<str>, Arc<str>)>;

/// What of a pod leads to the target.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodFacts(Vec<Fingerprint>);

impl PodFacts {
    /// Those of a pod.
    pub(crate) fn of(pod: &Pod) -> Self {
        let labels = pod.labels().iter();
        let labels = labels.map(|(label, value)| Key::PodLabel(label, value));
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let keys = labels.chain(node.map(Key::Node));
        Self(keys.map(Fingerprint::from).collect())
    }
}

impl TargetIndex {
    /// Sets what is known of a job; none drops it.
    pub(crate) fn set(&mut self, namespace: &str, job: &str, entry: Option<Entry>) {
        let known = self.namespaces.entry(namespace.to_owned()).or_default();
        let job: Arc<str> = job.into();
        let mut old = known.jobs.remove(&job).map(|entry| entry.targets);
        let new = entry.iter().flat_map(|entry| &entry.targets);
        for (name, target) in new {
            let old = old.as_mut().and_then(|targets| targets.remove(name));
            replace(
                &mut known.places,
                &job,
                name,
                &old.unwrap_or_default(),
                target,
            );
        }
        for (name, target) in old.into_iter().flatten() {
            replace(&mut known.places, &job, &name, &target, &Target::default());
        }
        if let Some(entry) = entry {
            known.jobs.insert(job, entry);
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
    pub(crate) fn set_facts(&mut self, namespace: &str, pod: &str, facts: Option<PodFacts>) {
        let Some(known) = self.namespaces.get_mut(namespace) else {
            return;
        };
        let PodFacts(keys) = facts.unwrap_or_default();
        for job in known.started(pod) {
            let Namespace { jobs, places } = &mut *known;
            let entry = jobs.get_mut(&job);
            let Some(target) = entry.and_then(|entry| entry.targets.get_mut(pod)) else {
                continue;
            };
            let old = target.clone();
            target.pod_keys.clone_from(&keys);
            replace(places, &job, &pod.into(), &old, target);
        }
    }

    /// The targets of a key; only those of one action, where one is named.
    pub(crate) fn find(&self, namespace: &str, key: Key<'_>, action: Option<&str>) -> Vec<Found> {
        let Some(known) = self.namespaces.get(namespace) else {
            return Vec::new();
        };
        known
            .places(key)
            .filter_map(|(job, target)| {
                let entry = known.jobs.get(job)?;
                action
                    .is_none_or(|action| entry.action == action)
                    .then(|| Found {
                        job: job.to_string(),
                        uid: entry.uid.clone(),
                        target: target.to_string(),
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
            .map(|(namespace, job, entry)| (namespace.clone(), job.to_string(), entry.uid.clone()))
            .collect()
    }

    /// Whether nothing is known.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }
}

impl Namespace {
    /// The names of the jobs and of the targets that a key leads to.
    fn places(&self, key: Key<'_>) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let key = Fingerprint::from(key);
        let first = (key, Arc::from(""), Arc::from(""));
        let places = self.places.range(first..);
        places
            .take_while(move |(found, ..)| *found == key)
            .map(|(_, job, target)| (job, target))
    }

    /// The jobs in which the target of this name has started.
    fn started(&self, target: &str) -> Vec<Arc<str>> {
        let jobs = self.places(Key::Name(target)).map(|(job, _)| job);
        let has_started = |job: &&Arc<str>| {
            let entry = self.jobs.get(*job);
            entry
                .and_then(|entry| entry.targets.get(target))
                .is_some_and(|t| t.started)
        };
        jobs.filter(has_started).cloned().collect()
    }
}

/// The keys of a target are others now.
fn replace(places: &mut Places, job: &Arc<str>, target: &Arc<str>, old: &Target, new: &Target) {
    let place = |key| (key, Arc::clone(job), Arc::clone(target));
    let is_in = |target: &Target, key| target.all_keys().any(|other| other == key);
    for key in old.all_keys().filter(|key| !is_in(new, *key)) {
        places.remove(&place(key));
    }
    for key in new.all_keys().filter(|key| !is_in(old, *key)) {
        places.insert(place(key));
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
        let targets: HashMap<Arc<str>, Target> = job
            .targets()
            .iter()
            .filter_map(|target| {
                let name = target.name.as_str();
                let entry = Target::of(name, known.get(name).copied(), &job.spec.action, &facts)?;
                Some((name.into(), entry))
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
        target.keys.push(Key::Name(name).into());
        let Some(detail) = detail.filter(|detail| detail.progress != Progress::Pending) else {
            return Some(target);
        };
        if is_closed(detail) {
            return None;
        }
        target.started = true;
        target.keys.push(Key::Started(action).into());
        let extra_info = detail.extra_info.iter();
        let extra_info =
            extra_info.map(|(key, value)| Fingerprint::from(Key::ExtraInfo(key, value)));
        target.keys.extend(extra_info);
        let PodFacts(keys) = facts(name).unwrap_or_default();
        target.pod_keys = keys;
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
