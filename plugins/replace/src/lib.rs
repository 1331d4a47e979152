//! The action Replace: a new pod is ready before the old one is removed. The way depends on the controller
//! of the pod, one file per way: `replica_set`, `collaset`, `bare`; `gone` is the end of all. Each way
//! turns a snapshot into a [`plan::Plan`]; nothing is written here, effects are returned.

pub mod assignment;
pub mod bare;
pub mod budget;
pub mod collaset;
pub mod copy;
pub mod explain;
pub mod gone;
pub mod keys;
pub mod kusionstack;
pub mod mark;
pub mod plan;
pub mod replica_set;
pub mod settings;

use operon_sdk::prelude::*;
use operon_sdk::{OwnerReference, ReadError};

use crate::mark::Mark;
use crate::plan::Plan;
use crate::settings::Settings;

/// The action.
#[derive(Debug)]
pub struct Replace;

impl Action for Replace {
    type Settings = Settings;

    /// The decisions read the settings of the job that they get.
    fn new(_: Settings) -> Self {
        Self
    }

    fn setup(&self) -> Result<Registration, String> {
        let released_from = || Mapping::UidInLabel(keys::RELEASED_FROM.to_owned());
        let pods = Watch::of("v1", "Pod")
            .waking(released_from())
            .waking(Mapping::ExtraInfo(keys::NEW_POD.to_owned()))
            .waking(Mapping::Label(keys::PAIR_ORIGIN_NAME.to_owned()));
        let replica_sets = Watch::of("apps/v1", "ReplicaSet")
            .reading(&["spec", "status"])
            .waking(released_from());
        let budgets = Watch::of("policy/v1", "PodDisruptionBudget").reading(&["spec"]);
        Ok(Registration::default()
            .watch(pods)
            .watch(replica_sets)
            .watch(budgets)
            .marking(keys::JOB)
            .removing_pods())
    }

    fn operate_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        plan(target, job, cluster)?.operation(target)
    }

    fn get_ops_progress(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<ProgressReport, ActionError> {
        Ok(plan(target, job, cluster)?.report(target))
    }

    fn release_target(
        &self,
        target: &Target,
        job: &Job,
        cluster: &dyn Cluster,
    ) -> Result<Operation, ActionError> {
        let effects = match &target.pod {
            None => gone::release(target, cluster)?,
            Some(pod) => match Way::of(pod) {
                Way::CollaSet => return Ok(collaset::release(target, pod, job, cluster)?),
                _ if kusionstack::holds(pod) => {
                    let operation = Operation::of(target).effects(kusionstack::let_go(pod));
                    let message = format!("pod {:?} is taken over", pod.name);
                    return Ok(operation.unfinished(
                        keys::TAKEN_OVER,
                        message,
                        Duration::from_secs(1),
                    ));
                }
                // A pod that is being deleted needs nothing any more, and nothing would bring it back.
                _ if pod.deleting => Vec::new(),
                Way::ReplicaSet => return Ok(replica_set::release(target, pod, job, cluster)?),
                Way::Bare => bare::release(pod, job, cluster)?,
                Way::Unsupported(_) => Vec::new(),
            },
        };
        let operation = Operation::of(target).forget(keys::OWNER);
        Ok(operation.effects(effects))
    }
}

operon_sdk::register!(Replace);

fn plan(target: &Target, job: &Job, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
    let plan = match &target.pod {
        None => gone::plan(target, cluster)?,
        Some(pod) => plan_of(target, pod, job, cluster)?,
    };
    explain::explained(plan, cluster)
}

/// The plan for a pod that exists.
fn plan_of(
    target: &Target,
    pod: &Pod,
    job: &Job,
    cluster: &dyn Cluster,
) -> Result<Plan, ReadError> {
    let way = Way::of(pod);
    if let Some(plan) = kusionstack::take_over(target, pod, job, way == Way::CollaSet) {
        return Ok(plan);
    }
    match way {
        Way::ReplicaSet => replica_set::plan(target, pod, job, cluster),
        Way::CollaSet => collaset::plan(target, pod, job, cluster),
        Way::Bare => bare::plan(pod, job, cluster),
        Way::Unsupported(owner) => Ok(unsupported(pod, owner)),
    }
}

/// How a pod can be replaced: by who controls it.
#[derive(Debug, PartialEq, Eq)]
enum Way<'a> {
    ReplicaSet,
    CollaSet,
    Bare,
    Unsupported(&'a OwnerReference),
}

