//! The conclusion of a reconcile: the next status, the Events for its transitions, and when to reconcile
//! again. Pure: it reads the observation, the plan and the answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operon_api::operation_job::{OperationJobStatus, Progress, TargetDetail, TargetError};

use super::{
    Observed, RELEASE_LIMIT, RELEASED, events, extra_info,
    failures::{canceled, deadline_exceeded, deleted, release_abandoned},
    lifecycle,
    plan::{Cause, TargetPlan, TargetPlans, TargetStep, release_failed},
    remaining, size, sooner,
    status::{self, Counts, Releases, Waits},
};
use crate::action::{
    ActionError, Attributes, Failure, OpsProgress, ProgressReport, Severity, Unfinished,
};

/// What came of asking the action about one target, effects included.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The action's report.
    Report(ProgressReport),
    /// Effects were performed. The action reports in the next call, which sees what they changed.
    Acted {
        /// The target's extra-info from now on.
        extra_info: Attributes,
    },
    /// The action has succeeded, and the target's pod has to be brought back into service.
    Operated {
        /// The target's extra-info from now on.
        extra_info: Attributes,
    },
    /// In a dry run: what the action would do first.
    Tried {
        /// One line for each effect.
        effects: Vec<String>,
    },
    /// The target has been released.
    Released {
        /// Its extra-info from now on.
        extra_info: Attributes,
    },
    /// The target is being released: the action has to be called again.
    Releasing {
        /// What its release waits for.
        unfinished: Unfinished,
        /// Its extra-info from now on.
        extra_info: Attributes,
    },
    /// No answer, or an effect that could not be performed.
    Error {
        /// What went wrong.
        error: ActionError,
        /// The extra-info that the action returned before it did.
        extra_info: Option<Attributes>,
    },
}

/// The results of calling the action in one reconcile; targets are named by their place in the spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    /// The answers.
    pub given: BTreeMap<usize, Answer>,
    /// Targets without an answer whose call is under way, or which wait for their next one. The caller of
    /// the action triggers the following reconcile.
    pub later: BTreeSet<usize>,
}

/// An Event about the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// How loud.
    pub severity: Severity,
    /// One CamelCase word.
    pub reason: &'static str,
    /// The only target of the Event.
    pub target: Option<String>,
    /// A sentence.
    pub message: String,
}

/// The conclusion of a reconcile.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The status from now on.
    pub status: OperationJobStatus,
    /// The changes worth an Event; the Events are only sent once the status is written.
    pub events: Vec<JobEvent>,
    /// When to look again even if nothing changes.
    pub requeue_after: Option<Duration>,
    /// A call failed that may go better: call again about that target, with backoff.
    pub retry: bool,
    /// Every target is released: the finalizer of a deleted job can go.
    pub released: bool,
}

/// Concludes a reconcile.
pub fn conclude(observed: &Observed<'_>, run: &TargetPlans, answers: &Answers) -> Conclusion {
    let mut requeue_after = run.requeue_after;
    let mut retry = false;
    let mut blocked: Option<Failure> = None;
    let mut released = true;
    let mut has_failed_release = false;
    let mut details = Vec::with_capacity(run.targets.len());
    let refused = extra_info::refused(observed, run, answers);
    for target in &run.targets {
        let index = &target.index;
        let answer = refused.get(index).or_else(|| answers.given.get(index));
        let next = conclude_target(observed, target, answer);
        requeue_after = sooner(requeue_after, next.requeue_after);
        retry |= next.retry;
        released &= !next.holds;
        has_failed_release |= next.release_failed;
        if let (None, TargetStep::Await(failure)) = (&blocked, &target.step) {
            blocked = Some(failure.clone());
        }
        details.push(next.detail);
    }
    if run.targets.iter().any(|target| is_unasked(target, answers)) {
        // Its turn comes immediately, whatever the others wait for.
        requeue_after = Some(Duration::ZERO);
    }
    if released && observed.job.metadata.deletion_timestamp.is_some() {
        requeue_after = None;
    }
    let mut details = status::in_order(observed.job, details);
    let counts = Counts::of(&details);
    let mut events = lifecycle::events(observed, run);
    events.extend(status::failures(observed.job, &details));
    let mut events = events::aggregated(events);
    size::shorten(observed.job, &mut details);
    let goes_on = |answer: &Answer| matches!(answer, Answer::Releasing { .. });
    let news = if has_failed_release {
        Releases::Failed
    } else if answers.later.is_empty() && answers.given.values().any(goes_on) {
        Releases::GoOn
    } else {
        Releases::Unchanged
    };
    let waits = Waits {
        blocked: blocked.as_ref(),
        held: run.held.as_deref(),
    };
    let status = status::next(observed, &counts, details, waits, news);
    events.extend(status::change(observed.job, &status));
    Conclusion {
        status,
        events,
        requeue_after,
        retry,
        released,
    }
}

