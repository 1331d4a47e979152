//! The action of the simulation, and what is promised of its effects.

use std::sync::atomic::AtomicBool;

use operon_api::operation_job::{Progress, TargetDetail};
use operon_core::action::{Effect, ObjectReference, PatchKind};

use super::{
    promises::{self, Writes, is_released},
    *,
};
use crate::simulation::{
    Chance, Promises, Write,
    plurals::{OPERATION_JOBS, PODS},
};

/// The annotation by which an effect names its job, and the prefix of its marks.
const BY: &str = "test/by";
const MARK: &str = "test/mark-";

/// An action that keeps no state: it marks pods whose names begin with `mark`, and is done when the mark is
/// on them; it evicts the others, and is done when they are deleted. Sometimes it fails, or
/// is slow.
pub(super) struct Moody {
    registration: Registration,
    /// None: it is well.
    mood: Mutex<Option<Chance>>,
    pub(super) is_calm: AtomicBool,
}

impl Moody {
    pub(super) fn new(chance: Chance) -> Self {
        Self {
            registration: Registration::default(),
            mood: Mutex::new(Some(chance)),
            is_calm: AtomicBool::new(false),
        }
    }

    /// The fault of this call, and after how long it happens.
    async fn mood(&self) -> Result<(), ActionError> {
        let (outcome, wait) = {
            let mut mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(chance) = mood
                .as_mut()
                .filter(|_| !self.is_calm.load(Ordering::Relaxed))
            else {
                return Ok(());
            };
            let wait = chance.pick(&[0, 0, 0, 500, 4000]);
            (chance.of(8), Duration::from_millis(wait))
        };
        tokio::time::sleep(wait).await;
        let failure = Failure::new("Moody", "it does not feel like it");
        match outcome {
            0 => Err(ActionError::Retry(failure, None)),
            1 => Err(ActionError::Plugin(failure)),
            2 => Err(ActionError::Retry(failure, Some(Duration::from_secs(2)))),
            _ => Ok(()),
        }
    }
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.to_owned(),
    }
}

/// Sets this job's mark on the target's pod. The host adds which pod of that name is meant.
fn mark(request: &Request<'_>, value: &Value) -> Effect {
    let job = &request.job.name;
    let body = json!({"metadata": {
        "labels": {format!("{MARK}{job}"): value},
        "annotations": {BY: job},
    }});
    Effect::Patch {
        object: pod(&request.target.name),
        subresource: None,
        kind: PatchKind::Merge,
        body,
        uid: None,
        resource_version: None,
    }
}

fn evict(request: &Request<'_>) -> Effect {
    let number = request.job.name.trim_start_matches("job-").parse();
    Effect::Evict {
        pod: request.target.name.clone(),
        uid: None,
        resource_version: None,
        grace_period_seconds: number.ok(),
    }
}

fn operation(effects: Vec<Effect>) -> Operation {
    Operation {
        effects,
        ..Operation::default()
    }
}

impl Action for Moody {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        Box::pin(async move {
            self.mood().await?;
            let Some(pod) = &request.target.pod else {
                return Ok(Operation::default());
            };
            let label = format!("{MARK}{}", request.job.name);
            let effect = if !request.target.name.starts_with("mark") {
                (!pod.deleting).then(|| evict(&request))
            } else if pod.labels.contains_key(&label) {
                None
            } else {
                Some(mark(&request, &json!("yes")))
            };
            Ok(operation(effect.into_iter().collect()))
        })
    }

    fn get_ops_progress<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>> {
        let is_mark = request.target.name.starts_with("mark");
        let progress = match &request.target.pod {
            None if is_mark => OpsProgress::Failed,
            None => OpsProgress::Succeeded,
            Some(pod) if is_mark && pod.annotations.contains_key("done") => OpsProgress::Succeeded,
            Some(_) => OpsProgress::Processing,
        };
        Box::pin(async move {
            self.mood().await?;
            Ok(ProgressReport {
                progress,
                failure: None,
                extra_info: BTreeMap::new(),
                recheck_after: None,
            })
        })
    }

    fn release_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        Box::pin(async move {
            self.mood().await?;
            let pod = request.target.pod.as_ref();
            let is_mark = request.target.name.starts_with("mark");
            let effect = pod
                .filter(|_| is_mark)
                .map(|_| mark(&request, &Value::Null));
            Ok(operation(effect.into_iter().collect()))
        })
    }
}

/// What is promised of jobs whose action is [`Moody`].
pub(super) struct MoodyPromises(Writes);

impl MoodyPromises {
    pub(super) fn new() -> Self {
        Self(Writes::new(|pod, job| {
            pod["metadata"]["labels"][format!("{MARK}{}", job.name_any())].is_string()
        }))
    }

    /// An effect reaches a pod: the status has recorded it as the one that a target of the job started
    /// with. Where the answer was lost, a target may be released again, even if its job is gone by now;
    /// but none is operated that succeeded, was released, or whose job is gone.
    fn effect(&mut self, write: &Write<'_>) {
        let Write { body, old: pod, .. } = *write;
        let by = operating(body).unwrap_or_default();
        let job = write.objects.get(OPERATION_JOBS, &by).map(promises::job);
        let labels = body["metadata"]["labels"].as_object();
        let is_release = labels.is_some_and(|labels| labels.values().all(Value::is_null));
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let is_live = |detail: &TargetDetail| {
            detail.pod_uid.as_deref() == Some(uid)
                && matches!(detail.progress, Progress::Processing | Progress::Failed)
                && !is_released(detail)
        };
        let is_recorded = self.0.is_recorded(&by, uid);
        let details = job.as_ref().map(promises::details).unwrap_or_default();
        self.0.promise(
            is_recorded && (is_release || details.iter().any(is_live)),
            "only the pod that a target started with is operated, after it is recorded",
            &(body, pod, job),
        );
    }
}

impl Promises for MoodyPromises {
    fn process_begins(&mut self) {
        self.0.process_begins();
    }

    fn write(&mut self, write: &Write<'_>) {
        if write.plural == PODS {
            self.effect(write);
        } else {
            self.0.write(write);
        }
    }

    fn event(&mut self, event: &Value) {
        self.0.event(event);
    }

    fn broken(&self) -> &[String] {
        &self.0.broken
    }
}

/// The job by which a write to a pod was asked for.
fn operating(body: &Value) -> Option<String> {
    let by = body["metadata"]["annotations"][BY].as_str();
    let number = &body["deleteOptions"]["gracePeriodSeconds"];
    by.map(str::to_owned)
        .or_else(|| number.as_u64().map(|number| format!("job-{number}")))
}
