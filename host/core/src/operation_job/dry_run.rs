//! What a target of a dry run does not do. Pure.
//!
//! A dry run is an operation of which the API server checks the effects and performs none. So no target of a dry
//! run has anything to release.

use operon_api::operation_job::{Progress, TargetDetail};

use super::{
    Observed,
    failures::{canceled, deadline_exceeded, deleted},
    plan::{Cause, TargetStep},
    size::truncate,
};
use crate::action::{Effect, ObjectReference};

/// The most bytes of the effects of one target.
const BYTES: usize = 512;

/// What is said of an action that goes on after the effects that a dry run shows.
const FURTHER: &str = "further steps follow, which a dry run cannot show";

/// The step of a target of a dry run that is being deleted.
pub(super) fn step_of_deleted(detail: &TargetDetail) -> TargetStep {
    match detail.progress {
        Progress::Processing => TargetStep::Fail(deleted()),
        Progress::Pending | Progress::Failed | Progress::Succeeded => TargetStep::Keep,
    }
}

/// The step of a target of a dry run: it fails where another would be released.
pub(super) fn without_release(observed: &Observed<'_>, step: TargetStep) -> TargetStep {
    match step {
        TargetStep::Release(Cause::Failed) => TargetStep::Keep,
        TargetStep::Release(Cause::Deadline) => TargetStep::Fail(deadline_exceeded(observed.job)),
        TargetStep::Release(Cause::Canceled) => TargetStep::Fail(canceled(observed.job)),
        TargetStep::Release(Cause::Deleted | Cause::Overdue) => TargetStep::Fail(deleted()),
        step => step,
    }
}

/// What effects would do: one line for each, within a limit. `is_whole` says that the action would do nothing else
/// after them.
pub fn lines(effects: &[Effect], is_whole: bool) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let further = (!is_whole).then(|| FURTHER.to_owned());
    let mut left = BYTES - further.as_ref().map_or(0, String::len);
    for (place, effect) in effects.iter().enumerate() {
        let rest = format!("and {} more", effects.len() - place);
        let mut line = line(effect);
        let room = left.saturating_sub(rest.len());
        if room < line.len().min(64) {
            lines.push(rest);
            break;
        }
        truncate(&mut line, room);
        left -= line.len();
        lines.push(line);
    }
    if effects.is_empty() {
        lines.push("nothing".to_owned());
    }
    lines.extend(further);
    lines
}

fn line(effect: &Effect) -> String {
    let named = |object: &ObjectReference| format!("{} {}", object.kind, object.name);
    let of_body = |body: &serde_json::Value| {
        let text = |pointer: &str| body.pointer(pointer).and_then(|text| text.as_str());
        let kind = text("/kind").unwrap_or("object");
        let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
        format!("{kind} {}", name.unwrap_or_default())
    };
    match effect {
        Effect::Patch {
            object,
            subresource,
            body,
            ..
        } => match subresource {
            Some(part) => format!("patch {}, {part}: {body}", named(object)),
            None => format!("patch {}: {body}", named(object)),
        },
        Effect::Apply(body) => format!("apply {}: {body}", of_body(body)),
        Effect::Create(body) => format!("create {}: {body}", of_body(body)),
        Effect::Delete { object, .. } => format!("delete {}", named(object)),
        Effect::Evict { pod, .. } => format!("evict Pod {pod}"),
        Effect::Event {
            reason, message, ..
        } => format!("event {reason}: {message}"),
    }
}
