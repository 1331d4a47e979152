//! Operations, the controller, the kubelet and a controller that sends requests, in any
//! order: no label is left, no pod serves that an operation holds, and everything comes to rest.

use super::world::World;
use crate::{
    driver::memory::Chance,
    pod_lifecycle::{adapter::Adapter, labels::STAY_OFFLINE, transition::Verdict},
};

const OPERATIONS: [Adapter<'_>; 4] = [
    Adapter {
        id: "opj-restart",
        kind: "Restart",
    },
    Adapter {
        id: "collaset",
        kind: "update",
    },
    Adapter {
        id: "pod-delete",
        kind: "delete",
    },
    Adapter {
        id: "opj-again",
        kind: "Restart",
    },
];

/// How many schedules are run, and how many things happen in each.
const SCHEDULES: u64 = 500;
const HAPPENINGS: usize = 60;

fn happen(world: &mut World, chance: &mut Chance) {
    let operation = chance.pick(&OPERATIONS);
    let verdict = |chance: &mut Chance| {
        if chance.once_in(3) {
            Verdict::Waits
        } else {
            Verdict::Allowed
        }
    };
    match chance.of(13) {
        0..=3 => {
            world.control();
        }
        4 | 5 => {
            world.kubelet();
        }
        6 => {
            world.traffic();
        }
        7 => {
            world.begin(operation);
        }
        8 => {
            if let Some(finish) = operation.finish(&world.labels) {
                world.edit(finish);
            }
        }
        9 => {
            if let Some(undo) = operation.undo(&world.labels)
                && chance.once_in(3)
            {
                world.edit(undo);
            }
        }
        11 if chance.once_in(3) => {
            world
                .labels
                .insert(STAY_OFFLINE.to_owned(), "true".to_owned());
        }
        11 => {
            world.labels.remove(STAY_OFFLINE);
        }
        10 => world.containers_are_ready = !chance.once_in(4),
        _ => (world.before, world.after) = (verdict(chance), verdict(chance)),
    }
}

/// Lets every operation end. One on a pod that never becomes ready would not.
fn end(world: &mut World) {
    world.containers_are_ready = true;
    world.labels.remove(STAY_OFFLINE);
    (world.before, world.after) = (Verdict::Allowed, Verdict::Allowed);
    for _ in 0..=OPERATIONS.len() {
        world.settle();
        for operation in OPERATIONS {
            if let Some(finish) = operation.finish(&world.labels) {
                world.edit(finish);
            }
        }
    }
    world.settle();
}

#[test]
fn in_any_order_no_pod_serves_that_an_operation_holds_and_nothing_is_left() {
    for seed in 0..SCHEDULES {
        let mut chance = Chance::new(seed);
        let has_gate = chance.once_in(2);
        let mut world = if chance.once_in(2) {
            World::with_traffic(has_gate)
        } else {
            World::new(has_gate)
        };
        for _ in 0..HAPPENINGS {
            happen(&mut world, &mut chance);
            world.check();
        }
        end(&mut world);
        world.assert_at_rest();
    }
}
