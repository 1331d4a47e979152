//! Checks an action's settings, and the parameters of its jobs, against the schemas that the action declared
//! in `setup`.
//!
//! `schema` checks the limits of the schema. The validator is a library, so it runs in a child process, as
//! compiling does: its memory and time are the child's.

mod checker;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use jsonschema::{Draft, PatternOptions};
use operon_compiled_code::{ChildError, ChildLimits, ChildProgram, run_child};
use operon_core::action::LoadError;
use serde_json::Value;

pub(crate) use self::checker::Checker;
use crate::{
    child::{self, ChildArguments, Complaint},
    limits::{MISTAKE_BYTES, PATTERN_BYTES, SCHEMA_BYTES, VALUE_BYTES},
    log::one_line,
    schema, world,
};

/// What one check may use.
const LIMITS: ChildLimits = ChildLimits {
    memory: 256 << 20,
    cpu: Duration::from_secs(2),
    wall: Duration::from_secs(30),
    output: 0,
};

/// What is checked against a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The settings of an ActionPlugin.
    Settings,
    /// The parameters of an OperationJob.
    Parameters,
}

impl Checked {
    fn word(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Parameters => "parameters",
        }
    }

    fn bad(self) -> &'static str {
        match self {
            Self::Settings => "BadSettings",
            Self::Parameters => "BadParameters",
        }
    }

    fn failed(self) -> &'static str {
        match self {
            Self::Settings => "SettingsCheckFailed",
            Self::Parameters => "ParametersCheckFailed",
        }
    }

    fn unusable(self, why: &str) -> String {
        format!("the action's {} schema can't be used: {why}", self.word())
    }
}

/// Checks a value in a child process.
///
/// Errors: `BadSettings` or `BadParameters` if the schema can't be used, or the value violates it;
/// `SettingsCheckFailed` or `ParametersCheckFailed`, which may be temporary, if the child could not do its
/// work.
async fn check(
    program: &ChildProgram,
    checked: Checked,
    schema: &Value,
    value: &Value,
) -> Result<(), LoadError> {
    let unusable = |why: String| world::refusal(checked.bad(), checked.unusable(&why));
    schema::check(schema).map_err(unusable)?;
    let input = format!("\"{}\"\n{schema}\n{value}", checked.word());
    let arguments: [OsString; 1] = ["check-value".into()];
    match run_child(program, &arguments, input.as_bytes(), &LIMITS).await {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(checked, &error)),
    }
}

/// What the author of the action, or who runs the host, can do about a failure.
fn explain(checked: Checked, error: &ChildError) -> LoadError {
    let word = checked.word();
    let check = format!("the check of spec.{word} against the action's schema");
    let (reason, transient) = match error {
        ChildError::Refused(_)
        | ChildError::Memory { .. }
        | ChildError::CpuTime { .. }
        | ChildError::Output { .. } => (checked.bad(), false),
        ChildError::WallTime { .. }
        | ChildError::Killed
        | ChildError::Run { .. }
        | ChildError::Failed { .. } => (checked.failed(), true),
    };
    let message = match error {
        ChildError::Refused(text) => text.clone(),
        ChildError::Run { source, .. } => format!("{check} {error}: {source}"),
        ChildError::Memory { .. } | ChildError::CpuTime { .. } => {
            format!("{check} {error}; make the schema simpler or the {word} shorter")
        }
        ChildError::WallTime { .. }
        | ChildError::Output { .. }
        | ChildError::Killed
        | ChildError::Failed { .. } => format!("{check} {error}"),
    };
    LoadError {
        reason,
        message,
        transient,
    }
}

/// The child's whole life: limits itself, then checks the third line of standard input against the second. The
/// first says what it is.
///
/// Guarantees: the status is zero only if the value is valid. The reason is on standard error otherwise.
pub fn check_value_child(limits: ChildArguments) -> ExitCode {
    child::live(limits, || {
        let input = child::input(SCHEMA_BYTES + VALUE_BYTES)?;
        let mut values = serde_json::Deserializer::from_slice(&input).into_iter::<Value>();
        let mut next = || match values.next() {
            Some(value) => value.map_err(|error| Complaint::from(("read the input", error))),
            None => Err(Complaint::broken("the input ends early".to_owned())),
        };
        let checked = match next()? {
            Value::String(word) if word == Checked::Parameters.word() => Checked::Parameters,
            _ => Checked::Settings,
        };
        let mistake = mistake(checked, &next()?, &next()?);
        mistake.map_or(Ok(()), |text| Err(Complaint::refused(text)))
    })
}

