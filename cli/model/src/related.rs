//! The objects beside the one that is shown: which the command must read, and what it could read.

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};

/// What the command must read to show an object. It follows from the object alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The label selector of Jobs.
    pub jobs: Option<String>,
    /// The label selector of pods.
    pub pods: Option<String>,
    /// Single pods, by name.
    pub pod_names: Vec<String>,
}

/// What the command read.
#[derive(Clone, Debug, Default)]
pub struct Related {
    /// The Jobs.
    pub jobs: Vec<Job>,
    /// The pods.
    pub pods: Vec<Pod>,
    /// A sentence for each read that was refused.
    pub unread: Vec<String>,
}

impl Related {
    /// The pod of this name.
    pub(crate) fn pod(&self, name: &str) -> Option<&Pod> {
        let has_name = |pod: &&Pod| pod.metadata.name.as_deref() == Some(name);
        self.pods.iter().find(has_name)
    }

    /// The pods of a Job.
    pub(crate) fn pods_of_job<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |pod| {
            let labels = pod.metadata.labels.as_ref();
            let label = labels.and_then(|labels| labels.get("batch.kubernetes.io/job-name"));
            label.is_some_and(|label| label == job)
        })
    }
}
