//! An action's view of the cluster in one reconcile: the job's namespace, as the stores had it at the first
//! read. All targets have the same view, so that targets that share an object agree on it.

mod cost;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use operon_core::{
    action::{ClusterView, FoundPods, JobState, ObjectReference, PodLimit, PodView, ReadError},
    selector::Selector,
};
use serde_json::Value;

use crate::{
    digests::{Digests, digest},
    existing_jobs::{ExistingJobs, States},
    reads::{Read, Recorder},
    store::{Entry, Store},
};

/// The stores of the kinds that an action declared.
#[derive(Clone, Default)]
pub struct Declared {
    /// All pods of the cluster, and which of them may be read, if pods were declared.
    pub pods: Option<(Store<Pod>, Selector)>,
    /// Everything else, by `apiVersion` and kind.
    pub others: HashMap<(String, String), DeclaredKind>,
    /// The optional kinds that the API server does not serve, by `apiVersion` and kind.
    pub absent: HashSet<(String, String)>,
    /// The digests of what is in these stores.
    pub(crate) digests: Arc<Digests>,
}

/// A kind that an action declared.
#[derive(Clone)]
pub struct DeclaredKind {
    /// The API server's name of the kind.
    pub resource: ApiResource,
    /// Its objects.
    pub store: Store<DynamicObject>,
    /// Whether its objects have no namespace.
    pub is_cluster_scoped: bool,
}

/// How many selectors, and labels, a view keeps the pods of: actions choose them, and a view lives for a
/// whole reconcile.
const KEPT: usize = 64;

/// How many digests of answers a view keeps: two numbers each. The calls about 10,000 targets may have read more, most
/// of them what only one target reads, which is computed once in any case.
const DIGESTS: usize = 1 << 17;

/// A pod as it was at the first read.
type PodEntry = Arc<Entry<Pod>>;

/// An object of another kind as it was at the first read of that kind.
type ObjectEntry = Arc<Entry<DynamicObject>>;

/// Objects by name.
type ObjectEntries = BTreeMap<Arc<str>, ObjectEntry>;

/// Pods by the values that they have of one label.
type ByValue = HashMap<String, Vec<PodEntry>>;

/// The view of one reconcile.
pub struct View {
    namespace: String,
    declared: Declared,
    jobs: Arc<ExistingJobs>,
    /// The states of the namespace's jobs.
    job_states: OnceLock<Arc<States>>,
    /// The namespace's pods, by name.
    pods: OnceLock<BTreeMap<Arc<str>, PodEntry>>,
    /// The objects of other declared kinds, by name.
    objects: Mutex<HashMap<(String, String), Arc<ObjectEntries>>>,
    /// The selectors of reads: the calls about many targets read by the same ones.
    selectors: Mutex<HashMap<String, Arc<Selector>>>,
    /// The pods by the requested labels: an action reads this way for every target.
    by_label: Mutex<HashMap<String, ByValue>>,
    /// Of pods that were found, what an action sees: once, however many selectors find them.
    views: Mutex<HashMap<Arc<str>, Arc<PodView>>>,
    /// The digests of answers, by those of their questions: targets that share an object read the same.
    digests: Mutex<HashMap<u64, u64>>,
}

