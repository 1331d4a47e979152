//! The plan of a reconcile for the Jobs, and whether a new one runs. Pure: it reads [`Observed`] and
//! nothing else.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt;
use operon_api::{
    ReactiveJob, keys,
    reactive_job::{
        ConcurrencyPolicy, Deletions, Inputs, Outcome, Pending, RunReason, TemplateTrigger,
        Triggers,
    },
};
use serde_json::{Value, json};

use super::{
    DEBOUNCE, Observed, adjust, again, config,
    family::{self, Family, family},
    job::{self, Purpose},
};
use crate::jobs::{
    self, blocked,
    time::{PODS_RECHECK, left, seconds},
};

/// The plan of a reconcile.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// The object is being deleted.
    End(End),
    /// Everything else.
    Run(Box<JobPlan>),
}

/// What is done while the object is being deleted.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// Nothing: these finalizers of others hold it.
    Blocked(Vec<String>),
    /// Its Jobs are deleted.
    Delete {
        /// They lose our finalizer.
        release: Vec<Arc<Job>>,
        /// They are deleted.
        delete: Vec<Arc<Job>>,
        /// The remaining Jobs.
        left: Vec<Arc<Job>>,
    },
}

impl End {
    /// Whether no Job of the object is left, so that the object itself can be deleted.
    pub(super) fn lets_go(&self) -> bool {
        match self {
            Self::Blocked(_) => false,
            Self::Delete { left, .. } => left.is_empty(),
        }
    }
}

/// What is done otherwise, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPlan {
    /// These Jobs get the marks of the object's own.
    pub adopt: Vec<Arc<Job>>,
    /// A new Job is created.
    pub start: Option<NextJob>,
    /// The newest Job gets this merge patch.
    pub adjust: Option<(Arc<Job>, Value)>,
    /// These Jobs lose our finalizer.
    pub release: Vec<Arc<Job>>,
    /// These Jobs are deleted, pods first.
    pub delete: Vec<Arc<Job>>,
    /// Why a due Job is not created yet.
    pub waiting: Option<Waiting>,
    /// What the newest Job counts for from now on; none while another is due.
    pub inputs: Option<Inputs>,
    /// A change that is waited out.
    pub pending: Option<Pending>,
    /// The last Jobs, if they were deleted before they finished.
    pub deletions: Option<Deletions>,
    /// When time alone changes the plan.
    pub requeue_after: Option<Duration>,
}

/// A Job to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NextJob {
    /// The names that it may have; it gets the first free one.
    pub names: Vec<String>,
    /// All of it but its name.
    pub body: Value,
    /// What it will count for; its uid is known once it is created.
    pub inputs: Inputs,
}

/// Why a due Job is not created yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// `spec.suspend`.
    Suspended,
    /// This Job still runs (`spec.concurrencyPolicy`).
    Busy(String),
    /// The previous Job was deleted, and its pods have not terminated.
    Pods,
    /// ConfigMaps changed a moment ago.
    Debounce,
    /// ConfigMaps or Secrets are being listed for the first time.
    Listing,
    /// These ConfigMaps or Secrets do not exist, and the pods can't start without them.
    Missing(Vec<String>),
    /// A failed Job is run again at this time.
    Retry(Timestamp),
    /// This number of Jobs in a row was deleted before they finished; the next one is created at this time.
    Deleted {
        /// How many.
        count: i32,
        /// When.
        at: Timestamp,
    },
}

/// How often is looked whether a first list of ConfigMaps or Secrets is complete.
const LIST_RECHECK: Duration = Duration::from_secs(1);

/// Decides what this reconcile does.
pub(super) fn plan(observed: &Observed<'_>) -> Plan {
    let family = family(observed.object, observed.jobs);
    if observed.object.metadata.deletion_timestamp.is_some() {
        Plan::End(end(observed.object, &family))
    } else {
        Plan::Run(Box::new(run(observed, family)))
    }
}

/// The finalizer that the garbage collector puts on an object that is deleted with `--cascade`; the garbage
/// collector waits for us, so we don't wait for it.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

