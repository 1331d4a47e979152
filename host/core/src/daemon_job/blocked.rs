//! The nodes whose Job does not get on: what the status remembers of them, so that the time is counted
//! from when it was first seen and the reason outlives the pod.

use std::collections::HashMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::daemon_job::BlockedNode;

use super::{
    Observed,
    standing::NodeState,
    survey::{Place, Survey},
};
use crate::jobs::{
    blocked::{Blocked, blocked, stage},
    time::{PROGRESS_DEADLINE, after},
};

/// How many of them the status tells of.
const MOST: usize = 20;

/// The nodes whose Job does not get on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BlockedNodes {
    /// Those that the status tells of, by name.
    pub(super) told: Vec<BlockedNode>,
    /// How many there are.
    pub(super) count: usize,
}

impl BlockedNodes {
    /// Finds them. Those that the status tells of already come first.
    pub(super) fn of(observed: &Observed<'_>, survey: &Survey<'_>) -> Self {
        let known: HashMap<_, _> = known(survey)
            .iter()
            .map(|known| (known.job_name.as_str(), known))
            .collect();
        let active = survey.places.iter();
        let active = active.filter(|place| place.standing == NodeState::Active);
        let blocked = active.filter_map(|place| {
            let job = place.job?;
            let blocked = blocked(job, observed.pods_of(job))?;
            let known = known.get(job.name_any().as_str()).copied();
            Some((known.is_none(), node(place, blocked, known, observed.now)))
        });
        let mut blocked: Vec<_> = blocked.collect();
        blocked.sort_by_key(|(is_new, _)| *is_new);
        let count = blocked.len();
        let mut told: Vec<_> = blocked.into_iter().map(|(_, node)| node).collect();
        told.truncate(MOST);
        told.sort_by(|a, b| a.name.cmp(&b.name));
        Self { told, count }
    }

    /// Those that have waited too long, those that have waited longest first.
    pub(super) fn late(&self, now: Timestamp) -> Vec<&BlockedNode> {
        let mut late: Vec<_> = self
            .told
            .iter()
            .filter(|node| deadline(node) <= now)
            .collect();
        late.sort_by_key(|node| node.since.0);
        late
    }

    /// When the next of them has waited too long.
    pub(super) fn next_deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let deadlines = self.told.iter().map(deadline);
        deadlines.filter(|deadline| *deadline > now).min()
    }

    /// What is known of the Job of this name.
    pub(super) fn find(&self, job: &str) -> Option<&BlockedNode> {
        self.told.iter().find(|node| node.job_name == job)
    }
}

/// Those that the status tells of.
pub(super) fn known<'a>(survey: &Survey<'a>) -> &'a [BlockedNode] {
    let status = survey.memory.status;
    status.map_or(&[], |status| status.blocked_nodes.as_slice())
}

fn deadline(node: &BlockedNode) -> Timestamp {
    after(node.since.0, PROGRESS_DEADLINE)
}

/// A node whose Job does not get on. The time is that of the stage that it is in. While it waits for the same,
/// its words stay too: each new try words it differently.
fn node(
    place: &Place<'_>,
    blocked: Blocked,
    known: Option<&BlockedNode>,
    now: Timestamp,
) -> BlockedNode {
    let is_still = |known: &&BlockedNode| stage(&known.reason) == stage(&blocked.reason);
    let known = known.filter(is_still);
    let words = known.filter(|known| blocked.is_still(&known.reason));
    BlockedNode {
        name: place.name().to_owned(),
        job_name: place.job.map(|job| job.name_any()).unwrap_or_default(),
        message: words.map_or(blocked.message, |known| known.message.clone()),
        reason: blocked.reason,
        since: known.map_or(Time(now), |known| known.since.clone()),
    }
}
