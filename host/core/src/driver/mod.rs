//! One reconcile of an object that owns others, for every kind that does.
//!
//! Reading order is running order: see, plan, carry out, see again, ask, conclude, report. A [`Kind`]
//! decides and is pure; a [`Port`] reads the caches and writes. Production has one port over the API
//! server, tests have one in memory: the tests run the shipped code.
//!
//! This is the only async code of this crate. It has no runtime, no timer and no clock: the time is part of
//! the observation.

mod carry_out;
#[cfg(test)]
pub(crate) mod memory;
mod port;
mod refusal;
mod write;

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

pub(crate) use self::write::reference;
pub use self::{
    port::{Port, StatusWrite},
    refusal::{Class, Refusal},
    write::{delete, delete_unchanged, patch, set_finalizer, unchanged},
};
use crate::action::{Effect, Failure, ObjectReference, Severity};

/// The decisions of one kind. Every function is pure.
pub trait Kind: Send + Sync + 'static {
    /// Everything that a reconcile decides from, the time included.
    type Seen: Send + Sync;
    /// What is done.
    type Plan: Send + Sync;
    /// The status of the object.
    type Status: Clone + Send + Sync + 'static;

    /// Decides what is done.
    fn plan(seen: &Self::Seen) -> Self::Plan;

    /// The writes of a plan, in their order.
    fn batches(seen: &Self::Seen, plan: &Self::Plan) -> Vec<Batch>;

    /// Decides about an object that exists under a name which `start` may have.
    fn claim(seen: &Self::Seen, start: &Start, found: &Value) -> Claim;

    /// What must be read from the API server before the reconcile can conclude, because the caches do not
    /// hold it.
    fn question(_seen: &Self::Seen) -> Option<Question> {
        None
    }

    /// The next status. `seen` is what there is after the plan was carried out. There is none if the plan
    /// deleted the object.
    fn conclude(
        seen: &Self::Seen,
        plan: &Self::Plan,
        done: &Done,
        asked: &Asked,
    ) -> Option<Conclusion<Self::Status>>;

    /// The objects to create while the status `sent` is being written. They must be due by the previous
    /// status and by `sent`, because it is not known yet which of the two holds.
    fn meanwhile(_seen: &Self::Seen, _sent: &Self::Status) -> Vec<Start> {
        Vec::new()
    }

    /// Whether a status only says how far the work is that the previous one reported already. Such a status is
    /// written less often while the work goes on.
    fn is_progress(_previous: &Self::Status, _next: &Self::Status) -> bool {
        false
    }
}

/// Writes that are done side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The writes; they do not depend on each other.
    pub writes: Vec<Write>,
    /// Which batches must have been carried out before.
    pub needs: Needs,
}

impl Batch {
    /// A batch that is carried out whatever became of those before it.
    pub fn independent(writes: impl IntoIterator<Item = Write>) -> Self {
        Self {
            writes: writes.into_iter().collect(),
            needs: Needs::Nothing,
        }
    }

    /// A batch that is left out unless every write before it was carried out.
    pub fn dependent(writes: impl IntoIterator<Item = Write>) -> Self {
        Self {
            writes: writes.into_iter().collect(),
            needs: Needs::Previous,
        }
    }
}

/// What a batch needs of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// That each of their writes was carried out. After a refusal the reconcile is concluded all the same,
    /// because the status reports the refusal.
    Previous,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates an object under a name that identifies its purpose, unless it exists already.
    Make(Start),
    /// Anything else. An object that is not there any more needs no write.
    Do(Effect),
}

/// An object to create.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// What it is for; unique within a plan.
    pub subject: String,
    /// The names that it may have, in the order in which they are tried.
    pub names: Vec<String>,
    /// All of it but its name.
    pub body: Value,
}

/// Who owns an object that has a name of the object to create.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is the object to create.
    Mine,
    /// Another operator created it for the same object: this merge patch takes it over.
    Adopt(Value),
    /// It is owned by another object: the next name is tried.
    Others,
    /// It is deleted with the previous object of this one's name: its name is free in a moment.
    Leaving,
}

