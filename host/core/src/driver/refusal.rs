//! What the API server answered to a request that was not carried out, and the class that decides
//! whether and when the request is repeated.

use kube::core::{Status, response::StatusCause};

use super::Start;
use crate::action::Failure;

/// A request that was not carried out, or whose answer was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status code; 0 if there was no answer.
    pub code: u16,
    /// One CamelCase word.
    pub reason: String,
    /// What was tried, and what the API server said.
    pub message: String,
    /// How it is repeated.
    pub class: Class,
}

/// How a request that was not carried out is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The object changed meanwhile: soon.
    Conflict,
    /// An object of this name exists: after that object has been read.
    Exists,
    /// The object is not there any more: not at all.
    Gone,
    /// A field is wrong: only after a change of the object.
    Invalid,
    /// A permission, a policy, a quota or a webhook refused the request: with backoff, because the request
    /// may be granted later, and nothing reports when.
    Denied,
    /// There was no answer, or none that decides: with backoff.
    Unavailable,
}

crate::words!(Class {
    Conflict => "conflict",
    Exists => "exists",
    Gone => "gone",
    Invalid => "invalid",
    Denied => "denied",
    Unavailable => "unavailable",
});

impl Class {
    /// The class of an answer.
    ///
    /// An admission policy denies with a 422 too, so a 422 is final only if each of its causes names a
    /// field. A webhook that cannot be reached is a 500.
    pub fn of(status: &Status) -> Self {
        match status.code {
            409 if status.reason == "AlreadyExists" => Self::Exists,
            409 => Self::Conflict,
            404 | 410 => Self::Gone,
            422 if is_another(status) => Self::Conflict,
            422 if names_fields(status) => Self::Invalid,
            405 | 413 | 415 => Self::Invalid,
            400 | 403 | 422 | 500 => Self::Denied,
            _ => Self::Unavailable,
        }
    }
}

impl Refusal {
    /// The answer to what was tried, such as `failed to create Job shop/a`.
    pub fn answered(tried: &str, status: &Status) -> Self {
        let said = if status.message.is_empty() {
            &status.reason
        } else {
            &status.message
        };
        let reason = match Class::of(status) {
            Class::Conflict => "Conflict",
            _ if status.reason.is_empty() => "RequestFailed",
            _ => &status.reason,
        };
        Self {
            code: status.code,
            reason: reason.to_owned(),
            message: format!("{tried}: {said}"),
            class: Class::of(status),
        }
    }

    /// A request without an answer.
    pub fn unanswered(reason: &str, message: String) -> Self {
        Self {
            code: 0,
            reason: reason.to_owned(),
            message,
            class: Class::Unavailable,
        }
    }

    /// An object that cannot be created because other objects have all of its names.
    pub(super) fn names_taken(start: &Start) -> Self {
        let kind = start.body["kind"].as_str().unwrap_or_default();
        let names = start.names.join(", ");
        Self {
            code: 409,
            reason: "NamesTaken".to_owned(),
            message: format!(
                "failed to create a {kind}: objects of other owners have all of its possible names: {names}"
            ),
            class: Class::Denied,
        }
    }

    /// The same of a read. No webhook takes part in one, so a 500 decides nothing.
    pub(super) fn of_read(self) -> Self {
        let class = match self.class {
            Class::Denied if self.code == 500 => Class::Unavailable,
            class => class,
        };
        Self { class, ..self }
    }

    /// Whether this is an answer that people must know of.
    pub fn is_refused(&self) -> bool {
        match self.class {
            Class::Invalid | Class::Denied => true,
            Class::Conflict | Class::Exists | Class::Gone | Class::Unavailable => false,
        }
    }
}

impl From<&Refusal> for Failure {
    fn from(refusal: &Refusal) -> Self {
        Self::new(&*refusal.reason, &*refusal.message)
    }
}

fn causes(status: &Status) -> &[StatusCause] {
    let details = status.details.as_ref();
    details.map_or(&[], |details| details.causes.as_slice())
}

/// Whether each of the causes names a field, and there is one.
fn names_fields(status: &Status) -> bool {
    let causes = causes(status);
    !causes.is_empty() && causes.iter().all(|cause| !cause.field.is_empty())
}

/// Whether the object of this name was replaced by another. Then a patch that names a uid is refused as
/// invalid, because a uid "can't be changed"; so is a JSON patch with a failed `test` of the uid.
fn is_another(status: &Status) -> bool {
    causes(status)
        .iter()
        .any(|cause| cause.field == "metadata.uid")
        || status.message.ends_with("test failed")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(status: Value) -> Status {
        serde_json::from_value(status).expect("a Status")
    }

    #[test]
    fn only_a_refusal_that_names_fields_is_final() {
        let causes = |causes: Value| json!({"code": 422, "reason": "Invalid", "message": "no", "details": {"causes": causes}});
        let field = |field: &str| json!({"reason": "FieldValueInvalid", "field": field});
        let table = [
            (causes(json!([field("spec.x")])), Class::Invalid),
            (
                causes(json!([field("spec.x"), field("spec.y")])),
                Class::Invalid,
            ),
            // An admission policy, which can be mended.
            (causes(json!([field("spec.x"), field("")])), Class::Denied),
            (causes(json!([])), Class::Denied),
            (json!({"code": 400, "reason": "BadRequest"}), Class::Denied),
            (json!({"code": 403, "reason": "Forbidden"}), Class::Denied),
            (
                json!({"code": 500, "reason": "InternalError"}),
                Class::Denied,
            ),
            (causes(json!([field("metadata.uid")])), Class::Conflict),
            (json!({"code": 409, "reason": "Conflict"}), Class::Conflict),
            (
                json!({"code": 409, "reason": "AlreadyExists"}),
                Class::Exists,
            ),
            (json!({"code": 404, "reason": "NotFound"}), Class::Gone),
            (
                json!({"code": 413, "reason": "RequestEntityTooLarge"}),
                Class::Invalid,
            ),
            (
                json!({"code": 429, "reason": "TooManyRequests"}),
                Class::Unavailable,
            ),
            (
                json!({"code": 503, "reason": "ServiceUnavailable"}),
                Class::Unavailable,
            ),
            (
                json!({"code": 504, "reason": "Timeout"}),
                Class::Unavailable,
            ),
        ];
        for (answer, class) in table {
            assert_eq!(Class::of(&status(answer.clone())), class, "{answer}");
        }
    }

    #[test]
    fn a_json_patch_whose_test_failed_is_a_conflict() {
        let failed = json!({"code": 422, "reason": "Invalid", "message": "jsonpatch test failed"});
        let refusal = Refusal::answered("failed to patch Pod shop/a", &status(failed));
        assert_eq!(refusal.class, Class::Conflict);
        assert_eq!(refusal.reason, "Conflict");
    }

    #[test]
    fn a_refusal_says_what_was_tried_and_what_the_api_server_said() {
        let denied = json!({"code": 403, "reason": "Forbidden", "message": "quota exceeded"});
        let refusal = Refusal::answered("failed to create Job shop/a", &status(denied));
        assert_eq!(refusal.reason, "Forbidden");
        assert_eq!(
            refusal.message,
            "failed to create Job shop/a: quota exceeded"
        );
    }
}
