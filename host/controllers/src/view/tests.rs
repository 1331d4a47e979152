//! What an action reads in one reconcile.

use super::*;
use crate::reads::Seen;
use crate::store::Writer;
use kube::runtime::watcher::Event;
use operon_api::OperationJob;
use serde_json::json;

#[test]
fn pods_are_found_by_any_selector_in_the_namespace_alone() {
    let mut writer = Writer::<Pod>::default();
    for (namespace, name, labels) in [
        ("ns", "a", json!({"app": "x", "tier": "1"})),
        ("ns", "b", json!({"app": "x"})),
        ("ns", "c", json!({"app": "y", "tier": "1"})),
        ("other", "d", json!({"app": "x"})),
    ] {
        let metadata = json!({"namespace": namespace, "name": name, "labels": labels});
        let pod = serde_json::from_value(json!({"metadata": metadata})).expect("a pod");
        writer.apply_watcher_event(&Event::Apply(pod));
    }
    let pods = Some((writer.as_reader(), Selector::default()));
    let declared = Declared {
        pods,
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    for (selector, expected) in [
        ("", vec!["a", "b", "c"]),
        ("app=x", vec!["a", "b"]),
        ("app=x,tier=1", vec!["a"]),
        ("app in (x,y),!tier", vec!["b"]),
        ("app=z", vec![]),
        ("nobody=has", vec![]),
    ] {
        // Read twice: the second answer is of what the first one found.
        for _ in 0..2 {
            let found = view.find_pods(selector).expect(selector);
            let names: Vec<_> = found.map(|pod| pod.name.clone()).collect();
            assert_eq!(names, expected, "{selector}");
        }
        let whole = view.find("v1", "Pod", selector).expect(selector);
        assert_eq!(whole.count(), expected.len(), "{selector}");
    }
}

#[test]
fn a_view_shows_what_was_there_at_its_first_read() {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
    let mut writer = Writer::<DynamicObject>::default();
    let mut write = |number: u32| {
        let object = json!({
            "metadata": {"namespace": "ns", "name": "a", "labels": {"app": "x"}}, "data": {"n": number},
        });
        let object = serde_json::from_value(object).expect("an object");
        writer.apply_watcher_event(&Event::Apply(object));
        writer.as_reader()
    };
    let kind = DeclaredKind {
        resource,
        store: write(1),
        is_cluster_scoped: false,
    };
    let declared = Declared {
        others: [(("v1".to_owned(), "ConfigMap".to_owned()), kind)].into(),
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    for number in 2..4 {
        let read = view
            .get(&reference("v1", "ConfigMap", "a"))
            .expect("declared");
        assert_eq!(read.expect("an object")["data"]["n"], 1);
        let mut found = view.find("v1", "ConfigMap", "app=x").expect("a selector");
        assert_eq!(found.next().expect("an object")["data"]["n"], 1);
        write(number);
    }
}

fn recorder(declared: Declared) -> Arc<Recorder> {
    let view = Arc::new(View::new("ns", declared, Arc::default()));
    Arc::new(Recorder::new(view, Seen::default()))
}

#[test]
fn the_own_pod_is_read_though_the_declared_selector_excludes_it() {
    let mut writer = Writer::<Pod>::default();
    for name in ["own", "other"] {
        let metadata = json!({"namespace": "ns", "name": name, "uid": name});
        let pod = serde_json::from_value(json!({"metadata": metadata})).expect("a pod");
        writer.apply_watcher_event(&Event::Apply(pod));
    }
    let selector = Selector::parse("app=x").expect("a selector");
    let declared = Declared {
        pods: Some((writer.as_reader(), selector)),
        ..Declared::default()
    };
    let view = ViewOfTarget {
        view: recorder(declared),
        name: "own".to_owned(),
        pod: writer
            .as_reader()
            .get(&kube::runtime::reflector::ObjectRef::new("own").within("ns")),
    };
    for (name, uid) in [("own", Some("own")), ("other", None)] {
        let reference = ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: name.to_owned(),
        };
        let read = view.get(&reference).expect("pods were declared");
        let found = read.as_ref().map(|pod| pod["metadata"]["uid"].as_str());
        assert_eq!(found.flatten(), uid, "{name}");
    }
}

#[test]
fn an_object_is_read_by_its_name_in_the_namespace_alone() {
    let resource = ApiResource::erase::<k8s_openapi::api::apps::v1::ReplicaSet>(&());
    let mut writer = Writer::<DynamicObject>::default();
    for (namespace, name) in [("ns", "a"), ("other", "b")] {
        let object = json!({"metadata": {"namespace": namespace, "name": name}});
        let object = serde_json::from_value(object).expect("an object");
        writer.apply_watcher_event(&Event::Apply(object));
    }
    let key = ("apps/v1".to_owned(), "ReplicaSet".to_owned());
    let kind = DeclaredKind {
        resource,
        store: writer.as_reader(),
        is_cluster_scoped: false,
    };
    let declared = Declared {
        others: HashMap::from([(key, kind)]),
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    for (name, is_there) in [("a", true), ("b", false), ("c", false)] {
        let found = view.get(&ObjectReference {
            api_version: "apps/v1".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: name.to_owned(),
        });
        assert_eq!(found.map(|found| found.is_some()), Ok(is_there), "{name}");
    }
}

#[test]
fn all_targets_of_a_pass_agree_whether_a_job_exists() {
    let mut writer = Writer::<OperationJob>::default();
    let existing = Arc::new(ExistingJobs::default());
    let job = json!({
        "metadata": {"namespace": "ns", "name": "job", "uid": "u1"},
        "spec": {"action": "Replace", "targets": [{"name": "a"}]}
    });
    let job: OperationJob = serde_json::from_value(job).expect("a job");
    writer.apply_watcher_event(&Event::Apply(job.clone()));
    existing.changed(&job, &writer.as_reader());
    let view = View::new("ns", Declared::default(), Arc::clone(&existing));
    let states = ["u1", "u2"].map(|uid| view.find_job(uid));
    assert_eq!(states, [Ok(JobState::Active), Ok(JobState::Absent)]);
    writer.apply_watcher_event(&Event::Delete(job.clone()));
    existing.changed(&job, &writer.as_reader());
    assert_eq!(
        view.find_job("u1"),
        Ok(JobState::Active),
        "as the first target saw it"
    );
    let next = View::new("ns", Declared::default(), existing);
    assert_eq!(next.find_job("u1"), Ok(JobState::Absent));
}

fn reference(api_version: &str, kind: &str, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

#[test]
fn the_pod_of_the_target_and_no_other_is_read_though_pods_were_not_declared() {
    let pod = json!({"metadata": {"namespace": "ns", "name": "a"}, "spec": {"nodeName": "n"}});
    let view = ViewOfTarget {
        view: recorder(Declared::default()),
        name: "a".to_owned(),
        pod: Some(Arc::new(serde_json::from_value(pod).expect("a pod"))),
    };
    let own = view.get(&reference("v1", "Pod", "a")).expect("it is read");
    assert_eq!(own.expect("it exists")["spec"]["nodeName"], "n");
    let other = view.get(&reference("v1", "Pod", "b"));
    assert!(matches!(other, Err(ReadError::NotDeclared(_))), "{other:?}");
}

#[test]
fn an_optional_kind_that_is_not_served_is_told_apart_from_one_that_was_not_declared() {
    let declared = Declared {
        absent: [("x/v1".to_owned(), "Thing".to_owned())].into(),
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    let absent = view.get(&reference("x/v1", "Thing", "a"));
    assert_eq!(absent, Err(ReadError::NotServed("x/v1/Thing".to_owned())));
    let unknown = view.get(&reference("x/v1", "Other", "a"));
    assert_eq!(
        unknown,
        Err(ReadError::NotDeclared("x/v1/Other".to_owned()))
    );
}

#[test]
fn a_node_is_read_in_every_namespace() {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&());
    let mut writer = Writer::<DynamicObject>::default();
    let node = serde_json::from_value(json!({"metadata": {"name": "n"}})).expect("a node");
    writer.apply_watcher_event(&Event::Apply(node));
    let kind = DeclaredKind {
        resource,
        store: writer.as_reader(),
        is_cluster_scoped: true,
    };
    let declared = Declared {
        others: [(("v1".to_owned(), "Node".to_owned()), kind)].into(),
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    let node = view.get(&reference("v1", "Node", "n"));
    assert!(node.expect("nodes were declared").is_some());
    assert_eq!(view.find("v1", "Node", "").expect("a selector").count(), 1);
}

#[test]
fn a_view_keeps_a_bounded_number_of_selectors() {
    let mut writer = Writer::<Pod>::default();
    let labels: BTreeMap<_, _> = (0..KEPT * 2).map(|n| (format!("l{n}"), "x")).collect();
    let pod = json!({"metadata": {"namespace": "ns", "name": "a", "labels": labels}});
    writer.apply_watcher_event(&Event::Apply(serde_json::from_value(pod).expect("a pod")));
    let pods = Some((writer.as_reader(), Selector::default()));
    let declared = Declared {
        pods,
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    for number in 0..KEPT * 2 {
        let selector = format!("l{number}=x");
        let found = view.find_pods(&selector).expect(&selector);
        assert_eq!(found.count(), 1, "{selector}");
    }
    assert_eq!(view.views.lock().expect("no panic").len(), 1);
    assert_eq!(view.by_label.lock().expect("no panic").len(), KEPT);
}

#[test]
fn selectors_of_many_values_share_one_index_of_their_label() {
    let mut writer = Writer::<Pod>::default();
    for number in 0..KEPT * 4 {
        let labels = json!({"of": number.to_string()});
        let pod = json!({"metadata": {"namespace": "ns", "name": format!("p{number}"), "labels": labels}});
        writer.apply_watcher_event(&Event::Apply(serde_json::from_value(pod).expect("a pod")));
    }
    let declared = Declared {
        pods: Some((writer.as_reader(), Selector::default())),
        ..Declared::default()
    };
    let view = View::new("ns", declared, Arc::default());
    for number in 0..KEPT * 4 {
        let found = view.find_pods(&format!("of={number}"));
        let names: Vec<_> = found
            .expect("a selector")
            .map(|pod| pod.name.clone())
            .collect();
        assert_eq!(names, [format!("p{number}")]);
    }
    let by_label = view.by_label.lock().expect("no panic");
    assert_eq!(by_label.len(), 1);
    let candidates = by_label["of"].values().map(Vec::len);
    assert_eq!(candidates.max(), Some(1), "each read looks at its own pod");
}
