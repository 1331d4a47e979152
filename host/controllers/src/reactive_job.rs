//! The ReactiveJob controller. Everything that is decided is decided in `operon_core::reactive_job`; this
//! file reads the caches, and knows which ReactiveJob a change concerns.

use std::{collections::BTreeSet, sync::Arc};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use operon_api::{ReactiveJob, keys};
use operon_core::reactive_job::{
    Driven, Hashes, Seen,
    config::{Reference, references},
    family::is_held,
};

use crate::{
    config::{Configs, Watches},
    driven::Controller,
    index::Index,
    jobs::{PodsOfJobs, job_of_pod},
    status::whole_seconds,
    store::{Cache, Store},
};

/// What ReactiveJobs are decided from.
pub struct ReactiveJobs {
    /// All ReactiveJobs.
    pub objects: Cache<ReactiveJob>,
    /// The Jobs of ReactiveJobs.
    pub jobs: Cache<Job>,
    /// All pods, and the Jobs that own them.
    pub pods: Cache<Pod>,
    /// See [`ReactiveJobs::pods`].
    pub pods_of_jobs: Arc<PodsOfJobs>,
    /// The object that a change concerns.
    pub triggers: Arc<ReactiveJobTriggers>,
    /// The ConfigMaps and Secrets.
    pub configs: Configs,
}

impl Controller for ReactiveJobs {
    type Object = ReactiveJob;
    type Kind = Driven;

    const NAME: &'static str = "reactivejob";
    const MANAGER: &'static str = keys::REACTIVE_JOB_MANAGER;

    fn look(&self, object: Arc<ReactiveJob>, _before: Option<Seen>) -> Seen {
        let jobs = self
            .triggers
            .jobs_of(&object, &self.jobs.store, &self.objects.store);
        let status = object.status.as_ref();
        let last = status.and_then(|s| Some(s.current_inputs.as_ref()?.job_uid.clone()));
        let uids: BTreeSet<_> = jobs
            .iter()
            .filter_map(|job| job.uid())
            .chain(last)
            .collect();
        Seen {
            pods: self.pods_of_jobs.of(uids, &self.pods.store),
            template: Hashes::of(&object),
            config: self.configs.state(&object),
            now: whole_seconds(Timestamp::now()),
            jobs,
            object,
        }
    }

    fn object(seen: &Seen) -> &Arc<ReactiveJob> {
        &seen.object
    }
}

/// Which ReactiveJob a change in the cluster concerns, and the Jobs of each.
pub struct ReactiveJobTriggers {
    queue: UnboundedSender<ObjectRef<ReactiveJob>>,
    /// Jobs that may have to be released because their ReactiveJob was deleted.
    orphan_queue: UnboundedSender<ObjectRef<Job>>,
    /// Jobs by the ReactiveJob that they name.
    jobs: Index<Job>,
    /// ReactiveJobs by their uid, and by the ConfigMaps and Secrets that they look at.
    objects: Index<ReactiveJob>,
    /// The watches of ConfigMaps and Secrets, which ReactiveJobs begin and end.
    watches: Arc<Watches>,
}

impl ReactiveJobTriggers {
    /// Wakes ReactiveJobs, and Jobs without one, by these queues.
    pub fn new(
        queue: UnboundedSender<ObjectRef<ReactiveJob>>,
        orphan_queue: UnboundedSender<ObjectRef<Job>>,
    ) -> Self {
        Self {
            queue,
            orphan_queue,
            jobs: Index::new(|job| {
                named(job)
                    .into_iter()
                    .map(|(ns, name)| path(&ns, &name))
                    .collect()
            }),
            objects: Index::new(|object| {
                let namespace = object.namespace().unwrap_or_default();
                let looks_at = references(object)
                    .into_iter()
                    .map(|reference| path(&namespace, &reference.to_string()));
                looks_at.chain(object.uid()).collect()
            }),
            watches: Arc::default(),
        }
    }

    /// The watches of ConfigMaps and Secrets.
    pub fn watches(&self) -> Arc<Watches> {
        Arc::clone(&self.watches)
    }

    /// The Jobs that name this object, but not those that name another by its uid.
    fn jobs_of(
        &self,
        object: &ReactiveJob,
        jobs: &Store<Job>,
        objects: &Store<ReactiveJob>,
    ) -> Vec<Arc<Job>> {
        let key = path(&object.namespace().unwrap_or_default(), &object.name_any());
        let is_anothers = |uid: &String| {
            Some(uid) != object.metadata.uid.as_ref() && !self.objects.get(uid, objects).is_empty()
        };
        let mut found = self.jobs.get(&key, jobs);
        found.retain(|job| {
            !job.labels()
                .get(keys::CONTROLLER_UID)
                .is_none_or(is_anothers)
        });
        found
    }

    /// A ReactiveJob changed.
    pub fn object_changed(
        &self,
        object: &ReactiveJob,
        objects: &Store<ReactiveJob>,
        jobs: &Store<Job>,
    ) {
        self.objects.changed(object, objects);
        let reference = ObjectRef::from_obj(object);
        let now = objects.get(&reference);
        self.watches
            .changed(now.as_deref().unwrap_or(object), now.is_some());
        if now.is_none() {
            let namespace = object.namespace().unwrap_or_default();
            for job in self.jobs.get(&path(&namespace, &object.name_any()), jobs) {
                self.wake_orphan(&job);
            }
        }
        self.wake(reference);
    }

    /// Whether the ReactiveJob that a Job was created for exists.
    pub fn has_object(&self, job: &Job, objects: &Store<ReactiveJob>) -> bool {
        let uid = job.labels().get(keys::CONTROLLER_UID);
        uid.is_some_and(|uid| !self.objects.get(uid, objects).is_empty())
    }

    /// A Job changed.
    pub fn job_changed(&self, job: &Job, jobs: &Store<Job>) {
        self.jobs.changed(job, jobs);
        self.wake_orphan(job);
        if let Some((namespace, name)) = named(job) {
            self.wake(ObjectRef::new(&name).within(&namespace));
        }
    }

    /// A pod changed.
    pub fn pod_changed(&self, pod: &Pod, jobs: &Store<Job>) {
        let job = job_of_pod(pod, jobs);
        if let Some((namespace, name)) = job.and_then(|job| named(&job)) {
            self.wake(ObjectRef::new(&name).within(&namespace));
        }
    }

    /// A ConfigMap or Secret changed.
    pub fn config_changed(
        &self,
        namespace: &str,
        reference: &Reference,
        objects: &Store<ReactiveJob>,
    ) {
        let key = path(namespace, &reference.to_string());
        for object in self.objects.get(&key, objects) {
            self.wake(ObjectRef::from_obj(&*object));
        }
    }

    /// ConfigMaps or Secrets have been listed for the first time.
    pub fn configs_listed(&self) {
        for object in self.watches.askers() {
            self.wake(object);
        }
    }

    fn wake_orphan(&self, job: &Job) {
        if is_held(job) && job.metadata.deletion_timestamp.is_some() {
            // A closed queue means that the process is going down.
            let _ = self.orphan_queue.unbounded_send(ObjectRef::from_obj(job));
        }
    }

    fn wake(&self, object: ObjectRef<ReactiveJob>) {
        // A closed queue means that the process is going down.
        let _ = self.queue.unbounded_send(object);
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// Namespace and name of the ReactiveJob that a Job names.
fn named(job: &Job) -> Option<(String, String)> {
    Some((
        job.namespace().unwrap_or_default(),
        job.labels().get(keys::CONTROLLER_NAME)?.clone(),
    ))
}
