//! The verdict about one run: the rules that every run must keep, and the state that it must end in.

use std::collections::BTreeSet;

use operon_core::action::{ObjectReference, OpsProgress};

use super::{
    super::{
        subject,
        world::{FOREIGN, FOREIGN_MAPS, World},
    },
    drive::Run,
    scenarios::Like,
    state::State,
};

/// Refusals that come again as long as the action answers the same.
const FOREVER: [&str; 4] = ["AlreadyExists", "Conflict", "Invalid", "NotFound"];

/// The end of a run that others are compared with.
pub(super) struct End {
    state: State,
    outcomes: Vec<Outcome>,
}

/// How a target ended.
#[derive(PartialEq, Eq)]
struct Outcome {
    progress: OpsProgress,
    words: String,
}

impl End {
    pub(super) fn of(run: &Run<'_>, began: &World) -> Self {
        let targets = run.subject.targets.iter();
        Self {
            state: State::of(began, &run.subject.world),
            outcomes: targets
                .map(|target| Outcome {
                    progress: target.progress,
                    words: outcome(target),
                })
                .collect(),
        }
    }
}

/// What is wrong with a run, in one line; none if all is well.
pub(super) fn verdict(
    run: &Run<'_>,
    began: &World,
    plain: &Run<'_>,
    most: usize,
    expected: Option<(Like, &End)>,
) -> Option<String> {
    if let Some(fault) = run.faults.first() {
        return Some(fault.clone());
    }
    let wrong = beside(run, plain)
        .or_else(|| overwritten(run))
        .or_else(|| without_rest(run, most))
        .or_else(|| without_end(run))
        .or_else(|| left_behind(run));
    if wrong.is_some() {
        return wrong;
    }
    let (like, end) = expected?;
    let other = match like {
        Like::Plain => "in the plain run",
        Like::CanceledBefore(_) => "where nothing goes wrong",
        Like::Untouched => "before the release",
        Like::Nothing => return None,
    };
    let is = End::of(run, began);
    let is_canceled = matches!(like, Like::CanceledBefore(_));
    if like != Like::Untouched {
        let mut pairs = end.outcomes.iter().zip(&is.outcomes);
        let differs = |(was, is): &(&Outcome, &Outcome)| {
            let is_wrong = was.progress != is.progress || (was != is && !is_canceled);
            is_wrong && !(is_canceled && has_succeeded(was, is))
        };
        if let Some((was, is)) = pairs.find(differs) {
            let (was, is) = (&was.words, &is.words);
            return Some(format!("the end is {is}; {other} it is {was}"));
        }
    }
    let skipped = if is_canceled {
        skipped(run, plain, end, &is)
    } else {
        BTreeSet::new()
    };
    is.state.difference(&end.state, other, &skipped)
}

/// Time passes when something goes wrong, so a target may have succeeded before its release.
fn has_succeeded(was: &Outcome, is: &Outcome) -> bool {
    was.progress != is.progress && is.progress == OpsProgress::Succeeded
}

/// What a target that has succeeded before its release has changed, as a state calls it: its pod, the pods that were
/// created, and what the action creates for it.
fn skipped(run: &Run<'_>, plain: &Run<'_>, end: &End, is: &End) -> BTreeSet<String> {
    let pairs = end.outcomes.iter().zip(&is.outcomes);
    let places = pairs.enumerate();
    let places = places.filter(|(_, (was, is))| has_succeeded(was, is));
    let mut skipped = BTreeSet::new();
    for (place, _) in places {
        let target = run.subject.targets.get(place);
        skipped.extend(target.map(|target| format!("Pod {}", target.name)));
        skipped.insert("new Pod".to_owned());
        let made = run.made.iter().chain(&plain.made);
        let made = made.filter(|made| made.target == place);
        skipped.extend(made.map(|made| format!("new {}", made.object.kind)));
    }
    skipped
}

/// How a target ended, in words.
pub(super) fn outcome(target: &subject::State) -> String {
    let reason = target
        .failure
        .as_ref()
        .map_or("", |failure| failure.reason.as_str());
    let name = &target.name;
    match target.progress {
        OpsProgress::Succeeded => format!("{name}: Succeeded"),
        OpsProgress::Failed => format!("{name}: Failed ({reason})"),
        OpsProgress::Processing => format!("{name}: waiting ({reason})"),
    }
}

