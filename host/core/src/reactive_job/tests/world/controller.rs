//! A pass over a world, carried out as the controller does it; it may be cut off after any write.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{ReactiveJob, keys, reactive_job::ReactiveJobStatus};
use serde_json::{Value, json};

use super::{PASSES, World, complete, merge, time};
use crate::{
    action::Failure,
    jobs::owned::owner,
    reactive_job::{
        ConfigState, Hashes, Observed,
        conclude::{Asked, Conclusion, Made, Question, conclude, conclude_end, question},
        family::generation,
        plan::{End, Plan, Run, Start, plan},
    },
};

impl World {
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

    pub(in crate::reactive_job::tests) fn plan(&self) -> Plan {
        plan(&self.observation().observed())
    }

    /// What this pass does to an object that is not being deleted.
    pub(in crate::reactive_job::tests) fn run(&self) -> Run {
        match self.plan() {
            Plan::Run(run) => *run,
            Plan::End(_) => unreachable!("the object is being deleted"),
        }
    }

    /// The Job that this pass makes.
    pub(in crate::reactive_job::tests) fn start(&self) -> Start {
        self.run().start.expect("a Job is due")
    }

    /// One pass; what it concludes, unless the process dies on the way.
    pub(in crate::reactive_job::tests) fn pass(&mut self) -> Option<Conclusion> {
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
    pub(in crate::reactive_job::tests) fn settle(&mut self) -> &ReactiveJobStatus {
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
    pub(in crate::reactive_job::tests) fn assert_steady(&self) {
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
    pub(in crate::reactive_job::tests) fn die_after(&mut self, writes: usize) {
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
        let owner = owner(&self.object).expect("an owner");
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
