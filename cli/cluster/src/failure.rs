//! Requests that failed, in words that say what to do.

use std::{fmt, time::Duration};

use anyhow::anyhow;
use kube::{client::AuthError, runtime::watcher};
use operon_cli_model::Kind;

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// The API server refused it.
    Refused {
        /// The HTTP status.
        code: u16,
        /// Why, in the words of the API server.
        message: String,
        /// The name of the object; empty if the request was about a kind.
        about: String,
    },
    /// There was no answer in time.
    NoAnswer(Duration),
    /// The cluster cannot be reached.
    Unreachable(String),
    /// Logging in failed.
    Login(String),
    /// The answer cannot be read.
    Unreadable(anyhow::Error),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                code: status.code,
                about: status
                    .details
                    .as_ref()
                    .map(|about| about.name.clone())
                    .unwrap_or_default(),
                message: status.message.clone(),
            },
            kube::Error::SerdeError(cause) => Self::Unreadable(
                anyhow::Error::new(cause).context("the answer is not that of a Kubernetes cluster"),
            ),
            other => {
                let other = anyhow::Error::from(other);
                match other
                    .chain()
                    .find_map(|cause| cause.downcast_ref::<AuthError>())
                {
                    Some(login) => Self::Login(refused_login(login)),
                    // The errors above the first cause repeat it in their own texts.
                    None => Self::Unreachable(other.root_cause().to_string()),
                }
            }
        }
    }
}

/// Why logging in failed. Of a command, what it wrote to standard error says most.
fn refused_login(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { cmd, out, .. } => {
            let errors = String::from_utf8_lossy(&out.stderr);
            format!("{cmd} of the kubeconfig failed: {}", errors.trim())
        }
        other => other.to_string(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code: 401, .. } => {
                write!(
                    out,
                    "the cluster does not accept the credentials; they may have expired: log in again"
                )
            }
            Self::Refused {
                code: 403, message, ..
            } => {
                write!(out, "{message}; ask an administrator for this right")
            }
            Self::Refused { code: 409, .. } => {
                write!(out, "the object changed meanwhile; run the command again")
            }
            Self::Refused { message, .. } => write!(out, "{message}"),
            Self::NoAnswer(limit) => write!(
                out,
                "the cluster did not answer within {} s",
                limit.as_secs()
            ),
            Self::Unreachable(cause) => write!(
                out,
                "the cluster cannot be reached: {cause}; check --context and --kubeconfig, as for kubectl"
            ),
            Self::Login(cause) => write!(
                out,
                "logging in failed: {cause}; log in again, as for kubectl"
            ),
            Self::Unreadable(cause) => write!(out, "{cause:#}"),
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Why a watch cannot go on; none if it was only interrupted, and is started again.
    pub fn of_watch(error: watcher::Error) -> Option<Self> {
        match error {
            watcher::Error::InitialListFailed(cause) | watcher::Error::WatchStartFailed(cause) => {
                Some(Self::from(cause))
            }
            watcher::Error::WatchError(_)
            | watcher::Error::WatchFailed(_)
            | watcher::Error::NoResourceVersion => None,
        }
    }

    /// Whether the API server does not know the kind.
    pub fn is_unknown_kind(&self) -> bool {
        matches!(self, Self::Refused { code: 404, about, .. } if about.is_empty())
    }

    /// The HTTP status of the API server; none if it did not answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::NoAnswer(_) | Self::Unreachable(_) | Self::Login(_) | Self::Unreadable(_) => None,
        }
    }

    /// Whether the API server may have done what was requested.
    pub fn may_be_done(&self) -> bool {
        match self {
            // Of a proxy before the API server, or of the API server while it or its store is still at work.
            Self::Refused { code, .. } => matches!(code, 500 | 502 | 504),
            Self::NoAnswer(_) | Self::Unreachable(_) | Self::Unreadable(_) => true,
            Self::Login(_) => false,
        }
    }

    /// Whether every other request would fail likewise.
    pub fn is_of_all_requests(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code == 401,
            Self::NoAnswer(_) | Self::Unreachable(_) | Self::Login(_) => true,
            Self::Unreadable(_) => false,
        }
    }
}

/// The error of a request about an object that does not exist.
#[derive(Debug)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// The error with this text.
    pub fn error(text: String) -> anyhow::Error {
        anyhow::Error::new(Self(text))
    }
}

/// The error of a request about an object.
pub fn explained(failure: Failure, verb: &str, what: &str, kind: Kind) -> anyhow::Error {
    if failure.is_unknown_kind() {
        return anyhow!(
            "the cluster does not serve {}s: Operon's CRDs are not installed; `kubectl apply --server-side -f crds/` installs them",
            kind.name()
        );
    }
    match failure {
        Failure::Refused { code: 404, .. } => Missing::error(format!(
            "there is no {what}; `kubectl get {} -A` lists those that exist",
            kind.plural()
        )),
        failure => anyhow!("failed to {verb} {what}: {failure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, about: &str) -> Failure {
        Failure::Refused {
            code,
            message: "no".to_owned(),
            about: about.to_owned(),
        }
    }

    #[test]
    fn each_failure_says_what_to_do() {
        let table = [
            (refused(401, ""), "log in again"),
            (refused(403, "x"), "ask an administrator"),
            (refused(404, "x"), "kubectl get operationjobs -A"),
            (refused(404, ""), "kubectl apply --server-side -f crds/"),
            (refused(409, "x"), "run the command again"),
            (Failure::NoAnswer(Duration::from_secs(20)), "within 20 s"),
            (
                Failure::Unreachable("refused".to_owned()),
                "cannot be reached",
            ),
        ];
        for (failure, expected) in table {
            let text =
                explained(failure, "read", "OperationJob \"x\"", Kind::OperationJob).to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
