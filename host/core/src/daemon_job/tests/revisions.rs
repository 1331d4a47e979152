//! Edits, and their effect on existing Jobs.

use kube::ResourceExt;
use operon_api::{
    conditions::{READY, STALLED},
    daemon_job::FlowState,
    keys,
};
use serde_json::{Value, json};

use super::world::World;

type Edit = fn(&mut Value);

#[test]
fn an_edited_template_begins_anew_on_every_node() {
    let mut world = World::new(&["a", "b", "c"]);
    world.settle();
    world.add_pod("dj-b", &json!({"phase": "Running"}));
    world.succeed("a");
    world.settle();
    let before = world.status().revision.clone();
    world.edit_image("alpine:2");
    world.settle();
    assert_ne!(world.status().revision, before);
    assert_eq!(world.progress(), "0/3");
    assert_eq!(world.names(), ["dj-a", "dj-b", "dj-c"]);
    assert_eq!(world.made, 5, "b waits until its old Job is gone");
    assert_eq!(
        world.said(),
        "0 of 3 nodes succeeded, 2 running, 1 waiting until the Jobs of the previous spec are deleted. Waiting for nodes \"a\", \"c\""
    );
    world.collect_garbage();
    world.settle();
    assert_eq!(world.made, 6);
    for node in ["a", "b", "c"] {
        let job = world.job(&world.running(node));
        assert_eq!(
            json!(job.spec)["template"]["spec"]["containers"][0]["image"],
            "alpine:2"
        );
        world.succeed(node);
    }
    world.settle();
    assert_eq!(
        (world.state(), world.progress()),
        (FlowState::Succeed, "3/3")
    );
}

#[test]
fn an_edit_begins_anew_after_it_was_finished_too() {
    for fails in [false, true] {
        let mut world = World::new(&["a"]);
        world.settle();
        if fails {
            world.fail("a");
        } else {
            world.succeed("a");
        }
        world.settle();
        world.edit(|spec| spec["globalParams"] = json!({"env": [{"name": "A", "value": "1"}]}));
        world.settle();
        assert_eq!((world.state(), world.made), (FlowState::Running, 2));
        assert_eq!(world.status().completion_time, None);
        assert_eq!(world.status().failed_nodes, []);
        assert_eq!(world.job("dj-a").annotations()[keys::RUN_ATTEMPT], "1");
    }
}

#[test]
fn what_does_not_change_the_jobs_runs_nothing_again() {
    let edits: [Edit; 4] = [
        |spec| spec["rollout"] = json!({"parallelism": 1}),
        |spec| spec["excludeNodeList"] = json!("x"),
        |spec| spec["nodes"] = json!({"selector": {}}),
        |spec| spec["globalParams"] = json!({"nodeName": "a"}),
    ];
    for edit in edits {
        let mut world = World::new(&["a", "b"]);
        world.edit(|spec| spec["globalParams"] = json!({}));
        world.settle();
        world.succeed("a");
        world.settle();
        world.edit(edit);
        world.settle();
        assert_eq!((world.made, world.progress()), (2, "1/2"));
    }
}

#[test]
fn what_nobody_edited_runs_nothing_again_whatever_its_digest_is() {
    let mut world = World::new(&["a"]);
    world.settle();
    world.succeed("a");
    world.settle();
    let generation = world.object.metadata.generation;
    world.edit(|spec| spec["podReplacementPolicy"] = json!("Failed"));
    world.object.metadata.generation = generation;
    world.settle();
    assert_eq!((world.made, world.state()), (1, FlowState::Succeed));
}

#[test]
fn an_edit_while_it_is_paused_lets_go_on_what_runs() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.succeed("a");
    world.settle();
    world.set_rollout("{paused: true}");
    world.edit_image("alpine:2");
    world.settle();
    assert_eq!(world.names(), ["dj-b"], "an old result is no result");
    world.set_rollout("{}");
    world.settle();
    assert_eq!(world.busy(), ["a", "b"]);
    assert_eq!(world.made, 4);
}

#[test]
fn old_jobs_that_still_run_count_for_parallelism() {
    let mut world = World::new(&["a", "b", "c"]);
    world.settle();
    for name in ["dj-b", "dj-c"] {
        world.add_pod(name, &json!({"phase": "Running"}));
    }
    world.set_rollout("{parallelism: 2}");
    world.edit_image("alpine:2");
    world.settle();
    assert_eq!(world.made, 3, "two of the old ones still run");
    world.collect_garbage();
    world.settle();
    assert_eq!(world.made, 5);
}

#[test]
fn a_spec_that_can_not_be_read_stalls_and_what_runs_goes_on() {
    let bad: [(Edit, &str); 3] = [
        (
            |spec| spec["rollout"] = json!({"parallelism": "many"}),
            "spec.rollout.parallelism must be a number that is not negative, or a percentage such as \"10%\", not \"many\"",
        ),
        (
            |spec| {
                let rule = json!({"key": "k", "operator": "Like"});
                spec["nodes"] = json!({"selector": {"matchExpressions": [rule]}});
            },
            "spec.nodes.selector can't be read: the operator \"Like\" of \"k\" is not supported",
        ),
        (
            |spec| spec["template"]["spec"]["tolerations"] = json!(7),
            "spec.template.spec.tolerations can't be read: invalid type: integer `7`, expected a sequence",
        ),
    ];
    for (edit, message) in bad {
        let mut world = World::new(&["a", "b"]);
        world.edit(edit);
        world.settle();
        assert_eq!((world.made, world.state()), (0, FlowState::Pending));
        assert_eq!(
            world.standing(),
            [
                (READY, "False", "InvalidSpec"),
                (STALLED, "True", "InvalidSpec")
            ]
        );
        assert_eq!(world.said(), message);
        assert_eq!(world.events(), ["Stalled"]);
        world.edit(|spec| {
            spec["rollout"] = json!(null);
            spec["nodes"] = json!(null);
            spec["template"]["spec"]["tolerations"] = json!(null);
        });
        world.settle();
        assert_eq!(world.made, 2);

        world.edit(edit);
        world.succeed("a");
        world.settle();
        assert_eq!(world.state(), FlowState::Running);
        world.edit(|spec| {
            spec["rollout"] = json!(null);
            spec["nodes"] = json!(null);
            spec["template"]["spec"]["tolerations"] = json!(null);
        });
        world.settle();
        assert_eq!((world.made, world.progress()), (2, "1/2"));
    }
}

#[test]
fn what_an_api_server_would_never_let_in_is_no_panic() {
    for spec in [
        json!({}),
        json!({"template": null}),
        json!({"template": []}),
        json!({"template": {"spec": "x", "metadata": 1}}),
        json!({"template": {"spec": {"containers": "x", "affinity": 5}}}),
        json!({"ttlSecondsAfterFinished": "x", "completionMode": "Indexed", "completions": -5}),
        json!({"rollout": {"retry": {"limit": -1, "backoffSeconds": -1}, "pauseSeconds": -5, "topologyKey": ""}}),
        json!({"rollout": {"retry": {"limit": 2_147_483_647, "backoffSeconds": 2_147_483_647}}}),
        json!({"excludeNodeList": ",,,"}),
    ] {
        let mut world = World::new(&["a", "b"]);
        world.edit(|old| *old = spec.clone());
        world.settle();
        for node in ["a", "b"] {
            if world.names().contains(&format!("dj-{node}").as_str()) {
                world.fail(node);
            }
        }
        world.settle();
        world.retry("x");
        world.settle();
    }
}
