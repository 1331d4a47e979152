//! Caches as they ship, over an API server by script.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::Response;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt,
    client::Body,
    core::DeserializeGuard,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use operon_api::JobFlow;
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};

use super::{
    watch::{each, readable, watch_seconds},
    *,
};
use crate::{
    fake::{self, answer, eventually},
    metrics::Metrics,
};

fn listed(object: Value) -> Event<DeserializeGuard<JobFlow>> {
    Event::InitApply(serde_json::from_value(object).expect("metadata"))
}

#[test]
fn what_was_stored_before_its_schema_keeps_nobody_else_away() {
    let metadata = json!({"name": "old", "namespace": "default"});
    for spec in [json!(null), json!({}), json!({"flows": "none"})] {
        let old = json!({"metadata": metadata, "spec": spec});
        assert!(each(listed(old), readable).is_none(), "{spec}");
    }
    let new = json!({"metadata": metadata, "spec": {"flows": [{"name": "a"}]}});
    assert!(matches!(
        each(listed(new), readable),
        Some(Event::InitApply(flow)) if flow.spec.flows.len() == 1
    ));
}

/// An API server that answers each list by `list`, which gets its number, and watches by nothing.
fn client(list: impl Fn(usize) -> Response<Body> + Send + Sync + 'static) -> Client {
    let lists = AtomicUsize::new(0);
    fake::client(move |request| {
        let is_list = !request.uri().to_string().contains("watch=true");
        is_list.then(|| list(lists.fetch_add(1, Ordering::SeqCst)))
    })
}

fn config_maps(version: u64, names: &[&str]) -> Response<Body> {
    listed_in("default", version, names)
}

fn written(name: &str, version: u64) -> ConfigMap {
    let metadata = json!({
        "name": name, "namespace": "default", "uid": name,
        "resourceVersion": version.to_string(),
    });
    serde_json::from_value(json!({ "metadata": metadata })).expect("a ConfigMap")
}

fn health() -> Health {
    Health::new(Metrics::register(&mut Registry::default()))
}

fn start(
    client: Client,
    on_change: impl Fn(&ConfigMap, &Store<ConfigMap>) + Send + Sync + 'static,
) -> Cache<ConfigMap> {
    Cache::of(Api::all(client)).start(on_change, &health())
}

#[tokio::test]
async fn a_change_whose_listener_panics_is_passed_on_again_and_keeps_no_other_away() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let cache = start(client(|_| config_maps(7, &["a", "b"])), move |object, _| {
        let name = object.name_any();
        let mut seen = listener.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(name.clone());
        let times = seen.iter().filter(|seen| **seen == name).count();
        assert!(name != "a" || times > 2, "no way to take {name} in");
    });
    cache.ready().await;
    assert_eq!(cache.store.len(), 2);
    assert_eq!(cache.trouble(), None, "the cache itself is right");
    let times = |name: &str| {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| *seen == name).count()
    };
    eventually("the change is passed on until it is taken in", || {
        times("a") == 3
    })
    .await;
    assert_eq!(
        times("b"),
        3,
        "with all others, as what depends on them may be wrong too"
    );
    cache.wrote(written("c", 9));
    assert_eq!(times("c"), 1);
}

#[tokio::test]
async fn a_watch_that_fails_says_so_and_begins_again_with_a_list() {
    let refusal = json!({
        "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "configmaps is forbidden",
    });
    let lists = move |number| match number {
        0 => answer(403, &refusal),
        _ => config_maps(7, &["a"]),
    };
    let cache = start(client(lists), |_, _| {});
    eventually("the trouble is known", || cache.trouble().is_some()).await;
    let stale = cache.stale("ns").unwrap_or_default();
    assert!(
        stale.contains("ConfigMap") && stale.contains("forbidden"),
        "{stale}"
    );
    eventually("the list is complete", || cache.is_ready()).await;
    cache.ready().await;
    assert_eq!((cache.trouble(), cache.store.len()), (None, 1));
}

