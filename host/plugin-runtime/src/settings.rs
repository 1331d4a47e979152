//! Checks an action's settings against the schema that the action declared in `setup`.
//!
//! `schema` checks the limits of the schema. The validator is a library, so it runs in a child process, as
//! compiling does: its memory and time are the child's.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use jsonschema::{Draft, PatternOptions};
use operon_compiled_code::{ChildError, ChildLimits, ChildProgram, run_child};
use operon_core::action::LoadError;
use serde_json::Value;

use crate::{
    child::{self, ChildArguments, Complaint},
    limits::{MISTAKE_BYTES, PATTERN_BYTES, SCHEMA_BYTES, SETTINGS_BYTES},
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

/// Checks settings in a child process.
///
/// Errors: `BadSettings` if the schema can't be used, or the settings violate it; `SettingsCheckFailed`,
/// which may be temporary, if the child could not do its work.
pub(crate) async fn check(
    program: &ChildProgram,
    schema: &Value,
    settings: &Value,
) -> Result<(), LoadError> {
    if schema.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(());
    }
    schema::check(schema).map_err(|why| world::refusal("BadSettings", unusable(&why)))?;
    let input = format!("{schema}\n{settings}");
    let arguments: [OsString; 1] = ["check-settings".into()];
    match run_child(program, &arguments, input.as_bytes(), &LIMITS).await {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(&error)),
    }
}

fn unusable(why: &str) -> String {
    format!("the action's settings schema can't be used: {why}")
}

/// What the author of the action, or who runs the host, can do about a failure.
fn explain(error: &ChildError) -> LoadError {
    const CHECK: &str = "the check of spec.settings against the action's schema";
    let (reason, transient) = match error {
        ChildError::Refused(_)
        | ChildError::Memory { .. }
        | ChildError::CpuTime { .. }
        | ChildError::Output { .. } => ("BadSettings", false),
        ChildError::WallTime { .. }
        | ChildError::Killed
        | ChildError::Run { .. }
        | ChildError::Failed { .. } => ("SettingsCheckFailed", true),
    };
    let message = match error {
        ChildError::Refused(text) => text.clone(),
        ChildError::Run { source, .. } => format!("{CHECK} {error}: {source}"),
        ChildError::Memory { .. } | ChildError::CpuTime { .. } => {
            format!("{CHECK} {error}; make the schema simpler or the settings shorter")
        }
        ChildError::WallTime { .. }
        | ChildError::Output { .. }
        | ChildError::Killed
        | ChildError::Failed { .. } => format!("{CHECK} {error}"),
    };
    LoadError {
        reason,
        message,
        transient,
    }
}

/// The child's whole life: limits itself, then checks the second line of standard input against the first.
///
/// Guarantees: the status is zero only if the settings are valid. The reason is on standard error
/// otherwise.
pub fn check_settings_child(limits: ChildArguments) -> ExitCode {
    child::live(limits, || {
        let input = child::input(SCHEMA_BYTES + SETTINGS_BYTES)?;
        let mut values = serde_json::Deserializer::from_slice(&input).into_iter::<Value>();
        let mut next = || match values.next() {
            Some(value) => value.map_err(|error| Complaint::from(("read the input", error))),
            None => Err(Complaint::broken("the input ends early".to_owned())),
        };
        mistake(&next()?, &next()?).map_or(Ok(()), |text| Err(Complaint::refused(text)))
    })
}

/// The error of the schema, or the first place where the settings violate it.
///
/// One mistake at a time: the library collects all requested errors before it returns the first.
fn mistake(schema: &Value, settings: &Value) -> Option<String> {
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
        Err(error) => return Some(unusable(&one_line(&error.to_string(), MISTAKE_BYTES))),
    };
    let mistake = validator.validate(settings).err()?;
    let place = path(mistake.instance_path().as_str());
    let text = format!("spec.settings{place}: {mistake}");
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
        assert_eq!(mistake(&schema, &json!({"steps": [{"seconds": 1}]})), None);
        let broken = mistake(&schema, &json!({"steps": [{}, {"seconds": "two"}]}));
        let message = "spec.settings.steps[1].seconds: \"two\" is not of type \"integer\"";
        assert_eq!(broken.as_deref(), Some(message));
    }

    #[test]
    fn a_schema_that_is_none_is_named() {
        for schema in [
            json!({"type": "nonsense"}),
            json!({"pattern": "(a{1000}){1000}"}),
            json!({"pattern": "("}),
            json!([]),
        ] {
            let refused = mistake(&schema, &json!({}));
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
        assert_eq!(mistake(&schema, &json!({"at": "tomorrow"})), None);
    }

    #[test]
    fn a_mistake_is_one_short_line() {
        let schema = json!({"additionalProperties": {"type": "string"}});
        let text = mistake(&schema, &json!({"a\nb": vec![1; 100_000]})).unwrap_or_default();
        assert!(text.starts_with("spec.settings.a b: "), "{text}");
        assert!(text.len() <= MISTAKE_BYTES + '…'.len_utf8());
    }
}
