//! From the guest's values to the core's: the one place where the answers of a component are checked.
//!
//! Texts for people (reasons, messages) and times are clamped; values with a meaning to the cluster or to
//! the action itself (effects, extra-info) are never altered: a value that is too large, or invalid JSON,
//! is an error of the answer.

use std::time::Duration;

use operon_core::action as core;
use serde_json::Value;

use crate::{
    bindings::operon::action::types,
    json,
    limits::{
        API_VERSION_BYTES, EFFECTS, EVENTS, EXTRA_INFO_ENTRIES, EXTRA_INFO_KEY_BYTES,
        EXTRA_INFO_VALUE_BYTES, FIELDS, JSON_VALUES, KIND_BYTES, LABEL_KEY_BYTES, LONGEST_WAIT,
        MAPPINGS, MESSAGE_BYTES, NAME_BYTES, REASON_BYTES, REQUIREMENTS, SCHEMA_BYTES,
        SCHEMA_VALUES, SHORTEST_WAIT, WATCH_SELECTOR_BYTES, WATCHES,
    },
    log::one_line,
};

/// What an action reports if its own reason is no CamelCase word.
const UNNAMED: &str = "ActionFailed";

/// The operation that an action answered with.
pub(crate) fn operation(answer: types::Operation) -> Result<core::Operation, core::ActionError> {
    let types::Operation {
        requirements,
        limit,
        effects,
        extra_info,
        unfinished,
        extra: later,
    } = answer;
    check_known(&later).map_err(|why| unknown(&why))?;
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
    let is_event = |effect: &&types::Effect| matches!(effect, types::Effect::Event(_));
    let events = effects.iter().filter(is_event).count();
    if events > EVENTS {
        return Err(too_large(&format!("{events} Events; at most {EVENTS}")));
    }
    let mut values = JSON_VALUES;
    let effects = effects.into_iter().enumerate();
    Ok(core::Operation {
        requirements: requirements
            .into_iter()
            .map(requirement)
            .collect::<Result<_, _>>()?,
        limit: limit.map(pod_limit).transpose()?,
        effects: effects
            .map(|(index, effect)| self::effect(index + 1, effect, &mut values))
            .collect::<Result<_, _>>()?,
        extra_info: extra(extra_info)?,
        unfinished: unfinished.map(self::unfinished),
    })
}

fn unfinished(release: types::Unfinished) -> core::Unfinished {
    let types::Unfinished {
        failure,
        recheck_after,
    } = release;
    core::Unfinished {
        failure: self::failure(failure),
        recheck_after: recheck_after.map(wait),
    }
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
        extra: later,
    } = answer;
    check_known(&later).map_err(|why| unknown(&why))?;
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

/// An action's description of itself; otherwise, its error.
pub(crate) fn registration(answer: types::Registration) -> Result<core::Registration, String> {
    let types::Registration {
        watches,
        settings_schema,
        parameters_schema,
        job_label,
        traits,
        extra,
    } = answer;
    if watches.len() > WATCHES {
        return Err(format!(
            "it declares {} watches; at most {WATCHES}",
            watches.len()
        ));
    }
    check_known(&extra).map_err(|why| format!("it declares {why}"))?;
    let settings_schema = schema("settings schema", &settings_schema)?;
    let parameters_schema = schema("parameters schema", &parameters_schema)?;
    if job_label
        .as_ref()
        .is_some_and(|label| label.len() > LABEL_KEY_BYTES)
    {
        return Err(format!(
            "its job label has more than {LABEL_KEY_BYTES} bytes"
        ));
    }
    Ok(core::Registration {
        watches: watches.into_iter().map(watch).collect::<Result<_, _>>()?,
        settings_schema,
        parameters_schema,
        job_label,
        removes_pods: traits.contains(types::Traits::REMOVES_PODS),
        supports_dry_run: traits.contains(types::Traits::SUPPORTS_DRY_RUN),
    })
}

fn schema(what: &str, text: &str) -> Result<Value, String> {
    if text.len() > SCHEMA_BYTES {
        let size = text.len();
        return Err(format!(
            "its {what} has {size} bytes; at most {SCHEMA_BYTES}"
        ));
    }
    json::parse(text, &mut { SCHEMA_VALUES }).map_err(|why| format!("its {what} {why}"))
}

