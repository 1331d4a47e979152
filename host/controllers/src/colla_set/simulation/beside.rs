//! Both controllers beside KusionStack's: they write nothing but one condition, and take over when KusionStack
//! goes.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use operon_api::keys;
use operon_core::stand_down::{LEASE, WEBHOOKS as NAMES};
use serde_json::{Value, json};

use super::{
    NAME,
    kubelet::Work,
    new_colla_set, process,
    promises::{Believed, Writes},
    work,
};
use crate::simulation::{
    State, World,
    plurals::{COLLA_SETS, CONTEXTS, LEASES, PODS, WEBHOOKS},
};

/// A cluster with a CollaSet, and with KusionStack's webhook or not.
fn world(has_webhook: bool) -> World<process::Process> {
    let start = Box::new(|server, passes| Box::pin(process::start(server, passes)) as _);
    let promises = Writes::new(Arc::new(Believed::new(3)));
    World::new(promises, start, |state, now| {
        state.objects.create(COLLA_SETS, new_colla_set(), now);
        if has_webhook {
            state.objects.create(WEBHOOKS, webhook(), now);
        }
    })
}

fn webhook() -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": NAMES[0]},
    })
}

/// KusionStack is installed, or uninstalled.
pub(super) fn come_or_go(state: &mut State, now: Timestamp) {
    if state.objects.get(WEBHOOKS, NAMES[0]).is_some() {
        go(state, now);
    } else {
        state.objects.create(WEBHOOKS, webhook(), now);
    }
}

/// KusionStack is uninstalled.
pub(super) fn go(state: &mut State, now: Timestamp) {
    state.objects.delete(WEBHOOKS, NAMES[0], now);
}

fn lease(minute: u64) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE},
        "spec": {
            "holderIdentity": "kusionstack-1", "leaseDurationSeconds": 15,
            "renewTime": format!("2001-01-01T00:{minute:02}:00.000000Z"),
        },
    })
}

fn colla_set(world: &World<process::Process>) -> Value {
    let state = world.server.state();
    let found = state.objects.get(COLLA_SETS, NAME);
    found.cloned().expect("the CollaSet")
}

fn pods(world: &World<process::Process>) -> Vec<Value> {
    world.server.state().objects.all(PODS)
}

/// The message of the condition, if the CollaSet has it.
fn standing_down(world: &World<process::Process>) -> Option<String> {
    let object = colla_set(world);
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let condition = conditions.find(|one| one["type"] == "StandingDown")?;
    assert_eq!(condition["status"], "True");
    condition["message"].as_str().map(str::to_owned)
}

fn seconds(world: &mut World<process::Process>, seconds: u64) {
    world.pass(Duration::from_secs(seconds));
}

#[test]
fn where_kusionstacks_webhook_is_configured_nothing_is_written_but_one_condition() {
    let mut world = world(true);
    seconds(&mut world, 60);
    assert_eq!(pods(&world), [Value::Null; 0]);
    let message = standing_down(&world).expect("a condition");
    assert!(message.contains(NAMES[0]), "{message}");
    assert_eq!(world.writes(), 1);
    world.change(go);
    seconds(&mut world, 60);
    assert_eq!(pods(&world).len(), 3);
    assert_eq!(standing_down(&world), None);
}

#[test]
fn a_condition_that_kusionstacks_controller_removes_is_not_written_again() {
    let mut world = world(true);
    seconds(&mut world, 10);
    for replicas in 0..5 {
        world.change(|state, _| {
            let mut object = state.objects.get(COLLA_SETS, NAME).cloned().expect("it");
            object["status"] = json!({"replicas": replicas});
            state.objects.set(COLLA_SETS, object);
        });
        seconds(&mut world, 60);
    }
    assert_eq!(world.writes(), 1);
    assert_eq!(colla_set(&world)["status"], json!({"replicas": 4}));
}

#[test]
fn pods_are_left_alone_when_kusionstack_comes_and_go_on_when_it_goes() {
    let mut world = world(false);
    seconds(&mut world, 10);
    assert_eq!(pods(&world).len(), 3);
    world.change(come_or_go);
    seconds(&mut world, 10);
    let writes = world.writes();
    world.change(|state, now| {
        for mut pod in state.objects.all(PODS) {
            pod["metadata"]["labels"][keys::TO_DELETE] = json!("true");
            let pod = state.objects.set(PODS, pod);
            work(&mut state.objects, pod, Work::Start, now);
        }
        state.objects.delete(CONTEXTS, NAME, now);
    });
    seconds(&mut world, 60);
    assert_eq!(world.writes(), writes);
    world.change(go);
    seconds(&mut world, 60);
    assert!(world.writes() > writes);
    let context = world.server.state().objects.get(CONTEXTS, NAME).cloned();
    assert!(context.is_some(), "it is written again");
    let labels = pods(&world)
        .into_iter()
        .map(|pod| pod["metadata"]["labels"].to_string());
    let (marked, new): (Vec<_>, Vec<_>) =
        labels.partition(|labels| labels.contains(keys::TO_DELETE));
    assert_eq!((marked.len(), new.len()), (3, 3));
    for labels in marked {
        assert!(labels.contains("pod-delete"), "{labels}");
    }
}

#[test]
fn a_lease_that_is_renewed_is_respected_until_some_time_after_its_last_renewal() {
    let mut world = world(false);
    world.change(|state, now| state.objects.create(LEASES, lease(0), now));
    seconds(&mut world, 10);
    for minute in 1..10 {
        world.change(|state, _| {
            let mut renewed = state.objects.get(LEASES, LEASE).cloned().expect("it");
            renewed["spec"] = lease(minute)["spec"].clone();
            state.objects.set(LEASES, renewed);
        });
        seconds(&mut world, 10);
        let message = standing_down(&world).expect("a condition");
        assert!(message.contains(LEASE), "{message}");
    }
    let writes = world.writes();
    seconds(&mut world, 10);
    assert_eq!(world.writes(), writes);
    seconds(&mut world, 30);
    assert_eq!(standing_down(&world), None);
    // The next process finds a Lease that is not renewed, and says nothing about it.
    let writes = world.writes();
    world.hand_over(Duration::from_secs(3));
    seconds(&mut world, 60);
    assert_eq!(world.writes(), writes);
}

#[test]
fn a_lease_with_a_dead_watch_is_asked_for_before_anybody_takes_over() {
    let mut world = world(false);
    world.change(|state, now| state.objects.create(LEASES, lease(0), now));
    world.hand_over(Duration::from_secs(3));
    seconds(&mut world, 5);
    world.change(|state, _| {
        let mut renewed = state.objects.get(LEASES, LEASE).cloned().expect("it");
        renewed["spec"] = lease(1)["spec"].clone();
        state.objects.set(LEASES, renewed);
    });
    seconds(&mut world, 5);
    // From now on watches report nothing, and a renewal is seen only by a list.
    world.change(|state, _| state.objects.lag());
    world.change(|state, _| {
        let mut renewed = state.objects.get(LEASES, LEASE).cloned().expect("it");
        renewed["spec"] = lease(2)["spec"].clone();
        state.objects.set(LEASES, renewed);
    });
    seconds(&mut world, 40);
    assert_eq!(pods(&world), [Value::Null; 0]);
    seconds(&mut world, 60);
    assert_eq!(pods(&world).len(), 3);
}