fn end(object: &ReactiveJob, family: &Family) -> End {
    let is_foreign = |finalizer: &&String| {
        ![keys::REACTIVE_JOB_FINALIZER, ORPHAN, FOREGROUND].contains(&finalizer.as_str())
    };
    let foreign: Vec<_> = object
        .finalizers()
        .iter()
        .filter(is_foreign)
        .cloned()
        .collect();
    if !foreign.is_empty() {
        return End::Blocked(foreign);
    }
    let keeps_all = object.finalizers().iter().any(|f| f == ORPHAN);
    let of_uid =
        |job: &&Arc<Job>| job.labels().get(keys::CONTROLLER_UID) == object.metadata.uid.as_ref();
    let (kept, left): (Vec<_>, Vec<_>) = family
        .own
        .iter()
        .filter(of_uid)
        .cloned()
        .partition(|job| keeps_all || family::is_orphaned(object, job));
    let held = kept.iter().chain(&left).filter(|job| family::is_held(job));
    let release = held.chain(held_copies(&family.strangers));
    End::Delete {
        release: release.cloned().collect(),
        delete: left
            .iter()
            .filter(|job| !jobs::is_deleted(job))
            .cloned()
            .collect(),
        left,
    }
}

/// Copies of our Jobs that are being deleted: the finalizer was copied too, and no other controller removes
/// it.
fn held_copies(strangers: &[Arc<Job>]) -> impl Iterator<Item = &Arc<Job>> {
    let are_held = |job: &&Arc<Job>| jobs::is_deleted(job) && family::is_held(job);
    strangers.iter().filter(are_held)
}

fn run(observed: &Observed<'_>, family: Family) -> JobPlan {
    let Family {
        own,
        adopt,
        strangers,
    } = family;
    let newest = own.first();
    // Until the status lists the newest Job, the previous one is needed: it shows what changed.
    let is_told = newest.is_none_or(|job| is_told(observed.object, job));
    let older = own.get(1..).filter(|_| is_told).unwrap_or_default();
    let mut run = JobPlan {
        adopt,
        release: older
            .iter()
            .filter(|job| family::is_held(job))
            .chain(held_copies(&strangers))
            .cloned()
            .collect(),
        delete: beyond_history(observed.object, older),
        ..JobPlan::default()
    };
    let stands_for = newest.map(|job| stands_for(observed, job));
    run.deletions = again::deletions(observed, newest.map(|job| &**job), lost(observed, newest));
    let deletions = run.deletions.as_ref();
    let (due, pending) = due(observed, newest, stands_for.as_ref(), deletions);
    run.pending = pending;
    match due {
        Due::No => {}
        Due::Later(waiting, wait) => {
            wait_for(observed, &own, waiting, &mut run);
            run.requeue_after = Some(wait);
        }
        Due::Now(reason) => match hindrance(observed, &own) {
            Some(waiting) => wait_for(observed, &own, waiting, &mut run),
            None => run.start = Some(start(observed, newest, reason)),
        },
    }
    if observed.config.is_listing {
        let soon = run.requeue_after.into_iter().chain([LIST_RECHECK]).min();
        run.requeue_after = soon;
    }
    let is_due = run.start.is_some() || run.waiting.is_some();
    if let (Some(job), Some(inputs)) = (newest, stands_for) {
        if !is_due {
            run.adjust = adjust::adjust(observed, job, &inputs);
            // A template that differs from the Job's, but runs nothing new, is accepted.
            run.inputs = Some(accepted(observed, job, inputs));
        } else if !is_before_gone(observed, job) {
            // Created by a process that died before it recorded the Job: the status lists the Job before it
            // is deleted.
            run.inputs = Some(inputs);
        }
    }
    run
}

/// Whether a Job is to be created.
pub(super) enum Due {
    No,
    Now(RunReason),
    Later(Waiting, Duration),
}

/// Whether a Job is due and why, and whether a change is being waited out.
fn due(
    observed: &Observed<'_>,
    newest: Option<&Arc<Job>>,
    stands_for: Option<&Inputs>,
    deletions: Option<&Deletions>,
) -> (Due, Option<Pending>) {
    let again = |reason: RunReason| match (reason, deletions) {
        (RunReason::JobLost, Some(deletions)) => again::after_deletion(observed, deletions),
        (reason, _) => Due::Now(reason),
    };
    let last = newest.filter(|job| !is_before_gone(observed, job));
    let (Some(job), Some(inputs)) = (last, stands_for) else {
        return (again(reason_of_none(observed)), None);
    };
    if !is_same_template(observed, job, inputs) {
        return (Due::Now(RunReason::TemplateChanged), None);
    }
    let rerun = rerun(observed.object);
    if rerun.is_some() && rerun != job.annotations().get(keys::RERUN) {
        return (Due::Now(RunReason::RerunRequested), None);
    }
    if is_unfinished_and_deleted(job) {
        return (again(RunReason::JobLost), None);
    }
    if let Some(pending) = pending(observed, job, inputs) {
        let left = left(pending.since.0, debounce(observed.object), observed.now);
        return match left {
            None => (Due::Now(RunReason::ConfigChanged), Some(pending)),
            Some(wait) => (Due::Later(Waiting::Debounce, wait), Some(pending)),
        };
    }
    (again::after_failure(observed, job), None)
}

