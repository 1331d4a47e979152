//! A cache of Jobs that receives changes late, as from a watch, and the answers to its own writes
//! immediately. The rule of the host's caches decides what it takes over.

use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;

use crate::freshness::{Freshness, Stamp};

/// A cache, and the changes that it has not received yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Late {
    /// What the cache holds, by name.
    jobs: BTreeMap<String, (u64, Job)>,
    freshness: Freshness<String, u64>,
    /// What was there when changes were recorded last, by name.
    recorded: BTreeMap<String, (u64, Job)>,
    backlog: VecDeque<Change>,
    version: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Set(u64, Box<Job>),
    Gone(String, Stamp<String, u64>),
}

impl Late {
    /// A cache that holds all there is.
    pub(super) fn new(jobs: &BTreeMap<String, Job>) -> Self {
        let mut late = Self::default();
        late.record(jobs);
        late.deliver(usize::MAX);
        late
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|(_, job)| job)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Job> {
        self.jobs.get(name).map(|(_, job)| job)
    }

    /// What became different since the last time is reported later.
    pub(super) fn record(&mut self, jobs: &BTreeMap<String, Job>) {
        let before = std::mem::take(&mut self.recorded);
        for (name, (_, old)) in &before {
            if jobs.get(name).is_none_or(|job| job.uid() != old.uid()) {
                self.version += 1;
                let stamp = Stamp {
                    uid: old.uid().unwrap_or_default(),
                    version: self.version,
                };
                self.backlog.push_back(Change::Gone(name.clone(), stamp));
            }
        }
        for (name, job) in jobs {
            let same = before.get(name).filter(|(_, old)| old == job);
            let version = same.map_or(self.version + 1, |(version, _)| *version);
            if same.is_none() {
                self.version = version;
                self.backlog
                    .push_back(Change::Set(version, Box::new(job.clone())));
            }
            self.recorded.insert(name.clone(), (version, job.clone()));
        }
    }

    /// The answer to a write of this process arrives.
    pub(super) fn written(&mut self, name: &str) {
        let Some((version, job)) = self.recorded.get(name).cloned() else {
            return;
        };
        let known = self.jobs.get(name).map(|(known, _)| *known);
        if self.freshness.written(&name.to_owned(), known, version) {
            self.jobs.insert(name.to_owned(), (version, job));
        }
    }

    /// So many changes are reported.
    pub(super) fn deliver(&mut self, changes: usize) {
        for _ in 0..changes {
            match self.backlog.pop_front() {
                None => return,
                Some(Change::Set(version, job)) => {
                    let name = job.name_any();
                    let known = self.jobs.get(&name).map(|(known, _)| *known);
                    if self.freshness.watched(known, version) {
                        self.jobs.insert(name, (version, *job));
                    }
                }
                Some(Change::Gone(name, stamp)) => {
                    let known = self.jobs.get(&name).map(|(version, job)| Stamp {
                        uid: job.uid().unwrap_or_default(),
                        version: *version,
                    });
                    if self.freshness.deleted(known.as_ref(), &stamp) {
                        self.jobs.remove(&name);
                    }
                }
            }
        }
    }
}
