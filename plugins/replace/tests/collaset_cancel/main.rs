//! Cancelling the replacement of a pod of a `CollaSet`, in every interleaving with `KusionStack`'s controllers.

mod explore;
mod model;

use operon_action_replace::keys;

use explore::{Explored, How, State, explore};
use model::{ORIGIN, Rules};

/// Explores under each reading of the `CollaSet`'s rules.
fn explored(late_collaset: bool, late_host: bool) -> Vec<(Rules, Explored)> {
    let readings = [(false, false), (false, true), (true, false), (true, true)];
    let rules = readings.map(|(deletes_unrequested, ignores_marks)| Rules {
        deletes_unrequested,
        ignores_marks,
    });
    let explored = rules.map(|rules| {
        let how = How {
            rules,
            late_collaset,
            late_host,
        };
        (rules, explore(how))
    });
    explored.into()
}

/// In the end the release has finished, and an origin that stays is alone and without a mark.
fn settles(rules: Rules, explored: &Explored) {
    let Explored { states, ends } = explored;
    let ends = ends.iter().filter_map(|end| states.get(*end));
    let mut kept = 0;
    for State {
        world, released, ..
    } in ends
    {
        let Some(origin) = world.pod(ORIGIN) else {
            continue;
        };
        kept += 1;
        assert!(released, "{rules:?}");
        assert_eq!(world.staying_pods(), [ORIGIN], "{rules:?}");
        assert_eq!(origin.label(keys::TO_REPLACE), None);
        assert_eq!(origin.label(keys::PAIR_NEW_ID), None);
        assert_eq!(origin.label(keys::JOB), None);
    }
    assert!(kept > 0);
}

#[test]
fn a_cancelled_replacement_leaves_one_pod_and_never_marks_the_last_one() {
    for (rules, explored) in explored(false, false) {
        settles(rules, &explored);
        let dips = explored.states.iter().any(|state| state.dipped);
        assert_eq!(
            dips, rules.ignores_marks,
            "only a CollaSet that ignores marks deletes the origin of a pod that is marked"
        );
    }
}

#[test]
fn a_cancelled_replacement_leaves_one_pod_though_the_world_changes_before_an_effect() {
    for (rules, explored) in explored(false, true) {
        settles(rules, &explored);
    }
}

#[test]
fn a_cancelled_replacement_leaves_one_pod_though_the_collaset_acts_late() {
    for (rules, explored) in explored(true, false) {
        settles(rules, &explored);
    }
}
