//! The status's memory: the revision that it is about, and the result of each node. A node takes twelve
//! digits, so that there is room for thousands of them.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use operon_api::{
    DaemonJob,
    daemon_job::{CompletionPolicy, DaemonJobStatus, FlowState},
    job_flow::GlobalParams,
    keys,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    job,
    tries::{self, Tries},
    waiting::{self, Wait},
};

/// What is remembered of an object.
#[derive(Clone, Debug)]
pub(super) struct Memory<'a> {
    /// The spec that its Jobs are rendered from now.
    pub(super) revision: String,
    /// The status, if it is about that.
    pub(super) status: Option<&'a DaemonJobStatus>,
    /// The value of the annotation `operon.dev/retry` that counts.
    pub(super) token: Option<&'a str>,
    /// The result of each node.
    pub(super) ledger: Ledger,
    /// Whether it is finished and stays so.
    pub(super) is_finished: bool,
}

/// The result of each node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// They succeeded.
    pub(super) completed: BTreeSet<String>,
    /// They failed, after so many Jobs.
    pub(super) failed: BTreeMap<String, u32>,
    /// They have had Jobs, and are not over.
    pub(super) started: BTreeMap<String, Tries>,
    /// Their Job was refused.
    pub(super) refused: BTreeSet<String>,
    /// They are the canaries.
    pub(super) canaries: BTreeSet<String>,
    /// They are, or will be, waited for.
    pub(super) waiting: BTreeMap<String, Wait>,
}

impl<'a> Memory<'a> {
    /// What is remembered of this object.
    pub(super) fn of(object: &'a DaemonJob, policy: CompletionPolicy) -> Self {
        let revision = revision(object);
        let known = object.status.as_ref();
        let status = known.filter(|status| status.revision.as_ref() == Some(&revision));
        let retried = known.and_then(|status| status.retried.as_deref());
        let said = object.annotations().get(keys::RETRY).map(String::as_str);
        let is_retry = known.is_some() && said.is_some() && said != retried;
        let mut ledger = status.map(Ledger::read).unwrap_or_default();
        if is_retry {
            ledger.forgive();
        }
        let has_failed = |status: &DaemonJobStatus| {
            status.state == Some(FlowState::Failed) || status.failed.is_some_and(|count| count > 0)
        };
        let is_over = status.is_some_and(|status| {
            status.completion_time.is_some() && !(is_retry && has_failed(status))
        });
        let is_finished = match policy {
            CompletionPolicy::Always => is_over || is_taken_over(object),
            CompletionPolicy::Never => false,
        };
        Self {
            revision,
            status,
            token: said.or(retried),
            ledger,
            is_finished,
        }
    }
}

/// Whether another operator finished it: the revision that it ran is unknown, and nothing runs again.
fn is_taken_over(object: &DaemonJob) -> bool {
    object.status.as_ref().is_some_and(|status| {
        let is_over = matches!(status.state, Some(FlowState::Succeed | FlowState::Failed));
        is_over && status.revision.is_none()
    })
}

/// A digest of the spec that Jobs are rendered from. A spec that was not edited is the same even if its
/// digest differs now: a schema may have got a default.
fn revision(object: &DaemonJob) -> String {
    let status = object.status.as_ref();
    let generation = object.metadata.generation;
    let known = status
        .filter(|status| generation.is_some() && status.observed_generation == generation)
        .and_then(|status| status.revision.clone());
    known.unwrap_or_else(|| {
        let global = object
            .spec
            .global_params
            .clone()
            .map(|global| GlobalParams {
                node_name: None,
                ..global
            });
        // A TTL does not affect what runs.
        let mut job = job::spec(object);
        job.0.remove("ttlSecondsAfterFinished");
        let made_from = json!({"job": job, "globalParams": global});
        hexadecimal(&made_from.to_string(), 8)
    })
}