/// Whether the plan names a target that had no turn in this reconcile.
fn is_unasked(target: &TargetPlan, answers: &Answers) -> bool {
    let Answers { given, later } = answers;
    let index = target.index;
    target.step.question().is_some() && !given.contains_key(&index) && !later.contains(&index)
}

/// One target's part of the conclusion.
struct Next {
    detail: TargetDetail,
    requeue_after: Option<Duration>,
    retry: bool,
    /// It still has to be released.
    holds: bool,
    /// Its release failed.
    release_failed: bool,
}

impl Next {
    fn settled(detail: TargetDetail) -> Self {
        Self {
            detail,
            requeue_after: None,
            retry: false,
            holds: false,
            release_failed: false,
        }
    }

    /// It still has to be released, or called about again.
    fn held(detail: TargetDetail) -> Self {
        Self {
            holds: true,
            ..Self::settled(detail)
        }
    }
}

fn conclude_target(observed: &Observed<'_>, target: &TargetPlan, answer: Option<&Answer>) -> Next {
    let now = Time(observed.now);
    let mut detail = target.detail.clone();
    match (&target.step, answer) {
        (TargetStep::Keep, _) => {
            if detail.progress == Progress::Pending {
                detail.error = None;
            }
            Next::settled(detail)
        }
        (TargetStep::Start { uid }, _) => {
            detail.progress = Progress::Processing;
            detail.start_time = Some(now);
            detail.pod_uid = Some(uid.clone());
            detail.error = None;
            Next::settled(detail)
        }
        (TargetStep::Wait(failure), None) => {
            detail.error = Some(error(failure));
            Next::settled(detail)
        }
        (TargetStep::Succeed, None) => {
            succeed(&mut detail, now);
            Next::settled(detail)
        }
        (TargetStep::Succeed, Some(Answer::Error { error: last, .. })) if is_overdue(observed) => {
            let abandoned = carrying(&release_abandoned(), &error(last.failure()));
            fail(&mut detail, now, &abandoned);
            Next::settled(detail)
        }
        (TargetStep::Wait(_) | TargetStep::Succeed, Some(answer)) => {
            not_written(observed, detail, answer)
        }
        (TargetStep::Fail(_), Some(answer)) if target.write.is_some() && !is_overdue(observed) => {
            not_written(observed, detail, answer)
        }
        (TargetStep::Fail(failure), _) => {
            // Nothing is left to release of a target that was operated, or only tried.
            if lifecycle::is_operated(&detail) || observed.job.spec.dry_run {
                mark_released(&mut detail);
            }
            match detail.progress {
                Progress::Pending => fail(&mut detail, now, failure),
                Progress::Processing | Progress::Failed | Progress::Succeeded => {
                    give_up(&mut detail, now, failure);
                }
            }
            Next::settled(detail)
        }
        (TargetStep::Await(failure), _) => {
            if !detail.progress.is_finished() {
                detail.error = Some(error(failure));
            }
            let holds = observed.job.metadata.deletion_timestamp.is_some();
            Next {
                retry: holds,
                holds,
                ..Next::settled(detail)
            }
        }
        (TargetStep::Operate | TargetStep::Release(_), None) => {
            // No answer in this reconcile: nothing is known, so nothing changes.
            Next::held(detail)
        }
        (TargetStep::Operate, Some(answer)) => {
            let mut next = operated(detail, now, answer);
            if observed.job.spec.dry_run && next.detail.progress == Progress::Failed {
                mark_released(&mut next.detail);
            }
            add_lifecycle(observed, &mut next.detail);
            add_node(observed, &mut next.detail);
            next
        }
        (TargetStep::Release(cause), Some(answer)) => {
            released(observed, detail, now, *cause, answer)
        }
    }
}

