//! The index as it ships: stores, triggers and the queue that they fill.

use crate::store::Writer;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

/// The stores of jobs and pods, and whom their changes wake.
struct World {
    triggers: Triggers,
    queue: UnboundedReceiver<ObjectRef<OperationJob>>,
    jobs: Writer<OperationJob>,
    pods: Writer<Pod>,
}

impl World {
    fn new() -> Self {
        let (sender, queue) = unbounded();
        Self {
            triggers: Triggers::new(
                sender,
                Arc::new(Catalogue::new(Timestamp::UNIX_EPOCH)),
                Arc::default(),
            ),
            queue,
            jobs: Writer::default(),
            pods: Writer::default(),
        }
    }

    /// Applies the job `name` of an action, with one Processing target per name and extra-info.
    fn job(&mut self, name: &str, action: &str, targets: &[(&str, Value)]) {
        let spec: Vec<_> = targets
            .iter()
            .map(|(name, _)| json!({"name": name}))
            .collect();
        let details: Vec<_> = targets
            .iter()
            .map(|(name, info)| json!({"name": name, "progress": "Processing", "extraInfo": info}))
            .collect();
        let job = json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name},
            "spec": {"action": action, "targets": spec},
            "status": {"targetDetails": details}
        });
        self.apply_job(job);
    }

    fn apply_job(&mut self, job: Value) {
        let job: OperationJob = serde_json::from_value(job).expect("a job");
        self.jobs.apply_watcher_event(&Event::Apply(job.clone()));
        self.job_changed(&job);
    }

    fn delete_job(&mut self, name: &str) {
        let job = self
            .jobs
            .as_reader()
            .get(&ObjectRef::new(name).within("ns"));
        let job = job.expect("a job");
        self.jobs
            .apply_watcher_event(&Event::Delete((*job).clone()));
        self.job_changed(&job);
    }

    fn job_changed(&self, job: &OperationJob) {
        let (jobs, pods) = (self.jobs.as_reader(), self.pods.as_reader());
        self.triggers.job_changed(job, &jobs, &pods);
    }

    /// Applies a pod, and returns the jobs that it wakes.
    fn pod(&mut self, name: &str, labels: &Value) -> Vec<String> {
        let pod = pod(name, labels);
        self.pods.apply_watcher_event(&Event::Apply(pod.clone()));
        self.pod_changed(&pod)
    }

    fn pod_changed(&mut self, pod: &Pod) -> Vec<String> {
        self.woken();
        self.triggers.pod_changed(pod, &self.pods.as_reader());
        self.woken()
    }

    /// Whom a change of an object wakes.
    fn object(&mut self, rule: &Rule, object: &Pod) -> Vec<String> {
        self.woken();
        self.triggers.object_changed(rule, object);
        self.woken()
    }

    /// The jobs in the queue, which is emptied.
    fn woken(&mut self) -> Vec<String> {
        let jobs = std::iter::from_fn(|| self.queue.try_recv().ok());
        let names: BTreeSet<_> = jobs.map(|job| job.name).collect();
        names.into_iter().collect()
    }
}

fn pod(name: &str, labels: &Value) -> Pod {
    let metadata =
        json!({"namespace": "ns", "name": name, "uid": format!("uid-{name}"), "labels": labels});
    serde_json::from_value(json!({"metadata": metadata})).expect("a pod")
}

fn watch(selector: &str, mapping: Mapping) -> Watch {
    Watch {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        label_selector: selector.to_owned(),
        mappings: vec![mapping],
        ..Watch::default()
    }
}

fn rule(selector: &str, mapping: Mapping) -> Rule {
    let parsed = Selector::parse(selector).expect("a selector");
    Rule::new("Replace", &watch(selector, mapping), parsed)
}

fn key(text: &str) -> String {
    text.to_owned()
}

#[test]
fn a_pod_wakes_the_jobs_whose_target_it_is_and_no_other() {
    let mut world = World::new();
    world.job("one", "Replace", &[("a", json!({})), ("b", json!({}))]);
    world.job("two", "Restart", &[("b", json!({}))]);
    assert_eq!(world.pod("a", &json!({})), ["one"]);
    assert_eq!(world.pod("b", &json!({})), ["one", "two"]);
    assert_eq!(world.pod("c", &json!({})), Vec::<String>::new());
}

#[test]
fn each_mapping_finds_its_targets_in_jobs_of_its_action_only() {
    let info = |pod: &str| json!({"NewPod": pod, "OwnerUID": "uid-rs"});
    let table = vec![
        (
            Mapping::Label(key("of")),
            pod("x", &json!({"of": "a"})),
            vec!["one"],
        ),
        (
            Mapping::Label(key("of")),
            pod("x", &json!({"of": "z"})),
            vec![],
        ),
        (
            Mapping::ExtraInfo(key("NewPod")),
            pod("new", &json!({})),
            vec!["two"],
        ),
        (
            Mapping::ExtraInfo(key("Other")),
            pod("new", &json!({})),
            vec![],
        ),
        (
            Mapping::UidInLabel(key("from")),
            pod("rs", &json!({})),
            vec!["one"],
        ),
        (
            Mapping::UidInLabel(key("else")),
            pod("rs", &json!({})),
            vec![],
        ),
        (
            Mapping::UidInExtraInfo(key("OwnerUID")),
            pod("rs", &json!({})),
            vec!["two"],
        ),
        (
            Mapping::UidInExtraInfo(key("Other")),
            pod("rs", &json!({})),
            vec![],
        ),
        (
            Mapping::Namespace,
            pod("any", &json!({})),
            vec!["one", "two"],
        ),
    ];
    for (mapping, object, wanted) in table {
        let mut world = World::new();
        world.pod("a", &json!({"from": "uid-rs"}));
        world.job("one", "Replace", &[("a", json!({}))]);
        world.job("two", "Replace", &[("b", info("new"))]);
        world.job(
            "foreign",
            "Restart",
            &[("a", info("new")), ("b", info("new"))],
        );
        let told = format!("{mapping:?} {:?}", object.metadata.name);
        assert_eq!(world.object(&rule("", mapping), &object), wanted, "{told}");
    }
}

