//! Pods to which a request was sent that had no answer. Nobody knows whether it was carried out, and the
//! cache may not have it yet: a target could be released as if nothing had been done to its pod. So these
//! pods are read before the action is called again.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use operon_core::action::{Effect, ObjectReference};

use super::{Performer, answered::Asked, reference};
use crate::{
    error::{Class, Error},
    store::Cache,
};

/// The pods, by namespace and name.
#[derive(Default)]
pub(super) struct Unanswered(Mutex<BTreeSet<(String, String)>>);

impl Unanswered {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeSet<(String, String)>) -> T) -> T {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut pods)
    }

    fn of(&self, namespace: &str) -> Vec<String> {
        self.change(|pods| {
            let pods = pods.iter().filter(|(found, _)| found == namespace);
            pods.map(|(_, name)| name.clone()).collect()
        })
    }

    /// Remembers the pod of an effect, if this error does not say that the request was not carried out.
    pub(super) fn note(&self, namespace: &str, effect: &Effect, error: &Error) {
        if let (true, Some(pod)) = (error.is_unanswered(), pod_of(effect)) {
            self.change(|pods| pods.insert((namespace.to_owned(), pod)));
        }
    }

    fn forget(&self, namespace: &str, pod: &str) {
        self.change(|pods| pods.remove(&(namespace.to_owned(), pod.to_owned())));
    }
}

/// The name of the pod that an effect changes.
fn pod_of(effect: &Effect) -> Option<String> {
    let object = match effect {
        Effect::Patch { object, .. } | Effect::Delete { object, .. } => Some(object.clone()),
        Effect::Apply(body) | Effect::Create(body) => reference(body),
        Effect::Evict { pod, .. } => return Some(pod.clone()),
        Effect::Event { .. } => None,
    };
    let is_pod = |object: &ObjectReference| {
        (object.api_version.as_str(), object.kind.as_str()) == ("v1", "Pod")
    };
    object.filter(is_pod).map(|object| object.name)
}

impl Performer {
    /// Reads the pods of this namespace whose last request had no answer, for the cache. Returns whether
    /// there was one: what was read from the cache before may be outdated then.
    ///
    /// # Errors
    /// One could not be read.
    pub async fn settle(&self, namespace: &str, pods: &Cache<Pod>) -> Result<bool, Error> {
        let Some(unanswered) = &self.unanswered else {
            return Ok(false);
        };
        let names = unanswered.of(namespace);
        for name in &names {
            let object = ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: name.clone(),
            };
            match self.get(namespace, &object).await {
                Ok(found) => {
                    let is_asked = Asked::new(namespace, &object, None).is(&found);
                    if let (true, Ok(pod)) = (is_asked, found.try_parse()) {
                        pods.wrote(pod);
                    }
                }
                // An account that may change pods but not read them has to rely on the watch.
                Err(error) if error.class() == Class::Gone || error.is_forbidden() => {}
                Err(error) => return Err(error),
            }
            unanswered.forget(namespace, name);
        }
        Ok(!names.is_empty())
    }
}
