//! The decisions about the selected pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::SelectorExt as _};
use operon_api::{
    keys,
    pod_transition_rule::{CheckStage, RejectInfo, TransitionDetail},
};
use serde::Deserialize;

use super::{
    Seen,
    census::Census,
    is_on, operation,
    read::{Check, Rule, Rules},
};
use crate::pod_lifecycle::labels::{Mark, Operation, Stage};

/// How many pods may be allowed at the same time: the status has no room for more.
const MOST_ALLOWED: usize = 500;

/// How many pods that wait are reported. The others wait without a reason until it is nearly their turn.
const MOST_WAITING: usize = 100;

/// Decisions, as the status has them.
pub(super) struct Decisions {
    /// Those that are reported.
    pub(super) details: Vec<TransitionDetail>,
    /// How many pods wait.
    pub(super) waiting: usize,
}

/// Decides about every selected pod that is in a stage. What was allowed stays so.
pub(super) fn decide(seen: &Seen, rules: &Rules, previous: &[TransitionDetail]) -> Decisions {
    let mut allowed = kept(seen, previous);
    let mut census = Census::of(seen, &allowed);
    let mut waiting = Vec::new();
    for stage in [CheckStage::PreCheck, CheckStage::PostCheck] {
        for (pod, operation) in subjects(seen, rules, stage) {
            let is_known = |detail: &TransitionDetail| is_about(detail, pod, stage, &operation);
            if allowed.iter().any(is_known) {
                continue;
            }
            let mut detail = TransitionDetail {
                name: pod.name_any(),
                uid: pod.uid().unwrap_or_default(),
                stage,
                operation,
                ..TransitionDetail::default()
            };
            let has_room = allowed.len() < MOST_ALLOWED;
            ask(&mut detail, pod, rules, &census, has_room);
            if detail.passed {
                census.allow(pod);
                let is_other = |known: &TransitionDetail| {
                    known.uid != detail.uid || known.stage != detail.stage
                };
                allowed.retain(is_other);
                allowed.push(detail);
            } else {
                waiting.push(detail);
            }
        }
    }
    allowed.sort_by(|a, b| (&a.name, a.stage as u8).cmp(&(&b.name, b.stage as u8)));
    let number = waiting.len();
    waiting.truncate(MOST_WAITING);
    allowed.append(&mut waiting);
    Decisions {
        details: allowed,
        waiting: number,
    }
}

/// Whether a decision is about these operations on a pod.
pub(super) fn is_about(
    detail: &TransitionDetail,
    pod: &Pod,
    stage: CheckStage,
    operation: &str,
) -> bool {
    let uid = pod.metadata.uid.as_deref();
    uid == Some(&*detail.uid) && detail.stage == stage && detail.operation == operation
}

/// What was allowed and has not finished yet.
fn kept(seen: &Seen, previous: &[TransitionDetail]) -> Vec<TransitionDetail> {
    let pods: BTreeMap<_, _> = seen
        .pods
        .iter()
        .map(|pod| (pod.metadata.uid.as_deref().unwrap_or_default(), pod))
        .collect();
    let goes_on = |detail: &&TransitionDetail| {
        let pod = pods.get(&*detail.uid).filter(|_| detail.passed);
        let Some(pod) = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()) else {
            return false;
        };
        match detail.stage {
            CheckStage::PreCheck => is_on(pod.labels(), &detail.operation),
            CheckStage::PostCheck => {
                operation(pod.labels(), detail.stage).as_ref() == Some(&detail.operation)
            }
        }
    };
    previous.iter().filter(goes_on).cloned().collect()
}

/// The pods of a stage, those first whose operation began first.
fn subjects<'a>(seen: &'a Seen, rules: &Rules, stage: CheckStage) -> Vec<(&'a Pod, String)> {
    if rules.at(stage).next().is_none() {
        return Vec::new();
    }
    let subject = |pod: &'a std::sync::Arc<Pod>| {
        let is_deleted = pod.metadata.deletion_timestamp.is_some();
        let all = Operation::all(pod.labels());
        let is_early = all.iter().any(|one| one.stage() == Stage::Finished);
        if is_deleted || (stage == CheckStage::PostCheck && is_early) {
            return None;
        }
        Some((&**pod, operation(pod.labels(), stage)?))
    };
    let mut subjects: Vec<_> = seen.pods.iter().filter_map(subject).collect();
    subjects.sort_by_cached_key(|(pod, _)| (began(pod), pod.name_any()));
    subjects
}

/// When the first operation on a pod began.
fn began(pod: &Pod) -> Option<i128> {
    let all = Operation::all(pod.labels()).into_iter();
    all.filter_map(|one| one.get(Mark::Operating)?.parse().ok())
        .min()
}

/// Asks the rules one after the other.
fn ask(detail: &mut TransitionDetail, pod: &Pod, rules: &Rules, census: &Census, has_room: bool) {
    let skipped = skipped(pod);
    let mut reject = |rule_name: &str, reason: String| {
        detail.reject_info = vec![RejectInfo {
            rule_name: rule_name.to_owned(),
            reason,
        }];
    };
    if !has_room {
        return reject(
            "",
            format!("operations on {MOST_ALLOWED} pods are allowed already"),
        );
    }
    for rule in rules.at(detail.stage) {
        if is_skipped(rule, pod, &skipped) {
            continue;
        }
        let allowed = match &rule.check {
            Err(why) => Err(why.clone()),
            Ok(Check::Available(limit)) => census.has_room(pod, *limit),
            Ok(Check::Labels(required)) if required.matches(pod.labels()) => Ok(()),
            Ok(Check::Labels(required)) => {
                Err(format!("the labels of the pod do not match {required}"))
            }
        };
        match allowed {
            Ok(()) => detail.passed_rules.push(rule.name.clone()),
            Err(reason) => return reject(&rule.name, reason),
        }
    }
    detail.passed = true;
}

fn is_skipped(rule: &Rule, pod: &Pod, skipped: &[String]) -> bool {
    let is_filtered = rule
        .filter
        .as_ref()
        .is_some_and(|filter| !filter.matches(pod.labels()));
    is_filtered || skipped.contains(&rule.name)
}

/// The annotation that says which rules are not checked for a pod.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SkipRules {
    #[serde(default)]
    skip_rules: Vec<String>,
}

/// The rules that are not checked for a pod; none if the annotation cannot be read.
fn skipped(pod: &Pod) -> Vec<String> {
    let text = pod.annotations().get(keys::SKIP_RULES);
    let read = text.and_then(|text| serde_json::from_str::<SkipRules>(text).ok());
    read.unwrap_or_default().skip_rules
}
