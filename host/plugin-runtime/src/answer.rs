//! From the guest's values to the core's: the one place where what a component says is checked.
//!
//! What a person reads (reasons, messages, times) is clamped; what means something to the cluster or
//! to the action itself (effects, extra-info) is never altered: too much of it, or JSON that can't
//! be read, is an error of the answer.

use std::time::Duration;

use operon_core::action as core;
use serde_json::Value;

use crate::{bindings::operon::action::types, log::one_line};

const REASON_BYTES: usize = 64;
const MESSAGE_BYTES: usize = 1 << 10;
const EXTRA_INFO_ENTRIES: usize = 32;
const EXTRA_INFO_KEY_BYTES: usize = 63;
const EXTRA_INFO_VALUE_BYTES: usize = 1 << 10;
const EFFECTS: usize = 64;
const REQUIREMENTS: usize = 8;
const LONGEST_WAIT: Duration = Duration::from_hours(1);
const WATCHES: usize = 32;
const MAPPINGS: usize = 16;
const FIELDS: usize = 32;
const NAME_BYTES: usize = 1 << 10;

/// What an action reports if its own reason is no CamelCase word.
const UNNAMED: &str = "ActionFailed";

/// The operation that an action answered with.
pub(crate) fn operation(answer: types::Operation) -> Result<core::Operation, core::ActionError> {
    let types::Operation {
        requirements,
        limit,
        effects,
        extra_info,
    } = answer;
    if requirements.len() > REQUIREMENTS {
        return Err(too_large(&format!(
            "{} requirements; at most {REQUIREMENTS}",
            requirements.len()
        )));
    }
    if effects.len() > EFFECTS {
        return Err(too_large(&format!(
            "{} effects; at most {EFFECTS}",
            effects.len()
        )));
    }
    let effects = effects.into_iter().enumerate();
    Ok(core::Operation {
        requirements: requirements.into_iter().map(requirement).collect(),
        limit: limit.map(pod_limit),
        effects: effects
            .map(|(index, effect)| self::effect(index, effect))
            .collect::<Result<_, _>>()?,
        extra_info: extra(extra_info)?,
    })
}

/// The progress that an action answered with.
pub(crate) fn progress(
    answer: types::ProgressReport,
) -> Result<core::ProgressReport, core::ActionError> {
    let types::ProgressReport {
        progress,
        failure,
        extra_info,
        recheck_after,
    } = answer;
    Ok(core::ProgressReport {
        progress: match progress {
            types::Progress::Processing => core::OpsProgress::Processing,
            types::Progress::Failed => core::OpsProgress::Failed,
            types::Progress::Succeeded => core::OpsProgress::Succeeded,
        },
        failure: failure.map(self::failure),
        extra_info: extra(extra_info)?,
        recheck_after: recheck_after.map(wait),
    })
}

/// The error that an action answered with.
pub(crate) fn error(error: types::ActionError) -> core::ActionError {
    match error {
        types::ActionError::Retry((failure, after)) => {
            core::ActionError::Retry(self::failure(failure), after.map(wait))
        }
        types::ActionError::Terminal(failure) => {
            core::ActionError::Terminal(self::failure(failure))
        }
    }
}

/// What an action said of itself; otherwise, what is wrong with that.
pub(crate) fn registration(answer: types::Registration) -> Result<core::Registration, String> {
    let types::Registration {
        watches,
        settings_schema,
    } = answer;
    if watches.len() > WATCHES {
        return Err(format!(
            "it declares {} watches; at most {WATCHES}",
            watches.len()
        ));
    }
    let settings_schema = serde_json::from_str(&settings_schema)
        .map_err(|error| format!("its settings schema is not JSON: {error}"))?;
    Ok(core::Registration {
        watches: watches.into_iter().map(watch).collect::<Result<_, _>>()?,
        settings_schema,
    })
}

