//! The OperationJob controller. Everything that is decided is decided in `operon_core::operation_job`;
//! this file observes, asks the action, and applies.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{StreamExt, stream};
use k8s_openapi::{
    api::core::v1::{ObjectReference as EventSubject, Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, ResourceExt, api::DeleteParams, runtime::reflector::ObjectRef};
use operon_api::{OperationJob, keys, operation_job::Progress};
use operon_core::{
    action::{
        ActionError, ClusterView, Effect, JobView, ObjectReference, Operation, OpsProgress,
        PodView, Request, Severity, Target,
    },
    operation_job::{
        ActionState, Observed,
        conclude::{Answer, Conclusion, conclude},
        plan::{Cause, Plan, Run, Step, TargetPlan, plan},
    },
};

use crate::{
    apply,
    catalogue::{Catalogue, Loaded},
    effects::Performed,
    error::Error,
    events::Events,
    metrics::Metrics,
    run::{Next, Reconciler},
    status::{StatusWriter, Written},
    store::Cache,
    view::View,
};

/// How many targets of one job are asked about at once.
const TARGETS_AT_ONCE: usize = 16;

/// After effects on this many targets a pass asks no further: the next one, which follows at once, sees
/// what became of them. So a large job is never decided from a view that is many seconds old, and its
/// status moves on.
const TARGETS_CHANGED: usize = 128;

/// The controller's parts.
pub struct OperationJobs {
    /// Writes jobs.
    pub client: Client,
    /// All jobs.
    pub jobs: Cache<OperationJob>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// The actions.
    pub catalogue: Arc<Catalogue>,
    /// Sends Events.
    pub events: Events,
    /// Writes statuses.
    pub status: StatusWriter,
    /// Counts effects.
    pub metrics: Metrics,
}

impl Reconciler for OperationJobs {
    type Object = OperationJob;
    const NAME: &'static str = "operationjob";

    async fn reconcile(&self, job: Arc<OperationJob>) -> Result<Next, Error> {
        let api = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        let (action, loaded) = self.catalogue.find(&job.spec.action);
        let pods = self.target_pods(&job);
        let now = whole_seconds(Timestamp::now());
        let observed = Observed {
            job: &job,
            pods: &pods,
            action: &action,
            now,
        }; // (no client)
        let run = match plan(&observed) {
            Plan::Expire => return self.expire(&api, &job).await, // (client)
            Plan::Run(run) => run,
        };
        if job.metadata.deletion_timestamp.is_none() {
            self.hold(&api, &job).await?; // (client)
        }
        let answers = self.act(&observed, &run, loaded.as_deref()).await; // (client, as the plugin)
        let conclusion = conclude(&observed, &run, &answers); // (no client)
        let next = self.write_status(&api, &job, &conclusion).await?; // (client)
        if conclusion.released && next.requeue_after.is_none() {
            self.let_go(&api, &job).await?; // (client)
        }
        Ok(next)
    }
}

impl OperationJobs {
    fn target_pods(&self, job: &OperationJob) -> HashMap<String, Arc<Pod>> {
        let namespace = job.namespace().unwrap_or_default();
        let pod = |name: &str| {
            let reference = ObjectRef::new(name).within(&namespace);
            self.pods
                .store
                .get(&reference)
                .map(|pod| (name.to_owned(), pod))
        };
        job.spec
            .targets
            .iter()
            .filter_map(|target| pod(&target.name))
            .collect()
    }

    async fn expire(&self, api: &Api<OperationJob>, job: &OperationJob) -> Result<Next, Error> {
        let ttl = job.spec.ttl_seconds_after_finished.unwrap_or_default();
        apply::delete(api, job, false, DeleteParams::background()).await?;
        let message = format!("deleted {ttl} s after it finished (spec.TTLSecondsAfterFinished)");
        self.events
            .send(job, Severity::Normal, "TTL", "Expire", &message)
            .await;
        Ok(Next::default())
    }

    async fn hold(&self, api: &Api<OperationJob>, job: &OperationJob) -> Result<(), Error> {
        if let Some(held) =
            apply::set_finalizer(api, job, keys::OPERATION_JOB_FINALIZER, true).await?
        {
            self.jobs.wrote(held);
        }
        Ok(())
    }

    async fn let_go(&self, api: &Api<OperationJob>, job: &OperationJob) -> Result<(), Error> {
        if job.metadata.deletion_timestamp.is_some() {
            let latest = self.jobs.store.get(&ObjectRef::from_obj(job));
            let latest = latest.as_deref().unwrap_or(job);
            apply::set_finalizer(api, latest, keys::OPERATION_JOB_FINALIZER, false).await?;
        }
        Ok(())
    }

    /// Asks the action about the targets that the plan names: first those that are further on, because
    /// ending a target makes room in the cluster, and starting one takes some.
    async fn act(
        &self,
        observed: &Observed<'_>,
        run: &Run,
        loaded: Option<&Loaded>,
    ) -> BTreeMap<usize, Answer> {
        let (ActionState::Loaded, Some(loaded)) = (observed.action, loaded) else {
            return BTreeMap::new();
        };
        let job = job_view(observed, loaded);
        let namespace = job.namespace.as_str();
        let (declared, jobs) = (loaded.watch.declared.clone(), self.jobs.store.clone());
        let view: Arc<dyn ClusterView> = Arc::new(View::new(namespace, declared, jobs));
        let asks = |target: &&TargetPlan| matches!(target.step, Step::Operate | Step::Release(_));
        let mut targets: Vec<_> = run.targets.iter().filter(asks).collect();
        targets.sort_by_key(|t| (t.detail.extra_info.is_empty(), t.detail.error.is_none()));
        let changed = AtomicUsize::new(0);
        let answers = targets.into_iter().map(|target| {
            let view = Arc::clone(&view);
            let call = Call {
                controller: self,
                loaded,
                job: &job,
                observed,
                view,
                changed: &changed,
            };
            async move {
                if call.changed.load(Ordering::Relaxed) >= TARGETS_CHANGED {
                    return None;
                }
                Some((target.index, call.ask(target).await))
            }
        });
        // Collected first: a lazy iterator of borrowing futures is more than the compiler can prove Send.
        let answers: Vec<_> = answers.collect();
        let answers = stream::iter(answers).buffer_unordered(TARGETS_AT_ONCE);
        answers.filter_map(std::future::ready).collect().await
    }

    async fn write_status(
        &self,
        api: &Api<OperationJob>,
        job: &OperationJob,
        conclusion: &Conclusion,
    ) -> Result<Next, Error> {
        let manager = keys::OPERATION_JOB_MANAGER;
        let written = self
            .status
            .write(api, manager, job, job.status.as_ref(), &conclusion.status)
            .await?;
        let mut next = Next {
            requeue_after: conclusion.requeue_after,
            retry: conclusion.retry,
        };
        match written {
            Written::Unchanged => {}
            Written::Later(wait) => {
                next.requeue_after = Some(next.requeue_after.map_or(wait, |after| after.min(wait)));
            }
            Written::Yes(written) => {
                self.jobs.wrote(*written);
                for event in &conclusion.events {
                    let target = event.target.as_deref().map(|name| pod_reference(job, name));
                    let (reason, action) = (event.reason, &job.spec.action);
                    self.events
                        .send_about(
                            &job.object_ref(&()),
                            target,
                            event.severity,
                            reason,
                            action,
                            &event.message,
                        )
                        .await;
                }
            }
        }
        Ok(next)
    }
}

/// Everything that asking about one target takes.
struct Call<'a> {
    controller: &'a OperationJobs,
    loaded: &'a Loaded,
    job: &'a JobView,
    observed: &'a Observed<'a>,
    view: Arc<dyn ClusterView>,
    /// On how many targets effects were performed in this pass. Those that failed do not count: they
    /// must not keep the others waiting.
    changed: &'a AtomicUsize,
}

