//! The verbs: what each writes to an object, or why it is refused and what to do instead.

mod decision;
pub(crate) mod promote;

use std::{collections::BTreeSet, fmt};

use k8s_openapi::jiff::Timestamp;
use operon_api::{
    OperationJob, keys,
    operation_job::{PodTarget, Progress},
};
use serde_json::{Value, json};

use crate::{Kind, Object, Outcome, text::count};

pub use decision::{Changed, Decision, Right};

/// What a user wants of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Let more targets start, or update more pods: one more, so many in total, or all.
    Promote(Promotion),
    /// Start nothing further.
    Pause,
    /// Go on.
    Resume,
    /// Run again what failed.
    Retry(Timestamp),
    /// Run the Job again.
    Rerun(Timestamp),
    /// Delete the object before it has finished.
    Cancel,
}

/// How many targets may start, or how many pods may be updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// One more than now.
    Next,
    /// So many in total.
    To(i32),
    /// All.
    All,
}

/// What must be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A JSON merge patch of the object. With a resource version in it, it applies only to what was read.
    Patch {
        /// The patch.
        patch: Value,
        /// What it does, in a sentence.
        says: String,
    },
    /// Create an object of the same kind.
    Create {
        /// The object.
        object: Value,
        /// What it does, in a sentence.
        says: String,
    },
    /// Delete the object.
    Delete {
        /// What follows, in a sentence.
        says: String,
    },
}

/// Why what a user wants is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    text: String,
    is_for_now: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Whether the verb is possible once what the text says has happened. Otherwise it does not fit the object.
    pub fn is_for_now(&self) -> bool {
        self.is_for_now
    }
}

pub(crate) fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        text: why.into(),
        is_for_now: false,
    })
}

fn refuse_for_now<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        text: why.into(),
        is_for_now: true,
    })
}

/// The effect of a verb on an object as it was read.
pub fn effect(object: &Object, verb: Verb) -> Result<Effect, Refusal> {
    let called = object.called();
    if object.metadata().deletion_timestamp.is_some() {
        return refuse(format!("{called} is being deleted"));
    }
    match verb {
        Verb::Promote(promotion) => promote::promote(object, promotion),
        Verb::Pause => hold(object, true),
        Verb::Resume => hold(object, false),
        Verb::Retry(now) => retry(object, now),
        Verb::Rerun(now) => rerun(object, now),
        Verb::Cancel => cancel(object),
    }
}

/// `pause` and `resume`.
fn hold(object: &Object, is_held: bool) -> Result<Effect, Refusal> {
    let called = object.called();
    let is_lasting = matches!(object.kind(), Kind::ReactiveJob | Kind::CollaSet);
    if !is_lasting && object.outcome() != Outcome::Unfinished {
        return refuse(format!(
            "{called} has finished; there is nothing to pause or resume"
        ));
    }
    let (now, spec) = match object {
        Object::OperationJob(job) => (job.spec.paused, json!({"paused": is_held})),
        Object::CollaSet(set) => (set.spec.paused, json!({"paused": is_held})),
        Object::DaemonJob(job) => {
            let paused = job.spec.rollout.as_ref().and_then(|rollout| rollout.paused);
            (paused, json!({"rollout": {"paused": is_held}}))
        }
        Object::JobFlow(flow) => (flow.spec.suspend, json!({"suspend": is_held})),
        Object::ReactiveJob(job) => (job.spec.suspend, json!({"suspend": is_held})),
    };
    if now.unwrap_or(false) == is_held {
        let (state, other) = if is_held {
            ("paused already", "resume")
        } else {
            ("not paused", "pause")
        };
        return refuse(format!(
            "{called} is {state}; the opposite is `kubectl operon {other} {called}`"
        ));
    }
    let follows = match (object.kind(), is_held) {
        (_, false) => "goes on",
        (Kind::OperationJob, true) => {
            "no further target starts; targets that have started continue"
        }
        (Kind::DaemonJob, true) => "no further node gets its Job; running Jobs continue",
        (Kind::JobFlow, true) => "running Jobs are suspended, and no further step starts",
        (Kind::ReactiveJob, true) => "no new Job starts; a running Job continues",
        (Kind::CollaSet, true) => "no pod is created, changed or scaled in",
    };
    Ok(Effect::Patch {
        patch: json!({"spec": spec}),
        says: format!("{called}: {follows}"),
    })
}

fn retry(object: &Object, now: Timestamp) -> Result<Effect, Refusal> {
    let called = object.called();
    let annotated = |what: &str| Effect::Patch {
        patch: annotation(keys::RETRY, now),
        says: format!("{called}: {what}"),
    };
    match object {
        Object::OperationJob(job) => retry_targets(object, job),
        Object::JobFlow(_) if object.state() == "Failed" => Ok(annotated("failed steps run again")),
        Object::DaemonJob(job) => {
            let failed = job
                .status
                .as_ref()
                .and_then(|status| status.failed)
                .unwrap_or(0);
            if failed == 0 && object.outcome() != Outcome::Failed {
                return refuse(format!(
                    "no node of {called} has failed; see `kubectl operon get {called}`"
                ));
            }
            Ok(annotated("failed and skipped nodes run again"))
        }
        Object::JobFlow(_) => refuse(format!(
            "no step of {called} has failed; see `kubectl operon get {called}`"
        )),
        Object::ReactiveJob(_) => refuse(format!(
            "a ReactiveJob runs its whole Job again: use `kubectl operon rerun {called}`"
        )),
        Object::CollaSet(_) => refuse(format!(
            "a CollaSet tries again by itself, so there is nothing to retry; see `kubectl operon get {called}`"
        )),
    }
}

