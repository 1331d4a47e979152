//! Whatever happens, in whatever order: what is promised of CollaSets and of the PodOpsLifecycle holds. Both
//! shipped controllers run, beside a kubelet, another operation on pods, and a garbage collector.
//!
//! A schedule is a seed: users that edit the CollaSet, label and delete pods, or delete the CollaSet, with its
//! pods or without, and create it again; pods that start, fail and restart; a controller with finalizers on
//! pods; requests that fail, take long or have no answer, watches that lag or are refused, and processes that
//! die at a write or hand over. In most schedules PodTransitionRules say how many pods may be out of service, and
//! which pods may not leave or return.

mod beside;
mod claims;
mod decoration;
mod deletion;
mod kubelet;
mod outcome;
mod pace;
mod process;
mod promises;
mod resize;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use operon_api::keys;
use operon_core::pod_lifecycle::adapter::{Adapter, Edit, Standing};
use serde_json::{Value, json};

use self::{
    decoration::decorate,
    deletion::{Deletion, collect_garbage, delete, protect, unprotect},
    kubelet::{Work, is_active, work},
    process::Process,
    promises::{Believed, Writes, labels, owner},
    resize::{requests, resize_policy},
};
use crate::simulation::{
    Chance, Coverage, Objects, World, name_of,
    plurals::{CLAIMS, COLLA_SETS, CONTEXTS, PODS, RULES},
    simulate,
};

/// How many things happen in one schedule.
const HAPPENINGS: usize = 80;

/// How often everybody acts once nothing goes wrong any more, and the time between.
const ROUNDS: usize = 120;
const ROUND: Duration = Duration::from_secs(15);

/// The CollaSet.
const NAME: &str = "web";

/// Its `spec.historyLimit`.
const HISTORY_LIMIT: usize = 2;

/// The operation of another controller.
const OTHER: Adapter<'static> = Adapter {
    id: "other",
    kind: "test",
};

/// A cluster with a CollaSet.
struct Cluster {
    world: World<Process>,
    /// The replicas that a process may still believe to be desired.
    believed: Arc<Believed>,
}

impl Cluster {
    fn new(chance: &mut Chance) -> Self {
        let faults = chance.once_in(2).then(|| Chance::new(chance.next()));
        let start = Box::new(|server, passes| Box::pin(process::start(server, passes)) as _);
        let believed = Arc::new(Believed::new(3));
        let promises = Writes::new(Arc::clone(&believed));
        let has_rules = !chance.once_in(3);
        let templates = claims::templates(chance);
        let resizes_by_restart = chance.once_in(2);
        let world = World::new(promises, start, |state, now| {
            for rule in rules().into_iter().filter(|_| has_rules) {
                state.objects.create(RULES, rule, now);
            }
            let mut object = new_colla_set();
            object["spec"]["volumeClaimTemplates"] = templates;
            if resizes_by_restart {
                let container = at(&mut object, "/spec/template/spec/containers/0");
                container["resizePolicy"] = resize_policy("RestartContainer");
            }
            state.objects.create(COLLA_SETS, object, now);
            state.faults = faults;
        });
        Self { world, believed }
    }

    /// A user edits the CollaSet, if there is one.
    fn edit(&self, edit: impl FnOnce(&mut Value)) {
        self.world.change(|state, _| {
            let Some(mut object) = state.objects.get(COLLA_SETS, NAME).cloned() else {
                return;
            };
            edit(&mut object["spec"]);
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
            state.objects.set(COLLA_SETS, object);
        });
    }

    fn scale(&self, replicas: usize) {
        self.believed.also(replicas);
        self.edit(|spec| spec["replicas"] = json!(replicas));
    }

    /// A user creates the CollaSet again after it was deleted; whether that was so.
    fn create_if_gone(&self) -> bool {
        let mut is_gone = false;
        self.believed.also(3);
        self.world.change(|state, now| {
            is_gone = state.objects.get(COLLA_SETS, NAME).is_none();
            if is_gone {
                state.objects.create(COLLA_SETS, new_colla_set(), now);
            }
        });
        is_gone
    }

