//! Whatever happens, in whatever order: what is promised of JobTemplates holds.
//!
//! A schedule is a seed: templates and Jobs that come, go and change, another operator that writes the
//! status, requests that fail, take long or have no answer, watches that lag or are refused, and processes
//! that die at a write or hand over.

use std::{collections::BTreeMap, sync::atomic::AtomicUsize, time::Duration};

use futures::channel::mpsc::unbounded;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use operon_api::{job_template::JobTemplateStatus, keys};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    events::Events,
    fault::Faults,
    health::Health,
    metrics::Metrics,
    run,
    simulation::{
        Chance, Counted, Coverage, Promises, Server, State, World, Write, name_of,
        plurals::{JOB_TEMPLATES, JOBS},
        simulate,
    },
};

/// How many things happen in one schedule.
const HAPPENINGS: usize = 60;

/// How long everything may take once nothing goes wrong any more: the longest backoff, and the writes.
const END: Duration = Duration::from_mins(5);

/// The templates that there may be, and values of the annotation that name none of them.
const TEMPLATES: [&str; 3] = ["build", "build.v1", "test"];
const UNKNOWN: [&str; 4] = ["", "ns.", "other.build", "ns.nothing"];

/// Nothing: the process does everything by itself.
struct Process;

/// The process as `operon` wires it; called in its runtime.
async fn start(server: Arc<Server>, passes: Arc<AtomicUsize>) -> Process {
    let client = server.client();
    let (queue, queued) = unbounded();
    let (flows, daemon_jobs) = (unbounded().0, unbounded().0);
    let triggers = Arc::new(OwnerTriggers::new(flows, queue.clone(), daemon_jobs));
    let health = Health::new(Metrics::register(&mut Registry::default()));
    let no_flows = crate::store::Writer::default().as_reader();
    let listener = Arc::clone(&triggers);
    let on_template = move |template: &_, _: &_| listener.template_changed(template, &no_flows);
    let templates = Cache::of(Api::all(client.clone())).start(on_template, &health);
    let listener = Arc::clone(&triggers);
    let on_job = move |job: &_, jobs: &_| listener.job_changed(job, jobs);
    let jobs = Cache::of(Api::all(client.clone())).start(on_job, &health);
    templates.ready().await;
    jobs.ready().await;
    let events = Events::new(&client, None);
    let manager = keys::JOB_TEMPLATE_MANAGER;
    let cache = templates.clone();
    let controller = JobTemplates {
        jobs,
        triggers,
        reports: Reports::new(client.clone(), manager, cache, events.clone(), queue),
    };
    let reconciler = Arc::new(Counted(controller, passes));
    let faults = Faults { client, events };
    tokio::spawn(run::run(
        reconciler,
        templates.store,
        queued,
        health,
        faults,
    ));
    Process
}

/// What is promised of every write.
#[derive(Default)]
struct Writes {
    broken: Vec<String>,
    /// When this process last got the answer that a status was written, by the template's uid.
    answered: BTreeMap<String, Timestamp>,
}

impl Writes {
    fn promise(&mut self, holds: bool, what: &str, about: &dyn std::fmt::Debug) {
        if !holds {
            self.broken.push(format!("{what}: {about:?}"));
        }
    }
}

impl Promises for Writes {
    fn process_begins(&mut self) {
        self.answered.clear();
    }

    fn write(&mut self, write: &Write<'_>) {
        let is_status = write.plural == JOB_TEMPLATES && write.subresource == Some("status");
        let Some(new) = write.new.filter(|_| is_status) else {
            let about = (write.plural, write.body);
            return self.promise(false, "only statuses of JobTemplates are written", &about);
        };
        let status = status(new).unwrap_or_default();
        self.promise(
            status.jobs.and_then(|jobs| usize::try_from(jobs).ok())
                == Some(status.dependency_list.len())
                && status.dependency_list.is_sorted_by(|a, b| a < b),
            "the status counts the Jobs that it names, each once, in their order",
            &status,
        );
        let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
        let last = self.answered.remove(uid);
        self.promise(
            last.is_none_or(|last| write.now.duration_since(last).as_millis() >= 1000),
            "a status is written at most once a second",
            &(last, write.now),
        );
        if write.is_answered {
            self.answered.insert(uid.to_owned(), write.now);
        }
    }

    fn event(&mut self, event: &Value) {
        self.promise(false, "JobTemplates have no Events", event);
    }

    fn broken(&self) -> &[String] {
        &self.broken
    }
}

fn status(template: &Value) -> Option<JobTemplateStatus> {
    serde_json::from_value(template["status"].clone()).ok()
}

fn create_template(state: &mut State, name: &str, now: Timestamp) {
    if state.objects.get(JOB_TEMPLATES, name).is_none() {
        let template = json!({
            "apiVersion": "api.practice.com/v1alpha1", "kind": "JobTemplate",
            "metadata": {"name": name}, "spec": {"jobTemplate": {"template": {}}},
        });
        state.objects.create(JOB_TEMPLATES, template, now);
    }
}

/// The value of the annotation of a Job.
fn any_origin(chance: &mut Chance) -> String {
    if chance.once_in(4) {
        return chance.pick(&UNKNOWN).to_owned();
    }
    format!("ns.{}", chance.pick(&TEMPLATES))
}

