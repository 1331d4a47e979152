//! Whatever happens, in whatever order: a Job runs once for a change, one at a time, and the last change
//! has run in the end.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::{
    keys,
    reactive_job::{ConcurrencyPolicy, ReactiveJobSpec, Retry, State, TemplateTrigger, Triggers},
};

use serde_json::json;

use super::world::{World, running};
use crate::{
    action::Failure,
    driver::memory::{
        Chance,
        simulation::{Simulated, simulate},
    },
    jobs,
    reactive_job::ConfigState,
};

#[test]
fn reactive_job() {
    simulate::<World>(150);
}

impl Simulated for World {
    const KIND: &'static str = "reactivejob";

    fn any(chance: &mut Chance) -> Self {
        let mut world = Self::new();
        world.object.spec.concurrency_policy = chance.pick(&[
            None,
            Some(ConcurrencyPolicy::Queue),
            Some(ConcurrencyPolicy::Replace),
            Some(ConcurrencyPolicy::Allow),
        ]);
        world.object.spec.retry = chance.once_in(3).then_some(Retry {
            limit: 2,
            backoff_seconds: Some(5),
        });
        world.object.spec.triggers = chance.once_in(3).then(|| Triggers {
            template: Some(TemplateTrigger::PodTemplate),
            ..Triggers::default()
        });
        world.object.spec.successful_history_limit = chance.pick(&[None, Some(0), Some(1)]);
        world
    }

    fn happen(&mut self, chance: &mut Chance) {
        let all: Vec<_> = self.jobs.keys().cloned().collect();
        let live = |job: &&Job| jobs::finish(job).is_none();
        let live: Vec<_> = self.jobs.values().filter(live).map(Job::name_any).collect();
        match chance.of(16) {
            0..=3 if !live.is_empty() => self.succeed(&chance.pick(&live)),
            4 if !live.is_empty() => self.fail(&chance.pick(&live)),
            5 if !all.is_empty() => {
                let name = chance.pick(&all);
                self.delete_job(&name, chance.once_in(2));
            }
            6 if !live.is_empty() => {
                let name = chance.pick(&live);
                let pod = format!("pod-{}", self.writes);
                self.add_pod(&name, &pod, running());
            }
            7 => {
                self.pods.clear();
                self.collect_garbage();
            }
            8 | 9 => self.edit_digest(chance.pick(&["a", "b", "c"])),
            10 => {
                let value = chance.next().to_string();
                self.annotate(keys::RERUN, &value);
            }
            11 => {
                let suspend = chance.once_in(3);
                self.edit_spec(|spec: &mut ReactiveJobSpec| spec.suspend = Some(suspend));
            }
            12 if chance.once_in(2) => {
                let quota = Failure::new("Forbidden", "exceeded quota");
                self.refusal = chance.once_in(2).then_some(quota);
            }
            13 if chance.once_in(8) => self.delete(),
            // A queue holds a Job, or lets it go.
            14 if !live.is_empty() => {
                let job = self.job_mut(&chance.pick(&live));
                job.spec.get_or_insert_default().suspend = Some(chance.once_in(2));
            }
            15 => {
                let ttl = chance.seconds(100);
                self.edit(|template| template["spec"]["ttlSecondsAfterFinished"] = json!(ttl));
            }
            _ => {
                let seconds = chance.seconds(60);
                self.wait(seconds);
            }
        }
    }

    fn assert_promises(&self, _before: &Self) {
        assert_no_job_is_made_twice(self);
        assert_one_at_a_time(self);
        assert_an_end_is_that_of_the_observed_run(self);
    }

    fn assert_ends(mut self) {
        self.refusal = None;
        self.config = ConfigState::default();
        if self.object.metadata.deletion_timestamp.is_none() {
            self.edit_spec(|spec| spec.suspend = None);
        }
        for _ in 0..20 {
            self.pods.clear();
            self.collect_garbage();
            self.settle_any();
            if self.is_gone {
                assert_eq!(self.names(), [""; 0], "its Jobs are deleted with it");
                return;
            }
            let live = self.jobs.values().filter(|job| jobs::finish(job).is_none());
            let live: Vec<_> = live.map(Job::name_any).collect();
            for name in live {
                self.succeed(&name);
            }
            self.wait(10);
        }
        let newest = self.job(&self.newest()).clone();
        let digest = &self.object.spec.job_template.0["metadata"]["annotations"]["digest"];
        let ran_with = newest.annotations().get("digest").map(String::as_str);
        if self.object.spec.triggers.is_none() {
            assert_eq!(ran_with, digest.as_str(), "the last change has run");
        }
        assert_eq!(
            newest.annotations().get(keys::RERUN),
            self.object.annotations().get(keys::RERUN)
        );
    }
}

/// Two Jobs that were created for the same purpose, after the same predecessor, are one Job created twice.
fn assert_no_job_is_made_twice(world: &World) {
    let mut purposes = BTreeMap::new();
    for job in world.jobs.values() {
        let of = |key: &str| job.annotations().get(key).cloned();
        let purpose = (of(keys::RUN_AFTER), of(keys::RUN), of(keys::RUN_ATTEMPT));
        if let Some(other) = purposes.insert(purpose, job.name_any()) {
            unreachable!("{other} and {} were made for the same", job.name_any());
        }
    }
}

/// A status that reports the end of a run is about the newest run that it says to have observed.
fn assert_an_end_is_that_of_the_observed_run(world: &World) {
    let Some(status) = &world.object.status else {
        return;
    };
    if status.state != Some(State::Ready) || status.observed_rerun.is_none() {
        return;
    }
    let newest = status.current_job_name.as_ref();
    if let Some(job) = newest.and_then(|name| world.jobs.get(name)) {
        assert_eq!(
            job.annotations().get(keys::RERUN),
            status.observed_rerun.as_ref()
        );
    }
}

/// Unless that is allowed, a Job is created only when no other may be active any more.
fn assert_one_at_a_time(world: &World) {
    if world.object.spec.concurrency_policy.unwrap_or_default() == ConcurrencyPolicy::Allow {
        return;
    }
    let live = world
        .jobs
        .values()
        .filter(|job| jobs::finish(job).is_none());
    let live: BTreeSet<_> = live
        .filter(|job| !jobs::is_deleted(job))
        .map(Job::name_any)
        .collect();
    assert!(live.len() <= 1, "{live:?} at the same time");
}
