//! A step that has not started: whether it may start, by the results of its dependencies.

use operon_api::job_flow::{Phase, StepStatus};

use super::{graph::FlowGraph, when::Answer};
use crate::action::Failure;

/// Why a step is Skipped: its own `when`, something that it depends on being skipped for such a reason,
/// or something that it depends on having failed.
const WHEN_FALSE: &str = "WhenFalse";
const DEPENDENCY_SKIPPED: &str = "DependencySkipped";
const DEPENDENCY_FAILED: &str = "DependencyFailed";

/// Why a step with a dependency that does not exist is Blocked.
pub(super) const UNKNOWN_DEPENDENCY: &str = "UnknownDependency";

/// The decision on a step that has not started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something is not over, or nothing may start.
    Wait,
    /// It can't start before the flow is edited.
    Block(Failure),
    /// It may start.
    Start,
    /// It does not run.
    Skip(Failure),
    /// It can't be known whether it runs.
    Fail(Failure),
}

/// Whether a step was skipped because it was not meant to run.
pub(super) fn is_skipped_on_purpose(step: &StepStatus) -> bool {
    let reason = step.reason.as_deref();
    step.phase == Phase::Skipped && matches!(reason, Some(WHEN_FALSE | DEPENDENCY_SKIPPED))
}

/// Decides on a step, given the status of all; `is_stopped` means that a failure keeps the steps without a
/// `when` from starting.
pub(super) fn turn(
    graph: &FlowGraph,
    place: usize,
    steps: &[StepStatus],
    is_stopped: bool,
) -> Turn {
    let unknown = graph.unknown(place);
    let unknown = unknown.map(|unknown| Failure::new(UNKNOWN_DEPENDENCY, unknown.to_string()));
    let mut before = graph.dependencies(place).iter().map(|d| &steps[*d]);
    let Some(when) = graph.condition(place) else {
        let mut all_succeeded = true;
        for dependency in before {
            if dependency.phase.is_over() && dependency.phase != Phase::Succeeded {
                return Turn::Skip(because_of(dependency));
            }
            all_succeeded &= dependency.phase == Phase::Succeeded;
        }
        return match unknown {
            Some(unknown) => Turn::Block(unknown),
            None if all_succeeded && !is_stopped => Turn::Start,
            None => Turn::Wait,
        };
    };
    if let Some(unknown) = unknown {
        return Turn::Block(unknown);
    }
    // It has its turn in a stopped flow too: it is how a flow reacts to a failure.
    if !before.all(|dependency| dependency.phase.is_over()) {
        return Turn::Wait;
    }
    let asked = steps.iter().enumerate();
    let asked = asked.filter(|(other, _)| graph.is_before(*other, place));
    match when.answer(asked.map(|(_, step)| step)) {
        Ok(Answer::True) => Turn::Start,
        Ok(Answer::False) => Turn::Skip(Failure::new(WHEN_FALSE, "its when is false")),
        Ok(Answer::Lacks { step, output }) => {
            let (name, how) = (&step.name, how_over(step.phase));
            let why = format!(
                "its when is false: it needs the output {output:?} of step {name:?}, which {how}"
            );
            Turn::Skip(Failure::new(WHEN_FALSE, why))
        }
        Err(error) => Turn::Fail(Failure::new(
            "WhenInvalid",
            format!("its when can't be evaluated: {error}"),
        )),
    }
}

fn because_of(dependency: &StepStatus) -> Failure {
    let reason = if is_skipped_on_purpose(dependency) {
        DEPENDENCY_SKIPPED
    } else {
        DEPENDENCY_FAILED
    };
    let (name, how) = (&dependency.name, how_over(dependency.phase));
    Failure::new(reason, format!("it depends on {name:?}, which {how}"))
}

/// How a step ended that did not succeed.
fn how_over(phase: Phase) -> &'static str {
    match phase {
        Phase::Skipped => "was skipped",
        Phase::Cancelled => "was cancelled",
        Phase::Failed | Phase::Waiting | Phase::Blocked | Phase::Running | Phase::Succeeded => {
            "failed"
        }
    }
}
