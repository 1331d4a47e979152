//! Calls about a pod whose action takes part in the PodOpsLifecycle: what is written, as whom, and in which order.

mod in_flight;
mod restrained;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::ObjectReference as EventSubject;
use kube::{Api, api::ApiResource};
use operon_api::{OperationJob, operation_job::Progress};
use operon_core::{
    action::{
        Action, ActionError, Admit, JobView, ObjectReference, PatchKind, PodView, Registration,
        Request, Target,
    },
    action_plugin::version::Version,
    operation_job::{
        lifecycle::{Lifecycle, Service},
        plan::TargetStep,
        turns::CallCause,
    },
    shares::Shares,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::*;
use crate::{
    action_events::ActionEvents,
    catalogue::Loaded,
    effects::Performer,
    existing_jobs::ExistingJobs,
    fake,
    health::Health,
    metrics::Metrics,
    plugin_watch::PluginWatch,
    pod_writer::PodWriter,
    reads::{Recorder, Seen},
    restraint::Restraint,
    store::Cache,
    view::{Declared, View},
};

/// What the calls of an action come to.
#[derive(Clone, Debug, Default)]
enum Outcome {
    #[default]
    Done,
    OperateFails(ActionError),
    ReportFails(ActionError),
    NeverEnds,
    /// The call waits for a place.
    Waits,
}

/// An action that answers so to every call, and counts how often it was called, and asked how far it is.
#[derive(Default)]
struct Fixed {
    registration: Registration,
    effects: Vec<Effect>,
    outcome: Mutex<Outcome>,
    called: AtomicUsize,
    asked: AtomicUsize,
    place: Notify,
}

impl Fixed {
    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn operation(&self, admit: Option<Admit<'_>>) -> Result<Operation, ActionError> {
        let outcome = self.outcome().clone();
        if let (Outcome::Waits, Some(admit)) = (&outcome, admit) {
            self.place.notified().await;
            admit()?;
        }
        self.called.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::OperateFails(error) => Err(error),
            Outcome::NeverEnds => std::future::pending().await,
            Outcome::Done | Outcome::ReportFails(_) | Outcome::Waits => Ok(Operation {
                effects: self.effects.clone(),
                ..Operation::default()
            }),
        }
    }
}

impl Action for Fixed {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        Box::pin(self.operation(request.admit))
    }

    fn get_ops_progress<'a>(
        &'a self,
        _: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let report = match self.outcome().clone() {
            Outcome::ReportFails(error) => Err(error),
            Outcome::Done | Outcome::OperateFails(_) | Outcome::NeverEnds | Outcome::Waits => {
                Ok(ProgressReport {
                    progress: OpsProgress::Succeeded,
                    failure: None,
                    extra_info: std::collections::BTreeMap::new(),
                    recheck_after: None,
                })
            }
        };
        Box::pin(std::future::ready(report))
    }

    fn release_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        Box::pin(self.operation(request.admit))
    }
}

/// A request: its method, its path without the query, its field manager, and the labels that it changes.
type Sent = (String, String, String, Value);

struct World {
    action: Arc<Fixed>,
    sent: Arc<Mutex<Vec<Sent>>>,
    call: Call,
}

const OPERATING: &str = "operating.podopslifecycle.kusionstack.io/opj-job";
const OPERATE: &str = "operate.podopslifecycle.kusionstack.io/opj-job";
const UNDO: &str = "undo-operation-type.podopslifecycle.kusionstack.io/opj-job";

impl World {
    /// A call of this step about a pod with these labels besides that of the control.
    fn new(step: TargetStep, removes: bool, effects: Vec<Effect>, labels: &[&str]) -> Self {
        Self::writing("1", step, removes, effects, labels)
    }

    /// The same where the pod has this version after every write; the first one is 1.
    fn writing(
        version: &str,
        step: TargetStep,
        removes: bool,
        effects: Vec<Effect>,
        labels: &[&str],
    ) -> Self {
        let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let pod = pod(labels);
        let (requests, mut answered) = (Arc::clone(&sent), json!(pod));
        answered["metadata"]["resourceVersion"] = json!(version);
        let client = fake::client(move |request| {
            let body: Value = serde_json::from_str(request.body()).unwrap_or_default();
            let query = request.uri().query().unwrap_or_default();
            let manager = query
                .split('&')
                .find_map(|part| part.strip_prefix("fieldManager="));
            let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
            if request.method() != http::Method::GET {
                requests.push((
                    request.method().to_string(),
                    request.uri().path().to_owned(),
                    manager.unwrap_or_default().to_owned(),
                    body["metadata"]["labels"].clone(),
                ));
                return Some(fake::answer(200, &answered));
            }
            None
        });
        let action = Arc::new(Fixed {
            registration: Registration {
                removes_pods: removes,
                ..Registration::default()
            },
            effects,
            ..Fixed::default()
        });
        let call = call(&client, &action, step, removes, pod);
        Self { action, sent, call }
    }

