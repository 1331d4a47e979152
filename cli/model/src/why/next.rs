//! The command that comes next after each reason of the documents.

use crate::{Kind, Object};

/// What a user does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look at the ActionPlugins.
    Action,
    /// Run again what failed.
    Again,
    /// Look at the PodDisruptionBudgets.
    Budgets,
    /// Look at ConfigMaps and Secrets.
    Config,
    /// Install Operon's CRDs.
    Crds,
    /// Look at the object: its spec has to change, or another one has to be created.
    Describe,
    /// Look at the Warning Events of the namespace.
    Events,
    /// Look at the log of the host.
    Host,
    /// Look at the Jobs.
    Jobs,
    /// Show the object with its parts.
    Look,
    /// Look at the nodes.
    Nodes,
    /// Look at the other OperationJobs.
    OperationJobs,
    /// Look at the pod, with its Events.
    Pod,
    /// Look at the pods.
    Pods,
    /// Let more targets start.
    Promote,
    /// Look at Kueue's queue.
    Queue,
    /// Look at the quotas.
    Quota,
    /// Go on after a pause.
    Resume,
    /// Look at who is granted what.
    Rights,
    /// Look at the JobTemplates.
    Templates,
    /// It ends by itself.
    Wait,
}

/// The reasons of the documents, by what a user does next.
const REASONS: &[(Next, &[&str])] = &[
    (
        Next::Action,
        &[
            "ActionNotFound",
            "ActionNotReady",
            "ActionSuspended",
            "PodOpsLifecycleDisabled",
            "UnknownKind",
            "EffectRefused",
            "InvalidEffect",
            "BadEffect",
        ],
    ),
    (
        Next::Again,
        &[
            "Canceled",
            "OriginPutBack",
            "StepFailed",
            "BackoffLimitExceeded",
            "JobFailed",
            "OutputInvalid",
            "OutputMissing",
            "DependencyFailed",
            "FlowFailed",
            "Cancelled",
            "Cancelling",
            "NodesFailed",
            "NodesSkipped",
            "JobDeleted",
            "JobLost",
            "NewPodFailed",
            "NewPodNotFound",
        ],
    ),
    (
        Next::Budgets,
        &["DisruptionBudget", "SeveralDisruptionBudgets"],
    ),
    (Next::Config, &["ConfigMissing"]),
    (Next::Crds, &["ForeignCRD"]),
    (
        Next::Describe,
        &[
            "BadParameters",
            "ParametersChanged",
            "ExtraInfoTooLarge",
            "JobTooLarge",
            "Invalid",
            "MethodNotAllowed",
            "RequestEntityTooLarge",
            "OriginUnreadable",
            "CannotRestartInPlace",
            "StaticPod",
            "CannotResize",
            "TooManyContainers",
            "ReservedKey",
            "TooMuchToRemember",
            "NoController",
            "TooManyFailures",
            "NoTargets",
            "TooManyTargets",
            "InvalidSpec",
            "InvalidFlow",
            "UnknownDependency",
            "NoTemplate",
            "UnknownVolume",
            "VolumeNameTaken",
            "WhenInvalid",
            "ForeignFinalizers",
            "NameTooLong",
            "InPlaceImpossible",
            "InvalidSelector",
            "InvalidTemplate",
            "KusionStackRuns",
        ],
    ),
    (
        Next::Events,
        &[
            "WaitingForNewPod",
            "NameTaken",
            "JobPending",
            "FailedCreate",
            "RequestRefused",
            "BadRequest",
            "InternalError",
        ],
    ),
    (
        Next::Host,
        &[
            "ParametersCheckFailed",
            "CRDUnknown",
            "CacheStale",
            "StandingDown",
        ],
    ),
    (Next::Jobs, &["JobSuspended", "NamesTaken"]),
    (Next::Look, &["WhenFalse", "DependencySkipped"]),
    (
        Next::Nodes,
        &[
            "NodeLost",
            "ResizeNotSeen",
            "ResizeDeferred",
            "ResizeInfeasible",
            "ResizeNotSupported",
            "ResizeNotServed",
            "NoEligibleNodes",
            "NoCanaryNodes",
        ],
    ),
    (
        Next::OperationJobs,
        &[
            "ReplacedByOtherJob",
            "NotAllowedToReplaceNewPod",
            "RestartedByAnotherJob",
        ],
    ),
    (
        Next::Pod,
        &[
            "BlockedByOperation",
            "LeavingService",
            "ReturningToService",
            "PodTerminating",
            "OriginTerminating",
            "NewPodTerminating",
            "DeadlineExceeded",
            "ReleaseAbandoned",
            "ActionFailed",
            "NewPodNotReady",
            "NewPodNotAvailable",
            "OriginEnded",
            "OwnerNotFound",
            "OwnerGone",
            "UnsupportedOwner",
            "OwnerScaledDown",
            "WaitingForCollaSet",
            "ContainerNotReady",
            "ContainerNotStarted",
            "ContainerNotFound",
            "ImageNotRunning",
            "UpdateUnderWay",
            "WaitingForContainer",
            "ContainerEnded",
            "PodEnded",
            "WaitingForCondition",
            "WaitingForLabel",
            "ImageNotPulled",
            "InvalidImageName",
            "ContainerRunning",
            "ContainerExists",
            "DebugFailed",
            "ResizeInProgress",
            "ResourcesChanged",
            "ImagePullBackOff",
            "ErrImagePull",
            "CrashLoopBackOff",
            "CreateContainerConfigError",
            "CreateContainerError",
            "FailedMount",
            "Unschedulable",
            "SchedulingGated",
        ],
    ),
    (
        Next::Pods,
        &[
            "PodNotFound",
            "WaitingForAvailability",
            "PodsUnavailable",
            "Waiting",
        ],
    ),
    (Next::Promote, &["WaitingForPartition"]),
    (Next::Queue, &["Queued"]),
    (Next::Resume, &["Paused", "Suspended"]),
    (Next::Rights, &["Forbidden"]),
    (Next::Templates, &["TemplateNotFound"]),
    (
        Next::Wait,
        &[
            "OperationDelay",
            "Conflict",
            "AlreadyExists",
            "NotFound",
            "TooManyRequests",
            "RequestTimeout",
            "RequestFailed",
            "LimitReached",
            "WaitingForTurn",
            "TakenOver",
            "ContainerStopping",
            "ResizeRequested",
            "ResizeNotReported",
            "EvictionRequested",
            "RemovalRequested",
            "WriteRequested",
            "CacheBehind",
            "Retrying",
            "ReadingOutputs",
            "WavePause",
            "JobRunning",
            "Debouncing",
            "Retry",
            "Listing",
            "DeletingJobs",
            "Deleting",
            "Available",
            "PodsAvailable",
            "Scaled",
            "Scaling",
            "Updated",
            "Updating",
            "PartitionReached",
            "LabelledUpdated",
        ],
    ),
];