impl Call<'_> {
    async fn ask(&self, plan: &TargetPlan) -> Answer {
        let mut target = self.target(plan);
        match &plan.step {
            Step::Operate => self.operate(&mut target).await,
            Step::Release(cause) => self.release(&target, plan, *cause).await,
            Step::Keep | Step::Start { .. } | Step::Fail(_) | Step::Await(_) => Answer::Released {
                extra_info: target.extra_info,
            },
        }
    }

    /// The target as the action sees it: its pod is the one it started with, or none.
    fn target(&self, plan: &TargetPlan) -> Target {
        let detail = &plan.detail;
        let pod = self.observed.pods.get(&detail.name);
        let pod = pod.filter(|pod| detail.pod_uid.is_none() || pod.metadata.uid == detail.pod_uid);
        let pod = pod.map(|pod| PodView::from(&**pod));
        let named = self
            .observed
            .job
            .spec
            .targets
            .get(plan.index)
            .and_then(|t| t.containers.clone());
        let containers = named.filter(|names| !names.is_empty()).unwrap_or_else(|| {
            pod.iter()
                .flat_map(|pod| &pod.containers)
                .map(|c| c.name.clone())
                .collect()
        });
        Target {
            name: detail.name.clone(),
            uid: detail.pod_uid.clone(),
            containers,
            pod,
            extra_info: detail.extra_info.clone(),
        }
    }

    fn request<'r>(&'r self, target: &'r Target, job: &'r JobView) -> Request<'r> {
        Request {
            target,
            job,
            cluster: Arc::clone(&self.view),
        }
    }

    async fn operate(&self, target: &mut Target) -> Answer {
        match self
            .loaded
            .action
            .operate_target(self.request(target, self.job))
            .await
        {
            Err(error) => {
                return Answer::Error {
                    error,
                    extra_info: None,
                };
            }
            Ok(operation) => {
                if let Err(error) = self.perform(target, &operation).await {
                    return Answer::Error {
                        error,
                        extra_info: None,
                    };
                }
                target.extra_info = operation.extra_info;
            }
        }
        match self
            .loaded
            .action
            .get_ops_progress(self.request(target, self.job))
            .await
        {
            Ok(report) => Answer::Report(report),
            Err(error) => Answer::Error {
                error,
                extra_info: Some(target.extra_info.clone()),
            },
        }
    }

    /// A target that is not finished is asked once more how far it is: what was done in the end need
    /// not be undone.
    async fn release(&self, target: &Target, plan: &TargetPlan, cause: Cause) -> Answer {
        let job = &JobView {
            ending: true,
            ..self.job.clone()
        };
        if plan.detail.progress == Progress::Processing && cause != Cause::Failed {
            let report = self
                .loaded
                .action
                .get_ops_progress(self.request(target, job))
                .await;
            if let Ok(report) = report
                && report.progress == OpsProgress::Succeeded
            {
                return Answer::Report(report);
            }
        }
        match self
            .loaded
            .action
            .release_target(self.request(target, job))
            .await
        {
            Err(error) => Answer::Error {
                error,
                extra_info: None,
            },
            Ok(operation) => match self.perform(target, &operation).await {
                Ok(()) => Answer::Released {
                    extra_info: operation.extra_info,
                },
                Err(error) => Answer::Error {
                    error,
                    extra_info: None,
                },
            },
        }
    }

    /// Performs the effects of one answer, in order; the first that fails ends the list.
    async fn perform(&self, target: &Target, operation: &Operation) -> Result<(), ActionError> {
        if operation.effects.is_empty() {
            return Ok(());
        }
        let (performer, namespace) = (&self.loaded.performer, &self.job.namespace);
        let met = performer.require(namespace, &operation.requirements).await;
        met.map_err(Error::into_action_error)?;
        let pods = &self.controller.pods.store;
        let _turn = match &operation.limit {
            Some(limit) => Some(performer.turn(namespace, limit, pods).await?),
            None => None,
        };
        for effect in &operation.effects {
            let result = self.perform_one(target, effect).await;
            let word = if result.is_ok() { "ok" } else { "error" };
            self.controller
                .metrics
                .effect(&self.loaded.plugin, effect.kind(), word);
            tracing::debug!(
                action = self.job.action,
                plugin = self.loaded.plugin,
                namespace = self.job.namespace,
                job = self.job.name,
                target = target.name,
                effect = effect.kind(),
                result = word,
                "effect"
            );
            result?;
        }
        self.changed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn perform_one(&self, target: &Target, effect: &Effect) -> Result<(), ActionError> {
        if let Effect::Event {
            severity,
            reason,
            message,
        } = effect
        {
            let subject = self.subject(target);
            let events = &self.controller.events;
            events
                .send_about(&subject, None, *severity, reason, &self.job.action, message)
                .await;
            return Ok(());
        }
        let performed = self
            .loaded
            .performer
            .perform(&self.job.namespace, &pinned(effect, target))
            .await;
        if let Performed::Object(object) = performed.map_err(Error::into_action_error)?
            && let Some(types) = &object.types
            && (types.api_version.as_str(), types.kind.as_str()) == ("v1", "Pod")
            && let Ok(pod) = object.try_parse()
        {
            self.controller.pods.wrote(pod);
        }
        Ok(())
    }

    /// The target's pod, or the job where there is none.
    fn subject(&self, target: &Target) -> EventSubject {
        let pod = target
            .pod
            .as_ref()
            .and_then(|_| self.observed.pods.get(&target.name));
        pod.map_or_else(
            || self.observed.job.object_ref(&()),
            |pod| pod.object_ref(&()),
        )
    }
}

