//! What calls depend on, and what is too much to remember.

use crate::store::Writer;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use operon_core::selector::Selector;
use serde_json::json;

use super::*;
use crate::view::Declared;

fn pod(name: &str, app: &str, version: &str) -> Pod {
    let metadata = json!({
        "namespace": "ns", "name": name, "uid": name, "resourceVersion": version, "labels": {"app": app},
    });
    serde_json::from_value(json!({"metadata": metadata})).expect("a pod")
}

fn target(target: u64) -> Seen {
    Seen {
        target,
        ..Seen::default()
    }
}

fn view(writer: &Writer<Pod>) -> Arc<View> {
    let pods = Some((writer.as_reader(), Selector::default()));
    let declared = Declared {
        pods,
        ..Declared::default()
    };
    Arc::new(View::new("ns", declared, Arc::default()))
}

/// A store with these pods, each in its first version.
fn store(pods: &[(&str, &str)]) -> Writer<Pod> {
    let mut writer = Writer::<Pod>::default();
    for (name, app) in pods {
        writer.apply_watcher_event(&Event::Apply(pod(name, app, "1")));
    }
    writer
}

fn named(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.to_owned(),
    }
}

#[test]
fn a_call_depends_on_what_it_read_and_on_nothing_else() {
    let find = Read::FindPods("app=x".to_owned());
    let get = Read::Get(named("a"));
    // The pod that changes, its app from then on (none: it is deleted), and which of the reads of pod `a` and of the
    // pods of app `x` give another answer.
    for (name, app, differ) in [
        ("c", Some("z"), vec![]),
        ("a", Some("y"), vec![]),
        ("b", Some("x"), vec![]),
        ("a", Some("z"), vec![&get]),
        ("a", Some("x"), vec![&get, &find]),
        ("d", Some("x"), vec![&find]),
        ("b", None, vec![&find]),
        ("c", None, vec![]),
    ] {
        let mut writer = store(&[("a", "y"), ("b", "x"), ("c", "y")]);
        let recorder = Recorder::new(view(&writer), target(7));
        assert!(recorder.get(&named("a")).expect("pods").is_some());
        assert_eq!(recorder.find_pods("app=x").expect("pods").count(), 1);
        assert_eq!(recorder.find_job("job"), Ok(JobState::Absent));
        let reads = recorder.reads().expect("few reads");
        assert_eq!(reads.change(&target(7), &view(&writer)), Change::None);
        assert_eq!(reads.change(&target(8), &view(&writer)), Change::Target);
        writer.apply_watcher_event(&match app {
            Some(app) => Event::Apply(pod(name, app, "9")),
            None => Event::Delete(pod(name, "x", "1")),
        });
        let wanted = match differ.as_slice() {
            [] => Change::None,
            differ => Change::Reads(differ.iter().map(digest).collect()),
        };
        let change = reads.change(&target(7), &view(&writer));
        assert_eq!(change, wanted, "{name} {app:?}");
    }
}

#[test]
fn a_whole_pod_shows_more_than_a_typed_one() {
    let own = |priority: i32| {
        let mut pod = pod("a", "x", &priority.to_string());
        let spec = json!({"containers": [], "priority": priority});
        pod.spec = serde_json::from_value(spec).expect("a spec");
        let mut writer = Writer::<Pod>::default();
        writer.apply_watcher_event(&Event::Apply(pod));
        Seen {
            pod: writer.as_reader().entry(Some("ns"), "a"),
            ..target(7)
        }
    };
    let view = view(&Writer::default());
    let recorder = Recorder::new(Arc::clone(&view), own(1));
    let change = |recorder: &Recorder| recorder.reads().map(|reads| reads.change(&own(2), &view));
    assert_eq!(change(&recorder), Some(Change::None));
    let pod = own(1).pod.map(|pod| pod.peek());
    recorder.note_own(pod.as_deref());
    assert_eq!(change(&recorder), Some(Change::Target));
}

#[test]
fn the_reason_that_the_action_reported_is_no_news_to_it() {
    let failed = |reason: Option<&str>| Seen {
        last_failure: reason.map(str::to_owned),
        ..target(7)
    };
    let view = view(&Writer::default());
    let recorder = Recorder::new(Arc::clone(&view), failed(Some("Busy")));
    let reads = recorder.reads().expect("few reads");
    let reads = reads.reporting(Some("Waiting"));
    for (reason, change) in [
        (Some("Busy"), Change::None),
        (Some("Waiting"), Change::None),
        (Some("Forbidden"), Change::Target),
        (None, Change::Target),
    ] {
        assert_eq!(reads.change(&failed(reason), &view), change, "{reason:?}");
    }
}

