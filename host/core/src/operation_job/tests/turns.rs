//! Whose turn it is, and how long a target waits.

use std::time::Duration;

use operon_api::operation_job::TargetDetail;

use super::world::{
    World, acted, attributes, clean, plugin, processing, report, retry, said, terminal,
};
use crate::{
    action::{Failure, OpsProgress},
    operation_job::{
        plan::TargetStep,
        turns::{
            CallCause, again, gathering, in_turn, probing, reported, soonest_after_change,
            unsettled, wait,
        },
    },
};

/// The order of these targets, each with the number of its previous call.
fn order(targets: &[(TargetDetail, u64)]) -> Vec<String> {
    let details: Vec<_> = targets.iter().map(|(detail, _)| detail.clone()).collect();
    let run = World::with(&details).run();
    let numbered = run.targets.iter().zip(targets);
    let turns = in_turn(numbered.map(|(plan, (_, last))| (*last, plan)).collect());
    turns.iter().map(|plan| plan.detail.name.clone()).collect()
}

fn further_on(name: &str) -> TargetDetail {
    TargetDetail {
        extra_info: attributes(&[("NewPod", "new")]),
        ..processing(name)
    }
}

fn in_trouble(name: &str) -> TargetDetail {
    TargetDetail {
        error: Some(said("Busy", "later")),
        ..processing(name)
    }
}

#[test]
fn targets_that_are_further_on_come_first() {
    let table = [
        (vec![], vec![]),
        (
            vec![(processing("a"), 0), (processing("b"), 0)],
            vec!["a", "b"],
        ),
        (
            vec![(processing("a"), 0), (in_trouble("b"), 0)],
            vec!["b", "a"],
        ),
        (
            vec![(in_trouble("a"), 0), (further_on("b"), 0)],
            vec!["b", "a"],
        ),
    ];
    for (targets, wanted) in table {
        assert_eq!(order(&targets), wanted);
    }
}

#[test]
fn every_second_turn_is_that_of_the_target_called_longest_ago() {
    let targets = [
        (further_on("a"), 7),
        (further_on("b"), 8),
        (further_on("c"), 9),
        (processing("d"), 3),
        (processing("e"), 0),
    ];
    assert_eq!(order(&targets), ["a", "e", "b", "d", "c"]);
}

#[test]
fn no_target_waits_for_ever_though_only_some_are_called_in_a_pass() {
    let mut last = [0_u64; 50];
    let mut number = 0;
    for _ in 0..25 {
        let target = |place: usize| {
            let name = format!("t{place:02}");
            if place < 10 {
                further_on(&name)
            } else {
                processing(&name)
            }
        };
        let targets: Vec<_> = (0..50).map(|place| (target(place), last[place])).collect();
        for name in order(&targets).iter().take(4) {
            let place: usize = name[1..].parse().expect("a number");
            number += 1;
            last[place] = number;
        }
    }
    assert!(last.iter().all(|called| *called > 0), "{last:?}");
}

#[test]
fn a_target_waits_twice_as_long_after_each_failure_up_to_a_minute() {
    let half_seconds = |answer, failures| wait(&answer, failures).map(|w| w.as_millis() / 500);
    for (failures, wanted) in [
        (1, 1),
        (2, 2),
        (3, 4),
        (7, 64),
        (8, 120),
        (9, 120),
        (u32::MAX, 120),
    ] {
        assert_eq!(half_seconds(plugin("trap"), failures), Some(wanted));
        assert_eq!(half_seconds(retry("busy", None), failures), Some(wanted));
        assert_eq!(half_seconds(terminal("no"), failures), Some(wanted));
        assert_eq!(half_seconds(retry("busy", Some(7)), failures), Some(14));
    }
    for answer in [clean(), acted(), report(OpsProgress::Processing, None)] {
        assert_eq!(wait(&answer, 1), None);
    }
}

#[test]
fn only_a_report_holds_until_something_changes() {
    let operate = TargetStep::Operate;
    let waits = report(
        OpsProgress::Processing,
        Some(Failure::new("Waiting", "not yet")),
    );
    assert_eq!(again(&operate, &waits), Some(None));
    assert_eq!(reported(&waits), Some("Waiting"));
    for (answer, cause) in [
        (acted(), CallCause::Effect),
        (plugin("trap"), CallCause::Failure),
        (retry("busy", Some(7)), CallCause::Failure),
        (clean(), CallCause::Unsettled),
    ] {
        assert_eq!(again(&operate, &answer), None, "{answer:?}");
        assert_eq!(unsettled(&answer), cause, "{answer:?}");
        assert_eq!(reported(&answer), None, "{answer:?}");
    }
}

#[test]
fn what_others_read_too_is_gathered_for_half_a_second() {
    let after = |milliseconds| gathering(Duration::from_millis(milliseconds));
    assert_eq!(after(0), Some(Duration::from_millis(500)));
    assert_eq!(after(400), Some(Duration::from_millis(100)));
    assert_eq!([after(500), after(9_000)], [None, None]);
}

#[test]
fn one_of_the_targets_that_wait_for_a_limit_is_called_about_every_five_seconds() {
    let after = |seconds| probing(Duration::from_secs(seconds));
    assert_eq!(after(0), Some(Duration::from_secs(5)));
    assert_eq!([after(5), after(60)], [None, None]);
}

#[test]
fn a_change_ends_the_wait_but_never_makes_a_loop() {
    assert_eq!(soonest_after_change(1), Duration::ZERO);
    assert_eq!(soonest_after_change(2), Duration::from_millis(500));
    assert_eq!(soonest_after_change(9), Duration::from_millis(500));
}
