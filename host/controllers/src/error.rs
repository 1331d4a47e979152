//! The errors of a reconcile, and the class that decides how it is tried again.

pub use operon_core::driver::Class;
use operon_core::{
    action::{ActionError, Failure, guard::Refused},
    driver::Refusal,
};

/// A reconcile, or a step of it, that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A write to the API server.
    #[error("failed to {verb} {object}")]
    Write {
        /// `patch`, `create`, …
        verb: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// The error of the API server or of the connection.
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
        /// The answer of the API server.
        #[source]
        source: Option<kube::Error>,
    },
    /// What the driver could not write.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An object that must exist for an effect to be performed does not, or has changed.
    #[error("{object} {state}")]
    Requirement {
        /// Kind, namespace and name.
        object: String,
        /// The error.
        state: &'static str,
    },
    /// A kind without namespaces.
    #[error(
        "kind {kind:?} of {api_version:?} is not namespaced, so it is outside the job's namespace"
    )]
    ClusterScoped {
        /// `v1`, `apps/v1`
        api_version: String,
        /// `Node`
        kind: String,
    },
    /// An effect that the host does not perform, whatever RBAC grants.
    #[error("the host refuses to {verb} {object}")]
    EffectRefused {
        /// `patch`, `create`, …
        verb: &'static str,
        /// Kind, namespace and name.
        object: String,
        /// The field, and the rule.
        #[source]
        refused: Refused,
    },
    /// An effect that no API server would understand.
    #[error("failed to read the effect: {message}")]
    Effect {
        /// The error.
        message: String,
    },
}

impl Error {
    /// How the request is repeated.
    pub fn class(&self) -> Class {
        match self {
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } => Class::of(status),
            Self::Write { .. }
            | Self::Timeout { .. }
            | Self::Requirement { .. }
            | Self::UnknownKind {
                source: Some(_), ..
            } => Class::Unavailable,
            Self::UnknownKind { source: None, .. }
            | Self::ClusterScoped { .. }
            | Self::EffectRefused { .. }
            | Self::Effect { .. } => Class::Invalid,
            Self::Refused(refusal) => refusal.class,
        }
    }

    /// Whether the API server has decided about the request. A conflict is no decision, nor is the answer of an API
    /// server that is busy, or none.
    pub fn is_decision(&self) -> bool {
        match self.class() {
            Class::Exists | Class::Gone | Class::Invalid => true,
            // A webhook that cannot be reached is a refusal too.
            Class::Denied => !self.is_unanswered(),
            Class::Unavailable => self.reason() == DISRUPTION_BUDGET,
            Class::Conflict => false,
        }
    }

    /// The CamelCase reason that the API server gave, or one of ours.
    pub fn reason(&self) -> String {
        match self {
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } if budget(status).is_some() => DISRUPTION_BUDGET.to_owned(),
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } => Refusal::answered("", status).reason,
            Self::Write { .. } => "RequestFailed".to_owned(),
            Self::Timeout { .. } => "RequestTimeout".to_owned(),
            Self::Requirement { .. } => "Conflict".to_owned(),
            Self::UnknownKind { .. } => "UnknownKind".to_owned(),
            Self::ClusterScoped { .. } | Self::EffectRefused { .. } => "EffectRefused".to_owned(),
            Self::Effect { .. } => "InvalidEffect".to_owned(),
            Self::Refused(refusal) => refusal.reason.clone(),
        }
    }

    /// This error as the answer to a request.
    pub fn into_refusal(self) -> Refusal {
        match &self {
            Self::Refused(refusal) => refusal.clone(),
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } => Refusal::answered(&self.to_string(), status),
            Self::Write { .. }
            | Self::Timeout { .. }
            | Self::Requirement { .. }
            | Self::UnknownKind { .. }
            | Self::ClusterScoped { .. }
            | Self::EffectRefused { .. }
            | Self::Effect { .. } => Refusal {
                code: 0,
                class: self.class(),
                reason: self.reason(),
                message: self.chain(),
            },
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
                let budget = budget(status).filter(|cause| !cause.is_empty());
                let budget = budget.map_or(String::new(), |cause| format!(" {cause}"));
                return format!("{text}: {said}{budget}");
            }
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }

    /// Whether the API server answered that it does not serve a kind.
    pub(crate) fn is_not_served(&self) -> bool {
        match self {
            Self::UnknownKind { source, .. } => match source {
                Some(kube::Error::Api(status)) => status.code == 404,
                Some(kube::Error::Discovery(_)) | None => true,
                Some(_) => false,
            },
            Self::Write { .. }
            | Self::Timeout { .. }
            | Self::Requirement { .. }
            | Self::ClusterScoped { .. }
            | Self::EffectRefused { .. }
            | Self::Effect { .. }
            | Self::Refused(_) => false,
        }
    }

    /// Whether it is unknown if the request was carried out.
    pub(crate) fn is_unanswered(&self) -> bool {
        match self {
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } => status.code >= 500,
            Self::Write { .. } | Self::Timeout { .. } => true,
            Self::UnknownKind { .. }
            | Self::Refused(_)
            | Self::Requirement { .. }
            | Self::ClusterScoped { .. }
            | Self::EffectRefused { .. }
            | Self::Effect { .. } => false,
        }
    }

    /// Whether the API server answered with a 403. That may come of RBAC, a quota, a policy or a webhook.
    pub(crate) fn is_forbidden(&self) -> bool {
        match self {
            Self::Write {
                source: kube::Error::Api(status),
                ..
            } => status.code == 403,
            Self::Write { .. }
            | Self::Timeout { .. }
            | Self::UnknownKind { .. }
            | Self::Refused(_)
            | Self::Requirement { .. }
            | Self::ClusterScoped { .. }
            | Self::EffectRefused { .. }
            | Self::Effect { .. } => false,
        }
    }

    /// This error as the error of a target whose effect could not be performed. `is_granted` is whether
    /// RBAC grants the request; any other refusal may be lifted later.
    pub(crate) fn into_action_error(self, is_granted: bool) -> ActionError {
        let failure = Failure::new(self.reason(), self.chain());
        match self.class() {
            Class::Invalid => ActionError::Terminal(failure),
            Class::Denied if !is_granted => ActionError::Terminal(failure),
            Class::Denied | Class::Conflict | Class::Exists | Class::Gone | Class::Unavailable => {
                ActionError::Retry(failure, None)
            }
        }
    }
}

/// The cause that the API server sets when a budget refuses an eviction. Throttling, which has the same
/// code, has none.
const DISRUPTION_BUDGET: &str = "DisruptionBudget";

/// The API server's message about the budget that refuses an eviction: its name, and the healthy pods that
/// it needs.
fn budget(status: &kube::core::Status) -> Option<&str> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let mut causes = causes.filter(|cause| cause.reason == DISRUPTION_BUDGET);
    causes.next().map(|cause| cause.message.as_str())
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
    fn a_budget_that_refuses_an_eviction_is_named_and_is_no_throttling() {
        let needs = "The disruption budget web needs 2 healthy pods and has 2 currently";
        let refusal = |causes: Value| {
            refused(json!({
                "code": 429, "reason": "TooManyRequests", "message": "Cannot evict pod.",
                "details": {"causes": causes}
            }))
        };
        let budget = refusal(json!([{"reason": "DisruptionBudget", "message": needs}]));
        assert_eq!(budget.reason(), "DisruptionBudget");
        assert_eq!(budget.class(), Class::Unavailable);
        assert!(budget.chain().ends_with(needs), "{}", budget.chain());
        assert_eq!(refusal(json!([])).reason(), "TooManyRequests");
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
