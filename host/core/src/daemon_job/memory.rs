//! What the status remembers: what it is about, and what became of each node. A node is remembered by
//! twelve digits, so that thousands of them fit.

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

/// What is remembered of an object.
#[derive(Clone, Debug)]
pub(super) struct Memory<'a> {
    /// What its Jobs are made from now.
    pub(super) revision: String,
    /// The status, if it is about that.
    pub(super) status: Option<&'a DaemonJobStatus>,
    /// The value of the annotation `operon.dev/retry` that counts.
    pub(super) token: Option<&'a str>,
    /// What became of each node.
    pub(super) ledger: Ledger,
    /// Whether it is finished and stays so.
    pub(super) is_finished: bool,
}

/// What became of each node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// They succeeded.
    pub(super) completed: BTreeSet<String>,
    /// They failed, after so many Jobs.
    pub(super) failed: BTreeMap<String, u32>,
    /// They have had so many Jobs, and are not over.
    pub(super) started: BTreeMap<String, u32>,
    /// Their Job was refused.
    pub(super) refused: BTreeSet<String>,
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

/// Whether another operator finished it: what it ran for is not known, and nothing is run again.
fn is_taken_over(object: &DaemonJob) -> bool {
    object.status.as_ref().is_some_and(|status| {
        let is_over = matches!(status.state, Some(FlowState::Succeed | FlowState::Failed));
        is_over && status.revision.is_none()
    })
}

/// A digest of what Jobs are made from. What has not been edited since is the same whatever its digest
/// is now: a schema may have got a default.
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
        let made_from = json!({"job": object.spec.job, "globalParams": global});
        hexadecimal(&made_from.to_string(), 8)
    })
}

impl Ledger {
    fn read(status: &DaemonJobStatus) -> Self {
        let counted = |list: &[String]| list.iter().map(|entry| read(entry)).collect();
        Self {
            completed: status.completed_nodes.iter().cloned().collect(),
            failed: counted(&status.failed_node_digests),
            started: counted(&status.started_node_digests),
            refused: status.refused_node_digests.iter().cloned().collect(),
        }
    }

    /// Puts it into a status, sorted.
    pub(super) fn write(self, status: &mut DaemonJobStatus) {
        let Self {
            completed,
            failed,
            started,
            refused,
        } = self;
        let counted = |map: BTreeMap<String, u32>| map.into_iter().map(write).collect();
        status.completed_nodes = completed.into_iter().collect();
        status.failed_node_digests = counted(failed);
        status.started_node_digests = counted(started);
        status.refused_node_digests = refused.into_iter().collect();
    }

    /// What failed may run again; how many Jobs it has had stays.
    fn forgive(&mut self) {
        self.started.append(&mut self.failed);
    }

    /// How many Jobs a node has had, as far as is remembered.
    pub(super) fn attempts(&self, digest: &str) -> u32 {
        let failed = self.failed.get(digest);
        failed
            .or(self.started.get(digest))
            .copied()
            .unwrap_or_default()
    }
}

/// What a node is remembered by: 48 bits of a digest of its uid.
pub(super) fn digest(uid: &str) -> String {
    hexadecimal(uid, 6)
}

fn read(entry: &str) -> (String, u32) {
    let (digest, attempts) = entry.split_once(':').unwrap_or((entry, "1"));
    (digest.to_owned(), attempts.parse().unwrap_or(1).max(1))
}

fn write((digest, attempts): (String, u32)) -> String {
    match attempts {
        0 | 1 => digest,
        _ => format!("{digest}:{attempts}"),
    }
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