    /// A user names pods in the scale strategy.
    fn name_pods(&self, chance: &mut Chance) {
        let lists = ["podToDelete", "podToExclude", "podToInclude"];
        let mut strategy = json!({});
        for pod in self.world.server.state().objects.all(PODS) {
            if chance.once_in(4) {
                let list = chance.pick(&lists);
                let mut names = strategy[list].as_array().cloned().unwrap_or_default();
                names.push(pod["metadata"]["name"].clone());
                strategy[list] = json!(names);
            }
        }
        self.edit(|spec| spec["scaleStrategy"] = strategy);
    }

    /// A user sets a label of a pod, or removes it.
    fn label(&self, chance: &mut Chance, key: &str, value: Option<&str>) {
        self.world.change_any(chance, PODS, |state, _, mut pod| {
            set_labels(
                &mut pod,
                [(key.to_owned(), value.map(str::to_owned))].into(),
            );
            state.objects.set(PODS, pod);
        });
    }

    /// A user edits what concerns claims, or deletes one; or one gets its volume.
    fn change_claims(&mut self, chance: &mut Chance) {
        match chance.of(10) {
            0 => {
                let templates = claims::templates(chance);
                self.edit(|spec| spec["volumeClaimTemplates"] = templates);
            }
            1..=3 => {
                let policies = ["Delete", "Retain"];
                let when = [chance.pick(&policies), chance.pick(&policies)];
                let policy = json!({"whenDeleted": when[0], "whenScaled": when[1]});
                let field = "persistentVolumeClaimRetentionPolicy";
                self.edit(|spec| spec["scaleStrategy"][field] = policy);
            }
            4 | 5 => self.world.change_any(chance, CLAIMS, |state, now, claim| {
                claims::delete(&mut state.objects, claim, now);
            }),
            _ => self.world.change_any(chance, CLAIMS, |state, _, claim| {
                claims::bind(&mut state.objects, claim);
            }),
        }
    }

