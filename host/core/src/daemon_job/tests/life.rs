//! The life of an object: its Jobs, what they look like, what the status and the events say.

use kube::ResourceExt;
use operon_api::{
    conditions::{COMPLETE, READY, RECONCILING},
    daemon_job::{DaemonJobStatus, FlowState},
    keys,
};
use serde_json::json;

use super::world::{START, World, about, time};
use crate::driver::memory::Reconciles as _;

#[test]
fn the_readmes_manifest_runs_on_every_node_that_it_does_not_exclude() {
    let mut world = World::seed(&["node1", "node2", "vm-0-12-centos", "vm-0-17-centos"]);
    world.settle();
    let jobs = [
        "daemonjob-example-vm-0-12-centos",
        "daemonjob-example-vm-0-17-centos",
    ];
    assert_eq!(world.names(), jobs);
    assert_eq!(world.state(), FlowState::Running);

    let job = world.job(jobs[0]);
    assert_eq!(job.labels()["key1"], "value1");
    assert_eq!(job.annotations()["key2"], "value2");
    assert_eq!(job.annotations()[keys::NODE_NAME], "vm-0-12-centos");
    let owner = &job.owner_references()[0];
    assert_eq!(
        (owner.controller, owner.block_owner_deletion),
        (Some(true), Some(true))
    );
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str()),
        ("DaemonJob", "object")
    );
    let spec = json!(job.spec);
    assert_eq!(spec["backoffLimit"], 0);
    let metadata = &spec["template"]["metadata"];
    assert_eq!(
        metadata["labels"],
        json!({
            "key1": "value1",
            "key2": "value2",
            keys::OWNER_UID: "object",
            keys::NODE_UID: job.labels()[keys::NODE_UID],
            // These two are the API server's.
            "batch.kubernetes.io/controller-uid": "job-1",
            "job-name": "daemonjob-example-vm-0-12-centos",
        })
    );
    assert_eq!(
        metadata["annotations"],
        json!({
            "key1": "value1",
            "key2": "value2",
            keys::NODE_NAME: "vm-0-12-centos",
            keys::REVISION: job.annotations()[keys::REVISION],
            keys::RUN_ATTEMPT: "1",
        })
    );
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod.get("nodeName"), None);
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["vm-0-12-centos"]});
    assert_eq!(
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        json!({"nodeSelectorTerms": [{"matchFields": [field]}]})
    );
    assert_eq!(
        pod["containers"][0]["env"],
        json!([{"name": "FOO", "value": "bar"}, {"name": "QUE", "value": "pasa"}])
    );
    assert_eq!(pod["containers"][0]["image"], "busybox:1.28");

    world.now += 102;
    world.succeed("vm-0-12-centos");
    world.succeed("vm-0-17-centos");
    world.settle();
    assert_eq!(world.state(), FlowState::Succeed);
    assert_eq!(world.progress(), "2/2");
    assert_eq!(world.standing(), [(READY, "True", "Succeeded")]);
    assert_eq!(world.end(), [(COMPLETE, "Succeeded")]);
    assert_eq!(
        world.said(),
        "2 of 2 nodes succeeded. 2 nodes get no Job: 2 excluded"
    );
    let keys: Vec<_> = world.status().job_status_list.keys().cloned().collect();
    assert_eq!(keys, jobs.map(|job| format!("{job}/default")));
}

#[test]
fn every_eligible_node_gets_its_own_job() {
    let mut world = World::new(&["a", "b", "c"]);
    let first = world.pass().expect("a conclusion");
    assert_eq!(world.names(), ["dj-a", "dj-b", "dj-c"]);
    assert_eq!(first.status.state, Some(FlowState::Running));
    assert_eq!(world.events(), ["Created"; 3]);
    world.settle();
    for (done, node) in ["b", "a", "c"].into_iter().enumerate() {
        assert_eq!(world.progress(), format!("{done}/3"));
        assert_eq!(world.state(), FlowState::Running);
        assert_eq!(world.status().active, i32::try_from(3 - done).ok());
        world.now += 1;
        world.succeed(node);
        world.settle();
    }
    assert_eq!(world.state(), FlowState::Succeed);
    assert_eq!(world.made, 3);
    assert_eq!(world.events(), ["Succeed"]);
    let status = world.status();
    assert_eq!(status.start_time, Some(time(START)));
    assert_eq!(status.completion_time, Some(time(START + 3)));
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.completed_nodes.len(), 3);
    assert!(status.completed_nodes.is_sorted());
    assert!(status.started_node_digests.is_empty());
}

