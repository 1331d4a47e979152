//! How fast operations follow each other where a PodTransitionRule allows one at a time.

use std::{sync::Arc, time::Duration};

use operon_core::pod_lifecycle::{adapter::Standing, labels::SERVICE_AVAILABLE};

use super::{
    OTHER,
    kubelet::{Work, work},
    new_colla_set, operate, process,
    promises::{Believed, Writes, labels},
    rules,
};
use crate::simulation::{
    World,
    plurals::{COLLA_SETS, PODS, RULES},
};

/// Nodes do all that there is to do, and the other operation goes on where it may.
fn goes_on(world: &World<process::Process>, may_begin: bool) {
    world.change(|state, now| {
        for what in [Work::Start, Work::Start, Work::Probe] {
            for pod in state.objects.all(PODS) {
                work(&mut state.objects, pod, what, now);
            }
        }
        for pod in state.objects.all(PODS) {
            operate(&mut state.objects, pod, false, may_begin, now);
        }
    });
}

#[test]
fn a_rule_that_allows_one_pod_at_a_time_allows_several_operations_a_second() {
    let start = Box::new(|server, passes| Box::pin(process::start(server, passes)) as _);
    let promises = Writes::new(Arc::new(Believed::new(3)));
    let mut world = World::new(promises, start, |state, now| {
        for rule in rules() {
            state.objects.create(RULES, rule, now);
        }
        state.objects.create(COLLA_SETS, new_colla_set(), now);
    });
    let serve = |world: &World<process::Process>| {
        let pods = world.server.state().objects.all(PODS);
        let serve = |pod| {
            let labels = labels(pod);
            let is_idle = matches!(OTHER.standing(&labels, 0), Standing::Begin(_));
            labels.contains_key(SERVICE_AVAILABLE) && is_idle
        };
        pods.len() == 3 && pods.iter().all(serve)
    };
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        world.change(|state, now| {
            for what in [Work::Start, Work::Start, Work::Probe] {
                for pod in state.objects.all(PODS) {
                    work(&mut state.objects, pod, what, now);
                }
            }
        });
    }
    world.pass(Duration::from_secs(1));
    assert!(serve(&world));
    goes_on(&world, true);
    let mut rounds = 0;
    while !serve(&world) {
        world.pass(Duration::from_millis(30));
        goes_on(&world, false);
        rounds += 1;
        assert!(rounds < 33, "three operations take less than a second");
    }
}
