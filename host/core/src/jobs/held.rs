//! Jobs that are held: suspended by the object that they belong to, by a queue such as Kueue or by a user,
//! or run by another controller. The time that a Job is held never counts as a failure.
//!
//! The annotation `operon.dev/suspended` remembers that Operon suspended a Job. A Job without it is
//! suspended by another controller or by a user, who also resumes it.

use std::{fmt, sync::Arc};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Resource, ResourceExt};
use operon_api::keys;
use serde_json::{Value, json};

use super::{blocked::is_live, finish, is_deleted, is_suspended};

/// The value of a Job's `spec.managedBy` that means the same as none.
const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

/// Whether an object's `spec.managedBy` gives it to another controller: then nothing of it is written.
pub fn is_foreign(managed_by: Option<&str>) -> bool {
    managed_by.is_some_and(|name| !["", keys::MANAGED_BY, JOB_CONTROLLER].contains(&name))
}

/// The queue of an object, which its Jobs get too.
pub fn queue<K: Resource>(object: &K) -> Option<&str> {
    let labels = object.meta().labels.as_ref()?;
    labels.get(keys::QUEUE_NAME).map(String::as_str)
}

/// The merge patch that suspends or resumes an unfinished Job, if what its object wants has changed since
/// Operon wrote `suspend` last. What another controller or a user wrote stays: a Job that a queue holds
/// is not resumed, and one that a queue resumed is not suspended again.
pub fn suspend_patch(job: &Job, wanted: bool) -> Option<Value> {
    if finish(job).is_some() || is_deleted(job) {
        return None;
    }
    let patch = |mark: Value| json!({"metadata": {"annotations": {keys::SUSPENDED: mark}}});
    match (is_marked(job), wanted) {
        (false, true) if !is_suspended(job) => {
            let mut patch = patch(json!("true"));
            patch["spec"] = json!({"suspend": true});
            Some(patch)
        }
        (true, false) => {
            let mut patch = patch(Value::Null);
            if is_suspended(job) {
                patch["spec"] = json!({"suspend": false});
            }
            Some(patch)
        }
        (false, false | true) | (true, true) => None,
    }
}

/// Who holds a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The object that it belongs to.
    Own,
    /// The queue of this name.
    Queue(String),
    /// The controller of this name runs it.
    Manager(String),
    /// These scheduling gates hold all of its pods.
    Gates(Vec<String>),
    /// Another controller or a user suspended it.
    Other,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "suspended by spec.suspend"),
            Self::Queue(name) => write!(f, "suspended by the queue {name:?}"),
            Self::Manager(name) => write!(f, "run by {name:?} (spec.managedBy)"),
            Self::Gates(names) => {
                write!(
                    f,
                    "held by scheduling gates of its pods: {}",
                    names.join(", ")
                )
            }
            Self::Other => write!(f, "suspended by another controller or by a user"),
        }
    }
}

/// Who holds an unfinished Job, if it is held. While it is, it is neither late nor stuck.
pub fn holder(job: &Job, pods: &[Arc<Pod>]) -> Option<Holder> {
    if finish(job).is_some() || is_deleted(job) {
        return None;
    }
    let spec = job.spec.as_ref();
    let manager = spec.and_then(|spec| spec.managed_by.as_ref());
    if let Some(manager) = manager.filter(|name| is_foreign(Some(name))) {
        return Some(Holder::Manager(manager.clone()));
    }
    if !is_suspended(job) {
        return gates(pods).map(Holder::Gates);
    }
    let queue = || job.labels().get(keys::QUEUE_NAME).cloned();
    Some(if is_marked(job) {
        Holder::Own
    } else {
        queue().map_or(Holder::Other, Holder::Queue)
    })
}

/// Whether Operon suspended a Job.
fn is_marked(job: &Job) -> bool {
    job.annotations()
        .get(keys::SUSPENDED)
        .is_some_and(|mark| mark == "true")
}

