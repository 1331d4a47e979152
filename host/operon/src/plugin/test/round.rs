//! The rounds of a test: the calls for each target that has not finished, as one reconcile of the host makes them.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{anyhow, ensure};
use operon_api::OperationJob;
use operon_core::action::{
    ActionError, Attributes, Effect, Failure, JobView, ObjectReference, Operation, OpsProgress,
    ProgressReport, Request, Severity, Target,
};
use serde_json::{Value, json};

use super::{
    changes::{self, Paint},
    world::{View, World},
};
use crate::plugin::load::Loaded;

/// The uid of the job, where its file has none.
const UID: &str = "operon-plugin-test";

/// Whether there is another round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    Goes,
    Ended,
}

/// A job in a world, and how far its targets are.
pub(super) struct Script<'a> {
    loaded: &'a Loaded,
    job: JobView,
    parameters: Value,
    targets: Vec<State>,
    world: World,
}

/// What the host remembers of a target.
struct State {
    name: String,
    containers: Vec<String>,
    uid: Option<String>,
    extra_info: Attributes,
    progress: OpsProgress,
    failure: Option<Failure>,
    recheck_after: Option<Duration>,
}

impl<'a> Script<'a> {
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
            extra_info: Attributes::new(),
            progress: OpsProgress::Processing,
            failure: None,
            recheck_after: None,
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

    /// What the answer of `setup` declares, in short.
    pub(super) fn setup(&self, color: bool) -> String {
        let watches = &self.loaded.action.registration().watches;
        let kinds = watches
            .iter()
            .map(|watch| format!("{} {}", watch.api_version, watch.kind));
        let kinds: Vec<_> = kinds.collect();
        let reads = if kinds.is_empty() {
            "reads only the pods of its targets".to_owned()
        } else {
            format!("reads {}", kinds.join(", "))
        };
        format!("{}  {reads}\n", Paint(color).strong("setup"))
    }

    /// One round of all targets that have not finished. They see the world as it is at its beginning.
    pub(super) async fn round(&mut self, number: u32, color: bool) -> (String, Course) {
        let paint = Paint(color);
        let mut text = format!("\n{}\n", paint.strong(&format!("round {number}")));
        let writes = self.world.writes();
        let before = self.told();
        self.job.now = self.world.now();
        let seen = Arc::new(self.world.clone());
        for place in 0..self.targets.len() {
            text.push_str(&self.turn(place, &seen, paint).await);
        }
        let is_over = |state: &State| state.progress != OpsProgress::Processing;
        if self.targets.iter().all(is_over) {
            return (text, Course::Ended);
        }
        let waits = self.targets.iter().filter_map(|state| state.recheck_after);
        let wait = waits.min();
        self.world.pass(wait.unwrap_or_default());
        let changed = self.world.writes() != writes || self.told() != before;
        if changed || wait.is_some() {
            return (text, Course::Goes);
        }
        text.push_str("\nNothing changes any more.\n");
        (text, Course::Ended)
    }

    /// What the status would say, and what the pods are.
    fn told(&self) -> Vec<String> {
        let targets = self.targets.iter().map(|state| {
            let pod = self.world.pod(&state.name);
            format!("{:?} {:?} {:?}", state.extra_info, state.failure, pod)
        });
        targets.collect()
    }

    /// The calls for one target.
    async fn turn(&mut self, place: usize, seen: &Arc<World>, paint: Paint) -> String {
        let Some(state) = self.targets.get(place) else {
            return String::new();
        };
        if state.progress != OpsProgress::Processing {
            return String::new();
        }
        let mut text = String::new();
        let target = self.target(place, seen);
        let answer = self
            .loaded
            .action
            .operate_target(self.request(&target, seen));
        let answer = answer.await;
        text.push_str(&self.performed("operate-target", place, answer, paint));
        if self.is_processing(place) {
            let target = self.target(place, seen);
            let report = self
                .loaded
                .action
                .get_ops_progress(self.request(&target, seen));
            let report = report.await;
            text.push_str(&self.reported(place, report, paint));
        }
        if self.is_failed(place) {
            let seen = Arc::new(self.world.clone());
            let target = self.target(place, &seen);
            let answer = self
                .loaded
                .action
                .release_target(self.request(&target, &seen));
            let answer = answer.await;
            text.push_str(&self.performed("release-target", place, answer, paint));
        }
        text
    }

    fn is_processing(&self, place: usize) -> bool {
        let state = self.targets.get(place);
        state.is_some_and(|state| state.progress == OpsProgress::Processing)
    }

    fn is_failed(&self, place: usize) -> bool {
        let state = self.targets.get(place);
        state.is_some_and(|state| state.progress == OpsProgress::Failed)
    }

