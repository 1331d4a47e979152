//! What an action sees of the cluster in one pass: the job's namespace, as the stores had it when it was
//! first asked for. The same for every target, so that targets that share something agree on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::DynamicObject, runtime::reflector::Store};
use operon_core::{
    action::{ClusterView, ObjectReference, PodView, ReadError},
    selector::Selector,
};
use serde_json::Value;

/// The stores of the kinds that an action declared.
#[derive(Clone, Default)]
pub struct Declared {
    /// All pods of the cluster, and which of them may be read, if pods were declared.
    pub pods: Option<(Store<Pod>, Selector)>,
    /// Everything else, by `apiVersion` and kind.
    pub others: HashMap<(String, String), Store<DynamicObject>>,
}

/// The view of one pass.
pub struct View {
    namespace: String,
    declared: Declared,
    pods: OnceLock<Vec<Arc<Pod>>>,
    found: Mutex<HashMap<String, Arc<Vec<PodView>>>>,
}

impl View {
    /// A view of `namespace` over what was declared.
    pub fn new(namespace: &str, declared: Declared) -> Self {
        Self {
            namespace: namespace.to_owned(),
            declared,
            pods: OnceLock::new(),
            found: Mutex::default(),
        }
    }

    fn pods(&self) -> Result<&[Arc<Pod>], ReadError> {
        let declared = self.declared.pods.as_ref();
        let (store, selector) =
            declared.ok_or_else(|| ReadError::NotDeclared("v1/Pod".to_owned()))?;
        Ok(self.pods.get_or_init(|| {
            store.state_filter(|pod| {
                pod.metadata.namespace.as_deref() == Some(&self.namespace)
                    && selector.matches(pod.labels())
            })
        }))
    }

    fn others(&self, api_version: &str, kind: &str) -> Result<&Store<DynamicObject>, ReadError> {
        self.declared
            .others
            .get(&(api_version.to_owned(), kind.to_owned()))
            .ok_or_else(|| ReadError::NotDeclared(format!("{api_version}/{kind}")))
    }
}

impl ClusterView for View {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        if is_pod(&reference.api_version, &reference.kind) {
            let pods = self.pods()?;
            let pod = pods
                .iter()
                .find(|pod| pod.metadata.name.as_deref() == Some(&reference.name));
            return Ok(pod.and_then(|pod| whole(&**pod, "v1", "Pod")));
        }
        let store = self.others(&reference.api_version, &reference.kind)?;
        let object = store.find(|object| {
            object.metadata.namespace.as_deref() == Some(&self.namespace)
                && object.metadata.name.as_deref() == Some(&reference.name)
        });
        Ok(object.and_then(|object| whole(&*object, &reference.api_version, &reference.kind)))
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<Value>, ReadError> {
        let selector = Selector::parse(label_selector).map_err(ReadError::BadSelector)?;
        if is_pod(api_version, kind) {
            let pods = self
                .pods()?
                .iter()
                .filter(|pod| selector.matches(pod.labels()));
            return Ok(pods.filter_map(|pod| whole(&**pod, "v1", "Pod")).collect());
        }
        let objects = self.others(api_version, kind)?.state_filter(|object| {
            object.metadata.namespace.as_deref() == Some(&self.namespace)
                && selector.matches(object.labels())
        });
        Ok(objects
            .iter()
            .filter_map(|object| whole(&**object, api_version, kind))
            .collect())
    }

    fn find_pods(&self, label_selector: &str) -> Result<Vec<PodView>, ReadError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pods) = found.get(label_selector) {
            return Ok(pods.to_vec());
        }
        let selector = Selector::parse(label_selector).map_err(ReadError::BadSelector)?;
        let pods: Vec<PodView> = self
            .pods()?
            .iter()
            .filter(|pod| selector.matches(pod.labels()))
            .map(|pod| PodView::from(&**pod))
            .collect();
        found.insert(label_selector.to_owned(), Arc::new(pods.clone()));
        Ok(pods)
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
