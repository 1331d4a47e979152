//! What is remembered of a pod before it is removed.

use operon_sdk::{Cluster, Failure, Operation, OwnerReference, Pod, ReadError, Target};

use crate::{Plan, after};

/// The name of the controller.
pub const OWNER: &str = "Owner";
/// The API version and the kind of the controller.
const CONTROLLER: &str = "Controller";
/// The uid of the controller: its pods wake the target by it.
pub const OWNER_UID: &str = "ControllerUID";
/// The node of the pod.
const NODE: &str = "Node";
/// How many other pods of the controller were ready.
const OTHERS: &str = "ReadyPods";
/// When the newest pod of the controller was created, in seconds since the Unix epoch.
const NEWEST: &str = "NewestPod";

/// What was there before the pod was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The controller.
    pub controller: Controller,
    /// The node of the pod.
    pub node: String,
    /// How many other pods of the controller were ready.
    pub others: usize,
    /// When the newest pod of the controller was created.
    pub newest: i64,
}

/// A controller of pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// `apps/v1`
    pub api_version: String,
    /// `ReplicaSet`
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Controller {
    fn of(owner: &OwnerReference) -> Self {
        Self {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        }
    }
}

impl Before {
    /// What is remembered of a target, if it is.
    pub fn of(target: &Target) -> Option<Self> {
        let mut controller = target.extra(CONTROLLER)?.splitn(2, ' ').map(str::to_owned);
        Some(Self {
            controller: Controller {
                api_version: controller.next()?,
                kind: controller.next()?,
                uid: target.extra(OWNER_UID)?.to_owned(),
                name: target.extra(OWNER)?.to_owned(),
            },
            node: target.extra(NODE)?.to_owned(),
            others: target.extra(OTHERS)?.parse().ok()?,
            newest: target.extra(NEWEST)?.parse().ok()?,
        })
    }

    /// Looks at a pod that can be recreated.
    pub(crate) fn look(pod: &Pod, cluster: &dyn Cluster) -> Result<Plan, ReadError> {
        let Some(owner) = pod.controller() else {
            return Ok(fail(
                "NoController",
                format!(
                    "pod {:?} has no controller that would create another one: use the action Replace, or Evict to remove it",
                    pod.name
                ),
            ));
        };
        if pod.is_static() {
            let node = pod.node.as_deref().unwrap_or_default();
            return Ok(fail(
                "StaticPod",
                format!(
                    "pod {:?} is a static pod of node {node:?}: change its manifest on the node",
                    pod.name
                ),
            ));
        }
        let controller = Controller::of(owner);
        let pods = after::pods_of(&controller, cluster)?;
        let others = pods
            .iter()
            .filter(|other| other.uid != pod.uid && other.live() && other.ready);
        let newest = pods.iter().map(|pod| pod.created_at).max();
        Ok(Plan::Remember(Self {
            controller,
            node: pod.node.clone().unwrap_or_default(),
            others: others.count(),
            newest: newest.unwrap_or(pod.created_at),
        }))
    }

    /// The operation that remembers this.
    pub(crate) fn remembered(self, operation: Operation) -> Operation {
        let Controller {
            api_version,
            kind,
            name,
            uid,
        } = self.controller;
        operation
            .remember(OWNER, name)
            .remember(CONTROLLER, format!("{api_version} {kind}"))
            .remember(OWNER_UID, uid)
            .remember(NODE, self.node)
            .remember(OTHERS, self.others.to_string())
            .remember(NEWEST, self.newest.to_string())
    }
}

fn fail(reason: &str, message: String) -> Plan {
    Plan::Fail(Failure::new(reason, message))
}
