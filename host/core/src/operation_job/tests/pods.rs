//! Which pods of a job's targets a reconcile reads.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;

use super::world::{World, pending, processing, released, succeeded};
use crate::operation_job::{
    Observed, TargetPods,
    availability::Availability,
    conclude::{Answers, conclude},
    plan::{Plan, TargetStep, plan},
};

/// Pods that remember which of them were read.
struct Remembering<'a> {
    pods: &'a HashMap<String, Arc<Pod>>,
    read: Mutex<BTreeSet<String>>,
}

impl TargetPods for Remembering<'_> {
    fn uid(&self, name: &str) -> Option<String> {
        self.pods.uid(name)
    }

    fn get(&self, name: &str) -> Option<Arc<Pod>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(name.to_owned());
        TargetPods::get(self.pods, name)
    }
}

#[test]
fn only_the_pods_of_targets_in_progress_are_read() {
    let mut world = World::with(&[
        succeeded("succeeded"),
        released("failed", "ItWentWrong"),
        processing("processing"),
        pending("starts"),
        pending("waits"),
    ]);
    world.job.spec.partition = Some(4);
    let pods = Remembering {
        pods: &world.pods,
        read: Mutex::default(),
    };
    let observed = Observed {
        pods: &pods,
        ..world.observed()
    };
    let Plan::Run(run) = plan(&observed, &Availability::Unlimited) else {
        unreachable!("the job does not expire")
    };
    let steps: Vec<_> = run.targets.iter().map(|target| &target.step).collect();
    let uid = "uid-starts".to_owned();
    assert_eq!(steps[3..], [&TargetStep::Start { uid }, &TargetStep::Keep]);
    conclude(&observed, &run, &Answers::default());
    let read = pods
        .read
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    assert_eq!(Vec::from_iter(read), ["processing"]);
}