/// More objects of a kind for one target than in the plain run, and more than one.
fn beside(run: &Run<'_>, plain: &Run<'_>) -> Option<String> {
    run.most.iter().find_map(|((target, kind), names)| {
        let usual = plain.most.get(&(*target, kind.clone()));
        let usual = usual.map_or(0, Vec::len).max(1);
        let (last, others) = names.split_last().filter(|_| names.len() > usual)?;
        let target = run.subject.targets.get(*target);
        let target = target.map_or("", |state| state.name.as_str());
        let others = others.join(", ");
        Some(format!(
            "it has created {kind} {last} for target {target} while {others}, which it created before, still exists"
        ))
    })
}

/// An object without what another client added while the action worked on it.
fn overwritten(run: &Run<'_>) -> Option<String> {
    run.subject.world.objects().find_map(|object| {
        let metadata = &object["metadata"];
        let uid = metadata["uid"].as_str()?;
        let was_touched = run.touched.contains(uid);
        let mut maps = FOREIGN_MAPS.iter().filter(|_| was_touched);
        let map = maps.find(|map| metadata[**map][FOREIGN].is_null())?;
        let (kind, name) = (object["kind"].as_str()?, metadata["name"].as_str()?);
        Some(format!(
            "{kind} {name} has lost {FOREIGN} from metadata.{map}, which another client added"
        ))
    })
}

/// A run that still changes something in its last round.
fn without_rest(run: &Run<'_>, most: usize) -> Option<String> {
    (!run.is_at_rest(most)).then(|| {
        format!("it does not come to rest in {most} rounds: the action writes in every round")
    })
}

/// A target that does not come to an end, and does not say why.
fn without_end(run: &Run<'_>) -> Option<String> {
    run.subject.targets.iter().find_map(|target| {
        let subject::State {
            name,
            progress,
            failure,
            is_refused,
            is_released,
            ..
        } = target;
        let message = failure
            .as_ref()
            .map_or("", |failure| failure.message.as_str());
        let reason = failure
            .as_ref()
            .map_or("", |failure| failure.reason.as_str());
        let is_over = match progress {
            OpsProgress::Succeeded => return None,
            OpsProgress::Failed => *is_released,
            OpsProgress::Processing => false,
        };
        if is_over {
            return reason
                .is_empty()
                .then(|| format!("{name} has failed without a reason"));
        }
        if *is_refused && FOREVER.contains(&reason) {
            return Some(format!(
                "{name}: its effects are refused again and again: {reason}: {message}"
            ));
        }
        let what = if run.subject.is_ending() || *progress == OpsProgress::Failed {
            "is not released"
        } else {
            "has not finished"
        };
        reason
            .is_empty()
            .then(|| format!("{name} {what}, and nothing says why"))
    })
}

/// A finalizer of a pod that the pod did not have when the run began.
fn added_finalizer(run: &Run<'_>, pod: &str) -> Option<String> {
    let pod = ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.to_owned(),
    };
    let of = |world: &World| -> BTreeSet<String> {
        let object = world.object(&pod);
        let finalizers = object.map(|object| object["metadata"]["finalizers"].clone());
        serde_json::from_value(finalizers.unwrap_or_default()).unwrap_or_default()
    };
    let (was, is) = (of(&run.began), of(&run.subject.world));
    is.difference(&was).next().cloned()
}

/// What a release has left: an object that the action created for a pod that stays, its label or a finalizer.
fn left_behind(run: &Run<'_>) -> Option<String> {
    let world = &run.subject.world;
    let label = run.subject.registration().job_label.as_ref();
    let places = run.subject.targets.iter().enumerate();
    let mut released = places.filter(|(_, target)| target.is_released);
    released.find_map(|(place, target)| {
        let pod = world.pod(&target.name);
        let pod = pod.filter(|pod| Some(&pod.uid) == target.uid.as_ref())?;
        if let Some(label) = label
            && pod
                .labels
                .get(label)
                .is_some_and(|uid| uid == run.subject.job_uid())
        {
            return Some(format!(
                "Pod {} is released and keeps its label {label}",
                target.name
            ));
        }
        if let Some(finalizer) = added_finalizer(run, &target.name) {
            return Some(format!(
                "Pod {} is released and keeps the finalizer {finalizer}, which the action added",
                target.name
            ));
        }
        if pod.deleting {
            return None;
        }
        let mut made = run.made.iter().filter(|made| made.target == place);
        let left = made.find(|made| run.stays(&made.object))?;
        Some(format!(
            "Pod {} is released, and {} {}, which the action created, still exists",
            target.name, left.object.kind, left.object.name
        ))
    })
}
