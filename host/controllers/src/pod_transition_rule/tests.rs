//! Which objects a pod wakes, and which pods an object wakes.

use crate::store::Writer;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

/// The caches, and what has been woken.
struct Scene {
    triggers: RuleTriggers,
    pods: Writer<Pod>,
    rules: Writer<PodTransitionRule>,
    woken_rules: UnboundedReceiver<ObjectRef<PodTransitionRule>>,
    woken_pods: UnboundedReceiver<ObjectRef<Pod>>,
}

impl Scene {
    fn new() -> Self {
        let (rules, woken_rules) = unbounded();
        let (pods, woken_pods) = unbounded();
        Self {
            triggers: RuleTriggers::new(rules, pods),
            pods: Writer::default(),
            rules: Writer::default(),
            woken_rules,
            woken_pods,
        }
    }

    /// A pod becomes this; the objects that it wakes.
    fn pod(&mut self, namespace: &str, name: &str, labels: &Value) -> Vec<String> {
        let pod = json!({"metadata": {"name": name, "namespace": namespace, "labels": labels}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        self.pods.apply_watcher_event(&Event::Apply(pod.clone()));
        self.triggers.pod_changed(&pod, &self.pods.as_reader());
        names(&mut self.woken_rules)
    }

    /// An object becomes this; the pods that it wakes.
    fn rule(&mut self, name: &str, selector: &Value, status: &Value) -> Vec<String> {
        let rule = rule(name, selector, status);
        self.rules.apply_watcher_event(&Event::Apply(rule.clone()));
        self.changed(&rule)
    }

    /// An object is deleted; the pods that it wakes.
    fn gone(&mut self, name: &str) -> Vec<String> {
        let rule = rule(name, &json!({}), &Value::Null);
        self.rules.apply_watcher_event(&Event::Delete(rule.clone()));
        self.changed(&rule)
    }

    fn changed(&mut self, rule: &PodTransitionRule) -> Vec<String> {
        let (rules, pods) = (self.rules.as_reader(), self.pods.as_reader());
        self.triggers.rule_changed(rule, &rules, &pods);
        assert_eq!(names(&mut self.woken_rules), [rule.name_any()]);
        names(&mut self.woken_pods)
    }

    /// The pods that an object selects.
    fn selected(&self, name: &str) -> Vec<String> {
        let rule = rule(name, &json!({}), &Value::Null);
        let pods = self.triggers.selected(&rule, &self.pods.as_reader());
        let mut names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
        names.sort();
        names
    }
}

fn rule(name: &str, selector: &Value, status: &Value) -> PodTransitionRule {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"selector": selector},
        "status": status,
    }))
    .expect("a PodTransitionRule")
}

/// The names of what was woken.
fn names<K: Resource<DynamicType = ()>>(
    queue: &mut UnboundedReceiver<ObjectRef<K>>,
) -> Vec<String> {
    let woken = std::iter::from_fn(|| queue.try_recv().ok());
    let mut names: Vec<_> = woken.map(|object| object.name).collect();
    names.sort();
    names
}

fn by(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

/// The labels of a pod of this app that takes part; its operation waits.
fn of(app: &str) -> Value {
    json!({"app": app, "kusionstack.io/control": "true",
        "operating.podopslifecycle.kusionstack.io/collaset": "1"})
}

#[test]
fn a_pod_wakes_the_objects_of_its_namespace_that_select_it_or_did() {
    let mut scene = Scene::new();
    assert_eq!(scene.rule("web", &by("web"), &Value::Null), [""; 0]);
    scene.rule("all", &json!({}), &Value::Null);
    scene.rule(
        "unreadable",
        &json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
        &Value::Null,
    );
    assert_eq!(scene.pod("ns", "a", &of("web")), ["all", "web"]);
    assert_eq!(
        scene.pod("ns", "a", &of("db")),
        ["all", "web"],
        "the former one too"
    );
    assert_eq!(scene.pod("ns", "a", &of("db")), ["all"]);
    assert_eq!(scene.pod("other", "b", &of("web")), [""; 0]);
    assert_eq!(
        scene.pod("ns", "c", &json!({"app": "web"})),
        [""; 0],
        "it takes no part"
    );
    assert_eq!(scene.selected("all"), ["a"]);
    assert_eq!(scene.selected("web"), [""; 0]);
    assert_eq!(scene.selected("unreadable"), [""; 0]);
}

#[test]
fn an_object_wakes_the_pods_that_it_may_hold_or_held() {
    let mut scene = Scene::new();
    scene.pod("ns", "a", &of("web"));
    scene.pod("ns", "b", &of("db"));
    let at_rest = json!({"app": "web", "kusionstack.io/control": "true"});
    scene.pod("ns", "c", &at_rest);
    assert_eq!(scene.rule("rule", &by("web"), &Value::Null), ["a"]);
    assert_eq!(scene.selected("rule"), ["a", "c"]);
    assert_eq!(scene.rule("rule", &by("db"), &Value::Null), ["a", "b"]);
    assert_eq!(scene.selected("rule"), ["b"]);
    assert_eq!(scene.gone("rule"), ["b"]);
    assert_eq!(scene.selected("rule"), [""; 0]);
}

#[test]
fn a_collaset_wakes_the_objects_for_which_pods_wait() {
    let mut scene = Scene::new();
    scene.rule("idle", &by("web"), &json!({"waitingPods": 0}));
    scene.rule("awaited", &by("web"), &json!({"waitingPods": 2}));
    let set = |namespace: &str| {
        let set = json!({"metadata": {"name": "web", "namespace": namespace},
            "spec": {"selector": by("web"), "template": {}}});
        serde_json::from_value::<CollaSet>(set).expect("a CollaSet")
    };
    scene.triggers.colla_set_changed(&set("other"));
    assert_eq!(names(&mut scene.woken_rules), [""; 0]);
    scene.triggers.colla_set_changed(&set("ns"));
    assert_eq!(names(&mut scene.woken_rules), ["awaited"]);
}
