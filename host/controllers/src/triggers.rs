//! Which OperationJobs a change in the cluster wakes.
//!
//! An index of the unfinished jobs, by namespace, answers it without looking at any other job. It is
//! rebuilt from the job's own watch, so it holds nothing that the job does not say.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::{
    OperationJob,
    operation_job::{Progress, TargetDetail},
};
use operon_core::{
    action::{Mapping, Watch},
    operation_job::RELEASED,
    selector::Selector,
};

use crate::catalogue::Catalogue;

/// Wakes OperationJobs.
pub struct Triggers {
    queue: UnboundedSender<ObjectRef<OperationJob>>,
    catalogue: Arc<Catalogue>,
    jobs: RwLock<HashMap<String, HashMap<String, Entry>>>,
}

/// What is known of an unfinished job.
struct Entry {
    action: String,
    /// Targets that are not finished and clean.
    open: HashSet<String>,
    /// The pods of those of them that started.
    started: Vec<ObjectRef<Pod>>,
    /// Their extra-info.
    extra_info: HashSet<(String, String)>,
}

impl Triggers {
    /// Triggers that send to this queue.
    pub fn new(queue: UnboundedSender<ObjectRef<OperationJob>>, catalogue: Arc<Catalogue>) -> Self {
        Self {
            queue,
            catalogue,
            jobs: RwLock::default(),
        }
    }

    /// A job changed: index it anew and look at it.
    pub fn job_changed(&self, job: &OperationJob) {
        let namespace = job.namespace().unwrap_or_default();
        let name = job.name_any();
        {
            let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
            let entries = jobs.entry(namespace.clone()).or_default();
            match entry(job) {
                Some(entry) => entries.insert(name.clone(), entry),
                None => entries.remove(&name),
            };
            if entries.is_empty() {
                jobs.remove(&namespace);
            }
        }
        self.wake(&namespace, &name);
    }

    /// An action was loaded, swapped or removed: look at every unfinished job of it.
    pub fn action_changed(&self, action: &str) {
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        for (namespace, entries) in &*jobs {
            for (name, _) in entries.iter().filter(|(_, entry)| entry.action == action) {
                self.wake(namespace, name);
            }
        }
    }

    /// A pod changed: it may be a target, and an action may watch it.
    pub fn pod_changed(&self, pod: &Pod, pods: &Store<Pod>) {
        let namespace = pod.namespace().unwrap_or_default();
        let name = pod.name_any();
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = jobs.get(&namespace) else {
            return;
        };
        let declared: HashMap<_, _> = self.catalogue.pod_watches().into_iter().collect();
        for (job, entry) in entries {
            let is_watched = || {
                let watches = declared.get(&entry.action);
                watches.is_some_and(|all| all.iter().any(|w| concerns(w, pod, entry, pods)))
            };
            if entry.open.contains(&name) || is_watched() {
                self.wake(&namespace, job);
            }
        }
    }

    /// An object that an action watches changed.
    pub fn object_changed<K: Resource>(
        &self,
        action: &str,
        watch: &Watch,
        object: &K,
        pods: &Store<Pod>,
    ) {
        let namespace = object.namespace().unwrap_or_default();
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = jobs.get(&namespace) else {
            return;
        };
        for (job, entry) in entries.iter().filter(|(_, entry)| entry.action == action) {
            if concerns(watch, object, entry, pods) {
                self.wake(&namespace, job);
            }
        }
    }

    fn wake(&self, namespace: &str, name: &str) {
        // A closed queue means that the process is going down.
        let _ = self
            .queue
            .unbounded_send(ObjectRef::new(name).within(namespace));
    }
}

/// What the index holds of a job; none once nothing is left to do.
fn entry(job: &OperationJob) -> Option<Entry> {
    let details = job
        .status
        .as_ref()
        .map(|s| s.target_details.as_slice())
        .unwrap_or_default();
    let known: HashMap<&str, &TargetDetail> =
        details.iter().map(|d| (d.name.as_str(), d)).collect();
    let closed = |name: &str| {
        known.get(name).is_some_and(|detail| match detail.progress {
            Progress::Succeeded => true,
            Progress::Failed => {
                detail.start_time.is_none() || detail.extra_info.contains_key(RELEASED)
            }
            Progress::Pending | Progress::Processing => false,
        })
    };
    let open: HashSet<String> = job
        .spec
        .targets
        .iter()
        .filter(|t| !closed(&t.name))
        .map(|t| t.name.clone())
        .collect();
    if open.is_empty() && job.metadata.deletion_timestamp.is_none() {
        return None;
    }
    let started: Vec<&TargetDetail> = details
        .iter()
        .filter(|d| d.progress != Progress::Pending && open.contains(&d.name))
        .collect();
    let extra_info = started.iter().flat_map(|d| d.extra_info.clone()).collect();
    let namespace = job.namespace().unwrap_or_default();
    let pod = |detail: &&TargetDetail| ObjectRef::new(&detail.name).within(&namespace);
    let started = started.iter().map(pod).collect();
    Some(Entry {
        action: job.spec.action.clone(),
        open,
        started,
        extra_info,
    })
}

/// Whether an object of a watched kind matters to a job.
fn concerns<K: Resource>(watch: &Watch, object: &K, job: &Entry, pods: &Store<Pod>) -> bool {
    let selected = Selector::parse(&watch.label_selector).is_ok_and(|s| s.matches(object.labels()));
    selected
        && watch.mappings.iter().any(|mapping| match mapping {
            Mapping::Label(key) => object
                .labels()
                .get(key)
                .is_some_and(|target| job.open.contains(target)),
            Mapping::ExtraInfo(key) => job.extra_info.contains(&(key.clone(), object.name_any())),
            Mapping::UidInLabel(key) => {
                let controller = object
                    .owner_references()
                    .iter()
                    .find(|o| o.controller == Some(true));
                let uid = object.meta().uid.as_ref();
                let uids = [uid, controller.map(|owner| &owner.uid)];
                job.started.iter().any(|target| {
                    pods.get(target).is_some_and(|pod| {
                        let value = pod.labels().get(key);
                        value.is_some() && uids.contains(&value)
                    })
                })
            }
            Mapping::Namespace => !job.started.is_empty(),
        })
}