    /// What comes of the call, the requests that it sent, and how often it asked for the progress.
    async fn run(self) -> (Answer, Vec<Sent>, usize) {
        let answer = Box::pin(self.call.run()).await.expect("an answer");
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.action.asked.load(Ordering::Relaxed);
        (answer, sent.clone(), asked)
    }
}

fn pod(labels: &[&str]) -> Pod {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "ns", "name": "pod", "uid": "uid", "resourceVersion": "1",
            "labels": {"kusionstack.io/control": "true"}
        },
        "spec": {
            "containers": [],
            "readinessGates": [{"conditionType": "pod.kusionstack.io/service-ready"}]
        }
    });
    for label in labels {
        pod["metadata"]["labels"][*label] = json!("1");
    }
    serde_json::from_value(pod).expect("a pod")
}

fn call(
    client: &kube::Client,
    action: &Arc<Fixed>,
    step: TargetStep,
    removes: bool,
    pod: Pod,
) -> Call {
    let metrics = Metrics::register(&mut Registry::default());
    let health = Health::new(metrics.clone());
    let pods: Cache<Pod> = Cache::of(Api::all(client.clone())).start(|_, _| {}, &health);
    let kinds = || [ApiResource::erase::<Pod>(&())];
    let target = Target {
        name: "pod".to_owned(),
        uid: Some("uid".to_owned()),
        pod: Some(PodView::from(&pod)),
        ..Target::default()
    };
    pods.wrote(pod);
    let job: OperationJob = serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": "job", "uid": "job-uid"},
        "spec": {"action": "Act", "targets": [{"name": "pod"}]}
    }))
    .expect("a job");
    let lifecycle = Lifecycle {
        is_wanted: true,
        is_enabled: true,
        removes,
    };
    let existing = Arc::new(ExistingJobs::default());
    let view = Arc::new(View::new("ns", Declared::default(), existing));
    Call {
        loaded: Arc::new(Loaded {
            plugin: "act".to_owned(),
            action: Arc::clone(action) as Arc<dyn Action>,
            performer: Performer::of_client(client.clone(), "action", kinds()),
            watch: PluginWatch::default(),
            version: Version {
                signers: Vec::new(),
                plugin: "uid".to_owned(),
                digest: String::new(),
                settings: "{}".to_owned(),
                limits: None,
                service_account: "act".to_owned(),
                lifecycle: true,
                finalizers: Vec::new(),
            },
            restraint: Restraint::default(),
        }),
        job: Arc::new(JobView {
            namespace: "ns".to_owned(),
            name: "job".to_owned(),
            uid: "job-uid".to_owned(),
            action: "Act".to_owned(),
            settings: "{}".to_owned(),
            ..JobView::default()
        }),
        target,
        progress: Progress::Processing,
        step,
        view: Arc::clone(&view) as Arc<dyn operon_core::action::ClusterView>,
        recorder: Arc::new(Recorder::new(view, Seen::default())),
        subject: EventSubject::default(),
        changed: Arc::default(),
        service: Service::of(&job, lifecycle),
        writer: PodWriter {
            pods: pods.clone(),
            performer: Some(Performer::of_client(client.clone(), "lifecycle", kinds())),
        },
        pods,
        events: ActionEvents::new(client, None, metrics.clone()),
        effects: Shares::new(1),
        metrics,
        cause: CallCause::Step,
        has_to_report: false,
        stop: watch::channel(false).1,
    }
}

fn delete(name: &str) -> Effect {
    Effect::Delete {
        object: ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: name.to_owned(),
        },
        uid: None,
        resource_version: None,
        grace_period_seconds: None,
        propagation: operon_core::action::Propagation::Background,
    }
}

fn mark() -> Effect {
    Effect::Patch {
        object: ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: "pod".to_owned(),
        },
        subresource: None,
        kind: PatchKind::Merge,
        body: json!({"metadata": {"labels": {"mark": null}}}),
        uid: None,
        resource_version: None,
    }
}

#[tokio::test]
async fn an_operation_that_removes_the_pod_is_held_until_the_pod_is_out_of_service() {
    let effects = || vec![mark(), delete("pod")];
    let world = World::new(TargetStep::Operate, true, effects(), &[]);
    let (answer, sent, asked) = world.run().await;
    let Answer::Report(report) = answer else {
        unreachable!("no report: {answer:?}");
    };
    let reason = report.failure.map(|failure| failure.reason);
    assert_eq!(report.progress, OpsProgress::Processing);
    assert_eq!(reason.as_deref(), Some("LeavingService"));
    assert_eq!((sent.len(), asked), (1, 0));
    let (_, path, manager, labels) = &sent[0];
    assert_eq!(path, "/api/v1/namespaces/ns/pods/pod");
    assert_eq!(manager, "lifecycle", "not as the action");
    for label in [
        OPERATING,
        "podopslifecycle.kusionstack.io/preparing-to-delete",
    ] {
        assert!(labels[label].is_string(), "{labels}");
    }

    let waiting = World::new(TargetStep::Operate, true, effects(), &[OPERATING]);
    assert_eq!(waiting.run().await.1.len(), 0);
}

