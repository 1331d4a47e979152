//! One call of an action about one target, and the effects that it answers with. It is a task of its own: a
//! reconcile waits for it only for a while, and a call may continue after that.
//!
//! A stopped call ends where a crash could end it: while the action computes, or between two effects. A
//! request that has been sent is awaited, and the cache of pods gets its answer.

mod lifecycle;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ObjectReference as EventSubject, Pod};
use kube::runtime::reflector::ObjectRef;
use operon_api::operation_job::Progress;
use operon_core::{
    action::{
        ActionError, Admit, ClusterView, Effect, Failure, JobView, Operation, OpsProgress, Request,
        Target,
    },
    operation_job::{
        conclude::Answer,
        dry_run,
        lifecycle::Service,
        plan::{Cause, TargetStep},
        turns::CallCause,
    },
    shares::{Claim, Place, Shares},
};
use tokio::sync::watch;

use crate::{
    action_events::ActionEvents,
    catalogue::Loaded,
    effects::{Access, OnBehalf, Performed, limit},
    fault::contained,
    metrics::Metrics,
    pod_writer::PodWriter,
    reads::Recorder,
    store::Cache,
};

/// How often an action of a dry run is called again that has only remembered something.
const REMEMBERED: usize = 3;

/// Everything that a call about one target takes.
pub(crate) struct Call {
    /// The action.
    pub(crate) loaded: Arc<Loaded>,
    /// The job.
    pub(crate) job: Arc<JobView>,
    /// The target, as the action sees it.
    pub(crate) target: Target,
    /// How far the target is.
    pub(crate) progress: Progress,
    /// The request.
    pub(crate) step: TargetStep,
    /// What the action may read.
    pub(crate) view: Arc<dyn ClusterView>,
    /// Remembers what the call depends on.
    pub(crate) recorder: Arc<Recorder>,
    /// The subject of the action's Events: the target's pod, or the job if there is none.
    pub(crate) subject: EventSubject,
    /// The number of targets with performed effects in this reconcile. Failed targets do not count: they
    /// must not delay the others.
    pub(crate) changed: Arc<AtomicUsize>,
    /// Gets the pods that effects changed.
    pub(crate) pods: Cache<Pod>,
    /// Takes the target's pod out of service.
    pub(crate) service: Service,
    /// Writes what that needs.
    pub(crate) writer: PodWriter,
    /// Sends the action's Events.
    pub(crate) events: ActionEvents,
    /// The effects in flight, of all actions.
    pub(crate) effects: Shares,
    /// Counts calls and effects.
    pub(crate) metrics: Metrics,
    /// Why the action is called.
    pub(crate) cause: CallCause,
    /// The action has to report also after effects, as it did not report last time. So an action with effects in
    /// every answer finishes its targets.
    pub(crate) has_to_report: bool,
    /// Becomes true when the call must not do anything any more.
    pub(crate) stop: watch::Receiver<bool>,
}

/// Why there is no answer.
enum Ended {
    /// The call was stopped.
    Stopped,
    /// It failed.
    Failed(ActionError),
}

/// What became of effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// They changed something, as far as the host knows.
    Changed,
    /// They changed nothing.
    Unchanged,
    /// None was performed, because their limit of pods is reached.
    LimitReached,
}

impl From<ActionError> for Ended {
    fn from(error: ActionError) -> Self {
        Self::Failed(error)
    }
}

impl Call {
    /// Calls the action and performs its effects; none if the call was stopped. A panic here is an error of
    /// this target.
    pub(crate) async fn run(mut self) -> Option<Answer> {
        let (namespace, job, target) = (
            self.job.namespace.clone(),
            self.job.name.clone(),
            self.target.name.clone(),
        );
        contained(self.ask()).await.unwrap_or_else(|panic| {
            tracing::error!(
                namespace,
                job,
                target,
                panic,
                "a call of an action panicked"
            );
            let message = "the host panicked while it called the action; see the log of the host";
            Some(failed(ActionError::Plugin(Failure::new(
                "CallPanicked",
                message,
            ))))
        })
    }

