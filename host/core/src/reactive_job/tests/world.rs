//! A cluster that tests observe: a ReactiveJob, its Jobs and their pods, ConfigMaps and a clock. A pass is
//! carried out in it as the controller does it, and may be cut off after any write.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{Resource, ResourceExt};
use operon_api::{
    ReactiveJob,
    conditions::find,
    embedded::JobTemplateSpec,
    keys,
    reactive_job::{ReactiveJobSpec, ReactiveJobStatus},
};
use serde_json::{Value, json};

use crate::{
    action::Failure,
    jobs::{self, JobEvent},
    reactive_job::{
        ConfigState, Hashes, Observed,
        conclude::{Asked, Conclusion, Made, Question, conclude, conclude_end, question},
        family::generation,
        job,
        plan::{End, Plan, Run, Start, plan},
    },
};

/// The second at which every world begins.
pub(super) const START: i64 = 1_700_000_000;

/// No change takes more passes.
const PASSES: usize = 12;

const FOREGROUND: &str = "foregroundDeletion";

#[derive(Clone)]
pub(super) struct World {
    pub(super) object: ReactiveJob,
    /// By name.
    pub(super) jobs: BTreeMap<String, Job>,
    /// By the uid of their Job.
    pub(super) pods: BTreeMap<String, Vec<Pod>>,
    pub(super) config: ConfigState,
    pub(super) now: i64,
    /// The uids of the other ReactiveJobs that there are.
    pub(super) others: Vec<String>,
    /// What the API server says to a Job that is made.
    pub(super) refusal: Option<Failure>,
    /// What the log, and the last warning Event, are when they are asked for.
    pub(super) log: Option<String>,
    pub(super) warning: Option<Failure>,
    pub(super) asked: Vec<Question>,
    pub(super) events: Vec<JobEvent>,
    /// How many Jobs were made, how many writes there were, and how many of them wrote the status.
    pub(super) made: usize,
    pub(super) writes: usize,
    pub(super) status_writes: usize,
    /// After how many more writes the process dies.
    pub(super) dies_after: Option<usize>,
    /// Whether caches give their objects in the other order.
    pub(super) reversed: bool,
    /// Whether nothing of ours holds the object any more, while it is deleted.
    pub(super) is_gone: bool,
}

impl World {
    /// An object that nobody has looked at yet, of the README's template.
    pub(super) fn new() -> Self {
        Self::named("test")
    }

    pub(super) fn named(name: &str) -> Self {
        let mut object = ReactiveJob::new(name, ReactiveJobSpec::default());
        object.metadata.namespace = Some("default".to_owned());
        object.metadata.uid = Some("object".to_owned());
        object.metadata.generation = Some(1);
        object.metadata.creation_timestamp = Some(time(START));
        object.spec.job_template = template(readme_template());
        Self {
            object,
            jobs: BTreeMap::new(),
            pods: BTreeMap::new(),
            config: ConfigState::Off,
            now: START,
            others: Vec::new(),
            refusal: None,
            log: None,
            warning: None,
            asked: Vec::new(),
            events: Vec::new(),
            made: 0,
            writes: 0,
            status_writes: 0,
            dies_after: None,
            reversed: false,
            is_gone: false,
        }
    }

    /// One whose first Job has succeeded.
    pub(super) fn ready() -> Self {
        let mut world = Self::new();
        world.settle();
        world.succeed(&world.newest());
        world.settle();
        world
    }

    /// One whose first Job has failed.
    pub(super) fn failed() -> Self {
        let mut world = Self::new();
        world.settle();
        world.fail(&world.newest());
        world.settle();
        world
    }

    // What a user does.

