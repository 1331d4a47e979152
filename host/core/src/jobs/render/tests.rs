use super::*;

fn spec(value: Value) -> JobSpec {
    serde_json::from_value(value).expect("an object")
}

fn rendered(spec_: Value, overlay: &Overlay<'_>) -> Value {
    let rendered = render(&spec(spec_), overlay).expect("a Job");
    rendered.spec
}

fn pod(spec: Value) -> Value {
    Value::from_iter([("template", Value::from_iter([("spec", spec)]))])
}

fn global(value: Value) -> GlobalParams {
    serde_json::from_value(value).expect("parameters")
}

fn required(rendered: &Value) -> &Value {
    &rendered["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
}

#[test]
fn what_is_no_job_at_all_is_made_one_without_a_panic() {
    let global = global(json!({
        "env": [{"name": "A"}], "labels": {"a": "b"}, "annotations": {"a": "b"},
    }));
    for odd in [
        json!({}),
        json!({"template": null}),
        json!({"template": []}),
        json!({"template": {"metadata": 1, "spec": "text"}}),
        json!({"template": {"metadata": {"labels": []}, "spec": {"containers": {}, "initContainers": null}}}),
        pod(
            json!({"containers": [1, null, {"env": {}, "volumeMounts": 7}], "volumes": "x", "affinity": 3}),
        ),
        pod(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [1, null, {}]}}}}),
        ),
    ] {
        let volumes = [Volume(Map::from_iter([("name".to_owned(), json!("v"))]))];
        let mounts = [VolumeMount(Map::from_iter([(
            "name".to_owned(),
            json!("v"),
        )]))];
        let overlay = Overlay {
            global: Some(&global),
            volumes: &volumes,
            mounts: &mounts,
            node: Some("n"),
            tolerates_all: true,
            timeout: Some(1),
            ..Overlay::default()
        };
        let rendered = rendered(odd, &overlay);
        assert_eq!(rendered["template"]["spec"]["restartPolicy"], "Never");
    }
}

#[test]
fn the_limit_of_failures_is_0_unless_somebody_said_otherwise() {
    let none = Overlay::default();
    for (written, limit) in [
        (json!({}), json!(0)),
        (json!({"backoffLimit": null}), json!(0)),
        (json!({"backoffLimit": 3}), json!(3)),
        (json!({"backoffLimitPerIndex": 1}), Value::Null),
        (
            json!({"backoffLimitPerIndex": 1, "backoffLimit": 9}),
            json!(9),
        ),
    ] {
        assert_eq!(rendered(written, &none)["backoffLimit"], limit);
    }
}

#[test]
fn everything_else_of_the_spec_passes_through() {
    let mut written = json!({
        "parallelism": 3, "completions": 9, "completionMode": "Indexed", "suspend": true,
        "podFailurePolicy": {"rules": []}, "activeDeadlineSeconds": 5, "unknown": {"to": "us"},
        "backoffLimit": 1,
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [], "restartPolicy": "Never", "tolerations": [{"key": "k"}]},
        },
    });
    assert_eq!(rendered(written.clone(), &Overlay::default()), written);
    written["template"]["spec"]["restartPolicy"] = json!("Always");
    let rendered = rendered(written, &Overlay::default());
    assert_eq!(rendered["template"]["spec"]["restartPolicy"], "Never");
}

#[test]
fn the_ttl_is_held_back() {
    for (written, ttl) in [
        (json!({"ttlSecondsAfterFinished": 60}), Some(json!(60))),
        (json!({"ttlSecondsAfterFinished": 0}), Some(json!(0))),
        (json!({"ttlSecondsAfterFinished": null}), None),
        (json!({}), None),
    ] {
        let rendered = render(&spec(written), &Overlay::default()).expect("a Job");
        assert_eq!(rendered.ttl, ttl);
        assert_eq!(rendered.spec.get("ttlSecondsAfterFinished"), None);
    }
}

#[test]
fn variables_are_merged_by_name_in_every_container_the_common_ones_first() {
    let global = global(json!({"env": [
        {"name": "FIRST", "value": "g"}, {"name": "SHARED", "value": "g"}, {"name": "OVER", "value": "g"},
    ]}));
    let overlay = Overlay {
        global: Some(&global),
        env: vec![("OVER".to_owned(), "own".to_owned())],
        ..Overlay::default()
    };
    let rendered = rendered(
        pod(json!({
            "containers": [
                {"name": "a", "env": [{"name": "SHARED", "valueFrom": {}}, {"name": "OWN", "value": "$(FIRST)"}]},
                {"name": "b", "env": null},
            ],
            "initContainers": [{"name": "c"}],
        })),
        &overlay,
    );
    let pod = &rendered["template"]["spec"];
    let first = json!({"name": "FIRST", "value": "g"});
    let shared = json!({"name": "SHARED", "value": "g"});
    let over = json!({"name": "OVER", "value": "own"});
    assert_eq!(
        pod["containers"][0]["env"],
        json!([first, over, shared, {"name": "OWN", "value": "$(FIRST)"}])
    );
    for container in [&pod["containers"][1], &pod["initContainers"][0]] {
        assert_eq!(container["env"], json!([first, shared, over]));
    }
}

