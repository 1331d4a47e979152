//! The shipped reconcile, with an action by script and an API server that holds one job.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
    future::BoxFuture,
};
use kube::{client::Body, config::Config};
use operon_core::{
    action::{
        Action, ActionError, Failure, LoadError, Operation, OpsProgress, ProgressReport,
        Registration, Request,
    },
    action_plugin::version::Version,
};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
mod calls;
mod loading;
mod moody;
mod native;
mod observed;
mod process;
mod promises;
mod replace;
mod replaced;
mod simulation;
mod starts;
mod suspended;
mod workload;

use crate::{
    effects::{Guard, Performers},
    health::Health,
    plugin_watch::PluginWatch,
    restraint::Restraint,
    served_fields::ServedFields,
};

/// An action that the beginning of a target's name controls, and that notes its calls.
#[derive(Default)]
struct Scripted {
    registration: Registration,
    operated: Mutex<BTreeMap<String, usize>>,
}

impl Scripted {
    fn calls(&self, target: &str) -> usize {
        let operated = self.operated.lock().unwrap_or_else(PoisonError::into_inner);
        operated.get(target).copied().unwrap_or_default()
    }
}

impl Action for Scripted {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn check_parameters<'a>(
        &'a self,
        parameters: &'a Value,
    ) -> BoxFuture<'a, Result<(), LoadError>> {
        if parameters["check"] == "endless" {
            return Box::pin(futures::future::pending());
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn operate_target<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        let name = request.target.name.clone();
        Box::pin(async move {
            {
                let mut operated = self.operated.lock().unwrap_or_else(PoisonError::into_inner);
                *operated.entry(name.clone()).or_default() += 1;
            }
            match name.split('-').next() {
                Some("endless") => futures::future::pending().await,
                Some("slow") => tokio::time::sleep(PATIENCE + Duration::from_millis(300)).await,
                Some("broken") => {
                    return Err(ActionError::Plugin(Failure::new("Broken", "it is broken")));
                }
                _ => {}
            }
            Ok(Operation::default())
        })
    }

    fn get_ops_progress<'a>(
        &'a self,
        request: Request<'a>,
    ) -> BoxFuture<'a, Result<ProgressReport, ActionError>> {
        let slow = request.target.name.starts_with("slow");
        let progress = if slow && !request.job.ending {
            OpsProgress::Succeeded
        } else {
            OpsProgress::Processing
        };
        Box::pin(std::future::ready(Ok(ProgressReport {
            progress,
            failure: None,
            extra_info: BTreeMap::new(),
            recheck_after: None,
        })))
    }

    fn release_target<'a>(
        &'a self,
        _: Request<'a>,
    ) -> BoxFuture<'a, Result<Operation, ActionError>> {
        Box::pin(std::future::ready(Ok(Operation::default())))
    }
}

/// The job as the API server has it.
type Stored = Arc<Mutex<Value>>;

/// Answers to patches of the job and of its status; everything else is refused.
async fn serve(stored: Stored, request: http::Request<Body>) -> http::Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect_bytes().await;
    let sent: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let mut job = stored.lock().unwrap_or_else(PoisonError::into_inner);
    let version = &sent["metadata"]["resourceVersion"];
    let (code, answer) = if !version.is_null() && job["metadata"]["resourceVersion"] != *version {
        (409, json!({"code": 409, "reason": "Conflict"}).to_string())
    } else if path.ends_with("/operationjobs/job/status") {
        job["status"] = sent["status"].clone();
        (200, written(&mut job))
    } else if path.ends_with("/operationjobs/job") {
        job["metadata"]["finalizers"] = sent["metadata"]["finalizers"].clone();
        (200, written(&mut job))
    } else {
        (403, json!({"code": 403, "reason": "Forbidden"}).to_string())
    };
    let response = http::Response::builder().status(code);
    response
        .body(Body::from(answer.into_bytes()))
        .expect("a status and a body make a response")
}

