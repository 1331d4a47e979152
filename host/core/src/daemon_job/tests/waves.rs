//! Nodes that go one after the other.

use std::time::Duration;

use kube::ResourceExt as _;
use operon_api::{
    conditions::{RECONCILING, STALLED},
    daemon_job::FlowState,
    keys,
};

use super::world::{START, World, about, time};
use crate::action::Failure;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Six nodes: a and d in zone 2, b and e in zone 1, c and f in none.
fn zones(rollout: &str) -> World {
    let mut world = World::with_rollout(&["a", "b", "c", "d", "e", "f"], rollout);
    for (node, zone) in [("a", "2"), ("d", "2"), ("b", "1"), ("e", "1")] {
        world.label(node, ZONE, zone);
    }
    world
}

/// What the wave of a zone is called.
fn zone(value: &str) -> String {
    format!("{ZONE}={value}")
}

fn wave(world: &World) -> (&str, Option<i64>) {
    let wave = world.status().wave.as_ref().expect("a wave");
    let end = wave.completion_time.as_ref();
    (wave.name.as_str(), end.map(|time| time.0.as_second()))
}

fn succeed_all(world: &mut World) {
    let busy: Vec<_> = world.busy().into_iter().map(str::to_owned).collect();
    for node in busy {
        world.succeed(&node);
    }
}

#[test]
fn zones_go_in_the_order_of_their_names_and_nodes_without_one_last() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}}}"));
    world.settle();
    assert_eq!(
        (world.busy(), wave(&world)),
        (vec!["b", "e"], (&*zone("1"), None))
    );
    world.succeed("b");
    world.settle();
    assert_eq!(world.busy(), ["e"], "not all of it is over");
    world.succeed("e");
    world.settle();
    assert_eq!(
        (world.busy(), wave(&world)),
        (vec!["a", "d"], (&*zone("2"), None))
    );
    succeed_all(&mut world);
    world.settle();
    assert_eq!(
        (world.busy(), wave(&world)),
        (vec!["c", "f"], ("rest", None))
    );
    world.now += 5;
    succeed_all(&mut world);
    world.settle();
    assert_eq!(wave(&world), ("rest", Some(START + 5)));
    assert_eq!(world.state(), FlowState::Succeed);
    let begun = world
        .events
        .iter()
        .filter(|event| event.reason == "WaveStarted");
    let (begun, jobs): (Vec<_>, Vec<_>) = begun
        .map(|event| (event.message.as_str(), about(event)))
        .unzip();
    let first_jobs = ["dj-b", "dj-a", "dj-c"].map(Some);
    assert_eq!(jobs, first_jobs, "they would be one Event otherwise");
    assert_eq!(
        begun,
        [
            "wave \"topology.kubernetes.io/zone=1\" starts: 2 nodes",
            "wave \"topology.kubernetes.io/zone=2\" starts: 2 nodes",
            "wave \"rest\" starts: 2 nodes"
        ]
    );
}

#[test]
fn a_wave_begins_so_long_after_the_one_before_was_over() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}, pauseSeconds: 600}}"));
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = 5.into());
    world.settle();
    world.now += 10;
    succeed_all(&mut world);
    world.now += 100;
    world.settle();
    assert_eq!(
        wave(&world),
        (&*zone("1"), Some(START + 110)),
        "when that was seen, by this clock"
    );
    assert_eq!(world.condition(RECONCILING).reason, "WavePause");
    assert!(
        world
            .said()
            .ends_with(". Wave \"topology.kubernetes.io/zone=2\" starts at 2023-11-14T22:25:10Z"),
        "{}",
        world.said()
    );
    assert_eq!(world.plan().requeue_after, Some(Duration::from_mins(10)));
    world.wait(599);
    assert!(world.jobs.is_empty());
    world.settle();
    assert_eq!(world.made, 2);
    world.now += 1;
    world.settle();
    assert_eq!(
        (world.busy(), wave(&world)),
        (vec!["a", "d"], (&*zone("2"), None))
    );
}

#[test]
fn canaries_go_first_and_are_the_first_by_name_or_selected() {
    for (canary, expected) in [
        ("{}", vec!["a"]),
        ("{count: 2}", vec!["a", "b"]),
        ("{count: 0}", vec!["a", "b", "c", "d", "e", "f"]),
        ("{count: \"40%\"}", vec!["a", "b", "c"]),
        (
            "{selector: {matchLabels: {canary: \"yes\"}}}",
            vec!["c", "f"],
        ),
        (
            "{selector: {matchLabels: {canary: \"yes\"}}, count: 1}",
            vec!["c"],
        ),
    ] {
        let mut world = zones(&format!("{{canary: {canary}}}"));
        for node in ["c", "f"] {
            world.label(node, "canary", "yes");
        }
        world.settle();
        assert_eq!(world.busy(), expected, "{canary}");
        if expected.len() < 6 {
            assert_eq!(wave(&world), ("canary", None));
            succeed_all(&mut world);
            world.settle();
            assert_eq!(world.busy().len(), 6 - expected.len());
            assert_eq!(wave(&world), ("rest", None));
        }
    }
}

