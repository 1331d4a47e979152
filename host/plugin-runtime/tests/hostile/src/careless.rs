//! Actions that are well-behaved guests, and break what they work on: what `operon plugin test --conformance` must find.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

use crate::guest::bindings::{
    exports::operon::action::handler::{ActionError, Operation, ProgressReport, Target},
    operon::action::{
        cluster,
        types::{Effect, Failure, ObjectReference, Patch, PatchKind, Progress},
    },
};

/// The extra-info that says what was done.
const DONE: &str = "done";

/// The operation of a target with the name of a mistake; none for all others.
pub(crate) fn operate(target: &Target) -> Option<Operation> {
    let is_done = target.extra_info.iter().any(|(key, _)| key == DONE);
    let effects = match target.name.as_str() {
        _ if !is_careless(target) => return None,
        _ if is_done => Vec::new(),
        "creates-twice" => vec![create()],
        _ => follow(target).into_iter().collect(),
    };
    let mut extra_info = target.extra_info.clone();
    if !effects.is_empty() {
        extra_info.push((DONE.into(), "true".into()));
    }
    Some(Operation {
        requirements: Vec::new(),
        limit: None,
        effects,
        extra_info,
        unfinished: None,
        extra: Vec::new(),
    })
}

/// The progress of such a target.
pub(crate) fn progress(target: &Target) -> Option<Result<ProgressReport, ActionError>> {
    let is_done = target.extra_info.iter().any(|(key, _)| key == DONE);
    let waits = || Failure {
        reason: "NotDone".into(),
        message: "it is not done yet".into(),
    };
    is_careless(target).then(|| {
        Ok(ProgressReport {
            progress: if is_done {
                Progress::Succeeded
            } else {
                Progress::Processing
            },
            failure: (!is_done).then(waits),
            extra_info: target.extra_info.clone(),
            recheck_after: None,
            extra: Vec::new(),
        })
    })
}

fn is_careless(target: &Target) -> bool {
    ["creates-twice", "follows-the-name"].contains(&target.name.as_str())
}

/// Creates an object under a random name: a second attempt does not find the object of the first.
fn create() -> Effect {
    let number = RandomState::new().build_hasher().finish();
    let name = format!("made-{number:x}");
    Effect::Create(format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#
    ))
}

/// Marks whatever pod has the target's name now, and not the pod that the target is about.
fn follow(target: &Target) -> Option<Effect> {
    let object = ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: target.name.clone(),
    };
    let text = cluster::get(&object).ok()??;
    let (_, rest) = text.split_once(r#""uid":""#)?;
    let (uid, _) = rest.split_once('"')?;
    Some(Effect::Patch(Patch {
        object,
        subresource: None,
        kind: PatchKind::Merge,
        body: r#"{"metadata":{"labels":{"operated":"true"}}}"#.into(),
        uid: Some(uid.into()),
        resource_version: None,
    }))
}
