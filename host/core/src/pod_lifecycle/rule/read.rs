//! The rules of one object, read once.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use kube::core::Selector;
use operon_api::{
    PodTransitionRule,
    pod_transition_rule::{
        AvailablePolicy, CheckStage, LabelCheck, PodTransitionRuleSpec, TransitionRule,
    },
};

use crate::{
    action::Failure,
    amount::{Amount, written},
};

/// The rules that are not disabled.
#[derive(Clone, Debug)]
pub(super) struct Rules(Vec<Rule>);

/// One rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) name: String,
    stage: CheckStage,
    /// The pods that it is checked for; none: all.
    pub(super) filter: Option<Selector>,
    /// What it requires, or why that cannot be read: then no pod may go on.
    pub(super) check: Result<Check, String>,
}

/// What a rule requires.
#[derive(Clone, Debug)]
pub(super) enum Check {
    Available(Limit),
    Labels(Selector),
}

/// How many pods may be out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    MaxUnavailable(Amount),
    MinAvailable(Amount),
}

/// Which pods an object selects.
///
/// # Errors
/// The selector cannot be read.
pub fn selector(object: &PodTransitionRule) -> Result<Selector, Failure> {
    read_selector("spec.selector", &object.spec.selector).map_err(|message| {
        let message = format!("{message}. The object selects no pod");
        Failure::new("InvalidSelector", message)
    })
}

/// Whether rules must decide about pods in this stage.
pub(super) fn has_rules(spec: &PodTransitionRuleSpec, stage: CheckStage) -> bool {
    let mut enabled = spec.rules.iter().filter(|rule| rule.disabled != Some(true));
    enabled.any(|rule| rule.stage.unwrap_or_default() == stage)
}

impl Rules {
    pub(super) fn read(spec: &PodTransitionRuleSpec) -> Self {
        let enabled = spec.rules.iter().filter(|rule| rule.disabled != Some(true));
        Self(enabled.map(Rule::read).collect())
    }

    /// Those of this stage, in their order.
    pub(super) fn at(&self, stage: CheckStage) -> impl Iterator<Item = &Rule> {
        self.0.iter().filter(move |rule| rule.stage == stage)
    }

    /// The first rule that cannot be read.
    pub(super) fn problem(&self) -> Option<Failure> {
        let mut unreadable = self.0.iter().filter_map(|rule| {
            let why = rule.check.as_ref().err()?;
            Some(format!(
                "rule {:?}: {why}. No operation on a selected pod is allowed",
                rule.name
            ))
        });
        Some(Failure::new("InvalidRule", unreadable.next()?))
    }
}

impl Rule {
    fn read(rule: &TransitionRule) -> Self {
        let filter = rule
            .filter
            .as_ref()
            .and_then(|filter| filter.label_selector.as_ref());
        let filter = filter.map(|filter| read_selector("filter.labelSelector", filter));
        let (filter, check) = match filter.transpose() {
            Ok(filter) => (filter, check(rule)),
            Err(message) => (None, Err(message)),
        };
        Self {
            name: rule.name.clone(),
            stage: rule.stage.unwrap_or_default(),
            filter,
            check,
        }
    }
}

fn check(rule: &TransitionRule) -> Result<Check, String> {
    if rule.webhook.is_some() {
        return Err("webhook is not supported".to_owned());
    }
    if !rule.conditions.is_empty() {
        return Err("conditions are not supported".to_owned());
    }
    match (&rule.available_policy, &rule.label_check) {
        (Some(policy), None) => limit(policy).map(Check::Available),
        (None, Some(LabelCheck { requires })) => {
            read_selector("labelCheck.requires", requires).map(Check::Labels)
        }
        (Some(_), Some(_)) | (None, None) => {
            Err("it must have exactly one of availablePolicy and labelCheck".to_owned())
        }
    }
}

fn read_selector(field: &str, selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector.clone()).map_err(|error| format!("{field} cannot be read: {error}"))
}

fn limit(policy: &AvailablePolicy) -> Result<Limit, String> {
    let AvailablePolicy {
        max_unavailable_value,
        min_available_value,
    } = policy;
    match (max_unavailable_value, min_available_value) {
        (Some(most), None) => amount("maxUnavailableValue", most).map(Limit::MaxUnavailable),
        (None, Some(least)) => amount("minAvailableValue", least).map(Limit::MinAvailable),
        (Some(_), Some(_)) | (None, None) => Err(
            "availablePolicy must have exactly one of maxUnavailableValue and minAvailableValue"
                .to_owned(),
        ),
    }
}

fn amount(field: &str, value: &IntOrString) -> Result<Amount, String> {
    let is_share = |amount: &Amount| !matches!(amount, Amount::Percent(percent) if *percent > 100);
    Amount::read(value).filter(is_share).ok_or_else(|| {
        format!(
            "availablePolicy.{field} must be a number that is not negative, or a percentage from \"0%\" to \
             \"100%\", not {}",
            written(value)
        )
    })
}

impl Limit {
    /// How many of so many pods may be out of service. A percentage is rounded so that fewer pods are out of
    /// service, but one always may be, unless the percentage forbids all.
    pub(super) fn most_out(self, total: usize) -> usize {
        let share = |percent: usize| match percent {
            0 => 0,
            _ => (total.saturating_mul(percent) / 100).max(1),
        };
        match self {
            Self::MaxUnavailable(Amount::Number(most)) => most,
            Self::MaxUnavailable(Amount::Percent(percent)) => share(percent),
            Self::MinAvailable(Amount::Number(least)) => total.saturating_sub(least),
            Self::MinAvailable(Amount::Percent(percent)) => share(100 - percent),
        }
    }

    /// Why a pod cannot go: so many of so many pods are out of service already.
    pub(super) fn reason(self, out: usize, total: usize, missing: usize) -> String {
        let most = self.most_out(total);
        let what = if missing == 0 {
            "out of service"
        } else {
            "out of service or not created yet"
        };
        match self {
            Self::MaxUnavailable(_) => {
                format!("{out} of {total} pods are {what}, at most {most} may be")
            }
            Self::MinAvailable(_) => format!(
                "{out} of {total} pods are {what}, and at least {} must be in service",
                total.saturating_sub(most)
            ),
        }
    }
}
