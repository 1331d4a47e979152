//! What an action can read: the trait, implemented here by the host's imports and in `testing` by the
//! fake cluster. Only the target's pod and kinds that `setup` declared, only the job's namespace, and never a
//! write.

use serde_json::Value;

use crate::bindings::operon::action::cluster;
use crate::{ActionError, JobState, ObjectReference, Pod, ReadError};

/// The cluster as the host's stores have it: reading costs no request to the API server, and may be
/// a moment behind it.
pub trait Cluster {
    /// The whole object as JSON; none if it does not exist.
    fn get(&self, object: &ObjectReference) -> Result<Option<Value>, ReadError>;

    /// All objects of a kind that a label selector (`app=foo,tier in (a,b)`) matches.
    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<Value>, ReadError>;

    /// All pods that a label selector matches. Cheaper than [`find`](Self::find).
    fn find_pods(&self, label_selector: &str) -> Result<Vec<Pod>, ReadError>;

    /// The state of the `OperationJob` with this uid.
    fn find_job(&self, uid: &str) -> Result<JobState, ReadError>;

    /// Whether there is an `OperationJob` with this uid, one that is being deleted included. Another job
    /// may take over what a job that does not exist any more has set up.
    fn job_exists(&self, uid: &str) -> Result<bool, ReadError> {
        Ok(self.find_job(uid)? != JobState::Absent)
    }

    /// The pod of this name.
    fn get_pod(&self, name: &str) -> Result<Option<Pod>, ReadError> {
        let object = self.get(&ObjectReference::new("v1", "Pod", name))?;
        Ok(object.as_ref().and_then(Pod::from_object))
    }
}

/// The host's own stores, through the component's imports.
pub(crate) struct HostCluster;

impl Cluster for HostCluster {
    fn get(&self, object: &ObjectReference) -> Result<Option<Value>, ReadError> {
        Ok(cluster::get(object)?.map(|text| parse(&text)))
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<Value>, ReadError> {
        let found = cluster::find(api_version, kind, label_selector)?;
        Ok(found.iter().map(|text| parse(text)).collect())
    }

    fn find_pods(&self, label_selector: &str) -> Result<Vec<Pod>, ReadError> {
        cluster::find_pods(label_selector)
    }

    fn find_job(&self, uid: &str) -> Result<JobState, ReadError> {
        cluster::find_job(uid)
    }
}

/// The host promises JSON. Should it break that, the object reads as null, which has no field.
fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// A failed read is tried again: a kind may not be watched yet, a store may be refilling.
impl From<ReadError> for ActionError {
    fn from(error: ReadError) -> Self {
        let message = match error {
            ReadError::NotDeclared(kind) => {
                format!("the action read {kind}, which it did not declare in setup")
            }
            ReadError::NotServed(kind) => {
                format!("the API server does not serve {kind}")
            }
            ReadError::BadSelector(selector) => {
                format!("the action read objects with an invalid label selector: {selector}")
            }
            ReadError::TooMuch(what) => {
                format!("the action exceeded the read limits of a call: {what}")
            }
        };
        ActionError::retry("ReadFailed", message)
    }
}
