//! What runs a Job, and what does not: ConfigMaps and Secrets that came to rest, and `spec.suspend`.

use std::{collections::BTreeMap, time::Duration};

use operon_api::{
    conditions::{READY, RECONCILING},
    keys,
    reactive_job::{RunReason, State, Triggers},
};
use serde_json::json;

use super::world::World;
use crate::driver::memory::Reconciles as _;
use crate::reactive_job::{ConfigState, config};

pub(super) fn known(digests: &[(&str, &str)]) -> ConfigState {
    let pairs = digests.iter().map(|(name, digest)| {
        let name = format!("ConfigMap/{name}");
        (name, (*digest).to_owned())
    });
    ConfigState {
        known: pairs.collect(),
        ..ConfigState::default()
    }
}

/// An object that watches its ConfigMaps, with a first Job that has succeeded.
pub(super) fn looking(debounce_seconds: Option<i32>) -> World {
    let mut world = World::new();
    world.object.spec.triggers = Some(Triggers {
        config_maps: Some(true),
        debounce_seconds,
        ..Triggers::default()
    });
    world.config = known(&[("a", "1"), ("b", "1")]);
    world.settle();
    world.succeed(&world.newest());
    world.settle();
    world
}

fn requeue_after(world: &World) -> Option<Duration> {
    world.clone().pass().expect("a conclusion").requeue_after
}

#[test]
fn a_config_map_that_changed_and_came_to_rest_runs_the_job_once() {
    let mut world = looking(None);
    world.now += 100;
    world.config = known(&[("a", "2"), ("b", "1")]);
    world.settle();
    assert_eq!(world.made, 1);
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "Processing"),
            (RECONCILING, "True", "Debouncing")
        ]
    );
    assert_eq!(requeue_after(&world), Some(Duration::from_secs(10)));

    // Each further change restarts the wait.
    world.now += 9;
    world.config = known(&[("a", "2"), ("b", "2")]);
    world.settle();
    assert_eq!(requeue_after(&world), Some(Duration::from_secs(10)));
    world.now += 9;
    world.settle();
    assert_eq!(world.made, 1);
    assert_eq!(requeue_after(&world), Some(Duration::from_secs(1)));
    world.now += 1;
    world.settle();
    assert_eq!(world.made, 2);
    let status = world.status();
    assert_eq!(status.pending, None);
    assert_eq!(status.runs[0].reason, RunReason::ConfigChanged);
    assert_eq!(
        status.runs[0].changes,
        ["ConfigMap/a changed", "ConfigMap/b changed"]
    );
    world.succeed(&world.newest());
    assert_eq!(world.settle().state, Some(State::Ready));
    world.now += 1_000_000;
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn a_config_map_that_is_changed_back_in_time_runs_nothing() {
    let mut world = looking(None);
    world.config = known(&[("a", "2"), ("b", "1")]);
    world.settle();
    world.now += 5;
    world.config = known(&[("a", "1"), ("b", "1")]);
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.status().pending, None);
    assert_eq!(world.made, 1);
}

#[test]
fn how_long_a_change_is_waited_out_is_up_to_the_user() {
    let mut world = looking(Some(0));
    world.config = known(&[("a", "2"), ("b", "1")]);
    world.settle();
    assert_eq!(world.made, 2);

    let mut world = looking(Some(3600));
    world.config = known(&[("a", "2"), ("b", "1")]);
    world.settle();
    assert_eq!(requeue_after(&world), Some(Duration::from_hours(1)));
    // A change of the template does not wait for it, and its Job uses the ConfigMap as it is.
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.status().pending, None);
    world.now += 3600;
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn a_config_map_that_goes_or_comes_is_a_change() {
    let mut world = looking(Some(0));
    for (digest, made) in [("absent", 2), ("1", 3)] {
        world.config = known(&[("a", digest), ("b", "1")]);
        world.settle();
        assert_eq!(world.made, made);
        world.succeed(&world.newest());
        world.settle();
    }
}

