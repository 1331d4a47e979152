//! An action of the SDK as the host calls it: the same code as in its component, without WebAssembly. What
//! is converted here is converted in `plugin-runtime` for components.

use std::marker::PhantomData;

use operon_core::action::{self as core, ClusterView, JobView, PodView};
use operon_sdk as sdk;

use super::*;

/// An action that runs natively.
pub(super) struct Native<A> {
    registration: Registration,
    settings: String,
    action: PhantomData<fn() -> A>,
}

impl<A: sdk::Action> Native<A> {
    pub(super) fn new(settings: &str) -> Self {
        let registration = Self::action(settings).setup().expect("right settings");
        Self {
            registration: self::registration(registration),
            settings: settings.to_owned(),
            action: PhantomData,
        }
    }

    fn action(settings: &str) -> A {
        A::new(sdk::settings(settings).expect("right settings"))
    }

    /// Each call has its own value of the action, as each call of a component has its own instance.
    fn answer<T, C: Send + 'static>(
        &self,
        request: &Request<'_>,
        call: impl FnOnce(&A, &sdk::Target, &sdk::Job, &Seen) -> Result<T, sdk::ActionError>,
        convert: fn(T) -> C,
    ) -> BoxFuture<'static, Result<C, ActionError>> {
        let action = Self::action(&self.settings);
        let (target, job) = (target(request.target), job(request.job));
        let seen = Seen(Arc::clone(&request.cluster));
        let answer = call(&action, &target, &job, &seen);
        let answer = answer.map(convert).map_err(error);
        Box::pin(std::future::ready(answer))
    }
}

impl<A: sdk::Action> Action for Native<A> {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        let call =
            |action: &A, target: &_, job: &_, seen: &Seen| action.operate_target(target, job, seen);
        self.answer(&request, call, operation)
    }

    fn get_ops_progress<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>> {
        let call = |action: &A, target: &_, job: &_, seen: &Seen| {
            action.get_ops_progress(target, job, seen)
        };
        self.answer(&request, call, report)
    }

    fn release_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        let call =
            |action: &A, target: &_, job: &_, seen: &Seen| action.release_target(target, job, seen);
        self.answer(&request, call, operation)
    }
}

/// The host's view, as the action reads it.
struct Seen(Arc<dyn ClusterView>);

impl sdk::Cluster for Seen {
    fn get(&self, object: &sdk::ObjectReference) -> Result<Option<Value>, sdk::ReadError> {
        self.0.get(&reference(object.clone())).map_err(read_error)
    }

    fn find(
        &self,
        api_version: &str,
        kind: &str,
        label_selector: &str,
    ) -> Result<Vec<Value>, sdk::ReadError> {
        let found = self.0.find(api_version, kind, label_selector);
        Ok(found.map_err(read_error)?.collect())
    }

    fn find_pods(&self, label_selector: &str) -> Result<Vec<sdk::Pod>, sdk::ReadError> {
        let found = self.0.find_pods(label_selector).map_err(read_error)?;
        Ok(found.map(|found| pod(&found)).collect())
    }

    fn find_job(&self, uid: &str) -> Result<sdk::JobState, sdk::ReadError> {
        let state = self.0.find_job(uid).map_err(read_error)?;
        Ok(match state {
            core::JobState::Absent => sdk::JobState::Absent,
            core::JobState::Active => sdk::JobState::Active,
            core::JobState::Finished => sdk::JobState::Finished,
        })
    }
}

fn read_error(error: core::ReadError) -> sdk::ReadError {
    match error {
        core::ReadError::NotDeclared(kind) => sdk::ReadError::NotDeclared(kind),
        core::ReadError::NotServed(kind) => sdk::ReadError::NotServed(kind),
        core::ReadError::BadSelector(error) => sdk::ReadError::BadSelector(error.to_string()),
        core::ReadError::TooMuch(what) => sdk::ReadError::TooMuch(what),
    }
}

fn target(target: &core::Target) -> sdk::Target {
    let core::Target {
        name,
        uid,
        containers,
        pod,
        extra_info,
        started_at,
        deadline,
        last_failure,
    } = target.clone();
    sdk::Target {
        name,
        uid,
        containers,
        pod: pod.as_ref().map(self::pod),
        extra_info: extra_info.into_iter().collect(),
        started_at,
        deadline,
        last_failure: last_failure
            .map(|failure| sdk::Failure::new(&failure.reason, failure.message)),
        extra: Vec::new(),
    }
}

