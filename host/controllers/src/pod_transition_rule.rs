//! The PodTransitionRule controller: decides which operations may take pods out of service, and writes the
//! decisions as the status. The PodOpsLifecycle controller acts only on what has been written. Everything that is
//! decided is decided in `operon_core::pod_lifecycle::rule`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::LabelSelector};
use kube::{
    Resource, ResourceExt,
    core::{Selector, SelectorExt as _},
    runtime::reflector::ObjectRef,
};
use operon_api::{CollaSet, PodTransitionRule, keys};
use operon_core::{
    driver::StatusWrite,
    jobs::owned::controller,
    pod_lifecycle::{
        pod::takes_part,
        rule::{Answers, Seen, Set, allows_more, answers, conclude, is_concerned, selector},
    },
};

use crate::{
    error::Error,
    index::Index,
    report::Reports,
    run::{Next, Reconciler},
    status::whole_seconds,
    store::Store,
};

/// The controller's parts.
pub struct PodTransitionRules {
    /// All pods.
    pub pods: Store<Pod>,
    /// All CollaSets, if they are enabled.
    pub colla_sets: Option<Store<CollaSet>>,
    /// Knows which pods an object selects.
    pub triggers: Arc<RuleTriggers>,
    /// Writes statuses.
    pub reports: Arc<Reports<PodTransitionRule>>,
}

impl Reconciler for PodTransitionRules {
    type Object = PodTransitionRule;
    const NAME: &'static str = "podtransitionrule";
    const STATUS_MANAGER: Option<&'static str> = Some(keys::POD_TRANSITION_RULE_MANAGER);

    async fn reconcile(&self, object: Arc<PodTransitionRule>) -> Result<Next, Error> {
        match self.reports.status_write(&object) {
            StatusWrite::None => {}
            StatusWrite::Sent(_) => return Ok(Next::default()),
            StatusWrite::Failed(refusal) => return Err(refusal.into()),
        }
        if object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::default());
        }
        let conclusion = conclude(&self.look(&object)); // (no client)
        // (client)
        Ok(if allows_more(object.status.as_ref(), &conclusion.status) {
            self.reports.report_urgently(&object, conclusion)
        } else {
            self.reports.report(&object, conclusion)
        })
    }

    async fn stop(&self) {
        self.reports.written().await;
    }
}

impl PodTransitionRules {
    fn look(&self, object: &Arc<PodTransitionRule>) -> Seen {
        let pods = self.triggers.selected(object, &self.pods);
        Seen {
            object: Arc::clone(object),
            sets: self.sets(&pods),
            pods,
            now: whole_seconds(Timestamp::now()),
        }
    }

    /// The CollaSets that own some of these pods.
    fn sets(&self, pods: &[Arc<Pod>]) -> Vec<Set> {
        let Some(colla_sets) = &self.colla_sets else {
            return Vec::new();
        };
        let owners = pods.iter().filter_map(|pod| {
            let owner = controller(&**pod).filter(|owner| owner.kind == CollaSet::kind(&()))?;
            let namespace = pod.namespace().unwrap_or_default();
            Some((&owner.uid, ObjectRef::new(&owner.name).within(&namespace)))
        });
        let owners: BTreeMap<_, _> = owners.collect();
        let found = owners.into_iter().filter_map(|(uid, reference)| {
            let object = colla_sets.get(&reference)?;
            (object.metadata.uid.as_ref() == Some(uid)).then(|| Set {
                pods: self.triggers.pods.get(uid, &self.pods),
                object,
            })
        });
        found.collect()
    }
}

/// What the PodOpsLifecycle controller asks the rules by.
#[derive(Clone)]
pub struct RuleBook {
    /// All PodTransitionRules.
    pub rules: Store<PodTransitionRule>,
    /// Knows those of a namespace.
    pub triggers: Arc<RuleTriggers>,
}

impl RuleBook {
    /// What the rules say of a pod.
    pub(crate) fn answers(&self, pod: &Pod) -> Answers {
        if !is_concerned(pod) {
            return Answers::ALLOWED;
        }
        let namespace = pod.namespace().unwrap_or_default();
        answers(pod, &self.triggers.of_namespace(&namespace, &self.rules))
    }
}

/// Knows which pods an object selects, and wakes the objects that a pod concerns, and the pods that an object
/// concerns.
pub struct RuleTriggers {
    rules: UnboundedSender<ObjectRef<PodTransitionRule>>,
    lifecycle: UnboundedSender<ObjectRef<Pod>>,
    /// The pods that take part, by namespace, and by the uid of their controller.
    pods: Index<Pod>,
    /// The objects, by namespace.
    known: RwLock<HashMap<String, Known>>,
}

/// The objects of a namespace.
type Known = HashMap<ObjectRef<PodTransitionRule>, Selected>;

/// What an object selects.
struct Selected {
    by: LabelSelector,
    /// None: it cannot be read.
    selector: Option<Selector>,
    pods: HashSet<ObjectRef<Pod>>,
    /// Whether pods wait for the object.
    is_awaited: bool,
}