/// An object that watches its ConfigMaps, of which its pods need one.
fn needing(optional: bool) -> World {
    let mut world = World::new();
    world.object.spec.triggers = Some(Triggers {
        config_maps: Some(true),
        debounce_seconds: Some(0),
        ..Triggers::default()
    });
    world.edit(|template| {
        template["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([
            {"configMapRef": {"name": "a", "optional": optional}},
            {"configMapRef": {"name": "b", "optional": true}},
        ]);
    });
    world.config = known(&[("a", "1"), ("b", "1")]);
    world.settle();
    world.succeed(&world.newest());
    world.settle();
    assert_eq!(world.made, 1);
    world
}

#[test]
fn a_required_config_map_that_is_made_again_as_it_was_is_no_change() {
    let mut world = needing(false);
    world.config = known(&[("a", config::ABSENT), ("b", "1")]);
    world.settle();
    assert_eq!(world.made, 1, "no Job could start without it");
    let ready = world.condition(READY);
    assert_eq!(ready.status, "True");
    assert!(
        ready
            .message
            .ends_with("; ConfigMap/a does not exist any more, so no new Job can run"),
        "{}",
        ready.message
    );
    world.config = known(&[("a", "1"), ("b", "1")]);
    world.settle();
    assert_eq!(world.made, 1);
    assert!(!world.condition(READY).message.contains("ConfigMap/a"));

    world.config = known(&[("a", config::ABSENT), ("b", "1")]);
    world.settle();
    world.config = known(&[("a", "2"), ("b", "1")]);
    world.settle();
    assert_eq!(world.made, 2, "it holds something else");
    assert_eq!(world.status().runs[0].changes, ["ConfigMap/a changed"]);
}

#[test]
fn no_job_is_made_while_a_required_config_map_is_missing() {
    let mut world = needing(false);
    world.config = known(&[("a", config::ABSENT), ("b", "2")]);
    world.settle();
    world.edit_digest("next");
    world.settle();
    assert_eq!(world.made, 1);
    let why = world.condition(RECONCILING);
    assert_eq!(why.reason, "ConfigMissing");
    assert!(
        why.message.contains("ConfigMap/a, which does not exist"),
        "{}",
        why.message
    );
    world.config = known(&[("a", "1"), ("b", "2")]);
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.status().runs[0].reason, RunReason::TemplateChanged);
}

#[test]
fn an_optional_config_map_that_goes_is_a_change() {
    let mut world = needing(true);
    for (digest, made) in [(config::ABSENT, 2), ("1", 3)] {
        world.config = known(&[("a", digest), ("b", "1")]);
        world.settle();
        assert_eq!(world.made, made);
        world.succeed(&world.newest());
        world.settle();
    }
    world.config = known(&[("a", config::ABSENT), ("b", "1")]);
    world.settle();
    world.config = known(&[("a", "1"), ("b", "1")]);
    world.settle();
    assert!(
        world.status().pending.is_some() || world.made == 5,
        "the pods of the Job that runs started without it"
    );
}

#[test]
fn to_begin_or_to_stop_looking_runs_nothing() {
    let mut world = World::ready();
    let seen = [
        known(&[("a", "1")]),
        known(&[("a", "1"), ("b", "7")]),
        known(&[("b", "7")]),
        ConfigState::default(),
        known(&[("a", "3")]),
    ];
    for config in seen {
        world.config = config;
        world.edit_spec(|spec| spec.triggers = Some(Triggers::default()));
        assert_eq!(world.settle().state, Some(State::Ready));
    }
    assert_eq!(world.made, 1);
    // From there on a change is one.
    world.config = known(&[("a", "4")]);
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 2);
}

