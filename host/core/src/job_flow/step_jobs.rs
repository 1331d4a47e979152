//! The Jobs of a flow by their steps and attempts.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use operon_api::keys;

use super::{Observed, make};
use crate::jobs::{MadeJob, MadeJobs};

/// The Jobs of a flow by their step.
pub(super) struct StepJobs<'a> {
    by_step: HashMap<&'a str, Vec<(i32, &'a Arc<Job>)>>,
}

impl<'a> StepJobs<'a> {
    /// The Jobs that exist, and the Jobs that were created in this reconcile.
    pub(super) fn of(observed: &Observed<'a>, made: Option<&'a MadeJobs>) -> Self {
        let mut by_step: HashMap<_, Vec<_>> = HashMap::new();
        let own = observed.jobs.iter();
        for job in own.filter(|job| make::is_own(observed.flow, job)) {
            let step = job.labels().get(keys::STEP).map_or("", String::as_str);
            by_step
                .entry(step)
                .or_default()
                .push((make::attempt(job), job));
        }
        for (step, made) in made.into_iter().flatten() {
            let MadeJob::Job(job) = made else { continue };
            let jobs = by_step.entry(step.as_str()).or_default();
            if !jobs.iter().any(|(_, known)| known.uid() == job.uid()) {
                jobs.push((make::attempt(job), job));
            }
        }
        Self { by_step }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, i32, &'a Arc<Job>)> {
        let by_step = self.by_step.iter();
        by_step.flat_map(|(step, jobs)| jobs.iter().map(|(attempt, job)| (*step, *attempt, *job)))
    }

    /// The Job of the last attempt of a step, not counting attempts before `first`.
    pub(super) fn last(&self, step: &str, first: i32) -> Option<(i32, &'a Arc<Job>)> {
        let jobs = self.by_step.get(step)?.iter();
        let jobs = jobs.filter(|(attempt, _)| *attempt >= first).copied();
        jobs.max_by_key(|(attempt, job)| (*attempt, std::cmp::Reverse(job.name_any())))
    }
}
