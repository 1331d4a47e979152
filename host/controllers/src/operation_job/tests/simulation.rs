//! Whatever happens, in whatever order: what is promised holds.
//!
//! A schedule is a seed: jobs and pods that come, go and change, an action that fails, is slow, comes and
//! goes, requests that fail, take long or have no answer, watches that lag or are refused, and processes
//! that die at a write or hand over. A process is the shipped controller, with its queue, caches and
//! triggers, in a runtime of its own whose time is paused: no schedule waits, and dropping the runtime is
//! the death. `cargo xtask simulate` runs many schedules; the test runs a bounded number.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kube::core::ApiResource;
use operon_api::{ActionPlugin, action_plugin::ActionPluginSpec};

use super::{
    chance::Chance,
    moody::Moody,
    promises,
    server::{Coverage, JOBS, PODS, Server, State},
    *,
};
use crate::{effects::Performer, fault::Faults, run};

/// How many things happen in one schedule.
const HAPPENINGS: usize = 60;

/// How long everything may take once nothing goes wrong any more: deadlines, backoffs and releases.
const END: Duration = Duration::from_mins(30);

/// No job has a longer TTL.
const LONGEST_TTL: Duration = Duration::from_hours(2);

/// What is known of the ActionPlugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    Gone,
    NotLoaded,
    Loaded,
}

/// The shipped controller, and how often it reconciled.
struct Counted(OperationJobs, Arc<AtomicUsize>);

impl Reconciler for Counted {
    type Object = OperationJob;
    const NAME: &'static str = OperationJobs::NAME;
    const STATUS_MANAGER: Option<&'static str> = OperationJobs::STATUS_MANAGER;

    async fn reconcile(&self, job: Arc<OperationJob>) -> Result<Next, Error> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.reconcile(job).await
    }
}

/// A process that leads.
struct Process {
    catalogue: Arc<Catalogue>,
    triggers: Arc<Triggers>,
    client: Client,
    action: Arc<Moody>,
}

impl Process {
    /// The process as `operon` wires it; called in its runtime.
    async fn start(server: &Arc<Server>, action: &Arc<Moody>, passes: &Arc<AtomicUsize>) -> Self {
        server.process_begins();
        let api = Arc::clone(server);
        let service = tower::service_fn(move |request| {
            let api = Arc::clone(&api);
            async move { api.serve(request).await }
        });
        let client = Client::new(service, "ns");
        let (queue, queued) = unbounded();
        let catalogue = Arc::new(Catalogue::new(server.now()));
        let book = Arc::new(Book::default());
        let triggers = Arc::new(Triggers::new(
            queue,
            Arc::clone(&catalogue),
            Arc::clone(&book),
        ));
        let metrics = Metrics::register(&mut Registry::default());
        let health = Health::new(metrics.clone());
        let (config, listener) = (watcher::Config::default(), Arc::clone(&triggers));
        let on_pod = move |pod: &Pod, pods: &_| listener.pod_changed(pod, pods);
        let all = Api::all(client.clone());
        let pods = Cache::start(all, config.clone(), (), Arc::new(on_pod), &health);
        let (listener, targets) = (Arc::clone(&triggers), pods.store.clone());
        let existing = Arc::new(ExistingJobs::default());
        let exist = Arc::clone(&existing);
        let on_job = move |job: &_, jobs: &_| {
            exist.changed(job, jobs);
            listener.job_changed(job, jobs, &targets);
        };
        let all = Api::all(client.clone());
        let jobs = Cache::start(all, config.clone(), (), Arc::new(on_job), &health);
        let all = Api::all(client.clone());
        let nodes = Cache::start(all, config, (), Arc::new(|_, _| {}), &health);
        pods.ready().await;
        jobs.ready().await;
        let events = Events::new(&client, None);
        let clock = Arc::clone(server);
        let controller = OperationJobs {
            client: client.clone(),
            jobs: jobs.clone(),
            existing,
            pods,
            nodes,
            catalogue: Arc::clone(&catalogue),
            book,
            triggers: Arc::clone(&triggers),
            events: events.clone(),
            status: StatusWriter::default(),
            metrics,
            clock: Arc::new(move || clock.now()),
        };
        let reconciler = Arc::new(Counted(controller, Arc::clone(passes)));
        let faults = Faults {
            client: client.clone(),
            events,
        };
        tokio::spawn(run::run(reconciler, jobs.store, queued, health, faults));
        Self {
            catalogue,
            triggers,
            client,
            action: Arc::clone(action),
        }
    }

    /// The watch of ActionPlugins reports this.
    fn report(&self, plugin: Plugin, now: Timestamp) {
        let spec = ActionPluginSpec {
            action: "Moody".to_owned(),
            ..ActionPluginSpec::default()
        };
        match plugin {
            Plugin::Gone => {
                self.catalogue.settle(Vec::new, now);
            }
            Plugin::NotLoaded => {
                self.catalogue.revoke("moody");
                let there = || vec![Arc::new(ActionPlugin::new("moody", spec))];
                self.catalogue.settle(there, now);
            }
            Plugin::Loaded => {
                let loaded = loaded(&self.client, &self.action);
                self.catalogue.publish("Moody", loaded, || true);
            }
        }
        self.triggers.action_changed("Moody");
    }
}

