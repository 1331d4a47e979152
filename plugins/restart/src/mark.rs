//! What Restart writes on a pod: for each container the job that restarts it, the instance that ran before, and
//! the image that the spec had. It stays: putting the image back would restart the container again.

use std::collections::BTreeMap;

use operon_sdk::{Container, Pod};
use serde::{Deserialize, Serialize};

/// The annotation.
pub const RESTARTS: &str = "operon.dev/restarts";

/// The restarts of a pod, by container.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Restarts(BTreeMap<String, Mark>);

/// The last restart of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mark {
    /// The uid of the OperationJob.
    pub job: String,
    /// The container id of the instance that ran before.
    pub before: String,
    /// The image of the spec before the first restart.
    pub image: String,
    /// The image that the restart wrote.
    pub wrote: String,
}

/// How far a restart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The kubelet has not stopped the instance that ran before.
    Stopping,
    /// Another instance is not ready yet.
    Starting,
    /// Another instance is ready.
    Done,
}

impl Mark {
    /// How far the restart of this container is.
    pub fn stage(&self, container: &Container) -> Stage {
        match &container.container_id {
            Some(id) if *id == self.before => Stage::Stopping,
            Some(_) if container.ready => Stage::Done,
            Some(_) | None => Stage::Starting,
        }
    }
}

impl Restarts {
    /// The restarts of a pod; none if the annotation cannot be read.
    pub fn of(pod: &Pod) -> Self {
        let text = pod.annotation(RESTARTS);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The restart of a container by this job.
    pub fn by(&self, job: &str, container: &str) -> Option<&Mark> {
        self.0.get(container).filter(|mark| mark.job == job)
    }

    /// The unfinished restarts by other jobs: the container and the job.
    pub fn unfinished_by_others<'a>(
        &'a self,
        job: &'a str,
        pod: &'a Pod,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let others = self.0.iter().filter(move |(_, mark)| mark.job != job);
        others.filter_map(|(name, mark)| {
            let container = pod.container(name)?;
            (mark.stage(container) != Stage::Done).then_some((name.as_str(), mark.job.as_str()))
        })
    }

    /// The image that the spec of a container had before its first restart. An image that was changed since is the
    /// original one from now on.
    pub fn original<'a>(&'a self, container: &'a Container) -> &'a str {
        let mark = self.0.get(&container.name);
        let mark = mark.filter(|mark| mark.wrote == container.image);
        mark.map_or(&container.image, |mark| &mark.image)
    }

    /// These with one more restart, as the annotation has them.
    pub fn with(mut self, job: &str, container: &Container, wrote: &str) -> String {
        let image = self.original(container).to_owned();
        let mark = Mark {
            job: job.to_owned(),
            before: container.container_id.clone().unwrap_or_default(),
            image,
            wrote: wrote.to_owned(),
        };
        self.0.insert(container.name.clone(), mark);
        serde_json::to_string(&self).unwrap_or_default()
    }
}