    fn happen(&mut self, chance: &mut Chance) {
        if chance.once_in(3) {
            self.create_if_gone();
        }
        match chance.of(73) {
            0 | 1 => self.scale(chance.of(6)),
            2 | 3 => {
                let image = format!("image:{}", chance.of(5));
                let container = "/template/spec/containers/0";
                self.edit(|spec| at(spec, container)["image"] = json!(image));
            }
            4 => {
                let env = json!([{"name": "A", "value": chance.of(3).to_string()}]);
                let container = "/template/spec/containers/0";
                self.edit(|spec| at(spec, container)["env"] = env);
            }
            5 => {
                let note = chance.of(3).to_string();
                self.edit(|spec| spec["template"]["metadata"]["annotations"]["note"] = json!(note));
            }
            6 => {
                let kinds = [Value::Null, json!(0), json!(1), json!(2), json!("byLabel")];
                let kind = chance.pick(&kinds);
                self.edit(|spec| spec["updateStrategy"]["rollingUpdate"] = rolling(&kind));
            }
            7 | 8 => {
                let policies = ["Recreate", "InPlaceIfPossible", "InPlaceOnly", "Replace"];
                let policy = chance.pick(&policies);
                self.edit(|spec| spec["updateStrategy"]["podUpgradePolicy"] = json!(policy));
            }
            9 => {
                let is_paused = chance.once_in(3);
                self.edit(|spec| spec["paused"] = json!(is_paused));
            }
            10 => self.world.change_any(chance, PODS, |state, now, pod| {
                state.objects.delete(PODS, name_of(&pod), now);
            }),
            11 => self.label(chance, keys::TO_REPLACE, Some("true")),
            12 => self.label(chance, keys::TO_REPLACE, None),
            13 => self.label(chance, keys::TO_DELETE, Some("true")),
            14 => self.label(chance, keys::TO_DELETE, None),
            15 if chance.once_in(2) => {
                let how = chance.pick(&Deletion::ALL);
                self.world
                    .change(|state, now| delete(&mut state.objects, how, now));
            }
            15 => {
                let policy = chance.pick(&["Random", "PersistentSequence"]);
                self.edit(|spec| spec["namingStrategy"]["podNamingSuffixPolicy"] = json!(policy));
            }
            48 => {
                let delay = chance.pick(&[0, 0, 20]);
                self.edit(|spec| spec["updateStrategy"]["operationDelaySeconds"] = json!(delay));
            }
            49 => self.world.change_any(chance, PODS, |state, _, pod| {
                protect(&mut state.objects, pod);
            }),
            50 => {
                let delay = chance.pick(&[0, 0, 20]);
                self.edit(|spec| spec["scaleStrategy"]["operationDelaySeconds"] = json!(delay));
            }
            53 | 54 => self.label(chance, keys::UPDATE_INCLUDED, Some("true")),
            51 | 52 => self.name_pods(chance),
            17 if chance.once_in(2) => self.world.change(beside::come_or_go),
            16..=18 => self.operate(chance),
            19 => self.work(chance, Work::Fail),
            20 | 21 => self.work(chance, Work::Unready),
            22 => self.work(chance, Work::Restart),
            23 if chance.once_in(2) => self.spoil_context(chance),
            23..=34 => self.nodes_work(chance),
            55 => self.label(chance, STAYS, Some("true")),
            56 => self.label(chance, STAYS, None),
            57 => self.label(chance, STAYS_OUT, Some("true")),
            58 => self.label(chance, STAYS_OUT, None),
            59..=61 => self.crowd(chance),
            62..=66 => self.change_claims(chance),
            67 => self.world.change(decorate),
            68 => self.edit_cpu(chance),
            69 => self.resize(chance),
            70 if chance.once_in(4) => self.edit_resize_policy(chance),
            70 | 71 => self.work(chance, Work::Defer),
            72 => self.work(chance, Work::Refuse),
            _ => self.world.disturb(chance),
        }
        let time = chance.pick(&[0, 10, 300, 1100, 2500, 15_000, 40_000]);
        self.world.pass(Duration::from_millis(time));
        if time == 40_000 {
            self.is_seen();
        }
    }

    /// A user edits or deletes the ResourceContext.
    fn spoil_context(&self, chance: &mut Chance) {
        let owner = chance.pick(&[NAME, "ghost"]);
        let id = chance.pick(&[json!(-3), json!(0), json!(1), json!(8)]);
        let is_deleted = chance.once_in(4);
        let is_emptied = chance.once_in(4);
        self.world
            .change_any(chance, CONTEXTS, |state, now, mut context| {
                if is_deleted {
                    return state.objects.delete(CONTEXTS, NAME, now);
                }
                let entries = context["spec"]["contexts"].as_array().cloned();
                let mut entries = entries.filter(|_| !is_emptied).unwrap_or_default();
                entries.insert(
                    0,
                    json!({"id": id, "data": {"Owner": owner, "Revision": "none"}}),
                );
                context["spec"]["contexts"] = json!(entries);
                state.objects.set(CONTEXTS, context);
            });
    }

    /// Enough time went by for the process to see what is desired, if nothing keeps it from that.
    fn is_seen(&self) {
        let state = self.world.server.state();
        if state.faults.is_none() && !state.is_watch_down && !state.objects.lags() {
            let object = state.objects.get(COLLA_SETS, NAME);
            let replicas = object.and_then(|object| object["spec"]["replicas"].as_u64());
            let replicas = replicas.and_then(|replicas| usize::try_from(replicas).ok());
            if let Some(replicas) = replicas {
                self.believed.only(replicas);
            }
        }
    }