fn watch(watch: types::Watch) -> Result<core::Watch, String> {
    let types::Watch {
        api_version,
        kind,
        label_selector,
        fields,
        mappings,
    } = watch;
    let longest = api_version.len().max(kind.len()).max(label_selector.len());
    if api_version.is_empty() || kind.is_empty() || longest > NAME_BYTES {
        return Err(
            "a watch needs an apiVersion and a kind, and a selector of at most 1 KiB".into(),
        );
    }
    if mappings.len() > MAPPINGS {
        return Err(format!(
            "its watch of {kind} has more than {MAPPINGS} mappings"
        ));
    }
    if fields.len() > FIELDS || fields.iter().any(|field| field.len() > NAME_BYTES) {
        return Err(format!(
            "its watch of {kind} names more than {FIELDS} fields, or one of more than 1 KiB"
        ));
    }
    let mappings = mappings.into_iter().map(|mapping| match mapping {
        types::Mapping::Label(label) => core::Mapping::Label(label),
        types::Mapping::ExtraInfo(key) => core::Mapping::ExtraInfo(key),
        types::Mapping::UidInLabel(label) => core::Mapping::UidInLabel(label),
        types::Mapping::Namespace => core::Mapping::Namespace,
    });
    Ok(core::Watch {
        api_version,
        kind,
        label_selector,
        fields,
        mappings: mappings.collect(),
    })
}

fn effect(index: usize, effect: types::Effect) -> Result<core::Effect, core::ActionError> {
    Ok(match effect {
        types::Effect::Patch(patch) => {
            let types::Patch {
                object,
                subresource,
                kind,
                body,
                uid,
                resource_version,
            } = patch;
            core::Effect::Patch {
                body: json(index, "patch", &body)?,
                object: reference(object),
                subresource,
                kind: match kind {
                    types::PatchKind::Merge => core::PatchKind::Merge,
                    types::PatchKind::Json => core::PatchKind::Json,
                    types::PatchKind::Strategic => core::PatchKind::Strategic,
                },
                uid,
                resource_version,
            }
        }
        types::Effect::Apply(body) => core::Effect::Apply(json(index, "apply", &body)?),
        types::Effect::Create(body) => core::Effect::Create(json(index, "create", &body)?),
        types::Effect::Delete(delete) => {
            let types::Delete {
                object,
                uid,
                resource_version,
                grace_period_seconds,
            } = delete;
            let object = reference(object);
            core::Effect::Delete {
                object,
                uid,
                resource_version,
                grace_period_seconds,
                propagation: core::Propagation::Background,
            }
        }
        types::Effect::Evict(evict) => {
            let types::Evict {
                pod,
                uid,
                resource_version,
                grace_period_seconds,
            } = evict;
            core::Effect::Evict {
                pod,
                uid,
                resource_version,
                grace_period_seconds,
            }
        }
        types::Effect::Event(event) => {
            let types::Event {
                severity,
                reason,
                message,
            } = event;
            core::Effect::Event {
                severity: match severity {
                    types::Severity::Normal => core::Severity::Normal,
                    types::Severity::Warning => core::Severity::Warning,
                },
                reason: self::reason(reason),
                message: one_line(&message, MESSAGE_BYTES),
            }
        }
    })
}

fn requirement(requirement: types::Requirement) -> core::Requirement {
    let types::Requirement {
        object,
        uid,
        resource_version,
    } = requirement;
    core::Requirement {
        object: reference(object),
        uid,
        resource_version,
    }
}

fn pod_limit(limit: types::PodLimit) -> core::PodLimit {
    let types::PodLimit {
        label_selector,
        pods,
    } = limit;
    core::PodLimit {
        label_selector,
        pods,
    }
}

fn reference(reference: types::ObjectReference) -> core::ObjectReference {
    let types::ObjectReference {
        api_version,
        kind,
        name,
    } = reference;
    core::ObjectReference {
        api_version,
        kind,
        name,
    }
}

fn json(index: usize, kind: &str, body: &str) -> Result<Value, core::ActionError> {
    serde_json::from_str(body).map_err(|error| {
        let message = format!(
            "the body of effect {} ({kind}) is not JSON: {error}",
            index + 1
        );
        core::ActionError::Terminal(core::Failure::new("BadEffect", message))
    })
}