impl View {
    /// A view of `namespace` over what was declared, and over the jobs that exist.
    pub fn new(namespace: &str, declared: Declared, jobs: Arc<ExistingJobs>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            declared,
            jobs,
            job_states: OnceLock::new(),
            pods: OnceLock::new(),
            objects: Mutex::default(),
            selectors: Mutex::default(),
            by_label: Mutex::default(),
            views: Mutex::default(),
            digests: Mutex::default(),
        }
    }

    /// A digest of the answer to a question, by value.
    pub(crate) fn digest(&self, read: &Read) -> u64 {
        let question = digest(read);
        let lock = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&question).copied();
        known.unwrap_or_else(|| {
            let answer = self.computed_digest(read);
            let mut digests = lock();
            if digests.len() < DIGESTS {
                digests.insert(question, answer);
            }
            answer
        })
    }

    /// How many pods more may match the selector of a limit; none if the action may not read pods.
    pub(crate) fn room(&self, limit: &PodLimit) -> Option<usize> {
        let selector = self.selector(&limit.label_selector).ok()?;
        let pods = self.selected_pods(&selector).ok()?;
        let counts = pods.iter().filter(|pod| !pod.is_being_deleted());
        let most = usize::try_from(limit.pods).unwrap_or(usize::MAX);
        Some(most.saturating_sub(counts.count()))
    }

    /// The digests of objects.
    pub(crate) fn digests(&self) -> &Digests {
        &self.declared.digests
    }

    fn computed_digest(&self, read: &Read) -> u64 {
        let digests = &self.declared.digests;
        match read {
            Read::FindJob(uid) => digest(self.find_job(uid).ok()),
            Read::Get(reference) if is_pod(&reference.api_version, &reference.kind) => {
                let pods = self.pods().ok();
                let pod = pods.and_then(|pods| pods.get(&*reference.name));
                digest(pod.map(|pod| digests.whole_entry(pod)))
            }
            Read::Get(reference) => {
                let object = self.object(reference).ok().flatten();
                digest(object.map(|object| digests.whole_entry(&object)))
            }
            Read::FindPods(selector) => {
                let pods = self.pods_matching(selector);
                digest_of_all(pods.iter().map(|pod| digests.typed_entry(pod)))
            }
            Read::Find {
                api_version,
                kind,
                selector,
            } if is_pod(api_version, kind) => {
                let pods = self.pods_matching(selector);
                digest_of_all(pods.iter().map(|pod| digests.whole_entry(pod)))
            }
            Read::Find {
                api_version,
                kind,
                selector,
            } => {
                let selector = self.selector(selector).ok();
                let objects = selector.map(|selector| self.objects(api_version, kind, &selector));
                let objects = objects.and_then(Result::ok).unwrap_or_default();
                digest_of_all(objects.iter().map(|object| digests.whole_entry(object)))
            }
        }
    }

    /// A selector of a read.
    fn selector(&self, text: &str) -> Result<Arc<Selector>, ReadError> {
        let mut selectors = self
            .selectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(selector) = selectors.get(text) {
            return Ok(Arc::clone(selector));
        }
        let selector = Selector::parse(text).map_err(ReadError::BadSelector)?;
        let selector = Arc::new(selector);
        if selectors.len() < KEPT {
            selectors.insert(text.to_owned(), Arc::clone(&selector));
        }
        Ok(selector)
    }

    /// The pods that a selector matches; none if it can't be read, or pods may not be.
    fn pods_matching(&self, selector: &str) -> Vec<PodEntry> {
        let selector = self.selector(selector).ok();
        let pods = selector.map(|selector| self.selected_pods(&selector));
        pods.and_then(Result::ok).unwrap_or_default()
    }

    fn pods(&self) -> Result<&BTreeMap<Arc<str>, PodEntry>, ReadError> {
        let declared = self.declared.pods.as_ref();
        let (store, selector) =
            declared.ok_or_else(|| ReadError::NotDeclared("v1/Pod".to_owned()))?;
        Ok(self.pods.get_or_init(|| {
            let pods = store.entries(Some(&self.namespace)).into_iter();
            let pods = pods.filter(|pod| pod.is_selected(selector));
            pods.map(|pod| (Arc::clone(pod.name()), pod)).collect()
        }))
    }

    fn selected_pods(&self, selector: &Selector) -> Result<Vec<PodEntry>, ReadError> {
        let pods = self.pods()?;
        let selected = |pod: &&PodEntry| pod.is_selected(selector);
        let Some((key, value)) = selector.exact() else {
            return Ok(pods.values().filter(selected).cloned().collect());
        };
        let mut by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        if by_label.len() >= KEPT && !by_label.contains_key(key) {
            return Ok(pods.values().filter(selected).cloned().collect());
        }
        let by_value = by_label.entry(key.to_owned()).or_insert_with(|| {
            let mut by_value = ByValue::new();
            for pod in pods.values() {
                if let Some(value) = pod.labels().get(key) {
                    by_value
                        .entry(value.to_owned())
                        .or_default()
                        .push(Arc::clone(pod));
                }
            }
            by_value
        });
        let candidates = by_value.get(value).into_iter().flatten();
        Ok(candidates.filter(selected).cloned().collect())
    }

    /// What an action sees of a pod.
    fn seen(&self, pod: &PodEntry) -> Arc<PodView> {
        let lock = || self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = lock().get(pod.name()) {
            return Arc::clone(seen);
        }
        let seen = Arc::new(PodView::from(&*pod.peek()));
        lock().insert(Arc::clone(pod.name()), Arc::clone(&seen));
        seen
    }

    fn others(&self, api_version: &str, kind: &str) -> Result<&DeclaredKind, ReadError> {
        let key = (api_version.to_owned(), kind.to_owned());
        let named = || format!("{api_version}/{kind}");
        match self.declared.others.get(&key) {
            Some(declared) => Ok(declared),
            None if self.declared.absent.contains(&key) => Err(ReadError::NotServed(named())),
            None => Err(ReadError::NotDeclared(named())),
        }
    }

    /// The objects of a kind that is not pods.
    fn others_of(&self, api_version: &str, kind: &str) -> Result<Arc<ObjectEntries>, ReadError> {
        let declared = self.others(api_version, kind)?;
        let key = (api_version.to_owned(), kind.to_owned());
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = objects.entry(key).or_insert_with(|| {
            let namespace = (!declared.is_cluster_scoped).then_some(self.namespace.as_str());
            let objects = declared.store.entries(namespace).into_iter();
            let named = objects.map(|object| (Arc::clone(object.name()), object));
            Arc::new(named.collect())
        });
        Ok(Arc::clone(of_kind))
    }

    /// An object that is no pod.
    fn object(&self, reference: &ObjectReference) -> Result<Option<ObjectEntry>, ReadError> {
        let objects = self.others_of(&reference.api_version, &reference.kind)?;
        Ok(objects.get(&*reference.name).cloned())
    }

    /// Objects that are no pods.
    fn objects(
        &self,
        api_version: &str,
        kind: &str,
        selector: &Selector,
    ) -> Result<Vec<ObjectEntry>, ReadError> {
        let objects = self.others_of(api_version, kind)?;
        let selected = objects
            .values()
            .filter(|object| object.is_selected(selector));
        Ok(selected.cloned().collect())
    }
}