fn loaded(client: &Client, action: &Arc<Moody>) -> Loaded {
    let pods = [ApiResource::erase::<Pod>(&())];
    Loaded {
        plugin: "moody".to_owned(),
        action: Arc::clone(action) as Arc<dyn Action>,
        performer: Performer::of_host(client.clone(), "operon-action-moody", pods),
        watch: PluginWatch::default(),
        version: Version {
            plugin: "uid".to_owned(),
            digest: String::new(),
            settings: "{}".to_owned(),
            limits: None,
            service_account: "moody".to_owned(),
            lifecycle: false,
        },
    }
}

/// A cluster, and the process that leads.
struct Cluster {
    server: Arc<Server>,
    action: Arc<Moody>,
    plugin: Plugin,
    passes: Arc<AtomicUsize>,
    running: Option<(tokio::runtime::Runtime, Process)>,
    jobs: usize,
}

impl Cluster {
    fn new(chance: &mut Chance) -> Self {
        let mut world = Self {
            server: Arc::new(Server::new()),
            action: Arc::new(Moody::new(Chance::new(chance.next()))),
            plugin: Plugin::Loaded,
            passes: Arc::default(),
            running: None,
            jobs: 0,
        };
        for name in [
            "mark-a", "mark-b", "mark-c", "evict-a", "evict-b", "evict-c",
        ] {
            world.create_pod(name);
        }
        if chance.once_in(2) {
            world.server.state().faults = Some(Chance::new(chance.next()));
        }
        world.lead();
        world
    }

    /// A process begins to lead.
    fn lead(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        self.server.state().is_watch_down = false;
        let process = runtime.block_on(async {
            let process = Process::start(&self.server, &self.action, &self.passes).await;
            process.report(self.plugin, self.server.now());
            process
        });
        self.running = Some((runtime, process));
    }

    /// The process that leads ends, wherever it is; another one begins after this time.
    fn hand_over(&mut self, away: Duration) {
        if let Some((runtime, _)) = self.running.take() {
            {
                let _context = runtime.enter();
                self.server.process_ends(away);
            }
            drop(runtime);
        }
        self.lead();
    }

    /// Time goes by; a process that dies is followed by another one.
    fn pass(&mut self, time: Duration) {
        let (runtime, _) = self.running.as_ref().expect("a process");
        let lives = runtime.block_on(async {
            tokio::select! {
                () = self.server.died() => false,
                () = tokio::time::sleep(time) => true,
            }
        });
        if !lives {
            self.hand_over(Duration::from_secs(3));
        }
        let broken = self.server.state().writes.broken.clone();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
    }

    /// Changes what there is, as users, nodes and controllers do.
    fn change<T>(&self, change: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let (runtime, _) = self.running.as_ref().expect("a process");
        let _context = runtime.enter();
        let now = self.server.now();
        let changed = change(&mut self.server.state(), now);
        self.server.announce();
        changed
    }

