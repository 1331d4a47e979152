//! Whatever happens, in whatever order: what is promised of Replace holds, with the shipped action behind
//! the shipped controller, on the pods of a Deployment.
//!
//! A schedule is a seed: jobs that come and go, a ReplicaSet controller and a kubelet that take their time,
//! users that delete, scale and label pods, budgets, requests that fail, take long or have no answer,
//! watches that lag or are refused, and processes that die at a write or hand over.

use std::collections::BTreeSet;

use operon_action_replace::{Replace, keys as marks};
use operon_api::operation_job::Progress;

use super::{
    native::Native,
    process::{Acting, Plugin, Process},
    promises,
    replaced::{Lost, ReplacePromises, label, text, told, uid},
    workload::{self, HASH, Workload, any_pod, is_live, is_ready, is_serving, set_pod_state},
    *,
};
use crate::simulation::{
    Chance, Coverage, Objects, Server, World, name_of,
    plurals::{BUDGETS, OPERATION_JOBS as JOBS, PODS, REPLICA_SETS},
    simulate,
};

/// How many things happen in one schedule.
const HAPPENINGS: usize = 60;

/// How often everybody takes a turn once nothing goes wrong any more, and how much time passes each time:
/// enough for deadlines, backoffs and releases.
const TURNS: usize = 120;
const TURN: Duration = Duration::from_secs(15);

/// No job has a longer TTL.
const LONGEST_TTL: Duration = Duration::from_hours(2);

/// A cluster with a Deployment whose pods are replaced.
struct Cluster {
    world: World<Process>,
    workload: Workload,
    lost: Lost,
    jobs: usize,
    /// The pods that were there at the start, by uid.
    originals: BTreeSet<String>,
    /// Whether users changed how many pods the ReplicaSet has to remove.
    is_scaled: bool,
}

impl Cluster {
    fn new(chance: &mut Chance) -> Self {
        let most = 1 + chance.of(3);
        let removal = chance.pick(&["evict", "delete"]);
        let settings = json!({"maxReleased": most, "removal": removal}).to_string();
        let acting = Acting {
            name: "Replace",
            action: Arc::new(Native::<Replace>::new(&settings)),
            settings,
        };
        let start = Box::new(move |server: Arc<Server>, passes| {
            let acting = acting.clone();
            Box::pin(async move {
                let process = Process::start(Arc::clone(&server), passes, acting).await;
                process.report(Plugin::Loaded, server.now()).await;
                process
            }) as _
        });
        let replicas = 1 + u32::try_from(chance.of(3)).unwrap_or(0);
        let faults = chance.once_in(2).then(|| Chance::new(chance.next()));
        let min_ready = 4 * chance.of(2);
        let is_alone = chance.once_in(4);
        let lost = Lost::default();
        let mut made = None;
        let world = World::new(
            ReplacePromises::new(Arc::clone(&lost)),
            start,
            |state, now| {
                let long_ago = now - Duration::from_mins(1);
                let workload = Workload::new(replicas, &mut state.objects, long_ago);
                let found = state.objects.get(REPLICA_SETS, workload::NAME).cloned();
                let mut replica_set = found.expect("a ReplicaSet");
                replica_set["spec"]["minReadySeconds"] = json!(min_ready);
                if is_alone {
                    replica_set["metadata"]["ownerReferences"] = Value::Null;
                }
                state.objects.set(REPLICA_SETS, replica_set);
                state.faults = faults;
                let pods = state.objects.all(PODS);
                let originals = pods.iter().map(|pod| uid(pod).to_owned()).collect();
                made = Some((workload, originals));
            },
        );
        let (workload, originals) = made.expect("the cluster was filled");
        Self {
            world,
            workload,
            lost,
            jobs: 0,
            originals,
            is_scaled: false,
        }
    }

