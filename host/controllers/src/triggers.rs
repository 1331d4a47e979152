//! Which OperationJobs a change in the cluster wakes, and which of their targets it concerns.
//!
//! An index of targets answers it ([`target_index`](crate::target_index)), so an event costs the same
//! however many jobs there are. Label selectors are read when a watch is declared, never per event.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Pod;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use operon_api::OperationJob;
use operon_core::{
    action::{Mapping, Watch},
    jobs::owned::controller,
    selector::Selector,
};

use crate::{
    book::Book,
    catalogue::Catalogue,
    store::Store,
    target_index::{Entry, Found, Key, PodFacts, TargetIndex},
};

/// Wakes OperationJobs.
pub struct Triggers {
    queue: UnboundedSender<ObjectRef<OperationJob>>,
    catalogue: Arc<Catalogue>,
    book: Arc<Book>,
    index: RwLock<TargetIndex>,
    /// The rules by which pods concern targets, by action.
    pod_rules: RwLock<HashMap<String, Vec<Rule>>>,
}

/// How objects of a watched kind concern targets of an action: a declared watch, read once.
#[derive(Clone, Debug)]
pub struct Rule {
    action: String,
    selector: Selector,
    mappings: Vec<Mapping>,
}

impl Rule {
    /// The rule of a watch that an action declared, with its parsed selector.
    pub fn new(action: &str, watch: &Watch, selector: Selector) -> Self {
        Self {
            action: action.to_owned(),
            selector,
            mappings: watch.mappings.clone(),
        }
    }

    /// The keys of the targets that an object concerns.
    fn keys<'a>(&'a self, object: &'a impl Resource) -> Vec<Key<'a>> {
        if !self.selector.matches(object.labels()) {
            return Vec::new();
        }
        let name = object.meta().name.as_deref().unwrap_or_default();
        let uids = || {
            let own = object.meta().uid.iter();
            own.chain(controller(object).map(|owner| &owner.uid))
        };
        let keys = |mapping: &'a Mapping| -> Vec<Key<'a>> {
            match mapping {
                Mapping::Label(label) => {
                    let target = object.labels().get(label);
                    target.map(|target| Key::Name(target)).into_iter().collect()
                }
                Mapping::ExtraInfo(key) => vec![Key::ExtraInfo(key, name)],
                Mapping::UidInLabel(label) => uids().map(|uid| Key::PodLabel(label, uid)).collect(),
                Mapping::UidInExtraInfo(key) => {
                    uids().map(|uid| Key::ExtraInfo(key, uid)).collect()
                }
                Mapping::Namespace => vec![Key::Started(&self.action)],
                Mapping::Node => vec![Key::Node(name)],
            }
        };
        self.mappings.iter().flat_map(keys).collect()
    }
}

impl Triggers {
    /// Triggers that send to this queue, and report to this book the targets that need not wait.
    pub fn new(
        queue: UnboundedSender<ObjectRef<OperationJob>>,
        catalogue: Arc<Catalogue>,
        book: Arc<Book>,
    ) -> Self {
        Self {
            queue,
            catalogue,
            book,
            index: RwLock::default(),
            pod_rules: RwLock::default(),
        }
    }

    /// A job changed or was deleted: index it again and wake it.
    pub fn job_changed(&self, job: &OperationJob, jobs: &Store<OperationJob>, pods: &Store<Pod>) {
        let namespace = job.namespace().unwrap_or_default();
        let name = job.name_any();
        let reference = ObjectRef::from_obj(job);
        let latest = jobs.get(&reference);
        if latest
            .as_ref()
            .is_none_or(|latest| latest.uid() != job.uid())
        {
            self.book.forget(&job.uid().unwrap_or_default());
        }
        {
            // The pods are read under the lock: a later version of one comes through `pod_changed`,
            // which then finds the target.
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let facts = |pod: &str| {
                let pod = pods.get(&ObjectRef::new(pod).within(&namespace))?;
                Some(PodFacts::of(&pod))
            };
            let entry = latest.and_then(|job| Entry::of(&job, facts));
            index.set(&namespace, &name, entry);
        }
        self.wake(reference);
    }

