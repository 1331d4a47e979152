//! A small model of `KusionStack`'s controllers on one pod of a `CollaSet` and its new pods: the labels that
//! they read and write, one write per step.

use operon_action_replace::keys;
use operon_sdk::testing::FakeCluster;
use operon_sdk::{Pod, Value, json};

/// The pod whose replacement is cancelled.
pub(crate) const ORIGIN: &str = "foo-a";

/// The most pods that the `CollaSet` creates; the model is finite.
const NEW_PODS: usize = 2;

/// How the `CollaSet`'s controller decides, where sources of its behaviour differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// It deletes the origin of an available new pod although the request was withdrawn.
    pub(crate) deletes_unrequested: bool,
    /// It deletes the origin of an available new pod that is marked to be deleted.
    pub(crate) ignores_marks: bool,
}

/// A write that a controller has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Creates the new pod with this id.
    Make(usize),
    /// Sets or removes a label of a pod.
    Label(String, &'static str, Option<String>),
}

impl Write {
    /// The API server's part. A deleted pod is not changed.
    pub(crate) fn perform(&self, world: &mut FakeCluster) {
        match self {
            Self::Make(id) => {
                let labels =
                    json!({keys::INSTANCE_ID: id.to_string(), keys::PAIR_ORIGIN_NAME: ORIGIN});
                add_pod(world, &format!("foo-n{id}"), &labels);
            }
            Self::Label(pod, key, value) if world.pod(pod).is_some() => {
                world.change_pod(pod, &json!({"metadata": {"labels": {*key: value}}}));
            }
            Self::Label(..) => {}
        }
    }

    fn mark(pod: &Pod) -> Option<Self> {
        let marked = pod.label(keys::TO_DELETE).is_some();
        (!marked).then(|| Self::Label(pod.name.clone(), keys::TO_DELETE, Some("1".to_owned())))
    }
}

pub(crate) fn add_pod(world: &mut FakeCluster, name: &str, labels: &Value) {
    let owner = json!([{"apiVersion": "apps.kusionstack.io/v1alpha1", "kind": "CollaSet",
        "name": "foo", "uid": "c", "controller": true}]);
    world.add_pod(name, &json!({"labels": labels, "ownerReferences": owner}));
}

fn available(pod: &Pod) -> bool {
    pod.label(keys::SERVICE_AVAILABLE).is_some()
}

/// What one reconcile of the `CollaSet` writes, in order. It may end after any of them.
pub(crate) fn collaset(world: &FakeCluster, rules: Rules) -> Vec<Write> {
    let pods = world.pods();
    let origin = pods.iter().find(|pod| pod.name == ORIGIN);
    let new_pods = || pods.iter().filter(|pod| pod.name != ORIGIN);
    let mut writes = Vec::new();
    for new_pod in new_pods().filter(|pod| pod.label(keys::PAIR_ORIGIN_NAME).is_some()) {
        let Some(origin) = origin else {
            let name = new_pod.name.clone();
            writes.push(Write::Label(name, keys::PAIR_ORIGIN_NAME, None));
            continue;
        };
        let requested = origin.label(keys::TO_REPLACE).is_some();
        let marked = new_pod.label(keys::TO_DELETE).is_some();
        if !requested && !available(new_pod) {
            writes.extend(Write::mark(new_pod));
        } else if available(new_pod)
            && (requested || rules.deletes_unrequested)
            && (!marked || rules.ignores_marks)
        {
            writes.extend(Write::mark(origin));
        }
    }
    let Some(origin) = origin else {
        return writes;
    };
    let id = origin.label(keys::PAIR_NEW_ID);
    let named = new_pods().find(|pod| id.is_some() && pod.label(keys::INSTANCE_ID) == id);
    if id.is_some() && named.is_none() {
        writes.push(Write::Label(origin.name.clone(), keys::PAIR_NEW_ID, None));
    }
    let replaced = named.is_some_and(|pod| pod.label(keys::TO_DELETE).is_none());
    let next = (1..=NEW_PODS).find(|id| !was_made(world, *id));
    if let Some(next) = next.filter(|_| !replaced && origin.label(keys::TO_REPLACE).is_some()) {
        writes.push(Write::Make(next));
        let id = Some(next.to_string());
        writes.push(Write::Label(origin.name.clone(), keys::PAIR_NEW_ID, id));
    }
    writes
}

/// Names are used once: what was deleted leaves a trace that no controller reads.
fn was_made(world: &FakeCluster, id: usize) -> bool {
    world.pod(&format!("foo-n{id}")).is_some()
        || world.object("v1", "Trace", &format!("foo-n{id}")).is_some()
}

/// The next step of the controllers that delete a marked pod through its lifecycle.
pub(crate) fn delete(world: &mut FakeCluster, pod: &Pod) -> bool {
    let begun = pod.label(keys::DELETION_BEGUN).is_some();
    let label = match (begun, pod.label(keys::TO_DELETE), available(pod)) {
        (false, None, _) => return false,
        (false, Some(_), _) => json!({keys::DELETION_BEGUN: "1"}),
        (true, _, true) => json!({keys::SERVICE_AVAILABLE: null}),
        (true, _, false) => {
            let trace =
                json!({"apiVersion": "v1", "kind": "Trace", "metadata": {"name": pod.name}});
            world.put(trace);
            world.remove_pod(&pod.name);
            return true;
        }
    };
    world.change_pod(&pod.name, &json!({"metadata": {"labels": label}}));
    true
}

/// A new pod begins to serve, unless its deletion has begun.
pub(crate) fn serve(world: &mut FakeCluster, pod: &Pod) -> bool {
    let may = pod.label(keys::DELETION_BEGUN).is_none() && !available(pod);
    if may {
        let labels = json!({keys::SERVICE_AVAILABLE: "1"});
        world.change_pod(&pod.name, &json!({"metadata": {"labels": labels}}));
    }
    may
}
