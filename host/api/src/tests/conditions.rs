//! The three conditions.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};

use crate::conditions::{READY, RECONCILING, STALLED, Standing, conditions, find};

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