/// A digest that does not depend on the order.
fn digest_of_all(stamps: impl Iterator<Item = u64>) -> u64 {
    stamps.fold(1, u64::wrapping_add)
}

impl ClusterView for View {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        if is_pod(&reference.api_version, &reference.kind) {
            let pod = self.pods()?.get(&*reference.name);
            return Ok(pod.and_then(|pod| whole(&*pod.peek(), "v1", "Pod")));
        }
        let object = self.object(reference)?;
        Ok(object
            .and_then(|object| whole(&*object.peek(), &reference.api_version, &reference.kind)))
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        let selector = self.selector(label_selector)?;
        if is_pod(api_version, kind) {
            let pods = self.selected_pods(&selector)?.into_iter();
            return Ok(Box::new(
                pods.filter_map(|pod| whole(&*pod.peek(), "v1", "Pod")),
            ));
        }
        let objects = self.objects(api_version, kind, &selector)?;
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        let objects = objects.into_iter();
        Ok(Box::new(objects.filter_map(move |object| {
            whole(&*object.peek(), &api_version, &kind)
        })))
    }

    fn find_pods(&self, label_selector: &str) -> Result<FoundPods<'_>, ReadError> {
        let selector = self.selector(label_selector)?;
        let pods = self.selected_pods(&selector)?.into_iter();
        Ok(Box::new(pods.map(|pod| self.seen(&pod))))
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        let states = self
            .job_states
            .get_or_init(|| self.jobs.states(&self.namespace));
        Ok(states.get(uid).copied().unwrap_or(JobState::Absent))
    }
}

/// The view of a call about one target: the pod of the target can be read though pods were not declared, or only
/// others.
pub(crate) struct ViewOfTarget {
    /// The view of the reconcile, which remembers what is read.
    pub(crate) view: Arc<Recorder>,
    /// The name of the target.
    pub(crate) name: String,
    /// The pod with which the target started, if it exists.
    pub(crate) pod: Option<Arc<Pod>>,
}

impl ClusterView for ViewOfTarget {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        let is_own = is_pod(&reference.api_version, &reference.kind) && reference.name == self.name;
        match self.view.get(reference) {
            Ok(None) | Err(ReadError::NotDeclared(_)) if is_own => {
                let pod = self.pod.as_deref();
                self.view.note_own(pod);
                Ok(pod.and_then(|pod| whole(pod, "v1", "Pod")))
            }
            read => read,
        }
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        self.view.find(api_version, kind, label_selector)
    }

    fn find_pods(&self, label_selector: &str) -> Result<FoundPods<'_>, ReadError> {
        self.view.find_pods(label_selector)
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        self.view.find_job(uid)
    }
}

fn is_pod(api_version: &str, kind: &str) -> bool {
    (api_version, kind) == ("v1", "Pod")
}

/// The object as JSON, with the kind that watches leave out.
fn whole(object: &impl serde::Serialize, api_version: &str, kind: &str) -> Option<Value> {
    let mut value = serde_json::to_value(object).ok()?;
    let fields = value.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), api_version.into());
    fields.insert("kind".to_owned(), kind.into());
    Some(value)
}

#[cfg(test)]
mod tests;