fn create_job(state: &mut State, chance: &mut Chance, now: Timestamp) {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            // A name may be used again, by a Job of another template.
            "name": format!("job-{}", chance.of(12)),
            "annotations": {(keys::JOB_TEMPLATE): any_origin(chance)},
        },
    });
    if state.objects.get(JOBS, name_of(&job)).is_none() {
        state.objects.create(JOBS, job, now);
    }
}

/// Somebody deletes an object, which a finalizer of theirs may hold.
fn delete(
    state: &mut State,
    plural: &'static str,
    mut object: Value,
    is_held: bool,
    now: Timestamp,
) {
    if is_held {
        object["metadata"]["finalizers"] = json!(["test/held"]);
        state.objects.set(plural, object.clone());
    }
    state.objects.delete(plural, name_of(&object), now);
}

fn let_go(state: &mut State, plural: &'static str, mut object: Value) {
    object["metadata"]["finalizers"] = Value::Null;
    state.objects.set(plural, object);
}

fn happen(world: &mut World<Process>, chance: &mut Chance) {
    let is_held = chance.once_in(2);
    let origin = any_origin(chance);
    match chance.of(24) {
        0..=4 => world.change(|state, now| create_job(state, chance, now)),
        5 | 6 => world.change_any(chance, JOBS, |state, now, job| {
            delete(state, JOBS, job, is_held, now);
        }),
        7 => world.change_any(chance, JOBS, |state, _, job| let_go(state, JOBS, job)),
        8 => world.change_any(chance, JOBS, |state, _, mut job| {
            job["metadata"]["annotations"][keys::JOB_TEMPLATE] = json!(origin);
            state.objects.set(JOBS, job);
        }),
        9 => world.change_any(chance, JOB_TEMPLATES, |state, now, template| {
            delete(state, JOB_TEMPLATES, template, is_held, now);
        }),
        10 => world.change_any(chance, JOB_TEMPLATES, |state, _, template| {
            let_go(state, JOB_TEMPLATES, template);
        }),
        11 | 12 => {
            let name = chance.pick(&TEMPLATES);
            world.change(|state, now| create_template(state, name, now));
        }
        13 => world.change_any(chance, JOB_TEMPLATES, |state, _, mut template| {
            template["status"] = json!({"dependencyList": ["of-another-operator"]});
            state.objects.set(JOB_TEMPLATES, template);
        }),
        _ => world.disturb(chance),
    }
    let time = chance.pick(&[0, 10, 300, 1100, 2500, 15_000, 40_000]);
    world.pass(Duration::from_millis(time));
}

/// From now on nothing goes wrong: every status says what there is, and then nothing is written, by this
/// process or by the next. A template that is deleted goes.
fn assert_ends(world: &mut World<Process>) {
    world.calm();
    world.pass(END);
    let (templates, jobs) = {
        let state = world.server.state();
        (state.objects.all(JOB_TEMPLATES), state.objects.all(JOBS))
    };
    for template in &templates {
        if template["metadata"]["deletionTimestamp"].is_string() {
            let held = &template["metadata"]["finalizers"];
            assert_eq!(*held, json!(["test/held"]), "we hold no template");
            continue;
        }
        let origin = format!("ns.{}", name_of(template));
        let is_from = |job: &&Value| job["metadata"]["annotations"][keys::JOB_TEMPLATE] == *origin;
        let names: Vec<_> = jobs.iter().filter(is_from).map(name_of).collect();
        let said = status(template).unwrap_or_default();
        assert_eq!(said.dependency_list, names, "{template}");
        assert_eq!(
            said.jobs.and_then(|jobs| usize::try_from(jobs).ok()),
            Some(names.len())
        );
    }
    world.assert_rests(END);
    let writes = world.writes();
    world.hand_over(Duration::from_secs(3));
    world.pass(END);
    assert_eq!(
        world.writes(),
        writes,
        "nothing changed for the next process"
    );
    for template in templates {
        world.change(|state, now| {
            delete(state, JOB_TEMPLATES, template.clone(), false, now);
            if let Some(held) = state
                .objects
                .get(JOB_TEMPLATES, name_of(&template))
                .cloned()
            {
                let_go(state, JOB_TEMPLATES, held);
            }
        });
    }
    world.pass(END);
    let left = world.server.state().objects.all(JOB_TEMPLATES);
    assert!(left.is_empty(), "a deleted template goes: {left:#?}");
    assert_eq!(world.writes(), writes, "and nothing is written for it");
}

fn schedule(seed: u64) -> Coverage {
    let chance = &mut Chance::new(seed);
    let faults = chance.once_in(2).then(|| Chance::new(chance.next()));
    let start = Box::new(|server, passes| Box::pin(start(server, passes)) as _);
    let mut world = World::new(Writes::default(), start, |state, now| {
        for name in TEMPLATES {
            create_template(state, name, now);
        }
        state.faults = faults;
    });
    for _ in 0..HAPPENINGS {
        happen(&mut world, chance);
    }
    assert_ends(&mut world);
    world.coverage()
}

#[test]
fn job_template() {
    simulate("jobtemplate", 40, schedule);
}
