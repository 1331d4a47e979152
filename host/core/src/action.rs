//! What an action is to the host: the values that cross the boundary, and the trait that a loaded
//! component implements.
//!
//! The shapes are those of `wit/action.wit`, which defines them; the plugin runtime converts. They
//! live here so that decisions and controllers do not know WebAssembly.

pub mod guard;
mod pinned;
mod pod;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use serde_json::Value;

pub use self::pod::{
    ConditionView, ContainerKind, ContainerPhase, ContainerView, MESSAGE, OwnerView, PodView,
};
use crate::selector::SelectorError;

/// Names with values: labels, annotations, extra-info.
pub type Attributes = BTreeMap<String, String>;

/// A loaded action, ready to be called. All calls are idempotent and isolated from each other.
pub trait Action: Send + Sync {
    /// The action's description of itself from `setup`.
    fn registration(&self) -> &Registration;

    /// Checks the parameters of a job against the schema that the action declared. By default all are
    /// accepted.
    ///
    /// Errors: `BadParameters` if they violate it; a transient error if they could not be checked.
    fn check_parameters<'a>(
        &'a self,
        parameters: &'a Value,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        let _ = parameters;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Operates the target: called until the target has finished, whenever the target or something that the last call
    /// read may have changed, and when the time that it asked for has passed.
    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>>;

    /// How far the target is.
    fn get_ops_progress<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>>;

    /// Cleans up after a target that failed, was cancelled, or whose job is deleted.
    fn release_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>>;
}

/// Turns the bytes of a component into an [`Action`]. Implemented by the plugin runtime.
pub trait ActionLoader: Send + Sync {
    /// Compiles the component (out of process, within limits), checks its world and runs `setup`.
    fn load<'a>(
        &'a self,
        name: &'a str,
        component: &'a [u8],
        settings: &'a Value,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<Arc<dyn Action>, LoadError>>;
}

/// Pods that a label selector matches.
pub type FoundPods<'a> = Box<dyn Iterator<Item = Arc<PodView>> + 'a>;

/// What an action may read of the cluster. Implemented by the controllers' stores.
pub trait ClusterView: Send + Sync {
    /// One object of the view's namespace, as JSON.
    fn get(&self, reference: &ObjectReference) -> Result<Option<Value>, ReadError>;
    /// All objects of a kind that a label selector matches, each as JSON when its turn comes: there may
    /// be more than the call may read.
    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Box<dyn Iterator<Item = Value>>, ReadError>;
    /// All pods that a label selector matches, each when its turn comes. A pod is shared by all that find it.
    fn find_pods(&self, label_selector: &str) -> Result<FoundPods<'_>, ReadError>;
    /// The state of the OperationJob with this uid.
    fn find_job(&self, uid: &str) -> Result<JobState, ReadError>;
}

/// The state of an OperationJob, as far as another job needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// There is no such job in the namespace.
    Absent,
    /// It is in progress, is being deleted, or has targets left to release.
    Active,
    /// All its targets have finished, and nothing of them is left to release.
    Finished,
}

/// One question to an action.
#[derive(Clone)]
pub struct Request<'a> {
    /// The target it is about.
    pub target: &'a Target,
    /// The calling OperationJob.
    pub job: &'a JobView,
    /// What it may read.
    pub cluster: Arc<dyn ClusterView>,
    /// Whether the call may begin. An implementation that lets calls wait asks when the wait is over; the error is then
    /// the answer.
    pub admit: Option<Admit<'a>>,
}

/// Decides whether a call that has waited may still begin.
pub type Admit<'a> = &'a (dyn Fn() -> Result<(), ActionError> + Send + Sync);

/// How much one call of an action may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: u64,
    /// Time for one call, waiting included.
    pub call_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 32 << 20,
            call_timeout: Duration::from_secs(1),
        }
    }
}

/// Why a component could not be loaded: a CamelCase reason for the condition, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// One CamelCase word.
    pub reason: &'static str,
    /// The cause, and what to do about it.
    pub message: String,
    /// Whether trying the same bytes again can help.
    pub transient: bool,
}

/// Why an answer could not be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One CamelCase word.
    pub reason: String,
    /// The cause, and what to do about it.
    pub message: String,
}

impl Failure {
    /// A failure of this reason, explained by this message.
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// How an answer can fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionError {
    /// The action requests another call, after the given time or with backoff.
    Retry(Failure, Option<Duration>),
    /// It will never go better: the target is Failed.
    Terminal(Failure),
    /// The component itself broke a rule (trap, timeout, memory, answer that can't be read).
    Plugin(Failure),
}

