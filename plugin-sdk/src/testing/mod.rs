//! A small world to play an action's stories on, natively and without a cluster: [`FakeCluster`] holds
//! objects and performs effects as an API server would; [`FakeJob`] calls the action in each reconcile, as
//! the host would. Tests assert the state of the world, not the calls.

mod cluster;
mod effects;
mod json_patch;
mod replica_set;
mod selector;
mod story;

pub use cluster::FakeCluster;
pub use effects::Write;
pub use story::{FakeJob, FakeTarget};

use crate::{Job, Pod, Target};

/// A target with its pod, without any records yet.
pub fn target_of(pod: &Pod) -> Target {
    Target {
        uid: Some(pod.uid.clone()),
        containers: pod
            .ordinary_containers()
            .map(|container| container.name.clone())
            .collect(),
        pod: Some(pod.clone()),
        ..target_without_pod(&pod.name, None)
    }
}

/// A target without a pod; `uid` is none if it never had one.
pub fn target_without_pod(name: &str, uid: Option<&str>) -> Target {
    Target {
        name: name.to_owned(),
        uid: uid.map(str::to_owned),
        containers: Vec::new(),
        pod: None,
        extra_info: Vec::new(),
        started_at: None,
        deadline: None,
        last_failure: None,
        extra: Vec::new(),
    }
}

/// A job with this uid, at this time, with these settings and no parameters.
pub fn job(uid: &str, now: i64, settings: &str) -> Job {
    Job {
        namespace: "default".to_owned(),
        name: format!("job-{uid}"),
        uid: uid.to_owned(),
        action: "Test".to_owned(),
        ending: false,
        dry_run: false,
        lifecycle: false,
        now,
        settings: settings.to_owned(),
        parameters: "{}".to_owned(),
        extra: Vec::new(),
    }
}