    /// An action was loaded, swapped or removed: wake every unfinished job of it.
    pub fn action_changed(&self, action: &str) {
        self.set_pod_rules(action, || {
            let loaded = self.catalogue.loaded(action);
            loaded.map_or_else(Vec::new, |l| l.action.registration().watches.clone())
        });
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let jobs = index.of_action(action);
        drop(index);
        for (namespace, job, uid) in jobs {
            self.book.action_changed(&uid);
            self.wake(ObjectRef::new(&job).within(&namespace));
        }
    }

    /// The watches are read under the lock: of two changes at the same time the later one stays.
    fn set_pod_rules(&self, action: &str, watches: impl FnOnce() -> Vec<Watch>) {
        let mut all = self
            .pod_rules
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let watches = watches();
        let pods = watches
            .iter()
            .filter(|w| w.kind == "Pod" && w.api_version == "v1");
        // A watch with an invalid selector is refused when the action is loaded.
        let rules: Vec<_> = pods
            .filter_map(|watch| {
                let selector = Selector::parse(&watch.label_selector).ok()?;
                Some(Rule::new(action, watch, selector))
            })
            .collect();
        if rules.is_empty() {
            all.remove(action);
        } else {
            all.insert(action.to_owned(), rules);
        }
    }

    /// A pod changed: it may be a target, and an action may watch it.
    pub fn pod_changed(&self, pod: &Pod, pods: &Store<Pod>) {
        let namespace = pod.namespace().unwrap_or_default();
        let name = pod.name_any();
        self.set_facts(&namespace, &name, pods);
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = index.find(&namespace, Key::Name(&name), None);
        let rules = self
            .pod_rules
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for rule in rules.values().flatten() {
            found.extend(of_rule(&index, &namespace, rule, pod));
        }
        drop((index, rules));
        self.changed(&namespace, found);
    }

    fn set_facts(&self, namespace: &str, pod: &str, pods: &Store<Pod>) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let started = index.has_started(namespace, pod);
        drop(index);
        if started {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            let now = pods.get(&ObjectRef::new(pod).within(namespace));
            index.set_facts(namespace, pod, now.map(|pod| PodFacts::of(&pod)));
        }
    }

    /// An object that an action watches changed. One without a namespace concerns targets of all namespaces.
    pub fn object_changed(&self, rule: &Rule, object: &impl Resource) {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let namespaces = match object.namespace() {
            Some(namespace) => vec![namespace],
            None => index.namespaces(),
        };
        let found = namespaces.into_iter().map(|namespace| {
            let found = of_rule(&index, &namespace, rule, object);
            (namespace, found)
        });
        let found: Vec<_> = found.collect();
        drop(index);
        for (namespace, found) in found {
            self.changed(&namespace, found);
        }
    }

    fn changed(&self, namespace: &str, found: Vec<Found>) {
        let mut jobs = BTreeSet::new();
        for Found { job, uid, target } in found {
            self.book.changed(&uid, &target);
            jobs.insert(job);
        }
        for job in jobs {
            self.wake(ObjectRef::new(&job).within(namespace));
        }
    }

    /// Wakes a job.
    pub(crate) fn wake(&self, job: ObjectRef<OperationJob>) {
        // A closed queue means that the process is going down.
        let _ = self.queue.unbounded_send(job);
    }
}

/// The targets that an object concerns by a rule.
fn of_rule(
    index: &TargetIndex,
    namespace: &str,
    rule: &Rule,
    object: &impl Resource,
) -> Vec<Found> {
    let keys = rule.keys(object);
    let targets = keys
        .iter()
        .flat_map(|key| index.find(namespace, *key, Some(&rule.action)));
    targets.collect()
}

#[cfg(test)]
mod tests;