#[test]
fn without_a_canary_nothing_goes_first() {
    let mut world = zones("{canary: {selector: {matchLabels: {canary: \"yes\"}}}}");
    world.settle();
    assert_eq!((world.made, world.state()), (0, FlowState::Pending));
    assert_eq!(world.condition(RECONCILING).reason, "NoCanaryNodes");
    world.label("d", "canary", "yes");
    world.settle();
    assert_eq!(world.busy(), ["d"]);
    // After it has succeeded, it may leave.
    world.succeed("d");
    world.settle();
    world.leave("d");
    world.settle();
    assert_eq!(world.busy(), ["a", "b", "c", "e", "f"]);
}

#[test]
fn a_canary_that_fails_stops_the_others_however_many_may_fail() {
    for (policy, state, busy) in [
        ("FailFast", FlowState::Failed, 0),
        ("Pause", FlowState::Running, 0),
        ("Continue", FlowState::Running, 5),
    ] {
        let mut world = zones(&format!(
            "{{canary: {{}}, maxFailures: 3, failurePolicy: {policy}}}"
        ));
        world.settle();
        world.fail("a");
        world.settle();
        assert_eq!(
            (world.state(), world.busy().len()),
            (state, busy),
            "{policy}"
        );
        if busy == 0 {
            assert!(
                world
                    .condition(STALLED)
                    .message
                    .contains(". A canary failed. ")
            );
            world.retry("1");
            world.settle();
            world.succeed("a");
            world.settle();
            assert_eq!(world.busy().len(), 5, "{policy}");
        }
    }
}

#[test]
fn a_node_that_fails_within_what_is_allowed_holds_up_no_wave() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}, maxFailures: 1}}"));
    world.settle();
    world.fail("b");
    world.succeed("e");
    world.settle();
    assert_eq!(world.busy(), ["a", "d"]);
}

#[test]
fn a_node_that_is_to_run_again_holds_up_the_next_wave() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}, retry: {{limit: 1}}}}"));
    world.settle();
    world.fail("b");
    world.succeed("e");
    world.settle();
    assert!(world.busy().is_empty());
    world.wait(10);
    world.settle();
    assert_eq!(world.busy(), ["b"]);
    world.succeed("b");
    world.settle();
    assert_eq!(world.busy(), ["a", "d"]);
}

#[test]
fn a_node_that_comes_late_into_a_wave_goes_at_once_and_the_next_one_waits_for_it() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}}}"));
    world.settle();
    succeed_all(&mut world);
    world.settle();
    world.join("g");
    world.label("g", ZONE, "1");
    world.settle();
    assert_eq!(world.busy(), ["a", "d", "g"]);
    world.succeed("a");
    world.succeed("d");
    world.settle();
    assert_eq!(
        (world.busy(), wave(&world)),
        (vec!["g"], (&*zone("2"), None))
    );
    world.succeed("g");
    world.settle();
    assert_eq!(world.busy(), ["c", "f"]);
}

#[test]
fn canaries_go_before_zones_and_parallelism_holds_within_a_wave() {
    let mut world = zones(&format!(
        "{{topologyKey: {ZONE}, canary: {{count: 2}}, parallelism: 1}}"
    ));
    let mut order = Vec::new();
    world.settle();
    for _ in 0..6 {
        let busy: Vec<_> = world.busy().into_iter().map(str::to_owned).collect();
        assert_eq!(busy.len(), 1);
        order.extend(busy);
        world.now += 1;
        succeed_all(&mut world);
        world.settle();
    }
    assert_eq!(order, ["a", "b", "e", "d", "c", "f"]);
    assert_eq!(world.status().completion_time, Some(time(START + 6)));
}