#[test]
fn events_are_told_once_and_say_what_happened() {
    let mut world = World::new(&["a"]);
    world.settle();
    world.succeed("a");
    world.settle();
    let told: Vec<_> = world
        .events
        .iter()
        .map(|event| (event.reason, event.message.as_str(), about(event)))
        .collect();
    assert_eq!(
        told,
        [
            (
                "Created",
                "created Job \"dj-a\" on node \"a\"",
                Some("dj-a")
            ),
            ("Succeed", "1 of 1 node succeeded", None),
        ]
    );

    let names: Vec<_> = (0..21).map(|number| format!("n{number:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::with_rollout(&names, "{failurePolicy: Continue}");
    world.settle();
    let told: Vec<_> = world.events.drain(..).map(|event| event.message).collect();
    assert_eq!(told, ["created Jobs on 21 nodes"]);
    for name in &names {
        world.fail(name);
    }
    world.settle();
    assert_eq!(world.events(), ["NodeFailed", "Failed"]);
}

#[test]
fn a_node_costs_one_write_beside_the_statuses_and_another_with_a_ttl() {
    for (ttl, expected) in [(None, 3), (Some(60), 6)] {
        let mut world = World::new(&["a", "b", "c"]);
        world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(ttl));
        world.settle();
        for node in ["a", "b", "c"] {
            world.succeed(node);
        }
        world.settle();
        assert_eq!(world.writes - world.status_writes, expected);
        assert_eq!(world.status_writes, 2);
    }
}

#[test]
fn a_job_is_kept_until_its_result_is_written_down_and_never_runs_again() {
    let mut world = World::with_rollout(&["a", "b"], "{failurePolicy: Continue}");
    world.edit(|spec| spec["ttlSecondsAfterFinished"] = json!(60));
    world.settle();
    let spec = |world: &World, name: &str| {
        world
            .job(name)
            .spec
            .as_ref()
            .and_then(|s| s.ttl_seconds_after_finished)
    };
    assert_eq!(spec(&world, "dj-a"), None);
    world.succeed("a");
    world.pass();
    assert_eq!(
        spec(&world, "dj-a"),
        None,
        "the status is written in this pass"
    );
    world.pass();
    assert_eq!(spec(&world, "dj-a"), Some(60));
    world.settle();

    world.wait(60);
    assert_eq!(world.names(), ["dj-b"]);
    world.settle();
    assert_eq!((world.made, world.progress()), (2, "1/2"));
    world.fail("b");
    world.settle();
    world.wait(60);
    assert!(world.names().is_empty());
    world.settle();
    assert_eq!((world.made, world.state()), (2, FlowState::Failed));
    assert_eq!(
        world.status().failed_nodes[0].reason,
        "BackoffLimitExceeded"
    );
}

#[test]
fn a_failed_job_that_goes_while_others_run_stays_failed() {
    let mut world = World::with_rollout(&["a", "b"], "{failurePolicy: Continue}");
    world.settle();
    world.fail("a");
    world.settle();
    let told = world.status().failed_nodes.clone();
    world.delete_job("dj-a", false);
    world.settle();
    assert_eq!((world.made, world.status().failed), (2, Some(1)));
    assert_eq!(world.status().failed_nodes, told);
}

#[test]
fn nodes_whose_names_meet_get_jobs_of_their_own() {
    let mut world = World::new(&["n", "n-2"]);
    world.set_rollout("{retry: {limit: 3}}");
    world.settle();
    assert_eq!(world.names(), ["dj-n", "dj-n-2"]);
    world.fail("n");
    world.settle();
    world.wait(10);
    world.settle();
    assert_eq!((world.made, world.names().len()), (3, 3));
    assert!(
        world.running("n").starts_with("dj-n-2-"),
        "{:?}",
        world.names()
    );
    assert_eq!(world.running("n-2"), "dj-n-2");

    let long = ["n".repeat(200), format!("{}x", "n".repeat(199))];
    let mut world = World::new(&[&long[0], &long[1]]);
    world.settle();
    assert_eq!(world.made, 2);
    assert_ne!(world.running(&long[0]), world.running(&long[1]));
}

#[test]
fn a_node_name_for_all_has_no_meaning_and_that_is_said() {
    let mut world = World::new(&["a", "b"]);
    world.edit(|spec| spec["globalParams"] = json!({"nodeName": "a"}));
    world.settle();
    assert_eq!(world.names(), ["dj-a", "dj-b"]);
    assert_eq!(
        world.said(),
        "0 of 2 nodes succeeded, 2 running. spec.globalParams.nodeName has no effect in a DaemonJob. Waiting for nodes \"a\", \"b\""
    );
    let pod = json!(world.job("dj-b").spec)["template"]["spec"].clone();
    assert_eq!(pod.get("nodeName"), None);
}

#[test]
fn a_backoff_limit_is_honoured_and_a_timeout_is_the_lower_one() {
    let mut world = World::with_rollout(&["a"], "{timeoutSeconds: 30}");
    world.edit(|spec| {
        spec["backoffLimit"] = json!(4);
        spec["activeDeadlineSeconds"] = json!(60);
    });
    world.settle();
    let spec = world.job("dj-a").spec.clone().expect("a spec");
    assert_eq!(spec.backoff_limit, Some(4));
    assert_eq!(spec.active_deadline_seconds, Some(30));
}

#[test]
fn what_a_template_says_itself_stays_unless_global_params_say_otherwise() {
    let mut world = World::new(&["a"]);
    world.edit(|spec| {
        spec["template"]["metadata"] = json!({"labels": {"own": "1", "both": "1"}});
        spec["template"]["spec"]["containers"][0]["env"] =
            json!([{"name": "OWN", "value": "1"}, {"name": "BOTH", "value": "1"}]);
        spec["globalParams"] = json!({
            "labels": {"both": "2", keys::OWNER_UID: "mine", keys::NODE_UID: "mine"},
            "annotations": {keys::REVISION: "mine", keys::TTL: "1", keys::JOB_TEMPLATE: "mine"},
            "env": [{"name": "BOTH", "value": "2"}],
        });
    });
    world.settle();
    let job = world.job("dj-a");
    assert_eq!(job.labels()[keys::OWNER_UID], "object");
    assert_ne!(job.labels()[keys::NODE_UID], "mine");
    assert_ne!(job.annotations()[keys::REVISION], "mine");
    assert_eq!(job.annotations().get(keys::TTL), None);
    assert_eq!(job.annotations().get(keys::JOB_TEMPLATE), None);
    let template = &json!(job.spec)["template"];
    assert_eq!(template["metadata"]["labels"]["own"], "1");
    assert_eq!(template["metadata"]["labels"]["both"], "2");
    assert_eq!(
        template["spec"]["containers"][0]["env"],
        json!([{"name": "OWN", "value": "1"}, {"name": "BOTH", "value": "2"}])
    );
}

#[test]
fn a_job_of_many_pods_is_over_when_its_condition_says_so() {
    let mut world = World::new(&["a"]);
    world.settle();
    let job = world.jobs.get_mut("dj-a").expect("a Job");
    let status = job.status.get_or_insert_default();
    (status.succeeded, status.failed) = (Some(1), Some(1));
    world.settle();
    assert_eq!(world.state(), FlowState::Running);
}

#[test]
fn one_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let mut world = World::new(&["a", "b"]);
    world.settle();
    world.object.metadata.deletion_timestamp = Some(time(world.now));
    let writes = world.writes;
    world.leave("a");
    world.settle();
    assert_eq!(world.writes, writes + 1, "the status alone");
    assert_eq!(world.state(), FlowState::Terminating);
    assert_eq!(world.standing()[1], (RECONCILING, "True", "Terminating"));
}