fn job(job: &JobView) -> sdk::Job {
    let JobView {
        namespace,
        name,
        uid,
        action,
        ending,
        dry_run,
        lifecycle,
        now,
        settings,
        parameters,
    } = job.clone();
    sdk::Job {
        namespace,
        name,
        uid,
        action,
        ending,
        dry_run,
        lifecycle,
        now,
        settings,
        parameters,
        extra: Vec::new(),
    }
}

fn pod(pod: &PodView) -> sdk::Pod {
    let PodView {
        name,
        uid,
        resource_version,
        generation,
        observed_generation,
        created_at,
        phase,
        ready,
        ready_since,
        deleting,
        node,
        labels,
        annotations,
        finalizers,
        owners,
        conditions,
        containers,
    } = pod.clone();
    sdk::Pod {
        name,
        uid,
        resource_version,
        generation,
        observed_generation,
        created_at,
        phase,
        ready,
        ready_since,
        deleting,
        node,
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
        finalizers,
        owners: owners.into_iter().map(owner).collect(),
        conditions: conditions.into_iter().map(condition).collect(),
        containers: containers.into_iter().map(container).collect(),
    }
}

fn owner(owner: core::OwnerView) -> sdk::OwnerReference {
    let core::OwnerView {
        api_version,
        kind,
        name,
        uid,
        controller,
        block_owner_deletion,
    } = owner;
    sdk::OwnerReference {
        api_version,
        kind,
        name,
        uid,
        controller,
        block_owner_deletion,
    }
}

fn condition(condition: core::ConditionView) -> sdk::Condition {
    let core::ConditionView {
        name,
        status,
        reason,
        message,
        since,
    } = condition;
    sdk::Condition {
        name,
        status,
        reason,
        message,
        since,
    }
}

fn container(container: core::ContainerView) -> sdk::Container {
    let core::ContainerView {
        name,
        kind,
        image,
        image_id,
        ready,
        restart_count,
        phase,
        reason,
        message,
        exit_code,
        container_id,
    } = container;
    sdk::Container {
        name,
        kind: match kind {
            core::ContainerKind::Ordinary => sdk::ContainerKind::Ordinary,
            core::ContainerKind::Sidecar => sdk::ContainerKind::Sidecar,
            core::ContainerKind::Init => sdk::ContainerKind::Init,
            core::ContainerKind::Ephemeral => sdk::ContainerKind::Ephemeral,
        },
        image,
        image_id,
        ready,
        restart_count,
        phase: match phase {
            core::ContainerPhase::Waiting => sdk::ContainerPhase::Waiting,
            core::ContainerPhase::Running => sdk::ContainerPhase::Running,
            core::ContainerPhase::Terminated => sdk::ContainerPhase::Terminated,
        },
        reason,
        message,
        exit_code,
        container_id,
    }
}

fn reference(object: sdk::ObjectReference) -> core::ObjectReference {
    let sdk::ObjectReference {
        api_version,
        kind,
        name,
    } = object;
    core::ObjectReference {
        api_version,
        kind,
        name,
    }
}

fn failure(failure: sdk::Failure) -> Failure {
    Failure::new(failure.reason, failure.message)
}

fn milliseconds(after: Option<u32>) -> Option<Duration> {
    after.map(|after| Duration::from_millis(after.into()))
}

fn error(error: sdk::ActionError) -> ActionError {
    match error {
        sdk::ActionError::Retry((reason, after)) => {
            ActionError::Retry(failure(reason), milliseconds(after))
        }
        sdk::ActionError::Terminal(reason) => ActionError::Terminal(failure(reason)),
    }
}