/// The uid of the former newest Job, if it is being deleted before it finished, or was deleted.
fn lost<'a>(observed: &Observed<'a>, newest: Option<&'a Arc<Job>>) -> Option<&'a str> {
    match newest.filter(|job| !is_before_gone(observed, job)) {
        Some(job) if is_unfinished_and_deleted(job) => job.metadata.uid.as_deref(),
        Some(_) => None,
        None => gone(observed).map(String::as_str),
    }
}

fn is_unfinished_and_deleted(job: &Job) -> bool {
    jobs::is_deleted(job) && jobs::finish(job).is_none()
}

/// Whether the status names this Job as the newest.
fn is_told(object: &ReactiveJob, job: &Job) -> bool {
    let status = object.status.as_ref();
    status.and_then(|status| status.current_job_name.as_ref()) == Some(&job.name_any())
}

/// Whether the former newest Job was deleted, and this one is older. A Job that is restored from a backup
/// has another uid and the same name.
fn is_before_gone(observed: &Observed<'_>, job: &Job) -> bool {
    let last_run = observed.object.status.iter().flat_map(|s| &s.runs).next();
    let is_another = last_run.is_some_and(|run| run.job_name != job.name_any());
    let is_before = |gone: &String| job.annotations().get(keys::RUN_AFTER) != Some(gone);
    is_another && gone(observed).is_some_and(is_before)
}

/// The uid of the former newest Job, if it was deleted.
fn gone<'a>(observed: &Observed<'a>) -> Option<&'a String> {
    let status = observed.object.status.as_ref()?;
    let last = &status.current_inputs.as_ref()?.job_uid;
    let is_it = |job: &Arc<Job>| job.metadata.uid.as_ref() == Some(last);
    (!observed.jobs.iter().any(is_it)).then_some(last)
}

/// Why a Job is created although there is none.
fn reason_of_none(observed: &Observed<'_>) -> RunReason {
    let before = observed
        .object
        .status
        .as_ref()
        .and_then(|status| status.current_inputs.as_ref());
    match before {
        None => RunReason::Created,
        Some(before) if observed.template.is_whole(&before.template_hash) => RunReason::JobLost,
        Some(_) => RunReason::TemplateChanged,
    }
}

/// What a Job counts for: as the status records it, or as it was created.
fn stands_for(observed: &Observed<'_>, job: &Job) -> Inputs {
    let uid = job.uid().unwrap_or_default();
    let status = observed.object.status.as_ref();
    let known = status.and_then(|status| status.current_inputs.as_ref());
    let renewed = |digests| config::renewed(digests, observed.config);
    if let Some(known) = known.filter(|known| known.job_uid == uid) {
        return Inputs {
            config: known.config.clone().map(renewed),
            ..known.clone()
        };
    }
    let annotation = |key: &str| job.annotations().get(key).cloned();
    Inputs {
        job_uid: uid,
        generation: family::generation(observed.object, job),
        template_hash: annotation(keys::TEMPLATE_HASH)
            .or_else(|| annotation(keys::CONTROLLER_HASH))
            .unwrap_or_default(),
        pod_template_hash: annotation(keys::POD_TEMPLATE_HASH).unwrap_or_default(),
        config: annotation(keys::CONFIG)
            .and_then(|text| serde_json::from_str(&text).ok())
            .map(renewed),
    }
}