#[test]
fn a_job_names_the_wave_in_which_it_was_created() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}, canary: {{}}}}"));
    let mut seen = Vec::new();
    for _ in 0..4 {
        world.settle();
        for node in world.busy() {
            let job = world.job(&format!("dj-{node}"));
            seen.push((node.to_owned(), job.annotations()[keys::WAVE].clone()));
        }
        succeed_all(&mut world);
    }
    let (one, two) = (zone("1"), zone("2"));
    let expected = [
        ("a", "canary"),
        ("b", one.as_str()),
        ("e", one.as_str()),
        ("d", two.as_str()),
        ("c", "rest"),
        ("f", "rest"),
    ];
    let expected = expected.map(|(node, wave)| (node.to_owned(), wave.to_owned()));
    assert_eq!(seen, expected);

    let mut world = World::with_rollout(&["a"], "{}");
    world.settle();
    assert_eq!(world.job("dj-a").annotations().get(keys::WAVE), None);
}

#[test]
fn waves_begin_anew_with_another_template() {
    let mut world = zones(&format!("{{topologyKey: {ZONE}, pauseSeconds: 60}}"));
    world.settle();
    succeed_all(&mut world);
    world.settle();
    world.wait(60);
    world.settle();
    assert_eq!(world.busy(), ["a", "d"]);
    world.edit_image("alpine:2");
    world.settle();
    assert_eq!(
        (world.busy(), wave(&world)),
        (vec!["b", "e"], (&*zone("1"), None))
    );
}

#[test]
fn a_zone_that_is_called_as_another_wave_has_its_own_pause() {
    let rollout = format!("{{topologyKey: {ZONE}, canary: {{}}, pauseSeconds: 60}}");
    let mut world = World::with_rollout(&["a", "b", "c"], &rollout);
    world.label("b", ZONE, "canary");
    world.label("c", ZONE, "rest");
    world.settle();
    for node in ["a", "b", "c"] {
        assert_eq!(world.busy(), [node]);
        world.now += 10;
        succeed_all(&mut world);
        world.settle();
        assert_eq!(world.busy(), [""; 0], "the pause after {node}");
        world.now += 59;
        world.settle();
        assert_eq!(world.busy(), [""; 0], "the pause after {node}");
        world.now += 1;
        world.settle();
    }
    let begun = world
        .events
        .iter()
        .filter(|event| event.reason == "WaveStarted");
    assert_eq!(begun.count(), 3);
}

#[test]
fn whatever_joins_while_a_canary_runs_the_rollout_waits_for_the_canary() {
    let mut world = World::with_rollout(&["b", "c", "d"], "{canary: {}, pauseSeconds: 60}");
    world.settle();
    assert_eq!(world.busy(), ["b"]);
    world.join("a");
    world.settle();
    assert_eq!(world.busy(), ["b"], "a node that sorts first is no canary");
    world.cordon("b", true);
    world.cordon("a", true);
    world.settle();
    world.cordon("a", false);
    world.settle();
    assert_eq!(
        world.busy(),
        ["b"],
        "nor does a cordoned canary open the rollout"
    );
    world.cordon("b", false);
    world.succeed("b");
    world.settle();
    assert_eq!(world.busy(), [""; 0], "the pause comes first");
    world.wait(61);
    world.settle();
    assert_eq!(world.busy(), ["a", "c", "d"]);
}

#[test]
fn a_failed_canary_stops_the_rest_whatever_joins() {
    let mut world = World::with_rollout(&["b", "c"], "{canary: {}, maxFailures: 5}");
    world.settle();
    world.fail("b");
    world.settle();
    world.join("a");
    world.settle();
    assert_eq!(world.busy(), [""; 0]);
    assert_eq!(world.state(), FlowState::Failed);
}

#[test]
fn a_wave_starts_when_the_first_of_its_jobs_is_wanted() {
    let mut world = zones(&format!(
        "{{topologyKey: {ZONE}, canary: {{}}, parallelism: 1}}"
    ));
    let started = |world: &mut World| -> Vec<_> {
        let events = world.events.drain(..);
        let started = events.filter(|event| event.reason == "WaveStarted");
        started.map(|event| event.message).collect()
    };
    for (wave, count) in [("canary", "1 node"), (&*zone("1"), "2 nodes")] {
        let quota = Failure::new("Forbidden", "no quota");
        world.refusals.insert("*".to_owned(), quota);
        world.settle();
        assert_eq!(
            started(&mut world),
            [format!("wave {wave:?} starts: {count}")],
            "though nothing of it is granted"
        );
        assert_eq!(world.busy(), [""; 0]);
        world.refusals.clear();
        world.settle();
        assert_eq!((started(&mut world).len(), world.busy().len()), (0, 1));
        succeed_all(&mut world);
    }
    world.settle();
    succeed_all(&mut world);
    world.settle();
    assert_eq!(
        started(&mut world),
        [format!("wave {:?} starts: 1 node", zone("2"))]
    );
}