#[tokio::test]
async fn a_cache_whose_upkeep_panics_is_stale_until_it_is_listed_again() {
    let panics = Arc::new(AtomicUsize::new(0));
    let shed: fn(&mut ConfigMap) = |object| {
        // The first list is version 7, the next one version 8.
        assert_ne!(object.metadata.resource_version.as_deref(), Some("7"));
    };
    let api = Api::all(client(|number| match number {
        0 => config_maps(7, &["a"]),
        _ => config_maps(8, &["a", "b"]),
    }));
    let counted = Arc::clone(&panics);
    let on_change = move |_: &_, _: &_| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let cache = Cache::of(api).without(shed).start(on_change, &health());
    eventually("the next list is complete", || cache.store.len() == 2).await;
    cache.ready().await;
    assert_eq!((cache.trouble(), panics.load(Ordering::SeqCst)), (None, 2));
}

#[tokio::test]
async fn a_list_does_not_undo_what_this_process_wrote_since_it_began() {
    let (cache_slot, told) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
    let writes = Arc::clone(&cache_slot);
    let list = move |_| {
        // The write is answered after the API server took the list's snapshot.
        let cache = writes.lock().unwrap_or_else(PoisonError::into_inner);
        let cache: &Option<Cache<ConfigMap>> = &cache;
        if let Some(cache) = cache {
            cache.wrote(written("a", 9));
            cache.wrote(written("new", 10));
        }
        config_maps(7, &["a"])
    };
    let counter = Arc::clone(&told);
    let cache = {
        // The list waits for the cache that it writes to.
        let mut slot = cache_slot.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = start(client(list), move |_, _| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        *slot = Some(cache.clone());
        cache
    };
    cache.ready().await;
    let found = |name: &str| {
        let object = cache.store.get(&ObjectRef::new(name).within("default"));
        object.and_then(|object| object.resource_version())
    };
    assert_eq!(found("a").as_deref(), Some("9"));
    assert_eq!(found("new").as_deref(), Some("10"));
    assert_eq!(told.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_object_that_was_created_again_unseen_is_passed_on_with_the_one_that_it_replaced() {
    let object = |uid: &str, version: &str| {
        let metadata = json!({
            "name": "a", "namespace": "default", "uid": uid, "resourceVersion": version,
        });
        json!({ "metadata": metadata })
    };
    let lists = move |number: usize| {
        let (uid, version) = [("first", "7"), ("second", "8")][number.min(1)];
        let metadata = json!({"resourceVersion": version});
        let items = [object(uid, version)];
        answer(
            200,
            &json!({"kind": "ConfigMapList", "metadata": metadata, "items": items}),
        )
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let cache = start(client(lists), move |object, store| {
        let now = store.get(&ObjectRef::from_obj(object));
        let is_there = now.is_some_and(|now| now.uid() == object.uid());
        let mut seen = listener.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push((object.uid().unwrap_or_default(), is_there));
    });
    let told = || std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    let of = |uid: &str, is_there| (uid.to_owned(), is_there);
    cache.ready().await;
    assert_eq!(told(), [of("first", true)]);
    // The watch begins again with a list.
    cache.kept[0].again.notify_one();
    let replaced = || {
        cache
            .store
            .state()
            .iter()
            .all(|o| o.uid().as_deref() == Some("second"))
    };
    eventually("the second list is complete", replaced).await;
    cache.ready().await;
    assert_eq!(told(), [of("first", false), of("second", true)]);
    let third = serde_json::from_value(object("third", "9")).expect("a ConfigMap");
    cache.wrote(third);
    assert_eq!(told(), [of("second", false), of("third", true)]);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_served_is_an_empty_cache_until_it_is_and_lists_are_not_repeated_for_it()
{
    let is_served = Arc::new(AtomicBool::new(false));
    let (served, lists) = (Arc::clone(&is_served), Arc::new(AtomicUsize::new(0)));
    let listed = Arc::clone(&lists);
    let client = fake::client(move |request| {
        let is_watch = request.uri().to_string().contains("watch=true");
        if !is_watch {
            listed.fetch_add(1, Ordering::SeqCst);
        }
        match (served.load(Ordering::SeqCst), is_watch) {
            (false, _) => Some(answer(
                404,
                &json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}),
            )),
            // It is a question only; the watch of the cache goes on for ever.
            (true, true) => (request.uri().to_string().contains("resourceVersion=0"))
                .then(|| answer(200, &json!({}))),
            (true, false) => Some(config_maps(7, &["a"])),
        }
    });
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let on_change = move |_: &ConfigMap, _: &Store<ConfigMap>| {
        counter.fetch_add(1, Ordering::SeqCst);
    };
    let source = Cache::guarded(Api::all(client)).if_served();
    let cache = source.start(on_change, &health());
    assert!(cache.ready_within(Duration::from_secs(1)).await);
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!((cache.trouble(), cache.store.len()), (None, 0));
    assert_eq!(lists.load(Ordering::SeqCst), 1);
    is_served.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(cache.store.len(), 1);
    is_served.store(false, Ordering::SeqCst);
    // The watch ends.
    cache.kept[0].again.notify_one();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!((cache.trouble(), cache.store.len()), (None, 0));
    assert_eq!(told.load(Ordering::SeqCst), 2, "once there, once gone");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let lists = AtomicUsize::new(0);
    let client = fake::client(move |request| {
        let is_list = !request.uri().to_string().contains("watch=true");
        let is_late = is_list && lists.fetch_add(1, Ordering::SeqCst) > 0;
        is_late.then(|| config_maps(7, &["a"]))
    });
    let cache = start(client, |_, _| {});
    assert!(cache.ready_within(Duration::from_mins(3)).await);
    assert_eq!(cache.store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_asked_for_again_each_minute_so_that_a_dead_connection_is_noticed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let watches = Arc::clone(&asked);
    let client = fake::client(move |request| {
        let uri = request.uri().to_string();
        if !uri.contains("watch=true") {
            return Some(config_maps(7, &["a"]));
        }
        let mut watches = watches.lock().unwrap_or_else(PoisonError::into_inner);
        watches.push(uri);
        None
    });
    let cache = start(client, |_, _| {});
    cache.ready().await;
    let watches = || asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    eventually("a watch", || !watches().is_empty()).await;
    let limits = (60..=90).map(|seconds| format!("timeoutSeconds={seconds}&"));
    let is_limited = |uri: &String| {
        limits
            .clone()
            .any(|limit| format!("{uri}&").contains(&limit))
    };
    assert!(watches().iter().all(is_limited), "{:?}", watches());
}

#[test]
fn the_watches_of_all_kinds_do_not_end_together() {
    let kinds = ["Pod", "Node", "Job.batch", "ConfigMap", "ServiceAccount"];
    let limits: std::collections::BTreeSet<_> = kinds.into_iter().map(watch_seconds).collect();
    assert!(limits.len() > 3, "{limits:?}");
}

fn labelled(version: u64, label: Option<&str>) -> ConfigMap {
    let mut object = written("a", version);
    if let Some(label) = label {
        object.labels_mut().insert(label.to_owned(), "x".to_owned());
    }
    object
}

#[tokio::test]
async fn an_object_that_loses_a_label_is_passed_on_as_it_was_too() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let cache = start(client(|_| config_maps(7, &[])), move |object, _| {
        let labels: Vec<_> = object.labels().keys().cloned().collect();
        let mut seen = listener.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(labels.join(","));
    });
    cache.ready().await;
    cache.wrote(labelled(8, Some("mark")));
    cache.wrote(labelled(9, Some("mark")));
    cache.wrote(labelled(10, None));
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(*seen, ["mark", "mark", "mark", ""]);
}

fn is_packed(cache: &Cache<ConfigMap>) -> Vec<bool> {
    let entries = cache.store.entries(Some("default"));
    entries.iter().map(|entry| entry.is_packed()).collect()
}

#[tokio::test]
async fn what_is_not_read_is_compressed_until_it_is() {
    let api = Api::all(client(|_| config_maps(7, &["a", "b"])));
    let cache: Cache<ConfigMap> = Cache::of(api).packed().start(|_, _| {}, &health());
    cache.ready().await;
    assert_eq!(is_packed(&cache), [true, true]);
    let a = ObjectRef::new("a").within("default");
    assert_eq!(cache.store.get(&a).as_deref(), Some(&written("a", 7)));
    let packed = is_packed(&cache).iter().filter(|packed| **packed).count();
    assert_eq!(packed, 1, "what was read stays whole");
    for entry in cache.store.entries(Some("default")) {
        assert_eq!(*entry.peek(), written(entry.name(), 7));
    }
    cache.store.settle();
    let packed = is_packed(&cache).iter().filter(|packed| **packed).count();
    assert_eq!(packed, 1, "it was read a moment ago");
    cache.store.settle();
    assert_eq!(is_packed(&cache), [true, true]);
    cache.wrote(labelled(8, Some("mark")));
    assert_eq!(
        cache.store.labelled("mark"),
        [Arc::new(labelled(8, Some("mark")))]
    );
    cache.store.settle();
    cache.store.settle();
    assert_eq!(is_packed(&cache), [true, true]);
    assert_eq!(
        cache.store.get(&a).as_deref(),
        Some(&labelled(8, Some("mark")))
    );
}

#[test]
fn an_object_that_would_not_be_the_same_stays_whole() {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let json = |_: &ConfigMap| {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let object = json!({"metadata": {"name": number.to_string()}});
        Some(object.to_string().into_bytes())
    };
    let mut writer = Writer::new(Some(json));
    writer.apply_watcher_event(&Event::Apply(written("a", 7)));
    let store = writer.as_reader();
    for _ in 0..3 {
        store.settle();
    }
    let entries = store.entries(Some("default"));
    assert!(!entries[0].is_packed());
    assert_eq!(*entries[0].get(), written("a", 7));
    assert_eq!(NUMBER.load(Ordering::SeqCst), 2, "it is tried once");
}

/// The namespace of a request; none for all.
fn namespace_of(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("/namespaces/")?;
    rest.split('/').next().map(str::to_owned)
}

/// A list of a namespace with these objects.
fn listed_in(namespace: &str, version: u64, names: &[&str]) -> Response<Body> {
    let item = |name: &&str| {
        json!({"metadata": {
            "name": name, "namespace": namespace, "uid": name,
            "resourceVersion": version.to_string(),
        }})
    };
    let items: Vec<_> = names.iter().map(item).collect();
    let metadata = json!({"resourceVersion": version.to_string()});
    answer(
        200,
        &json!({"kind": "ConfigMapList", "metadata": metadata, "items": items}),
    )
}

fn within(namespaces: &[&str]) -> Namespaces {
    Namespaces::only(namespaces.iter().map(|&name| name.to_owned()))
}

/// The objects of a cache, as namespace and name.
fn placed(cache: &Cache<ConfigMap>) -> Vec<String> {
    let objects = cache.store.state();
    let named = objects.iter().map(|object| {
        let namespace = object.namespace().unwrap_or_default();
        format!("{namespace}/{}", object.name_any())
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    named
}

#[tokio::test]
async fn each_namespace_is_watched_by_itself_and_a_list_of_one_leaves_the_others() {
    let lists = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&lists);
    let client = fake::client(move |request| {
        let uri = request.uri().to_string();
        let namespace = namespace_of(&uri).expect("no request for all namespaces");
        if uri.contains("watch=true") {
            return None;
        }
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(namespace.clone());
        let times = asked.iter().filter(|one| **one == namespace).count();
        Some(match (namespace.as_str(), times) {
            ("a", 1) => listed_in("a", 7, &["x", "y"]),
            ("a", _) => listed_in("a", 9, &["y"]),
            ("b", _) => listed_in("b", 8, &["x"]),
            (other, _) => unreachable!("a list of {other}"),
        })
    });
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let cache = Cache::of(Api::all(client))
        .within(&within(&["a", "b"]))
        .packed()
        .start(
            move |object: &ConfigMap, _| {
                let namespace = object.namespace().unwrap_or_default();
                let mut told = listener.lock().unwrap_or_else(PoisonError::into_inner);
                told.push(format!("{namespace}/{}", object.name_any()));
            },
            &health(),
        );
    cache.ready().await;
    assert_eq!(placed(&cache), ["a/x", "a/y", "b/x"]);
    assert_eq!(cache.namespaces(), &within(&["a", "b"]));
    let told = || {
        let mut told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
        told.sort();
        told
    };
    assert_eq!(told(), ["a/x", "a/y", "b/x"]);
    cache.kept[0].again.notify_one();
    eventually("another list of a", || cache.store.len() == 2).await;
    cache.ready().await;
    assert_eq!(placed(&cache), ["a/y", "b/x"]);
    // The deletion, and the newer version of the other; nothing of b.
    assert_eq!(told(), ["a/x", "a/y"]);
    let lists = lists.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(lists.iter().filter(|one| *one == "b").count(), 1);
}

#[tokio::test]
async fn a_write_is_seen_in_its_namespace_and_not_in_one_that_is_not_watched() {
    let client = fake::client(|request| {
        let uri = request.uri().to_string();
        let namespace = namespace_of(&uri).expect("no request for all namespaces");
        (!uri.contains("watch=true")).then(|| listed_in(&namespace, 7, &[]))
    });
    let source = Cache::of(Api::all(client)).within(&within(&["a", "b"]));
    let cache = source.start(|_: &ConfigMap, _| {}, &health());
    cache.ready().await;
    for namespace in ["b", "c"] {
        let mut object = written("x", 9);
        object.metadata.namespace = Some(namespace.to_owned());
        cache.wrote(object);
    }
    assert_eq!(placed(&cache), ["b/x"]);
}

#[tokio::test]
async fn a_namespace_that_may_not_be_read_makes_the_cache_stale_and_the_others_go_on() {
    let mut registry = Registry::default();
    let health = Health::new(Metrics::register(&mut registry));
    let may_read = Arc::new(AtomicBool::new(false));
    let granted = Arc::clone(&may_read);
    let client = fake::client(move |request| {
        let uri = request.uri().to_string();
        let namespace = namespace_of(&uri).expect("no request for all namespaces");
        if uri.contains("watch=true") {
            return None;
        }
        if namespace == "b" && !granted.load(Ordering::SeqCst) {
            let message = "configmaps is forbidden in the namespace \"b\"";
            let refusal = json!({
                "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                "message": message,
            });
            return Some(answer(403, &refusal));
        }
        Some(listed_in(&namespace, 7, &["x"]))
    });
    let source = Cache::of(Api::all(client)).within(&within(&["a", "b"]));
    let cache = source.start(|_: &ConfigMap, _| {}, &health);
    let up = || {
        let mut text = String::new();
        encode(&mut text, &registry).expect("metrics");
        text.contains("operon_watch_up{kind=\"ConfigMap\"} 1")
    };
    eventually("the trouble is known", || cache.trouble().is_some()).await;
    eventually("the other is listed", || placed(&cache) == ["a/x"]).await;
    assert!(!cache.is_ready() && !up());
    let stale = cache.stale("b").unwrap_or_default();
    assert!(stale.contains("namespace \"b\""), "{stale}");
    assert_eq!(cache.stale("a"), None, "its watch works");
    may_read.store(true, Ordering::SeqCst);
    cache.ready().await;
    assert_eq!(
        (placed(&cache), cache.trouble()),
        (vec!["a/x".to_owned(), "b/x".to_owned()], None)
    );
    assert!(up());
}

#[tokio::test]
async fn a_cache_of_no_namespace_is_complete_and_empty() {
    let client = fake::client(|request| unreachable!("{request:?}"));
    let source = Cache::of(Api::all(client)).within(&within(&[]));
    let cache = source.start(|_: &ConfigMap, _| {}, &health());
    cache.ready().await;
    assert!(cache.is_ready() && cache.store.is_empty());
}