/// Whether the template, or the part of it that counts, is what the Job counts for. A template that was not
/// edited since the Job was created is the same even if its hash differs: a schema may have got a default,
/// or another operator may have created the Job.
fn is_same_template(observed: &Observed<'_>, job: &Job, inputs: &Inputs) -> bool {
    let Inputs {
        job_uid: _,
        generation,
        template_hash,
        pod_template_hash,
        config: _,
    } = inputs;
    let made_for = [keys::TEMPLATE_HASH, keys::CONTROLLER_HASH];
    let made_for = made_for
        .iter()
        .filter_map(|key| job.annotations().get(*key));
    let mut hashes = made_for.chain([template_hash]);
    let is_whole = hashes.any(|hash| observed.template.is_whole(hash));
    let counts = triggers(observed.object).template.unwrap_or_default();
    let is_pod = match counts {
        TemplateTrigger::JobTemplate => false,
        TemplateTrigger::PodTemplate => pod_template_hash == observed.template.pod(),
    };
    let now = observed.object.metadata.generation;
    let is_unedited = *generation == now || family::generation(observed.object, job) == now;
    is_whole || is_pod || is_unedited
}

/// What a Job counts for once it is clear that nothing new runs.
fn accepted(observed: &Observed<'_>, job: &Job, before: Inputs) -> Inputs {
    Inputs {
        job_uid: job.uid().unwrap_or_default(),
        generation: observed.object.metadata.generation,
        template_hash: observed.template.stored().to_owned(),
        pod_template_hash: observed.template.pod().to_owned(),
        config: config::accepted(observed.object, before.config, observed.config),
    }
}

/// The change of ConfigMaps or Secrets that is being waited out.
fn pending(observed: &Observed<'_>, job: &Job, inputs: &Inputs) -> Option<Pending> {
    let before = inputs.config.as_ref()?;
    let digests = config::counted(observed.object, before, &observed.config.known);
    // An unfinished Job has waited for an object that appears now, so it runs with that object. It does not
    // wait for optional objects.
    let optional = config::optional(observed.object);
    let is_awaited = |name: &str| {
        jobs::finish(job).is_none()
            && !optional.contains(name)
            && before
                .get(name)
                .is_some_and(|digest| digest == config::ABSENT)
    };
    config::changed(before, &digests).find(|name| !is_awaited(name))?;
    let status = observed.object.status.as_ref();
    let known = status.and_then(|status| status.pending.as_ref());
    let known = known.filter(|pending| pending.config == digests);
    Some(known.cloned().unwrap_or(Pending {
        since: Time(observed.now),
        config: digests,
    }))
}

/// What keeps a due Job from being created.
fn hindrance(observed: &Observed<'_>, own: &[Arc<Job>]) -> Option<Waiting> {
    let spec = &observed.object.spec;
    if spec.suspend == Some(true) {
        return Some(Waiting::Suspended);
    }
    if observed.config.is_listing {
        return Some(Waiting::Listing);
    }
    let missing = config::missing(observed.object, &observed.config.known);
    if !missing.is_empty() {
        return Some(Waiting::Missing(missing));
    }
    if spec.concurrency_policy.unwrap_or_default() == ConcurrencyPolicy::Allow {
        return None;
    }
    if let Some(busy) = own.iter().find(|job| is_busy(observed, job)) {
        return Some(Waiting::Busy(busy.name_any()));
    }
    // A Job that failed, or was deleted, leaves pods behind for a moment.
    let uids = own.iter().filter_map(|job| job.metadata.uid.as_ref());
    uids.chain(gone(observed))
        .any(|uid| has_live_pods(observed, uid))
        .then_some(Waiting::Pods)
}

/// Whether a Job may still be active: it has not finished, or is not deleted yet.
fn is_busy(observed: &Observed<'_>, job: &Job) -> bool {
    let is_over = jobs::is_deleted(job) && job.finalizers() == [keys::REACTIVE_JOB_FINALIZER];
    let has_pods = has_live_pods(observed, &job.uid().unwrap_or_default());
    jobs::finish(job).is_none() && (!is_over || has_pods)
}

fn has_live_pods(observed: &Observed<'_>, uid: &str) -> bool {
    let pods = observed.pods.get(uid);
    pods.is_some_and(|pods| pods.iter().any(|pod| blocked::is_live(pod)))
}

