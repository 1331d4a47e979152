//! The content of all pictures of a flow: its steps in layers, and the state of each. Pure.

use std::collections::HashMap;

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;
use operon_api::{
    JobFlow,
    job_flow::{self, FailurePolicy, JobFlowStatus, Phase, StepStatus},
};
use operon_core::job_flow::graph::{FlowGraph, GraphError};

use super::marks::{clean, sign};

/// A valid flow, as texts to draw.
#[derive(Debug)]
pub struct Picture {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// Its status: `state`, `progress`, `duration`, as far as they are known.
    pub(super) standing: Vec<(&'static str, String)>,
    /// Why, in the controller's words.
    pub(super) message: Option<String>,
    /// The fields of its spec that concern all steps.
    pub(super) settings: Vec<String>,
    /// In the order of the spec.
    pub(super) steps: Vec<Step>,
    /// The steps that may run at the same time, without the one that runs last.
    pub(super) layers: Vec<Vec<usize>>,
    /// The step that runs last.
    pub(super) exit: Option<usize>,
    /// Steps that were taken out of the spec after they had started, with their phases.
    pub(super) removed: Vec<String>,
    graph: FlowGraph,
}

/// A step, and its status.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) dependencies: Vec<usize>,
    pub(super) when: Option<String>,
    pub(super) phase: Option<Phase>,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    /// How many Jobs it has had, if more than one.
    pub(super) attempts: Option<i32>,
    pub(super) duration: Option<String>,
}

impl Picture {
    /// The picture of `flow`; running steps have run until `now`.
    ///
    /// # Errors
    /// Its steps are invalid.
    pub(super) fn new(flow: &JobFlow, now: Timestamp) -> anyhow::Result<Self> {
        let namespace = flow.namespace().as_deref().map(clean);
        let name = clean(&flow.name_any());
        let graph = graph(flow).with_context(|| title(namespace.as_deref(), &name))?;
        let status = flow.status.as_ref();
        let known = status.map(by_name).unwrap_or_default();
        let steps = flow.spec.flows.iter().enumerate();
        let steps = steps
            .map(|(place, step)| {
                let dependencies = graph.dependencies(place).to_vec();
                Step::new(
                    step,
                    dependencies,
                    known.get(step.name.as_str()).copied(),
                    now,
                )
            })
            .collect();
        let mut layers = graph.layers();
        if graph.on_exit().is_some() {
            layers.pop();
        }
        Ok(Self {
            namespace,
            name,
            standing: status.map(|s| standing(s, now)).unwrap_or_default(),
            message: status.and_then(message),
            settings: settings(flow),
            steps,
            layers,
            exit: graph.on_exit(),
            removed: status.map(removed).unwrap_or_default(),
            graph,
        })
    }

    /// Its identity: kind, namespace and name.
    pub(super) fn title(&self) -> String {
        title(self.namespace.as_deref(), &self.name)
    }

