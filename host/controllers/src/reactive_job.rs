//! The ReactiveJob controller. Everything that is decided is decided in `operon_core::reactive_job`;
//! this file observes, carries out the plan, and writes the status.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Event, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, LogParams},
    runtime::reflector::{ObjectRef, Store},
};
use operon_api::{ReactiveJob, keys, reactive_job::Inputs};
use operon_core::{
    action::{Failure, Severity},
    jobs::{self, failure::LogSource, owned::owner},
    reactive_job::{
        ConfigState, Hashes, Observed,
        conclude::{Asked, Conclusion, Made, Question, conclude, conclude_end, question},
        config::{Reference, references},
        family::{family, generation, is_held},
        job,
        plan::{End, Plan, Run, Start, plan},
    },
};
use serde_json::json;

use crate::{
    apply,
    config::Configs,
    error::{Class, Error},
    events::Events,
    index::Index,
    jobs::{Maker, PodsOfJobs, job_of_pod},
    report::Reporter,
    run::{Next, Reconciler},
    status::StatusWriter,
    store::Cache,
};

/// How much of a log is asked for: enough for the lines that are kept.
const LOG_LINES: i64 = 64;
const LOG_BYTES: i64 = 64 * 1024;

/// The controller's parts.
pub struct ReactiveJobs {
    /// Writes objects.
    pub client: Client,
    /// All ReactiveJobs.
    pub objects: Cache<ReactiveJob>,
    /// The Jobs of ReactiveJobs.
    pub jobs: Cache<Job>,
    /// All pods, and which are whose.
    pub pods: Cache<Pod>,
    /// See [`ReactiveJobs::pods`].
    pub pods_of_jobs: Arc<PodsOfJobs>,
    /// What a change concerns.
    pub relations: Arc<Relations>,
    /// The ConfigMaps and Secrets.
    pub configs: Configs,
    /// Sends Events.
    pub events: Events,
    /// Writes statuses.
    pub status: StatusWriter,
    /// The Jobs that were said to be nobody's, so that it is said once.
    pub told: Mutex<HashSet<String>>,
}

impl Reconciler for ReactiveJobs {
    type Object = ReactiveJob;
    const NAME: &'static str = "reactivejob";

    async fn reconcile(&self, object: Arc<ReactiveJob>) -> Result<Next, Error> {
        let api = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let before = self.observe(object); // (no client)
        match plan(&before.observed()) {
            Plan::End(end) => self.end(&api, &before, &end).await, // (client)
            Plan::Run(run) => {
                self.hold(&before.object).await?; // (client)
                let made = self.carry_out(&api, &before.object, &run).await?; // (client)
                let after = self.observe(Arc::clone(&before.object)); // (no client)
                self.tell_strangers(&after).await; // (client)
                let asked = self.ask(&after).await; // (client)
                let conclusion = conclude(&after.observed(), &run, &made, &asked); // (no client)
                let mut next = self.write_status(&after.object, &conclusion).await?; // (client)
                // What was refused for a quota may be granted later; what is invalid stays so.
                next.retry |= matches!(&made, Made::Refused(why) if why.reason == "Forbidden");
                Ok(next)
            }
        }
    }
}

/// What was found in the caches.
struct Observation {
    object: Arc<ReactiveJob>,
    jobs: Vec<Arc<Job>>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    template: Hashes,
    config: ConfigState,
    now: Timestamp,
}

impl Observation {
    fn observed(&self) -> Observed<'_> {
        let Self {
            object,
            jobs,
            pods,
            template,
            config,
            now,
        } = self;
        Observed {
            object,
            jobs,
            pods,
            template,
            config,
            now: *now,
        }
    }
}

impl ReactiveJobs {
    fn observe(&self, object: Arc<ReactiveJob>) -> Observation {
        let jobs = self
            .relations
            .jobs_of(&object, &self.jobs.store, &self.objects.store);
        let status = object.status.as_ref();
        let last = status.and_then(|s| Some(s.current_inputs.as_ref()?.job_uid.clone()));
        let uids: BTreeSet<_> = jobs
            .iter()
            .filter_map(|job| job.uid())
            .chain(last)
            .collect();
        let now = Timestamp::now();
        Observation {
            pods: self.pods_of_jobs.of(uids, &self.pods.store),
            template: Hashes::of(&object),
            config: self.configs.state(&object),
            // Times in a status are whole seconds, so that writing one and reading it back is no change.
            now: Timestamp::from_second(now.as_second()).unwrap_or(now),
            jobs,
            object,
        }
    }

