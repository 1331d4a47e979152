//! Every interleaving of a cancelled replacement: each step of the controllers, each call and each effect of
//! ours, conflicts and crashes after each. A state is the world and what each party has decided.

use std::collections::HashMap;

use operon_action_replace::{Replace, keys};
use operon_sdk::testing::FakeCluster;
use operon_sdk::{Action, Effect, Job, Operation, Pod, Target, json, testing};

use super::model::{self, ORIGIN, Rules, Write};

/// One state.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) world: FakeCluster,
    /// What the `CollaSet`'s controller has decided and not yet written.
    collaset: Vec<Write>,
    /// The rest of our answer.
    ours: Option<(Operation, bool)>,
    /// Our release has finished.
    pub(crate) released: bool,
    /// There was a moment at which every pod of the pair was marked or being deleted.
    pub(crate) dipped: bool,
}

impl State {
    /// A pod whose replacement was requested.
    pub(crate) fn new() -> Self {
        let mut world = FakeCluster::new();
        world.add_job("j");
        let labels = json!({
            keys::INSTANCE_ID: "0", keys::SERVICE_AVAILABLE: "1", keys::TO_REPLACE: "true", keys::JOB: "j",
        });
        model::add_pod(&mut world, ORIGIN, &labels);
        Self {
            world,
            collaset: Vec::new(),
            ours: None,
            released: false,
            dipped: false,
        }
    }

    /// What distinguishes states. Of a resource version it only matters whether our effects still match it.
    fn key(&self) -> String {
        let pods: Vec<_> = self
            .world
            .pods()
            .into_iter()
            .map(|pod| (pod.name, pod.labels, pod.annotations, pod.deleting))
            .collect();
        let ours = self.ours.as_ref().map(|(operation, checked)| {
            let effects = operation.effects.iter().map(|effect| self.fits(effect));
            let effects: Vec<_> = effects.collect();
            let met = *checked || self.meets(operation);
            (effects, met, *checked, operation.unfinished.is_some())
        });
        let traces: Vec<_> = (1..4)
            .map(|id| {
                self.world
                    .object("v1", "Trace", &format!("foo-n{id}"))
                    .is_some()
            })
            .collect();
        format!(
            "{pods:?}{:?}{ours:?}{}{}{traces:?}",
            self.collaset, self.released, self.dipped
        )
    }