fn operated(mut detail: TargetDetail, now: Time, answer: &Answer) -> Next {
    // The Go operator's oldest version did not note it.
    detail.start_time.get_or_insert_with(|| now.clone());
    match answer {
        Answer::Report(report) => {
            let requeue_after = report.recheck_after;
            report_progress(&mut detail, now, report);
            Next {
                requeue_after,
                ..Next::settled(detail)
            }
        }
        Answer::Operated { extra_info } => {
            record(&mut detail, extra_info);
            detail.operated_time = Some(now);
            detail.error = None;
            Next::settled(detail)
        }
        Answer::Tried { effects } => {
            detail.dry_run.clone_from(effects);
            succeed(&mut detail, now);
            Next::settled(detail)
        }
        // After effects, the next call reports what the target waits for.
        Answer::Acted { extra_info }
        | Answer::Released { extra_info }
        | Answer::Releasing {
            unfinished: _,
            extra_info,
        } => {
            record(&mut detail, extra_info);
            Next::settled(detail)
        }
        Answer::Error {
            error: cause,
            extra_info,
        } => {
            if let Some(extra_info) = extra_info {
                record(&mut detail, extra_info);
            }
            match cause {
                ActionError::Terminal(failure) => {
                    fail(&mut detail, now, failure);
                    Next::held(detail)
                }
                ActionError::Retry(failure, after) => {
                    detail.error = Some(error(failure));
                    let retry = after.is_none();
                    Next {
                        requeue_after: *after,
                        retry,
                        ..Next::held(detail)
                    }
                }
                ActionError::Plugin(failure) => {
                    detail.error = Some(error(failure));
                    Next {
                        retry: true,
                        ..Next::held(detail)
                    }
                }
            }
        }
    }
}

/// The pod of a target that takes part in no lifecycle, or is not taken out of service by it, goes on serving
/// while it is operated; the message adds that.
fn add_lifecycle(observed: &Observed<'_>, detail: &mut TargetDetail) {
    let note = lifecycle::serves_on(observed, detail);
    if let (false, Some(error), Some(note)) =
        (detail.progress.is_finished(), detail.error.as_mut(), note)
    {
        error.message = format!("{}; {note}", error.message);
    }
}

/// The write on the pod of a target failed: nothing else changes before it succeeds.
fn not_written(observed: &Observed<'_>, mut detail: TargetDetail, answer: &Answer) -> Next {
    if let (false, Answer::Error { error: failed, .. }) = (detail.progress.is_finished(), answer) {
        detail.error = Some(error(failed.failure()));
    }
    Next {
        retry: true,
        release_failed: observed.job.metadata.deletion_timestamp.is_some(),
        ..Next::held(detail)
    }
}

/// Whether the releases of a deleted job have failed for too long.
fn is_overdue(observed: &Observed<'_>) -> bool {
    let since = release_failed(observed);
    since.is_some_and(|since| remaining(since, RELEASE_LIMIT, observed.now).is_none())
}

