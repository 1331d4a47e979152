//! What a story has led to: its objects, without what is another one in every run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use operon_e2e::world::World;
use regex::Regex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A kind, as group, version, kind and plural.
pub(crate) type Kind = [&'static str; 4];

pub(crate) const PODS: Kind = ["", "v1", "Pod", "pods"];
pub(crate) const JOBS: Kind = ["batch", "v1", "Job", "jobs"];

/// What was seen of the objects of a namespace.
#[derive(Default)]
struct Seen {
    objects: BTreeMap<String, Value>,
    /// All that there have ever been: kind and name by uid.
    ever: BTreeMap<String, (String, String)>,
}

/// A watch of the objects of these kinds in a namespace; it ends when this is dropped.
pub(crate) struct Observer {
    seen: Arc<Mutex<Seen>>,
    world: String,
    _watches: JoinSet<()>,
}

/// Objects in lines that can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State(Vec<String>);

impl Observer {
    pub(crate) fn start(world: &World, kinds: &[Kind]) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut watches = JoinSet::new();
        for [group, version, kind, plural] in kinds {
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            let (client, namespace) = (world.client.clone(), &world.namespace);
            let api = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
            watches.spawn(observe(api, (*kind).to_owned(), Arc::clone(&seen)));
        }
        Self {
            seen,
            world: world.namespace.clone(),
            _watches: watches,
        }
    }

    /// What there is now.
    pub(crate) fn state(&self) -> State {
        let seen = lock(&self.seen);
        let objects: Vec<_> = seen.objects.values().collect();
        normalised(&objects, seen.ever.values(), &self.world)
    }

    /// Whether the garbage collector has removed what an object owned that is gone.
    pub(crate) fn is_collected(&self) -> bool {
        let seen = lock(&self.seen);
        let is_gone = |uid: &str| seen.ever.contains_key(uid) && !seen.objects.contains_key(uid);
        let owners = seen.objects.values().flat_map(|object| {
            let owners = object["metadata"]["ownerReferences"].as_array();
            owners.into_iter().flatten()
        });
        !owners
            .filter_map(|owner| owner["uid"].as_str())
            .any(is_gone)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn observe(api: Api<DynamicObject>, kind: String, seen: Arc<Mutex<Seen>>) {
    let mut events = watcher(api, watcher::Config::default())
        .default_backoff()
        .boxed();
    loop {
        // A watch that fails begins again by itself.
        let Ok(Some(event)) = events.try_next().await else {
            continue;
        };
        let mut seen = lock(&seen);
        match event {
            watcher::Event::Init => seen
                .objects
                .retain(|_, object| object["kind"] != json!(kind)),
            watcher::Event::InitDone => {}
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                let uid = object.uid().unwrap_or_default();
                let name = object.name_any();
                seen.ever.insert(uid.clone(), (kind.clone(), name));
                let mut object = json!(object);
                object["kind"] = json!(kind);
                seen.objects.insert(uid, object);
            }
            watcher::Event::Delete(object) => {
                seen.objects
                    .remove(object.meta().uid.as_deref().unwrap_or_default());
            }
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl State {
    /// The lines that only one of them has.
    pub(crate) fn difference(&self, found: &Self) -> String {
        let only = |a: &Self, b: &Self, sign: &str| -> String {
            let objects = a.0.iter().filter(|object| !b.0.contains(object));
            let others: BTreeSet<_> = b.0.iter().flat_map(|object| object.lines()).collect();
            let is_known = |line: &str| !line.starts_with("# ") && others.contains(line);
            let lines = objects.flat_map(|object| {
                // The same lines may be in another order.
                let is_all_known = object.lines().skip(1).all(is_known);
                object
                    .lines()
                    .filter(move |line| is_all_known || !is_known(line))
            });
            lines.fold(String::new(), |text, line| text + sign + " " + line + "\n")
        };
        only(self, found, "-") + &only(found, self, "+")
    }
}

/// What is another one in every run, and what stands for it.
const VARYING: [(&str, &str); 4] = [
    ("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}Z", "<time>"),
    (
        "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "<uid>",
    ),
    // Nanoseconds since 1970.
    ("1[0-9]{18}", "<time>"),
    ("[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+", "<address>"),
];

/// Fields that tell nothing of what a story leads to, or that Kubernetes fills as it likes.
const DROPPED: [(&str, &[&str]); 5] = [
    (
        "/metadata",
        &[
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "selfLink",
            "uid",
        ],
    ),
    ("/spec", &["nodeName", "tolerations"]),
    (
        "/status",
        &[
            "observedGeneration",
            "containerStatuses",
            "hostIP",
            "hostIPs",
            "podIP",
            "podIPs",
        ],
    ),
    ("/metadata/annotations", &["operon.dev/creation"]),
    ("", &["apiVersion"]),
];

/// The objects of the world of this name, without what is another one in every run; and how many there have ever been.
fn normalised<'a>(
    objects: &[&Value],
    ever: impl Iterator<Item = &'a (String, String)> + Clone,
    world: &str,
) -> State {
    let mut names: Vec<_> = ever.clone().collect();
    // A name may begin with another.
    names.sort_by_key(|(_, name)| std::cmp::Reverse(name.len()));
    let varying = VARYING.map(|(pattern, word)| {
        let pattern = Regex::new(pattern).expect("a pattern of ours");
        (pattern, word)
    });
    let mut states = Vec::new();
    for object in objects {
        let mut object = (*object).clone();
        for (place, fields) in DROPPED {
            if let Some(map) = object.pointer_mut(place).and_then(Value::as_object_mut) {
                map.retain(|field, _| !fields.contains(&field.as_str()));
            }
        }
        // Several write conditions of one pod, in any order.
        let conditions = object.pointer_mut("/status/conditions");
        if let Some(conditions) = conditions.and_then(Value::as_array_mut) {
            conditions.sort_by_cached_key(|condition| condition["type"].to_string());
        }
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let mut text = serde_yaml_ng::to_string(&object).unwrap_or_default();
        for (kind, name) in &names {
            if is_generated(kind) {
                text = text.replace(name, &format!("<{kind}>"));
            }
        }
        text = text.replace(world, "<world>");
        if let Some((_, unique)) = world.rsplit_once('-') {
            text = text.replace(unique, "<unique>");
        }
        for (pattern, word) in &varying {
            text = pattern.replace_all(&text, *word).into_owned();
        }
        states.push(format!("# {kind}\n{text}"));
    }
    states.sort();
    let mut counts = BTreeMap::<_, usize>::new();
    for (kind, _) in ever {
        *counts.entry(kind).or_default() += 1;
    }
    states.extend(
        counts
            .iter()
            .map(|(kind, n)| format!("# ever made: {n} {kind}")),
    );
    State(states)
}

/// Whether names of this kind are random, or depend on uids.
fn is_generated(kind: &str) -> bool {
    ["Pod", "Job", "ControllerRevision"].contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str, time: &str, world: &str) -> Value {
        json!({
            "kind": "Pod",
            "metadata": {"name": name, "namespace": world, "uid": uid, "resourceVersion": time,
                "labels": {"of": uid}},
            "spec": {"nodeName": "simulated-2"},
            "status": {"phase": "Running", "startTime": format!("2026-01-02T03:04:{time}Z")},
        })
    }

    fn state(pods: &[Value], world: &str) -> State {
        let ever: Vec<_> = pods
            .iter()
            .map(|pod| {
                (
                    "Pod".to_owned(),
                    pod["metadata"]["name"].to_string().replace('"', ""),
                )
            })
            .collect();
        normalised(&pods.iter().collect::<Vec<_>>(), ever.iter(), world)
    }

    #[test]
    fn runs_that_differ_in_names_and_times_led_to_the_same() {
        let one = "0b5a7d0c-0000-4000-8000-0123456789ab";
        let two = "1c5a7d0c-0000-4000-8000-0123456789ab";
        let first = state(
            &[
                pod("foo-x", one, "05", "w-1a"),
                pod("foo-y", two, "06", "w-1a"),
            ],
            "w-1a",
        );
        let second = state(
            &[
                pod("foo-b", two, "17", "w-2b"),
                pod("foo-a", one, "08", "w-2b"),
            ],
            "w-2b",
        );
        assert_eq!(first, second);
        assert_eq!(first.difference(&second), "");
    }

    #[test]
    fn a_difference_names_the_kind_and_the_lines() {
        let uid = "0b5a7d0c-0000-4000-8000-0123456789ab";
        let good = state(&[pod("foo-x", uid, "05", "w-1a")], "w-1a");
        let mut failed = pod("foo-y", uid, "05", "w-2b");
        failed["status"]["phase"] = json!("Failed");
        let bad = state(&[failed], "w-2b");
        let difference = good.difference(&bad);
        assert_eq!(
            difference,
            "- # Pod\n-   phase: Running\n+ # Pod\n+   phase: Failed\n"
        );
        let none = state(&[], "w-3c");
        assert!(good.difference(&none).contains("- # ever made: 1 Pod"));
    }
}
