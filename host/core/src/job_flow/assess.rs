//! The status of every step of a flow, and the Jobs that are due. Plan and conclusion both use it: the plan
//! with the state before the writes of a reconcile, the conclusion with the state after them.

mod starts;

use std::{collections::HashSet, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operon_api::{
    JobFlow,
    job_flow::{FailurePolicy, FlowState, JobFlowStatus, Phase, StepStatus},
};

use super::{
    Observed,
    advance::{Advanced, Circumstances, Due, JOB_PENDING, advance},
    graph::{FlowGraph, GraphError},
    memory::{self, Memory},
    outputs, refused,
    step_jobs::StepJobs,
    turn::{Turn, UNKNOWN_DEPENDENCY, turn},
};
use crate::{
    action::Failure,
    driver::{Asked, Question, Start},
    jobs::MadeJobs,
};

/// For how many steps at the same time the API server is asked what their Jobs wait for.
const EXPLAINED: usize = 20;

/// What a flow is, at one moment.
#[derive(Debug, Default)]
pub(super) struct Assessment {
    /// Why nothing starts.
    pub(super) error: Option<GraphError>,
    /// Every step of the spec, in its order.
    pub(super) steps: Vec<StepStatus>,
    /// Steps that had started and are not in the spec any more.
    pub(super) orphans: Vec<StepStatus>,
    /// The Jobs to create.
    pub(super) start: Vec<Start>,
    /// The steps that make no progress, with the reason.
    pub(super) stalls: Vec<(String, Failure)>,
    /// What must be asked to explain what a Job waits for.
    pub(super) question: Option<Question>,
    /// Whether nothing runs any more, and nothing will.
    pub(super) is_finished: bool,
    /// Whether the flow had finished before this reconcile: then the status of its steps is final.
    pub(super) was_finished: bool,
    /// The value of the annotation that was acted upon last.
    pub(super) retried: Option<String>,
    /// When time alone changes something.
    pub(super) look_after: Option<Duration>,
}

/// Whether a flow has finished, by its status. What another operator left finished has no steps.
pub(super) fn is_finished(status: &JobFlowStatus) -> bool {
    let is_over = matches!(status.state, Some(FlowState::Succeed | FlowState::Failed));
    is_over && (status.completion_time.is_some() || status.steps.is_empty())
}

/// The policy of a flow.
fn policy(flow: &JobFlow) -> FailurePolicy {
    flow.spec.failure_policy.unwrap_or_default()
}

/// Assesses every step. `made` is what came of the Jobs that were to be made, if they have been; `asked` is
/// the answer to the question of this reconcile.
pub(super) fn assess(
    observed: &Observed<'_>,
    made: Option<&MadeJobs>,
    asked: &Asked,
) -> Assessment {
    let flow = observed.flow;
    let none = JobFlowStatus::default();
    let status = flow.status.as_ref().unwrap_or(&none);
    let memory = memory::recall(flow, status, observed.graph.as_ref().ok());
    if is_finished(status) && !memory.is_reopened {
        let (orphans, steps) = status
            .steps
            .iter()
            .cloned()
            .partition(|step| step.orphaned == Some(true));
        return Assessment {
            steps,
            orphans,
            is_finished: true,
            was_finished: true,
            retried: memory.retried,
            ..Assessment::default()
        };
    }
    let around = Circumstances {
        pods: observed.pods,
        now: observed.now,
        is_suspended: flow.spec.suspend == Some(true),
        asked,
        cancelled_for: memory.cancelled_for(flow),
    };
    let mut pass = Pass {
        observed,
        made,
        jobs: StepJobs::of(observed, made),
        around,
        assessment: Assessment {
            retried: memory.retried.clone(),
            ..Assessment::default()
        },
        is_stop_known: memory.is_stopped(flow),
        again: Vec::new(),
        waiting: 0,
        tried: HashSet::new(),
    };
    pass.advance_all(memory);
    match observed.graph {
        Ok(graph) => pass.decide(graph),
        Err(error) => pass.assessment.error = Some(error.clone()),
    }
    pass.assessment
}

struct Pass<'a> {
    observed: &'a Observed<'a>,
    made: Option<&'a MadeJobs>,
    jobs: StepJobs<'a>,
    around: Circumstances<'a>,
    assessment: Assessment,
    /// Whether the failure that stops the flow has been written down.
    is_stop_known: bool,
    /// Steps that run and are due for another Job.
    again: Vec<Again>,
    /// How many steps have a Job that waits for something.
    waiting: usize,
    /// The steps that were refused, and whose Jobs are tried, or were tried, in this pass.
    tried: HashSet<usize>,
}

/// A step that runs and is due for another Job.
struct Again {
    place: usize,
    attempt: i32,
    /// The API server's last refusal of it.
    refusal: Option<Failure>,
}