/// The next step after this reason with this message; none for a reason that is not of Operon.
pub(super) fn next(reason: &str, message: &str) -> Option<Next> {
    // What the message quotes of Kubernetes says more than a reason that is the same for several causes.
    if message.contains("exceeded quota") {
        return Some(Next::Quota);
    }
    if message.contains(" is forbidden: User ") {
        return Some(Next::Rights);
    }
    if message.contains("node \"") && message.contains("\" is not Ready") {
        return Some(Next::Nodes);
    }
    let found = REASONS
        .iter()
        .find(|(_, reasons)| reasons.contains(&reason));
    found.map(|(next, _)| *next)
}

/// All reasons of the table.
#[cfg(test)]
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    REASONS.iter().flat_map(|(_, reasons)| *reasons).copied()
}

impl Next {
    /// The command, for this object and, where it is known, this pod.
    pub(super) fn command(self, object: &Object, pod: Option<&str>) -> String {
        let (kind, name, namespace) = (object.kind(), object.name(), object.namespace());
        let called = object.called();
        let list = |what: &str| format!("kubectl get {what} -n {namespace}");
        let operon = |verb: &str| format!("kubectl operon {verb} {called} -n {namespace}");
        match self {
            Self::Action => "kubectl get actionplugins -o wide".to_owned(),
            Self::Again => match kind {
                Kind::OperationJob | Kind::JobFlow | Kind::DaemonJob => operon("retry"),
                Kind::ReactiveJob => operon("rerun"),
                Kind::CollaSet => Self::Describe.command(object, pod),
            },
            Self::Budgets => list("poddisruptionbudgets"),
            Self::Config => list("configmaps,secrets"),
            Self::Crds => "kubectl apply --server-side --force-conflicts -f crds/".to_owned(),
            Self::Describe => format!("kubectl describe {} {name} -n {namespace}", kind.plural()),
            Self::Events => format!("kubectl events --types=Warning -n {namespace}"),
            Self::Host => {
                "kubectl logs -n operon-system -l app.kubernetes.io/name=operon --tail=50"
                    .to_owned()
            }
            Self::Jobs => list("jobs"),
            Self::Look => operon("get"),
            Self::Nodes => "kubectl get nodes".to_owned(),
            Self::OperationJobs => list("operationjobs"),
            Self::Pod => match pod {
                Some(pod) => format!("kubectl describe pod {pod} -n {namespace}"),
                None => Self::Events.command(object, None),
            },
            Self::Pods => list("pods"),
            Self::Promote => operon("promote"),
            Self::Queue => list("workloads.kueue.x-k8s.io"),
            Self::Quota => format!("kubectl describe resourcequotas -n {namespace}"),
            Self::Resume => operon("resume"),
            Self::Rights => "kubectl get rolebindings,clusterrolebindings -A -o wide".to_owned(),
            Self::Templates => list("jobtemplates"),
            Self::Wait => format!("{} -w", operon("get")),
        }
    }
}
