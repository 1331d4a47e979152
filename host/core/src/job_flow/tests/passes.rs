//! A pass in a world, carried out as the controller does it; it may be cut off after any write.

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{JobFlow, JobTemplate, job_flow::JobFlowStatus, keys};
use serde_json::{Value, json};

use super::world::{FOREGROUND, World, merge, time};
use crate::{
    action::Failure,
    job_flow::{
        Observed, claim,
        conclude::{Conclusion, conclude},
        graph::{FlowGraph, GraphError},
        plan::{Plan, meanwhile, plan},
    },
    jobs::{self, AllMade, Claim, Made, Start},
};

impl World {
    fn observation(&self) -> Observation {
        let is_mine =
            |job: &&Job| job.labels().get(keys::OWNER_UID) == self.flow.metadata.uid.as_ref();
        let jobs = self.jobs.values().filter(is_mine);
        let mut jobs: Vec<_> = jobs.cloned().map(Arc::new).collect();
        let mut pods: HashMap<String, Vec<Arc<Pod>>> = HashMap::new();
        for (uid, found) in &self.pods {
            let mut found: Vec<_> = found.iter().cloned().map(Arc::new).collect();
            if self.reversed {
                found.reverse();
            }
            pods.insert(uid.clone(), found);
        }
        if self.reversed {
            jobs.reverse();
        }
        let templates = self.templates.iter();
        Observation {
            flow: self.flow.clone(),
            graph: FlowGraph::new(&self.flow.spec),
            jobs,
            templates: templates
                .map(|(name, template)| (name.clone(), Arc::new(template.clone())))
                .collect(),
            pods,
            now: time(self.now).0,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.observation().observed())
    }

    /// The Jobs that this pass makes, by their steps.
    pub(super) fn starts(&self) -> Vec<String> {
        self.plan()
            .start
            .into_iter()
            .map(|start| start.subject)
            .collect()
    }

    /// The Job that this pass makes for a step.
    pub(super) fn start(&self, step: &str) -> Start {
        let starts = self.plan().start;
        let start = starts.into_iter().find(|start| start.subject == step);
        start.expect("a Job of this step is due")
    }

    /// One pass; what it concludes, unless the process dies on the way.
    pub(super) fn pass(&mut self) -> Option<Conclusion> {
        let plan = self.plan();
        if plan.expire {
            self.write()?;
            self.is_gone = true;
            self.jobs.clear();
            return None;
        }
        let made = self.carry_out(&plan)?;
        self.now += self.takes;
        let after = self.observation();
        let conclusion = conclude(&after.observed(), &plan, &made);
        let meanwhile_happens = self.meanwhile.take();
        if let Some(happens) = meanwhile_happens.filter(|_| !jobs::is_refused(&made)) {
            happens(self);
            let now = self.observation();
            for start in meanwhile(&now.observed(), &conclusion.status) {
                self.make(&start)?;
            }
        }
        if self.flow.status.as_ref() != Some(&conclusion.status) {
            self.write()?;
            self.status_writes += 1;
            // What is written is read back.
            let text = json!(conclusion.status).to_string();
            self.flow.status = serde_json::from_str(&text).expect("a status");
            assert_eq!(self.flow.status.as_ref(), Some(&conclusion.status));
            self.events.extend(conclusion.events.clone());
        }
        Some(conclusion)
    }

    /// Passes until one changes nothing; then it must be steady, whatever the clock says next.
    pub(super) fn settle(&mut self) -> &JobFlowStatus {
        for _ in 0..30 {
            let (before, deaths) = (self.writes, self.deaths);
            // Whatever happens meanwhile asks for another pass.
            let is_disturbed = self.meanwhile.is_some();
            let conclusion = self.pass();
            if self.deaths > deaths || is_disturbed {
                continue;
            }
            if self.is_gone {
                return self.status();
            }
            if self.writes == before {
                self.assert_steady(&conclusion.expect("nobody died"));
                return self.status();
            }
        }
        unreachable!("it never settles: {:#?}", self.flow.status);
    }

