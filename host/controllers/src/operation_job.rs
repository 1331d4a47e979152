//! The OperationJob controller. Everything that is decided is decided in `operon_core::operation_job`;
//! this file observes, has the action called, and applies.
//!
//! A reconcile calls the action for two seconds at most. A call that takes longer continues in a task of
//! its own ([`call`](crate::call)), and its end wakes the job; until then a reconcile hardly waits. So
//! deadline, deletion and release are decided in every reconcile, and slow actions do not delay the others.
//! The [`book`](crate::book) holds the state for that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ObjectReference as EventSubject, Pod},
    jiff::Timestamp,
};
use kube::{Api, Client, Resource, ResourceExt, api::DeleteParams, runtime::reflector::ObjectRef};
use operon_api::{
    OperationJob, keys,
    operation_job::{Progress, TargetDetail},
};
use operon_core::{
    action::{Failure, Severity},
    operation_job::{
        ActionState, Observed, TargetPods,
        conclude::{Answer, Answers, Conclusion, JobEvent, conclude},
        lifecycle::Lifecycle,
        parameters::{self, Parameters},
        plan::{Plan, TargetPlan, TargetPlans},
        selection, sooner,
        turns::{CallCause, in_turn},
    },
    shares::Shares,
};
use tokio::{sync::mpsc, time::Instant};

use self::pass::Pass;
pub use self::starts::Starts;
use crate::{
    action_events::ActionEvents,
    apply,
    book::{Book, Moment, Turn},
    catalogue::{Catalogue, Loaded},
    error::Error,
    events::Events,
    existing_jobs::ExistingJobs,
    metrics::Metrics,
    pod_writer::PodWriter,
    reads::{Change, Reads, Recorder},
    run::{Next, Reconciler, pace_of},
    served_fields::ServedFields,
    status::{StatusWriter, Written, whole_seconds},
    store::{Cache, Entry},
    triggers::Triggers,
    unready_nodes::UnreadyNodes,
};

/// How many calls of one job are under way at the same time.
const TARGETS_AT_ONCE: usize = 16;

/// How many effects of all actions are in flight: requests that change objects, and those that check what a change
/// requires. One action has at most the half of them.
pub const EFFECTS_AT_ONCE: usize = 64;

/// After effects on this many targets a reconcile makes no further calls: the next one, which follows
/// immediately, sees the results. So a large job is never decided from a view that is many seconds old, and
/// its status advances.
const TARGETS_CHANGED: usize = 128;

/// How much each target adds to the time between two reconciles.
const PER_TARGET: Duration = Duration::from_micros(100);

/// How long a reconcile waits for the calls that it began.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same while calls of an earlier reconcile are still running: such an action is slow.
const LITTLE_PATIENCE: Duration = Duration::from_millis(200);

/// How long a reconcile waits for the next end of a call after one has ended: what ended is decided upon soon, and the
/// calls that take longer continue.
const LINGER: Duration = Duration::from_millis(50);

/// Returns the present time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The controller's parts.
pub struct OperationJobs {
    /// Writes jobs.
    pub client: Client,
    /// All jobs.
    pub jobs: Cache<OperationJob>,
    /// Which jobs exist, for actions.
    pub existing: Arc<ExistingJobs>,
    /// All pods.
    pub pods: Cache<Pod>,
    /// Whether the API server knows all fields of jobs.
    pub served_fields: ServedFields,
    /// What is known about targets that start.
    pub starts: Starts,
    /// Takes pods out of service.
    pub pod_writer: PodWriter,
    /// The nodes that are not Ready.
    pub unready_nodes: Arc<UnreadyNodes>,
    /// The actions.
    pub catalogue: Arc<Catalogue>,
    /// Remembers calls.
    pub book: Arc<Book>,
    /// Wakes a job after its call ended.
    pub triggers: Arc<Triggers>,
    /// Sends Events.
    pub events: Events,
    /// Sends the Events of actions.
    pub action_events: ActionEvents,
    /// The effects in flight, of all actions, and the writes of the lifecycle for them: [`EFFECTS_AT_ONCE`].
    pub effects: Shares,
    /// Writes statuses.
    pub status: StatusWriter,
    /// Counts effects.
    pub metrics: Metrics,
    /// The wall clock, for deadlines and the times in a status.
    pub clock: Clock,
}