    fn create_pod(&self, name: &str) {
        let mut state = self.server.state();
        if state.get(PODS, name).is_none() {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": [{"name": "main"}]},
            });
            state.create(PODS, pod);
        }
        drop(state);
        self.server.announce();
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
                "activeDeadlineSeconds": chance.pick(&[20, 90, 600]),
                "TTLSecondsAfterFinished": chance.pick(&[-1, 5, 60, 7000]),
            },
        });
        self.change(|state, _| state.create(JOBS, job));
    }

    /// Changes one of the objects of a kind, if there is one.
    fn change_any(
        &self,
        chance: &mut Chance,
        plural: &'static str,
        edit: impl FnOnce(&mut State, Timestamp, Value),
    ) {
        self.change(|state, now| {
            let all = state.all(plural);
            if !all.is_empty() {
                let object = chance.pick(&all);
                edit(state, now, object);
            }
        });
    }

    fn set_plugin(&mut self, plugin: Plugin) {
        self.plugin = plugin;
        let (runtime, process) = self.running.as_ref().expect("a process");
        let _context = runtime.enter();
        process.report(plugin, self.server.now());
    }

    fn happen(&mut self, chance: &mut Chance) {
        match chance.of(30) {
            0..=4 if self.server.state().all(JOBS).len() < 4 => self.create_job(chance),
            5 => self.change_any(chance, JOBS, |state, now, job| {
                state.delete(JOBS, name_of(&job), now);
            }),
            6 | 7 => self.change_any(chance, JOBS, raise_partition),
            8..=10 => self.change_any(chance, PODS, |state, _, mut pod| {
                pod["metadata"]["annotations"]["done"] = json!("yes");
                state.set(PODS, pod);
            }),
            11 => self.change_any(chance, PODS, |state, now, pod| {
                state.delete(PODS, name_of(&pod), now);
            }),
            12 => self.change(|state, _| state.remove_deleted_pods()),
            13 | 14 => {
                let name = chance.pick(&["mark-a", "mark-b", "mark-c", "evict-a", "evict-b"]);
                self.create_pod(name);
            }
            15 => self.set_plugin(chance.pick(&[Plugin::Gone, Plugin::NotLoaded])),
            16 | 17 => self.set_plugin(Plugin::Loaded),
            18 => self.change(|state, _| state.is_watch_down = !state.is_watch_down),
            19 => self.change(|state, _| state.lag()),
            20 | 23..=25 => self.server.catch_up(),
            21 => {
                let seconds = chance.pick(&[0, 3, 90]);
                self.hand_over(Duration::from_secs(seconds));
            }
            22 => {
                let faults = (!chance.once_in(3)).then(|| Chance::new(chance.next()));
                self.server.state().faults = faults;
            }
            _ => {
                let writes = chance.of(5);
                self.server.state().dies_after = Some(writes);
            }
        }
        let time = chance.pick(&[0, 10, 300, 1100, 2500, 15_000, 40_000]);
        self.pass(Duration::from_millis(time));
    }

    /// From now on nothing goes wrong: what must come to an end does, and then nothing happens any more.
    fn assert_ends(mut self) {
        self.server.state().faults = None;
        self.server.state().dies_after = None;
        self.server.state().is_watch_down = false;
        self.server.catch_up();
        self.action.is_calm.store(true, Ordering::Relaxed);
        self.set_plugin(Plugin::Loaded);
        let pods = self.server.state().all(PODS);
        for object in pods {
            self.change(|state, _| {
                let mut object = object;
                object["metadata"]["annotations"]["done"] = json!("yes");
                state.set(PODS, object);
            });
        }
        let jobs = self.server.state().all(JOBS);
        for mut job in jobs {
            job["spec"]["partition"] = Value::Null;
            job["metadata"]["generation"] = json!(1000);
            self.change(|state, _| state.set(JOBS, job));
        }
        for _ in 0..10 {
            self.pass(END / 10);
            self.change(|state, _| state.remove_deleted_pods());
        }
        let jobs = self.server.state().all_jobs();
        for job in jobs {
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
        self.pass(LONGEST_TTL);
        let jobs = self.server.state().all_jobs();
        for job in jobs {
            let ttl = job.spec.ttl_seconds_after_finished;
            assert_eq!(ttl, Some(-1), "a job that finished goes after its TTL");
        }
        let (writes, passes) = (self.writes(), self.passes.load(Ordering::Relaxed));
        self.pass(LONGEST_TTL);
        assert_eq!(self.writes(), writes, "a settled world causes no write");
        let more = self.passes.load(Ordering::Relaxed);
        assert_eq!(more, passes, "nor a reconcile");
    }

    fn writes(&self) -> usize {
        self.server.state().coverage.writes
    }
}

fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
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
    state.set(JOBS, job);
}

fn schedule(seed: u64, coverage: &mut Coverage, reconciles: &mut usize) {
    let chance = &mut Chance::new(seed);
    let mut world = Cluster::new(chance);
    for _ in 0..HAPPENINGS {
        world.happen(chance);
    }
    let (server, passes) = (Arc::clone(&world.server), Arc::clone(&world.passes));
    world.assert_ends();
    *reconciles += passes.load(Ordering::Relaxed);
    coverage.add(&server.state().coverage);
}

/// A run is the same each time, but for the order in which maps give their keys.
#[test]
fn operation_job() {
    let number = |name: &str, default: u64| {
        let value = std::env::var(name).ok();
        value.map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("OPERON_SIMULATE_FIRST", 0);
    let seeds = number("OPERON_SIMULATE_SEEDS", 40);
    let (mut coverage, mut reconciles) = (Coverage::default(), 0);
    for seed in first..first + seeds {
        let schedule = AssertUnwindSafe(|| schedule(seed, &mut coverage, &mut reconciles));
        if let Err(panic) = catch_unwind(schedule) {
            eprintln!(
                "seed {seed} fails: cargo xtask simulate --kind operationjob --first {seed} --seeds 1"
            );
            std::panic::resume_unwind(panic);
        }
    }
    let Coverage {
        schedules,
        writes,
        deaths,
        failures,
        lost_answers,
        effects,
    } = coverage;
    println!(
        "operationjob: {schedules} schedules, {reconciles} reconciles, {writes} write points, \
         {effects} effects, {deaths} deaths, {failures} failed requests, {lost_answers} lost answers"
    );
    let all_happened = [deaths, failures, lost_answers, effects];
    assert!(seeds < 40 || all_happened.iter().all(|count| *count > 0));
}
