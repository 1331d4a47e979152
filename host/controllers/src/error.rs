//! What can go wrong in a pass, and the class that decides how it is tried again.

use operon_core::action::{ActionError, Failure};

/// A pass, or a step of it, that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write to the API server.
    #[error("failed to {verb} {object}")]
    Write {
        /// `patch`, `create`, …
        verb: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// What the API server or the connection said.
        #[source]
        source: kube::Error,
    },
    /// A request that took too long.
    #[error("failed to {verb} {object} within {seconds} s")]
    Timeout {
        /// `patch`, `create`, …
        verb: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// The limit.
        seconds: u64,
    },
    /// A kind that the API server does not serve.
    #[error(
        "failed to find kind {kind:?} of {api_version:?}; is its CustomResourceDefinition installed?"
    )]
    UnknownKind {
        /// `v1`, `apps/v1`
        api_version: String,
        /// `Pod`
        kind: String,
        /// What the API server said.
        #[source]
        source: Option<kube::Error>,
    },
    /// An effect that no API server would understand.
    #[error("failed to read the effect: {message}")]
    Effect {
        /// What is wrong with it.
        message: String,
    },
}

/// How an error is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The object changed meanwhile: look again soon.
    Conflict,
    /// The object is gone.
    Gone,
    /// Asking again may help.
    Transient,
    /// Only a change of the object, or of a permission, helps.
    Terminal,
}

impl Class {
    /// The class as metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Transient => "transient",
            Self::Terminal => "terminal",
        }
    }
}

impl Error {
    /// How this error is tried again.
    pub fn class(&self) -> Class {
        match self {
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } => match status.code {
                409 => Class::Conflict,
                422 if is_another(status) => Class::Conflict,
                404 | 410 => Class::Gone,
                400 | 403 | 405 | 413 | 415 | 422 => Class::Terminal,
                _ => Class::Transient,
            },
            Self::Write { .. }
            | Self::Timeout { .. }
            | Self::UnknownKind {
                source: Some(_), ..
            } => Class::Transient,
            Self::UnknownKind { source: None, .. } | Self::Effect { .. } => Class::Terminal,
        }
    }

    /// The CamelCase reason that the API server gave, or one of ours.
    pub fn reason(&self) -> String {
        match self {
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } if is_another(status) => "Conflict".to_owned(),
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } if !status.reason.is_empty() => status.reason.clone(),
            Self::Write { .. } => "RequestFailed".to_owned(),
            Self::Timeout { .. } => "RequestTimeout".to_owned(),
            Self::UnknownKind { .. } => "UnknownKind".to_owned(),
            Self::Effect { .. } => "InvalidEffect".to_owned(),
        }
    }

    /// This error and its causes in one line. Of a refusal it is the API server's own sentence:
    /// kube's text for it has the whole answer, twice.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
                let said = if status.message.is_empty() {
                    &status.reason
                } else {
                    &status.message
                };
                return format!("{text}: {said}");
            }
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// This error as the error of a target whose effect could not be performed.
    pub fn into_action_error(self) -> ActionError {
        let failure = Failure::new(self.reason(), self.chain());
        match self.class() {
            Class::Terminal => ActionError::Terminal(failure),
            Class::Conflict | Class::Gone | Class::Transient => ActionError::Retry(failure, None),
        }
    }
}

/// A patch that names a uid is refused as invalid, not as a conflict, if the object of that name is
/// another by now: its uid "can't be changed". So is a JSON patch whose `test` of it failed.
fn is_another(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.field == "metadata.uid")
        || (status.code == 422 && status.message.ends_with("test failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(status: Value) -> Error {
        let status: kube::core::Status = serde_json::from_value(status).expect("a Status");
        let source = kube::Error::Api(Box::new(status));
        Error::Write {
            verb: "patch",
            object: "Pod shop/web-0".to_owned(),
            source,
        }
    }

    #[test]
    fn a_uid_that_is_another_by_now_is_a_conflict_and_no_invalid_object() {
        let invalid = |field: &str| {
            refused(json!({
                "code": 422, "reason": "Invalid", "message": "is invalid",
                "details": {"causes": [{"reason": "FieldValueInvalid", "field": field}]}
            }))
        };
        let (uid, image) = (invalid("metadata.uid"), invalid("spec.containers[0].image"));
        assert_eq!(
            (uid.class(), uid.reason().as_str()),
            (Class::Conflict, "Conflict")
        );
        assert_eq!(
            (image.class(), image.reason().as_str()),
            (Class::Terminal, "Invalid")
        );
    }

    #[test]
    fn a_refusal_is_told_once_in_the_api_servers_words() {
        let message = "pods \"web-0\" is forbidden: User \"u\" cannot patch it";
        let error = refused(json!({"code": 403, "reason": "Forbidden", "message": message}));
        assert_eq!(
            error.chain(),
            format!("failed to patch Pod shop/web-0: {message}")
        );
    }
}