    /// Edits `spec.jobTemplate`.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let mut value = json!(self.object.spec.job_template);
        edit(&mut value);
        self.object.spec.job_template = template(value);
        self.bump();
    }

    /// Edits the annotation that the README's users edit.
    pub(super) fn edit_digest(&mut self, digest: &str) {
        self.edit(|template| template["metadata"]["annotations"]["digest"] = json!(digest));
    }

    /// Edits `spec`.
    pub(super) fn edit_spec(&mut self, edit: impl FnOnce(&mut ReactiveJobSpec)) {
        edit(&mut self.object.spec);
        self.bump();
    }

    fn bump(&mut self) {
        let generation = self.object.metadata.generation.unwrap_or_default();
        self.object.metadata.generation = Some(generation + 1);
    }

    pub(super) fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.object.annotations_mut();
        annotations.insert(key.to_owned(), value.to_owned());
    }

    /// `kubectl delete` of the object.
    pub(super) fn delete(&mut self) {
        self.object.metadata.deletion_timestamp = Some(time(self.now));
    }

    /// `kubectl delete job`, in the background unless `foreground`.
    pub(super) fn delete_job(&mut self, name: &str, foreground: bool) {
        let at = time(self.now);
        if let Some(job) = self.jobs.get_mut(name) {
            job.metadata.deletion_timestamp.get_or_insert(at);
            if foreground && !job.finalizers().iter().any(|f| f == FOREGROUND) {
                job.finalizers_mut().push(FOREGROUND.to_owned());
            }
        }
        self.collect_garbage();
    }

    /// A Job is deleted, and its finalizers are taken off.
    pub(super) fn force_away(&mut self, name: &str) {
        self.jobs.remove(name);
    }

    // What the cluster does.

    pub(super) fn job_mut(&mut self, name: &str) -> &mut Job {
        self.jobs.get_mut(name).expect("a Job of this name")
    }

    pub(super) fn job(&self, name: &str) -> &Job {
        self.jobs.get(name).expect("a Job of this name")
    }

    pub(super) fn succeed(&mut self, name: &str) {
        self.end_job(
            name,
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        );
    }

    pub(super) fn fail(&mut self, name: &str) {
        self.end_job(
            name,
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }

    pub(super) fn end_job(&mut self, name: &str, type_: &str, reason: &str, message: &str) {
        let condition = JobCondition {
            type_: type_.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(time(self.now)),
            ..JobCondition::default()
        };
        let status = self.job_mut(name).status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(condition);
    }

    /// A pod of a Job, from what its status is.
    pub(super) fn add_pod(&mut self, job: &str, pod: &str, status: Value) {
        let job = self.job(job);
        let uid = job.uid().expect("a uid");
        let mut pod = json!({
            "metadata": {
                "name": pod,
                "uid": format!("uid-{pod}"),
                "namespace": "default",
                "creationTimestamp": time(self.now),
                "ownerReferences": [job.controller_owner_ref(&())],
            },
        });
        pod["status"] = status;
        let pod = serde_json::from_value(pod).expect("a pod");
        self.pods.entry(uid).or_default().push(pod);
    }

    /// The pods of a Job end, and what waits for that goes on.
    pub(super) fn remove_pods(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.collect_garbage();
    }

    /// Time goes by, and Jobs are deleted whose `ttlSecondsAfterFinished` is over.
    pub(super) fn wait(&mut self, seconds: i64) {
        self.now += seconds;
        let now = self.now;
        let is_expired = |job: &&Job| {
            let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
            let end = jobs::finish(job).and_then(|finish| finish.time);
            ttl.zip(end)
                .is_some_and(|(ttl, end)| end.0.as_second() + i64::from(ttl) <= now)
        };
        let expired: Vec<_> = self
            .jobs
            .values()
            .filter(is_expired)
            .map(ResourceExt::name_any)
            .collect();
        for name in expired {
            self.delete_job(&name, true);
        }
    }

    /// Jobs that are deleted go when nothing holds them, in the foreground after their pods.
    fn collect_garbage(&mut self) {
        let pods = &self.pods;
        self.jobs.retain(|_, job| {
            if job.metadata.deletion_timestamp.is_none() {
                return true;
            }
            let uid = job.uid().unwrap_or_default();
            if pods.get(&uid).is_none_or(Vec::is_empty) {
                job.finalizers_mut().retain(|f| f != FOREGROUND);
            }
            !job.finalizers().is_empty()
        });
    }

    // What the controller does.

    fn observation(&self) -> Observation {
        let name = self.object.name_any();
        let is_mine = |job: &&Job| {
            let uid = job.labels().get(keys::CONTROLLER_UID);
            job.labels().get(keys::CONTROLLER_NAME) == Some(&name)
                && uid.is_some_and(|uid| !self.others.contains(uid))
        };
        let mut jobs: Vec<_> = self
            .jobs
            .values()
            .filter(is_mine)
            .cloned()
            .map(Arc::new)
            .collect();
        let mut pods: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
        let status = self.object.status.as_ref();
        let last = status.and_then(|s| Some(s.current_inputs.as_ref()?.job_uid.clone()));
        for uid in jobs.iter().filter_map(|job| job.uid()).chain(last) {
            let found = self.pods.get(&uid).into_iter().flatten();
            let mut found: Vec<_> = found.cloned().map(Arc::new).collect();
            if self.reversed {
                found.reverse();
            }
            pods.insert(uid, found);
        }
        if self.reversed {
            jobs.reverse();
        }
        Observation {
            object: self.object.clone(),
            jobs,
            pods,
            template: Hashes::of(&self.object),
            config: self.config.clone(),
            now: time(self.now).0,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.observation().observed())
    }

    /// What this pass does to an object that is not being deleted.
    pub(super) fn run(&self) -> Run {
        match self.plan() {
            Plan::Run(run) => *run,
            Plan::End(_) => unreachable!("the object is being deleted"),
        }
    }

    /// The Job that this pass makes.
    pub(super) fn start(&self) -> Start {
        self.run().start.expect("a Job is due")
    }

    /// One pass; what it concludes, unless the process dies on the way.
    pub(super) fn pass(&mut self) -> Option<Conclusion> {
        match self.plan() {
            Plan::End(end) => self.carry_out_end(&end),
            Plan::Run(run) => {
                self.hold()?;
                let made = self.carry_out(&run)?;
                let after = self.observation();
                let mut asked = Asked::default();
                if let Some(question) = question(&after.observed()) {
                    match &question {
                        Question::Log(_) => asked.log.clone_from(&self.log),
                        Question::Events(_) => asked.warning.clone_from(&self.warning),
                    }
                    self.asked.push(question);
                }
                let conclusion = conclude(&after.observed(), &run, &made, &asked);
                self.write_status(&conclusion)?;
                Some(conclusion)
            }
        }
    }

    /// Passes until one changes nothing; then it must be steady, whatever the clock says next.
    pub(super) fn settle(&mut self) -> &ReactiveJobStatus {
        for _ in 0..PASSES {
            let before = self.writes;
            self.pass();
            if self.writes == before || self.is_gone {
                self.assert_steady();
                return self.status();
            }
        }
        unreachable!("it never settles: {:#?}", self.object.status);
    }

    /// A pass changes nothing, neither now, nor in a second if it does not ask for one.
    pub(super) fn assert_steady(&self) {
        if self.is_gone {
            return;
        }
        for reversed in [false, true] {
            let mut again = self.clone();
            again.reversed = reversed;
            again.events.clear();
            let conclusion = again.pass().expect("nobody dies");
            assert_eq!(Some(&conclusion.status), self.object.status.as_ref());
            assert_eq!(again.writes, self.writes, "nothing is written");
            assert_eq!(conclusion.events, []);
            if conclusion.requeue_after.is_none() {
                again.now += 1_000_000;
                assert_eq!(
                    again.pass().expect("nobody dies").status,
                    conclusion.status,
                    "time alone changes nothing"
                );
            }
        }
    }

    /// The process dies after so many writes, however many passes they take; another one takes over.
    pub(super) fn die_after(&mut self, writes: usize) {
        self.dies_after = Some(writes);
        for _ in 0..PASSES {
            self.pass();
        }
        self.dies_after = None;
    }

    fn write(&mut self) -> Option<()> {
        if let Some(left) = &mut self.dies_after {
            *left = left.checked_sub(1)?;
        }
        self.writes += 1;
        Some(())
    }

    fn hold(&mut self) -> Option<()> {
        let finalizer = keys::REACTIVE_JOB_FINALIZER.to_owned();
        if !self.object.finalizers().contains(&finalizer) {
            self.write()?;
            self.object.finalizers_mut().push(finalizer);
        }
        Some(())
    }

    fn carry_out(&mut self, run: &Run) -> Option<Made> {
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
            self.write()?;
            self.adopt(job);
        }
        let made = match start {
            Some(start) => self.make(start)?,
            None => Made::Nothing,
        };
        if let Some((job, patch)) = adjust {
            self.write()?;
            let job = self.job_mut(&job.name_any());
            let mut value = json!(job);
            merge(&mut value, patch);
            *job = serde_json::from_value(value).expect("a Job");
        }
        self.release_all(release)?;
        self.delete_all(delete)?;
        Some(made)
    }

    fn adopt(&mut self, job: &Job) {
        let uid = self.object.uid().expect("a uid");
        let owner = job::owner(&self.object).expect("an owner");
        let generation = generation(&self.object, job).unwrap_or_default();
        let job = self.job_mut(&job.name_any());
        let marks = [
            (keys::ADOPTED, job.uid().expect("a uid")),
            (keys::CONTROLLER_GENERATION, generation.to_string()),
        ];
        for (key, value) in marks {
            job.annotations_mut().insert(key.to_owned(), value);
        }
        job.labels_mut()
            .insert(keys::CONTROLLER_UID.to_owned(), uid);
        job.metadata.owner_references = Some(vec![owner]);
    }

    fn make(&mut self, start: &Start) -> Option<Made> {
        for name in &start.names {
            let job = match self.create(name, &start.body)? {
                Ok(job) => job,
                Err(refusal) => return Some(Made::Refused(refusal)),
            };
            if job.labels().get(keys::CONTROLLER_UID) != self.object.metadata.uid.as_ref() {
                continue;
            }
            let mut inputs = start.inputs.clone();
            inputs.job_uid = job.uid().unwrap_or_default();
            return Some(Made::Job(inputs));
        }
        Some(Made::Refused(Failure::new("NamesTaken", "names are taken")))
    }

    /// Makes a Job as an API server does, or finds that there is one of this name.
    fn create(&mut self, name: &str, body: &Value) -> Option<Result<Job, Failure>> {
        if let Some(job) = self.jobs.get(name) {
            return Some(Ok(job.clone()));
        }
        if let Some(refusal) = &self.refusal {
            return Some(Err(refusal.clone()));
        }
        let Ok(mut job) = serde_json::from_value::<Job>(body.clone()) else {
            return Some(Err(Failure::new("BadRequest", "it is no Job")));
        };
        let pod = job.spec.as_ref().and_then(|s| s.template.spec.as_ref());
        if pod.is_none_or(|pod| pod.containers.is_empty()) {
            return Some(Err(Failure::new("Invalid", "no containers")));
        }
        self.write()?;
        self.made += 1;
        let uid = format!("job-{}", self.made);
        job.metadata.name = Some(name.to_owned());
        job.metadata.uid = Some(uid);
        job.metadata.creation_timestamp = Some(time(self.now));
        complete(&mut job);
        self.jobs.insert(name.to_owned(), job.clone());
        Some(Ok(job))
    }

    fn release_all(&mut self, jobs: &[Arc<Job>]) -> Option<()> {
        for job in jobs {
            self.write()?;
            if let Some(job) = self.jobs.get_mut(&job.name_any()) {
                job.finalizers_mut()
                    .retain(|f| f != keys::REACTIVE_JOB_FINALIZER);
            }
            self.collect_garbage();
        }
        Some(())
    }

    fn delete_all(&mut self, jobs: &[Arc<Job>]) -> Option<()> {
        for job in jobs {
            self.write()?;
            self.delete_job(&job.name_any(), true);
        }
        Some(())
    }

    fn carry_out_end(&mut self, end: &End) -> Option<Conclusion> {
        let before = self.observation();
        if let End::Delete {
            release,
            delete,
            left,
        } = end
        {
            self.release_all(release)?;
            self.delete_all(delete)?;
            if left.is_empty() {
                self.write()?;
                self.object
                    .finalizers_mut()
                    .retain(|f| f != keys::REACTIVE_JOB_FINALIZER);
                self.is_gone = true;
                return None;
            }
        }
        let conclusion = conclude_end(&before.observed(), end);
        self.write_status(&conclusion)?;
        Some(conclusion)
    }

    fn write_status(&mut self, conclusion: &Conclusion) -> Option<()> {
        if self.object.status.as_ref() != Some(&conclusion.status) {
            self.write()?;
            self.status_writes += 1;
            self.object.status = Some(conclusion.status.clone());
            self.events.extend(conclusion.events.clone());
        }
        Some(())
    }

    // What tests read.

    pub(super) fn status(&self) -> &ReactiveJobStatus {
        self.object.status.as_ref().expect("a status")
    }

    /// The name of the Job that the status names.
    pub(super) fn newest(&self) -> String {
        let status = self.status();
        status.current_job_name.clone().expect("a Job")
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.jobs.keys().map(String::as_str).collect()
    }

    /// What kstatus and people read: type, status, reason.
    pub(super) fn standing(&self) -> Vec<(&str, &str, &str)> {
        self.status()
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    pub(super) fn condition(&self, type_: &str) -> &Condition {
        find(&self.status().conditions, type_).expect("a condition of this type")
    }

    /// The reasons of the Events so far, which are forgotten.
    pub(super) fn events(&mut self) -> Vec<&'static str> {
        self.events.drain(..).map(|event| event.reason).collect()
    }
}