fn watch(watch: types::Watch) -> Result<core::Watch, String> {
    let types::Watch {
        api_version,
        kind,
        label_selector,
        fields,
        mappings,
        optional,
        cluster_scoped,
        extra,
    } = watch;
    check_kind(&api_version, &kind).map_err(|why| format!("it declares a watch of {why}"))?;
    check_known(&extra).map_err(|why| format!("its watch of {kind} declares {why}"))?;
    if label_selector.len() > WATCH_SELECTOR_BYTES {
        return Err(format!(
            "its watch of {kind} has a label selector of {} bytes; at most {WATCH_SELECTOR_BYTES}",
            label_selector.len()
        ));
    }
    if mappings.len() > MAPPINGS {
        return Err(format!(
            "its watch of {kind} has {} mappings; at most {MAPPINGS}",
            mappings.len()
        ));
    }
    let fits = |mapping: &types::Mapping| match mapping {
        types::Mapping::Label(key) | types::Mapping::UidInLabel(key) => {
            key.len() <= LABEL_KEY_BYTES
        }
        types::Mapping::ExtraInfo(key) | types::Mapping::UidInExtraInfo(key) => {
            key.len() <= EXTRA_INFO_KEY_BYTES
        }
        types::Mapping::Namespace | types::Mapping::Node => true,
    };
    if !mappings.iter().all(fits) {
        return Err(format!(
            "its watch of {kind} has a mapping with a longer key than a label ({LABEL_KEY_BYTES} bytes) or extra-info ({EXTRA_INFO_KEY_BYTES}) can have"
        ));
    }
    if fields.len() > FIELDS || fields.iter().any(|field| field.len() > NAME_BYTES) {
        return Err(format!(
            "its watch of {kind} names more than {FIELDS} fields, or one of more than {NAME_BYTES} bytes"
        ));
    }
    let mappings = mappings.into_iter().map(|mapping| match mapping {
        types::Mapping::Label(label) => core::Mapping::Label(label),
        types::Mapping::ExtraInfo(key) => core::Mapping::ExtraInfo(key),
        types::Mapping::UidInLabel(label) => core::Mapping::UidInLabel(label),
        types::Mapping::UidInExtraInfo(key) => core::Mapping::UidInExtraInfo(key),
        types::Mapping::Namespace => core::Mapping::Namespace,
        types::Mapping::Node => core::Mapping::Node,
    });
    Ok(core::Watch {
        api_version,
        kind,
        label_selector,
        fields,
        mappings: mappings.collect(),
        is_optional: optional,
        is_cluster_scoped: cluster_scoped,
    })
}

/// Refuses values that can't be an `apiVersion` and a kind: both become a part of a request's path.
fn check_kind(api_version: &str, kind: &str) -> Result<(), String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let name = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
    };
    if api_version.len() <= API_VERSION_BYTES
        && kind.len() <= KIND_BYTES
        && [group, version, kind].into_iter().all(name)
    {
        return Ok(());
    }
    let (api_version, kind) = (
        one_line(api_version, KIND_BYTES),
        one_line(kind, KIND_BYTES),
    );
    Err(format!(
        "apiVersion {api_version:?} and kind {kind:?}, which are not valid names; at most {API_VERSION_BYTES} and {KIND_BYTES} bytes"
    ))
}