#[test]
fn a_paused_rollout_starts_nothing_and_what_runs_goes_on() {
    let mut world = World::with_rollout(&["a", "b"], "{parallelism: 1}");
    world.settle();
    world.set_rollout("{parallelism: 1, paused: true}");
    world.settle();
    world.succeed("a");
    world.settle();
    assert_eq!(world.names(), ["dj-a"]);
    assert_eq!(world.state(), FlowState::Running);
    assert_eq!(world.standing()[1], (RECONCILING, "True", "Paused"));
    world.set_rollout("{parallelism: 1}");
    world.settle();
    assert_eq!(world.busy(), ["b"]);
}

#[test]
fn parallelism_is_how_many_nodes_run_at_the_same_time() {
    let nodes = ["a", "b", "c", "d", "e"];
    for (parallelism, expected) in [
        ("1", 1),
        ("0", 1),
        ("2", 2),
        ("\"30%\"", 2),
        ("\"100%\"", 5),
    ] {
        let mut world = World::with_rollout(&nodes, &format!("{{parallelism: {parallelism}}}"));
        world.settle();
        for (done, node) in nodes.into_iter().enumerate() {
            let busy: Vec<_> = world.busy().into_iter().map(str::to_owned).collect();
            assert_eq!(busy.len(), expected.min(5 - done), "{parallelism}");
            assert_eq!(busy[0], node, "in the order of their names");
            world.succeed(&busy[0]);
            world.settle();
        }
        assert_eq!(world.state(), FlowState::Succeed);
    }
}

#[test]
fn the_status_that_the_crd_gives_a_new_object_says_nothing() {
    let mut without = World::new(&["a", "b"]);
    let mut with = without.clone();
    with.object.status = Some(DaemonJobStatus {
        observed_generation: Some(-1),
        ..DaemonJobStatus::default()
    });
    for world in [&mut without, &mut with] {
        world.retry("now");
    }
    assert_eq!(with.settle(), without.settle());
}