/// What came of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// The result of each creation, by its subject.
    pub made: BTreeMap<String, Made>,
    /// Other writes that the API server refused.
    pub refused: Vec<Refusal>,
    /// The first write that failed and may succeed when it is repeated.
    pub failure: Option<Refusal>,
    /// Whether the failure ended a sequence of batches.
    pub is_cut_short: bool,
}

impl Done {
    /// Whether something was refused that may be granted later, and nothing reports when: a quota has
    /// room again, a policy is mended, a webhook is back.
    pub fn may_be_granted(&self) -> bool {
        let made = self.made.values().filter_map(|made| match made {
            Made::Refused(refusal) => Some(refusal),
            Made::There(_) | Made::Leaving => None,
        });
        made.chain(&self.refused)
            .any(|refusal| refusal.class != Class::Invalid)
    }
}

/// What came of making an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// It is there; as the API server returned it.
    There(Value),
    /// The API server refused it, or all of its names are taken.
    Refused(Refusal),
    /// Its name is still that of a [leaving](Claim::Leaving) object.
    Leaving,
}

/// What is read from the API server because the caches do not hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The end of the log of a container.
    Log(LogSource),
    /// The last Warning about the object of this uid.
    Warning(String),
    /// The last Event about the object of this uid, whatever its severity.
    Event(String),
}

/// A container with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSource {
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Whether the previous instance of the container is meant.
    pub previous: bool,
}

/// What was answered; nothing where it could not be had, because it only explains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// What was asked.
    pub question: Option<Question>,
    /// The end of the log.
    pub log: Option<String>,
    /// Reason and message of the Warning.
    pub warning: Option<Failure>,
    /// Reason and message of the Event.
    pub event: Option<Failure>,
}

impl Asked {
    /// Whether an Event about the object of this uid was asked for.
    pub(crate) fn is_about(&self, uid: &str) -> bool {
        let question = self.question.as_ref();
        matches!(question, Some(Question::Warning(asked) | Question::Event(asked)) if asked == uid)
    }
}

/// What a reconcile means.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion<S> {
    /// The status from now on.
    pub status: S,
    /// The transitions to report once the status is written.
    pub events: Vec<Event>,
    /// When to reconcile again even if nothing changes.
    pub requeue_after: Option<Duration>,
}

/// A Kubernetes Event about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its severity.
    pub severity: Severity,
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// The other object that it has to do with, if there is one.
    pub related: Option<ObjectReference>,
}

/// What a reconcile wants next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// When time alone requires another reconcile.
    pub requeue_after: Option<Duration>,
    /// Something was refused that may be granted later: another reconcile, with backoff.
    pub retry: bool,
}

/// Reconciles once.
///
/// # Errors
/// A write failed that may succeed when it is repeated; everything that does not depend on it was done.
pub async fn reconcile<K: Kind>(port: &impl Port<K>) -> Result<Next, Refusal> {
    let Some(seen) = port.seen() else {
        return Ok(Next::default());
    };
    match port.status_write() {
        StatusWrite::None => {}
        StatusWrite::Failed(refusal) => return Err(refusal),
        StatusWrite::Sent(sent) => {
            let starts = K::meanwhile(&seen, &sent).into_iter().map(Write::Make);
            let batch = Batch::independent(starts);
            let done = carry_out::carry_out(port, &seen, vec![batch]).await;
            // The end of the write of the status triggers the reconcile that reports the refusals.
            return done.failure.map_or(Ok(Next::default()), Err);
        }
    }
    let plan = K::plan(&seen);
    let done = carry_out::carry_out(port, &seen, K::batches(&seen, &plan)).await;
    if let Some(failure) = done.failure.clone().filter(|_| done.is_cut_short) {
        // What there is now is no end of the sequence: the reconcile that ends it concludes.
        return Err(failure);
    }
    let seen = port.seen_again(seen);
    let asked = match K::question(&seen) {
        Some(question) => {
            let asked = port.ask(&question).await;
            Asked {
                question: Some(question),
                ..asked
            }
        }
        None => Asked::default(),
    };
    let conclusion = K::conclude(&seen, &plan, &done, &asked);
    let mut next = conclusion.map_or_else(Next::default, |found| port.report(&seen, found));
    next.retry |= done.may_be_granted();
    done.failure.map_or(Ok(next), Err)
}
