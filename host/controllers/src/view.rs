//! An action's view of the cluster in one reconcile: the job's namespace, as the stores had it at the first
//! read. All targets have the same view, so that targets that share an object agree on it.

mod cost;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt,
    core::{ApiResource, DynamicObject},
    runtime::reflector::ObjectRef,
};
use operon_core::{
    action::{ClusterView, JobState, ObjectReference, PodLimit, PodView, ReadError},
    selector::Selector,
};
use serde_json::Value;

use crate::{
    digests::{Digests, digest},
    existing_jobs::{ExistingJobs, States},
    reads::{Read, Recorder},
    store::Store,
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

/// How many digests of answers a view keeps.
const DIGESTS: usize = 4_096;

/// Pods by the values that they have of one label.
type ByValue = HashMap<String, Vec<Arc<Pod>>>;

/// The view of one reconcile.
pub struct View {
    namespace: String,
    declared: Declared,
    jobs: Arc<ExistingJobs>,
    /// The states of the namespace's jobs.
    job_states: OnceLock<Arc<States>>,
    /// The namespace's pods, by name.
    pods: OnceLock<BTreeMap<String, Arc<Pod>>>,
    /// The same by the requested labels: an action reads this way for every target.
    by_label: Mutex<HashMap<String, ByValue>>,
    found: Mutex<HashMap<String, Arc<[PodView]>>>,
    /// The digests of answers: targets that share an object read the same.
    digests: Mutex<HashMap<Read, u64>>,
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
            by_label: Mutex::default(),
            found: Mutex::default(),
            digests: Mutex::default(),
        }
    }

    /// A digest of the answer to a question, by value.
    pub(crate) fn digest(&self, read: &Read) -> u64 {
        let known = |digests: &HashMap<Read, u64>| digests.get(read).copied();
        let lock = || self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(digest) = known(&lock()) {
            return digest;
        }
        let digest = self.computed_digest(read);
        let mut digests = lock();
        if digests.len() < DIGESTS {
            digests.insert(read.clone(), digest);
        }
        digest
    }

    /// How many pods more may match the selector of a limit; none if the action may not read pods.
    pub(crate) fn room(&self, limit: &PodLimit) -> Option<usize> {
        let selector = Selector::parse(&limit.label_selector).ok()?;
        let pods = self.selected_pods(&selector).ok()?;
        let counts = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
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
                let pod = pods.and_then(|pods| pods.get(&reference.name));
                digest(pod.map(|pod| digests.whole(&**pod)))
            }
            Read::Get(reference) => {
                let object = self.object(reference).ok().flatten();
                digest(object.map(|object| digests.whole(&*object)))
            }
            Read::FindPods(selector) => {
                let pods = self.pods_matching(selector);
                digest_of_all(pods.iter().map(|pod| digests.typed(pod)))
            }
            Read::Find {
                api_version,
                kind,
                selector,
            } if is_pod(api_version, kind) => {
                let pods = self.pods_matching(selector);
                digest_of_all(pods.iter().map(|pod| digests.whole(&**pod)))
            }
            Read::Find {
                api_version,
                kind,
                selector,
            } => {
                let selector = Selector::parse(selector).ok();
                let objects = selector.map(|selector| self.objects(api_version, kind, &selector));
                let objects = objects.and_then(Result::ok).unwrap_or_default();
                digest_of_all(objects.iter().map(|object| digests.whole(&**object)))
            }
        }
    }

    /// The pods that a selector matches; none if it can't be read, or pods may not be.
    fn pods_matching(&self, selector: &str) -> Vec<Arc<Pod>> {
        let selector = Selector::parse(selector).ok();
        let pods = selector.map(|selector| self.selected_pods(&selector));
        pods.and_then(Result::ok).unwrap_or_default()
    }

    fn pods(&self) -> Result<&BTreeMap<String, Arc<Pod>>, ReadError> {
        let declared = self.declared.pods.as_ref();
        let (store, selector) =
            declared.ok_or_else(|| ReadError::NotDeclared("v1/Pod".to_owned()))?;
        Ok(self.pods.get_or_init(|| {
            let pods = store.within(Some(&self.namespace)).into_iter();
            let pods = pods.filter(|pod| selector.matches(pod.labels()));
            pods.map(|pod| (pod.name_any(), pod)).collect()
        }))
    }

    fn selected_pods(&self, selector: &Selector) -> Result<Vec<Arc<Pod>>, ReadError> {
        let pods = self.pods()?;
        let selected = |pod: &&Arc<Pod>| selector.matches(pod.labels());
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
                        .entry(value.clone())
                        .or_default()
                        .push(Arc::clone(pod));
                }
            }
            by_value
        });
        let candidates = by_value.get(value).into_iter().flatten();
        Ok(candidates.filter(selected).cloned().collect())
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

    /// An object that is no pod.
    fn object(&self, reference: &ObjectReference) -> Result<Option<Arc<DynamicObject>>, ReadError> {
        let kind = self.others(&reference.api_version, &reference.kind)?;
        let mut named = ObjectRef::new_with(&reference.name, kind.resource.clone());
        if !kind.is_cluster_scoped {
            named = named.within(&self.namespace);
        }
        Ok(kind.store.get(&named))
    }

    /// Objects that are no pods.
    fn objects(
        &self,
        api_version: &str,
        kind: &str,
        selector: &Selector,
    ) -> Result<Vec<Arc<DynamicObject>>, ReadError> {
        let kind = self.others(api_version, kind)?;
        let namespace = (!kind.is_cluster_scoped).then_some(self.namespace.as_str());
        let objects = kind.store.within(namespace).into_iter();
        let selected = objects.filter(|object| selector.matches(object.labels()));
        Ok(selected.collect())
    }
}

