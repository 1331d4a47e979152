//! Jobs that start targets of one workload at the same time.

use k8s_openapi::api::core::v1::Pod;
use operon_core::operation_job::availability::Surroundings;

use super::*;

fn job(name: &str, target: &str) -> OperationJob {
    let job = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name},
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

/// How many targets a job starts in one reconcile.
fn start(controller: &OperationJobs, job: &OperationJob) -> usize {
    let all = [pod("db-0"), pod("db-1")];
    let pods = all.clone().map(|pod| (pod.name_any(), pod)).into();
    let observed = Observed {
        job,
        pods: &pods,
        unready_nodes: &HashMap::new(),
        action: &ActionState::Loaded,
        lacking: None,
        lifecycle: Lifecycle::default(),
        parameters: &Parameters::Accepted,
        blocked: Duration::ZERO,
        now: Timestamp::now(),
    };
    let surroundings = Surroundings {
        pods: all.into(),
        ..Surroundings::default()
    };
    let plan = controller.plan(&observed, Some(Ok(surroundings)));
    let Plan::Run(run) = plan else {
        unreachable!("the job does not expire");
    };
    run.starting().count()
}

#[tokio::test]
async fn two_jobs_share_what_may_be_unavailable() {
    let world = World::new(&[]);
    let controller = &world.controller;
    let (a, b) = (job("a", "db-0"), job("b", "db-1"));
    assert_eq!(start(controller, &a), 1);
    assert_eq!(
        start(controller, &b),
        0,
        "the other job is about to start one"
    );
    assert_eq!(start(controller, &a), 1, "its status was not written");
    assert_eq!(start(controller, &b), 0);
    controller.starts.forget("a");
    assert_eq!(start(controller, &b), 1, "the other job did not start it");
    controller.starts.forget("b");

    let mut started = a;
    let status =
        json!({"targetDetails": [{"name": "db-0", "progress": "Processing", "podUID": "db-0"}]});
    started.status = serde_json::from_value(status).expect("a status");
    controller.jobs.wrote(started);
    assert_eq!(start(controller, &b), 0, "the other job has started one");
}