/// Waits, and does what ends the wait.
fn wait_for(observed: &Observed<'_>, own: &[Arc<Job>], waiting: Waiting, run: &mut JobPlan) {
    match waiting {
        Waiting::Busy(_) => {
            let policy = observed.object.spec.concurrency_policy.unwrap_or_default();
            let replaces = policy == ConcurrencyPolicy::Replace;
            let busy = own.iter().filter(|job| is_busy(observed, job));
            for job in busy {
                if !jobs::is_deleted(job) && replaces {
                    run.delete.push(Arc::clone(job));
                } else if is_lost(job) && family::is_held(job) {
                    // Deleted in the background: its pods are only deleted after the Job.
                    run.release.push(Arc::clone(job));
                }
            }
        }
        Waiting::Pods => run.requeue_after = Some(PODS_RECHECK),
        Waiting::Suspended | Waiting::Deleted { .. } => {
            let lost = own.first().filter(|job| jobs::finish(job).is_none());
            let lost = lost.filter(|job| jobs::is_deleted(job) && family::is_held(job));
            run.release.extend(lost.cloned());
        }
        Waiting::Listing | Waiting::Debounce | Waiting::Missing(_) | Waiting::Retry(_) => {}
    }
    run.waiting = Some(waiting);
}

/// Whether a user deleted a Job without foreground deletion of its pods.
fn is_lost(job: &Job) -> bool {
    jobs::is_deleted(job) && !job.finalizers().iter().any(|f| f == FOREGROUND)
}

/// The Job to create.
fn start(observed: &Observed<'_>, newest: Option<&Arc<Job>>, reason: RunReason) -> NextJob {
    let object = observed.object;
    let number = newest.and_then(|job| jobs::number(job, keys::RUN));
    let is_newest_gone = newest.is_none_or(|job| is_before_gone(observed, job));
    let before = newest.map(|job| &**job);
    let attempt = again::next_attempt(observed, before, is_newest_gone, reason);
    let config = config::accepted(object, None, observed.config);
    let purpose = Purpose {
        number: number.unwrap_or(0).saturating_add(1),
        attempt,
        reason,
        after: predecessor(observed, newest),
        template_hash: observed.template.whole().to_owned(),
        stored_template_hash: observed.template.stored().to_owned(),
        pod_template_hash: observed.template.pod().to_owned(),
        config: config.as_ref().map(|digests| json!(digests).to_string()),
        rerun: rerun(object).cloned(),
    };
    NextJob {
        names: job::names(
            &object.name_any(),
            &object.uid().unwrap_or_default(),
            &purpose,
        ),
        body: job::body(object, &purpose),
        inputs: Inputs {
            job_uid: String::new(),
            generation: object.metadata.generation,
            template_hash: purpose.stored_template_hash,
            pod_template_hash: purpose.pod_template_hash,
            config,
        },
    }
}

/// The uid of the previous Job: the newest, or the former newest that was deleted. The Job that follows a
/// deleted one must not get its name.
fn predecessor(observed: &Observed<'_>, newest: Option<&Arc<Job>>) -> String {
    gone(observed)
        .cloned()
        .or_else(|| newest.and_then(|job| job.uid()))
        .unwrap_or_default()
}

/// The finished Jobs that the history has no room for.
fn beyond_history(object: &ReactiveJob, older: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let limit =
        |limit: Option<i32>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
    let of = |outcome: Outcome| {
        let ended = move |job: &&Arc<Job>| jobs::finish(job).is_some_and(|f| f.outcome == outcome);
        older.iter().filter(ended)
    };
    let succeeded = of(Outcome::Succeeded).skip(limit(object.spec.successful_history_limit));
    let failed = of(Outcome::Failed).skip(limit(object.spec.failed_history_limit));
    succeeded
        .chain(failed)
        .filter(|job| !jobs::is_deleted(job) && is_end_told(object, job))
        .cloned()
        .collect()
}

/// Whether the status records how a Job ended, or has dropped the run; the statuses of its pods are lost
/// with the Job.
fn is_end_told(object: &ReactiveJob, job: &Job) -> bool {
    let runs = object.status.iter().flat_map(|status| &status.runs);
    let mut waiting = runs.filter(|run| run.outcome.is_none());
    waiting.all(|run| run.job_name != job.name_any())
}

pub(super) fn triggers(object: &ReactiveJob) -> Triggers {
    object.spec.triggers.clone().unwrap_or_default()
}

/// Which run a user requests.
pub(super) fn rerun(object: &ReactiveJob) -> Option<&String> {
    object.annotations().get(keys::RERUN)
}

fn debounce(object: &ReactiveJob) -> Duration {
    triggers(object).debounce_seconds.map_or(DEBOUNCE, seconds)
}
