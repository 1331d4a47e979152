//! Actions that are well-behaved guests, and break what they work on: what `operon plugin test --conformance` must find.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

use crate::guest::bindings::{
    exports::operon::action::handler::{ActionError, Job, Operation, ProgressReport, Target},
    operon::action::{
        cluster,
        types::{Delete, Effect, Failure, ObjectReference, Patch, PatchKind, Progress},
    },
};

/// The extra-info that says what was done, and how often.
const DONE: &str = "done";

/// The mistakes, which are the names of targets.
const MISTAKES: [&str; 15] = [
    "creates-twice",
    "follows-the-name",
    "makes-two",
    "writes-always",
    "writes-after-a-conflict",
    "waits-long",
    "waits-forever",
    "waits-in-its-words",
    "is-always-refused",
    "overwrites-others",
    "gives-no-reason",
    "ends-after-a-conflict",
    "marks-after-a-conflict",
    "keeps-a-finalizer",
    "does-nothing",
];

/// The operation of a target with the name of a mistake; none for all others.
pub(crate) fn operate(target: &Target) -> Option<Operation> {
    let name = target.name.as_str();
    let done = done(target);
    let effects = match name {
        _ if !is_careless(target) => return None,
        "does-nothing" => Vec::new(),
        "writes-always" => vec![mark(target, done + 1)],
        "writes-after-a-conflict" if had_conflict(target) || done > 1 => {
            vec![mark(target, done + 2)]
        }
        "makes-two" if done < 2 => vec![apply("one"), apply("two")],
        "is-always-refused" => vec![Effect::Patch(Patch {
            resource_version: Some("0".into()),
            ..pod_patch(target, PatchKind::Merge, LABEL.into())
        })],
        _ if done > 0 => Vec::new(),
        "creates-twice" => vec![create()],
        "follows-the-name" => follow(target).into_iter().collect(),
        _ if target.pod.is_none() => Vec::new(),
        "overwrites-others" => {
            let body = r#"[{"op":"add","path":"/metadata/labels","value":{"operated":"true"}}]"#;
            vec![Effect::Patch(pod_patch(
                target,
                PatchKind::Json,
                body.into(),
            ))]
        }
        "keeps-a-finalizer" => {
            let body = r#"{"metadata":{"finalizers":["operon.example/kept"]}}"#;
            vec![Effect::Patch(pod_patch(
                target,
                PatchKind::Merge,
                body.into(),
            ))]
        }
        "marks-after-a-conflict" if had_conflict(target) => vec![mark(target, 2)],
        _ => vec![mark(target, 1)],
    };
    let done = match (name, effects.len()) {
        (_, 0) => done,
        ("writes-after-a-conflict", _) if had_conflict(target) => done + 2,
        _ => done + 1,
    };
    let mut extra_info = target.extra_info.clone();
    extra_info.retain(|(key, _)| key != DONE);
    if done > 0 {
        extra_info.push((DONE.into(), done.to_string()));
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
pub(crate) fn progress(target: &Target, job: &Job) -> Option<Result<ProgressReport, ActionError>> {
    let done = done(target);
    let failure = |reason: &str| {
        Some(Failure {
            reason: reason.into(),
            message: "it is not done yet".into(),
        })
    };
    let waited = target.started_at.map_or(0, |started| job.now - started);
    let (progress, failure, recheck_after) = match target.name.as_str() {
        _ if !is_careless(target) => return None,
        "waits-long" if waited < 12 * 60 => {
            (Progress::Processing, failure("NotDone"), Some(60_000))
        }
        "waits-forever" => (Progress::Processing, failure("NotDone"), Some(60_000)),
        "waits-in-its-words" => (Progress::Processing, failure("NotFound"), None),
        "gives-no-reason" => (Progress::Processing, None, None),
        "ends-after-a-conflict" if had_conflict(target) => {
            (Progress::Failed, failure("GaveUp"), None)
        }
        "makes-two" if done < 2 => (Progress::Processing, failure("NotDone"), None),
        "writes-always" => (Progress::Processing, failure("NotDone"), None),
        "writes-after-a-conflict" if done > 1 => (Progress::Processing, failure("NotDone"), None),
        _ if done > 0 => (Progress::Succeeded, None, None),
        _ => (Progress::Processing, failure("NotDone"), None),
    };
    Some(Ok(ProgressReport {
        progress,
        failure,
        extra_info: target.extra_info.clone(),
        recheck_after,
        extra: Vec::new(),
    }))
}

/// The effects of the release of such a target.
pub(crate) fn release(target: &Target) -> Vec<Effect> {
    if target.name == "makes-two" {
        ["one", "two"].map(delete).into()
    } else {
        Vec::new()
    }
}

fn is_careless(target: &Target) -> bool {
    MISTAKES.contains(&target.name.as_str())
}

/// How often the action has acted.
fn done(target: &Target) -> u32 {
    let mut known = target.extra_info.iter();
    let done = known.find(|(key, _)| key == DONE);
    done.and_then(|(_, done)| done.parse().ok()).unwrap_or(0)
}

fn had_conflict(target: &Target) -> bool {
    let failure = target.last_failure.as_ref();
    failure.is_some_and(|failure| failure.reason == "Conflict")
}

const LABEL: &str = r#"{"metadata":{"labels":{"operated":"true"}}}"#;

/// Gives the target's pod a label with a number.
fn mark(target: &Target, number: u32) -> Effect {
    let body = format!(r#"{{"metadata":{{"labels":{{"operated":"{number}"}}}}}}"#);
    Effect::Patch(pod_patch(target, PatchKind::Merge, body))
}

fn pod_patch(target: &Target, kind: PatchKind, body: String) -> Patch {
    Patch {
        object: pod(target),
        subresource: None,
        kind,
        body,
        uid: target.uid.clone(),
        resource_version: None,
    }
}

fn pod(target: &Target) -> ObjectReference {
    ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: target.name.clone(),
    }
}

fn apply(name: &str) -> Effect {
    Effect::Apply(format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}}}}"#
    ))
}

fn delete(name: &str) -> Effect {
    Effect::Delete(Delete {
        object: ObjectReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: name.into(),
        },
        uid: None,
        resource_version: None,
        grace_period_seconds: None,
    })
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
    let object = pod(target);
    let text = cluster::get(&object).ok()??;
    let (_, rest) = text.split_once(r#""uid":""#)?;
    let (uid, _) = rest.split_once('"')?;
    Some(Effect::Patch(Patch {
        object,
        subresource: None,
        kind: PatchKind::Merge,
        body: LABEL.into(),
        uid: Some(uid.into()),
        resource_version: None,
    }))
}