/// An effect on the target's own pod means that pod and no later one of its name, also if the action
/// did not say so.
fn pinned(effect: &Effect, target: &Target) -> Effect {
    let mut effect = effect.clone();
    let is_target = |object: &ObjectReference| {
        (object.api_version.as_str(), object.kind.as_str()) == ("v1", "Pod")
            && object.name == target.name
    };
    match &mut effect {
        Effect::Patch { object, uid, .. } | Effect::Delete { object, uid, .. } => {
            if uid.is_none() && is_target(object) {
                uid.clone_from(&target.uid);
            }
        }
        Effect::Evict { pod, uid, .. } => {
            if uid.is_none() && *pod == target.name {
                uid.clone_from(&target.uid);
            }
        }
        Effect::Apply(_) | Effect::Create(_) | Effect::Event { .. } => {}
    }
    effect
}

/// The pod that a target names, there or not.
fn pod_reference(job: &OperationJob, name: &str) -> EventSubject {
    EventSubject {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: job.namespace(),
        name: Some(name.to_owned()),
        ..EventSubject::default()
    }
}

fn job_view(observed: &Observed<'_>, loaded: &Loaded) -> JobView {
    let job = observed.job;
    JobView {
        namespace: job.namespace().unwrap_or_default(),
        name: job.name_any(),
        uid: job.uid().unwrap_or_default(),
        action: job.spec.action.clone(),
        ending: false,
        now: observed.now.as_second(),
        settings: loaded.version.settings.clone(),
    }
}