#[test]
fn the_controller_of_an_object_counts_as_the_object_itself() {
    let mut world = World::new();
    world.pod("a", &json!({"from": "uid-rs"}));
    world.job("one", "Replace", &[("a", json!({}))]);
    let mut object = pod("new", &json!({}));
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "uid-rs", "controller": true
    }]);
    object.metadata.owner_references = serde_json::from_value(owner).expect("owners");
    assert_eq!(
        world.object(&rule("", Mapping::UidInLabel(key("from"))), &object),
        ["one"]
    );
    world.job("two", "Replace", &[("b", json!({"OwnerUID": "uid-rs"}))]);
    assert_eq!(
        world.object(&rule("", Mapping::UidInExtraInfo(key("OwnerUID"))), &object),
        ["two"],
        "although nothing of the target's pod is left"
    );
}

#[test]
fn only_objects_that_the_selector_matches_wake_a_job() {
    let mut world = World::new();
    world.job("one", "Replace", &[("a", json!({}))]);
    let rule = rule("app in (x,y)", Mapping::Namespace);
    for (labels, woken) in [
        (json!({"app": "x"}), 1),
        (json!({"app": "z"}), 0),
        (json!({}), 0),
    ] {
        assert_eq!(
            world.object(&rule, &pod("any", &labels)).len(),
            woken,
            "{labels}"
        );
    }
}

#[test]
fn labels_that_a_targets_pod_gets_or_loses_later_count() {
    let by_label = rule("", Mapping::UidInLabel(key("from")));
    let mut world = World::new();
    world.pod("a", &json!({}));
    world.job("one", "Replace", &[("a", json!({}))]);
    let replica_set = pod("rs", &json!({}));
    assert_eq!(world.object(&by_label, &replica_set), Vec::<String>::new());
    world.pod("a", &json!({"from": "uid-rs"}));
    assert_eq!(world.object(&by_label, &replica_set), ["one"]);
    world.job("one", "Replace", &[("a", json!({"NewPod": "new"}))]);
    assert_eq!(world.object(&by_label, &replica_set), ["one"]);
    let gone = pod("a", &json!({"from": "uid-rs"}));
    world.pods.apply_watcher_event(&Event::Delete(gone.clone()));
    assert_eq!(world.pod_changed(&gone), ["one"]);
    assert_eq!(world.object(&by_label, &replica_set), Vec::<String>::new());
}

#[test]
fn a_pod_that_an_action_watches_wakes_its_jobs_while_the_action_declares_that() {
    let mut world = World::new();
    world.job("one", "Replace", &[("a", json!({"NewPod": "new"}))]);
    assert_eq!(world.pod("new", &json!({})), Vec::<String>::new());
    let watches = vec![watch("", Mapping::ExtraInfo(key("NewPod")))];
    world.triggers.set_pod_rules("Replace", || watches);
    assert_eq!(world.pod("new", &json!({})), ["one"]);
    world.triggers.set_pod_rules("Replace", Vec::new);
    assert_eq!(world.pod("new", &json!({})), Vec::<String>::new());
}

#[test]
fn a_finished_job_is_woken_by_nothing() {
    let mut world = World::new();
    for (progress, info) in [
        ("Succeeded", json!({})),
        ("Failed", json!({"Released": "true"})),
    ] {
        let detail = json!({
            "name": "a", "progress": progress, "extraInfo": info, "startTime": "2026-01-01T00:00:00Z"
        });
        world.apply_job(json!({
            "metadata": {"namespace": "ns", "name": "one", "uid": "one"},
            "spec": {"action": "Replace", "targets": [{"name": "a"}]},
            "status": {"targetDetails": [detail]}
        }));
        assert_eq!(world.pod("a", &json!({})), Vec::<String>::new());
        assert!(world.triggers.index.read().expect("no panic").is_empty());
    }
}

#[test]
fn jobs_that_are_deleted_leave_nothing_in_the_index() {
    let mut world = World::new();
    for number in 0..20 {
        let name = format!("job-{number}");
        world.pod(
            &format!("a-{number}"),
            &json!({"from": "uid-rs", "app": name}),
        );
        let targets = [
            (format!("a-{number}"), json!({"NewPod": "new"})),
            ("shared".to_owned(), json!({})),
        ];
        let targets: Vec<_> = targets
            .iter()
            .map(|(n, i)| (n.as_str(), i.clone()))
            .collect();
        world.job(&name, "Replace", &targets);
    }
    for number in 0..20 {
        assert!(!world.triggers.index.read().expect("no panic").is_empty());
        world.delete_job(&format!("job-{number}"));
    }
    assert!(world.triggers.index.read().expect("no panic").is_empty());
}

#[test]
fn an_action_that_changes_wakes_its_jobs() {
    let mut world = World::new();
    world.job("one", "Replace", &[("a", json!({}))]);
    world.job("two", "Restart", &[("a", json!({}))]);
    world.woken();
    world.triggers.action_changed("Replace");
    assert_eq!(world.woken(), ["one"]);
}