impl RuleTriggers {
    /// Wakes PodTransitionRules, and the PodOpsLifecycle controller, by these queues.
    pub fn new(
        rules: UnboundedSender<ObjectRef<PodTransitionRule>>,
        lifecycle: UnboundedSender<ObjectRef<Pod>>,
    ) -> Self {
        Self {
            rules,
            lifecycle,
            pods: Index::new(keys_of),
            known: RwLock::default(),
        }
    }

    /// A pod changed.
    pub fn pod_changed(&self, pod: &Pod, pods: &Store<Pod>) {
        // First: an object that is indexed meanwhile finds the pod.
        self.pods.changed(pod, pods);
        let reference = ObjectRef::from_obj(pod);
        let now = pods.get(&reference).filter(|pod| takes_part(pod));
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let objects = known.get_mut(&pod.namespace().unwrap_or_default());
        for (object, selected) in objects.into_iter().flatten() {
            let is_selected = now.as_ref().is_some_and(|pod| selected.selects(pod));
            let was_selected = if is_selected {
                !selected.pods.insert(reference.clone())
            } else {
                selected.pods.remove(&reference)
            };
            if is_selected || was_selected {
                self.wake(object.clone());
            }
        }
    }

    /// A PodTransitionRule changed.
    pub fn rule_changed(
        &self,
        object: &PodTransitionRule,
        objects: &Store<PodTransitionRule>,
        pods: &Store<Pod>,
    ) {
        let reference = ObjectRef::from_obj(object);
        let namespace = object.namespace().unwrap_or_default();
        let concerned = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let here = known.entry(namespace.clone()).or_default();
            let before = here.remove(&reference);
            let mut concerned = before
                .as_ref()
                .map(|before| before.pods.clone())
                .unwrap_or_default();
            if let Some(object) = objects.get(&reference) {
                let now = self.select(&object, before, pods);
                concerned.extend(now.pods.iter().cloned());
                here.insert(reference.clone(), now);
            } else if here.is_empty() {
                known.remove(&namespace);
            }
            concerned
        };
        self.wake(reference);
        for pod in concerned {
            if pods.get(&pod).is_some_and(|pod| is_concerned(&pod)) {
                // A closed queue means that the process ends.
                let _ = self.lifecycle.unbounded_send(pod);
            }
        }
    }

    /// A CollaSet changed: it may have another number of pods that do not exist yet.
    pub fn colla_set_changed(&self, object: &CollaSet) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let objects = known.get(&object.namespace().unwrap_or_default());
        let awaited = objects
            .into_iter()
            .flatten()
            .filter(|(_, selected)| selected.is_awaited);
        awaited.for_each(|(object, _)| self.wake(object.clone()));
    }

    /// The pods that an object selects.
    fn selected(&self, object: &PodTransitionRule, pods: &Store<Pod>) -> Vec<Arc<Pod>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let objects = known.get(&object.namespace().unwrap_or_default());
        let selected = objects.and_then(|objects| objects.get(&ObjectRef::from_obj(object)));
        let references = selected.into_iter().flat_map(|selected| &selected.pods);
        references
            .filter_map(|reference| pods.get(reference))
            .collect()
    }

    /// The objects of a namespace.
    fn of_namespace(
        &self,
        namespace: &str,
        objects: &Store<PodTransitionRule>,
    ) -> Vec<Arc<PodTransitionRule>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let references = known.get(namespace).into_iter().flat_map(HashMap::keys);
        references
            .filter_map(|reference| objects.get(reference))
            .collect()
    }

    /// What an object selects now. Only with another selector all pods of the namespace are looked through.
    fn select(
        &self,
        object: &PodTransitionRule,
        before: Option<Selected>,
        pods: &Store<Pod>,
    ) -> Selected {
        let is_awaited = object
            .status
            .as_ref()
            .is_some_and(|status| status.waiting_pods > 0);
        if let Some(before) = before.filter(|before| before.by == object.spec.selector) {
            return Selected {
                is_awaited,
                ..before
            };
        }
        let mut selected = Selected {
            by: object.spec.selector.clone(),
            selector: selector(object).ok(),
            pods: HashSet::new(),
            is_awaited,
        };
        let all = self.pods.get(&of_namespace(object), pods).into_iter();
        let chosen = all.filter(|pod| selected.selects(pod));
        selected.pods = chosen.map(|pod| ObjectRef::from_obj(&*pod)).collect();
        selected
    }

    fn wake(&self, object: ObjectRef<PodTransitionRule>) {
        // A closed queue means that the process ends.
        let _ = self.rules.unbounded_send(object);
    }
}

impl Selected {
    fn selects(&self, pod: &Pod) -> bool {
        let selector = self.selector.as_ref();
        selector.is_some_and(|selector| selector.matches(pod.labels()))
    }
}

/// The keys of a pod that takes part.
fn keys_of(pod: &Pod) -> BTreeSet<String> {
    if !takes_part(pod) {
        return BTreeSet::new();
    }
    let owner = controller(pod).map(|owner| owner.uid.clone());
    owner.into_iter().chain([of_namespace(pod)]).collect()
}

/// The key of the pods of a namespace.
fn of_namespace<K: Resource>(object: &K) -> String {
    format!(
        "{}/",
        object.meta().namespace.as_deref().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