impl ActionError {
    /// The failure, whatever its class.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Retry(failure, _) | Self::Terminal(failure) | Self::Plugin(failure) => failure,
        }
    }
}

/// Why a read was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The kind was not declared in `setup`.
    #[error("kind {0:?} was not declared in setup")]
    NotDeclared(String),
    /// The kind was declared as optional, and the API server does not serve it.
    #[error("kind {0:?} is not served by the API server")]
    NotServed(String),
    /// The label selector can't be used.
    #[error("failed to read the label selector")]
    BadSelector(#[source] SelectorError),
    /// The call read too much.
    #[error("{0}")]
    TooMuch(String),
}

/// An object in the namespace of the job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectReference {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Pod`, `ReplicaSet`
    pub kind: String,
    /// The object's name.
    pub name: String,
}

/// An object that must exist when an operation is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Which.
    pub object: ObjectReference,
    /// Its uid.
    pub uid: String,
    /// It has not changed since this version; none: it may have changed.
    pub resource_version: Option<String>,
}

/// One target of the job, with its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The pod's name.
    pub name: String,
    /// The uid of the pod when the target started.
    pub uid: Option<String>,
    /// The containers to act on.
    pub containers: Vec<String>,
    /// The pod of this name and uid.
    pub pod: Option<PodView>,
    /// What the action recorded.
    pub extra_info: Attributes,
    /// Seconds since the Unix epoch at which it started.
    pub started_at: Option<i64>,
    /// Seconds since the Unix epoch at which it fails if it has not finished.
    pub deadline: Option<i64>,
    /// Why it has not finished, as its status says.
    pub last_failure: Option<Failure>,
}

/// The calling OperationJob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobView {
    /// The job's namespace, and that of everything an action sees or touches.
    pub namespace: String,
    /// The job's name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `spec.action`
    pub action: String,
    /// The target is about to be released.
    pub ending: bool,
    /// The effects are only tried.
    pub dry_run: bool,
    /// The action takes part in the PodOpsLifecycle.
    pub lifecycle: bool,
    /// Seconds since the Unix epoch, the same for a whole reconcile.
    pub now: i64,
    /// The action's settings, as JSON text.
    pub settings: String,
    /// The job's parameters, as JSON text.
    pub parameters: String,
}

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// JSON merge patch
    Merge,
    /// JSON patch
    Json,
    /// Strategic merge patch
    Strategic,
}

/// How loud an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something happened.
    Normal,
    /// Something went wrong.
    Warning,
}

/// The fate of the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Changes an object.
    Patch {
        /// Which.
        object: ObjectReference,
        /// `status` and the like.
        subresource: Option<String>,
        /// How the body is written.
        kind: PatchKind,
        /// The patch.
        body: Value,
        /// Precondition.
        uid: Option<String>,
        /// Precondition.
        resource_version: Option<String>,
    },
    /// Server-side apply of a whole object.
    Apply(Value),
    /// Creates an object.
    Create(Value),
    /// Deletes an object.
    Delete {
        /// Which.
        object: ObjectReference,
        /// Precondition.
        uid: Option<String>,
        /// Precondition.
        resource_version: Option<String>,
        /// Overrides the object's own.
        grace_period_seconds: Option<u32>,
        /// The propagation policy for its dependents.
        propagation: Propagation,
    },
    /// Requests the eviction of a pod.
    Evict {
        /// The pod's name.
        pod: String,
        /// Precondition.
        uid: Option<String>,
        /// Precondition.
        resource_version: Option<String>,
        /// Overrides the pod's own.
        grace_period_seconds: Option<u32>,
    },
    /// A Kubernetes Event about the target's pod, or the job where there is no pod.
    Event {
        /// How loud.
        severity: Severity,
        /// One CamelCase word.
        reason: String,
        /// A sentence.
        message: String,
    },
}

impl Effect {
    /// Whether it removes an object, which can't be undone.
    pub fn removes(&self) -> bool {
        match self {
            Self::Delete { .. } | Self::Evict { .. } => true,
            Self::Patch { .. } | Self::Apply(_) | Self::Create(_) | Self::Event { .. } => false,
        }
    }

