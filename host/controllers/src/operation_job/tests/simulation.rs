//! Whatever happens, in whatever order: what is promised of OperationJobs holds.
//!
//! A schedule is a seed: jobs and pods that come, go and change, an action that fails, is slow, comes and
//! goes, requests that fail, take long or have no answer, watches that lag or are refused, and processes
//! that die at a write or hand over.

use super::{
    moody::{Moody, MoodyPromises},
    process::{Acting, Plugin, Process},
    promises, *,
};
use crate::simulation::{
    Chance, Coverage, Server, State, World, name_of,
    plurals::{DEPLOYMENTS, OPERATION_JOBS as JOBS, PODS},
    simulate,
};

/// How many things happen in one schedule.
const HAPPENINGS: usize = 60;

/// How long everything may take once nothing goes wrong any more: deadlines, backoffs and releases.
const END: Duration = Duration::from_mins(30);

/// No job has a longer TTL.
const LONGEST_TTL: Duration = Duration::from_hours(2);

/// A cluster whose jobs have an action that comes and goes.
struct Cluster {
    world: World<Process>,
    action: Arc<Moody>,
    plugin: Arc<Mutex<Plugin>>,
    jobs: usize,
    /// That of all jobs: one without a limit starts targets while another decides.
    max_unavailable: Option<usize>,
}