impl Ledger {
    fn read(status: &DaemonJobStatus) -> Self {
        let failed = status.failed_node_digests.iter();
        let started = status.started_node_digests.iter();
        let waiting = status.waiting_node_digests.iter();
        Self {
            completed: status.completed_nodes.iter().cloned().collect(),
            failed: failed
                .map(|entry| tries::read(entry))
                .map(|(digest, tries)| (digest, tries.attempts))
                .collect(),
            started: started.map(|entry| tries::read(entry)).collect(),
            refused: status.refused_node_digests.iter().cloned().collect(),
            canaries: status.canary_node_digests.iter().cloned().collect(),
            waiting: waiting.map(|entry| waiting::read(entry)).collect(),
        }
    }

    /// Puts it into a status, sorted.
    pub(super) fn write(self, status: &mut DaemonJobStatus) {
        let Self {
            completed,
            failed,
            started,
            refused,
            canaries,
            waiting,
        } = self;
        let failed = failed.into_iter();
        status.completed_nodes = completed.into_iter().collect();
        status.failed_node_digests = failed
            .map(|(digest, attempts)| tries::write(digest, Tries::of(attempts)))
            .collect();
        status.started_node_digests = started
            .into_iter()
            .map(|(digest, tries)| tries::write(digest, tries))
            .collect();
        status.refused_node_digests = refused.into_iter().collect();
        status.canary_node_digests = canaries.into_iter().collect();
        status.waiting_node_digests = waiting.into_iter().map(waiting::write).collect();
    }

    /// Failed nodes may run again, backoffs after deletions end, and skipped nodes are waited for again;
    /// the number of Jobs that a node has had stays.
    fn forgive(&mut self) {
        for tries in self.started.values_mut() {
            *tries = Tries::of(tries.attempts);
        }
        for wait in self.waiting.values_mut() {
            *wait = Wait::Expected;
        }
        let failed = std::mem::take(&mut self.failed).into_iter();
        self.started
            .extend(failed.map(|(digest, attempts)| (digest, Tries::of(attempts))));
    }

    /// The Jobs that a node has had, as far as is remembered.
    pub(super) fn tries(&self, digest: &str) -> Tries {
        let failed = self.failed.get(digest).copied().map(Tries::of);
        failed
            .or(self.started.get(digest).copied())
            .unwrap_or_default()
    }

    /// How many Jobs a node has had, as far as is remembered.
    pub(super) fn attempts(&self, digest: &str) -> u32 {
        self.tries(digest).attempts
    }
}

/// The key of a node in the memory: 48 bits of a digest of its uid.
pub(super) fn digest(uid: &str) -> String {
    hexadecimal(uid, 6)
}

/// The first so many bytes of a digest, in hexadecimal digits.
fn hexadecimal(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().take(bytes).flat_map(|byte| {
        [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'))
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_remembered_by_twelve_digits_of_its_uid() {
        assert_eq!(digest("abc"), "ba7816bf8f01");
        assert_eq!(digest("").len(), 12);
    }

    #[test]
    fn a_ledger_is_read_as_it_was_written_and_nonsense_is_no_panic() {
        let mut status = DaemonJobStatus {
            completed_nodes: vec!["b".to_owned(), "a".to_owned()],
            failed_node_digests: ["c:3", "d", "e:many", "f:0", ":", ""]
                .map(str::to_owned)
                .to_vec(),
            ..DaemonJobStatus::default()
        };
        let ledger = Ledger::read(&status);
        assert_eq!(ledger.attempts("c"), 3);
        assert_eq!(ledger.attempts("d"), 1);
        assert_eq!(ledger.attempts("e"), 1);
        assert_eq!(ledger.attempts("f"), 1);
        assert_eq!(ledger.attempts("nobody"), 0);
        ledger.clone().write(&mut status);
        assert_eq!(status.completed_nodes, ["a", "b"]);
        assert_eq!(status.failed_node_digests, ["", "c:3", "d", "e", "f"]);
        assert_eq!(Ledger::read(&status), ledger);
    }
}