/// A digest that does not depend on the order.
fn digest_of_all(stamps: impl Iterator<Item = u64>) -> u64 {
    stamps.fold(1, u64::wrapping_add)
}

impl ClusterView for View {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        if is_pod(&reference.api_version, &reference.kind) {
            let pod = self.pods()?.get(&reference.name);
            return Ok(pod.and_then(|pod| whole(&**pod, "v1", "Pod")));
        }
        let object = self.object(reference)?;
        Ok(object.and_then(|object| whole(&*object, &reference.api_version, &reference.kind)))
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        let selector = Selector::parse(label_selector).map_err(ReadError::BadSelector)?;
        if is_pod(api_version, kind) {
            let pods = self.selected_pods(&selector)?.into_iter();
            return Ok(Box::new(pods.filter_map(|pod| whole(&*pod, "v1", "Pod"))));
        }
        let objects = self.objects(api_version, kind, &selector)?;
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        let objects = objects.into_iter();
        Ok(Box::new(objects.filter_map(move |object| {
            whole(&*object, &api_version, &kind)
        })))
    }

    fn find_pods(&self, label_selector: &str) -> Result<Arc<[PodView]>, ReadError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pods) = found.get(label_selector) {
            return Ok(Arc::clone(pods));
        }
        let selector = Selector::parse(label_selector).map_err(ReadError::BadSelector)?;
        let pods = self.selected_pods(&selector)?;
        let pods: Arc<[PodView]> = pods.iter().map(|pod| PodView::from(&**pod)).collect();
        if found.len() < KEPT {
            found.insert(label_selector.to_owned(), Arc::clone(&pods));
        }
        Ok(pods)
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

    fn find_pods(&self, label_selector: &str) -> Result<Arc<[PodView]>, ReadError> {
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
mod tests {
    use super::*;
    use crate::reads::Seen;
    use crate::store::Writer;
    use kube::runtime::watcher::Event;
    use operon_api::OperationJob;
    use serde_json::json;

    #[test]
    fn pods_are_found_by_any_selector_in_the_namespace_alone() {
        let mut writer = Writer::<Pod>::default();
        for (namespace, name, labels) in [
            ("ns", "a", json!({"app": "x", "tier": "1"})),
            ("ns", "b", json!({"app": "x"})),
            ("ns", "c", json!({"app": "y", "tier": "1"})),
            ("other", "d", json!({"app": "x"})),
        ] {
            let metadata = json!({"namespace": namespace, "name": name, "labels": labels});
            let pod = serde_json::from_value(json!({"metadata": metadata})).expect("a pod");
            writer.apply_watcher_event(&Event::Apply(pod));
        }
        let pods = Some((writer.as_reader(), Selector::default()));
        let declared = Declared {
            pods,
            ..Declared::default()
        };
        let view = View::new("ns", declared, Arc::default());
        for (selector, expected) in [
            ("", vec!["a", "b", "c"]),
            ("app=x", vec!["a", "b"]),
            ("app=x,tier=1", vec!["a"]),
            ("app in (x,y),!tier", vec!["b"]),
            ("app=z", vec![]),
            ("nobody=has", vec![]),
        ] {
            // Read twice: the second answer comes from the result of the first.
            for _ in 0..2 {
                let found = view.find_pods(selector).expect(selector);
                let names: Vec<_> = found.iter().map(|pod| pod.name.as_str()).collect();
                assert_eq!(names, expected, "{selector}");
            }
            let whole = view.find("v1", "Pod", selector).expect(selector);
            assert_eq!(whole.count(), expected.len(), "{selector}");
        }
    }

    fn recorder(declared: Declared) -> Arc<Recorder> {
        let view = Arc::new(View::new("ns", declared, Arc::default()));
        Arc::new(Recorder::new(view, Seen::default()))
    }

    #[test]
    fn the_own_pod_is_read_though_the_declared_selector_excludes_it() {
        let mut writer = Writer::<Pod>::default();
        for name in ["own", "other"] {
            let metadata = json!({"namespace": "ns", "name": name, "uid": name});
            let pod = serde_json::from_value(json!({"metadata": metadata})).expect("a pod");
            writer.apply_watcher_event(&Event::Apply(pod));
        }
        let selector = Selector::parse("app=x").expect("a selector");
        let declared = Declared {
            pods: Some((writer.as_reader(), selector)),
            ..Declared::default()
        };
        let view = ViewOfTarget {
            view: recorder(declared),
            name: "own".to_owned(),
            pod: writer.as_reader().get(&ObjectRef::new("own").within("ns")),
        };
        for (name, uid) in [("own", Some("own")), ("other", None)] {
            let reference = ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: name.to_owned(),
            };
            let read = view.get(&reference).expect("pods were declared");
            let found = read.as_ref().map(|pod| pod["metadata"]["uid"].as_str());
            assert_eq!(found.flatten(), uid, "{name}");
        }
    }

    #[test]
    fn an_object_is_read_by_its_name_in_the_namespace_alone() {
        let resource = ApiResource::erase::<k8s_openapi::api::apps::v1::ReplicaSet>(&());
        let mut writer = Writer::<DynamicObject>::default();
        for (namespace, name) in [("ns", "a"), ("other", "b")] {
            let object = json!({"metadata": {"namespace": namespace, "name": name}});
            let object = serde_json::from_value(object).expect("an object");
            writer.apply_watcher_event(&Event::Apply(object));
        }
        let key = ("apps/v1".to_owned(), "ReplicaSet".to_owned());
        let kind = DeclaredKind {
            resource,
            store: writer.as_reader(),
            is_cluster_scoped: false,
        };
        let declared = Declared {
            others: HashMap::from([(key, kind)]),
            ..Declared::default()
        };
        let view = View::new("ns", declared, Arc::default());
        for (name, is_there) in [("a", true), ("b", false), ("c", false)] {
            let found = view.get(&ObjectReference {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                name: name.to_owned(),
            });
            assert_eq!(found.map(|found| found.is_some()), Ok(is_there), "{name}");
        }
    }

    #[test]
    fn all_targets_of_a_pass_agree_whether_a_job_exists() {
        let mut writer = Writer::<OperationJob>::default();
        let existing = Arc::new(ExistingJobs::default());
        let job = json!({
            "metadata": {"namespace": "ns", "name": "job", "uid": "u1"},
            "spec": {"action": "Replace", "targets": [{"name": "a"}]}
        });
        let job: OperationJob = serde_json::from_value(job).expect("a job");
        writer.apply_watcher_event(&Event::Apply(job.clone()));
        existing.changed(&job, &writer.as_reader());
        let view = View::new("ns", Declared::default(), Arc::clone(&existing));
        let states = ["u1", "u2"].map(|uid| view.find_job(uid));
        assert_eq!(states, [Ok(JobState::Active), Ok(JobState::Absent)]);
        writer.apply_watcher_event(&Event::Delete(job.clone()));
        existing.changed(&job, &writer.as_reader());
        assert_eq!(
            view.find_job("u1"),
            Ok(JobState::Active),
            "as the first target saw it"
        );
        let next = View::new("ns", Declared::default(), existing);
        assert_eq!(next.find_job("u1"), Ok(JobState::Absent));
    }

    fn reference(api_version: &str, kind: &str, name: &str) -> ObjectReference {
        ObjectReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn the_pod_of_the_target_and_no_other_is_read_though_pods_were_not_declared() {
        let pod = json!({"metadata": {"namespace": "ns", "name": "a"}, "spec": {"nodeName": "n"}});
        let view = ViewOfTarget {
            view: recorder(Declared::default()),
            name: "a".to_owned(),
            pod: Some(Arc::new(serde_json::from_value(pod).expect("a pod"))),
        };
        let own = view.get(&reference("v1", "Pod", "a")).expect("it is read");
        assert_eq!(own.expect("it exists")["spec"]["nodeName"], "n");
        let other = view.get(&reference("v1", "Pod", "b"));
        assert!(matches!(other, Err(ReadError::NotDeclared(_))), "{other:?}");
    }

    #[test]
    fn an_optional_kind_that_is_not_served_is_told_apart_from_one_that_was_not_declared() {
        let declared = Declared {
            absent: [("x/v1".to_owned(), "Thing".to_owned())].into(),
            ..Declared::default()
        };
        let view = View::new("ns", declared, Arc::default());
        let absent = view.get(&reference("x/v1", "Thing", "a"));
        assert_eq!(absent, Err(ReadError::NotServed("x/v1/Thing".to_owned())));
        let unknown = view.get(&reference("x/v1", "Other", "a"));
        assert_eq!(
            unknown,
            Err(ReadError::NotDeclared("x/v1/Other".to_owned()))
        );
    }

    #[test]
    fn a_node_is_read_in_every_namespace() {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
        let mut writer = Writer::<DynamicObject>::default();
        let node = serde_json::from_value(json!({"metadata": {"name": "n"}})).expect("a node");
        writer.apply_watcher_event(&Event::Apply(node));
        let kind = DeclaredKind {
            resource,
            store: writer.as_reader(),
            is_cluster_scoped: true,
        };
        let declared = Declared {
            others: [(("v1".to_owned(), "Node".to_owned()), kind)].into(),
            ..Declared::default()
        };
        let view = View::new("ns", declared, Arc::default());
        let node = view.get(&reference("v1", "Node", "n"));
        assert!(node.expect("nodes were declared").is_some());
        assert_eq!(view.find("v1", "Node", "").expect("a selector").count(), 1);
    }

    #[test]
    fn a_view_keeps_a_bounded_number_of_selectors() {
        let mut writer = Writer::<Pod>::default();
        let labels: BTreeMap<_, _> = (0..KEPT * 2).map(|n| (format!("l{n}"), "x")).collect();
        let pod = json!({"metadata": {"namespace": "ns", "name": "a", "labels": labels}});
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(pod).expect("a pod")));
        let pods = Some((writer.as_reader(), Selector::default()));
        let declared = Declared {
            pods,
            ..Declared::default()
        };
        let view = View::new("ns", declared, Arc::default());
        for number in 0..KEPT * 2 {
            let selector = format!("l{number}=x");
            let found = view.find_pods(&selector).expect(&selector);
            assert_eq!(found.len(), 1, "{selector}");
        }
        assert_eq!(view.found.lock().expect("no panic").len(), KEPT);
        assert_eq!(view.by_label.lock().expect("no panic").len(), KEPT);
    }
}
