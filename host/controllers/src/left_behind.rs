//! Pods that an OperationJob left behind: they have the mark of an action, and the job that it names does
//! not exist any more, because its finalizer was removed by force. The host undoes nothing there. It
//! reports such pods in a condition of the ActionPlugin and in a metric.
//!
//! The watches of jobs and pods keep this, so an event costs the same however many of them there are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{ActionPlugin, OperationJob};

use crate::{
    existing_jobs::{ExistingJobs, States},
    store::Store,
};

/// Which pods were left behind.
pub struct LeftBehind {
    jobs: Arc<ExistingJobs>,
    known: Mutex<Known>,
    queue: UnboundedSender<ObjectRef<ActionPlugin>>,
}

#[derive(Default)]
struct Known {
    /// By action.
    marks: BTreeMap<String, Mark>,
}

struct Mark {
    /// The label with the uid of the job.
    label: String,
    /// The ActionPlugin that serves the action.
    plugin: String,
    /// `<namespace>/<name>` of the pods with a job that does not exist.
    pods: Arc<Pods>,
}

/// `<namespace>/<name>` of pods, with the uid of the job that each one names.
pub type Pods = BTreeMap<String, String>;

impl LeftBehind {
    /// None is known; this queue gets the ActionPlugins whose pods change.
    pub fn new(jobs: Arc<ExistingJobs>, queue: UnboundedSender<ObjectRef<ActionPlugin>>) -> Self {
        Self {
            jobs,
            known: Mutex::default(),
            queue,
        }
    }

    /// The label by which an action marks pods, and the marked pods with a job that does not exist any
    /// more.
    pub fn pods(&self, action: &str) -> Option<(String, Arc<Pods>)> {
        let known = self.known();
        let mark = known.marks.get(action)?;
        Some((mark.label.clone(), Arc::clone(&mark.pods)))
    }

    /// A component serves an action: from now on its mark counts.
    pub fn action_loaded(
        &self,
        action: &str,
        plugin: &str,
        label: Option<&str>,
        pods: &Store<Pod>,
    ) {
        let mut known = self.known();
        let Some(label) = label else {
            known.marks.remove(action);
            return;
        };
        let mark = Mark {
            label: label.to_owned(),
            plugin: plugin.to_owned(),
            pods: Arc::default(),
        };
        known.marks.insert(action.to_owned(), mark);
        // Under the lock: a later version of a pod comes through `pod_changed`.
        for pod in pods.labelled(label) {
            let jobs = self.jobs.states(&pod.namespace().unwrap_or_default());
            known.look_at(&name_of(&pod), Some(&pod), &jobs);
        }
    }

    /// A pod changed or was deleted.
    pub fn pod_changed(&self, pod: &Pod, pods: &Store<Pod>) {
        let mut known = self.known();
        let latest = pods.get(&ObjectRef::from_obj(pod));
        let jobs = self.jobs.states(&pod.namespace().unwrap_or_default());
        let changed = known.look_at(&name_of(pod), latest.as_deref(), &jobs);
        drop(known);
        self.wake(changed);
    }

    /// A job changed or was deleted.
    pub fn job_changed(&self, job: &OperationJob, jobs: &Store<OperationJob>, pods: &Store<Pod>) {
        if !self.jobs.changed(job, jobs) {
            return;
        }
        let namespace = job.namespace().unwrap_or_default();
        let latest = jobs.get(&ObjectRef::from_obj(job));
        let mut known = self.known();
        let jobs = self.jobs.states(&namespace);
        let mut changed = Vec::new();
        let targets = latest.iter().flat_map(|job| job.targets());
        for target in job.targets().iter().chain(targets) {
            let pod = pods.get(&ObjectRef::new(&target.name).within(&namespace));
            let place = format!("{namespace}/{}", target.name);
            changed.extend(known.look_at(&place, pod.as_deref(), &jobs));
        }
        drop(known);
        self.wake(changed);
    }

