//! The verdict about one run: the rules that every run must keep, and the state that it must end in.

use operon_core::action::OpsProgress;

use super::{
    super::{subject, world::World},
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
    expected: Option<(Like, &End)>,
) -> Option<String> {
    if let Some(fault) = run.faults.first() {
        return Some(fault.clone());
    }
    let wrong = beside(run, plain)
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
        // Time passes when something goes wrong, so a target may have succeeded before its release.
        let has_succeeded = |(was, is): (&Outcome, &Outcome)| {
            was.progress != is.progress && is.progress == OpsProgress::Succeeded
        };
        if is_canceled && pairs.clone().any(has_succeeded) {
            return None;
        }
        let differs = |(was, is): &(&Outcome, &Outcome)| {
            was.progress != is.progress || (was != is && !is_canceled)
        };
        if let Some((was, is)) = pairs.find(differs) {
            let (was, is) = (&was.words, &is.words);
            return Some(format!("the end is {is}; {other} it is {was}"));
        }
    }
    is.state.difference(&end.state, other)
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

/// A target that does not come to an end, and does not say why.
fn without_end(run: &Run<'_>) -> Option<String> {
    run.subject.targets.iter().find_map(|target| {
        let subject::State {
            name,
            progress,
            failure,
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
        if FOREVER.contains(&reason) {
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

/// What a release has left: an object that the action created for a pod that stays, or its mark on a pod.
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
