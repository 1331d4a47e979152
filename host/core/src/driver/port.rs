//! What the driver needs of the world: caches to read, an API server to write to.

use std::{future::Future, sync::Arc};

use serde_json::Value;

use super::{Asked, Conclusion, Kind, Next, Question, Refusal};
use crate::action::{Effect, ObjectReference};

/// The world as one reconcile of an object of kind `K` sees it.
pub trait Port<K: Kind>: Sync {
    /// What the caches hold now; none if the object is not there any more.
    fn seen(&self) -> Option<K::Seen>;

    /// What the caches hold now about the same version of the object: one reconcile works on one spec.
    fn seen_again(&self, before: K::Seen) -> K::Seen;

    /// An object as the caches hold it, if they do.
    fn known(&self, object: &ObjectReference) -> Option<Value>;

    /// An object as the API server holds it. The caches take it over.
    fn get(&self, object: &ObjectReference) -> impl Future<Output = Result<Value, Refusal>> + Send;

    /// Performs a write, and passes the answer to the caches. Returns the object as it is now; `null` if
    /// there is none.
    fn perform(&self, effect: &Effect) -> impl Future<Output = Result<Value, Refusal>> + Send;

    /// Reads from the API server what the caches do not hold.
    fn ask(&self, question: &Question) -> impl Future<Output = Asked> + Send;

    /// Where the last write of the status is. A failure is returned once.
    fn status_write(&self) -> StatusWrite<K::Status>;

    /// Starts to write the status, if it differs and its time has come. When it is written, the cache gets
    /// it, then the Events are sent, and the object is reconciled again. If the object has another
    /// status by now than it was decided from, nothing is written: the object is reconciled again.
    fn report(&self, seen: &K::Seen, conclusion: Conclusion<K::Status>) -> Next;
}

/// Where the last write of the status is.
#[derive(Clone, Debug)]
pub enum StatusWrite<S> {
    /// There is none, or it is done.
    None,
    /// This status has been sent and is not answered.
    Sent(Arc<S>),
    /// It failed. That the object has another status by now is no failure.
    Failed(Refusal),
}
