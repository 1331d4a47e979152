//! Which OperationJobs exist, by namespace and uid, and their states. The watch of jobs keeps it, so a
//! question costs the same however many of them there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_api::OperationJob;
use operon_core::{action::JobState, operation_job::job_state};

use crate::store::Store;

/// The states of jobs, by uid.
pub type States = HashMap<String, JobState>;

/// The jobs that exist.
#[derive(Default)]
pub struct ExistingJobs(Mutex<HashMap<String, Namespace>>);

#[derive(Default)]
struct Namespace {
    /// The uid of each job, by its name.
    by_name: HashMap<String, String>,
    /// By uid. Copied only if it changes while a reader has it.
    states: Arc<States>,
}

impl ExistingJobs {
    /// A job changed or is gone, and the store says so already. Whether another one has its name now, or
    /// none.
    pub fn changed(&self, job: &OperationJob, jobs: &Store<OperationJob>) -> bool {
        let latest = jobs.get(&ObjectRef::from_obj(job));
        let latest = latest.and_then(|latest| Some((latest.uid()?, job_state(&latest))));
        let uid = latest.as_ref().map(|(uid, _)| uid.clone());
        let mut namespaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = job.namespace().unwrap_or_default();
        let namespace = namespaces.entry(name.clone()).or_default();
        let old = match &uid {
            Some(uid) => namespace.by_name.insert(job.name_any(), uid.clone()),
            None => namespace.by_name.remove(&job.name_any()),
        };
        let known = latest.as_ref().map(|(uid, _)| namespace.states.get(uid));
        let is_known = known.flatten().copied() == latest.as_ref().map(|(_, state)| *state);
        if old == uid && is_known {
            return false;
        }
        let states = Arc::make_mut(&mut namespace.states);
        if let Some(old) = &old {
            states.remove(old);
        }
        states.extend(latest);
        if states.is_empty() {
            namespaces.remove(&name);
        }
        old != uid
    }

    /// The states of a namespace's jobs, as they are now.
    pub fn states(&self, namespace: &str) -> Arc<States> {
        let namespaces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = namespaces.get(namespace);
        namespace.map_or_else(Arc::default, |namespace| Arc::clone(&namespace.states))
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Writer;
    use kube::runtime::watcher::Event;
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
            let mut uids: Vec<_> = jobs.states(namespace).keys().cloned().collect();
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
        let before = jobs.states("ns");
        writer.apply_watcher_event(&Event::Delete(job("ns", "u1")));
        jobs.changed(&job("ns", "u1"), &writer.as_reader());
        assert!(before.contains_key("u1") && jobs.states("ns").is_empty());
    }

    #[test]
    fn a_job_is_finished_when_nothing_of_its_targets_is_left_to_release() {
        let (jobs, mut writer) = (ExistingJobs::default(), Writer::<OperationJob>::default());
        let failed =
            json!({"name": "a", "progress": "Failed", "startTime": "2026-01-01T00:00:00Z"});
        let released = json!({"name": "a", "progress": "Failed", "startTime": "2026-01-01T00:00:00Z",
            "extraInfo": {"Released": "true"}});
        for (progress, detail, state) in [
            ("Processing", json!({"name": "a"}), JobState::Active),
            ("Failed", failed, JobState::Active),
            ("Failed", released, JobState::Finished),
        ] {
            let mut job = job("ns", "u1");
            job.metadata.deletion_timestamp = None;
            let status = json!({"progress": progress, "targetDetails": [detail]});
            job.status = serde_json::from_value(status).expect("a status");
            writer.apply_watcher_event(&Event::Apply(job.clone()));
            jobs.changed(&job, &writer.as_reader());
            assert_eq!(jobs.states("ns").get("u1"), Some(&state), "{progress}");
        }
    }
}