    async fn ask(&mut self) -> Option<Answer> {
        let settled = self.settle().await;
        let answer = match (settled, self.step.clone()) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), TargetStep::Operate) => self.restrained().await,
            (Ok(()), TargetStep::Release(cause)) => {
                if let Some(waits) = self.before_release(cause).await.transpose() {
                    waits
                } else {
                    let answer = self.release(cause).await;
                    self.give_back(cause, answer).await
                }
            }
            (
                Ok(()),
                TargetStep::Keep
                | TargetStep::Start { .. }
                | TargetStep::Fail(_)
                | TargetStep::Await(_)
                | TargetStep::Wait(_)
                | TargetStep::Succeed,
            ) => return None,
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(Ended::Stopped) => None,
            Err(Ended::Failed(error)) => Some(failed(error)),
        }
    }

    /// Finds out what became of requests without an answer. What this call was to read is outdated then:
    /// the next one reads anew.
    async fn settle(&self) -> Result<(), ActionError> {
        let (performer, namespace) = (&self.loaded.performer, &self.job.namespace);
        match performer.settle(namespace, &self.pods).await {
            Ok(false) => Ok(()),
            Ok(true) => {
                let message =
                    "a request to the API server had no answer; its pod has been read again";
                let failure = Failure::new("RequestUnanswered", message);
                Err(ActionError::Retry(failure, Some(Duration::ZERO)))
            }
            Err(error) => Err(performer.action_error(namespace, &[], error).await),
        }
    }

    /// Operates the target, unless the action is set aside because its calls fault.
    async fn restrained(&mut self) -> Result<Answer, Ended> {
        let (loaded, last) = (Arc::clone(&self.loaded), self.target.last_failure.clone());
        let (restraint, plugin) = (&loaded.restraint, &loaded.plugin);
        let target = format!("{} {}", self.job.uid, self.target.name);
        let admitted = restraint.admit(plugin, &target, last.as_ref())?;
        let admit = || admitted.again(plugin, last.as_ref());
        let answer = self.operate(&admit).await;
        match &answer {
            Err(Ended::Stopped) => drop(admitted),
            Err(Ended::Failed(ActionError::Plugin(fault)))
            | Ok(Answer::Error {
                error: ActionError::Plugin(fault),
                ..
            }) => admitted.ended(Some(fault)),
            Ok(_) | Err(Ended::Failed(_)) => admitted.ended(None),
        }
        answer
    }

    async fn operate(&mut self, admit: Admit<'_>) -> Result<Answer, Ended> {
        let loaded = Arc::clone(&self.loaded);
        let operation = self
            .computing(loaded.action.operate_target(self.admitted(admit)))
            .await?;
        if self.job.dry_run {
            return self.try_out(operation, admit).await;
        }
        if let Some(waits) = self.before_removal(&operation).await? {
            return Ok(waits);
        }
        let done = self.perform(&operation).await?;
        if let (Done::LimitReached, Some(limit)) = (done, &operation.limit) {
            self.recorder.note_limit(limit.clone());
            return Ok(self.waiting(limit::reached(limit), Some(limit::AGAIN)));
        }
        self.target.extra_info = operation.extra_info;
        if done == Done::Changed && !self.has_to_report {
            // What the action would report now is outdated: it does not see its effects yet.
            let extra_info = self.target.extra_info.clone();
            return Ok(Answer::Acted { extra_info });
        }
        match self
            .computing(loaded.action.get_ops_progress(self.admitted(admit)))
            .await
        {
            Ok(report) => {
                if let Some(limit) = operation.limit.filter(|_| operation.effects.is_empty()) {
                    self.recorder.note_limit_if_full(limit);
                }
                Ok(self.reported(report))
            }
            Err(Ended::Stopped) => Err(Ended::Stopped),
            Err(Ended::Failed(error)) => Ok(Answer::Error {
                error,
                extra_info: Some(self.target.extra_info.clone()),
            }),
        }
    }

    /// Has the API server check the effects. Each is checked by itself, as if no other were performed. What is
    /// refused is the outcome of a dry run. An action that only remembers something first is called again.
    async fn try_out(
        &mut self,
        mut operation: Operation,
        admit: Admit<'_>,
    ) -> Result<Answer, Ended> {
        let loaded = Arc::clone(&self.loaded);
        for _ in 0..REMEMBERED {
            let remembers = operation.extra_info != self.target.extra_info;
            if !operation.effects.is_empty() || !remembers {
                break;
            }
            self.target.extra_info = operation.extra_info;
            operation = self
                .computing(loaded.action.operate_target(self.admitted(admit)))
                .await?;
        }
        let (performer, namespace) = (self.loaded.performer.of_dry_run(), &self.job.namespace);
        let requirements = &operation.requirements;
        let _in_flight = self.effect().await?;
        if let Err(error) = performer.require(namespace, requirements).await {
            let (needed, is_decision) = (Access::to_check(requirements), error.is_decision());
            let error = performer.action_error(namespace, &needed, error).await;
            return Err(tried(error, is_decision).into());
        }
        let behalf = OnBehalf::of_job(&self.job);
        for effect in &operation.effects {
            let effect = effect.pinned(&self.target);
            if let Err(error) = performer.perform(&behalf, &effect).await {
                let (needed, is_decision) = (Access::to_perform(&effect), error.is_decision());
                let error = performer.action_error(namespace, &needed, error).await;
                return Err(tried(error, is_decision).into());
            }
        }
        let is_whole = self.loaded.action.registration().supports_dry_run;
        let effects = dry_run::lines(&operation.effects, is_whole);
        Ok(Answer::Tried { effects })
    }

    /// The action is called once more for the progress of an unfinished target: a target that has succeeded
    /// after all need not be released.
    async fn release(&mut self, cause: Cause) -> Result<Answer, Ended> {
        let loaded = Arc::clone(&self.loaded);
        self.job = Arc::new(JobView {
            ending: true,
            ..JobView::clone(&self.job)
        });
        if self.progress == Progress::Processing && cause != Cause::Failed && self.may_have_acted()
        {
            match self
                .computing(loaded.action.get_ops_progress(self.request()))
                .await
            {
                Ok(report) if report.progress == OpsProgress::Succeeded => {
                    return Ok(Answer::Report(report));
                }
                Err(Ended::Stopped) => return Err(Ended::Stopped),
                Ok(_) | Err(Ended::Failed(_)) => {}
            }
        }
        let operation = self
            .computing(loaded.action.release_target(self.request()))
            .await?;
        if let (Done::LimitReached, Some(limit)) =
            (self.perform(&operation).await?, &operation.limit)
        {
            let reached = limit::reached(limit);
            return Err(ActionError::Retry(reached, Some(limit::AGAIN)).into());
        }
        let extra_info = operation.extra_info;
        Ok(match operation.unfinished {
            Some(unfinished) => Answer::Releasing {
                unfinished,
                extra_info,
            },
            None => Answer::Released { extra_info },
        })
    }

    fn request(&self) -> Request<'_> {
        Request {
            target: &self.target,
            job: &self.job,
            cluster: Arc::clone(&self.view),
            admit: None,
        }
    }

    /// A request that begins, when the call has its place, only if this allows it.
    fn admitted<'a>(&'a self, admit: Admit<'a>) -> Request<'a> {
        Request {
            admit: Some(admit),
            ..self.request()
        }
    }

    /// Awaits the action, which can be abandoned at any time.
    async fn computing<T>(&self, call: BoxFuture<'_, Result<T, ActionError>>) -> Result<T, Ended> {
        self.metrics.called(&self.loaded.plugin, self.cause);
        Ok(self.until_stopped(call).await??)
    }

    /// Waits until one more effect may be in flight.
    async fn effect(&self) -> Result<Place, Ended> {
        let (owner, part) = (&self.loaded.plugin, &self.job.uid);
        let place = self.effects.take(owner, part, Claim::ONE);
        self.until_stopped(place).await
    }

    async fn until_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Ended> {
        let mut stop = self.stop.clone();
        tokio::select! {
            done = future => Ok(done),
            Ok(_) = stop.wait_for(|stop| *stop) => Err(Ended::Stopped),
        }
    }

    /// Performs the effects of one answer, in order; the first that fails ends the list.
    async fn perform(&self, operation: &Operation) -> Result<Done, Ended> {
        if operation.effects.is_empty() {
            return Ok(Done::Unchanged);
        }
        let (performer, namespace) = (&self.loaded.performer, &self.job.namespace);
        let requirements = &operation.requirements;
        let in_flight = self.effect().await?;
        if let Err(error) = performer.require(namespace, requirements).await {
            let needed = Access::to_check(requirements);
            let error = performer.action_error(namespace, &needed, error).await;
            return Err(error.into());
        }
        drop(in_flight);
        let _turn = match &operation.limit {
            Some(limit) => {
                let turn = performer.turn(namespace, limit, &self.pods.store);
                let Some(turn) = turn.await? else {
                    return Ok(Done::LimitReached);
                };
                Some(turn)
            }
            None => None,
        };
        let mut is_changed = false;
        for effect in &operation.effects {
            let _in_flight = self.effect().await?;
            if *self.stop.borrow() {
                return Err(Ended::Stopped);
            }
            let result = self.perform_one(effect).await;
            let (verb, is_ok) = (effect.verb(), result.is_ok());
            self.metrics.effect(&self.loaded.plugin, verb, is_ok);
            tracing::debug!(
                action = self.job.action,
                plugin = self.loaded.plugin,
                namespace = self.job.namespace,
                job = self.job.name,
                target = self.target.name,
                effect = verb.as_str(),
                is_ok,
                "effect"
            );
            is_changed |= result?;
        }
        self.changed.fetch_add(1, Ordering::Relaxed);
        Ok(if is_changed {
            Done::Changed
        } else {
            Done::Unchanged
        })
    }

    async fn perform_one(&self, effect: &Effect) -> Result<bool, ActionError> {
        if effect.removes() || effect.gives_to_controller() {
            let (pods, watch) = (&self.pods, &self.loaded.watch);
            let namespace = &self.job.namespace;
            fresh(pods.stale(namespace).or_else(|| watch.stale(namespace)))?;
        }
        if let Effect::Event {
            severity,
            reason,
            message,
        } = effect
        {
            let event = (*severity, reason.as_str(), message.as_str());
            let by = (self.loaded.plugin.as_str(), &self.loaded.restraint);
            self.events.send(by, &self.subject, event, &self.job.action);
            return Ok(false);
        }
        let (performer, namespace) = (&self.loaded.performer, &self.job.namespace);
        let effect = effect.pinned(&self.target);
        let before = self.version_before(&effect);
        let behalf = OnBehalf::of_job(&self.job);
        let done = match performer.perform(&behalf, &effect).await {
            Ok(done) => done,
            Err(error) => {
                let needed = Access::to_perform(&effect);
                return Err(performer.action_error(namespace, &needed, error).await);
            }
        };
        if let Performed::Object(object) = done
            && let Some(types) = &object.types
            && (types.api_version.as_str(), types.kind.as_str()) == ("v1", "Pod")
            && let Ok(pod) = object.try_parse::<Pod>()
        {
            let is_same = before.is_some() && pod.metadata.resource_version == before;
            self.pods.wrote(pod);
            return Ok(!is_same);
        }
        Ok(true)
    }

    /// The version of the pod that an effect edits, as the cache has it. The API server keeps the version of an object
    /// if an edit changes nothing.
    fn version_before(&self, effect: &Effect) -> Option<String> {
        let name = match effect {
            Effect::Patch { object, .. } => object.name.as_str(),
            Effect::Apply(body) => body["metadata"]["name"].as_str()?,
            Effect::Create(_)
            | Effect::Delete { .. }
            | Effect::Evict { .. }
            | Effect::Event { .. } => return None,
        };
        let reference = ObjectRef::new(name).within(&self.job.namespace);
        let pod = self.pods.store.get(&reference)?;
        pod.metadata.resource_version.clone()
    }
}

/// An error of a dry run. It is the outcome if the API server has decided; otherwise the target is tried again.
fn tried(error: ActionError, is_decision: bool) -> ActionError {
    match error {
        ActionError::Retry(failure, _) if is_decision => ActionError::Terminal(failure),
        error => error,
    }
}

/// Whether a cache that an answer was read from follows the API server. Otherwise its content may be
/// outdated, and no object is removed because of it.
fn fresh(stale: Option<String>) -> Result<(), ActionError> {
    let Some(stale) = stale else {
        return Ok(());
    };
    let message = format!("nothing is deleted, evicted or put back while {stale}");
    Err(ActionError::Retry(
        Failure::new("CacheStale", message),
        None,
    ))
}

fn failed(error: ActionError) -> Answer {
    Answer::Error {
        error,
        extra_info: None,
    }
}