    fn create_job(&mut self, chance: &mut Chance) {
        let mut names = self.pod_names();
        names.push("no-pod".to_owned());
        let count = 1 + chance.of(names.len().min(3));
        let targets = (0..count).map(|_| names.remove(chance.of(names.len())));
        let targets: Vec<_> = targets.collect();
        let partition = chance.pick(&[Value::Null, Value::Null, json!(0), json!(1)]);
        let deadline = chance.pick(&[20, 90, 600]);
        let ttl = chance.pick(&[-1, 5, 7000]);
        self.add_job(&targets, &partition, deadline, ttl);
    }

    fn pod_names(&self) -> Vec<String> {
        let pods = self.world.server.state().objects.all(PODS);
        pods.iter().map(|pod| name_of(pod).to_owned()).collect()
    }

    fn add_job(&mut self, targets: &[String], partition: &Value, deadline: u32, ttl: i32) {
        self.jobs += 1;
        let targets: Vec<_> = targets.iter().map(|name| json!({"name": name})).collect();
        let job = json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "OperationJob",
            "metadata": {"name": format!("job-{}", self.jobs)},
            "spec": {
                "action": "Replace",
                "targets": targets,
                "partition": partition,
                "activeDeadlineSeconds": deadline,
                "TTLSecondsAfterFinished": ttl,
            },
        });
        self.world
            .change(|state, now| state.objects.create(JOBS, job, now));
    }

    /// The ReplicaSet controller takes a turn. What it removes is surplus that a replacement made.
    fn run_replica_set(&mut self) {
        let before = self.world.server.state().objects.all(PODS);
        let workload = &mut self.workload;
        self.world
            .change(|state, now| workload.reconcile(&mut state.objects, now));
        let after = self.world.server.state().objects.all(PODS);
        let is_live_now =
            |pod: &&Value| after.iter().any(|now| uid(now) == uid(pod) && is_live(now));
        for pod in before
            .iter()
            .filter(|pod| is_serving(pod) && !is_live_now(pod))
        {
            self.note_loss(pod);
            assert!(
                self.is_scaled || !self.originals.contains(uid(pod)),
                "without scaling, no old pod is scaled in: {}\n{before:#?}",
                told(pod)
            );
        }
    }

    /// Others take a pod.
    fn note_loss(&self, pod: &Value) {
        if let Some(origin) = label(pod, marks::REPLACES) {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.world.change(|_, now| now);
            lost.insert(origin.to_owned(), now);
        }
    }

    /// Others do something to a pod.
    fn change_pod(
        &mut self,
        chance: &mut Chance,
        ready: bool,
        edit: impl FnOnce(&mut Objects, Timestamp, Value),
    ) {
        let pod = any_pod(&self.world.server.state().objects, chance, ready);
        if let Some(pod) = pod {
            self.note_loss(&pod);
            self.world
                .change(|state, now| edit(&mut state.objects, now, pod));
        }
    }

    fn make_all_ready(&mut self) {
        self.world.change(|state, now| {
            for pod in state.objects.all(PODS) {
                if is_live(&pod) && !is_ready(&pod) {
                    set_pod_state(&mut state.objects, pod, "Running", true, now);
                }
            }
        });
    }

    /// A budget that allows no eviction comes, or goes.
    fn set_budget(&mut self, is_there: bool) {
        self.world.change(|state, now| {
            if !is_there {
                state.objects.delete(BUDGETS, "strict", now);
            } else if state.objects.get(BUDGETS, "strict").is_none() {
                let budget = json!({
                    "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "strict"},
                    "spec": {"selector": {"matchLabels": {"app": workload::NAME}}},
                    "status": {"disruptionsAllowed": 0},
                });
                state.objects.create(BUDGETS, budget, now);
            }
        });
    }

    fn happen(&mut self, chance: &mut Chance) {
        let is_first = chance.once_in(2);
        match chance.of(46) {
            0..=4 if self.world.server.state().objects.all(JOBS).len() < 4 => {
                self.create_job(chance);
            }
            5 => self.world.change_any(chance, JOBS, |state, now, job| {
                state.objects.delete(JOBS, name_of(&job), now);
            }),
            6 => self.world.change_any(chance, JOBS, |state, now, mut job| {
                // Somebody removes the finalizer by force.
                job["metadata"]["finalizers"] = Value::Null;
                state.objects.set(JOBS, job.clone());
                state.objects.delete(JOBS, name_of(&job), now);
            }),
            7..=13 => self.run_replica_set(),
            14..=18 => self.change_pod(chance, false, |objects, now, pod| {
                set_pod_state(objects, pod, "Running", true, now);
            }),
            19 => self.make_all_ready(),
            20..=22 => self
                .world
                .change(|state, _| state.objects.remove_deleted_pods()),
            23 => self.change_pod(chance, true, |objects, now, pod| {
                set_pod_state(objects, pod, "Running", false, now);
            }),
            24 => self.change_pod(chance, is_first, |objects, now, pod| {
                objects.delete(PODS, name_of(&pod), now);
            }),
            25 => self.change_pod(chance, is_first, |objects, now, pod| {
                set_pod_state(objects, pod, "Failed", false, now);
            }),
            26 => {
                self.is_scaled = true;
                let replicas = chance.of(4);
                self.world
                    .change(|state, _| workload::scale(&mut state.objects, replicas));
            }
            27 => {
                self.is_scaled = true;
                self.change_pod(chance, true, |objects, _, mut pod| {
                    pod["metadata"]["labels"][marks::TEMPLATE_HASH] = json!(HASH);
                    objects.set(PODS, pod);
                });
            }
            28 => self.set_budget(is_first),
            29..=31 => self.world.change_any(chance, JOBS, |state, _, mut job| {
                job["spec"]["partition"] = Value::Null;
                state.objects.set(JOBS, job);
            }),
            _ => self.world.disturb(chance),
        }
        let time = chance.pick(&[0, 10, 300, 1100, 2500, 15_000, 40_000]);
        self.world.pass(Duration::from_millis(time));
    }

    /// Everybody takes turns until all has come to an end.
    fn settle(&mut self) {
        for _ in 0..TURNS {
            self.world.pass(TURN);
            self.run_replica_set();
            self.world
                .change(|state, _| state.objects.remove_deleted_pods());
            self.make_all_ready();
        }
        let jobs = self.world.server.state().objects.all(JOBS);
        for job in jobs {
            let job = promises::job(&job);
            assert_eq!(
                job.metadata.deletion_timestamp, None,
                "a deleted job goes: {job:#?}"
            );
            let is_over = promises::progress(&job).is_some_and(Progress::is_finished);
            assert!(is_over, "a job finishes: {job:#?}");
        }
    }

    /// From now on nothing goes wrong: what must come to an end does, nothing is left of any job but of
    /// those whose finalizer was removed by force, and a job that takes over leaves nothing of these either.
    fn assert_ends(&mut self) {
        self.world.calm();
        self.set_budget(false);
        let jobs = self.world.server.state().objects.all(JOBS);
        for mut job in jobs {
            job["spec"]["partition"] = Value::Null;
            self.world.change(|state, _| state.objects.set(JOBS, job));
        }
        self.settle();
        let jobs = self.world.server.state().objects.all(JOBS);
        let pods = self.world.server.state().objects.all(PODS);
        let left: Vec<_> = pods
            .iter()
            .filter(|pod| label(pod, marks::JOB).is_some())
            .collect();
        for pod in &left {
            let is_there = jobs
                .iter()
                .any(|job| label(pod, marks::JOB) == Some(uid(job)));
            assert!(
                !is_there,
                "a job that has ended leaves no mark: {}",
                told(pod)
            );
        }
        let names: Vec<_> = left.iter().map(|pod| name_of(pod).to_owned()).collect();
        if !names.is_empty() {
            self.add_job(&names, &Value::Null, 600, -1);
            self.settle();
        }
        self.assert_clean();
        self.world.pass(LONGEST_TTL);
        self.world.assert_rests(LONGEST_TTL);
    }

    /// The ReplicaSet has its pods, each its own, and nothing of ours is left on them.
    fn assert_clean(&self) {
        let state = self.world.server.state();
        let pods = state.objects.all(PODS);
        let live: Vec<_> = pods.iter().filter(|pod| is_live(pod)).collect();
        let replica_set = state
            .objects
            .get(REPLICA_SETS, workload::NAME)
            .expect("a ReplicaSet");
        assert_eq!(
            json!(live.len()),
            replica_set["spec"]["replicas"],
            "{pods:#?}"
        );
        for pod in live {
            let controllers: Vec<_> = pod["metadata"]["ownerReferences"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|owner| owner["uid"].as_str())
                .collect();
            assert_eq!(controllers, [Some(uid(replica_set))], "{}", told(pod));
            assert_eq!(
                label(pod, marks::TEMPLATE_HASH),
                Some(HASH),
                "{}",
                told(pod)
            );
            let marked = [marks::RELEASED_FROM, marks::JOB].map(|key| label(pod, key));
            let noted =
                [marks::ORIGIN, marks::DELETION_COST].map(|key| text(pod, "annotations", key));
            assert_eq!((marked, noted), ([None; 2], [None; 2]), "{}", told(pod));
            let finalizers = &pod["metadata"]["finalizers"];
            assert!(finalizers.is_null(), "{}", told(pod));
            let origin = label(pod, marks::REPLACES);
            let is_there = pods
                .iter()
                .any(|other| is_live(other) && Some(uid(other)) == origin);
            assert!(!is_there, "no pod replaces one that stays: {}", told(pod));
        }
    }
}