#[test]
fn common_variables_replace_every_entry_of_their_name() {
    let global = global(json!({"env": [{"name": "A", "value": "g"}, {"name": "B", "value": "g"}]}));
    let overlay = Overlay {
        global: Some(&global),
        env: vec![("B".to_owned(), "own".to_owned())],
        ..Overlay::default()
    };
    let a = json!({"name": "A", "value": "g"});
    let b = json!({"name": "B", "value": "own"});
    let c = json!({"name": "C", "value": "$(A)"});
    let field = json!({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    for (written, env) in [
        (
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            json!([b, a]),
        ),
        (
            json!([{"name": "A", "value": "1"}, c, field, null]),
            json!([b, a, c, null]),
        ),
        (
            json!([c, {"name": "B"}, {"name": "B"}, {"name": "A"}]),
            json!([c, b, a]),
        ),
        (json!([c, c]), json!([a, b, c, c])),
    ] {
        let rendered = rendered(pod(json!({"containers": [{"env": written}]})), &overlay);
        assert_eq!(rendered["template"]["spec"]["containers"][0]["env"], env);
    }
}

#[test]
fn only_the_volumes_that_are_mounted_are_there_and_every_container_mounts_them() {
    let volumes: Vec<Volume> = ["data", "other"]
        .map(|name| {
            serde_json::from_value(json!({"name": name, "emptyDir": {}})).expect("a volume")
        })
        .into();
    let mounts = |name: &str| -> Vec<VolumeMount> {
        vec![serde_json::from_value(json!({"name": name, "mountPath": "/data"})).expect("a mount")]
    };
    let written = pod(json!({
        "volumes": [{"name": "own"}],
        "containers": [{"name": "a", "volumeMounts": null}],
        "initContainers": [{"name": "b", "volumeMounts": [{"name": "own", "mountPath": "/data"}]}],
    }));
    let with = |mounts: &[VolumeMount]| {
        let overlay = Overlay {
            volumes: &volumes,
            mounts,
            ..Overlay::default()
        };
        render(&spec(written.clone()), &overlay)
    };
    let rendered = with(&mounts("data")).expect("a Job").spec;
    let pod = &rendered["template"]["spec"];
    assert_eq!(
        pod["volumes"],
        json!([{"name": "own"}, {"name": "data", "emptyDir": {}}])
    );
    assert_eq!(pod["containers"][0]["volumeMounts"], json!(mounts("data")));
    assert_eq!(
        pod["initContainers"][0]["volumeMounts"],
        json!([{"name": "own", "mountPath": "/data"}]),
        "it means something else by that path"
    );
    with(&mounts("own")).expect("a volume of the pod's own may be mounted");
    assert_eq!(
        with(&mounts("none")).expect_err("no volume").reason,
        "UnknownVolume"
    );
    let mut taken = written.clone();
    taken["template"]["spec"]["volumes"][0]["name"] = json!("data");
    let overlay = Overlay {
        volumes: &volumes,
        mounts: &mounts("data"),
        ..Overlay::default()
    };
    let failure = render(&spec(taken), &overlay).expect_err("two of one name");
    assert_eq!(failure.reason, "VolumeNameTaken");
}

#[test]
fn a_node_is_required_beside_what_a_user_requires() {
    let name = json!({"key": "metadata.name", "operator": "In", "values": ["n"]});
    let zone = json!({"key": "zone", "operator": "Exists"});
    let other = json!({"key": "metadata.name", "operator": "In", "values": ["other"]});
    for (terms, wanted) in [
        (Value::Null, json!([{"matchFields": [name]}])),
        (json!([]), json!([{"matchFields": [name]}])),
        (
            json!([{"matchExpressions": [zone]}, {"matchFields": [other]}, {}]),
            json!([{"matchExpressions": [zone], "matchFields": [name]}, {"matchFields": [name]}, {}]),
        ),
    ] {
        let rendered = rendered(
            pod(
                json!({"nodeName": "past-the-scheduler", "affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
                }}}),
            ),
            &Overlay {
                node: Some("n"),
                ..Overlay::default()
            },
        );
        assert_eq!(required(&rendered)["nodeSelectorTerms"], wanted);
        assert_eq!(rendered["template"]["spec"]["nodeName"], Value::Null);
    }
    let none = Overlay {
        node: Some(""),
        ..Overlay::default()
    };
    assert_eq!(*required(&rendered(json!({}), &none)), Value::Null);
}

#[test]
fn labels_and_annotations_are_for_the_job_too() {
    let global = global(json!({"labels": {"l": "1"}, "annotations": {"a": "2"}}));
    let overlay = Overlay {
        global: Some(&global),
        ..Overlay::default()
    };
    let rendered = render(&spec(json!({})), &overlay).expect("a Job");
    assert_eq!(
        (rendered.labels, rendered.annotations),
        (global.labels, global.annotations)
    );
    assert_eq!(
        rendered.spec["template"]["metadata"],
        json!({"labels": {"l": "1"}, "annotations": {"a": "2"}})
    );
}

#[test]
fn the_queue_of_the_object_is_a_label_of_the_job_alone() {
    let global = global(json!({"labels": {"a": "b"}}));
    let overlay = Overlay {
        global: Some(&global),
        queue: Some("gpu"),
        ..Overlay::default()
    };
    let rendered = render(&spec(json!({})), &overlay).expect("a Job");
    let labels = [("a", "b"), (keys::QUEUE_NAME, "gpu")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(rendered.labels, labels.into());
    assert_eq!(
        rendered.spec["template"]["metadata"]["labels"],
        json!({"a": "b"})
    );
}

#[test]
fn a_job_that_its_template_suspends_says_that_operon_did() {
    for (suspend, mark) in [
        (json!(true), true),
        (json!(false), false),
        (json!(null), false),
    ] {
        let spec = spec(json!({"suspend": suspend}));
        let rendered = render(&spec, &Overlay::default()).expect("a Job");
        assert_eq!(rendered.annotations.contains_key(keys::SUSPENDED), mark);
    }
}