    fn wake(&self, plugins: Vec<String>) {
        for plugin in plugins {
            // A closed queue means that the process is going down.
            let _ = self.queue.unbounded_send(ObjectRef::new(&plugin));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Notes whether a pod was left behind, if these jobs exist. Names the ActionPlugins for which that
    /// changes.
    fn look_at(&mut self, place: &str, pod: Option<&Pod>, jobs: &States) -> Vec<String> {
        let mut changed = Vec::new();
        for mark in self.marks.values_mut() {
            let job = pod.and_then(|pod| pod.labels().get(&mark.label));
            let job = job.filter(|job| !jobs.contains_key(*job));
            if mark.pods.get(place) == job {
                continue;
            }
            let pods = Arc::make_mut(&mut mark.pods);
            match job {
                Some(job) => pods.insert(place.to_owned(), job.clone()),
                None => pods.remove(place),
            };
            changed.push(mark.plugin.clone());
        }
        changed
    }
}

fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

#[cfg(test)]
mod tests {
    use crate::store::Writer;
    use futures::channel::mpsc::{UnboundedReceiver, unbounded};
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    struct World {
        left: LeftBehind,
        queue: UnboundedReceiver<ObjectRef<ActionPlugin>>,
        jobs: Writer<OperationJob>,
        pods: Writer<Pod>,
    }

    impl World {
        fn new() -> Self {
            let (sender, queue) = unbounded();
            Self {
                left: LeftBehind::new(Arc::default(), sender),
                queue,
                jobs: Writer::default(),
                pods: Writer::default(),
            }
        }

        fn load(&self) {
            let pods = self.pods.as_reader();
            self.left.action_loaded("Act", "act", Some("mark"), &pods);
        }

        fn pod(&mut self, name: &str, job: Option<&str>) {
            let pod = json!({"metadata": {"namespace": "ns", "name": name}});
            let mut pod: Pod = serde_json::from_value(pod).expect("a Pod");
            if let Some(job) = job {
                pod.labels_mut().insert("mark".to_owned(), job.to_owned());
            }
            self.pods.apply_watcher_event(&Event::Apply(pod.clone()));
            self.left.pod_changed(&pod, &self.pods.as_reader());
        }

        fn job(&mut self, uid: &str, exists: bool) {
            let job = json!({
                "metadata": {"namespace": "ns", "name": "job", "uid": uid},
                "spec": {"action": "Act", "targets": [{"name": "a"}, {"name": "b"}]}
            });
            let job: OperationJob = serde_json::from_value(job).expect("a job");
            let event = if exists { Event::Apply } else { Event::Delete };
            self.jobs.apply_watcher_event(&event(job.clone()));
            let (jobs, pods) = (self.jobs.as_reader(), self.pods.as_reader());
            self.left.job_changed(&job, &jobs, &pods);
        }

        /// The names of the pods that were left behind, and how often the ActionPlugin was woken.
        fn left(&mut self) -> (Vec<String>, usize) {
            let pods = self.left.pods("Act").map(|(_, pods)| pods);
            let names = pods.iter().flat_map(|pods| pods.keys().cloned());
            let names = names.collect();
            let mut woken = 0;
            while self.queue.try_recv().is_ok() {
                woken += 1;
            }
            (names, woken)
        }
    }

    #[test]
    fn a_pod_is_left_behind_when_its_job_vanishes_and_until_its_mark_goes() {
        let mut world = World::new();
        world.load();
        world.job("u1", true);
        world.pod("a", Some("u1"));
        world.pod("b", None);
        assert_eq!(world.left(), (vec![], 0));
        world.job("u1", false);
        assert_eq!(world.left(), (vec!["ns/a".to_owned()], 1));
        // Another job of the same name is another job, until it takes the pod over.
        world.job("u2", true);
        assert_eq!(world.left(), (vec!["ns/a".to_owned()], 0));
        world.pod("a", Some("u2"));
        assert_eq!(world.left(), (vec![], 1));
    }

    #[test]
    fn a_job_that_was_made_again_under_its_name_leaves_its_pods_behind() {
        let mut world = World::new();
        world.load();
        world.job("u1", true);
        world.pod("a", Some("u1"));
        world.job("u2", true);
        assert_eq!(world.left(), (vec!["ns/a".to_owned()], 1));
    }

    #[test]
    fn a_job_that_replaces_another_has_its_own_pods() {
        let mut world = World::new();
        world.load();
        world.job("u1", true);
        world.pod("c", Some("u2"));
        assert_eq!(world.left(), (vec!["ns/c".to_owned()], 1));
        let job = |uid: &str, target: &str| -> OperationJob {
            let job = json!({
                "metadata": {"namespace": "ns", "name": "job", "uid": uid},
                "spec": {"action": "Act", "targets": [{"name": target}]}
            });
            serde_json::from_value(job).expect("a job")
        };
        // The first one's end is known with the second one.
        world
            .jobs
            .apply_watcher_event(&Event::Apply(job("u2", "c")));
        let (jobs, pods) = (world.jobs.as_reader(), world.pods.as_reader());
        world.left.job_changed(&job("u1", "a"), &jobs, &pods);
        assert_eq!(world.left(), (vec![], 1));
    }

    #[test]
    fn what_was_left_behind_before_the_action_was_loaded_counts() {
        let mut world = World::new();
        world.pod("a", Some("u0"));
        assert_eq!(world.left(), (vec![], 0));
        world.load();
        assert_eq!(world.left(), (vec!["ns/a".to_owned()], 0));
        world.pod("a", None);
        assert_eq!(world.left(), (vec![], 1));
    }
}
