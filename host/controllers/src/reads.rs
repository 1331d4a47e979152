//! What a call of an action read. The action is called again only when the answer may be another one: when the target
//! or something that the call read has changed, or when the time has come that the action asked for.
//!
//! Everything is compared by uids and resource versions, so it costs much less than a call.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use operon_core::action::{ClusterView, JobState, ObjectReference, PodView, ReadError};
use serde_json::Value;

use crate::view::View;

/// How much a call may read for its reads to be remembered. One that reads more is called whenever it may be.
const MOST: usize = 16;

/// A question to a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Read {
    /// One object.
    Get(ObjectReference),
    /// The objects of a kind that a label selector matches.
    Find {
        api_version: String,
        kind: String,
        selector: String,
    },
    /// The state of the OperationJob with this uid.
    FindJob(String),
}

/// What a call depended on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    /// The target, as the action saw it.
    target: u64,
    /// What was read, each with the digest of the answer.
    reads: BTreeMap<Read, u64>,
}

impl Reads {
    /// Whether nothing that the call depended on has changed, according to a newer view.
    pub(crate) fn are_same(&self, target: u64, view: &View) -> bool {
        let mut reads = self.reads.iter();
        self.target == target && reads.all(|(read, digest)| view.digest(read) == *digest)
    }
}

/// A digest of anything.
pub(crate) fn digest(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A view that remembers what is read of it.
pub(crate) struct Recorder {
    view: Arc<View>,
    target: u64,
    reads: Mutex<BTreeMap<Read, u64>>,
}

impl Recorder {
    /// Remembers what is read of a view in a call about this target.
    pub(crate) fn new(view: Arc<View>, target: u64) -> Self {
        Self {
            view,
            target,
            reads: Mutex::default(),
        }
    }

    /// What the call depended on until now, unless that is too much.
    pub(crate) fn reads(&self) -> Option<Reads> {
        let reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        (reads.len() <= MOST).then(|| Reads {
            target: self.target,
            reads: reads.clone(),
        })
    }

    /// The digest comes before the answer, so it never belongs to a newer one.
    fn note(&self, read: Read) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.len() <= MOST && !reads.contains_key(&read) {
            let digest = self.view.digest(&read);
            reads.insert(read, digest);
        }
    }
}

impl ClusterView for Recorder {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        self.note(Read::Get(reference.clone()));
        self.view.get(reference)
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        self.note(Read::Find {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            selector: label_selector.to_owned(),
        });
        self.view.find(api_version, kind, label_selector)
    }

    fn find_pods(&self, label_selector: &str) -> Result<Arc<[PodView]>, ReadError> {
        self.note(Read::Find {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            selector: label_selector.to_owned(),
        });
        self.view.find_pods(label_selector)
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        self.note(Read::FindJob(uid.to_owned()));
        self.view.find_job(uid)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::{reflector::store::Writer, watcher::Event};
    use operon_core::selector::Selector;
    use serde_json::json;

    use super::*;
    use crate::view::Declared;

    fn pod(name: &str, app: &str, version: &str) -> Pod {
        let metadata = json!({
            "namespace": "ns", "name": name, "uid": name, "resourceVersion": version, "labels": {"app": app},
        });
        serde_json::from_value(json!({"metadata": metadata})).expect("a pod")
    }

    fn view(writer: &Writer<Pod>) -> Arc<View> {
        let pods = Some((writer.as_reader(), Selector::default()));
        let declared = Declared {
            pods,
            ..Declared::default()
        };
        Arc::new(View::new("ns", declared, Arc::default()))
    }

    #[test]
    fn a_call_depends_on_what_it_read_and_on_nothing_else() {
        // What changes, and whether the call that read pod `a` and the pods of app `x` depends on it.
        for (event, depends) in [
            (Event::Apply(pod("c", "y", "9")), false),
            (Event::Apply(pod("a", "y", "9")), true),
            (Event::Apply(pod("b", "x", "9")), true),
            (Event::Apply(pod("d", "x", "9")), true),
            (Event::Delete(pod("b", "x", "1")), true),
            (Event::Delete(pod("c", "y", "1")), false),
        ] {
            let mut writer = Writer::<Pod>::default();
            for (name, app) in [("a", "y"), ("b", "x"), ("c", "y")] {
                writer.apply_watcher_event(&Event::Apply(pod(name, app, "1")));
            }
            let recorder = Recorder::new(view(&writer), 7);
            let a = ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: "a".to_owned(),
            };
            assert!(recorder.get(&a).expect("pods").is_some());
            assert_eq!(recorder.find_pods("app=x").expect("pods").len(), 1);
            assert_eq!(recorder.find_job("job"), Ok(JobState::Absent));
            let reads = recorder.reads().expect("few reads");
            assert!(reads.are_same(7, &view(&writer)));
            assert!(!reads.are_same(8, &view(&writer)), "another target");
            writer.apply_watcher_event(&event);
            assert_eq!(reads.are_same(7, &view(&writer)), !depends, "{event:?}");
        }
    }

    #[test]
    fn a_call_that_reads_very_much_depends_on_everything() {
        let recorder = Recorder::new(view(&Writer::default()), 7);
        for number in 0..=MOST {
            assert!(recorder.reads().is_some());
            let selector = format!("app={number}");
            assert!(recorder.find_pods(&selector).is_ok());
        }
        assert_eq!(recorder.reads(), None);
    }
}