/// The job after a write.
fn written(job: &mut Value) -> String {
    let version = job["metadata"]["resourceVersion"].as_str();
    let version: u64 = version.and_then(|v| v.parse().ok()).unwrap_or_default();
    job["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    job.to_string()
}

struct World {
    controller: OperationJobs,
    action: Arc<Scripted>,
    stored: Stored,
    woken: UnboundedReceiver<ObjectRef<OperationJob>>,
}

impl World {
    /// A job whose targets are being operated.
    fn new(targets: &[String]) -> Self {
        let names: Vec<_> = targets.iter().map(|name| json!({"name": name})).collect();
        let started = |name| json!({"name": name, "progress": "Processing", "podUID": name, "startTime": "2026-01-01T00:00:00Z"});
        let details: Vec<_> = targets.iter().map(started).collect();
        let job = json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1",
            "kind": "OperationJob",
            "metadata": {
                "namespace": "ns", "name": "job", "uid": "uid", "resourceVersion": "1",
                "finalizers": [keys::OPERATION_JOB_FINALIZER]
            },
            "spec": {"action": "Scripted", "targets": names, "activeDeadlineSeconds": i32::MAX},
            "status": {"startTime": "2026-01-01T00:00:00Z", "targetDetails": details}
        });
        let stored: Stored = Arc::new(Mutex::new(job));
        let (action, (sender, woken)) = (Arc::new(Scripted::default()), unbounded());
        let controller = controller(&stored, &action, sender);
        let world = Self {
            controller,
            action,
            stored,
            woken,
        };
        world.controller.jobs.wrote(world.job());
        world
    }

    fn job(&self) -> OperationJob {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::from_value(stored.clone()).expect("a job")
    }

    /// A reconcile of what the cache has, and how long it took.
    async fn reconcile(&self) -> (Next, Duration) {
        let reference = ObjectRef::new("job").within("ns");
        let job = self.controller.jobs.store.get(&reference).expect("a job");
        let begin = Instant::now();
        let next = self.controller.reconcile(job).await.expect("no error");
        (next, begin.elapsed())
    }

    fn delete(&self) {
        {
            let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
            stored["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
            written(&mut stored);
        }
        self.controller.jobs.wrote(self.job());
    }

    fn errors(&self) -> BTreeMap<String, String> {
        let details = self.job().status.unwrap_or_default().target_details;
        let error = |detail: operon_api::operation_job::TargetDetail| {
            Some((detail.name, detail.error?.reason))
        };
        details.into_iter().filter_map(error).collect()
    }
}

/// The action as it is loaded first.
fn loaded(performers: &Performers, action: &Arc<Scripted>) -> Loaded {
    Loaded {
        plugin: "scripted".to_owned(),
        action: Arc::clone(action) as Arc<dyn Action>,
        performer: performers
            .performer(("scripted", "sha256:any"), "scripted", Guard::default())
            .expect("a client"),
        watch: PluginWatch::default(),
        version: Version {
            signers: Vec::new(),
            plugin: "uid".to_owned(),
            digest: String::new(),
            settings: "{}".to_owned(),
            limits: None,
            service_account: "scripted".to_owned(),
            lifecycle: false,
            finalizers: Vec::new(),
        },
        restraint: Restraint::default(),
    }
}