/// The error of the schema, or the first place where the value violates it.
///
/// One mistake at a time: the library collects all requested errors before it returns the first.
fn mistake(checked: Checked, schema: &Value, value: &Value) -> Option<String> {
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES)
        .dfa_size_limit(PATTERN_BYTES);
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(false)
        .with_pattern_options(patterns)
        .build(schema);
    let validator = match validator {
        Ok(validator) => validator,
        Err(error) => {
            return Some(checked.unusable(&one_line(&error.to_string(), MISTAKE_BYTES)));
        }
    };
    let mistake = validator.validate(value).err()?;
    let place = path(mistake.instance_path().as_str());
    let mistake = match checked {
        // Settings may hold what only the administrators of actions shall know, and the text gets into a status, an
        // Event and the log.
        Checked::Settings => mistake.masked().to_string(),
        Checked::Parameters => mistake.to_string(),
    };
    let text = format!("spec.{}{place}: {mistake}", checked.word());
    Some(one_line(&text, MISTAKE_BYTES))
}

/// A JSON pointer as Kubernetes writes paths: `/a/0/b` is `.a[0].b`.
fn path(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1);
    segments.fold(String::new(), |path, segment| {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        match segment.parse::<usize>() {
            Ok(index) => format!("{path}[{index}]"),
            Err(_) => format!("{path}.{segment}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_break_the_schema_are_named_by_path() {
        let schema = json!({
            "type": "object",
            "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/step"}}},
            "$defs": {"step": {"type": "object", "properties": {"seconds": {"type": "integer"}}}},
        });
        assert_eq!(
            mistake(
                Checked::Settings,
                &schema,
                &json!({"steps": [{"seconds": 1}]})
            ),
            None
        );
        let broken = mistake(
            Checked::Settings,
            &schema,
            &json!({"steps": [{}, {"seconds": "two"}]}),
        );
        let message = "spec.settings.steps[1].seconds: value is not of type \"integer\"";
        assert_eq!(broken.as_deref(), Some(message));
    }

    #[test]
    fn no_value_of_the_settings_is_quoted() {
        let secret = "s3cret";
        for schema in [
            json!({"properties": {"token": {"type": "integer"}}}),
            json!({"properties": {"token": {"minLength": 100}}}),
            json!({"properties": {"token": {"maxLength": 1}}}),
            json!({"properties": {"token": {"pattern": "^[0-9]+$"}}}),
            json!({"properties": {"token": {"const": "other"}}}),
            json!({"properties": {"token": {"enum": ["a", "b"]}}}),
            json!({"properties": {"token": {"not": {"type": "string"}}}}),
            json!({"properties": {"token": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}),
            json!({"properties": {"token": {"oneOf": [{"type": "string"}, {"minLength": 1}]}}}),
            json!({"properties": {"token": false}}),
            json!({"additionalProperties": false}),
            json!({"additionalProperties": {"type": "integer"}}),
            json!({"required": ["other"]}),
            json!({"maxProperties": 1}),
            json!({"dependentRequired": {"token": ["other"]}}),
            json!({"propertyNames": {"maxLength": 2}}),
            json!({"properties": {"list": {"items": {"type": "integer"}}}}),
            json!({"properties": {"list": {"contains": {"type": "integer"}}}}),
            json!({"properties": {"list": {"uniqueItems": true}}}),
            json!({"properties": {"list": {"maxItems": 1}}}),
            json!({"unevaluatedProperties": false}),
        ] {
            let settings = json!({"token": secret, "list": [secret, secret]});
            let told = mistake(Checked::Settings, &schema, &settings);
            let told = told.unwrap_or_default();
            assert!(told.starts_with("spec.settings"), "{schema}: {told}");
            assert!(!told.contains(secret), "{schema}: {told}");
        }
    }

    #[test]
    fn parameters_that_break_the_schema_are_named_as_the_job_writes_them() {
        let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
        let broken = mistake(Checked::Parameters, &schema, &json!({"grace": 3}));
        let broken = broken.unwrap_or_default();
        assert!(broken.starts_with("spec.parameters: "), "{broken}");
        assert!(broken.contains("'grace'"), "{broken}");
    }

    #[test]
    fn a_schema_that_is_none_is_named() {
        for schema in [
            json!({"type": "nonsense"}),
            json!({"pattern": "(a{1000}){1000}"}),
            json!({"pattern": "("}),
            json!([]),
        ] {
            let refused = mistake(Checked::Settings, &schema, &json!({}));
            assert!(
                refused
                    .as_ref()
                    .is_some_and(|why| why.contains("can't be used")),
                "{schema}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_format_says_what_is_meant_and_is_not_checked() {
        let schema = json!({"properties": {"at": {"format": "date-time"}}});
        assert_eq!(
            mistake(Checked::Settings, &schema, &json!({"at": "tomorrow"})),
            None
        );
    }

    #[test]
    fn a_mistake_is_one_short_line() {
        let schema = json!({"additionalProperties": {"type": "string"}});
        let text = mistake(
            Checked::Settings,
            &schema,
            &json!({"a\nb": vec![1; 100_000]}),
        )
        .unwrap_or_default();
        assert!(text.starts_with("spec.settings.a b: "), "{text}");
        assert!(text.len() <= MISTAKE_BYTES + '…'.len_utf8());
    }
}
