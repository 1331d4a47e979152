//! The traces of the protocol, as KusionStack's own controllers leave them, label by label.

use super::world::World;
use crate::pod_lifecycle::{
    adapter::{Adapter, Standing},
    labels::{Mark, PREPARING_TO_DELETE, STAY_OFFLINE, Stage},
    transition::{Gate, Verdict},
};

const JOB: Adapter<'_> = Adapter {
    id: "j",
    kind: "Restart",
};

/// A pod that serves.
fn serving() -> World {
    let mut world = World::new(true);
    world.settle();
    assert_eq!(world.said(), ["service-available"]);
    world
}

/// One on which the operation may act.
fn operating() -> World {
    let mut world = serving();
    assert!(world.begin(JOB));
    world.settle();
    assert!(world.may_act(JOB), "{:?}", world.said());
    world
}

#[test]
fn an_operation_leaves_this_trace() {
    let mut world = serving();
    assert_eq!((world.gate, world.is_ready), (Gate::Open, true));
    assert!(world.begin(JOB));
    assert_eq!(world.standing(JOB), Standing::Waits(Stage::PreCheck));
    world.control();
    let preparing = [
        "operating",
        "operation-permission",
        "operation-type=Restart",
        "pre-checked",
        "preparing",
    ];
    assert_eq!(world.said(), preparing);
    assert_eq!((world.gate, world.is_ready), (Gate::Closed, true));
    // Endpoints follow the condition Ready, so the kubelet comes first.
    world.control();
    assert_eq!(world.standing(JOB), Standing::Waits(Stage::Preparing));
    world.kubelet();
    world.control();
    let operate = [
        "operate",
        "operating",
        "operation-permission",
        "operation-type=Restart",
        "pre-checked",
    ];
    assert_eq!(world.said(), operate);
    assert!(world.may_act(JOB));
    let finish = JOB.finish(&world.labels).expect("it may finish");
    world.edit(finish);
    world.after = Verdict::Waits;
    world.settle();
    assert_eq!(
        world.said(),
        ["done-operation-type=Restart", "operated", "post-check"]
    );
    assert_eq!((world.gate, world.is_ready), (Gate::Closed, false));
    world.after = Verdict::Allowed;
    world.control();
    assert_eq!((world.gate, world.said()), (Gate::Open, vec![]));
    world.settle();
    assert_eq!(world.said(), ["service-available"]);
    assert_eq!((world.gate, world.is_ready), (Gate::Open, true));
}

#[test]
fn a_pod_completes_until_those_who_send_requests_to_it_know_it_again() {
    let mut world = World::with_traffic(true);
    world.settle();
    world.begin(JOB);
    world.settle();
    world.edit(JOB.finish(&world.labels).expect("it may finish"));
    world.control();
    let completing = [
        "completing",
        "done-operation-type=Restart",
        "operated",
        "post-checked",
    ];
    assert_eq!(world.said(), completing);
    assert_eq!((world.gate, world.is_ready), (Gate::Open, false));
    assert_eq!(world.standing(JOB), Standing::Returning);
    world.settle();
    assert_eq!(world.said(), ["service-available"]);
}

#[test]
fn an_operation_takes_no_more_writes_than_it_needs() {
    let mut world = serving();
    world.writes = 0;
    world.begin(JOB);
    world.settle();
    world.edit(JOB.finish(&world.labels).expect("it may finish"));
    world.settle();
    world.assert_at_rest();
    // Begin; preparing, with the gate; operate; finish; the end, with the gate; it serves.
    assert_eq!(world.writes, 6);
}

#[test]
fn rules_hold_an_operation_before_the_pod_is_touched() {
    let mut world = serving();
    world.before = Verdict::Waits;
    world.begin(JOB);
    world.settle();
    let held = [
        "operating",
        "operation-type=Restart",
        "pre-check",
        "service-available",
    ];
    assert_eq!(world.said(), held);
    assert_eq!((world.gate, world.is_ready), (Gate::Open, true));
    world.before = Verdict::Allowed;
    world.settle();
    assert!(world.may_act(JOB));
}

#[test]
fn whoever_sends_requests_to_the_pod_is_waited_for() {
    let mut world = World::with_traffic(true);
    world.settle();
    assert_eq!(world.said(), ["service-available"]);
    world.begin(JOB);
    while world.control() || world.kubelet() {}
    assert_eq!(world.standing(JOB), Standing::Waits(Stage::Preparing));
    assert_eq!(world.gate, Gate::Closed);
    assert!(world.traffic(), "it lets the pod go");
    world.control();
    assert!(world.may_act(JOB));
    world.edit(JOB.finish(&world.labels).expect("it may finish"));
    while world.control() || world.kubelet() {}
    assert_eq!(
        world.standing(JOB),
        Standing::Returning,
        "{:?}",
        world.said()
    );
    assert!(world.traffic(), "it knows the pod again");
    world.settle();
    world.assert_at_rest();
}

#[test]
fn an_operation_that_is_taken_back_leaves_nothing_wherever_it_was() {
    for stage in ["pre-check", "preparing", "operate"] {
        let mut world = serving();
        world.before = Verdict::Waits;
        world.begin(JOB);
        world.settle();
        if stage != "pre-check" {
            world.before = Verdict::Allowed;
            world.control();
        }
        if stage == "operate" {
            world.settle();
        }
        let undo = JOB.undo(&world.labels).expect(stage);
        world.edit(undo);
        assert!(!world.may_act(JOB), "{stage}");
        assert!(!world.begin(JOB), "{stage}: not before the labels are gone");
        world.settle();
        world.assert_at_rest();
    }
}