#[tokio::test]
async fn an_operation_that_removes_another_pod_is_not_held() {
    let world = World::new(TargetStep::Operate, true, vec![mark()], &[]);
    let (answer, sent, asked) = world.run().await;
    assert!(matches!(answer, Answer::Report(_)), "{answer:?}");
    assert_eq!((sent.len(), asked), (1, 1));
    assert_eq!(sent[0].2, "action");
}

#[tokio::test]
async fn the_action_does_not_report_before_it_can_see_its_effects() {
    let event = || Effect::Event {
        severity: operon_core::action::Severity::Normal,
        reason: "Marked".to_owned(),
        message: "it is marked".to_owned(),
    };
    let delete = || delete("another");
    // The effects, the version of the pod after them, whether the previous call did not report either, and whether this
    // one does.
    for (effects, version, has_to_report, reports) in [
        (vec![], "1", false, true),
        (vec![mark()], "2", false, false),
        (vec![mark()], "2", true, true),
        (vec![mark(), event()], "2", false, false),
        // The pod is as before, and the action does not see its Event.
        (vec![mark(), event()], "1", false, true),
        // What became of another object is not known.
        (vec![delete()], "1", false, false),
        (vec![delete()], "1", true, true),
    ] {
        let told = format!("{effects:?} {version} {has_to_report}");
        let labels = [OPERATING, OPERATE];
        let mut world = World::writing(version, TargetStep::Operate, false, effects, &labels);
        world.call.has_to_report = has_to_report;
        let (answer, _, asked) = world.run().await;
        assert_eq!(asked, usize::from(reports), "{told}");
        let has_acted = matches!(answer, Answer::Acted { .. });
        assert_eq!(has_acted, !reports, "{told}: {answer:?}");
    }
}

#[tokio::test]
async fn a_target_succeeds_only_after_its_pod_has_returned_to_service() {
    let labels = [OPERATING, OPERATE];
    let world = World::new(TargetStep::Operate, false, vec![mark()], &labels);
    let (answer, sent, _) = world.run().await;
    assert!(matches!(answer, Answer::Operated { .. }), "{answer:?}");
    assert_eq!(sent.len(), 1, "the status says so before the pod returns");
}

#[tokio::test]
async fn the_pod_is_given_back_after_the_action_has_released_the_target() {
    let step = TargetStep::Release(Cause::Deadline);
    let world = World::new(step, false, vec![mark()], &[OPERATING]);
    let (answer, sent, asked) = world.run().await;
    assert!(matches!(answer, Answer::Released { .. }), "{answer:?}");
    assert_eq!(asked, 0, "it has not acted yet");
    let managers: Vec<_> = sent.iter().map(|sent| sent.2.as_str()).collect();
    assert_eq!(managers, ["action", "lifecycle"]);
    assert_eq!(sent[1].3[UNDO], "Act");
}

#[tokio::test]
async fn the_pod_of_an_action_that_removes_pods_is_given_back_before_the_action_releases_the_target()
 {
    let step = TargetStep::Release(Cause::Deleted);
    let labels = [OPERATING, OPERATE];
    let (answer, sent, asked) = World::new(step, true, vec![mark()], &labels).run().await;
    assert!(matches!(answer, Answer::Releasing { .. }), "{answer:?}");
    assert_eq!((sent.len(), asked), (1, 0));
    assert_eq!(sent[0].2, "lifecycle");
    assert_eq!(sent[0].3[UNDO], "Act");
    // It is the last call: the action releases the target whatever the pod does.
    let step = TargetStep::Release(Cause::Overdue);
    let (_, sent, _) = World::new(step, true, vec![mark()], &labels).run().await;
    assert!(sent.iter().any(|sent| sent.2 == "lifecycle"), "{sent:?}");
}

#[tokio::test]
async fn the_pod_of_an_action_that_turns_out_to_have_succeeded_is_given_back_too() {
    let labels = [OPERATING, OPERATE];
    let step = TargetStep::Release(Cause::Deleted);
    let (answer, sent, asked) = World::new(step, false, vec![mark()], &labels).run().await;
    assert!(matches!(answer, Answer::Report(_)), "{answer:?}");
    assert_eq!((sent.len(), asked), (1, 1));
    assert_eq!(sent[0].2, "lifecycle");
    assert_eq!(sent[0].3, json!({OPERATING: null}));
}
