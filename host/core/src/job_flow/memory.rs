//! What the status remembers of a flow, and what a requested retry resets.

use std::collections::HashMap;

use kube::ResourceExt;
use operon_api::{
    JobFlow,
    job_flow::{FailurePolicy, FlowState, JobFlowStatus, Phase, StepStatus},
    keys,
};

use super::graph::FlowGraph;

/// Why a step is Skipped that nothing but the failure of another keeps from running.
pub(super) const FLOW_FAILED: &str = "FlowFailed";

/// How many steps that are over and not in the spec any more are remembered.
const MAX_ORPHANS: usize = 100;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By name.
    pub(super) steps: HashMap<String, StepStatus>,
    /// The value of the annotation that was acted upon last.
    pub(super) retried: Option<String>,
    /// Whether there is something to run again.
    pub(super) is_reopened: bool,
}

/// What is remembered, after a requested retry was applied.
pub(super) fn recall(flow: &JobFlow, status: &JobFlowStatus, graph: Option<&FlowGraph>) -> Memory {
    let steps = status.steps.iter();
    let memory = Memory {
        steps: steps
            .map(|step| (step.name.clone(), step.clone()))
            .collect(),
        retried: status.retried.clone(),
        is_reopened: false,
    };
    match (asked(flow, status), graph) {
        (Some(asked), Some(graph)) => retry(memory, asked, status, graph),
        _ => memory,
    }
}

/// The retry that a flow requests, if it has not been applied.
fn asked(flow: &JobFlow, status: &JobFlowStatus) -> Option<String> {
    let asked = flow.annotations().get(keys::RETRY)?;
    (Some(asked) != status.retried.as_ref()).then(|| asked.clone())
}

/// Resets failed steps, and the steps skipped because of them, to Waiting.
fn retry(mut memory: Memory, asked: String, status: &JobFlowStatus, graph: &FlowGraph) -> Memory {
    let phase = |memory: &Memory, place: usize| {
        let step = memory.steps.get(graph.name(place));
        step.map_or(Phase::Waiting, |step| step.phase)
    };
    let last = graph.on_exit();
    if last.is_some_and(|last| phase(&memory, last) == Phase::Running) {
        // Clean-up steps continue first.
        return memory;
    }
    let mut is_again = vec![false; graph.len()];
    for place in graph.order() {
        let Some(step) = memory.steps.get_mut(graph.name(*place)) else {
            continue;
        };
        let follows = || graph.dependencies(*place).iter().any(|d| is_again[*d]);
        let goes_again = match step.phase {
            Phase::Failed | Phase::Cancelled => true,
            Phase::Skipped => step.reason.as_deref() == Some(FLOW_FAILED) || follows(),
            Phase::Waiting | Phase::Blocked | Phase::Running | Phase::Succeeded => false,
        };
        if goes_again {
            again(step);
            is_again[*place] = true;
        }
    }
    // Another operator's flow that failed has no steps.
    memory.is_reopened = is_again.contains(&true)
        || (status.steps.is_empty() && status.state == Some(FlowState::Failed));
    if let Some(step) = last.and_then(|last| memory.steps.get_mut(graph.name(last)))
        && memory.is_reopened
        && step.phase.is_over()
    {
        again(step);
    }
    memory.retried = Some(asked);
    memory
}

/// Waiting, as if for the first time; how many Jobs there have been is counted on.
fn again(step: &mut StepStatus) {
    *step = StepStatus {
        name: std::mem::take(&mut step.name),
        attempts: step.attempts,
        failures: step.failures,
        start_time: step.start_time.take(),
        ..StepStatus::default()
    };
}

impl Memory {
    /// Why all running Jobs are deleted. Only what the status has recorded counts, so that a step without
    /// its Job is known to have been cancelled.
    pub(super) fn cancelled_for(&self, flow: &JobFlow) -> Option<String> {
        if flow.spec.failure_policy != Some(FailurePolicy::Cancel) {
            return None;
        }
        let failed = self.main_part(flow).find(|s| s.phase == Phase::Failed)?;
        Some(format!(
            "step {:?} failed (spec.failurePolicy: Cancel)",
            failed.name
        ))
    }

    /// Whether the status has recorded a failure that stops the flow.
    pub(super) fn is_stopped(&self, flow: &JobFlow) -> bool {
        flow.spec.failure_policy != Some(FailurePolicy::Continue)
            && self
                .main_part(flow)
                .any(|step| matches!(step.phase, Phase::Failed | Phase::Cancelled))
    }

    /// Whether a step is not cancelled: it runs last, or it starts, or has started, after the status
    /// recorded the failure, which only a step with a `when` does.
    pub(super) fn is_spared(&self, flow: &JobFlow, name: &str, has_when: bool) -> bool {
        let known = self.steps.get(name);
        let phase = known.map_or(Phase::Waiting, |known| known.phase);
        let is_after = match phase {
            Phase::Waiting | Phase::Blocked => has_when,
            Phase::Running
            | Phase::Succeeded
            | Phase::Failed
            | Phase::Skipped
            | Phase::Cancelled => known.is_some_and(|known| known.after_failure == Some(true)),
        };
        is_after || flow.spec.on_exit.as_deref() == Some(name)
    }

    /// The status of the steps of the spec, except the one that runs last.
    fn main_part<'a>(&'a self, flow: &'a JobFlow) -> impl Iterator<Item = &'a StepStatus> {
        let steps = flow.spec.flows.iter();
        let steps = steps.filter(|step| Some(&step.name) != flow.spec.on_exit.as_ref());
        steps.filter_map(|step| self.steps.get(&step.name))
    }
}

/// Drops the oldest finished steps that are not in the spec any more, if there is no room for them.
pub(super) fn forget(orphans: &mut Vec<StepStatus>) {
    while orphans.len() > MAX_ORPHANS {
        let ended = orphans.iter().enumerate();
        let oldest = ended
            .filter(|(_, orphan)| orphan.phase.is_over())
            .min_by_key(|(_, orphan)| orphan.completion_time.as_ref().map(|time| time.0));
        let Some((place, _)) = oldest else { return };
        orphans.remove(place);
    }
}