/// Times in a status are whole seconds, so that writing one and reading it back is no change.
fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_on_the_targets_pod_never_means_a_later_pod_of_its_name() {
        let target = Target {
            name: "web-0".to_owned(),
            uid: Some("first".to_owned()),
            containers: Vec::new(),
            pod: None,
            extra_info: BTreeMap::default(),
        };
        let evict = |pod: &str, uid: Option<&str>| Effect::Evict {
            pod: pod.to_owned(),
            uid: uid.map(str::to_owned),
            resource_version: None,
            grace_period_seconds: None,
        };
        let table = [
            (("web-0", None), ("web-0", Some("first"))),
            (("web-0", Some("other")), ("web-0", Some("other"))),
            (("web-1", None), ("web-1", None)),
        ];
        for ((pod, uid), (same, expected)) in table {
            assert_eq!(pinned(&evict(pod, uid), &target), evict(same, expected));
        }
        let delete = |kind: &str, uid: Option<&str>| Effect::Delete {
            object: ObjectReference {
                api_version: "v1".to_owned(),
                kind: kind.to_owned(),
                name: "web-0".to_owned(),
            },
            uid: uid.map(str::to_owned),
            resource_version: None,
            grace_period_seconds: None,
            propagation: operon_core::action::Propagation::Background,
        };
        assert_eq!(
            pinned(&delete("Pod", None), &target),
            delete("Pod", Some("first"))
        );
        assert_eq!(
            pinned(&delete("ConfigMap", None), &target),
            delete("ConfigMap", None)
        );
    }
}