/// What a target waits for may never come while the node of its pod is not Ready, so the message adds that. Of a
/// pod that is being deleted it is the reason: no kubelet confirms that the pod has terminated.
fn add_node(observed: &Observed<'_>, detail: &mut TargetDetail) {
    if detail.progress.is_finished() {
        return;
    }
    let Some(error) = detail.error.as_mut() else {
        return;
    };
    let Some(pod) = observed.pods.get(&detail.name) else {
        return;
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    if let Some(trouble) = node.and_then(|node| observed.unready_nodes.get(node)) {
        error.message = format!("{}; {trouble}", error.message);
        if pod.metadata.deletion_timestamp.is_some() {
            "NodeLost".clone_into(&mut error.reason);
        }
    }
}

fn report_progress(detail: &mut TargetDetail, now: Time, report: &ProgressReport) {
    record(detail, &report.extra_info);
    match report.progress {
        OpsProgress::Processing => detail.error = report.failure.as_ref().map(error),
        OpsProgress::Succeeded => succeed(detail, now),
        OpsProgress::Failed => {
            let unexplained = Failure::new(
                "ActionFailed",
                "the action reported failure without a reason",
            );
            fail(detail, now, report.failure.as_ref().unwrap_or(&unexplained));
        }
    }
}

/// The outcome of a release: the target is Failed, unless the action found it done after all.
fn released(
    observed: &Observed<'_>,
    mut detail: TargetDetail,
    now: Time,
    cause: Cause,
    answer: &Answer,
) -> Next {
    match answer {
        // A target may have failed while the action was called: a result never changes.
        Answer::Report(report)
            if report.progress == OpsProgress::Succeeded && !detail.progress.is_finished() =>
        {
            report_progress(&mut detail, now, report);
            return Next::settled(detail);
        }
        Answer::Report(_)
        | Answer::Acted { .. }
        | Answer::Operated { .. }
        | Answer::Tried { .. }
        | Answer::Released { .. }
        | Answer::Releasing { .. }
        | Answer::Error { .. } => {}
    }
    if !detail.progress.is_finished() {
        let why = match cause {
            Cause::Deadline | Cause::Failed => deadline_exceeded(observed.job),
            Cause::Canceled => canceled(observed.job),
            Cause::Deleted | Cause::Overdue => deleted(),
        };
        give_up(&mut detail, now.clone(), &why);
    }
    match answer {
        Answer::Released { extra_info } => {
            detail.extra_info.clone_from(extra_info);
            mark_released(&mut detail);
            note_release(&mut detail, None);
            Next::settled(detail)
        }
        Answer::Releasing {
            unfinished,
            extra_info,
        } => {
            let Unfinished {
                failure,
                recheck_after,
            } = unfinished;
            record(&mut detail, extra_info);
            note_release(&mut detail, Some((WAITS, failure)));
            Next {
                requeue_after: *recheck_after,
                ..Next::held(detail)
            }
        }
        Answer::Error { error: last, .. } if cause == Cause::Overdue => {
            let abandoned = carrying(&release_abandoned(), &error(last.failure()));
            fail(&mut detail, now, &abandoned);
            Next::settled(detail)
        }
        Answer::Error { error: failed, .. } => {
            note_release(&mut detail, Some((FAILED, failed.failure())));
            let requeue_after = match failed {
                ActionError::Retry(_, after) => *after,
                ActionError::Terminal(_) | ActionError::Plugin(_) => None,
            };
            Next {
                requeue_after,
                retry: requeue_after.is_none(),
                release_failed: true,
                ..Next::held(detail)
            }
        }
        Answer::Report(_)
        | Answer::Acted { .. }
        | Answer::Operated { .. }
        | Answer::Tried { .. } => Next {
            retry: true,
            ..Next::held(detail)
        },
    }
}

/// Introduces what keeps a target from being released.
const FAILED: &str = "; release failed: ";

/// Introduces the reason that a release waits for.
const WAITS: &str = "; being released: ";

/// The reason stays why the target failed; the message adds what keeps it from being released.
fn note_release(detail: &mut TargetDetail, note: Option<(&str, &Failure)>) {
    let Some(error) = detail.error.as_mut() else {
        return;
    };
    for known in [FAILED, WAITS] {
        if let Some(place) = error.message.find(known) {
            error.message.truncate(place);
        }
    }
    if let Some((kind, failure)) = note {
        // Whatever is shortened to keep the whole short, this part is kept.
        size::truncate(&mut error.message, size::MESSAGE / 2);
        error.message.push_str(kind);
        error.message.push_str(&failure.message);
    }
}

/// What the action recorded. The action can't set the mark of a released target.
fn record(detail: &mut TargetDetail, extra_info: &Attributes) {
    detail.extra_info.clone_from(extra_info);
    detail.extra_info.remove(RELEASED);
}

/// Nothing of the target is left to release.
fn mark_released(detail: &mut TargetDetail) {
    let (key, value) = (RELEASED.to_owned(), "true".to_owned());
    detail.extra_info.insert(key, value);
}

fn succeed(detail: &mut TargetDetail, now: Time) {
    detail.progress = Progress::Succeeded;
    detail.end_time = Some(now);
    detail.error = None;
}

fn fail(detail: &mut TargetDetail, now: Time, failure: &Failure) {
    detail.progress = Progress::Failed;
    detail.end_time.get_or_insert(now);
    detail.error = Some(error(failure));
}

/// Fails a target for a reason of the host's own, and keeps its last error or what it last waited for.
fn give_up(detail: &mut TargetDetail, now: Time, failure: &Failure) {
    match detail.error.take() {
        // It was given up before.
        Some(same) if same.reason == failure.reason => detail.error = Some(same),
        Some(last) => fail(detail, now, &carrying(failure, &last)),
        None => fail(detail, now, failure),
    }
}

/// A failure that also carries its last cause.
fn carrying(failure: &Failure, last: &TargetError) -> Failure {
    let Failure { reason, message } = failure;
    let TargetError {
        reason: cause,
        message: last_message,
    } = last;
    Failure::new(
        reason,
        format!("{message}; last error: {cause}: {last_message}"),
    )
}

fn error(failure: &Failure) -> TargetError {
    TargetError {
        reason: failure.reason.clone(),
        message: failure.message.clone(),
    }
}
