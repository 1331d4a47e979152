//! The rules of `spec.rollout`, parsed once.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operon_api::{
    daemon_job::{Canary, CompletionPolicy, NodeFailurePolicy, Rollout},
    job_flow::StepRetry,
};

use super::{INVALID_SPEC, rule::Selector};
use crate::{
    action::Failure,
    amount::{Amount, written},
    jobs::time::seconds,
};

/// In which order, how fast, and what happens when Jobs fail.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) is_paused: bool,
    parallelism: Option<Amount>,
    pub(super) completion: CompletionPolicy,
    pub(super) failure: NodeFailurePolicy,
    max_failures: Amount,
    pub(super) retry: Option<StepRetry>,
    pub(super) timeout: Option<i32>,
    pub(super) canary: Option<CanaryRule>,
    pub(super) topology_key: Option<String>,
    pub(super) pause: Duration,
}

/// The nodes that go first.
#[derive(Clone, Debug)]
pub(super) struct CanaryRule {
    pub(super) selector: Option<Selector>,
    count: Option<Amount>,
}

impl Rules {
    /// Reads `spec.rollout`.
    ///
    /// # Errors
    /// The error.
    pub(super) fn read(rollout: Option<&Rollout>) -> Result<Self, Failure> {
        let rollout = rollout.cloned().unwrap_or_default();
        let Rollout {
            paused,
            parallelism,
            completion_policy,
            failure_policy,
            max_failures,
            retry,
            timeout_seconds,
            canary,
            topology_key,
            pause_seconds,
        } = rollout;
        Ok(Self {
            is_paused: paused == Some(true),
            parallelism: amount("parallelism", parallelism.as_ref())?,
            completion: completion_policy.unwrap_or_default(),
            failure: failure_policy.unwrap_or_default(),
            max_failures: amount("maxFailures", max_failures.as_ref())?
                .unwrap_or(Amount::Number(0)),
            retry,
            timeout: timeout_seconds,
            canary: canary.as_ref().map(CanaryRule::read).transpose()?,
            topology_key: topology_key.filter(|key| !key.is_empty()),
            pause: pause_seconds.map_or(Duration::ZERO, seconds),
        })
    }

    /// On how many nodes Jobs may run at the same time.
    pub(super) fn parallelism(&self, nodes: usize) -> usize {
        self.parallelism
            .map_or(usize::MAX, |amount| amount.rounded_up(nodes).max(1))
    }

    /// How many nodes may fail.
    pub(super) fn max_failures(&self, nodes: usize) -> usize {
        self.max_failures.rounded_down(nodes)
    }

    /// Whether nodes go in waves.
    pub(super) fn has_waves(&self) -> bool {
        self.canary.is_some() || self.topology_key.is_some()
    }
}

impl CanaryRule {
    fn read(canary: &Canary) -> Result<Self, Failure> {
        let Canary { selector, count } = canary;
        let selector = selector.as_ref().map(Selector::read).transpose();
        Ok(Self {
            selector: selector.map_err(|why| {
                let message = format!("spec.rollout.canary.selector can't be read: {why}");
                Failure::new(INVALID_SPEC, message)
            })?,
            count: amount("canary.count", count.as_ref())?,
        })
    }

    /// How many nodes are canaries, of those that the selector allows.
    pub(super) fn count(&self, nodes: usize) -> usize {
        match (self.count, &self.selector) {
            (Some(count), _) => count.rounded_up(nodes),
            (None, Some(_)) => usize::MAX,
            (None, None) => 1,
        }
    }
}

/// Reads a number or a percentage of all nodes.
fn amount(field: &str, value: Option<&IntOrString>) -> Result<Option<Amount>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let invalid = || {
        Failure::new(
            INVALID_SPEC,
            format!(
                "spec.rollout.{field} must be a number that is not negative, or a percentage such as \"10%\", not {}",
                written(value)
            ),
        )
    };
    Amount::read(value).map(Some).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(rollout: Value) -> Result<Rules, Failure> {
        let rollout: Rollout = serde_json::from_value(rollout).expect("a rollout");
        Rules::read(Some(&rollout))
    }

    #[test]
    fn parallelism_is_rounded_up_and_max_failures_down() {
        for (said, nodes, parallelism, failures) in [
            (json!(3), 15, 3, 3),
            (json!(0), 15, 1, 0),
            (json!("10%"), 15, 2, 1),
            (json!("10%"), 5, 1, 0),
            (json!("0%"), 5, 1, 0),
            (json!("100%"), 7, 7, 7),
            (json!("33%"), 0, 1, 0),
            (json!("200%"), 3, 6, 6),
        ] {
            let rules = read(json!({"parallelism": said, "maxFailures": said})).expect("read");
            assert_eq!(rules.parallelism(nodes), parallelism, "{said} of {nodes}");
            assert_eq!(rules.max_failures(nodes), failures, "{said} of {nodes}");
        }
        let unset = read(json!({})).expect("read");
        assert_eq!(unset.parallelism(5), usize::MAX);
        assert_eq!(unset.max_failures(5), 0);
    }

    #[test]
    fn an_amount_that_can_not_be_read_is_invalid_and_quoted() {
        for said in [
            json!("10"),
            json!("%"),
            json!("-10%"),
            json!("+1%"),
            json!("1.5%"),
            json!("ten%"),
            json!(""),
            json!("99999999999999999999999%"),
            json!(-1),
        ] {
            for rollout in [
                json!({"parallelism": said}),
                json!({"maxFailures": said}),
                json!({"canary": {"count": said}}),
            ] {
                let failure = read(rollout).expect_err("an error");
                assert_eq!(failure.reason, INVALID_SPEC);
                assert!(
                    failure.message.ends_with(&format!("not {said}")),
                    "{}",
                    failure.message
                );
            }
        }
    }

    #[test]
    fn canaries_are_all_that_are_selected_or_one() {
        let count = |canary: Value| {
            let rules = read(json!({"canary": canary})).expect("read");
            rules.canary.map(|canary| canary.count(15))
        };
        assert_eq!(count(json!({})), Some(1));
        assert_eq!(count(json!({"count": 2})), Some(2));
        assert_eq!(count(json!({"count": "10%"})), Some(2));
        let selector = json!({"matchLabels": {"canary": "yes"}});
        assert_eq!(count(json!({"selector": selector})), Some(usize::MAX));
        assert_eq!(count(json!({"selector": selector, "count": 1})), Some(1));
        let bad = json!({"matchExpressions": [{"key": "k", "operator": "Like"}]});
        assert!(read(json!({"canary": {"selector": bad}})).is_err());
    }
}
