//! The action Evict: the pod of a target is evicted, as its PodDisruptionBudgets allow, and the target has
//! succeeded when the pod is gone. What its owner does then is the owner's decision.
//!
//! The host tries a refused eviction again, and names the budget that refused it.

use operon_sdk::prelude::*;

/// The action.
#[derive(Debug)]
pub struct Evict;

/// The parameters of a job.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    /// Overrides the grace period of the pods, in seconds.
    grace_period_seconds: Option<u32>,
}

impl Action for Evict {
    type Settings = NoSettings;

    fn new(_: NoSettings) -> Self {
        Self
    }

    fn setup(&self) -> Result<Registration, String> {
        let seconds = json!({"type": "integer", "minimum": 0, "maximum": 86_400});
        let parameters = json!({"type": "object", "properties": {"gracePeriodSeconds": seconds},
            "additionalProperties": false});
        Ok(Registration::default()
            .parameters(&parameters)
            .removing_pods()
            .done_in_one_step())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let Parameters {
            grace_period_seconds,
        } = job.parameters()?;
        let operation = Operation::of(target);
        let Some(pod) = target.pod.as_ref().filter(|pod| !pod.deleting) else {
            return Ok(operation);
        };
        if pod.is_static() {
            return Err(ActionError::Terminal(mirror(pod)));
        }
        let mut evict = pod.evict();
        evict.grace_period_seconds = grace_period_seconds;
        Ok(operation.evict(evict))
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        _job: &Job,
        _cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        let Some(pod) = &target.pod else {
            return Ok(ProgressReport::succeeded(target));
        };
        let report = ProgressReport::processing(target);
        if !pod.deleting {
            let message = format!("waiting for the eviction of pod {:?}", pod.name);
            return Ok(report.waiting_for("EvictionRequested", message));
        }
        let message = pod.waits_to_terminate();
        Ok(report.waiting_for("PodTerminating", message))
    }
}

fn mirror(pod: &Pod) -> Failure {
    let node = pod.node.as_deref().unwrap_or_default();
    let message = format!(
        "pod {:?} is a static pod of node {node:?}, which would start it again: change its manifest on the node",
        pod.name
    );
    Failure::new("StaticPod", message)
}

operon_sdk::register!(Evict);

#[cfg(test)]
mod tests {
    use operon_sdk::testing::{FakeCluster, FakeJob};

    use super::*;

    fn reason(job: &FakeJob<Evict>) -> &str {
        job.target("foo").reason().unwrap_or_default()
    }

    #[test]
    fn the_target_succeeds_when_its_pod_is_gone() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({"finalizers": ["a/b"]}));
        let mut job = FakeJob::<Evict>::new("j1", &["foo"]);
        job.pass(&mut world);
        assert_eq!(reason(&job), "EvictionRequested");
        job.pass(&mut world);
        assert_eq!(reason(&job), "PodTerminating");
        let message = &job
            .target("foo")
            .failure
            .as_ref()
            .expect("it waits")
            .message;
        assert!(message.ends_with("it has the finalizers a/b"), "{message}");
        world.change_pod("foo", &json!({"metadata": {"finalizers": null}}));
        world.finish_deletions();
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
        assert_eq!(world.writes().len(), 1);
    }

    #[test]
    fn a_later_pod_of_the_same_name_is_not_evicted() {
        let mut world = FakeCluster::new();
        world.add_pod("foo", &json!({}));
        let mut job = FakeJob::<Evict>::new("j1", &["foo"]);
        job.pass(&mut world);
        world.finish_deletions();
        world.add_pod("foo", &json!({}));
        job.pass(&mut world);
        assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
        assert!(!world.expect_pod("foo").deleting);
    }

    #[test]
    fn a_static_pod_is_not_evicted() {
        let mut world = FakeCluster::new();
        world.add_pod(
            "foo",
            &json!({"annotations": {"kubernetes.io/config.mirror": "hash"}}),
        );
        let mut job = FakeJob::<Evict>::new("j1", &["foo"]);
        job.pass(&mut world);
        assert_eq!(reason(&job), "StaticPod");
        assert_eq!(world.writes(), []);
    }

    #[test]
    fn the_job_may_give_another_grace_period() {
        let mut world = FakeCluster::new();
        let pod = world.add_pod("foo", &json!({}));
        let mut job = operon_sdk::testing::job("j1", 0, "{}");
        job.parameters = json!({"gracePeriodSeconds": 5}).to_string();
        let target = operon_sdk::testing::target_of(&pod);
        let operation = Evict
            .operate_target(&target, &job, &world)
            .expect("it acts");
        let [Effect::Evict(evict)] = operation.effects.as_slice() else {
            unreachable!("one eviction: {operation:?}");
        };
        assert_eq!(evict.grace_period_seconds, Some(5));
        assert_eq!(evict.uid.as_deref(), Some(pod.uid.as_str()));
    }
}