#[test]
fn digests_with_a_key_are_no_change_of_what_an_older_version_wrote() {
    let keyed = |digest: &str, before: &str| ConfigState {
        unkeyed: known(&[("a", before)]).known,
        ..known(&[("a", digest), ("b", "1")])
    };
    for is_status_lost in [false, true] {
        for (content, changes) in [("1", 0), ("2", 1)] {
            let mut world = looking(Some(0));
            if is_status_lost {
                world.object.status = None;
            }
            let made = world.made;
            world.config = keyed("keyed", content);
            world.settle();
            assert_eq!(world.made, made + changes, "{is_status_lost} {content}");
            // What changed is read from the status.
            if changes == 1 && !is_status_lost {
                assert_eq!(world.status().runs[0].changes, ["ConfigMap/a changed"]);
            }
            let inputs = world.status().current_inputs.clone();
            let config = inputs.and_then(|inputs| inputs.config).expect("digests");
            assert_eq!(config["ConfigMap/a"], "keyed");
        }
    }
}

const UNWATCHED: &str = "Secrets can't be watched";

/// Secrets can't be watched; of the rest this is known.
pub(super) fn unwatched(digests: &[(&str, &str)]) -> ConfigState {
    ConfigState {
        unwatched: vec![UNWATCHED.to_owned()],
        ..known(digests)
    }
}

#[test]
fn what_can_not_be_looked_at_is_said_and_runs_nothing() {
    let mut world = looking(None);
    world.events();
    world.config = unwatched(&[]);
    assert_eq!(world.settle().state, Some(State::Ready));
    assert_eq!(world.standing(), [(READY, "True", "Ready")]);
    assert!(
        world
            .condition(READY)
            .message
            .ends_with("; Secrets can't be watched")
    );
    assert_eq!(world.status().unwatched, [UNWATCHED]);
    assert_eq!(world.events(), ["TriggersUnknown"]);
    // What changed meanwhile is seen afterwards.
    world.config = known(&[("a", "2"), ("b", "1")]);
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.status().runs[0].changes, ["ConfigMap/a changed"]);
    assert_eq!(world.status().unwatched, [""; 0]);
}

#[test]
fn what_can_be_watched_runs_jobs_although_something_else_cannot() {
    let mut world = looking(None);
    world.config = unwatched(&[("a", "1")]);
    world.settle();
    assert_eq!(world.made, 1);
    world.config = unwatched(&[("a", "2")]);
    world.settle();
    assert_eq!(world.condition(RECONCILING).reason, "Debouncing");
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 2);
    assert_eq!(world.status().runs[0].changes, ["ConfigMap/a changed"]);
    world.succeed(&world.newest());
    world.settle();
    assert_eq!(world.standing(), [(READY, "True", "Ready")]);
}

#[test]
fn a_restart_makes_nothing_reconciling_and_forgets_nothing() {
    let mut world = looking(None);
    world.config = unwatched(&[("a", "1")]);
    world.settle();
    let before = world.status().clone();
    world.events();
    world.config = ConfigState {
        is_listing: true,
        ..ConfigState::default()
    };
    let conclusion = world.pass().expect("nobody dies");
    assert_eq!(conclusion.requeue_after, Some(Duration::from_secs(1)));
    assert_eq!(*world.status(), before);
    world.config = unwatched(&[("a", "1")]);
    world.settle();
    assert_eq!(*world.status(), before);
    assert_eq!(world.events(), [""; 0]);
}

#[test]
fn a_job_waits_for_the_first_list_so_that_it_knows_what_is_missing() {
    let mut world = World::new();
    world.object.spec.triggers = Some(Triggers {
        config_maps: Some(true),
        ..Triggers::default()
    });
    world.config.is_listing = true;
    world.pass();
    world.pass();
    assert_eq!(world.made, 0);
    assert_eq!(world.condition(RECONCILING).reason, "Listing");
    world.config.is_listing = false;
    world.settle();
    assert_eq!(world.made, 1);
}