#[test]
fn a_target_that_waits_for_a_limit_depends_on_the_room_below_it() {
    let limit = PodLimit {
        label_selector: "app=x".to_owned(),
        pods: 2,
    };
    // The pods of app `x` before and after, and the room.
    for (before, after, room) in [(2, 2, 0), (2, 1, 1), (3, 2, 0), (3, 0, 2)] {
        let names = ["a", "b", "c"];
        let with = |count: usize| {
            let pods: Vec<_> = names[..count].iter().map(|name| (*name, "x")).collect();
            store(&pods)
        };
        let recorder = Recorder::new(view(&with(before)), target(7));
        recorder.note_limit_if_full(limit.clone());
        let reads = recorder.reads().expect("few reads");
        let limited = Change::Limited(Limited {
            limit: digest(&limit),
            room,
            changed: Vec::new(),
        });
        let now = view(&with(after));
        assert_eq!(reads.change(&target(7), &now), limited, "{before} {after}");
        assert_eq!(reads.change(&target(8), &now), Change::Target);
    }
    let recorder = Recorder::new(view(&store(&[("a", "x")])), target(7));
    recorder.note_limit_if_full(limit.clone());
    assert_eq!(
        recorder.reads().and_then(|reads| reads.limit()),
        None,
        "there is room"
    );
    recorder.note_limit(limit);
    assert!(
        recorder
            .reads()
            .is_some_and(|reads| reads.limit().is_some())
    );
}

#[test]
fn a_call_that_reads_very_much_depends_on_everything() {
    let recorder = Recorder::new(view(&Writer::default()), target(7));
    for number in 0..=MOST {
        assert!(recorder.reads().is_some());
        let selector = format!("app={number}");
        assert!(recorder.find_pods(&selector).is_ok());
    }
    assert_eq!(recorder.reads(), None);
}

#[test]
fn long_questions_are_not_remembered_and_the_call_depends_on_everything() {
    let long = "x".repeat(1 << 20);
    let ask: [&dyn Fn(&Recorder); 4] = [
        &|recorder| assert_eq!(recorder.find_job(&long), Ok(JobState::Absent)),
        &|recorder| assert!(recorder.get(&named(&long)).is_ok()),
        &|recorder| assert!(recorder.find_pods(&long).is_err()),
        &|recorder| assert!(recorder.find(&long, "Thing", "").is_err()),
    ];
    for (number, ask) in ask.into_iter().enumerate() {
        let recorder = Recorder::new(view(&Writer::default()), target(7));
        ask(&recorder);
        assert!(recorder.reads().is_none(), "{number}");
        assert!(recorder.known().reads.is_empty(), "{number}");
    }
    // Many of them are as much as a long one.
    let recorder = Recorder::new(view(&Writer::default()), target(7));
    for number in 0..8 {
        let selector = format!("app=x{number}{}", "x".repeat(BYTES / 8));
        assert!(recorder.find_pods(&selector).is_ok());
        assert_eq!(recorder.reads().is_some(), number < 7, "{number}");
    }
}

/// A store with so many pods of an app.
fn many(count: usize) -> Writer<Pod> {
    let mut writer = Writer::<Pod>::default();
    for number in 0..count {
        writer.apply_watcher_event(&Event::Apply(pod(&number.to_string(), "x", "1")));
    }
    writer
}

/// A selector that selects nothing, and that is compared with each pod up to its end.
fn expensive(number: usize) -> String {
    let absent: Vec<_> = (0..100).map(|other| format!("!a{other}")).collect();
    format!("{},x{number} in (p,q)", absent.join(","))
}

#[test]
fn a_call_whose_reads_are_expensive_to_compare_depends_on_everything() {
    let cheap = "app=none".to_owned();
    let with_exact = |number: usize| format!("app=x,{}", expensive(number));
    // The number of pods, two selectors, and whether it is remembered that they were read.
    for (pods, selectors, is_remembered) in [
        (1_500, [expensive(0), cheap.clone()], true),
        (1_500, [expensive(0), expensive(1)], false),
        (2_700, [expensive(0), cheap.clone()], false),
        (2_700, [with_exact(0), cheap.clone()], false),
        (2_700, [format!("app=y,{}", expensive(0)), cheap], true),
    ] {
        let recorder = Recorder::new(view(&many(pods)), target(7));
        for selector in &selectors {
            assert_eq!(recorder.find_pods(selector).map(Iterator::count), Ok(0));
        }
        assert_eq!(
            recorder.reads().is_some(),
            is_remembered,
            "{pods} {selectors:?}"
        );
    }
    let recorder = Recorder::new(view(&many(2_700)), target(7));
    recorder.note_limit(PodLimit {
        label_selector: expensive(0),
        pods: 1,
    });
    assert!(recorder.reads().is_none(), "the limit is compared as well");
}

#[test]
fn reads_by_expensive_selectors_have_a_limit_for_each_call() {
    let view = view(&many(700));
    let recorder = Recorder::new(Arc::clone(&view), target(7));
    let reads = (0..200).map(|number| recorder.find_pods(&expensive(number)).is_ok());
    let read = reads.take_while(|is_read| *is_read).count();
    assert!((50..70).contains(&read), "{read}");
    assert!(recorder.find("v1", "Pod", "app=x").is_err());
    assert!(recorder.get(&named("1")).is_err());
    let next = Recorder::new(view, target(7));
    assert!(next.find_pods("app=x").is_ok());
}
