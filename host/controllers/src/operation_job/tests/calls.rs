//! What a job costs: how often the action is called about each target, and why. The shipped Replace behind the shipped
//! controller, on the pods of one Deployment, of which one new pod becomes Ready each second: so every target waits
//! for most of the job while its siblings change all the time.

use std::sync::atomic::AtomicUsize;

use operon_action_replace::Replace;
use operon_api::operation_job::Progress;

use super::{
    native::Native,
    process::{Acting, Plugin, Process},
    promises,
    workload::{self, Workload, is_live, is_ready, set_pod_state},
    *,
};
use crate::simulation::{
    Promises, Server, World, Write, name_of,
    plurals::{OPERATION_JOBS as JOBS, PODS, REPLICA_SETS},
};

/// How often everybody takes a turn.
const TURN: Duration = Duration::from_millis(50);

/// Nothing is promised here: the simulations check that.
struct Anything;

impl Promises for Anything {
    fn write(&mut self, _: &Write<'_>) {}

    fn broken(&self) -> &[String] {
        &[]
    }
}

/// A Deployment of which all pods are replaced.
struct Scene {
    world: World<Process>,
    workload: Workload,
    /// For how many turns the oldest pod that is not Ready has been so.
    waited: usize,
}

impl Scene {
    fn new(replicas: u32) -> Self {
        let settings = "{}".to_owned();
        let acting = Acting {
            name: "Replace",
            action: Arc::new(Native::<Replace>::new(&settings)),
            settings,
        };
        let start = Box::new(move |server: Arc<Server>, passes: Arc<AtomicUsize>| {
            let acting = acting.clone();
            Box::pin(async move {
                let process = Process::start(Arc::clone(&server), passes, acting).await;
                process.report(Plugin::Loaded, server.now()).await;
                process
            }) as _
        });
        let mut workload = None;
        let world = World::new(Anything, start, |state, now| {
            let long_ago = now - Duration::from_mins(1);
            workload = Some(Workload::new(replicas, &mut state.objects, long_ago));
            let pods = state.objects.all(PODS);
            let targets: Vec<_> = pods
                .iter()
                .map(|pod| json!({"name": name_of(pod)}))
                .collect();
            let job = json!({
                "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
                "metadata": {"name": "job"},
                "spec": {"action": "Replace", "targets": targets},
            });
            state.objects.create(JOBS, job, now);
        });
        Self {
            world,
            workload: workload.expect("the cluster was filled"),
            waited: 0,
        }
    }

    /// The ReplicaSet controller, the scheduler and the kubelet take their turns.
    fn turn(&mut self) {
        self.world.pass(TURN);
        let (workload, waited) = (&mut self.workload, &mut self.waited);
        self.world.change(|state, now| {
            workload.reconcile(&mut state.objects, now);
            state.objects.remove_deleted_pods();
            let pods = state.objects.all(PODS);
            let live: Vec<_> = pods.into_iter().filter(is_live).collect();
            for pod in live.iter().filter(|pod| pod["spec"]["nodeName"].is_null()) {
                set_pod_state(&mut state.objects, pod.clone(), "Pending", false, now);
            }
            let ready = live.iter().filter(|pod| is_ready(pod)).count();
            let found = state.objects.get(REPLICA_SETS, workload::NAME).cloned();
            let mut replica_set = found.expect("a ReplicaSet");
            replica_set["status"] = json!({"replicas": live.len(), "readyReplicas": ready});
            state.objects.set(REPLICA_SETS, replica_set);
            let mut unready: Vec<_> = live.into_iter().filter(|pod| !is_ready(pod)).collect();
            let age = |pod: &Value| pod["metadata"]["creationTimestamp"].to_string();
            unready.sort_by_key(age);
            *waited = if unready.is_empty() { 0 } else { *waited + 1 };
            if *waited >= 20 {
                *waited = 0;
                set_pod_state(&mut state.objects, unready.remove(0), "Running", true, now);
            }
        });
    }

    /// Takes turns until the job ends; returns the calls by cause.
    fn run(mut self) -> BTreeMap<String, usize> {
        let is_over = |scene: &Self| {
            let jobs = scene.world.server.state().objects.all(JOBS);
            let job = jobs.first().map(promises::job).expect("the job");
            promises::progress(&job).is_some_and(Progress::is_finished)
        };
        for _ in 0..20_000 {
            if is_over(&self) {
                break;
            }
            self.turn();
        }
        let jobs = self.world.server.state().objects.all(JOBS);
        let job = jobs.first().map(promises::job).expect("the job");
        assert_eq!(
            promises::progress(&job),
            Some(Progress::Succeeded),
            "{job:#?}"
        );
        let mut calls = BTreeMap::new();
        self.world
            .in_process(async |process, _| calls = process.calls());
        calls
    }
}

#[test]
fn the_calls_about_a_target_do_not_grow_with_its_siblings() {
    for replicas in [4, 32] {
        let calls = Scene::new(replicas).run();
        let total: usize = calls.values().sum();
        let per_target = |calls: usize| {
            f64::from(u32::try_from(calls).unwrap_or(u32::MAX)) / f64::from(replicas)
        };
        let by_cause: BTreeMap<_, _> = calls
            .iter()
            .map(|(cause, calls)| (cause, per_target(*calls)))
            .collect();
        let all = per_target(total);
        println!("{replicas} targets: {all:.1} calls each: {by_cause:.1?}");
        assert!(
            all <= 16.0,
            "{replicas} targets: {all:.1} calls each: {by_cause:.1?}"
        );
    }
}