#[test]
fn what_was_not_allowed_cannot_be_finished_and_what_has_acted_is_not_taken_back() {
    let mut world = serving();
    world.begin(JOB);
    assert_eq!(JOB.finish(&world.labels), None);
    let mut world = operating();
    world.edit(JOB.finish(&world.labels).expect("it may finish"));
    assert_eq!(JOB.undo(&world.labels), None);
    assert!(!world.may_act(JOB));
}

#[test]
fn labels_without_an_operation_go() {
    let mut world = serving();
    // As a controller leaves them that finished before it was allowed.
    for mark in [Mark::OperationType, Mark::PreCheck, Mark::PreChecked] {
        world.labels.insert(mark.of("j"), "Restart".to_owned());
    }
    let permission = Mark::Permission.of("Restart");
    world.labels.insert(permission, "1".to_owned());
    assert!(!world.begin(JOB));
    world.settle();
    assert_eq!(world.said(), ["service-available"]);
    assert!(world.begin(JOB));
}

#[test]
fn an_operation_waits_until_another_is_over_and_is_told_which() {
    let other = Adapter {
        id: "collaset",
        kind: "update",
    };
    let mut world = operating();
    let blocked = Standing::Blocked(vec!["j".to_owned()]);
    assert_eq!(world.standing(other), blocked);
    world.edit(JOB.finish(&world.labels).expect("it may finish"));
    assert_eq!(world.standing(other), blocked);
    world.after = Verdict::Waits;
    world.settle();
    assert_eq!(world.standing(other), blocked);
    world.after = Verdict::Allowed;
    world.settle();
    assert!(world.begin(other));
}

#[test]
fn another_that_begins_while_one_ends_holds_the_pod_out_of_service() {
    // No adapter of ours does that.
    let other = Adapter {
        id: "other",
        kind: "update",
    };
    for is_completing in [true, false] {
        let mut world = if is_completing {
            World::with_traffic(true)
        } else {
            World::new(true)
        };
        world.settle();
        world.begin(JOB);
        world.settle();
        world.edit(JOB.finish(&world.labels).expect("it may finish"));
        if !is_completing {
            world.after = Verdict::Waits;
        }
        world.control();
        assert_eq!(world.standing(JOB), Standing::Returning);
        for (mark, value) in [(Mark::Operating, "1"), (Mark::OperationType, "update")] {
            world.labels.insert(mark.of(other.id), value.to_owned());
        }
        world.after = Verdict::Allowed;
        world.settle();
        assert!(world.may_act(other));
        assert_eq!((world.gate, world.is_ready), (Gate::Closed, false));
        world.edit(other.finish(&world.labels).expect("it may finish"));
        world.settle();
        world.assert_at_rest();
    }
}

#[test]
fn a_pod_that_is_not_ready_does_not_serve_and_one_that_stays_offline_never_does() {
    let mut world = serving();
    world.containers_are_ready = false;
    world.settle();
    assert_eq!(world.said(), [""; 0]);
    world.containers_are_ready = true;
    world.settle();
    assert_eq!(world.said(), ["service-available"]);
    let mut world = World::new(true);
    world
        .labels
        .insert(STAY_OFFLINE.to_owned(), "true".to_owned());
    world.settle();
    assert_eq!((world.gate, world.is_ready), (Gate::Unset, false));
}

#[test]
fn other_labels_of_the_protocol_are_no_operation() {
    let mut world = serving();
    world
        .labels
        .insert(PREPARING_TO_DELETE.to_owned(), "1".to_owned());
    world.settle();
    assert_eq!(world.said(), ["preparing-to-delete", "service-available"]);
    assert!(world.begin(JOB));
}

#[test]
fn a_pod_that_stays_offline_is_not_brought_back_by_an_operation_that_ends() {
    for ends in [true, false] {
        for has_traffic in [true, false] {
            let mut world = if has_traffic {
                World::with_traffic(true)
            } else {
                World::new(true)
            };
            world
                .labels
                .insert(STAY_OFFLINE.to_owned(), "true".to_owned());
            world.gate = Gate::Closed;
            assert!(world.begin(JOB));
            world.before = Verdict::Waits;
            world.settle();
            assert_eq!(world.gate, Gate::Closed);
            world.before = Verdict::Allowed;
            world.settle();
            assert!(world.may_act(JOB));
            let end = if ends {
                JOB.finish(&world.labels)
            } else {
                JOB.undo(&world.labels)
            };
            world.edit(end.expect("an operation"));
            world.settle();
            assert_eq!(world.said(), ["stay-offline=true"]);
            assert_eq!((world.gate, world.is_ready), (Gate::Closed, false));
            world.labels.remove(STAY_OFFLINE);
            world.settle();
            assert_eq!(world.said(), ["service-available"]);
        }
    }
}

#[test]
fn the_gate_of_a_new_pod_opens_when_the_pod_has_a_node() {
    let mut world = World::new(true);
    world.is_scheduled = false;
    assert!(!world.control());
    world.is_scheduled = true;
    assert!(world.control());
    assert_eq!(world.gate, Gate::Open);
}
