//! What a call of an action read. The action is called again only when the answer may be another one: when the target
//! or something that the call read has changed, or when the time has come that the action asked for.
//!
//! Everything is compared by value ([`digests`](crate::digests)), each version of an object once: so it costs much less
//! than a call, and a heartbeat that the action cannot see is no change.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use operon_core::action::{ClusterView, FoundPods, JobState, ObjectReference, PodLimit, ReadError};
use serde_json::Value;

use crate::{digests::digest, store::Entry, view::View};

/// How many questions a call may ask for them to be remembered. A call that asks more is repeated whenever it may be.
const MOST: usize = 16;

/// Bytes of all these questions. The memory is kept for each target of a job, and a job may have 10,000.
const BYTES: usize = 4 << 10;

/// Comparisons of labels that answer these questions once more. The answers are compared in each reconcile, for each
/// target: this takes some milliseconds.
const COMPARISONS: usize = 1 << 18;

/// Comparisons of labels for all reads of one call; some tenths of a second.
const COMPARISONS_OF_A_CALL: usize = 1 << 22;

/// A question to a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Read {
    /// One object.
    Get(ObjectReference),
    /// The objects of a kind that a label selector matches.
    Find {
        api_version: String,
        kind: String,
        selector: String,
    },
    /// The pods that a label selector matches, as typed records.
    FindPods(String),
    /// The state of the OperationJob with this uid.
    FindJob(String),
}

impl Read {
    /// The bytes of its texts.
    fn bytes(&self) -> usize {
        match self {
            Self::Get(ObjectReference {
                api_version,
                kind,
                name,
            }) => api_version.len() + kind.len() + name.len(),
            Self::Find {
                api_version,
                kind,
                selector,
            } => api_version.len() + kind.len() + selector.len(),
            Self::FindPods(selector) => selector.len(),
            Self::FindJob(uid) => uid.len(),
        }
    }
}

/// A target as the action sees it in a call, or would see it now.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// A digest of all of it but its last failure.
    pub(crate) target: u64,
    /// The reason of its last failure.
    pub(crate) last_failure: Option<String>,
    /// Its pod, of which the digest has only what the typed record has.
    pub(crate) pod: Option<Arc<Entry<Pod>>>,
}

/// What a call depended on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reads {
    target: u64,
    /// The reason of the target's last failure, as the call saw it, and as the action reported it: what the action
    /// itself reported is no news to it.
    last_failures: [Option<String>; 2],
    /// The digest of the target's whole pod, if the action read it beside the typed record.
    own: Option<u64>,
    /// What was read, each with the digest of the answer.
    answers: BTreeMap<Read, u64>,
    /// The limit of pods that the target waits for: there was no room below it.
    limit: Option<PodLimit>,
}

/// What has changed since a call of what it depended on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The target.
    Target,
    /// Something that the call read: digests of these questions.
    Reads(Vec<u64>),
    /// The target waits for room below a limit of pods.
    Limited(Limited),
}

/// A target that waits for room below a limit of pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// A digest of the limit.
    pub limit: u64,
    /// How many such targets there is room for.
    pub room: usize,
    /// What the call read that has changed nevertheless: digests of the questions.
    pub changed: Vec<u64>,
}

impl Reads {
    /// The same, of a call whose answer has this reason.
    #[must_use]
    pub(crate) fn reporting(mut self, reason: Option<&str>) -> Self {
        self.last_failures[1] = reason.map(str::to_owned);
        self
    }

    /// What has changed, according to a newer view.
    pub(crate) fn change(&self, now: &Seen, view: &View) -> Change {
        let whole = |pod: &Arc<Entry<Pod>>| view.digests().whole_entry(pod);
        let own = self.own.map(|_| digest(now.pod.as_ref().map(whole)));
        if self.target != now.target
            || !self.last_failures.contains(&now.last_failure)
            || self.own != own
        {
            return Change::Target;
        }
        let differ = self.answers.iter();
        let differ = differ.filter(|(read, known)| view.digest(read) != **known);
        let differ: Vec<_> = differ.map(|(read, _)| digest(read)).collect();
        if let Some(limit) = &self.limit
            && let Some(room) = view.room(limit)
        {
            return Change::Limited(Limited {
                limit: digest(limit),
                room,
                changed: differ,
            });
        }
        if differ.is_empty() {
            Change::None
        } else {
            Change::Reads(differ)
        }
    }