/// The scheduling gates that hold all pods of a Job, if they do.
fn gates(pods: &[Arc<Pod>]) -> Option<Vec<String>> {
    let live = pods.iter().filter(|pod| is_live(pod));
    let gates: Vec<Vec<String>> = live
        .map(|pod| {
            let gates = pod.spec.iter().flat_map(|spec| &spec.scheduling_gates);
            gates.flatten().map(|gate| gate.name.clone()).collect()
        })
        .collect();
    let are_all_held = !gates.is_empty() && gates.iter().all(|gates| !gates.is_empty());
    let mut names = gates.concat();
    names.sort_unstable();
    names.dedup();
    are_all_held.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(metadata: &Value, spec: &Value) -> Job {
        let mut job = json!({"metadata": metadata, "spec": {"template": {}}});
        crate::driver::memory::merge(&mut job["spec"], spec);
        serde_json::from_value(job).expect("a Job")
    }

    fn marked() -> Value {
        json!({"annotations": {keys::SUSPENDED: "true"}})
    }

    #[test]
    fn suspend_is_written_only_when_what_the_object_wants_changed() {
        let (suspended, runs) = (json!({"suspend": true}), json!({"suspend": false}));
        let mark = |mark: Value| json!({"annotations": {keys::SUSPENDED: mark}});
        let suspend = json!({"metadata": mark(json!("true")), "spec": {"suspend": true}});
        let resume = json!({"metadata": mark(Value::Null), "spec": {"suspend": false}});
        let unmark = json!({"metadata": mark(Value::Null)});
        for (metadata, spec, wanted, expected, why) in [
            (json!({}), &runs, false, None, "nobody wants anything"),
            (json!({}), &json!({}), false, None, "absent is not false"),
            (json!({}), &runs, true, Some(&suspend), "suspended now"),
            (marked(), &suspended, true, None, "is suspended"),
            (marked(), &suspended, false, Some(&resume), "resumed now"),
            (json!({}), &suspended, false, None, "a queue holds it"),
            (
                json!({}),
                &suspended,
                true,
                None,
                "a queue holds it already",
            ),
            (marked(), &runs, true, None, "a queue resumed it"),
            (marked(), &runs, false, Some(&unmark), "it runs already"),
        ] {
            let patch = suspend_patch(&job(&metadata, spec), wanted);
            assert_eq!(patch.as_ref(), expected, "{why}");
        }
        let mut done = job(&json!({}), &runs);
        let status = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        done.status = serde_json::from_value(status).ok();
        assert_eq!(suspend_patch(&done, true), None);
    }

    #[test]
    fn the_holder_of_a_job_is_named() {
        let queued = json!({"labels": {keys::QUEUE_NAME: "gpu"}});
        let suspended = json!({"suspend": true});
        for (metadata, spec, expected) in [
            (json!({}), json!({}), None),
            (marked(), json!({"suspend": false}), None),
            (
                marked(),
                suspended.clone(),
                Some("suspended by spec.suspend"),
            ),
            (
                queued.clone(),
                suspended.clone(),
                Some("suspended by the queue \"gpu\""),
            ),
            (queued, json!({}), None),
            (
                json!({}),
                suspended,
                Some("suspended by another controller or by a user"),
            ),
            (
                json!({}),
                json!({"managedBy": "kueue.x-k8s.io/multikueue"}),
                Some("run by \"kueue.x-k8s.io/multikueue\" (spec.managedBy)"),
            ),
            (json!({}), json!({"managedBy": JOB_CONTROLLER}), None),
        ] {
            let holder = holder(&job(&metadata, &spec), &[]);
            let said = holder.map(|holder| holder.to_string());
            assert_eq!(said.as_deref(), expected, "{metadata} {spec}");
        }
    }

    #[test]
    fn a_job_all_of_whose_pods_are_gated_is_held() {
        let pod = |gates: Value| {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [], "schedulingGates": gates}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        let held = || pod(json!([{"name": "kueue.x-k8s.io/admission"}]));
        let job = job(&json!({}), &json!({}));
        let gates = Holder::Gates(vec!["kueue.x-k8s.io/admission".to_owned()]);
        assert_eq!(holder(&job, &[held(), held()]), Some(gates));
        assert_eq!(holder(&job, &[held(), pod(json!([]))]), None);
    }

    #[test]
    fn only_another_controller_is_foreign() {
        for (name, expected) in [
            (None, false),
            (Some(""), false),
            (Some(keys::MANAGED_BY), false),
            (Some(JOB_CONTROLLER), false),
            (Some("kueue.x-k8s.io/multikueue"), true),
        ] {
            assert_eq!(is_foreign(name), expected, "{name:?}");
        }
    }
}