impl<'a> Way<'a> {
    fn of(pod: &'a Pod) -> Self {
        // A released pod has another controller, or none.
        if pod.label(keys::RELEASED_FROM).is_some() {
            return Self::ReplicaSet;
        }
        let Some(owner) = pod.controller() else {
            return Self::Bare;
        };
        let group = owner
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => Self::ReplicaSet,
            ("apps.kusionstack.io", "CollaSet") => Self::CollaSet,
            _ => Self::Unsupported(owner),
        }
    }
}

fn unsupported(pod: &Pod, owner: &OwnerReference) -> Plan {
    let instead = match owner.kind.as_str() {
        "StatefulSet" | "DaemonSet" => {
            "it gives each pod one identity, so the old pod must be deleted first: delete the pod, or use \
             `kubectl rollout restart`"
        }
        "Job" => "its pods run once: delete the pod, and the Job creates another",
        "Node" => "it is a static pod: change its manifest on the node",
        _ => {
            "only pods of a Deployment, a ReplicaSet or a CollaSet, and standalone pods, can be replaced: delete the pod and let its controller act"
        }
    };
    let message = format!(
        "pod {:?} is controlled by {} {:?}; {instead}",
        pod.name, owner.kind, owner.name
    );
    Plan::fail(keys::UNSUPPORTED_OWNER, message)
}

/// The new pod among those that replace this one: the ready one first, then by name. A pod that is itself
/// released is not a candidate.
fn new_pod_of(uid: &str, cluster: &dyn Cluster) -> Result<Option<Pod>, ReadError> {
    let mut pods = cluster.find_pods(&format!("{}={uid}", keys::REPLACES))?;
    pods.retain(|pod| pod.live() && pod.label(keys::RELEASED_FROM).is_none());
    pods.sort_by(|a, b| (!a.ready, &a.name).cmp(&(!b.ready, &b.name)));
    Ok(pods.into_iter().next())
}

/// The origin that this pod replaces, if that replacement has not ended: the origin still waits, and the
/// job of the replacement still exists.
fn unfinished_origin(pod: &Pod, cluster: &dyn Cluster) -> Result<Option<String>, ReadError> {
    let (Some(uid), Some(name)) = (pod.label(keys::REPLACES), pod.annotation(keys::REPLACES))
    else {
        return Ok(None);
    };
    let origin = cluster.get_pod(name)?.filter(|origin| origin.uid == uid);
    // A pod that is back in its ReplicaSet is not an origin any more.
    let waits =
        |origin: &Pod| origin.label(keys::RELEASED_FROM).is_some() || origin.controller().is_none();
    let Some(origin) = origin.filter(waits) else {
        return Ok(None);
    };
    let mark = Mark::of(&origin).map(|mark| mark.job);
    let job = mark.or_else(|| pod.annotation(keys::JOB).map(str::to_owned));
    let abandoned = match job {
        Some(job) => !cluster.job_exists(&job)?,
        None => false,
    };
    Ok(Some(origin.name).filter(|_| !abandoned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use operon_sdk::testing::FakeCluster;

    #[test]
    fn the_host_knows_that_replace_removes_pods() {
        let registration = Replace.setup().expect("a registration");
        assert!(
            registration
                .traits
                .contains(operon_sdk::Traits::REMOVES_PODS)
        );
    }

    #[test]
    fn the_way_follows_from_the_controller() {
        let table = [
            (Some(("apps/v1", "ReplicaSet")), None, "ReplicaSet"),
            (
                Some(("apps.kusionstack.io/v1alpha1", "CollaSet")),
                None,
                "CollaSet",
            ),
            (Some(("apps/v1", "StatefulSet")), None, "Unsupported"),
            (Some(("example.com/v1", "ReplicaSet")), None, "Unsupported"),
            (Some(("batch/v1", "Job")), None, "Unsupported"),
            (None, None, "Bare"),
            (None, Some("r1"), "ReplicaSet"),
        ];
        for (owner, released_from, expected) in table {
            let mut world = FakeCluster::new();
            let owners = owner.map(|(api_version, kind)| {
                json!([{"apiVersion": api_version, "kind": kind, "name": "o", "uid": "u",
                    "controller": true}])
            });
            let metadata = json!({
                "ownerReferences": owners, "labels": {keys::RELEASED_FROM: released_from}
            });
            let pod = world.add_pod("foo", &metadata);
            let way = format!("{:?}", Way::of(&pod));
            assert!(way.starts_with(expected), "{owner:?}: {way}");
        }
    }
}
