//! Building OperationJobs, and asking what became of them.

use operon_api::{
    OperationJob,
    conditions::{self},
    operation_job::{
        OperationJobSpec, OperationJobStatus, PodTarget, Progress, TargetDetail, TargetError,
    },
};
use serde_json::Value;

/// An OperationJob in the making.
#[derive(Clone, Debug)]
pub struct Job {
    name: String,
    spec: OperationJobSpec,
}

impl Job {
    /// A job of this action, on these pods.
    pub fn of<T: AsRef<str>>(name: &str, action: &str, targets: &[T]) -> Self {
        let target = |name: &T| PodTarget {
            name: name.as_ref().to_owned(),
            containers: None,
        };
        let spec = OperationJobSpec {
            action: action.to_owned(),
            targets: targets.iter().map(target).collect(),
            ..OperationJobSpec::default()
        };
        Self {
            name: name.to_owned(),
            spec,
        }
    }

    /// A job that replaces these pods.
    pub fn replace<T: AsRef<str>>(name: &str, targets: &[T]) -> Self {
        Self::of(name, "Replace", targets)
    }

    /// With `spec.partition`.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.spec.partition = Some(partition);
        self
    }

    /// With `spec.activeDeadlineSeconds`.
    #[must_use]
    pub fn deadline(mut self, seconds: i32) -> Self {
        self.spec.active_deadline_seconds = Some(seconds);
        self
    }

    /// With `spec.TTLSecondsAfterFinished`.
    #[must_use]
    pub fn ttl(mut self, seconds: i32) -> Self {
        self.spec.ttl_seconds_after_finished = Some(seconds);
        self
    }

    /// With `spec.parameters`, an object.
    #[must_use]
    pub fn parameters(mut self, parameters: &Value) -> Self {
        let parameters = parameters.as_object().expect("an object");
        self.spec.parameters.clone_from(parameters);
        self
    }

    /// The object to create.
    pub fn object(&self) -> OperationJob {
        OperationJob::new(&self.name, self.spec.clone())
    }
}

/// The job's status, empty if it has none yet.
pub fn status(job: &OperationJob) -> OperationJobStatus {
    job.status.clone().unwrap_or_default()
}

/// Whether a host has reported on the job as it is.
pub fn is_observed(job: &OperationJob) -> bool {
    status(job).observed_generation == job.metadata.generation
}

/// How far the job is.
pub fn progress(job: &OperationJob) -> Progress {
    status(job).progress.unwrap_or_default()
}

/// What the status says of a target, empty if nothing yet.
pub fn detail(job: &OperationJob, target: &str) -> TargetDetail {
    let found = status(job)
        .target_details
        .into_iter()
        .find(|detail| detail.name == target);
    found.unwrap_or_default()
}

/// The pod that replaced a target, as the status says.
pub fn new_pod(job: &OperationJob, target: &str) -> Option<String> {
    detail(job, target).extra_info.get("NewPod").cloned()
}

/// What a target failed by, or waits for; empty if nothing.
pub fn error(job: &OperationJob, target: &str) -> TargetError {
    detail(job, target).error.unwrap_or_default()
}

/// The reason of the job's condition of this type, if that is true.
pub fn reason(job: &OperationJob, condition: &str) -> Option<String> {
    let conditions = status(job).conditions;
    let found = conditions::find(&conditions, condition)?;
    (found.status == "True").then(|| found.reason.clone())
}
