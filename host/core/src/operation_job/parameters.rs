//! The parameters of a job: checked before the first target starts, and the same for all targets. Pure.
//!
//! A schema without fields of its own can't have a rule that its content does not change, so the status keeps
//! the digest of the parameters with which the job was first seen.

use operon_api::{OperationJob, operation_job::MOST_PARAMETERS};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Observed;
use crate::action::{Failure, LoadError};

/// What is known of the parameters of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// The action accepts them, or has accepted them before a target started.
    #[default]
    Accepted,
    /// They violate the schema of the action.
    Refused(Failure),
    /// They could not be checked; a later attempt may succeed.
    Unchecked(Failure),
}

impl Parameters {
    /// The outcome of a check.
    pub fn of(checked: Result<(), LoadError>) -> Self {
        match checked {
            Ok(()) => Self::Accepted,
            Err(LoadError {
                reason,
                message,
                transient: true,
            }) => Self::Unchecked(Failure::new(reason, message)),
            Err(LoadError {
                reason,
                message,
                transient: false,
            }) => Self::Refused(Failure::new(reason, message)),
        }
    }
}

/// The parameters as JSON, if the action must check them: a target may start, and none has started yet.
///
/// Errors: `BadParameters` if there are too many bytes of them.
pub fn to_check(job: &OperationJob) -> Result<Option<Value>, Failure> {
    let has_finished = job.status.as_ref().is_some_and(|s| s.end_time.is_some());
    if has_finished || job.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let details = job.status.iter().flat_map(|status| &status.target_details);
    if details
        .into_iter()
        .any(|detail| detail.start_time.is_some())
    {
        return Ok(None);
    }
    let parameters = Value::Object(job.spec.parameters.clone());
    let size = parameters.to_string().len();
    if size > MOST_PARAMETERS {
        return Err(Failure::new(
            "BadParameters",
            format!(
                "spec.parameters has {size} bytes as JSON; at most {MOST_PARAMETERS} bytes are allowed"
            ),
        ));
    }
    Ok(Some(parameters))
}

/// The digest of the parameters; none if there are none.
pub(super) fn digest(job: &OperationJob) -> Option<String> {
    let parameters = &job.spec.parameters;
    if parameters.is_empty() {
        return None;
    }
    let text = Value::Object(parameters.clone()).to_string();
    let digest = Sha256::digest(text.as_bytes());
    let digits = digest.iter().take(8);
    Some(digits.fold(String::new(), |digits, byte| format!("{digits}{byte:02x}")))
}

/// What every target waits for if the parameters were changed.
pub(super) fn changed(observed: &Observed<'_>) -> Option<Failure> {
    let status = observed.job.status.as_ref()?;
    status.start_time.as_ref()?;
    (status.parameters_digest != digest(observed.job)).then(|| {
        Failure::new(
            "ParametersChanged",
            "spec.parameters was changed after the job was created, and no target is operated with other \
             parameters: put the previous ones back, or delete the job and create another one",
        )
    })
}
