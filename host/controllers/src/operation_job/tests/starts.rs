//! Jobs that start targets of one workload at the same time.

use k8s_openapi::api::core::v1::Pod;
use operon_core::operation_job::{
    availability::{Availability, Inventory, Size, workload},
    plan::TargetPlans,
};

use super::*;

fn job(name: &str, target: &str) -> OperationJob {
    let job = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"action": "Scripted", "targets": [{"name": target}], "maxUnavailable": 1},
    });
    serde_json::from_value(job).expect("a job")
}

fn pod(name: &str) -> Arc<Pod> {
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "db", "controller": true,
    });
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "ownerReferences": [owner]},
        "status": {"phase": "Running", "conditions": ready},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// The plan of a job, of which the workload can spare one pod.
fn decide(controller: &OperationJobs, job: &OperationJob) -> TargetPlans {
    let all = [pod("db-0"), pod("db-1")];
    let pods: HashMap<_, _> = all.clone().map(|pod| (pod.name_any(), pod)).into();
    let observed = Observed {
        job,
        pods: &pods,
        unready_nodes: &HashMap::new(),
        action: &ActionState::Loaded,
        suspended: None,
        lacking: None,
        lifecycle: Lifecycle::default(),
        parameters: &Parameters::Accepted,
        blocked: Duration::ZERO,
        now: Timestamp::now(),
    };
    let size = Size {
        pods: 2,
        min_ready_seconds: 0,
    };
    let db = workload(&all[0]).expect("a controller");
    let inventory = Inventory {
        pods: all.to_vec(),
        sizes: vec![Arc::new([(db, size)].into())],
        ..Inventory::default()
    };
    let availability = Availability::of(job, &all, &inventory, observed.now);
    let Plan::Run(run) = controller.decide(&observed, availability) else {
        unreachable!("the job does not expire");
    };
    run
}

/// How many targets a job starts.
fn started(controller: &OperationJobs, job: &OperationJob) -> usize {
    decide(controller, job).starting().count()
}

#[tokio::test]
async fn two_jobs_share_what_may_be_unavailable() {
    let world = World::new(&[]);
    let controller = &world.controller;
    let (mut a, b) = (job("a", "db-0"), job("b", "db-1"));
    for job in [&a, &b] {
        controller.jobs.wrote(job.clone());
    }
    assert_eq!(started(controller, &a), 1);
    assert_eq!(started(controller, &b), 0, "the other job starts one");
    assert_eq!(started(controller, &a), 1, "its status was not written");
    assert_eq!(started(controller, &b), 0);

    // The status was written without an answer, after the finalizer, which made another version.
    controller.starts.write_on("a", Some(&"2".to_owned()));
    a.metadata.resource_version = Some("2".to_owned());
    a.spec.paused = Some(true);
    assert_eq!(started(controller, &a), 0);
    assert_eq!(
        started(controller, &b),
        0,
        "the other job may have started one"
    );
    // The cache has a later version, which has the status if it was written.
    a.metadata.resource_version = Some("3".to_owned());
    assert_eq!(started(controller, &a), 0);
    assert_eq!(started(controller, &b), 1);
    controller.starts.forget("b");

    a.spec.paused = None;
    assert_eq!(started(controller, &a), 1);
    let status =
        json!({"targetDetails": [{"name": "db-0", "progress": "Processing", "podUID": "db-0"}]});
    a.status = serde_json::from_value(status).expect("a status");
    controller.jobs.wrote(a);
    controller.starts.forget("a");
    assert_eq!(started(controller, &b), 0, "the other job has started one");
}

#[tokio::test]
async fn a_job_that_is_gone_holds_nothing_back() {
    let world = World::new(&[]);
    let controller = &world.controller;
    let (gone, b) = (job("gone", "db-0"), job("b", "db-1"));
    controller.jobs.wrote(b.clone());
    assert_eq!(started(controller, &gone), 1);
    assert_eq!(started(controller, &b), 1);
}