    async fn hold(&self, object: &ReactiveJob) -> Result<(), Error> {
        let api = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let held = apply::set_finalizer(&api, object, keys::REACTIVE_JOB_FINALIZER, true).await?;
        if let Some(held) = held {
            self.objects.wrote(held);
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        api: &Api<Job>,
        object: &ReactiveJob,
        run: &Run,
    ) -> Result<Made, Error> {
        let Run {
            adopt,
            start,
            adjust,
            release,
            delete,
            waiting: _,
            inputs: _,
            pending: _,
            requeue_after: _,
        } = run;
        for job in adopt {
            self.adopt(api, object, job).await?;
        }
        let made = match start {
            Some(start) => self.make(api, start).await?,
            None => Made::Nothing,
        };
        if let Some((job, patch)) = adjust {
            match apply::patch(api, &**job, patch.clone(), false).await {
                Ok(adjusted) => self.jobs.wrote(adjusted),
                Err(error) if error.class() == Class::Terminal => {
                    return Ok(Made::Refused(Failure::new(error.reason(), error.chain())));
                }
                Err(error) => return Err(error),
            }
        }
        for job in release {
            self.release(api, job).await?;
        }
        for job in delete {
            apply::delete(api, job, false, DeleteParams::foreground()).await?;
        }
        Ok(made)
    }

    async fn make(&self, api: &Api<Job>, start: &Start) -> Result<Made, Error> {
        let maker = Maker {
            api: api.clone(),
            jobs: &self.jobs,
            manager: keys::REACTIVE_JOB_MANAGER,
        };
        let wanted = jobs::Start {
            subject: String::new(),
            names: start.names.clone(),
            body: start.body.clone(),
        };
        let claimant = |start: &jobs::Start, found: &Job| job::claim(&start.body, found);
        Ok(match maker.make(&wanted, &claimant).await? {
            jobs::Made::Refused(why) => Made::Refused(why),
            jobs::Made::Leaving => Made::Nothing,
            jobs::Made::Job(job) => Made::Job(Inputs {
                job_uid: job.uid().unwrap_or_default(),
                ..start.inputs.clone()
            }),
        })
    }

    /// Puts the marks of the object's own on a Job that has none. What another operator wrote stays, so
    /// that it finds its Jobs again.
    async fn adopt(
        &self,
        api: &Api<Job>,
        object: &ReactiveJob,
        job: &Arc<Job>,
    ) -> Result<(), Error> {
        let generation = generation(object, job).unwrap_or_default().to_string();
        let patch = json!({"metadata": {
            "labels": {keys::CONTROLLER_UID: object.uid()},
            "annotations": {keys::ADOPTED: job.uid(), keys::CONTROLLER_GENERATION: generation},
            "ownerReferences": [owner(object)],
        }});
        self.jobs
            .wrote(apply::patch(api, &**job, patch, true).await?);
        Ok(())
    }

    async fn release(&self, api: &Api<Job>, job: &Arc<Job>) -> Result<(), Error> {
        // It may have been patched in this pass.
        let latest = self.jobs.store.get(&ObjectRef::from_obj(&**job));
        let latest = latest.as_ref().unwrap_or(job);
        let released =
            apply::set_finalizer(api, &**latest, keys::REACTIVE_JOB_FINALIZER, false).await?;
        if let Some(job) = released.filter(|job| !is_gone(job)) {
            self.jobs.wrote(job);
        }
        Ok(())
    }

    /// While the object is being deleted: its Jobs first.
    async fn end(&self, api: &Api<Job>, before: &Observation, end: &End) -> Result<Next, Error> {
        if let End::Delete {
            release,
            delete,
            left,
        } = end
        {
            for job in release {
                self.release(api, job).await?;
            }
            for job in delete {
                apply::delete(api, job, false, DeleteParams::foreground()).await?;
            }
            if left.is_empty() {
                return self.let_go(&before.object).await;
            }
        }
        let conclusion = conclude_end(&before.observed(), end);
        self.write_status(&before.object, &conclusion).await
    }

    async fn let_go(&self, object: &ReactiveJob) -> Result<Next, Error> {
        let api = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        apply::set_finalizer(&api, object, keys::REACTIVE_JOB_FINALIZER, false).await?;
        Ok(Next::default())
    }

    /// Asks for what caches do not hold. What can't be had is left out: it only explains.
    async fn ask(&self, after: &Observation) -> Asked {
        let namespace = after.object.namespace().unwrap_or_default();
        let mut asked = Asked::default();
        let said = match question(&after.observed()) {
            None => Ok(()),
            Some(Question::Log(source)) => self
                .log(&namespace, &source)
                .await
                .map(|log| asked.log = Some(log)),
            Some(Question::Events(uid)) => self
                .warning(&namespace, &uid)
                .await
                .map(|warning| asked.warning = warning),
        };
        if let Err(error) = said {
            tracing::warn!(
                namespace,
                name = after.object.name_any(),
                error = %error,
                "what explains the state of a Job can't be read"
            );
        }
        asked
    }

    async fn log(&self, namespace: &str, source: &LogSource) -> Result<String, kube::Error> {
        let LogSource {
            pod,
            container,
            previous,
        } = source;
        let params = LogParams {
            container: Some(container.clone()),
            previous: *previous,
            tail_lines: Some(LOG_LINES),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        pods.logs(pod, &params).await
    }

    /// The last warning about an object.
    async fn warning(&self, namespace: &str, uid: &str) -> Result<Option<Failure>, kube::Error> {
        let fields = format!("involvedObject.uid={uid},type=Warning");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let mut found = events
            .list(&ListParams::default().fields(&fields))
            .await?
            .items;
        found.sort_by_key(|event| {
            let last = event.last_timestamp.as_ref().map(|time| time.0);
            last.or(event.event_time.as_ref().map(|time| time.0))
        });
        Ok(found.pop().map(|event| {
            let reason = event.reason.unwrap_or_default();
            Failure::new(reason, event.message.unwrap_or_default())
        }))
    }

    /// Says once of each Job that looks like the object's own and is not.
    async fn tell_strangers(&self, after: &Observation) {
        for job in family(&after.object, &after.jobs).strangers {
            let is_new = {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                told.insert(job.uid().unwrap_or_default())
            };
            if is_new {
                let message = format!(
                    "Job {:?} has the labels of this ReactiveJob, but was not made by its controller: it is left alone",
                    job.name_any()
                );
                self.events
                    .send(
                        &*after.object,
                        Severity::Warning,
                        "JobIgnored",
                        "Observe",
                        &message,
                    )
                    .await;
            }
        }
    }

    async fn write_status(
        &self,
        object: &ReactiveJob,
        conclusion: &Conclusion,
    ) -> Result<Next, Error> {
        let Conclusion {
            status,
            events,
            requeue_after,
        } = conclusion;
        let reporter = Reporter {
            client: &self.client,
            manager: keys::REACTIVE_JOB_MANAGER,
            status: &self.status,
            cache: &self.objects,
            events: &self.events,
        };
        reporter
            .report(
                object,
                object.status.as_ref(),
                status,
                events,
                *requeue_after,
            )
            .await
    }
}

/// Whether an object that was patched went with it: its last finalizer is off.
fn is_gone(job: &Job) -> bool {
    job.metadata.deletion_timestamp.is_some() && job.finalizers().is_empty()
}

/// Which ReactiveJob a change in the cluster concerns, and which Jobs are whose.
pub struct Relations {
    queue: UnboundedSender<ObjectRef<ReactiveJob>>,
    /// Jobs that may have to be let go because their ReactiveJob is gone.
    orphan_queue: UnboundedSender<ObjectRef<Job>>,
    /// Jobs by the ReactiveJob that they name.
    jobs: Index<Job>,
    /// ReactiveJobs by their uid, and by the ConfigMaps and Secrets that they look at.
    objects: Index<ReactiveJob>,
}

impl Relations {
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
        }
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
        if objects.get(&reference).is_none() {
            let namespace = object.namespace().unwrap_or_default();
            for job in self.jobs.get(&path(&namespace, &object.name_any()), jobs) {
                self.wake_orphan(&job);
            }
        }
        self.wake(reference);
    }

    /// Whether the ReactiveJob is there that a Job was made for.
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