/// A pod is marked by a request whose answer gets lost, and no watch reports it until its target is over.
#[test]
fn a_pod_is_released_though_the_answer_to_its_mark_got_lost() {
    let mut cluster = Cluster::new(&mut Chance::new(1));
    cluster.world.calm();
    cluster.add_job(&["web-bbbbb".to_owned()], &Value::Null, 20, -1);
    {
        let mut state = cluster.world.server.state();
        state.objects.lag();
        state.loses_answer_of = Some(PODS);
    }
    // The job itself has to be seen.
    cluster.world.hand_over(Duration::ZERO);
    cluster.world.pass(Duration::from_mins(2));
    assert_eq!(cluster.world.coverage().lost_answers, 1);
    cluster.assert_ends();
}

/// The ReplicaSet creates the new pod while the watch of pods is interrupted: beside it, the old pod would be one too
/// many, and the ReplicaSet might delete another one.
#[test]
fn an_old_pod_is_not_put_back_while_the_watch_of_pods_is_interrupted() {
    let mut cluster = Cluster::new(&mut Chance::new(1));
    cluster.world.calm();
    cluster.add_job(&["web-bbbbb".to_owned()], &Value::Null, 60, -1);
    cluster.world.pass(Duration::from_secs(3));
    let is_released = |cluster: &Cluster| {
        let state = cluster.world.server.state();
        let pod = state.objects.get(PODS, "web-bbbbb").expect("the old pod");
        label(pod, marks::RELEASED_FROM).is_some()
    };
    assert!(is_released(&cluster));
    cluster.world.change(|state, _| state.is_watch_down = true);
    cluster.world.pass(Duration::from_secs(2));
    cluster.run_replica_set();
    cluster.make_all_ready();
    cluster.world.pass(Duration::from_mins(2));
    assert!(
        is_released(&cluster),
        "its time is over, but not its new pod"
    );
    cluster.run_replica_set();
    cluster.assert_ends();
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
fn replace() {
    simulate("replace", 40, schedule);
}