/// What the controller finds in its caches.
struct Observation {
    object: ReactiveJob,
    jobs: Vec<Arc<Job>>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    template: Hashes,
    config: ConfigState,
    now: Timestamp,
}

impl Observation {
    fn observed(&self) -> Observed<'_> {
        Observed {
            object: &self.object,
            jobs: &self.jobs,
            pods: &self.pods,
            template: &self.template,
            config: &self.config,
            now: self.now,
        }
    }
}

/// What an API server puts into the spec of a new Job.
pub(super) fn complete(job: &mut Job) {
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let spec = job.spec.get_or_insert_default();
    spec.parallelism.get_or_insert(1);
    spec.backoff_limit.get_or_insert(6);
    spec.suspend.get_or_insert(false);
    let labels = spec.template.metadata.get_or_insert_default();
    let labels = labels.labels.get_or_insert_default();
    labels.insert("batch.kubernetes.io/controller-uid".to_owned(), uid);
    labels.insert("job-name".to_owned(), name);
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch) {
        (Some(target), Value::Object(fields)) => {
            for (key, value) in fields {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, patch) => *target = patch.clone(),
    }
}

pub(super) fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).expect("a time"))
}

pub(super) fn template(value: Value) -> JobTemplateSpec {
    serde_json::from_value(value).expect("a template is an object")
}

/// The template of SAP's README.
pub(super) fn readme_template() -> Value {
    json!({
        "metadata": {"annotations": {"digest": "abc123"}},
        "spec": {
            "ttlSecondsAfterFinished": 120,
            "template": {"spec": {
                "containers": [{"name": "main", "image": "alpine", "command": ["sleep", "10"]}],
                "restartPolicy": "Never",
            }},
        },
    })
}

/// A pod that runs.
pub(super) fn running() -> Value {
    json!({"phase": "Running", "containerStatuses": [
        {"name": "main", "state": {"running": {}}},
    ]})
}