    /// A patch, and whether the pod is as it was when it was decided.
    fn fits<'a>(&self, effect: &'a Effect) -> (&'a str, &'a str, bool) {
        let Effect::Patch(patch) = effect else {
            unreachable!("a release patches pods");
        };
        let name = &patch.object.name;
        let pod = self.world.pod(name);
        let version = pod.map(|pod| pod.resource_version);
        (name, &patch.body, version == patch.resource_version)
    }

    fn meets(&self, operation: &Operation) -> bool {
        operation.requirements.iter().all(|required| {
            let pod = self.world.pod(&required.object.name);
            pod.is_some_and(|pod| {
                !pod.deleting && Some(pod.resource_version) == required.resource_version
            })
        })
    }

    /// The states that follow by one step of anyone, and whether that step must come in the end. None if
    /// the origin was deleted: the rest is up to the `CollaSet`.
    fn next(&self, how: How) -> Vec<(Self, bool)> {
        if self.world.pod(ORIGIN).is_none() {
            return Vec::new();
        }
        let mut next = Vec::new();
        self.collaset_steps(how, &mut next);
        for pod in self.world.pods() {
            let mut after = self.clone();
            if model::delete(&mut after.world, &pod) {
                next.push((after, true));
            }
            let mut after = self.clone();
            // A pod takes longer to start than the reconcile that created it, and the next one.
            if !self.is_new_to_collaset(how, &pod) && model::serve(&mut after.world, &pod) {
                next.push((after, false));
            }
        }
        self.our_steps(how, &mut next);
        for (state, _) in &mut next {
            let stays = |pod: &Pod| pod.label(keys::TO_DELETE).is_none();
            state.dipped |= !state.world.pods().iter().any(stays);
        }
        next
    }

    /// Whether the `CollaSet` still has to act on a pod that it has just created.
    fn is_new_to_collaset(&self, how: How, pod: &Pod) -> bool {
        let unrequested = self
            .world
            .expect_pod(ORIGIN)
            .label(keys::TO_REPLACE)
            .is_none();
        let marks = |write: &Write| matches!(write, Write::Label(name, key, _) if *name == pod.name && *key == keys::TO_DELETE);
        unrequested && model::collaset(&self.world, how.rules).iter().any(marks)
    }

    fn collaset_steps(&self, how: How, next: &mut Vec<(Self, bool)>) {
        let mut after = self.clone();
        if after.collaset.is_empty() {
            after.collaset = model::collaset(&self.world, how.rules);
            if after.collaset.is_empty() {
                return;
            }
            if how.late_collaset {
                next.push((after, true));
                return;
            }
        } else {
            let mut crashed = self.clone();
            crashed.collaset.clear();
            next.push((crashed, false));
        }
        while !after.collaset.is_empty() {
            after.collaset.remove(0).perform(&mut after.world);
            if how.late_collaset {
                break;
            }
        }
        next.push((after, true));
    }

    fn our_steps(&self, how: How, next: &mut Vec<(Self, bool)>) {
        if self.released {
            return;
        }
        let mut after = self.clone();
        let (operation, mut checked) = match after.ours.take() {
            Some(ours) => ours,
            None => (release(&self.world), false),
        };
        if self.ours.is_none() && (how.late_host || operation.effects.is_empty()) {
            after.released = operation.effects.is_empty() && operation.unfinished.is_none();
            after.ours = (!operation.effects.is_empty()).then_some((operation, false));
            next.push((after, true));
            return;
        }
        if self.ours.is_some() {
            let mut crashed = self.clone();
            crashed.ours = None;
            next.push((crashed, false));
        }
        let mut rest = operation;
        if !checked {
            let met = self.meets(&rest);
            if how.late_host || !met {
                after.ours = met.then_some((rest, true));
                next.push((after, true));
                return;
            }
            checked = true;
        }
        // The other effects follow one by one.
        let effect = rest.effects.remove(0);
        let done = after.world.perform(std::slice::from_ref(&effect)).is_ok();
        after.released = done && rest.effects.is_empty() && rest.unfinished.is_none();
        after.ours = (done && !rest.effects.is_empty()).then_some((rest, checked));
        next.push((after, true));
    }
}

/// How the parties act.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub(crate) rules: Rules,
    /// Anything may come between the `CollaSet`'s look at the world and each of its writes.
    pub(crate) late_collaset: bool,
    /// Anything may happen between our read of the world, the host's check of the requirements, and each
    /// effect. Otherwise it may come between two effects only.
    pub(crate) late_host: bool,
}

fn release(world: &FakeCluster) -> Operation {
    let job = Job {
        ending: true,
        ..testing::job("j", world.now(), "{}")
    };
    let target = match world.pod(ORIGIN) {
        Some(pod) => testing::target_of(&pod),
        None => Target {
            extra_info: vec![(keys::NEW_POD.to_owned(), "foo-n1".to_owned())],
            ..testing::target_without_pod(ORIGIN, Some("uid"))
        },
    };
    let released = Replace.release_target(&target, &job, world);
    released.expect("a release is answered")
}

/// All states that can be reached, those in which nothing must happen any more among them.
pub(crate) struct Explored {
    pub(crate) states: Vec<State>,
    pub(crate) ends: Vec<usize>,
}

/// Explores every interleaving from a state, and checks that from each state an end can be reached.
pub(crate) fn explore(how: How) -> Explored {
    let start = State::new();
    let mut known = HashMap::from([(start.key(), 0)]);
    let mut states = vec![start];
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut ends = Vec::new();
    let mut at = 0;
    while at < states.len() {
        let next = states[at].next(how);
        let mut moves = false;
        for (state, must) in next {
            let found = known.len();
            let place = *known.entry(state.key()).or_insert(found);
            if place == states.len() {
                states.push(state);
                before.push(Vec::new());
            }
            if place != at {
                before[place].push(at);
                moves |= must;
            }
        }
        if !moves {
            ends.push(at);
        }
        at += 1;
    }
    let mut leads = vec![false; states.len()];
    let mut open = ends.clone();
    while let Some(place) = open.pop() {
        if !std::mem::replace(&mut leads[place], true) {
            open.extend(&before[place]);
        }
    }
    assert!(leads.iter().all(|leads| *leads), "a state leads to no end");
    Explored { states, ends }
}
