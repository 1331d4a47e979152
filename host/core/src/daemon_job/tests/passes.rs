//! A pass in a world, carried out as the controller does it; it may be cut off after any write.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{DaemonJob, daemon_job::DaemonJobStatus, keys};
use serde_json::{Value, json};

use super::world::{World, time};
use crate::{
    action::Failure,
    daemon_job::{
        Observed, claim,
        conclude::{Conclusion, conclude},
        plan::{Plan, plan},
    },
    jobs::{AllMade, Claim, Made, Start},
};

impl World {
    fn observation(&self) -> Observation {
        let is_mine =
            |job: &&Job| job.labels().get(keys::OWNER_UID) == self.object.metadata.uid.as_ref();
        let mine = self.jobs.values().filter(is_mine);
        let mut jobs: Vec<_> = mine.cloned().map(Arc::new).collect();
        let mut nodes: Vec<_> = self.nodes.values().cloned().map(Arc::new).collect();
        let pods: HashMap<_, Vec<_>> = self
            .pods
            .iter()
            .map(|(uid, pods)| (uid.clone(), pods.iter().cloned().map(Arc::new).collect()))
            .collect();
        let is_labelled = |pod: &&Arc<Pod>| {
            pod.labels().get(keys::OWNER_UID) == self.object.metadata.uid.as_ref()
        };
        let all_pods = pods.values().flatten().filter(is_labelled).cloned();
        if self.reversed {
            jobs.reverse();
            nodes.reverse();
        }
        Observation {
            object: self.object.clone(),
            nodes,
            jobs,
            all_pods: all_pods.collect(),
            pods,
            now: time(self.now).0,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        plan(&self.observation().observed())
    }

    /// One pass; what it concludes, unless the process dies on the way.
    pub(super) fn pass(&mut self) -> Option<Conclusion> {
        let plan = self.plan();
        let made = self.carry_out(&plan)?;
        let meanwhile = std::mem::take(&mut self.meanwhile);
        for happen in meanwhile {
            happen(self);
        }
        let conclusion = conclude(&self.observation().observed(), &plan, &made);
        if self.object.status.as_ref() == Some(&conclusion.status) {
            assert_eq!(conclusion.events, [], "an event without a transition");
        } else {
            self.write()?;
            self.status_writes += 1;
            self.object.status = Some(conclusion.status.clone());
            self.events.extend(conclusion.events.clone());
        }
        Some(conclusion)
    }

    /// Passes until one changes nothing; then it must be steady, whatever the clock says next.
    pub(super) fn settle(&mut self) -> &DaemonJobStatus {
        for _ in 0..40 {
            let before = self.writes;
            self.pass();
            if self.writes == before {
                self.assert_steady();
                return self.status();
            }
        }
        unreachable!("it never settles: {:#?}", self.object.status);
    }

    /// A pass changes nothing, neither now, nor later if it does not ask for a pass then.
    pub(super) fn assert_steady(&self) {
        for reversed in [false, true] {
            let mut again = self.clone();
            again.reversed = reversed;
            let conclusion = again.pass().expect("nobody dies");
            assert_eq!(Some(&conclusion.status), self.object.status.as_ref());
            assert_eq!(again.writes, self.writes, "nothing is written");
            if conclusion.requeue_after.is_none() {
                again.now += 1_000_000;
                let later = again.pass().expect("nobody dies").status;
                assert_eq!(later, conclusion.status, "time alone changes nothing");
                assert_eq!(again.writes, self.writes, "nothing is written later");
            }
        }
    }

    /// The process dies after so many writes, however many passes they take; another one takes over.
    pub(super) fn die_after(&mut self, writes: usize) {
        self.dies_after = Some(writes);
        for _ in 0..40 {
            if self.pass().is_none() || self.dies_after == Some(0) {
                break;
            }
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

    fn carry_out(&mut self, plan: &Plan) -> Option<AllMade> {
        let Plan {
            start,
            adopts,
            adjust,
            delete,
            failure: _,
            requeue_after: _,
        } = plan;
        let mut made = AllMade::new();
        for start in start {
            made.insert(start.subject.clone(), self.make(start, *adopts)?);
        }
        for (job, patch) in adjust {
            self.write()?;
            let job = self.jobs.get_mut(&job.name_any()).expect("the Job");
            *job = patched(job, patch);
        }
        for job in delete {
            self.write()?;
            self.delete_job(&job.name_any(), true);
        }
        Some(made)
    }

    fn make(&mut self, start: &Start, adopts: bool) -> Option<Made> {
        for name in &start.names {
            let Some(job) = self.jobs.get(name).cloned() else {
                return self.create(start, name);
            };
            let job = match claim(&self.object, start, adopts, &job, time(self.now).0) {
                Claim::Mine => job,
                Claim::Adopt(patch) => {
                    self.write()?;
                    patched(&job, &patch)
                }
                Claim::Others => continue,
                Claim::Leaving => return Some(Made::Leaving),
            };
            self.jobs.insert(name.clone(), job.clone());
            return Some(Made::Job(Arc::new(job)));
        }
        Some(Made::Refused(Failure::new("NamesTaken", "names are taken")))
    }

    /// Makes a Job as an API server does.
    fn create(&mut self, start: &Start, name: &str) -> Option<Made> {
        let node = start.body["metadata"]["annotations"][keys::NODE_NAME].as_str();
        self.posts += 1;
        let refusal = self.refusals.get(node.unwrap_or_default());
        if let Some(refusal) = refusal.or(self.refusals.get("*")) {
            return Some(Made::Refused(refusal.clone()));
        }
        let Ok(mut job) = serde_json::from_value::<Job>(start.body.clone()) else {
            return Some(Made::Refused(Failure::new("BadRequest", "it is no Job")));
        };
        self.write()?;
        self.made += 1;
        job.metadata.name = Some(name.to_owned());
        job.metadata.uid = Some(format!("job-{}", self.made));
        job.metadata.creation_timestamp = Some(time(self.now));
        self.jobs.insert(name.to_owned(), job.clone());
        Some(Made::Job(Arc::new(job)))
    }
}

/// What the controller finds in its caches.
struct Observation {
    object: DaemonJob,
    nodes: Vec<Arc<Node>>,
    jobs: Vec<Arc<Job>>,
    pods: HashMap<String, Vec<Arc<Pod>>>,
    all_pods: Vec<Arc<Pod>>,
    now: Timestamp,
}

impl Observation {
    fn observed(&self) -> Observed<'_> {
        Observed {
            object: &self.object,
            nodes: &self.nodes,
            jobs: &self.jobs,
            pods: &self.pods,
            all_pods: &self.all_pods,
            now: self.now,
        }
    }
}

fn patched(job: &Job, patch: &Value) -> Job {
    let mut value = json!(job);
    merge(&mut value, patch);
    serde_json::from_value(value).expect("a Job")
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    match (target.as_object_mut(), patch) {
        (Some(target), Value::Object(fields)) => {
            for (key, value) in fields {
                merge(target.entry(key).or_insert(json!({})), value);
            }
        }
        (_, patch) => *target = patch.clone(),
    }
}