fn controller(
    stored: &Stored,
    action: &Arc<Scripted>,
    queue: futures::channel::mpsc::UnboundedSender<ObjectRef<OperationJob>>,
) -> OperationJobs {
    let stored = Arc::clone(stored);
    let service = tower::service_fn(move |request| {
        let stored = Arc::clone(&stored);
        async move { Ok::<_, std::convert::Infallible>(serve(stored, request).await) }
    });
    let client = Client::new(service, "ns");
    let config = Config::new("http://localhost".parse().expect("a URL"));
    let performers = Performers::new(config, client.clone(), "operon-system".to_owned());
    let loaded = loaded(&performers, action);
    let catalogue = Arc::new(Catalogue::new(Timestamp::now()));
    let book = Arc::new(Book::default());
    assert!(catalogue.publish("Scripted", loaded, || true));
    let metrics = Metrics::register(&mut Registry::default());
    let health = Health::new(metrics.clone());
    let existing = Arc::new(ExistingJobs::default());
    let listener = Arc::clone(&existing);
    let on_job = move |job: &OperationJob, jobs: &_| {
        listener.changed(job, jobs);
    };
    let pods = Cache::of(Api::all(client.clone())).start(|_, _| {}, &health);
    OperationJobs {
        served_fields: ServedFields::any(),
        starts: Starts::default(),
        existing,
        pod_writer: PodWriter {
            pods: pods.clone(),
            performer: None,
        },
        jobs: Cache::of(Api::all(client.clone())).start(on_job, &health),
        unready_nodes: Arc::default(),
        pods,
        triggers: Arc::new(Triggers::new(
            queue,
            Arc::clone(&catalogue),
            Arc::clone(&book),
        )),
        catalogue,
        book,
        events: Events::new(&client, None),
        action_events: ActionEvents::new(&client, None, metrics.clone()),
        effects: Shares::new(EFFECTS_AT_ONCE),
        status: StatusWriter::default(),
        metrics,
        clock: Arc::new(Timestamp::now),
        client,
    }
}

fn names(what: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{what}-{number}"))
        .collect()
}

#[tokio::test]
async fn a_reconcile_ends_and_a_deleted_job_is_released_though_no_call_ever_ends() {
    let world = World::new(&names("endless", 50));
    let (_, first) = world.reconcile().await;
    assert!(first < PATIENCE * 2, "{first:?}");
    let (next, second) = world.reconcile().await;
    assert!(second < PATIENCE / 2, "{second:?}");
    let soon = next.requeue_after.filter(|after| *after < PATIENCE * 100);
    assert_eq!(
        (soon, next.retry),
        (None, false),
        "the end of a call wakes the job"
    );
    world.delete();
    let begin = Instant::now();
    while !world.job().finalizers().is_empty() {
        world.reconcile().await;
        tokio::task::yield_now().await;
        assert!(begin.elapsed() < PATIENCE * 5, "{:?}", world.errors());
    }
    assert!(world.errors().values().all(|reason| reason == "Canceled"));
    world.controller.book.stop().await;
}

