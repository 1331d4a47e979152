//! Which OperationJobs exist, by namespace and uid. The watch of jobs keeps it, so a question costs the
//! same however many of them there are.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::OperationJob;

/// The jobs that exist.
#[derive(Default)]
pub struct ExistingJobs(Mutex<HashMap<String, Namespace>>);

#[derive(Default)]
struct Namespace {
    /// The uid of each job, by its name.
    by_name: HashMap<String, String>,
    /// Copied only if it changes while somebody reads it.
    uids: Arc<HashSet<String>>,
}

impl ExistingJobs {
    /// A job changed or is gone, and the store says so already. Whether another one has its name now, or
    /// none.
    pub fn changed(&self, job: &OperationJob, jobs: &Store<OperationJob>) -> bool {
        let uid = jobs
            .get(&ObjectRef::from_obj(job))
            .and_then(|latest| latest.uid());
        let mut namespaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = job.namespace().unwrap_or_default();
        let namespace = namespaces.entry(name.clone()).or_default();
        let old = match &uid {
            Some(uid) => namespace.by_name.insert(job.name_any(), uid.clone()),
            None => namespace.by_name.remove(&job.name_any()),
        };
        if old == uid {
            return false;
        }
        let uids = Arc::make_mut(&mut namespace.uids);
        if let Some(old) = old {
            uids.remove(&old);
        }
        uids.extend(uid);
        if uids.is_empty() {
            namespaces.remove(&name);
        }
        true
    }

    /// The uids of a namespace's jobs, as they are now.
    pub fn uids(&self, namespace: &str) -> Arc<HashSet<String>> {
        let namespaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = namespaces.get(namespace);
        namespace.map_or_else(Arc::default, |namespace| Arc::clone(&namespace.uids))
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store::Writer, watcher::Event};
    use serde_json::json;

    use super::*;

    fn job(namespace: &str, uid: &str) -> OperationJob {
        let job = json!({
            "metadata": {"namespace": namespace, "name": "job", "uid": uid,
                "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"action": "Replace", "targets": [{"name": "a"}]}
        });
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn a_job_exists_in_its_own_namespace_until_it_is_gone_or_another_has_its_name() {
        let (jobs, mut writer) = (ExistingJobs::default(), Writer::<OperationJob>::default());
        let mut hear = |event: Event<OperationJob>| {
            let (Event::Apply(job) | Event::Delete(job)) = &event else {
                unreachable!("no list");
            };
            writer.apply_watcher_event(&event);
            jobs.changed(job, &writer.as_reader())
        };
        let exist = |namespace: &str| {
            let mut uids: Vec<_> = jobs.uids(namespace).iter().cloned().collect();
            uids.sort_unstable();
            uids
        };
        assert!(hear(Event::Apply(job("ns", "u1"))));
        assert!(!hear(Event::Apply(job("ns", "u1"))), "it is the same");
        assert!(hear(Event::Apply(job("other", "u2"))));
        assert_eq!(
            (exist("ns"), exist("other")),
            (vec!["u1".to_owned()], vec!["u2".to_owned()])
        );
        assert!(hear(Event::Apply(job("ns", "u3"))));
        assert_eq!(exist("ns"), ["u3"]);
        assert!(hear(Event::Delete(job("ns", "u3"))));
        assert_eq!(exist("ns"), [""; 0]);
    }

    #[test]
    fn who_asked_before_a_change_goes_on_with_what_there_was() {
        let (jobs, mut writer) = (ExistingJobs::default(), Writer::<OperationJob>::default());
        writer.apply_watcher_event(&Event::Apply(job("ns", "u1")));
        jobs.changed(&job("ns", "u1"), &writer.as_reader());
        let before = jobs.uids("ns");
        writer.apply_watcher_event(&Event::Delete(job("ns", "u1")));
        jobs.changed(&job("ns", "u1"), &writer.as_reader());
        assert!(before.contains("u1") && jobs.uids("ns").is_empty());
    }
}