#[test]
fn the_references_of_every_kind_are_looked_at_as_asked() {
    let mut world = World::new();
    world.edit(|template| {
        template["spec"]["template"]["spec"] = json!({
            "initContainers": [{"name": "i", "envFrom": [
                {"configMapRef": {"name": "from"}}, {"secretRef": {"name": "from"}},
            ]}],
            "containers": [{"name": "main", "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "key", "key": "a"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "key", "key": "a"}}},
                {"name": "configMap", "value": "name"},
            ]}],
            "volumes": [
                {"name": "a", "configMap": {"name": "volume"}},
                {"name": "b", "secret": {"secretName": "volume"}},
                {"name": "c", "projected": {"sources": [
                    {"configMap": {"name": "projected"}}, {"secret": {"name": "projected"}},
                ]}},
            ],
        });
    });
    let mut looked_at = |config_maps, secrets| {
        world.object.spec.triggers = Some(Triggers {
            config_maps,
            secrets,
            ..Triggers::default()
        });
        let names = config::references(&world.object).into_iter();
        names.map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let of =
        |kind: &str| ["from", "key", "projected", "volume"].map(|name| format!("{kind}/{name}"));
    assert_eq!(looked_at(Some(true), None), of("ConfigMap"));
    assert_eq!(looked_at(Some(false), Some(true)), of("Secret"));
    assert_eq!(looked_at(Some(true), Some(true)).len(), 8);
    assert_eq!(looked_at(None, None), [] as [&str; 0]);
}

#[test]
fn a_job_says_what_it_was_made_for() {
    let world = looking(None);
    let job = world.job(&world.newest());
    let said: BTreeMap<String, String> = serde_json::from_str(
        &job.metadata.annotations.as_ref().expect("annotations")[keys::CONFIG],
    )
    .expect("an object");
    assert_eq!(known(&[("a", "1"), ("b", "1")]).known, said);
}

#[test]
fn while_it_is_suspended_nothing_runs_and_then_the_last_change_does() {
    let mut world = World::new();
    world.edit_spec(|spec| spec.suspend = Some(true));
    assert_eq!(world.settle().state, Some(State::New));
    assert_eq!(
        world.standing(),
        [
            (READY, "Unknown", "New"),
            (RECONCILING, "True", "Suspended")
        ]
    );
    assert_eq!(world.made, 0);
    world.edit_spec(|spec| spec.suspend = Some(false));
    world.settle();
    assert_eq!(world.made, 1);

    // Running Jobs continue, and nothing is due until something changes.
    let first = world.newest();
    world.edit_spec(|spec| spec.suspend = Some(true));
    world.settle();
    world.succeed(&first);
    assert_eq!(world.settle().state, Some(State::Ready));
    for digest in ["b", "c"] {
        world.now += 1;
        world.edit_digest(digest);
        assert_eq!(world.settle().state, Some(State::Processing));
    }
    world.annotate(keys::RERUN, "please");
    world.settle();
    assert_eq!(world.made, 1);
    world.edit_spec(|spec| spec.suspend = None);
    world.settle();
    assert_eq!(world.made, 2);
    let run = &world.status().runs[0];
    assert_eq!(run.changes, ["metadata.annotations.digest: abc123 → c"]);
}

#[test]
fn a_change_that_is_taken_back_while_it_is_suspended_runs_nothing() {
    let mut world = World::ready();
    world.edit_spec(|spec| spec.suspend = Some(true));
    world.edit_digest("next");
    world.settle();
    world.edit_digest("abc123");
    assert_eq!(world.settle().state, Some(State::Ready));
    world.edit_spec(|spec| spec.suspend = None);
    world.settle();
    assert_eq!(world.made, 1);
}

#[test]
fn a_config_map_that_a_job_waits_for_is_what_it_runs_with() {
    let mut world = World::new();
    world.object.spec.triggers = Some(Triggers {
        config_maps: Some(true),
        ..Triggers::default()
    });
    world.config = known(&[("a", config::ABSENT)]);
    world.settle();
    world.config = known(&[("a", "1")]);
    world.settle();
    assert_eq!(world.status().pending, None);
    world.now += 1000;
    world.succeed(&world.newest());
    world.settle();
    assert_eq!(world.made, 1);

    // From then on it counts, its going as well.
    world.config = known(&[("a", config::ABSENT)]);
    world.settle();
    world.now += 10;
    world.settle();
    assert_eq!(world.made, 2);
}