    /// Whether it may give an object to a controller, which may remove another one that is too many then. A JSON patch
    /// may if it writes owner references, because its outcome depends on the object.
    pub fn gives_to_controller(&self) -> bool {
        let body = match self {
            Self::Patch {
                kind: PatchKind::Json,
                body,
                ..
            } => return guard::reaches_owners(body),
            Self::Patch { body, .. } | Self::Apply(body) | Self::Create(body) => body,
            Self::Delete { .. } | Self::Evict { .. } | Self::Event { .. } => return false,
        };
        let owners = body["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        owners.any(|owner| owner["controller"] == true)
    }

    /// What it does.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Patch { .. } => Verb::Patch,
            Self::Apply(_) => Verb::Apply,
            Self::Create(_) => Verb::Create,
            Self::Delete { .. } => Verb::Delete,
            Self::Evict { .. } => Verb::Evict,
            Self::Event { .. } => Verb::Event,
        }
    }
}

/// What an effect does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// It changes an object.
    Patch,
    /// It applies a whole object.
    Apply,
    /// It creates an object.
    Create,
    /// It deletes an object.
    Delete,
    /// It evicts a pod.
    Evict,
    /// It sends an Event.
    Event,
}

crate::words!(Verb {
    Patch => "patch",
    Apply => "apply",
    Create => "create",
    Delete => "delete",
    Evict => "evict",
    Event => "event",
});

/// A limit of pods that match a label selector in the job's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodLimit {
    /// Which pods count, unless they are being deleted.
    pub label_selector: String,
    /// The operation is performed while there are fewer.
    pub pods: u32,
}

/// What to do, and what to remember.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Operation {
    /// Checked before the first effect: these objects exist and are not being deleted.
    pub requirements: Vec<Requirement>,
    /// Checked as well: fewer pods than this match. Without effects, the target waits until that is so.
    pub limit: Option<PodLimit>,
    /// Performed in this order; the first that fails ends the list.
    pub effects: Vec<Effect>,
    /// The target's extra-info from now on, whole.
    pub extra_info: Attributes,
    /// Of a release: what it waits for, if it needs further calls.
    pub unfinished: Option<Unfinished>,
}

/// What a release waits for that needs further calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What it waits for.
    pub failure: Failure,
    /// When to call again, even if nothing changed.
    pub recheck_after: Option<Duration>,
}

/// An action's report on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpsProgress {
    /// Not finished.
    Processing,
    /// Finished without success.
    Failed,
    /// Finished.
    Succeeded,
}

/// How far a target is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgressReport {
    /// How far.
    pub progress: OpsProgress,
    /// Why it failed, or what it waits for.
    pub failure: Option<Failure>,
    /// The target's extra-info from now on, whole.
    pub extra_info: Attributes,
    /// Call the action again after this time even if nothing changed.
    pub recheck_after: Option<Duration>,
}

/// How an object of a watched kind is mapped to the targets that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// The value of this label is a target's name.
    Label(String),
    /// The object's name is the value of this key in a target's extra-info.
    ExtraInfo(String),
    /// The uid of the object, or of its controller, is the value of this label of a target's pod.
    UidInLabel(String),
    /// The uid of the object, or of its controller, is the value of this key in a target's extra-info.
    UidInExtraInfo(String),
    /// Every object of the kind matters to every started target in its namespace.
    Namespace,
    /// The object's name is the name of the node that a started target's pod runs on.
    Node,
}

/// A kind that an action reads, and whose changes wake its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Pod`, `ReplicaSet`
    pub kind: String,
    /// Only objects with these labels; empty: all.
    pub label_selector: String,
    /// The top-level fields that the action reads besides `metadata`; empty: all.
    pub fields: Vec<String>,
    /// How an object finds its targets.
    pub mappings: Vec<Mapping>,
    /// The API server may not serve the kind.
    pub is_optional: bool,
    /// The kind has no namespaces.
    pub is_cluster_scoped: bool,
}

impl Watch {
    /// Whether the API server may not serve the kind. Every API server serves nodes.
    pub fn may_be_absent(&self) -> bool {
        self.is_optional && !self.is_cluster_scoped
    }
}

/// An action's description of itself, from its setup.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registration {
    /// What it reads.
    pub watches: Vec<Watch>,
    /// JSON Schema of its settings.
    pub settings_schema: Value,
    /// JSON Schema of the parameters of a job.
    pub parameters_schema: Value,
    /// The label by which it marks pods that it must finish or release; the value is the job's uid.
    pub job_label: Option<String>,
    /// Whether it removes the pods of its targets.
    pub removes_pods: bool,
    /// Whether a dry run of its first operation is of use.
    pub supports_dry_run: bool,
}