impl Reconciler for OperationJobs {
    type Object = OperationJob;
    const NAME: &'static str = "operationjob";
    const STATUS_MANAGER: Option<&'static str> = Some(keys::OPERATION_JOB_MANAGER);

    async fn reconcile(&self, job: Arc<OperationJob>) -> Result<Next, Error> {
        let api = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        if let Some(selector) = selection::unresolved(&job) {
            return self.select(&api, &job, selector).await; // (client)
        }
        let since = self.book.moment();
        let (action, loaded) = self.catalogue.find(&job.spec.action);
        let suspended = loaded
            .as_deref()
            .and_then(|loaded| loaded.restraint.suspended(&loaded.plugin));
        let pods = self.target_pods(&job);
        let unready_nodes = self.unready_nodes.all();
        let now = whole_seconds((self.clock)());
        let blocked = job.metadata.deletion_timestamp.is_some() && action.has_failed();
        let uid = job.uid().unwrap_or_default();
        let lacking = if is_over(&job) {
            None
        } else {
            self.served_fields.trouble().await // (client)
        };
        let parameters = check_parameters(&job, loaded.as_deref()).await; // (no client)
        let observed = Observed {
            job: &job,
            pods: &pods,
            unready_nodes: &unready_nodes,
            action: &action,
            suspended: suspended.as_ref(),
            lacking: lacking.as_ref(),
            lifecycle: self.lifecycle(&job, loaded.as_deref()),
            parameters: &parameters,
            blocked: self.book.blocked(&uid, blocked),
            now,
        }; // (no client)
        // (client)
        let run = match self.plan(&observed).await {
            Plan::Expire => return self.expire(&api, &job).await, // (client)
            Plan::Run(run) => run,
        };
        let version = self.hold(&api, &job).await?; // (client)
        self.starts.write_on(&uid, version.as_ref());
        let owner = loaded.as_deref().map_or(&job.spec.action, |l| &l.plugin);
        let writer = &self.pod_writer;
        let written = writer
            .write_all(&observed, &run, &self.effects, owner)
            .await; // (client)
        let mut acted = self.act(&observed, &pods, &run, loaded, since).await; // (client, as the plugin)
        acted.answers.given.extend(written);
        let conclusion = conclude(&observed, &run, &acted.answers); // (no client)
        let next = self
            .write_status(&api, &job, version, &conclusion, acted)
            .await?; // (client)
        if conclusion.released && next.requeue_after.is_none() {
            self.let_go(&api, &job).await?; // (client)
        }
        Ok(next)
    }

    fn pace(job: &OperationJob) -> Duration {
        pace_of(job.targets().len(), PER_TARGET)
    }

    fn owner(job: &OperationJob) -> &str {
        &job.spec.action
    }

    fn leave(&self, job: &OperationJob) {
        let uid = job.uid().unwrap_or_default();
        self.book.forget(&uid);
        self.starts.forget(&uid);
    }
}

impl OperationJobs {
    /// Whether the action takes part in the PodOpsLifecycle. A dry run takes no pod out of service.
    fn lifecycle(&self, job: &OperationJob, loaded: Option<&Loaded>) -> Lifecycle {
        if job.spec.dry_run {
            return Lifecycle::default();
        }
        self.pod_writer.lifecycle(loaded)
    }

