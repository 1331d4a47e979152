//! The three conditions, and how an object has finished.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};

use crate::conditions::{
    COMPLETE, End, FAILED, READY, RECONCILING, STALLED, Standing, conditions, find, with_end,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn told(conditions: &[Condition]) -> Vec<(&str, &str, i64)> {
    let one = |c: &Condition| c.last_transition_time.0.as_second();
    conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), one(c)))
        .collect()
}

#[test]
fn a_standing_decides_all_three_conditions() {
    for (standing, wanted) in [
        (Standing::Ready, &[(READY, "True", 5)][..]),
        (
            Standing::Reconciling,
            &[(READY, "False", 5), (RECONCILING, "True", 5)][..],
        ),
        (
            Standing::Stalled,
            &[(READY, "False", 5), (STALLED, "True", 5)][..],
        ),
    ] {
        let made = conditions(&[], standing, "Why", "because", Some(3), at(5));
        assert_eq!(told(&made), wanted);
        for condition in made {
            assert_eq!(
                (condition.reason.as_str(), condition.message.as_str()),
                ("Why", "because")
            );
            assert_eq!(condition.observed_generation, Some(3));
        }
    }
}

#[test]
fn a_transition_time_moves_only_with_its_status() {
    let first = conditions(&[], Standing::Reconciling, "A", "a", Some(1), at(5));
    let same = conditions(&first, Standing::Reconciling, "A", "a", Some(1), at(9));
    assert_eq!(same, first);
    let other_words = conditions(&first, Standing::Reconciling, "B", "b", Some(2), at(9));
    assert_eq!(
        told(&other_words),
        [(READY, "False", 5), (RECONCILING, "True", 5)]
    );
    let stalled = conditions(&first, Standing::Stalled, "C", "c", Some(2), at(9));
    assert_eq!(told(&stalled), [(READY, "False", 5), (STALLED, "True", 9)]);
    let ready = conditions(&stalled, Standing::Ready, "D", "d", Some(2), at(12));
    assert_eq!(told(&ready), [(READY, "True", 12)]);
    assert!(find(&ready, STALLED).is_none());
}

#[test]
fn an_object_that_has_finished_says_how_and_one_that_goes_on_does_not() {
    let standing = |previous: &[Condition], standing: Standing, now: i64| {
        conditions(previous, standing, "Why", "because", Some(3), at(now))
    };
    let under_way = standing(&[], Standing::Reconciling, 5);
    let same = with_end(&[], under_way.clone(), None, false, at(5));
    assert_eq!(same, under_way);
    for (ends, end, wanted) in [
        (
            Standing::Ready,
            End::Complete,
            [(READY, "True", 7), (COMPLETE, "True", 7)].as_slice(),
        ),
        (
            Standing::Stalled,
            End::Failed,
            &[
                (READY, "False", 5),
                (STALLED, "True", 7),
                (FAILED, "True", 7),
            ],
        ),
    ] {
        let ended = standing(&under_way, ends, 7);
        let made = with_end(&under_way, ended, Some(end), false, at(7));
        assert_eq!(told(&made), wanted);
        let last = made.last().expect("conditions");
        let said = (last.reason.as_str(), last.message.as_str());
        assert_eq!(said, ("Why", "because"));
        assert_eq!(last.observed_generation, Some(3));

        let again = standing(&made, ends, 9);
        let again = with_end(&made, again, Some(end), true, at(9));
        assert_eq!(again, made, "the same again is no change");

        let retried = standing(&made, Standing::Reconciling, 12);
        let retried = with_end(&made, retried, None, true, at(12));
        assert!(find(&retried, end.condition()).is_none());
    }
}

#[test]
fn an_object_that_had_finished_before_the_condition_existed_gets_it_with_another_change() {
    let of = |generation: i64, now: i64, previous: &[Condition]| {
        let standing = Standing::Ready;
        conditions(
            previous,
            standing,
            "Succeeded",
            "done",
            Some(generation),
            at(now),
        )
    };
    let old = of(1, 5, &[]);
    let after_upgrade = with_end(&old, of(1, 9, &old), Some(End::Complete), true, at(9));
    assert_eq!(after_upgrade, old);
    let edited = with_end(&old, of(2, 9, &old), Some(End::Complete), true, at(9));
    assert_eq!(told(&edited), [(READY, "True", 5), (COMPLETE, "True", 9)]);
}