#[tokio::test]
async fn a_call_that_takes_longer_than_a_reconcile_is_not_lost_and_not_repeated() {
    let mut world = World::new(&names("slow", 1));
    world.reconcile().await;
    assert_eq!(world.job().status.and_then(|s| s.succeeded_pod_count), None);
    world.woken.next().await.expect("its end wakes the job");
    // The status was written a moment ago, so the next write may have to wait.
    while world
        .job()
        .status
        .and_then(|s| s.succeeded_pod_count)
        .is_none()
    {
        world.reconcile().await;
        assert_eq!(world.action.calls("slow-0"), 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_wait_for_a_slow_call_of_the_same_reconcile() {
    let world = World::new(&["broken-0".to_owned(), "slow-0".to_owned()]);
    let (_, took) = world.reconcile().await;
    assert!(took < PATIENCE, "{took:?}");
    let reason = BTreeMap::from([("broken-0".to_owned(), "Broken".to_owned())]);
    assert_eq!(world.errors(), reason);
    assert_eq!(world.action.calls("slow-0"), 1);
}

#[tokio::test]
async fn a_target_that_backs_off_is_not_called_because_of_its_neighbours() {
    let world = World::new(&["broken-0".to_owned(), "fine-0".to_owned()]);
    let (next, _) = world.reconcile().await;
    assert!(!next.retry && next.requeue_after.is_some(), "{next:?}");
    for calls in 2..5 {
        let pod = json!({"metadata": {
            "namespace": "ns", "name": "fine-0", "uid": "fine-0", "resourceVersion": calls.to_string(),
            "labels": {"calls": calls.to_string()},
        }});
        let pod = serde_json::from_value(pod).expect("a pod");
        world.controller.pods.wrote(pod);
        world.reconcile().await;
        assert_eq!(world.action.calls("fine-0"), calls);
        assert_eq!(world.action.calls("broken-0"), 1);
    }
    let told = BTreeMap::from([("broken-0".to_owned(), "Broken".to_owned())]);
    assert_eq!(world.errors(), told);
}

#[tokio::test]
async fn of_targets_that_are_slow_and_fine_the_fine_ones_are_all_called() {
    let targets = [names("endless", 8), names("fine", 40)].concat();
    let world = World::new(&targets);
    world.reconcile().await;
    for name in names("fine", 40) {
        assert_eq!(world.action.calls(&name), 1, "{name}");
    }
}

#[tokio::test]
async fn a_status_that_the_cache_does_not_know_yet_is_not_taken_back() {
    let world = World::new(&names("fine", 1));
    {
        let mut stored = world.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored["status"]["targetDetails"][0]["progress"] = json!("Failed");
        written(&mut stored);
    }
    let reference = ObjectRef::new("job").within("ns");
    let stale = world.controller.jobs.store.get(&reference);
    let next = world.controller.reconcile(stale.expect("a job")).await;
    let next = next.expect("a conflict is no failure");
    let soon = next
        .requeue_after
        .is_some_and(|after| after <= Duration::from_secs(1));
    assert!(soon && !next.retry, "it is decided again: {next:?}");
    let status = world.job().status.unwrap_or_default();
    let progress = status.target_details.first().map(|d| d.progress);
    assert_eq!(progress, Some(operon_api::operation_job::Progress::Failed));
}

#[tokio::test]
async fn a_target_that_waits_is_called_again_for_another_version_of_the_action() {
    type Change = fn(&mut Loaded);
    let changes: [(&str, Change); 3] = [
        ("component", |loaded| {
            "2".clone_into(&mut loaded.version.digest);
        }),
        ("settings", |loaded| {
            r#"{"a":1}"#.clone_into(&mut loaded.version.settings);
        }),
        ("absent kind", |loaded| {
            let kind = ("example.com/v1".to_owned(), "Gadget".to_owned());
            loaded.watch.declared.absent.insert(kind);
        }),
    ];
    let world = World::new(&names("fine", 1));
    let config = Config::new("http://localhost".parse().expect("a URL"));
    let client = world.controller.client.clone();
    let performers = Performers::new(config, client, "operon-system".to_owned());
    let mut calls = 0;
    let mut settled = async |what: &str| {
        for _ in 0..3 {
            world.reconcile().await;
        }
        calls += 1;
        assert_eq!(world.action.calls("fine-0"), calls, "{what}");
    };
    settled("nothing").await;
    for (what, change) in changes {
        let mut next = loaded(&performers, &world.action);
        change(&mut next);
        let catalogue = &world.controller.catalogue;
        assert!(catalogue.publish("Scripted", next, || true));
        settled(what).await;
    }
}

#[tokio::test]
async fn a_target_that_waits_is_called_again_when_its_last_failure_is_another_one() {
    let world = World::new(&names("fine", 1));
    for _ in 0..3 {
        world.reconcile().await;
    }
    assert_eq!(world.action.calls("fine-0"), 1);
    {
        let mut stored = world.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let error = json!({"reason": "Forbidden", "message": "no"});
        stored["status"]["targetDetails"][0]["error"] = error;
        written(&mut stored);
    }
    world.controller.jobs.wrote(world.job());
    world.reconcile().await;
    assert_eq!(world.action.calls("fine-0"), 2);
}

#[tokio::test]
async fn a_check_of_parameters_that_takes_long_does_not_hold_the_reconcile() {
    let world = World::new(&names("fine", 1));
    {
        let mut stored = world.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored["spec"]["parameters"] = json!({"check": "endless"});
        stored["status"] = json!({});
        written(&mut stored);
    }
    world.controller.jobs.wrote(world.job());
    let (next, took) = world.reconcile().await;
    assert!(took < PATIENCE * 2, "{took:?}");
    assert!(
        next.requeue_after.is_some(),
        "it is checked again: {next:?}"
    );
    let reason = BTreeMap::from([("fine-0".to_owned(), "ParametersCheckFailed".to_owned())]);
    assert_eq!(world.errors(), reason);
    assert_eq!(world.action.calls("fine-0"), 0);
}