    fn target_pods(&self, job: &OperationJob) -> PodEntries {
        let namespace = job.namespace();
        let entries = job.targets().iter().filter_map(|target| {
            let entry = self.pods.store.entry(namespace.as_deref(), &target.name)?;
            Some((Arc::clone(entry.name()), entry))
        });
        PodEntries(entries.collect())
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

    /// Puts the finalizer on a job that is not being deleted. Returns the job's new version, unless another
    /// client changed the job.
    async fn hold(
        &self,
        api: &Api<OperationJob>,
        job: &OperationJob,
    ) -> Result<Option<String>, Error> {
        if job.metadata.deletion_timestamp.is_none()
            && let Some(held) =
                apply::set_finalizer(api, job, keys::OPERATION_JOB_FINALIZER, true).await?
        {
            let version = held.resource_version();
            self.jobs.wrote(held);
            return Ok(version);
        }
        Ok(job.resource_version())
    }

    async fn let_go(&self, api: &Api<OperationJob>, job: &OperationJob) -> Result<(), Error> {
        if job.metadata.deletion_timestamp.is_some() {
            let latest = self.jobs.store.get(&ObjectRef::from_obj(job));
            let latest = latest.as_deref().unwrap_or(job);
            apply::set_finalizer(api, latest, keys::OPERATION_JOB_FINALIZER, false).await?;
        }
        Ok(())
    }

    /// Calls the action for the targets that the plan names, and collects the answers.
    async fn act(
        &self,
        observed: &Observed<'_>,
        pods: &PodEntries,
        run: &TargetPlans,
        loaded: Option<Arc<Loaded>>,
        since: Moment,
    ) -> Acted {
        let uid = observed.job.uid().unwrap_or_default();
        let pass = loaded
            .filter(|_| matches!(observed.action, ActionState::Loaded))
            .map(|loaded| Pass::new(observed, pods, loaded, &self.existing));
        let all: Vec<_> = run.targets.iter().collect();
        let mut turns = self.turns(pass.as_ref(), &uid, &all, since).await;
        let since = Instant::now();
        let mut begun = HashSet::new();
        if let Some(pass) = &pass {
            begun = self.call(pass, run, &turns).await;
        }
        let called = |(plan, turn): &(&TargetPlan, &mut Turn)| {
            begun.contains(&plan.index) || **turn == Turn::UnderWay
        };
        let called = all.iter().copied().zip(&mut turns).filter(called);
        let (called, turns_before): (Vec<_>, Vec<_>) = called.unzip();
        let now = self.book.moment();
        let turns_now = self.turns(pass.as_ref(), &uid, &called, now).await;
        for (before, now) in turns_before.into_iter().zip(turns_now) {
            *before = now;
        }
        let acted = self.collect(&uid, run, &turns, &begun, since.elapsed());
        let latest = self.jobs.store.get(&ObjectRef::from_obj(observed.job));
        if latest.is_none_or(|job| job.uid() != observed.job.uid()) {
            self.book.forget(&uid);
        }
        acted
    }

    /// Begins calls in the order of their turns, and waits for them for a limited time. Returns the targets
    /// with a new call.
    async fn call(&self, pass: &Pass<'_>, run: &TargetPlans, turns: &[Turn]) -> HashSet<usize> {
        let slow = turns.iter().filter(|turn| **turn == Turn::UnderWay).count();
        let free = run
            .targets
            .iter()
            .zip(turns)
            .filter_map(|(plan, turn)| match turn {
                Turn::Free(number, _) => plan.step.question().map(|_| (*number, plan)),
                Turn::UnderWay | Turn::Waits(_) | Turn::Answered | Turn::Settled => None,
            });
        let mut free = in_turn(free.collect()).into_iter();
        let causes = run.targets.iter().zip(turns);
        let causes: HashMap<usize, CallCause> = causes
            .filter_map(|(plan, turn)| match turn {
                Turn::Free(_, cause) => Some((plan.index, *cause)),
                Turn::UnderWay | Turn::Waits(_) | Turn::Answered | Turn::Settled => None,
            })
            .collect();
        let (ended, mut ends) = mpsc::unbounded_channel();
        let patience = if slow == 0 { PATIENCE } else { LITTLE_PATIENCE };
        let last = Instant::now() + patience;
        let mut over = std::pin::pin!(tokio::time::sleep_until(last));
        let mut under_way = slow;
        let mut begun = HashSet::new();
        loop {
            while under_way < TARGETS_AT_ONCE
                && pass.changed.load(Ordering::Relaxed) < TARGETS_CHANGED
                && let Some(plan) = free.next()
            {
                let cause = causes.get(&plan.index).copied();
                self.begin(pass, plan, cause.unwrap_or(CallCause::Step), ended.clone());
                begun.insert(plan.index);
                under_way += 1;
            }
            if under_way == slow {
                break;
            }
            tokio::select! {
                biased;
                Some(()) = ends.recv() => {
                    under_way -= 1;
                    over.as_mut().reset(last.min(Instant::now() + LINGER));
                }
                () = &mut over => break,
            }
        }
        // From here on the end of a call wakes the job.
        ends.close();
        begun
    }

    /// Begins the call about one target, as a task of its own. If it performs effects, another call follows.
    fn begin(
        &self,
        pass: &Pass<'_>,
        plan: &TargetPlan,
        cause: CallCause,
        ended: mpsc::UnboundedSender<()>,
    ) {
        let ticket = self.book.begin(&pass.job.uid, plan);
        let recorder = Arc::new(Recorder::new(Arc::clone(&pass.view), pass.seen(plan)));
        let call = pass.call(plan, self, &ticket, cause, &recorder);
        let triggers = Arc::clone(&self.triggers);
        let job = ObjectRef::from_obj(pass.observed.job);
        tokio::spawn(async move {
            let answer = Box::pin(call.run()).await;
            let has_acted = matches!(answer, Some(Answer::Acted { .. }));
            ticket.end(answer, recorder.reads());
            if ended.send(()).is_err() || has_acted {
                triggers.wake(job);
            }
        });
    }

    /// The targets that may have a turn. One that the action was called about, and about which nothing changed that it
    /// read, has none: so the number of calls grows with what changes, not with the number of reconciles.
    async fn turns(
        &self,
        pass: Option<&Pass<'_>>,
        uid: &str,
        targets: &[&TargetPlan],
        observed: Moment,
    ) -> Vec<Turn> {
        let change = |plan: &TargetPlan, reads: &Reads| match pass {
            Some(pass) => reads.change(&pass.seen(plan), &pass.view),
            None => Change::None,
        };
        self.book.turns(uid, targets, observed, change).await
    }

    /// The answers that no status has yet, and the targets with a pending answer. A target in neither had
    /// no turn. The turns are those of targets without a call as they were this long ago, and of the others as they
    /// are now.
    fn collect(
        &self,
        uid: &str,
        run: &TargetPlans,
        turns: &[Turn],
        begun: &HashSet<usize>,
        ago: Duration,
    ) -> Acted {
        let mut acted = Acted::default();
        let under_way = turns.iter().filter(|turn| **turn == Turn::UnderWay);
        let full = under_way.count() >= TARGETS_AT_ONCE;
        let all = run.targets.iter().zip(turns);
        let asked = all.filter(|(plan, _)| plan.step.question().is_some());
        for (plan, turn) in asked {
            if let Turn::Waits(left) = turn {
                acted.due = sooner(acted.due, Some(left.saturating_sub(ago)));
            }
            let waits = full || !matches!(turn, Turn::Free(..));
            if !waits && !begun.contains(&plan.index) {
                continue;
            }
            if let Some((number, answer)) = self.book.answer(uid, plan) {
                acted.answers.given.insert(plan.index, answer);
                acted.calls.push((plan.detail.name.clone(), number));
            } else if waits {
                acted.answers.later.insert(plan.index);
            }
        }
        acted
    }

    /// Writes the status, unless the job has changed since the decision: a status that was written without
    /// an answer is not known yet, and must not be reverted.
    async fn write_status(
        &self,
        api: &Api<OperationJob>,
        job: &OperationJob,
        version: Option<String>,
        conclusion: &Conclusion,
        acted: Acted,
    ) -> Result<Next, Error> {
        let Acted {
            answers: _,
            calls,
            due,
        } = acted;
        let manager = keys::OPERATION_JOB_MANAGER;
        let written = self
            .status
            .write(
                api,
                manager,
                job,
                version.as_deref(),
                job.status.as_ref(),
                &conclusion.status,
            )
            .await?;
        let due = due.filter(|_| !conclusion.released);
        let mut next = Next {
            requeue_after: sooner(conclusion.requeue_after, due),
            // A target that waits for its next call needs no backoff of the whole job.
            retry: conclusion.retry && due.is_none(),
        };
        if !matches!(written, Written::Later(_)) {
            self.book.written(&job.uid().unwrap_or_default(), &calls);
        }
        let wait = self.pass_on(job, written, &conclusion.events).await;
        next.requeue_after = sooner(next.requeue_after, wait);
        Ok(next)
    }

    /// Updates the cache with a status that was written, and sends its Events. Returns when to write a status that was
    /// not written.
    async fn pass_on(
        &self,
        job: &OperationJob,
        written: Written<OperationJob>,
        events: &[JobEvent],
    ) -> Option<Duration> {
        match written {
            Written::Later(wait) => return Some(wait),
            Written::Unchanged => return None,
            Written::Yes(written) => self.jobs.wrote(*written),
        }
        self.starts.forget(&job.uid().unwrap_or_default());
        for event in events {
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
        None
    }
}

/// The pods of targets as they are in the cache, by name: unpacked only when they are read.
struct PodEntries(HashMap<Arc<str>, Arc<Entry<Pod>>>);

impl PodEntries {
    /// The pod with which a target started, if it exists.
    fn own(&self, detail: &TargetDetail) -> Option<&Arc<Entry<Pod>>> {
        let uid = detail.pod_uid.as_deref()?;
        let entry = self.0.get(detail.name.as_str());
        entry.filter(|entry| entry.uid() == Some(uid))
    }
}

impl TargetPods for PodEntries {
    fn uid(&self, name: &str) -> Option<String> {
        let entry = self.0.get(name)?;
        Some(entry.uid().unwrap_or_default().to_owned())
    }

    fn get(&self, name: &str) -> Option<Arc<Pod>> {
        self.0.get(name).map(|entry| entry.get())
    }
}

/// The results of calling the action in one reconcile.
#[derive(Default)]
struct Acted {
    answers: Answers,
    /// The targets that are answered, with the numbers of their calls.
    calls: Vec<(String, u64)>,
    /// In how long the first target has waited for its next call.
    due: Option<Duration>,
}

/// Whether no target of a job starts or goes on any more.
fn is_over(job: &OperationJob) -> bool {
    let status = job.status.as_ref();
    let progress = status.and_then(|status| status.progress);
    job.metadata.deletion_timestamp.is_some() || progress.is_some_and(Progress::is_finished)
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

/// Has the action check the parameters of a job of which no target has started.
async fn check_parameters(job: &OperationJob, loaded: Option<&Loaded>) -> Parameters {
    match (parameters::to_check(job), loaded) {
        (Err(failure), _) => Parameters::Refused(failure),
        (Ok(Some(parameters)), Some(loaded)) => {
            let check = loaded.action.check_parameters(&parameters);
            let checked = tokio::time::timeout(PATIENCE, check).await;
            checked.map_or_else(
                |_| Parameters::Unchecked(unfinished_check()),
                Parameters::of,
            )
        }
        (Ok(None), _) | (Ok(_), None) => Parameters::Accepted,
    }
}

/// The check continues, and a later reconcile finds its outcome.
fn unfinished_check() -> Failure {
    let message = "the check of spec.parameters has not finished yet";
    Failure::new("ParametersCheckFailed", message)
}

mod pass;
mod select;
mod starts;
#[cfg(test)]
mod tests;
