//! The facts about a `ReplicaSet` that decisions need: its desired replicas, its controller, and its pods.

use operon_sdk::{Cluster, ObjectReference, OwnerReference, Pod, ReadError, Value};

use crate::keys;

/// A `ReplicaSet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSet {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its controller.
    pub controller: Option<OwnerReference>,
    /// It has a deletion timestamp, and adopts nothing any more.
    pub deleting: bool,
    /// `spec.replicas`
    pub replicas: usize,
    /// `spec.minReadySeconds`
    pub min_ready_seconds: i64,
    /// `spec.selector.matchLabels`
    pub match_labels: Vec<(String, String)>,
    /// Why it could not create a pod: the message of its condition `ReplicaFailure`.
    pub failure: Option<String>,
}

impl ReplicaSet {
    /// The `ReplicaSet` of this name; none if it does not exist.
    pub fn get(name: &str, cluster: &dyn Cluster) -> Result<Option<Self>, ReadError> {
        let object = cluster.get(&ObjectReference::new("apps/v1", "ReplicaSet", name))?;
        Ok(object.as_ref().and_then(Self::from_object))
    }

    /// The `ReplicaSet` of this name and uid; none if it does not exist.
    pub fn get_same(
        name: &str,
        uid: &str,
        cluster: &dyn Cluster,
    ) -> Result<Option<Self>, ReadError> {
        Ok(Self::get(name, cluster)?.filter(|found| found.uid == uid))
    }

    /// Reads a `ReplicaSet`'s JSON; none if it lacks what each has.
    pub fn from_object(object: &Value) -> Option<Self> {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let replicas = spec["replicas"].as_u64().unwrap_or(1);
        let labels = spec["selector"]["matchLabels"].as_object();
        let labels = labels.into_iter().flatten();
        let labels =
            labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        let conditions = object["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let failure = conditions.find(|condition| {
            condition["type"] == "ReplicaFailure"
                && condition["status"] == "True"
                && condition["reason"] != "FailedDelete"
        });
        Some(Self {
            uid: metadata["uid"].as_str()?.to_owned(),
            name: metadata["name"].as_str()?.to_owned(),
            controller: OwnerReference::controller_of(object),
            deleting: metadata["deletionTimestamp"].is_string(),
            replicas: usize::try_from(replicas).unwrap_or(usize::MAX),
            min_ready_seconds: spec["minReadySeconds"].as_i64().unwrap_or(0),
            match_labels: labels.collect(),
            failure: failure.and_then(|found| Some(found["message"].as_str()?.to_owned())),
        })
    }

    /// The pods it counts: its own, neither ended nor being deleted.
    pub fn pods(&self, cluster: &dyn Cluster) -> Result<Vec<Pod>, ReadError> {
        let labels = self.match_labels.iter();
        let requirements: Vec<String> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut pods = cluster.find_pods(&requirements.join(","))?;
        pods.retain(|pod| pod.live() && pod.controller_uid() == Some(self.uid.as_str()));
        Ok(pods)
    }

    /// Whether it selects this pod by the label that distinguishes the revisions of a Deployment.
    pub fn selects_by_hash(&self, pod: &Pod) -> bool {
        let mut labels = self.match_labels.iter();
        labels.any(|(key, value)| {
            key == keys::TEMPLATE_HASH && pod.label(key) == Some(value.as_str())
        })
    }

    /// The Deployment that controls it, as the controller of a released pod. No other kind may be one: the
    /// disruption controller would count the scale of a custom resource.
    pub fn deployment(&self) -> Option<OwnerReference> {
        let controller = self.controller.clone().filter(is_deployment)?;
        Some(OwnerReference {
            controller: true,
            block_owner_deletion: false,
            ..controller
        })
    }

    /// A reference that makes it the controller of a pod.
    pub fn reference(&self, block_owner_deletion: bool) -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: true,
            block_owner_deletion,
        }
    }

    /// Why it creates no new pods, if it wants none any more.
    pub fn unwanted(&self) -> Option<String> {
        let state = match (self.deleting, self.replicas) {
            (true, _) => "is being deleted",
            (false, 0) => "is scaled to 0, or is an old revision of its Deployment",
            (false, _) => return None,
        };
        Some(format!(
            "ReplicaSet {:?} {state} and creates no new pod: name a pod of the current ReplicaSet",
            self.name
        ))
    }
}

/// Whether a reference names a Deployment of Kubernetes' own.
pub fn is_deployment(owner: &OwnerReference) -> bool {
    owner.api_version.starts_with("apps/") && owner.kind == "Deployment"
}