    /// The pass that came to this conclusion wrote nothing; another one changes nothing either, whatever
    /// the order in which caches give their objects, nor does one much later if it asked for none.
    fn assert_steady(&self, conclusion: &Conclusion) {
        let asks = conclusion.requeue_after;
        assert_ne!(asks, Some(Duration::ZERO), "it asks for nothing");
        assert_eq!(conclusion.events, []);
        let mut again = self.clone();
        again.dies_after = None;
        again.reversed = true;
        assert_eq!(again.pass().as_ref(), Some(conclusion));
        assert_eq!(again.writes, self.writes, "nothing is written");
        if asks.is_none() {
            again.now += 1_000_000;
            let later = again.pass().expect("time alone changes nothing");
            assert_eq!(later.status, conclusion.status);
        }
    }

    /// A write, unless the process dies of it; another one takes over then.
    fn write(&mut self) -> Option<()> {
        if let Some(left) = self.dies_after.take() {
            let Some(left) = left.checked_sub(1) else {
                self.deaths += 1;
                return None;
            };
            self.dies_after = Some(left);
        }
        self.writes += 1;
        Some(())
    }

    fn carry_out(&mut self, plan: &Plan) -> Option<AllMade> {
        let Plan {
            expire: _,
            delete,
            adjust,
            start,
            requeue_after: _,
        } = plan;
        for job in delete {
            self.write()?;
            let name = job.name_any();
            let finalizers = self.job_mut(&name).finalizers_mut();
            finalizers.push(FOREGROUND.to_owned());
            self.delete_job(&name);
        }
        for (job, patch) in adjust {
            self.patch(&job.name_any(), patch)?;
        }
        let mut made = AllMade::new();
        for start in start {
            made.insert(start.subject.clone(), self.make(start)?);
        }
        Some(made)
    }

    fn patch(&mut self, name: &str, patch: &Value) -> Option<()> {
        self.write()?;
        let job = self.job_mut(name);
        let mut value = json!(job);
        merge(&mut value, patch);
        *job = serde_json::from_value(value).expect("a Job");
        Some(())
    }

    fn make(&mut self, start: &Start) -> Option<Made> {
        for name in &start.names {
            if let Some(job) = self.jobs.get(name).cloned() {
                match claim(&self.flow, start, &job, time(self.now).0) {
                    Claim::Mine => return Some(Made::Job(Arc::new(job))),
                    Claim::Adopt(patch) => {
                        self.patch(name, &patch)?;
                        return Some(Made::Job(Arc::new(self.job(name).clone())));
                    }
                    Claim::Others => continue,
                    Claim::Leaving => return Some(Made::Leaving),
                }
            }
            return self.create(name, start);
        }
        Some(Made::Refused(Failure::new("NamesTaken", "names are taken")))
    }

    /// Makes a Job as an API server does.
    fn create(&mut self, name: &str, start: &Start) -> Option<Made> {
        if let Some(refusal) = self.refusals.get(&start.subject) {
            return Some(Made::Refused(refusal.clone()));
        }
        let Ok(mut job) = serde_json::from_value::<Job>(start.body.clone()) else {
            return Some(Made::Refused(Failure::new("BadRequest", "it is no Job")));
        };
        let spec = job.spec.get_or_insert_default();
        let pod = spec.template.spec.as_ref();
        if pod.is_none_or(|pod| pod.containers.is_empty()) {
            return Some(Made::Refused(Failure::new("Invalid", "no containers")));
        }
        self.write()?;
        self.made += 1;
        spec.parallelism.get_or_insert(1);
        spec.suspend.get_or_insert(false);
        job.metadata.name = Some(name.to_owned());
        job.metadata.uid = Some(format!("job-{}-{}", self.flow.name_any(), self.made));
        job.metadata.creation_timestamp = Some(time(self.now));
        self.jobs.insert(name.to_owned(), job.clone());
        Some(Made::Job(Arc::new(job)))
    }
}

/// What the controller finds in its caches.
struct Observation {
    flow: JobFlow,
    graph: Result<FlowGraph, GraphError>,
    jobs: Vec<Arc<Job>>,
    templates: HashMap<String, Arc<JobTemplate>>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    now: Timestamp,
}

impl Observation {
    fn observed(&self) -> Observed<'_> {
        Observed {
            flow: &self.flow,
            graph: &self.graph,
            jobs: &self.jobs,
            templates: &self.templates,
            pods: &self.pods,
            now: self.now,
        }
    }
}