    fn target(&self, place: usize, seen: &World) -> Target {
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
                .filter(|container| container.kind == operon_core::action::ContainerKind::Ordinary);
            containers.extend(ordinary.map(|container| container.name.clone()));
        }
        Target {
            name: state.name.clone(),
            uid: state.uid.clone(),
            containers,
            pod,
            extra_info: state.extra_info.clone(),
            started_at: Some(self.job.now),
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
        }
    }

    /// An operation: its effects are performed, and shown.
    fn performed(
        &mut self,
        function: &str,
        place: usize,
        answer: Result<Operation, ActionError>,
        paint: Paint,
    ) -> String {
        let before = self.world.clone();
        let is_release = function == "release-target";
        let Some(state) = self.targets.get_mut(place) else {
            return String::new();
        };
        let head = format!("  {}  {function}", paint.strong(&state.name));
        let operation = match answer {
            Ok(operation) => operation,
            Err(error) => {
                let text = failed(&error, paint);
                if !is_release {
                    state.refuse(error);
                }
                return format!("{head}: {text}\n");
            }
        };
        let result = self.world.perform(&operation);
        let mut text = match operation.effects.len() {
            0 => format!("{head}: no effect\n"),
            1 => format!("{head}: 1 effect\n"),
            more => format!("{head}: {more} effects\n"),
        };
        for effect in &operation.effects {
            text.push_str(&shown(effect, &before, &self.world, paint));
        }
        match result {
            Ok(()) => state.extra_info = operation.extra_info,
            Err(failure) => {
                let Failure { reason, message } = &failure;
                let refused = paint.bad(&format!("refused: {reason}: {message}"));
                // Writing to a String can't fail.
                let _ = writeln!(text, "    {refused}");
                state.failure = Some(failure);
            }
        }
        text
    }

    fn reported(
        &mut self,
        place: usize,
        report: Result<ProgressReport, ActionError>,
        paint: Paint,
    ) -> String {
        let Some(state) = self.targets.get_mut(place) else {
            return String::new();
        };
        let head = format!("  {}  get-ops-progress", paint.strong(&state.name));
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                let text = failed(&error, paint);
                state.refuse(error);
                return format!("{head}: {text}\n");
            }
        };
        let ProgressReport {
            progress,
            failure,
            extra_info,
            recheck_after,
        } = report;
        let word = match progress {
            OpsProgress::Processing => "Processing".to_owned(),
            OpsProgress::Failed => paint.bad("Failed"),
            OpsProgress::Succeeded => paint.good("Succeeded"),
        };
        let mut text = format!("{head}: {word}");
        // Writing to a String can't fail.
        if let Some(Failure { reason, message }) = &failure {
            let _ = write!(text, ": {reason}: {message}");
        }
        if let Some(after) = recheck_after {
            let _ = write!(text, " (again after {after:?})");
        }
        text.push('\n');
        for line in changes::lines(
            Some(&json!(state.extra_info)),
            Some(&json!(extra_info)),
            paint,
        ) {
            let _ = writeln!(text, "    extra-info {line}");
        }
        state.progress = progress;
        state.failure = failure;
        state.extra_info = extra_info;
        state.recheck_after = recheck_after;
        text
    }

    /// Succeeds if every target has.
    ///
    /// # Errors
    /// How many have not, and the first of them.
    pub(super) fn verdict(&self) -> anyhow::Result<()> {
        let open = |state: &&State| state.progress != OpsProgress::Succeeded;
        let open: Vec<_> = self.targets.iter().filter(open).collect();
        let first = open.first().map_or(String::new(), |state| {
            let failed = state.progress == OpsProgress::Failed;
            let how = if failed {
                "has failed"
            } else {
                "has not finished"
            };
            format!("target {:?} {how}", state.name)
        });
        ensure!(
            open.is_empty(),
            "{} of {} targets did not succeed: {first}",
            open.len(),
            self.targets.len()
        );
        Ok(())
    }
}

impl State {
    fn refuse(&mut self, error: ActionError) {
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

fn failed(error: &ActionError, paint: Paint) -> String {
    let class = match error {
        ActionError::Retry(..) => "retry",
        ActionError::Terminal(_) => "failed",
        ActionError::Plugin(_) => "the component broke a rule",
    };
    let Failure { reason, message } = error.failure();
    paint.bad(&format!("{class}: {reason}: {message}"))
}

/// An effect, and what it has changed.
fn shown(effect: &Effect, before: &World, after: &World, paint: Paint) -> String {
    let (what, reference) = match effect {
        Effect::Patch {
            object,
            subresource,
            ..
        } => {
            let part = subresource.as_deref();
            let part = part.map_or(String::new(), |part| format!(" ({part})"));
            (
                format!("{}{part}", about("patch", object)),
                Some(object.clone()),
            )
        }
        Effect::Apply(body) => (about("apply", &named(body)), Some(named(body))),
        Effect::Create(body) => (about("create", &named(body)), Some(named(body))),
        Effect::Delete { object, .. } => (about("delete", object), Some(object.clone())),
        Effect::Evict { pod, .. } => {
            let object = ObjectReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.clone(),
            };
            (about("evict", &object), Some(object))
        }
        Effect::Event {
            severity,
            reason,
            message,
        } => {
            let severity = match severity {
                Severity::Normal => "event",
                Severity::Warning => "warning",
            };
            (format!("{severity} {reason}: {message}"), None)
        }
    };
    let mut text = format!("    {what}\n");
    if let Some(reference) = reference {
        let (old, new) = (before.object(&reference), after.object(&reference));
        for line in changes::lines(old, new, paint) {
            // Writing to a String can't fail.
            let _ = writeln!(text, "      {line}");
        }
    }
    text
}

fn about(verb: &str, object: &ObjectReference) -> String {
    format!("{verb} {} {}", object.kind, object.name)
}

fn named(body: &Value) -> ObjectReference {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ObjectReference {
        api_version: text(&body["apiVersion"]),
        kind: text(&body["kind"]),
        name: text(&body["metadata"]["name"]),
    }
}