fn operation(operation: sdk::Operation) -> Operation {
    let sdk::Operation {
        requirements,
        limit,
        effects,
        extra_info,
        unfinished,
        extra: _,
    } = operation;
    let requirement = |requirement: sdk::Requirement| core::Requirement {
        object: reference(requirement.object),
        uid: requirement.uid,
        resource_version: requirement.resource_version,
    };
    Operation {
        requirements: requirements.into_iter().map(requirement).collect(),
        limit: limit.map(|limit| core::PodLimit {
            label_selector: limit.label_selector,
            pods: limit.pods,
        }),
        effects: effects.into_iter().map(effect).collect(),
        extra_info: extra_info.into_iter().collect(),
        unfinished: unfinished.map(|unfinished| core::Unfinished {
            failure: failure(unfinished.failure),
            recheck_after: milliseconds(unfinished.recheck_after),
        }),
    }
}

fn effect(effect: sdk::Effect) -> core::Effect {
    match effect {
        sdk::Effect::Patch(patch) => core::Effect::Patch {
            object: reference(patch.object),
            subresource: patch.subresource,
            kind: match patch.kind {
                sdk::PatchKind::Merge => core::PatchKind::Merge,
                sdk::PatchKind::Json => core::PatchKind::Json,
                sdk::PatchKind::Strategic => core::PatchKind::Strategic,
            },
            body: parsed(&patch.body),
            uid: patch.uid,
            resource_version: patch.resource_version,
        },
        sdk::Effect::Apply(body) => core::Effect::Apply(parsed(&body)),
        sdk::Effect::Create(body) => core::Effect::Create(parsed(&body)),
        sdk::Effect::Delete(delete) => core::Effect::Delete {
            object: reference(delete.object),
            uid: delete.uid,
            resource_version: delete.resource_version,
            grace_period_seconds: delete.grace_period_seconds,
            propagation: core::Propagation::Background,
        },
        sdk::Effect::Evict(evict) => core::Effect::Evict {
            pod: evict.pod,
            uid: evict.uid,
            resource_version: evict.resource_version,
            grace_period_seconds: evict.grace_period_seconds,
        },
        sdk::Effect::Event(event) => core::Effect::Event {
            severity: match event.severity {
                sdk::Severity::Normal => Severity::Normal,
                sdk::Severity::Warning => Severity::Warning,
            },
            reason: event.reason,
            message: event.message,
        },
    }
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).expect("an action answers with JSON")
}

fn report(report: sdk::ProgressReport) -> ProgressReport {
    let sdk::ProgressReport {
        progress,
        failure,
        extra_info,
        recheck_after,
        extra: _,
    } = report;
    ProgressReport {
        progress: match progress {
            sdk::Progress::Processing => OpsProgress::Processing,
            sdk::Progress::Failed => OpsProgress::Failed,
            sdk::Progress::Succeeded => OpsProgress::Succeeded,
        },
        failure: failure.map(self::failure),
        extra_info: extra_info.into_iter().collect(),
        recheck_after: milliseconds(recheck_after),
    }
}

fn registration(registration: sdk::Registration) -> Registration {
    let sdk::Registration {
        watches,
        settings_schema,
        parameters_schema,
        job_label,
        traits,
        extra: _,
    } = registration;
    let mapping = |mapping| match mapping {
        sdk::Mapping::Label(label) => core::Mapping::Label(label),
        sdk::Mapping::ExtraInfo(key) => core::Mapping::ExtraInfo(key),
        sdk::Mapping::UidInLabel(label) => core::Mapping::UidInLabel(label),
        sdk::Mapping::UidInExtraInfo(key) => core::Mapping::UidInExtraInfo(key),
        sdk::Mapping::Namespace => core::Mapping::Namespace,
        sdk::Mapping::Node => core::Mapping::Node,
    };
    let watch = |watch: sdk::Watch| core::Watch {
        api_version: watch.api_version,
        kind: watch.kind,
        label_selector: watch.label_selector,
        fields: watch.fields,
        mappings: watch.mappings.into_iter().map(mapping).collect(),
        is_optional: watch.optional,
        is_cluster_scoped: watch.cluster_scoped,
    };
    Registration {
        watches: watches.into_iter().map(watch).collect(),
        settings_schema: parsed(&settings_schema),
        parameters_schema: parsed(&parameters_schema),
        job_label,
        removes_pods: traits.contains(sdk::Traits::REMOVES_PODS),
        supports_dry_run: traits.contains(sdk::Traits::SUPPORTS_DRY_RUN),
    }
}