    fn work(&self, chance: &mut Chance, what: Work) {
        self.world.change_any(chance, PODS, |state, now, pod| {
            work(&mut state.objects, pod, what, now);
        });
    }

    /// The kubelet does some of what there is to do; so does the garbage collector.
    fn nodes_work(&self, chance: &mut Chance) {
        self.world.change(|state, now| {
            if chance.once_in(2) {
                collect_garbage(&mut state.objects, now);
                state.objects.remove_deleted_pods();
                claims::let_go(&mut state.objects);
            }
            for claim in state.objects.all(CLAIMS) {
                if chance.once_in(2) {
                    claims::bind(&mut state.objects, claim);
                }
            }
            for pod in state.objects.all(PODS) {
                if chance.once_in(2) {
                    unprotect(&mut state.objects, pod);
                }
            }
            for pod in state.objects.all(PODS) {
                if !chance.once_in(4) {
                    let mut what = chance.pick(&[Work::Start, Work::Probe, Work::Probe]);
                    if what == Work::Start && chance.once_in(3) {
                        what = chance.pick(&[Work::Defer, Work::Defer, Work::Refuse]);
                    }
                    work(&mut state.objects, pod, what, now);
                }
            }
        });
    }

    /// The other operation begins on a pod, acts, or is taken back.
    fn operate(&self, chance: &mut Chance) {
        let is_undone = chance.once_in(4);
        self.world.change_any(chance, PODS, |state, now, pod| {
            if is_active(&pod) {
                operate(&mut state.objects, pod, is_undone, true, now);
            }
        });
    }

    /// All pods serve, and operations begin on several of them at the same time, and the process may die over them.
    fn crowd(&mut self, chance: &mut Chance) {
        if chance.once_in(2) {
            for _ in 0..3 {
                self.world.pass(Duration::from_secs(3));
                self.everybody_works();
            }
            self.world.pass(Duration::from_secs(3));
        }
        for _ in 0..3 {
            let is_deletion = chance.once_in(4);
            if is_deletion {
                self.label(chance, keys::TO_DELETE, Some("true"));
            } else {
                self.operate(chance);
            }
        }
        if chance.once_in(2) {
            self.world.server.state().dies_after = Some(chance.of(6));
        }
    }

    /// Nodes do all that there is to do.
    fn everybody_works(&self) {
        self.world.change(|state, now| {
            for claim in state.objects.all(CLAIMS) {
                claims::bind(&mut state.objects, claim);
            }
            for what in [Work::Start, Work::Start, Work::Probe] {
                for pod in state.objects.all(PODS) {
                    work(&mut state.objects, pod, what, now);
                }
            }
        });
    }

    /// From now on nothing goes wrong, and everybody does their work.
    fn assert_ends(&mut self, chance: &mut Chance) {
        self.world.calm();
        self.world.change(beside::go);
        let policy = chance.pick(&["Recreate", "InPlaceIfPossible", "Replace"]);
        let go_on = |spec: &mut Value| {
            spec["paused"] = json!(false);
            spec["scaleStrategy"] = Value::Null;
            spec["updateStrategy"] = json!({"podUpgradePolicy": policy});
        };
        self.edit(go_on);
        self.world.change(|state, _| {
            for mut pod in state.objects.all(PODS) {
                let released = [STAYS, STAYS_OUT].map(|key| (key.to_owned(), None));
                set_labels(&mut pod, released.into());
                state.objects.set(PODS, pod);
            }
        });
        for _ in 0..ROUNDS {
            self.world.pass(ROUND);
            if self.create_if_gone() {
                self.edit(go_on);
            }
            self.world.change(|state, now| {
                for pod in state.objects.all(PODS) {
                    // No controller replaces it, so it would count as out of service.
                    let is_stuck = !is_active(&pod) || !claims::is_bound(&state.objects, &pod);
                    if is_stuck && owner(&pod).is_null() {
                        state.objects.delete(PODS, name_of(&pod), now);
                    }
                }
                for pod in state.objects.all(PODS) {
                    unprotect(&mut state.objects, pod);
                }
                collect_garbage(&mut state.objects, now);
                state.objects.remove_deleted_pods();
                claims::let_go(&mut state.objects);
                for pod in state.objects.all(PODS) {
                    operate(&mut state.objects, pod.clone(), false, false, now);
                }
            });
            self.everybody_works();
        }
        self.world.pass(ROUND);
        self.assert_is_as_desired();
        self.world.assert_rests(Duration::from_mins(30));
        let writes = self.world.writes();
        self.world.hand_over(Duration::from_secs(3));
        self.world.pass(ROUND);
        assert_eq!(
            self.world.writes(),
            writes,
            "nothing changed for the next process"
        );
    }
}

