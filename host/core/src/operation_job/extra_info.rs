//! How much extra-info the status of a job has room for. Pure, and independent of the order of the answers.
//!
//! Every target in progress has room for [`EXTRA_INFO`] bytes, and keeps what it has recorded. What is left of the
//! object is for those that record more; if it is too little for all of them, each has the same share of it. An answer
//! with more than that is a failure of its target, which keeps what it recorded before.

use std::collections::BTreeMap;

use super::{
    Observed,
    conclude::{Answer, Answers},
    plan::{TargetPlan, TargetPlans, TargetStep},
    size::{self, bytes},
};
use crate::action::{ActionError, Attributes, Failure, OpsProgress};

/// The reason of a target whose action records more than the status has room for.
const TOO_LARGE: &str = "ExtraInfoTooLarge";

/// An answer with more extra-info than its target has room for without a share.
struct Growing<'a> {
    index: usize,
    answer: &'a Answer,
    /// What it records.
    size: usize,
    /// What its target has room for anyway.
    kept: usize,
}

/// The answers whose extra-info the status has no room for, each as the failure that takes its place.
pub(super) fn refused(
    observed: &Observed<'_>,
    run: &TargetPlans,
    answers: &Answers,
) -> BTreeMap<usize, Answer> {
    let targets = run.targets.iter();
    let growing: Vec<_> = targets
        .filter_map(|target| growing(target, answers.given.get(&target.index)?))
        .collect();
    if growing.is_empty() {
        return BTreeMap::new();
    }
    let left = size::left(observed.job, in_progress(run));
    let wanted: usize = growing.iter().map(|one| one.size - one.kept).sum();
    if wanted <= left {
        return BTreeMap::new();
    }
    let share = left / growing.len();
    growing
        .iter()
        .filter(|one| one.size > one.kept + share)
        .map(|one| (one.index, too_large(one, one.kept + share)))
        .collect()
}

/// The details of the targets that are in progress, or start now.
fn in_progress(
    run: &TargetPlans,
) -> impl Iterator<Item = &operon_api::operation_job::TargetDetail> {
    let targets = run.targets.iter().filter(|target| {
        matches!(target.step, TargetStep::Start { .. }) || size::is_under_way(&target.detail)
    });
    targets.map(|target| &target.detail)
}

fn growing<'a>(target: &TargetPlan, answer: &'a Answer) -> Option<Growing<'a>> {
    let size = bytes(recorded(answer)?);
    let kept = size::kept(&target.detail);
    (size > kept).then_some(Growing {
        index: target.index,
        answer,
        size,
        kept,
    })
}

/// What an answer records of a target that goes on. What a finished target recorded is left out of the status
/// where there is no room.
fn recorded(answer: &Answer) -> Option<&Attributes> {
    match answer {
        Answer::Report(report) => match report.progress {
            OpsProgress::Succeeded => None,
            OpsProgress::Processing | OpsProgress::Failed => Some(&report.extra_info),
        },
        Answer::Acted { extra_info }
        | Answer::Operated { extra_info }
        | Answer::Releasing { extra_info, .. } => Some(extra_info),
        Answer::Error { extra_info, .. } => extra_info.as_ref(),
        Answer::Tried { .. } | Answer::Released { .. } => None,
    }
}

fn too_large(one: &Growing<'_>, budget: usize) -> Answer {
    let mut message = format!(
        "the action recorded {} bytes of extra-info, and the status of the job has room for {budget} of this target: \
         split the job, or let the action record less",
        one.size
    );
    if let Some(Failure {
        reason,
        message: why,
    }) = failure(one.answer)
    {
        message = format!("{message}; the action reported {reason}: {why}");
    }
    Answer::Error {
        error: ActionError::Terminal(Failure::new(TOO_LARGE, message)),
        extra_info: None,
    }
}

/// What the answer says went wrong, or is waited for.
fn failure(answer: &Answer) -> Option<&Failure> {
    match answer {
        Answer::Report(report) => report.failure.as_ref(),
        Answer::Releasing { unfinished, .. } => Some(&unfinished.failure),
        Answer::Error { error, .. } => Some(error.failure()),
        Answer::Acted { .. }
        | Answer::Operated { .. }
        | Answer::Tried { .. }
        | Answer::Released { .. } => None,
    }
}