fn extra(attributes: types::Attributes) -> Result<core::Attributes, core::ActionError> {
    if attributes.len() > EXTRA_INFO_ENTRIES {
        let entries = attributes.len();
        return Err(too_large(&format!(
            "{entries} entries of extra-info; at most {EXTRA_INFO_ENTRIES}"
        )));
    }
    for (key, value) in &attributes {
        if key.is_empty() || key.len() > EXTRA_INFO_KEY_BYTES {
            let key = one_line(key, EXTRA_INFO_KEY_BYTES);
            return Err(too_large(&format!(
                "extra-info key {key:?}; 1 to {EXTRA_INFO_KEY_BYTES} bytes"
            )));
        }
        if value.len() > EXTRA_INFO_VALUE_BYTES {
            let bytes = value.len();
            return Err(too_large(&format!(
                "{bytes} bytes of extra-info {key:?}; at most 1 KiB"
            )));
        }
    }
    Ok(attributes.into_iter().collect())
}

fn too_large(what: &str) -> core::ActionError {
    let message = format!("the action answered with {what}");
    core::ActionError::Plugin(core::Failure::new("PluginResultTooLarge", message))
}

fn failure(failure: types::Failure) -> core::Failure {
    let types::Failure { reason, message } = failure;
    core::Failure::new(self::reason(reason), one_line(&message, MESSAGE_BYTES))
}

/// A word that Kubernetes takes as a reason.
fn reason(reason: String) -> String {
    let word = reason.len() <= REASON_BYTES
        && reason.starts_with(|first: char| first.is_ascii_uppercase())
        && reason.chars().all(|char| char.is_ascii_alphanumeric());
    if word { reason } else { UNNAMED.into() }
}

fn wait(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into()).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_one_camel_case_word() {
        let long = "A".repeat(65);
        for (given, expected) in [
            ("ImagePullFailed", "ImagePullFailed"),
            ("HTTP404", "HTTP404"),
            ("", UNNAMED),
            ("lower", UNNAMED),
            ("Two words", UNNAMED),
            ("Größe", UNNAMED),
            (long.as_str(), UNNAMED),
        ] {
            assert_eq!(reason(given.into()), expected, "{given:?}");
        }
    }

    #[test]
    fn messages_and_waits_are_clamped() {
        let clamped = failure(types::Failure {
            reason: "Bad".into(),
            message: "ä\n".repeat(2000),
        });
        assert!(clamped.message.len() <= MESSAGE_BYTES + '…'.len_utf8());
        assert!(!clamped.message.contains('\n'));
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
        assert_eq!(wait(1500), Duration::from_millis(1500));
    }

    #[test]
    fn extra_info_is_refused_rather_than_cut() {
        for bad in [
            vec![(String::new(), "value".to_owned())],
            vec![("k".repeat(64), "value".to_owned())],
            vec![("key".to_owned(), "v".repeat(1025))],
            (0..33)
                .map(|number| (number.to_string(), String::new()))
                .collect(),
        ] {
            let Err(core::ActionError::Plugin(failure)) = extra(bad) else {
                unreachable!("it was taken");
            };
            assert_eq!(failure.reason, "PluginResultTooLarge");
        }
        let good = vec![("k".repeat(63), "v".repeat(1024))];
        assert_eq!(extra(good).map(|map| map.len()), Ok(1));
    }

    #[test]
    fn a_body_that_is_not_json_names_its_effect() {
        let effects = vec![
            types::Effect::Create("{}".into()),
            types::Effect::Apply("{".into()),
        ];
        let answer = operation(types::Operation {
            requirements: Vec::new(),
            limit: None,
            effects,
            extra_info: Vec::new(),
        });
        let Err(core::ActionError::Terminal(failure)) = answer else {
            unreachable!("it was taken");
        };
        assert_eq!(failure.reason, "BadEffect");
        assert!(
            failure
                .message
                .starts_with("the body of effect 2 (apply) is not JSON")
        );
    }
}