fn new_colla_set() -> Value {
    json!({
        "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet",
        "metadata": {"name": NAME, "finalizers": [keys::COLLA_SET_FINALIZER]},
        "spec": {
            "replicas": 3,
            "historyLimit": HISTORY_LIMIT,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"containers": [
                    {"name": "main", "image": "image:0", "resources": requests("100m")},
                ]},
            },
        },
    })
}

/// A pod with this label may not leave service.
const STAYS: &str = "stays";
/// A pod with this label may not return to service.
const STAYS_OUT: &str = "stays-out";

/// One pod at a time leaves service; some do not leave, some do not return.
fn rules() -> [Value; 2] {
    let without = |key: &str| json!({"requires": {"matchExpressions": [{"key": key, "operator": "DoesNotExist"}]}});
    let of = |name: &str, rules: Value| {
        json!({
            "apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "PodTransitionRule",
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": NAME}}, "rules": rules},
        })
    };
    let labels = json!([
        {"name": "stays", "labelCheck": without(STAYS)},
        {"name": "stays-out", "stage": "PostCheck", "labelCheck": without(STAYS_OUT)},
    ]);
    let one = json!([{"name": "one", "availablePolicy": {"maxUnavailableValue": 1}}]);
    [of("labels", labels), of("one", one)]
}

fn at<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    value.pointer_mut(pointer).expect("a field of the spec")
}

/// How many pods an update keeps, or `byLabel`.
fn rolling(kind: &Value) -> Value {
    match kind {
        Value::Null => Value::Null,
        Value::String(_) => json!({"byLabel": {}}),
        partition => json!({"byPartition": {"partition": partition}}),
    }
}

fn set_labels(pod: &mut Value, edit: Edit) {
    let Some(labels) = pod["metadata"]["labels"].as_object_mut() else {
        return;
    };
    for (key, value) in edit {
        match value {
            Some(value) => labels.insert(key, json!(value)),
            None => labels.remove(&key),
        };
    }
}

/// The next step of the other operation on a pod.
fn operate(
    objects: &mut Objects,
    mut pod: Value,
    is_undone: bool,
    may_begin: bool,
    now: Timestamp,
) {
    let known = labels(&pod);
    let edit = match OTHER.standing(&known, now.as_nanosecond()) {
        Standing::Begin(begin) => may_begin.then_some(begin),
        _ if is_undone => OTHER.undo(&known),
        Standing::Allowed(_) => OTHER.finish(&known),
        Standing::Blocked(_) | Standing::Waits(_) | Standing::Returning => None,
    };
    if let Some(edit) = edit {
        set_labels(&mut pod, edit);
        objects.set(PODS, pod);
    }
}

fn schedule(seed: u64) -> Coverage {
    let chance = &mut Chance::new(seed);
    let mut cluster = Cluster::new(chance);
    for _ in 0..HAPPENINGS {
        cluster.happen(chance);
    }
    cluster.assert_ends(chance);
    cluster.world.coverage()
}

#[test]
fn colla_set() {
    simulate("collaset", 20, schedule);
}
