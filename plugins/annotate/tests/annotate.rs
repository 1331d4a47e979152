//! Annotations are set and removed as labels are: those tests are Label's. Here is what differs.

use operon_action_annotate::Annotate;
use operon_action_schemas::accepts;
use operon_attributes::CHANGED;
use operon_sdk::testing::{FakeCluster, FakeJob};
use operon_sdk::{Progress, json};

/// A pod with the annotations `note=blue` and `old=x`, and a label of the first key.
fn world() -> FakeCluster {
    let mut world = FakeCluster::new();
    let annotations = json!({"note": "blue", "old": "x"});
    world.add_pod(
        "foo",
        &json!({"labels": {"note": "a-label"}, "annotations": annotations}),
    );
    world
}

/// A job that makes `note` a text that no label can have, and removes `old`.
fn job() -> FakeJob<Annotate> {
    let parameters = json!({"set": {"note": "{\"a\": [1]}\n"}, "remove": ["old"]});
    FakeJob::<Annotate>::new("j1", &["foo"]).parameters(&parameters)
}

fn note(world: &FakeCluster) -> Option<String> {
    let pod = world.expect_pod("foo");
    pod.annotation("note").map(str::to_owned)
}

#[test]
fn annotations_are_set_and_removed_by_one_write_and_labels_stay() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    assert_eq!(note(&world).as_deref(), Some("blue"));
    let changed = r#"{"note":["blue","{\"a\": [1]}\n"],"old":["x",null]}"#;
    assert_eq!(job.target("foo").extra(CHANGED), Some(changed));
    job.pass(&mut world);
    job.pass(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Succeeded)]);
    assert_eq!(note(&world).as_deref(), Some("{\"a\": [1]}\n"));
    let pod = world.expect_pod("foo");
    assert_eq!(pod.annotation("old"), None);
    assert_eq!(pod.label("note"), Some("a-label"));
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn a_release_puts_back_only_what_is_still_as_it_was_written() {
    let mut world = world();
    let mut job = job();
    job.pass(&mut world);
    job.pass(&mut world);
    let change = json!({"metadata": {"annotations": {"old": "y"}}});
    world.change_pod("foo", &change);
    job.cancel(&mut world);
    assert_eq!(job.progress(), [Some(Progress::Failed)]);
    assert_eq!(note(&world).as_deref(), Some("blue"));
    assert_eq!(world.expect_pod("foo").annotation("old"), Some("y"));
}

#[test]
fn an_annotation_that_is_too_long_to_be_remembered_is_not_changed() {
    // The schema counts characters, and what is remembered has at most 1024 bytes.
    for (previous, new) in [
        ("x".repeat(2000), "y".to_owned()),
        ("x".to_owned(), "ä".repeat(512)),
    ] {
        let mut world = world();
        let long = json!({"metadata": {"annotations": {"note": previous}}});
        world.change_pod("foo", &long);
        let parameters = json!({"set": {"note": new}});
        assert!(accepts::<Annotate>(&parameters));
        let mut job = FakeJob::<Annotate>::new("j1", &["foo"]).parameters(&parameters);
        job.pass(&mut world);
        assert_eq!(job.target("foo").reason(), Some("TooMuchToRemember"));
        assert_eq!(world.writes(), []);
    }
}

#[test]
fn annotations_that_controllers_depend_on_are_refused() {
    for key in [
        "kubernetes.io/config.mirror",
        "batch.kubernetes.io/job-completion-index",
        "podtransitionrule.kusionstack.io/skip-rule-conditions",
        "operon.dev/restarts",
    ] {
        let mut world = world();
        let parameters = json!({"set": {key: "x"}});
        let mut job = FakeJob::<Annotate>::new("j1", &["foo"]).parameters(&parameters);
        job.pass(&mut world);
        let failure = job.target("foo").failure.clone().expect("it failed");
        assert_eq!(failure.reason, "ReservedKey", "{key}");
        assert!(failure.message.contains("annotation"), "{failure:?}");
        assert_eq!(world.writes(), []);
    }
}

#[test]
fn the_schema_has_the_syntax_of_keys_and_takes_any_short_text() {
    for value in ["", "a b/c", "{\"a\": [1]}\n", &"x".repeat(512)] {
        assert!(
            accepts::<Annotate>(&json!({"set": {"example.com/note": value}})),
            "{value:?}"
        );
    }
    for parameters in [
        json!({}),
        json!({"key": "a"}),
        json!({"set": {"note!": "x"}}),
        json!({"set": {"note": 1}}),
        json!({"set": {"note": "x".repeat(513)}}),
        json!({"remove": ["a/b/c"]}),
    ] {
        assert!(!accepts::<Annotate>(&parameters), "{parameters}");
    }
}
