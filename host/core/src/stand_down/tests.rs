//! When KusionStack counts as running.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use serde_json::json;

use super::{Presence, Sign, Signs, WEBHOOKS};

/// A Lease of 15 s that was renewed at this minute by its holder's clock.
fn lease(holder: &str, minute: u32) -> LeaseSpec {
    let renewed = format!("2020-01-01T00:{minute:02}:00.000000Z");
    let spec = json!({
        "holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed,
    });
    serde_json::from_value(spec).expect("a LeaseSpec")
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn presence(signs: &mut Signs, seconds: u64) -> Presence {
    signs.presence(at(seconds)).0
}

fn renewed() -> Presence {
    Presence::Present(Sign::Lease("kusionstack-system".to_owned()))
}

#[test]
fn a_cluster_without_signs_is_ours() {
    assert_eq!(Signs::default().presence(at(0)), (Presence::Absent, None));
}

#[test]
fn the_configuration_of_the_webhook_is_enough_while_it_exists() {
    for name in WEBHOOKS {
        let mut signs = Signs::default();
        signs.webhook(name, true);
        let expected = Presence::Present(Sign::Webhook(name.to_owned()));
        assert_eq!(signs.presence(at(0)), (expected.clone(), None));
        assert_eq!(presence(&mut signs, 1_000_000), expected);
        let Presence::Present(sign) = expected else {
            unreachable!("it is present");
        };
        assert!(sign.to_string().contains(name) && sign.remedy().contains(name));
        signs.webhook(name, false);
        assert_eq!(presence(&mut signs, 1_000_000), Presence::Absent);
    }
}

#[test]
fn a_lease_counts_from_its_last_renewal_that_this_host_saw_whatever_the_clocks_say() {
    let mut signs = Signs::default();
    signs.lease("kusionstack-system", Some(&lease("one", 1)), at(0));
    signs.lease("kusionstack-system", Some(&lease("one", 2)), at(2));
    assert_eq!(signs.presence(at(2)), (renewed(), Some(at(32))));
    // The same object again, as a list brings it, is no renewal.
    signs.lease("kusionstack-system", Some(&lease("one", 2)), at(20));
    assert_eq!(presence(&mut signs, 31), renewed());
    assert_eq!(signs.presence(at(32)), (Presence::Absent, None));
    signs.lease("kusionstack-system", Some(&lease("two", 3)), at(500));
    assert_eq!(presence(&mut signs, 501), renewed());
}

#[test]
fn a_lease_that_was_left_behind_is_waited_for_and_no_more() {
    let mut signs = Signs::default();
    signs.lease("kusionstack-system", Some(&lease("one", 1)), at(5));
    assert_eq!(signs.presence(at(5)), (Presence::Unclear, Some(at(35))));
    assert_eq!(signs.presence(at(35)), (Presence::Absent, None));
}

#[test]
fn a_lease_that_was_released_or_deleted_ends_it_immediately() {
    let mut signs = Signs::default();
    for last in [Some(lease("", 3)), None] {
        signs.lease("kusionstack-system", Some(&lease("one", 1)), at(0));
        signs.lease("kusionstack-system", Some(&lease("one", 2)), at(2));
        assert_eq!(presence(&mut signs, 3), renewed());
        signs.lease("kusionstack-system", last.as_ref(), at(4));
        assert_eq!(signs.presence(at(4)), (Presence::Absent, None));
    }
}

#[test]
fn while_leases_cannot_be_watched_no_time_passes_for_them() {
    let mut signs = Signs::default();
    signs.lease("a", Some(&lease("one", 1)), at(0));
    signs.lease("kusionstack-system", Some(&lease("one", 1)), at(0));
    signs.lease("kusionstack-system", Some(&lease("one", 2)), at(2));
    // It is due, and whether it was renewed is not known.
    signs.leases_unseen(at(32));
    assert_eq!(presence(&mut signs, 61), renewed());
    assert_eq!(presence(&mut signs, 62), Presence::Absent);
    // What has ended stays so.
    signs.leases_unseen(at(70));
    assert_eq!(presence(&mut signs, 71), Presence::Absent);
}

#[test]
fn the_duration_of_a_lease_is_taken_within_reason() {
    for (seconds, end) in [
        (None, 30),
        (Some(60), 120),
        (Some(i32::MAX), 600),
        (Some(-5), 2),
    ] {
        let mut spec = lease("one", 1);
        spec.lease_duration_seconds = seconds;
        let mut signs = Signs::default();
        signs.lease("any", Some(&spec), at(0));
        assert_eq!(signs.presence(at(1)).1, Some(at(end)), "{seconds:?}");
    }
}