/// Targets are final, so another job operates those that failed.
fn retry_targets(object: &Object, job: &OperationJob) -> Result<Effect, Refusal> {
    let called = object.called();
    let details = job.status.iter().flat_map(|status| &status.target_details);
    let failed = details.filter(|detail| detail.progress == Progress::Failed);
    let failed: BTreeSet<_> = failed.map(|detail| detail.name.as_str()).collect();
    if object.outcome() == Outcome::Unfinished {
        let why = format!(
            "{called} has not finished; wait for its end with `kubectl operon get {called} --wait`"
        );
        return if failed.is_empty() {
            refuse(why)
        } else {
            refuse_for_now(why)
        };
    }
    let is_failed = |target: &&PodTarget| failed.contains(target.name.as_str());
    let targets: Vec<PodTarget> = job.targets().iter().filter(is_failed).cloned().collect();
    if targets.is_empty() {
        return refuse(format!("no target of {called} has failed"));
    }
    let name = next_name(object.name());
    let number = targets.len();
    let mut spec = job.spec.clone();
    spec.targets = targets;
    spec.target_selector = None;
    spec.partition = None;
    spec.paused = None;
    let mut again = OperationJob::new(&name, spec);
    again.metadata.namespace.clone_from(&job.metadata.namespace);
    let object = serde_json::to_value(again);
    let object = match object {
        Ok(object) => object,
        Err(error) => return refuse(format!("failed to write {name}: {error}")),
    };
    Ok(Effect::Create {
        object,
        says: format!(
            "opj/{name} created with the {} of {called} that failed",
            count(number, "target")
        ),
    })
}

/// `web` → `web-retry` → `web-retry-2` → `web-retry-3`. A long name is shortened, because the name is part of labels.
pub(crate) fn next_name(name: &str) -> String {
    let (base, number) = match name.rsplit_once("-retry") {
        Some((base, "")) => (base, 2),
        Some((base, number)) => match number
            .strip_prefix('-')
            .and_then(|text| text.parse::<u32>().ok())
        {
            Some(number) => (base, number.saturating_add(1)),
            None => (name, 1),
        },
        None => (name, 1),
    };
    let suffix = if number == 1 {
        "-retry".to_owned()
    } else {
        format!("-retry-{number}")
    };
    let room = 253_usize.saturating_sub(suffix.len());
    let base = base
        .get(..room)
        .unwrap_or(base)
        .trim_end_matches(['-', '.']);
    format!("{base}{suffix}")
}

fn rerun(object: &Object, now: Timestamp) -> Result<Effect, Refusal> {
    let called = object.called();
    let Object::ReactiveJob(job) = object else {
        let other = match object.kind() {
            Kind::JobFlow | Kind::DaemonJob | Kind::OperationJob => {
                format!("; `kubectl operon retry {called}` runs again what failed")
            }
            Kind::ReactiveJob | Kind::CollaSet => String::new(),
        };
        return refuse(format!("only a ReactiveJob is run again{other}"));
    };
    if job.spec.suspend == Some(true) {
        return refuse_for_now(format!(
            "{called} is paused, so no Job starts; use `kubectl operon resume {called}` first"
        ));
    }
    Ok(Effect::Patch {
        patch: annotation(keys::RERUN, now),
        says: format!("{called}: its Job runs again"),
    })
}

fn annotation(key: &str, now: Timestamp) -> Value {
    json!({"metadata": {"annotations": {key: now.to_string()}}})
}

fn cancel(object: &Object) -> Result<Effect, Refusal> {
    let called = object.called();
    let delete = format!("kubectl delete {called} -n {}", object.namespace());
    let says = match object.kind() {
        Kind::CollaSet => {
            return refuse(format!(
                "a CollaSet has no end to cancel; `{delete}` deletes it with its pods"
            ));
        }
        Kind::ReactiveJob => {
            return refuse(format!(
                "a ReactiveJob has no end to cancel; `{delete}` deletes it with its Jobs"
            ));
        }
        _ if object.outcome() != Outcome::Unfinished => {
            return refuse(format!("{called} has finished; `{delete}` removes it"));
        }
        Kind::OperationJob => {
            "it is deleted; targets in progress are released first, and targets that succeeded stay so"
        }
        Kind::JobFlow | Kind::DaemonJob => "it is deleted with its Jobs and their pods",
    };
    Ok(Effect::Delete {
        says: format!("{called}: {says}"),
    })
}