    /// Its status in one line, if it has one.
    pub(super) fn standing(&self) -> Option<String> {
        let parts = self.standing.iter().map(|(_, text)| text.as_str());
        let parts: Vec<_> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(" · "))
    }

    /// Title and status.
    pub(super) fn caption(&self) -> String {
        let title = self.title();
        let standing = self.standing();
        standing.map_or(title.clone(), |standing| format!("{title}: {standing}"))
    }

    /// From each step to those that depend on it, and whether they have a `when`.
    pub(super) fn edges(&self) -> impl Iterator<Item = (usize, usize, bool)> {
        let steps = self.steps.iter().enumerate();
        steps.flat_map(|(to, step)| {
            let is_when = step.when.is_some();
            let from = step.dependencies.iter();
            from.map(move |from| (*from, to, is_when))
        })
    }

    /// A step in lines of text: sign and name, then what is below them.
    pub(super) fn label(&self, place: usize) -> Vec<String> {
        let step = &self.steps[place];
        let mut lines = vec![format!("{} {}", sign(step.phase), step.name)];
        lines.extend(step.lines().into_iter().map(|(_, line)| line));
        lines.extend((self.exit == Some(place)).then(|| "on exit".to_owned()));
        lines
    }

    /// A step of the last layer.
    pub(super) fn last(&self) -> Option<usize> {
        self.layers.last()?.first().copied()
    }

    /// Whether one step depends on the other, directly or not.
    pub(super) fn is_before(&self, one: usize, other: usize) -> bool {
        self.graph.is_before(one, other)
    }

    /// How many steps are in which phase, in the order in which a step goes through them.
    pub(super) fn count(&self) -> Vec<(Phase, usize)> {
        let in_phase = |phase| self.steps.iter().filter(|s| s.phase == Some(phase)).count();
        let counts = PHASES.into_iter().map(|phase| (phase, in_phase(phase)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Failures come first, waiting steps last.
pub(super) const PHASES: [Phase; 7] = [
    Phase::Failed,
    Phase::Blocked,
    Phase::Cancelled,
    Phase::Running,
    Phase::Succeeded,
    Phase::Skipped,
    Phase::Waiting,
];

impl Step {
    fn new(
        step: &job_flow::Step,
        dependencies: Vec<usize>,
        known: Option<&StepStatus>,
        now: Timestamp,
    ) -> Self {
        let attempts = known.and_then(|known| known.attempts);
        let text = |text: &Option<String>| text.as_deref().map(clean).filter(|t| !t.is_empty());
        Self {
            name: clean(&step.name),
            dependencies,
            when: text(&step.when),
            phase: known.map(|known| known.phase),
            reason: known.and_then(|known| text(&known.reason)),
            message: known.and_then(|known| text(&known.message)),
            attempts: attempts.filter(|attempts| *attempts > 1),
            duration: known.and_then(|known| {
                let is_going_on = !known.phase.is_over();
                let until = known.completion_time.as_ref().map(|time| time.0);
                let until = until.or(is_going_on.then_some(now));
                duration(known.start_time.as_ref(), until)
            }),
        }
    }

    /// What is below its name in a box, with the class of each line.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = Vec::new();
        if let Some(phase) = self.phase {
            let attempts = self.attempts.map(|attempts| format!("×{attempts}"));
            let parts = [
                Some(phase.as_str().to_owned()),
                self.duration.clone(),
                attempts,
            ];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            lines.push(("phase", parts.join(" · ")));
        }
        lines.extend(self.reason.clone().map(|reason| ("phase", reason)));
        let when = self.when.as_ref();
        lines.extend(when.map(|when| ("when", format!("when {when}"))));
        lines
    }

    /// The reason and its message. For a skipped step the reason is enough.
    pub(super) fn why(&self) -> Option<String> {
        let message = self.message.as_deref();
        let message = message.filter(|_| self.phase != Some(Phase::Skipped));
        match (self.reason.as_deref(), message) {
            (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
            (one, other) => one.or(other).map(str::to_owned),
        }
    }
}

/// The valid steps of a flow.
///
/// # Errors
/// The controller's error, with the field and what to do where it does not say it.
fn graph(flow: &JobFlow) -> anyhow::Result<FlowGraph> {
    let graph = FlowGraph::new(&flow.spec).map_err(|error| match error {
        GraphError::Cycle { .. } => {
            anyhow!("spec.flows[].dependencies: {error}; remove one of these dependencies")
        }
        error => error.into(),
    })?;
    for place in 0..graph.len() {
        if let Some(unknown) = graph.unknown(place) {
            let remedy = match unknown.hint {
                Some(_) => "",
                None => "; add the step, or remove the dependency",
            };
            let name = graph.name(place);
            bail!("spec.flows[{place}].dependencies: step {name:?}: {unknown}{remedy}");
        }
    }
    Ok(graph)
}

fn title(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("JobFlow {namespace}/{name}"),
        None => format!("JobFlow {name}"),
    }
}

fn by_name(status: &JobFlowStatus) -> HashMap<&str, &StepStatus> {
    let steps = status.steps.iter();
    steps.map(|step| (step.name.as_str(), step)).collect()
}

fn standing(status: &JobFlowStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let until = status.completion_time.as_ref().map_or(now, |time| time.0);
    let state = status.state.map(|state| state.as_str().to_owned());
    let progress = status.progress.as_deref().map(clean);
    let duration = duration(status.start_time.as_ref(), Some(until));
    let parts = [
        state.map(|state| ("state", state)),
        progress.map(|progress| ("progress", progress)),
        duration.map(|duration| ("duration", duration)),
    ];
    parts.into_iter().flatten().collect()
}

fn message(status: &JobFlowStatus) -> Option<String> {
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready")?;
    let message = clean(&ready.message);
    (!message.is_empty()).then_some(message)
}

fn settings(flow: &JobFlow) -> Vec<String> {
    let spec = &flow.spec;
    let policy = match spec.failure_policy {
        None | Some(FailurePolicy::StopScheduling) => None,
        Some(FailurePolicy::Continue) => Some("failurePolicy Continue".to_owned()),
        Some(FailurePolicy::Cancel) => Some("failurePolicy Cancel".to_owned()),
    };
    let at_once = spec.parallelism.map(|most| format!("{most} at a time"));
    let is_suspended = spec.suspend == Some(true);
    let suspended = is_suspended.then(|| "suspended".to_owned());
    [at_once, policy, suspended].into_iter().flatten().collect()
}

fn removed(status: &JobFlowStatus) -> Vec<String> {
    let steps = status.steps.iter().filter(|s| s.orphaned == Some(true));
    steps
        .map(|step| format!("{} ({})", clean(&step.name), step.phase.as_str()))
        .collect()
}

/// How long it took, in the two largest units that there are: `42s`, `3m5s`, `1h4m`, `2d3h`.
fn duration(from: Option<&Time>, until: Option<Timestamp>) -> Option<String> {
    let seconds = until?.as_second() - from?.0.as_second();
    // The clock of this machine may be behind that of the cluster.
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let (large, small) = match seconds {
        0..60 => return Some(format!("{seconds}s")),
        60..3600 => (format!("{minutes}m"), (seconds % 60, "s")),
        3600..86400 => (format!("{hours}h"), (minutes % 60, "m")),
        _ => (format!("{days}d"), (hours % 24, "h")),
    };
    Some(match small {
        (0, _) => large,
        (count, unit) => format!("{large}{count}{unit}"),
    })
}
