//! PodTransitionRules: which operations may take a pod out of service, and when a pod may return. Pure.
//!
//! [`conclude`] decides about the pods that one object selects; the decisions are its status. [`answers`] is what the
//! lifecycle makes of the statuses for one pod. So a decision is stored before a pod is taken out of service, and
//! a host that was killed in between finds it again.
//!
//! A decision names the uid of the pod and the operations that it is about, each with the time of its begin. It
//! is kept until they have finished, so the next operation on the pod never finds an old decision.

mod answer;
mod census;
mod decide;
mod read;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::ResourceExt;
use operon_api::{
    CollaSet, PodTransitionRule,
    conditions::{Standing, conditions},
    pod_transition_rule::{CheckStage, PodTransitionRuleStatus, TransitionDetail},
};

pub(super) use self::answer::noted;
pub use self::{
    answer::{Answers, Note, answers, waits_for},
    read::selector,
};
use self::{
    decide::{Decisions, decide},
    read::Rules,
};
use super::labels::{Labels, Mark, Operation, Stage};
use crate::{
    action::{Failure, Severity},
    driver::{Conclusion, Event},
};

/// How many selected pods the status names.
const NAMED: usize = 500;

/// Everything that the decisions of one object are made from.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object.
    pub object: Arc<PodTransitionRule>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The CollaSets that own some of these pods.
    pub sets: Vec<Set>,
    /// The time.
    pub now: Timestamp,
}

/// A CollaSet and all its pods.
#[derive(Clone, Debug)]
pub struct Set {
    /// The CollaSet.
    pub object: Arc<CollaSet>,
    /// The pods that it owns.
    pub pods: Vec<Arc<Pod>>,
}

/// The next status: the decisions about the selected pods.
pub fn conclude(seen: &Seen) -> Conclusion<PodTransitionRuleStatus> {
    let object = &*seen.object;
    let previous = object.status.clone().unwrap_or_default();
    let (mut status, problem) = match selector(object) {
        Ok(_) => decided(seen, &previous),
        Err(problem) => (PodTransitionRuleStatus::default(), Some(problem)),
    };
    let (standing, reason, message) = match &problem {
        Some(Failure { reason, message }) => (Standing::Stalled, &**reason, message.clone()),
        None => (Standing::Ready, "Observed", summary(&status)),
    };
    let generation = object.metadata.generation;
    let known = &previous.conditions;
    status.observed_generation = generation;
    status.conditions = conditions(known, standing, reason, &message, generation, seen.now);
    let said = |all: &[Condition]| all.first().map(|ready| ready.message.clone());
    let is_new = said(&status.conditions) != said(known);
    status.update_time.clone_from(&previous.update_time);
    if status != previous {
        status.update_time = Some(Time(seen.now));
    }
    let event = problem.filter(|_| is_new).map(|problem| Event {
        severity: Severity::Warning,
        reason: "InvalidSpec",
        message: problem.message,
        related: None,
    });
    Conclusion {
        status,
        events: event.into_iter().collect(),
        requeue_after: None,
    }
}

/// Whether a status lets an operation go on that the previous one does not: the lifecycle waits for it.
pub fn allows_more(
    previous: Option<&PodTransitionRuleStatus>,
    status: &PodTransitionRuleStatus,
) -> bool {
    let generation = status.observed_generation;
    let previous = previous.filter(|previous| previous.observed_generation == generation);
    let known = previous.into_iter().flat_map(|previous| &previous.details);
    let known: BTreeSet<_> = known.filter_map(allowed).collect();
    let mut all = status.details.iter().filter_map(allowed);
    all.any(|one| !known.contains(&one))
}

/// What a decision allows, if it allows something.
fn allowed(detail: &TransitionDetail) -> Option<(&str, u8, &str)> {
    let TransitionDetail {
        uid,
        stage,
        operation,
        passed,
        name: _,
        passed_rules: _,
        reject_info: _,
    } = detail;
    passed.then_some((uid, *stage as u8, operation))
}

/// The decisions, and why a rule cannot be read, if one cannot.
fn decided(
    seen: &Seen,
    previous: &PodTransitionRuleStatus,
) -> (PodTransitionRuleStatus, Option<Failure>) {
    let rules = Rules::read(&seen.object.spec);
    let Decisions { details, waiting } = decide(seen, &rules, &previous.details);
    let mut targets: Vec<_> = seen.pods.iter().map(|pod| pod.name_any()).collect();
    targets.sort();
    let selected = targets.len();
    targets.truncate(NAMED);
    let status = PodTransitionRuleStatus {
        targets,
        selected_pods: count(selected),
        waiting_pods: count(waiting),
        details,
        ..PodTransitionRuleStatus::default()
    };
    (status, rules.problem())
}

fn summary(status: &PodTransitionRuleStatus) -> String {
    let allowed = status.details.iter().filter(|detail| detail.passed).count();
    format!(
        "{} pods are selected; operations on {allowed} of them are allowed, {} wait",
        status.selected_pods, status.waiting_pods
    )
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Whether rules may hold a pod, or held it until now.
pub fn is_concerned(pod: &Pod) -> bool {
    let stages = [CheckStage::PreCheck, CheckStage::PostCheck];
    let is_at = |stage| operation(pod.labels(), stage).is_some();
    stages.into_iter().any(is_at) || noted(pod).next().is_some()
}

/// The operations on a pod that a stage is about, each with the time of its begin, or of its end; none if there is no
/// operation. An operation that has finished and waits for others has no end yet, so no decision is about it.
fn operation(labels: &Labels, stage: CheckStage) -> Option<String> {
    let (mark, stages): (_, &[Stage]) = match stage {
        CheckStage::PreCheck => (Mark::Operating, &[Stage::PreCheck]),
        CheckStage::PostCheck => (Mark::Operated, &[Stage::Finished, Stage::PostCheck]),
    };
    let all = Operation::all(labels).into_iter();
    let at_stage = all.filter(|one| stages.contains(&one.stage()));
    let texts = at_stage.map(|one| format!("{}={}", one.id, one.get(mark).unwrap_or_default()));
    let text = texts.collect::<Vec<_>>().join(",");
    (!text.is_empty()).then_some(text)
}

/// Whether one of these operations is still on the pod.
fn is_on(labels: &Labels, operation: &str) -> bool {
    let parts = operation.split(',').filter_map(|part| part.split_once('='));
    let mut parts = parts.map(|(id, time)| (Operation::of(labels, id), time));
    parts.any(|(one, time)| {
        let began = one.get(Mark::Operating);
        one.keys().next().is_some() && began.is_none_or(|began| began == time)
    })
}