/// The effect of this number; its JSON may have this number of values.
fn effect(
    number: usize,
    effect: types::Effect,
    values: &mut usize,
) -> Result<core::Effect, core::ActionError> {
    let bad = |kind: &str, why: &str| {
        let message = format!("effect {number} ({kind}) {why}");
        core::ActionError::Terminal(core::Failure::new("BadEffect", message))
    };
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
            let details = [&subresource, &uid, &resource_version];
            core::Effect::Patch {
                object: reference(object, details).map_err(|why| bad("patch", &why))?,
                body: json(number, "patch", &body, values)?,
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
        types::Effect::Apply(body) => {
            let body = json(number, "apply", &body, values)?;
            check_object(&body).map_err(|why| bad("apply", &why))?;
            core::Effect::Apply(body)
        }
        types::Effect::Create(body) => {
            let body = json(number, "create", &body, values)?;
            check_object(&body).map_err(|why| bad("create", &why))?;
            core::Effect::Create(body)
        }
        types::Effect::Delete(delete) => {
            let types::Delete {
                object,
                uid,
                resource_version,
                grace_period_seconds,
            } = delete;
            let details = [&None, &uid, &resource_version];
            core::Effect::Delete {
                object: reference(object, details).map_err(|why| bad("delete", &why))?,
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
            let names = [
                Some(pod.as_str()),
                uid.as_deref(),
                resource_version.as_deref(),
            ];
            check_names(names).map_err(|why| bad("evict", &why))?;
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

fn requirement(requirement: types::Requirement) -> Result<core::Requirement, core::ActionError> {
    let types::Requirement {
        object,
        uid,
        resource_version,
    } = requirement;
    let known = Some(uid.clone());
    let object = reference(object, [&known, &resource_version, &None]).map_err(|why| {
        core::ActionError::Terminal(core::Failure::new(
            "BadEffect",
            format!("a requirement {why}"),
        ))
    })?;
    Ok(core::Requirement {
        object,
        uid,
        resource_version,
    })
}

fn pod_limit(limit: types::PodLimit) -> Result<core::PodLimit, core::ActionError> {
    let types::PodLimit {
        label_selector,
        pods,
    } = limit;
    if label_selector.len() > WATCH_SELECTOR_BYTES {
        let message = format!(
            "a limit has a label selector of {} bytes; at most {WATCH_SELECTOR_BYTES}",
            label_selector.len()
        );
        let failure = core::Failure::new("BadEffect", message);
        return Err(core::ActionError::Terminal(failure));
    }
    Ok(core::PodLimit {
        label_selector,
        pods,
    })
}

/// The object of an effect, with its preconditions.
fn reference(
    reference: types::ObjectReference,
    details: [&Option<String>; 3],
) -> Result<core::ObjectReference, String> {
    let types::ObjectReference {
        api_version,
        kind,
        name,
    } = reference;
    check_kind(&api_version, &kind).map_err(|why| format!("names {why}"))?;
    check_names([Some(name.as_str())])?;
    check_names(details.map(|detail| detail.as_deref()))?;
    Ok(core::ObjectReference {
        api_version,
        kind,
        name,
    })
}

/// Refuses a whole object with names that are too long, or invalid: errors quote them. The performer of the
/// effect reports missing names.
fn check_object(body: &Value) -> Result<(), String> {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    if let (Some(api_version), Some(kind)) = (text("/apiVersion"), text("/kind")) {
        check_kind(api_version, kind).map_err(|why| format!("names {why}"))?;
    }
    check_names([text("/metadata/name"), text("/metadata/namespace")])
}

fn check_names<const N: usize>(names: [Option<&str>; N]) -> Result<(), String> {
    match names
        .into_iter()
        .flatten()
        .find(|name| name.len() > NAME_BYTES)
    {
        None => Ok(()),
        Some(long) => Err(format!(
            "has a name of {} bytes; at most {NAME_BYTES}",
            long.len()
        )),
    }
}

fn json(
    number: usize,
    kind: &str,
    body: &str,
    values: &mut usize,
) -> Result<Value, core::ActionError> {
    json::parse(body, values).map_err(|why| {
        let message = format!("the body of effect {number} ({kind}) {why}");
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

/// Refuses names that only a later version of the contract gives a meaning.
fn check_known(later: &types::Attributes) -> Result<(), String> {
    match later.first() {
        None => Ok(()),
        Some((name, _)) => {
            let name = one_line(name, NAME_BYTES);
            Err(format!("{name:?}, which this host does not know"))
        }
    }
}

fn unknown(why: &str) -> core::ActionError {
    let message = format!("the action answered with {why}");
    core::ActionError::Plugin(core::Failure::new("PluginResultUnknown", message))
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
    Duration::from_millis(milliseconds.into()).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
