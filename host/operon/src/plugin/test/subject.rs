//! A job and its targets, as the host knows them between two calls; and the calls of the action about one target.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use operon_api::OperationJob;
use operon_core::action::{
    ActionError, Attributes, ContainerKind, Failure, JobView, Operation, OpsProgress,
    ProgressReport, Registration, Request, Target,
};
use serde_json::{Value, json};

use super::world::{View, World};
use crate::plugin::load::Loaded;

/// The uid of the job, where its file has none.
const UID: &str = "operon-plugin-test";

/// A job in a world, and how far its targets are.
#[derive(Clone)]
pub(super) struct Subject<'a> {
    loaded: &'a Loaded,
    job: JobView,
    parameters: Value,
    pub(super) targets: Vec<State>,
    pub(super) world: World,
}

/// What the host remembers of a target.
#[derive(Clone)]
pub(super) struct State {
    pub(super) name: String,
    containers: Vec<String>,
    pub(super) uid: Option<String>,
    started_at: i64,
    pub(super) extra_info: Attributes,
    pub(super) progress: OpsProgress,
    pub(super) failure: Option<Failure>,
    pub(super) recheck_after: Option<Duration>,
    /// The last effects about it have changed something, and no report followed: one follows the next effects.
    pub(super) has_acted: bool,
    /// The last effects about it were refused: its failure is that of the API server, and not of the action.
    pub(super) is_refused: bool,
    /// It has failed, and nothing is left to release.
    pub(super) is_released: bool,
}

impl<'a> Subject<'a> {
    pub(super) fn new(
        loaded: &'a Loaded,
        job: Option<&OperationJob>,
        pods: &[Value],
        mut world: World,
    ) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = job.map(|job| &job.spec);
        let named: Vec<(String, Vec<String>)> = match spec {
            Some(spec) => spec
                .targets
                .iter()
                .map(|target| {
                    (
                        target.name.clone(),
                        target.containers.clone().unwrap_or_default(),
                    )
                })
                .collect(),
            None => pods
                .iter()
                .map(|pod| (text(&pod["metadata"]["name"]), Vec::new()))
                .collect(),
        };
        let metadata = job.map(|job| &job.metadata);
        let of_pods = pods.first().map(|pod| text(&pod["metadata"]["namespace"]));
        let namespace = metadata
            .and_then(|metadata| metadata.namespace.clone())
            .or(of_pods)
            .filter(|namespace| !namespace.is_empty());
        let uid = metadata.and_then(|metadata| metadata.uid.clone());
        let uid = uid.unwrap_or_else(|| UID.to_owned());
        world.add_job(&uid);
        world.finalizers.clone_from(&loaded.finalizers);
        let parameters = spec.map_or(json!({}), |spec| spec.parameters.clone().into());
        let name = metadata.and_then(|metadata| metadata.name.clone());
        let job = JobView {
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            name: name.unwrap_or_else(|| "test".to_owned()),
            uid,
            action: spec.map_or_else(|| "Test".to_owned(), |spec| spec.action.clone()),
            ending: false,
            dry_run: false,
            lifecycle: false,
            now: world.now(),
            settings: loaded.settings.to_string(),
            parameters: parameters.to_string(),
        };
        let targets = named.into_iter().map(|(name, containers)| State {
            uid: world.pod(&name).map(|pod| pod.uid),
            name,
            containers,
            started_at: world.now(),
            extra_info: Attributes::new(),
            progress: OpsProgress::Processing,
            failure: None,
            recheck_after: None,
            has_acted: false,
            is_refused: false,
            is_released: false,
        });
        Self {
            loaded,
            job,
            parameters,
            targets: targets.collect(),
            world,
        }
    }

    /// As the host does before the first target starts.
    pub(super) async fn check_parameters(&self) -> anyhow::Result<()> {
        let checked = self.loaded.action.check_parameters(&self.parameters).await;
        checked.map_err(|error| anyhow!("{}: {}", error.reason, error.message))
    }

    pub(super) fn registration(&self) -> &Registration {
        self.loaded.action.registration()
    }

    pub(super) fn job_uid(&self) -> &str {
        &self.job.uid
    }

    /// Whether the job is being deleted.
    pub(super) fn is_ending(&self) -> bool {
        self.job.ending
    }

    /// The job is deleted: its targets are released.
    pub(super) fn end(&mut self) {
        self.job.ending = true;
    }

    /// The world as the calls of the next reconcile see it.
    pub(super) fn look(&mut self) -> Arc<World> {
        self.job.now = self.world.now();
        Arc::new(self.world.clone())
    }

    pub(super) async fn operate(
        &self,
        place: usize,
        seen: &Arc<World>,
    ) -> Result<Operation, ActionError> {
        let target = self.target(place, seen);
        let call = self
            .loaded
            .action
            .operate_target(self.request(&target, seen));
        call.await
    }

    pub(super) async fn progress(
        &self,
        place: usize,
        seen: &Arc<World>,
    ) -> Result<ProgressReport, ActionError> {
        let target = self.target(place, seen);
        let call = self
            .loaded
            .action
            .get_ops_progress(self.request(&target, seen));
        call.await
    }

    pub(super) async fn release(
        &self,
        place: usize,
        seen: &Arc<World>,
    ) -> Result<Operation, ActionError> {
        let target = self.target(place, seen);
        let call = self
            .loaded
            .action
            .release_target(self.request(&target, seen));
        call.await
    }

    /// A target, as a call sees it.
    pub(super) fn target(&self, place: usize, seen: &World) -> Target {
        let Some(state) = self.targets.get(place) else {
            return Target::default();
        };
        let pod = seen.pod(&state.name);
        let pod = pod.filter(|pod| state.uid.as_ref().is_none_or(|uid| *uid == pod.uid));
        let mut containers = state.containers.clone();
        if let (true, Some(pod)) = (containers.is_empty(), &pod) {
            let ordinary = pod
                .containers
                .iter()
                .filter(|container| container.kind == ContainerKind::Ordinary);
            containers.extend(ordinary.map(|container| container.name.clone()));
        }
        Target {
            name: state.name.clone(),
            uid: state.uid.clone(),
            containers,
            pod,
            extra_info: state.extra_info.clone(),
            started_at: Some(state.started_at),
            deadline: None,
            last_failure: state.failure.clone(),
        }
    }

    fn request<'b>(&'b self, target: &'b Target, seen: &Arc<World>) -> Request<'b> {
        let registration = self.loaded.action.registration();
        Request {
            target,
            job: &self.job,
            cluster: Arc::new(View {
                world: Arc::clone(seen),
                watches: registration.watches.clone().into(),
                target: target.name.clone(),
            }),
            admit: None,
        }
    }
}

impl State {
    /// Effects were performed. Unless the last ones had no report either, none follows effects that have changed
    /// something: the action does not see them yet.
    pub(super) fn acted(&mut self, is_changed: bool) {
        self.has_acted = is_changed && !self.has_acted;
    }

    pub(super) fn refuse(&mut self, error: ActionError) {
        self.has_acted = false;
        self.is_refused = false;
        match error {
            ActionError::Retry(failure, after) => {
                self.failure = Some(failure);
                self.recheck_after = after;
            }
            ActionError::Plugin(failure) => self.failure = Some(failure),
            ActionError::Terminal(failure) => {
                self.failure = Some(failure);
                self.progress = OpsProgress::Failed;
            }
        }
    }
}
