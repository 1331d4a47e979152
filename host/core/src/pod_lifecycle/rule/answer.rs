//! What the decisions mean for one pod, and how the pod says what it waits for.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::SelectorExt as _};
use operon_api::{
    PodTransitionRule, keys,
    pod_transition_rule::{CheckStage, RejectInfo, TransitionDetail},
};
use serde::{Deserialize, Serialize};

use super::{
    decide::is_about,
    operation,
    read::{has_rules, selector},
};
use crate::{
    jobs::{
        name::{cut, five},
        text::joined,
    },
    pod_lifecycle::transition::Verdict,
};

/// The longest name within the key of an annotation.
const NAME: usize = 63;

/// What the rules say of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Whether its operations may begin.
    pub before: Verdict,
    /// Whether it may return to service.
    pub after: Verdict,
    /// What it waits for, by the annotation that says so.
    pub waits: BTreeMap<String, Note>,
}

impl Answers {
    /// Nothing holds the pod.
    pub const ALLOWED: Self = Self {
        before: Verdict::Allowed,
        after: Verdict::Allowed,
        waits: BTreeMap::new(),
    };
}

/// The annotation that says why a pod waits.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    stage: String,
    passed: bool,
    #[serde(default)]
    reject_info: Vec<RejectInfo>,
}

/// What the rules of a pod's namespace say of it. A pod may go on when each object that selects it has, for its
/// present spec, a decision about just this pod and these operations.
pub fn answers(pod: &Pod, rules: &[Arc<PodTransitionRule>]) -> Answers {
    let mut answers = Answers::ALLOWED;
    for stage in [CheckStage::PreCheck, CheckStage::PostCheck] {
        let Some(operation) = operation(pod.labels(), stage) else {
            continue;
        };
        for object in rules.iter().filter(|object| holds(object, pod, stage)) {
            let found = decision(object, pod, stage, &operation);
            if found.is_some_and(|detail| detail.passed) {
                continue;
            }
            if let Some(detail) = found {
                answers.waits.insert(key(object), Note::of(detail));
            }
            match stage {
                CheckStage::PreCheck => answers.before = Verdict::Waits,
                CheckStage::PostCheck => answers.after = Verdict::Waits,
            }
        }
    }
    answers
}

/// Whether an object has to decide about a pod.
fn holds(object: &PodTransitionRule, pod: &Pod, stage: CheckStage) -> bool {
    object.metadata.namespace == pod.metadata.namespace
        && object.metadata.deletion_timestamp.is_none()
        && has_rules(&object.spec, stage)
        && selector(object).is_ok_and(|selector| selector.matches(pod.labels()))
}

/// The decision about these operations on a pod.
fn decision<'a>(
    object: &'a PodTransitionRule,
    pod: &Pod,
    stage: CheckStage,
    operation: &str,
) -> Option<&'a TransitionDetail> {
    let status = object.status.as_ref()?;
    if status.observed_generation != object.metadata.generation {
        return None;
    }
    let mut details = status.details.iter();
    details.find(|detail| is_about(detail, pod, stage, operation))
}

/// The key of the annotation about an object.
fn key(object: &PodTransitionRule) -> String {
    let name = object.name_any();
    if name.len() <= NAME {
        return format!("{}/{name}", keys::TRANSITION_DETAIL);
    }
    let shortened = cut(&name, NAME - 6);
    format!("{}/{shortened}-{}", keys::TRANSITION_DETAIL, five(&name))
}

impl Note {
    fn of(detail: &TransitionDetail) -> Self {
        Self {
            stage: format!("{:?}", detail.stage),
            passed: detail.passed,
            reject_info: detail.reject_info.clone(),
        }
    }

    /// The value of the annotation.
    pub(in crate::pod_lifecycle) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Why the pod waits, by the key of the annotation.
    pub(in crate::pod_lifecycle) fn sentence(&self, key: &str) -> String {
        let object = key
            .split_once('/')
            .map(|(_, name)| name)
            .unwrap_or_default();
        let sentence = |rejected: &RejectInfo| {
            let RejectInfo { rule_name, reason } = rejected;
            let rule = match rule_name.as_str() {
                "" => String::new(),
                name => format!(", rule {name}"),
            };
            format!("PodTransitionRule {object}{rule}: {reason}")
        };
        joined(self.reject_info.iter().map(sentence))
    }
}

/// The annotations of a pod that say what it waits for.
pub(in crate::pod_lifecycle) fn noted(pod: &Pod) -> impl Iterator<Item = (&str, &str)> {
    let all = pod.annotations().iter();
    all.filter_map(|(key, value)| {
        let (prefix, _) = key.split_once('/')?;
        (prefix == keys::TRANSITION_DETAIL).then_some((key.as_str(), value.as_str()))
    })
}

/// The rules that a pod waits for, and why, if it waits for any.
pub fn waits_for(pod: &Pod) -> Option<String> {
    let notes = noted(pod).filter_map(|(key, text)| {
        let note = serde_json::from_str::<Note>(text).ok()?;
        (!note.passed).then(|| note.sentence(key))
    });
    let text = joined(notes);
    (!text.is_empty()).then_some(text)
}