    /// A digest of the limit of pods that the target waits for.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit.as_ref().map(digest)
    }

    /// Digests of all questions.
    pub(crate) fn questions(&self) -> impl Iterator<Item = u64> {
        self.answers.keys().map(digest)
    }
}

/// A view that remembers what is read of it.
pub(crate) struct Recorder {
    view: Arc<View>,
    seen: Seen,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    own: Option<u64>,
    limit: Option<PodLimit>,
    reads: BTreeMap<Read, u64>,
    /// The bytes of these questions, and the comparisons that answer them.
    bytes: usize,
    comparisons: usize,
    /// More was read than is remembered.
    is_too_much: bool,
    /// The comparisons of all reads, those included that are not remembered.
    spent: usize,
}

impl Known {
    /// Whether a question is to be remembered; what is too much is forgotten immediately.
    fn takes(&mut self, bytes: usize, comparisons: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        self.comparisons = self.comparisons.saturating_add(comparisons);
        if self.bytes > BYTES || self.comparisons > COMPARISONS || self.reads.len() > MOST {
            self.is_too_much = true;
            self.reads.clear();
            self.limit = None;
        }
        !self.is_too_much
    }
}

impl Recorder {
    /// Remembers what is read of a view in a call about this target.
    pub(crate) fn new(view: Arc<View>, seen: Seen) -> Self {
        Self {
            view,
            seen,
            known: Mutex::default(),
        }
    }

    /// What the call depended on until now, unless that is too much.
    pub(crate) fn reads(&self) -> Option<Reads> {
        let known = self.known();
        let last_failure = &self.seen.last_failure;
        (!known.is_too_much).then(|| Reads {
            target: self.seen.target,
            last_failures: [last_failure.clone(), last_failure.clone()],
            own: known.own,
            limit: known.limit.clone(),
            answers: known.reads.clone(),
        })
    }

    /// The target's own pod is read, though this view does not have it.
    pub(crate) fn note_own(&self, pod: Option<&Pod>) {
        let whole = |pod: &Pod| self.view.digests().whole(pod);
        self.known().own = Some(digest(pod.map(whole)));
    }

    /// The target waits until there is room below this limit.
    pub(crate) fn note_limit(&self, limit: PodLimit) {
        let read = Read::FindPods(limit.label_selector.clone());
        // The view has then sorted its pods by the label of the selector.
        self.view.room(&limit);
        let comparisons = self.view.comparisons(&read);
        let mut known = self.known();
        if known.takes(read.bytes(), comparisons) {
            known.limit = Some(limit);
        }
    }

    /// As [`Recorder::note_limit`], unless there is room already.
    pub(crate) fn note_limit_if_full(&self, limit: PodLimit) {
        if self.view.room(&limit) == Some(0) {
            self.note_limit(limit);
        }
    }

    /// Remembers a question with a digest of its answer, and then has it answered. So the digest never belongs to a
    /// newer answer. A question that is too long is forgotten before the view remembers it.
    fn read<'a, T>(
        &'a self,
        read: &Read,
        answer: impl FnOnce(&'a View) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut known = self.known();
        if known.spent > COMPARISONS_OF_A_CALL {
            let most = "the selectors of one call's reads may be compared with";
            let message = format!("{most} {COMPARISONS_OF_A_CALL} labels of objects");
            return Err(ReadError::TooMuch(message));
        }
        let is_new = !known.is_too_much && !known.reads.contains_key(read);
        if is_new && known.takes(read.bytes(), 0) {
            let digest = self.view.digest(read);
            known.reads.insert(read.clone(), digest);
        }
        let answer = answer(&self.view);
        let comparisons = self.view.comparisons(read);
        known.spent = known.spent.saturating_add(comparisons);
        if is_new {
            known.takes(0, comparisons);
        }
        answer
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterView for Recorder {
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError> {
        let read = Read::Get(reference.clone());
        self.read(&read, |view| view.get(reference))
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError> {
        let read = Read::Find {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            selector: label_selector.to_owned(),
        };
        self.read(&read, |view| view.find(api_version, kind, label_selector))
    }

    fn find_pods(&self, label_selector: &str) -> Result<FoundPods<'_>, ReadError> {
        let read = Read::FindPods(label_selector.to_owned());
        self.read(&read, |view| view.find_pods(label_selector))
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        let read = Read::FindJob(uid.to_owned());
        self.read(&read, |view| view.find_job(uid))
    }
}

#[cfg(test)]
mod tests;