impl Cluster {
    fn new(chance: &mut Chance) -> Self {
        let action = Arc::new(Moody::new(Chance::new(chance.next())));
        let plugin = Arc::new(Mutex::new(Plugin::Loaded));
        let acting = Acting {
            name: "Moody",
            action: Arc::clone(&action) as Arc<dyn Action>,
            settings: "{}".to_owned(),
        };
        let known = Arc::clone(&plugin);
        let start = Box::new(move |server: Arc<Server>, passes| {
            let (acting, known) = (acting.clone(), Arc::clone(&known));
            Box::pin(async move {
                let process = Process::start(Arc::clone(&server), passes, acting).await;
                let plugin = *known.lock().unwrap_or_else(PoisonError::into_inner);
                process.report(plugin, server.now()).await;
                process
            }) as _
        });
        let faults = chance.once_in(2).then(|| Chance::new(chance.next()));
        let world = World::new(MoodyPromises::new(), start, |state, now| {
            for name in [
                "mark-a", "mark-b", "mark-c", "evict-a", "evict-b", "evict-c",
            ] {
                create_pod(state, name, now);
            }
            let workload = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "set"}, "spec": {"replicas": 3},
            });
            state.objects.create(DEPLOYMENTS, workload, now);
            state.faults = faults;
        });
        Self {
            world,
            action,
            plugin,
            jobs: 0,
            max_unavailable: chance.pick(&[None, Some(1), Some(2)]),
        }
    }

    fn create_job(&mut self, chance: &mut Chance) {
        self.jobs += 1;
        let mut names = vec!["mark-a", "mark-b", "mark-c", "evict-a", "evict-b", "no-pod"];
        let count = 1 + chance.of(4);
        let targets: Vec<_> = (0..count)
            .map(|_| json!({"name": names.remove(chance.of(names.len()))}))
            .collect();
        let job = json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
            "metadata": {"name": format!("job-{}", self.jobs)},
            "spec": {
                "action": chance.pick(&["Moody", "Moody", "Moody", "Unknown"]),
                "targets": targets,
                "partition": chance.pick(&[Value::Null, json!(0), json!(1), json!(2)]),
                "maxUnavailable": self.max_unavailable,
                "activeDeadlineSeconds": chance.pick(&[20, 90, 600]),
                "TTLSecondsAfterFinished": chance.pick(&[-1, 5, 60, 7000]),
            },
        });
        self.world
            .change(|state, now| state.objects.create(JOBS, job, now));
    }

    fn set_plugin(&mut self, plugin: Plugin) {
        *self.plugin.lock().unwrap_or_else(PoisonError::into_inner) = plugin;
        self.world
            .in_process(async |process, now| process.report(plugin, now).await);
    }

    fn happen(&mut self, chance: &mut Chance) {
        match chance.of(30) {
            0..=4 if self.world.server.state().objects.all(JOBS).len() < 4 => {
                self.create_job(chance);
            }
            5 => self.world.change_any(chance, JOBS, |state, now, job| {
                state.objects.delete(JOBS, name_of(&job), now);
            }),
            6 | 7 => self.world.change_any(chance, JOBS, raise_partition),
            8..=10 => self.world.change_any(chance, PODS, |state, _, mut pod| {
                pod["metadata"]["annotations"]["done"] = json!("yes");
                state.objects.set(PODS, pod);
            }),
            11 => self.world.change_any(chance, PODS, |state, now, pod| {
                state.objects.delete(PODS, name_of(&pod), now);
            }),
            12 => self
                .world
                .change(|state, _| state.objects.remove_deleted_pods()),
            13 | 14 => {
                let name = chance.pick(&["mark-a", "mark-b", "mark-c", "evict-a", "evict-b"]);
                self.world.change(|state, now| create_pod(state, name, now));
            }
            15 => self.set_plugin(chance.pick(&[Plugin::Gone, Plugin::NotLoaded])),
            16 | 17 => self.set_plugin(Plugin::Loaded),
            _ => self.world.disturb(chance),
        }
        let time = chance.pick(&[0, 10, 300, 1100, 2500, 15_000, 40_000]);
        self.world.pass(Duration::from_millis(time));
    }

    /// From now on nothing goes wrong: what must come to an end does, and then nothing happens any more.
    fn assert_ends(&mut self) {
        self.world.calm();
        self.action.is_calm.store(true, Ordering::Relaxed);
        self.set_plugin(Plugin::Loaded);
        self.world.change(|state, _| {
            // Nothing creates pods again.
            let workload = state.objects.get(DEPLOYMENTS, "set");
            let mut workload = workload.expect("a Deployment").clone();
            workload["spec"]["replicas"] = json!(0);
            state.objects.set(DEPLOYMENTS, workload);
        });
        let pods = self.world.server.state().objects.all(PODS);
        for object in pods {
            self.world.change(|state, _| {
                let mut object = object;
                object["metadata"]["annotations"]["done"] = json!("yes");
                state.objects.set(PODS, object);
            });
        }
        let jobs = self.world.server.state().objects.all(JOBS);
        for mut job in jobs {
            job["spec"]["partition"] = Value::Null;
            job["metadata"]["generation"] = json!(1000);
            self.world.change(|state, _| state.objects.set(JOBS, job));
        }
        for _ in 0..10 {
            self.world.pass(END / 10);
            self.world
                .change(|state, _| state.objects.remove_deleted_pods());
        }
        let jobs = self.world.server.state().objects.all(JOBS);
        for job in jobs.iter().map(promises::job) {
            assert!(
                job.metadata.deletion_timestamp.is_none(),
                "a deleted job goes: {job:#?}"
            );
            let is_over = promises::progress(&job)
                .is_some_and(operon_api::operation_job::Progress::is_finished);
            assert!(is_over, "a job finishes: {job:#?}");
            let status = job.status.clone().unwrap_or_default();
            assert_eq!(status.observed_generation, job.metadata.generation);
        }
        self.world.pass(LONGEST_TTL);
        let jobs = self.world.server.state().objects.all(JOBS);
        for job in jobs.iter().map(promises::job) {
            let ttl = job.spec.ttl_seconds_after_finished;
            assert_eq!(ttl, Some(-1), "a job that finished goes after its TTL");
        }
        self.world.assert_rests(LONGEST_TTL);
    }
}

fn create_pod(state: &mut State, name: &str, now: Timestamp) {
    if state.objects.get(PODS, name).is_none() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "set", "uid": "set", "controller": true,
            }]},
            "spec": {"containers": [{"name": "main"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        state.objects.create(PODS, pod, now);
    }
}

/// A partition may only grow, or be removed.
fn raise_partition(state: &mut State, _: Timestamp, mut job: Value) {
    let Some(partition) = job["spec"]["partition"].as_i64() else {
        return;
    };
    job["spec"]["partition"] = if partition > 2 {
        Value::Null
    } else {
        json!(partition + 1)
    };
    let generation = job["metadata"]["generation"].as_i64().unwrap_or_default();
    job["metadata"]["generation"] = json!(generation + 1);
    state.objects.set(JOBS, job);
}

fn schedule(seed: u64) -> Coverage {
    let chance = &mut Chance::new(seed);
    let mut cluster = Cluster::new(chance);
    for _ in 0..HAPPENINGS {
        cluster.happen(chance);
    }
    cluster.assert_ends();
    cluster.world.coverage()
}

#[test]
fn operation_job() {
    simulate("operationjob", 40, schedule);
}