impl Pass<'_> {
    /// Brings every step that has started up to date with its Job.
    fn advance_all(&mut self, memory: Memory) {
        let mut room = outputs::room(memory.steps.values());
        let spared = Circumstances {
            cancelled_for: None,
            ..self.around.clone()
        };
        let flow = self.observed.flow;
        let is_spared: Vec<_> = flow
            .spec
            .flows
            .iter()
            .map(|step| memory.is_spared(flow, &step.name, step.when.is_some()))
            .collect();
        let mut known = memory.steps;
        for (place, step) in flow.spec.flows.iter().enumerate() {
            let before = known.remove(&step.name).unwrap_or_else(|| StepStatus {
                name: step.name.clone(),
                ..StepStatus::default()
            });
            let before = StepStatus {
                orphaned: None,
                ..before
            };
            let around = if is_spared[place] {
                &spared
            } else {
                &self.around
            };
            let had_outputs = !before.outputs.is_empty();
            let had_started = has_started_or_is_over(&before);
            let refusal = refused::refusal(&before);
            let mut advanced = advance(around, &self.jobs, Some(step), before);
            if !had_outputs {
                room = outputs::within(&mut advanced.status, room);
            }
            if !had_started && has_started_or_is_over(&advanced.status) {
                let is_after = self.is_stop_known && step.when.is_some();
                advanced.status.after_failure = is_after.then_some(true);
            }
            if let Due::Attempt(attempt) = advanced.due {
                self.again.push(Again {
                    place,
                    attempt,
                    refusal,
                });
            }
            let status = self.note(advanced);
            self.assessment.steps.push(status);
        }
        // A step that a retry reset, and that has not started again, has nothing to wait for.
        let is_orphan = |step: &StepStatus| has_started(step) && has_started_or_is_over(step);
        let mut orphans: Vec<_> = known.into_values().filter(is_orphan).collect();
        orphans.sort_by(|a, b| a.name.cmp(&b.name));
        for before in orphans {
            let before = StepStatus {
                orphaned: Some(true),
                ..before
            };
            let advanced = advance(&self.around, &self.jobs, None, before);
            let status = self.note(advanced);
            self.assessment.orphans.push(status);
        }
        memory::forget(&mut self.assessment.orphans);
    }

    fn note(&mut self, advanced: Advanced) -> StepStatus {
        let Advanced {
            status,
            due,
            stall,
            question,
        } = advanced;
        if stall.is_some() || status.reason.as_deref() == Some(JOB_PENDING) {
            self.waiting += 1;
        }
        if self.waiting <= EXPLAINED && self.assessment.question.is_none() {
            self.assessment.question = question;
        }
        if let Due::Look(after) = due {
            self.look_after(after);
        }
        if let Some(stall) = stall {
            self.assessment.stalls.push((status.name.clone(), stall));
        }
        status
    }

    fn look_after(&mut self, wait: Duration) {
        let before = self.assessment.look_after;
        self.assessment.look_after = Some(before.map_or(wait, |before| before.min(wait)));
    }

    /// Decides on the steps that have not started, and which Jobs are due.
    fn decide(&mut self, graph: &FlowGraph) {
        let ready = self.take_turns(graph);
        self.choose_tries(&ready);
        self.start_again(graph);
        self.start_ready(graph, ready);
        self.note_unknown_dependencies();
        let steps = &self.assessment.steps;
        let are_over = steps.iter().all(|step| step.phase.is_over());
        self.assessment.is_finished = are_over && !self.has_running_orphans();
    }

    /// Steps with a dependency that does not exist wait for an edit of the flow.
    fn note_unknown_dependencies(&mut self) {
        let steps = self.assessment.steps.iter();
        let blocked = steps.filter_map(|step| {
            let is_unknown = step.reason.as_deref() == Some(UNKNOWN_DEPENDENCY);
            let message = step.message.clone().filter(|_| is_unknown)?;
            Some((step.name.clone(), Failure::new(UNKNOWN_DEPENDENCY, message)))
        });
        self.assessment.stalls.extend(blocked);
    }

    /// Skips what can't run any more; the steps that may start, in the order of the spec.
    fn take_turns(&mut self, graph: &FlowGraph) -> Vec<usize> {
        let mut ready = self.take_turns_of_main_part(graph);
        let mut is_early = self.is_stopped(graph) && !self.is_stop_known;
        if ready.is_empty() && self.is_stopped(graph) && !self.is_running(graph) {
            self.skip_the_rest(graph);
            ready = self.take_turns_of_main_part(graph);
            is_early = true;
        }
        if is_early && !ready.is_empty() {
            // The status first records the failure that they react to: steps that start after that are not
            // cancelled, and the input of their `when` is known.
            ready.clear();
            self.look_after(Duration::ZERO);
        }
        if self.is_main_part_over(graph)
            && let Some(last) = graph.on_exit()
            && !has_started_or_is_over(&self.assessment.steps[last])
        {
            self.take_turn(graph, last, false, &mut ready);
        }
        // What was refused does not take the place of what would not be.
        ready.sort_by_key(|place| {
            let is_blocked = self.assessment.steps[*place].phase == Phase::Blocked;
            (is_blocked, *place)
        });
        ready
    }

    fn take_turns_of_main_part(&mut self, graph: &FlowGraph) -> Vec<usize> {
        let mut ready = Vec::new();
        let mut is_stopped = self.is_stopped(graph);
        for place in graph.order().iter().copied() {
            let is_open = !has_started_or_is_over(&self.assessment.steps[place]);
            if graph.on_exit() != Some(place) && is_open {
                self.take_turn(graph, place, is_stopped, &mut ready);
                let has_failed = self.assessment.steps[place].phase == Phase::Failed;
                is_stopped = is_stopped || (has_failed && self.is_stopped(graph));
            }
        }
        if is_stopped {
            ready.retain(|place| graph.condition(*place).is_some());
        }
        ready
    }

    fn take_turn(
        &mut self,
        graph: &FlowGraph,
        place: usize,
        is_stopped: bool,
        ready: &mut Vec<usize>,
    ) {
        let steps = &mut self.assessment.steps;
        match turn(graph, place, steps, is_stopped) {
            Turn::Wait => wait(&mut steps[place]),
            Turn::Block(why) => settle(&mut steps[place], Phase::Blocked, &why),
            Turn::Start => ready.push(place),
            Turn::Skip(why) => settle(&mut steps[place], Phase::Skipped, &why),
            Turn::Fail(why) => {
                settle(&mut steps[place], Phase::Failed, &why);
                steps[place].completion_time = Some(Time(self.observed.now));
            }
        }
    }

    /// Whether no further step starts.
    fn is_stopped(&self, graph: &FlowGraph) -> bool {
        let steps = self.assessment.steps.iter().enumerate();
        policy(self.observed.flow) != FailurePolicy::Continue
            && steps
                .filter(|(place, _)| graph.on_exit() != Some(*place))
                .any(|(_, step)| matches!(step.phase, Phase::Failed | Phase::Cancelled))
    }

    fn has_running_orphans(&self) -> bool {
        let mut orphans = self.assessment.orphans.iter();
        orphans.any(|orphan| !orphan.phase.is_over())
    }

    /// Whether something but `onExit` runs.
    fn is_running(&self, graph: &FlowGraph) -> bool {
        let mut steps = self.assessment.steps.iter().enumerate();
        let is_last = |place: usize| graph.on_exit() == Some(place);
        self.has_running_orphans()
            || steps.any(|(place, step)| !is_last(place) && step.phase == Phase::Running)
    }

    /// Whether nothing but `onExit` runs or will run.
    fn is_main_part_over(&self, graph: &FlowGraph) -> bool {
        let mut steps = self.assessment.steps.iter().enumerate();
        !self.has_running_orphans()
            && steps.all(|(place, step)| graph.on_exit() == Some(place) || step.phase.is_over())
    }

    /// Skips what a failure keeps from starting; what has a `when` decides for itself.
    fn skip_the_rest(&mut self, graph: &FlowGraph) {
        let mut steps = self.assessment.steps.iter();
        let failed = steps.find(|step| matches!(step.phase, Phase::Failed | Phase::Cancelled));
        let failed = failed.map_or("", |step| step.name.as_str());
        let why =
            format!("step {failed:?} failed, so no further step started (spec.failurePolicy)");
        for (place, step) in self.assessment.steps.iter_mut().enumerate() {
            let unknown = graph.unknown(place);
            let has_when = graph.condition(place).is_some() && unknown.is_none();
            if graph.on_exit() != Some(place) && !has_when && !step.phase.is_over() {
                let unknown = unknown.map_or_else(String::new, |unknown| format!("{unknown}; "));
                let why = Failure::new(memory::FLOW_FAILED, format!("{unknown}{why}"));
                settle(step, Phase::Skipped, &why);
            }
        }
    }
}

fn wait(step: &mut StepStatus) {
    step.phase = Phase::Waiting;
    step.reason = None;
    step.message = None;
}

fn settle(step: &mut StepStatus, phase: Phase, why: &Failure) {
    step.phase = phase;
    step.reason = Some(why.reason.clone());
    step.message = Some(super::advance::short(&why.message));
}

fn has_started_or_is_over(step: &StepStatus) -> bool {
    step.phase == Phase::Running || step.phase.is_over()
}

fn has_started(step: &StepStatus) -> bool {
    step.attempts.is_some()
}
