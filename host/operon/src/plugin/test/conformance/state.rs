//! The state in which a run leaves the world, without what differs between two runs that did the same: generated names,
//! uids, times and resource versions.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::{
    changes::fields,
    world::{FOREIGN, FOREIGN_MAPS, World},
};

/// Fields of an object's metadata that every write changes, or that say nothing about the object.
const NOISE: [&str; 5] = [
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
];

/// The objects of a world, by what they are called: `Pod foo` if the run began with it, `new Pod` otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State(BTreeMap<String, Vec<Value>>);

impl State {
    /// What a run that began with one world has left behind in another.
    pub(super) fn of(began: &World, left: &World) -> Self {
        let mut words = Words::default();
        let was = |object: &Value| {
            let mut objects = began.objects();
            objects.find(|was| is_same_name(was, object))
        };
        for object in left.objects() {
            let called = called(object, was(object).is_some());
            if was(object).is_none() {
                words.replace(&object["metadata"]["name"], &called);
            }
            let is_same =
                was(object).is_some_and(|was| was["metadata"]["uid"] == object["metadata"]["uid"]);
            let uid = if is_same { "uid of" } else { "other uid of" };
            words.replace(&object["metadata"]["uid"], &format!("{uid} {called}"));
        }
        words.sort();
        let mut objects: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for object in left.objects() {
            let called = called(object, was(object).is_some());
            let mut object = object.clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.retain(|key, _| !NOISE.contains(&key.as_str()));
                drop_foreign(metadata);
            }
            words.apply(&mut object, left.now());
            objects.entry(called).or_default().push(object);
        }
        for alike in objects.values_mut() {
            alike.sort_by_key(Value::to_string);
        }
        Self(objects)
    }

    /// The first difference from the state that another run has left, in one line.
    pub(super) fn difference(
        &self,
        expected: &Self,
        other: &str,
        skipped: &BTreeSet<String>,
    ) -> Option<String> {
        let names = expected.0.keys().chain(self.0.keys());
        let names: BTreeSet<_> = names.collect();
        names
            .into_iter()
            .filter(|name| !skipped.contains(*name))
            .find_map(|name| self.difference_of(name, expected, other))
    }

    fn difference_of(&self, name: &str, expected: &Self, other: &str) -> Option<String> {
        let of = |state: &Self| state.0.get(name).cloned().unwrap_or_default();
        let (is, was) = (of(self), of(expected));
        if is.len() != was.len() {
            return Some(match (is.len(), was.len()) {
                (0, 1) => format!("{name} does not exist; {other} it does"),
                (1, 0) => format!("{name} exists; {other} it does not"),
                (is, was) => format!("there are {is} objects {name:?}; {other} there are {was}"),
            });
        }
        let pairs = was.iter().zip(&is);
        let mut pairs = pairs.filter(|(was, is)| was != is);
        let (was, is) = pairs.next()?;
        let (was, is) = (fields(Some(was)), fields(Some(is)));
        let mut keys = was.keys().chain(is.keys());
        let key = keys.find(|key| was.get(*key) != is.get(*key))?;
        let value = |fields: &BTreeMap<String, String>| {
            let value = fields.get(key).map(String::as_str);
            value.unwrap_or("absent").to_owned()
        };
        Some(format!(
            "{name}: {key} is {}; {other} it is {}",
            value(&is),
            value(&was)
        ))
    }
}

/// Removes what another client has added.
fn drop_foreign(metadata: &mut Map<String, Value>) {
    for map in FOREIGN_MAPS {
        if let Some(Value::Object(fields)) = metadata.get_mut(map) {
            fields.remove(FOREIGN);
            if fields.is_empty() {
                metadata.remove(map);
            }
        }
    }
}

/// The first field that changed from one version of an object to the next.
pub(super) fn first_change(old: &Value, new: Option<&Value>) -> Option<String> {
    let Some(new) = new else {
        return Some("it is deleted".to_owned());
    };
    let (old, new) = (fields(Some(old)), fields(Some(new)));
    let mut keys = old.keys().chain(new.keys());
    let changed =
        |key: &&String| *key != "metadata.resourceVersion" && old.get(*key) != new.get(*key);
    let key = keys.find(changed)?;
    let absent = "absent".to_owned();
    let (old, new) = (
        old.get(key).unwrap_or(&absent),
        new.get(key).unwrap_or(&absent),
    );
    Some(format!("{key} was {old} and is {new}"))
}

fn is_same_name(one: &Value, other: &Value) -> bool {
    one["apiVersion"] == other["apiVersion"]
        && one["kind"] == other["kind"]
        && one["metadata"]["name"] == other["metadata"]["name"]
}

fn called(object: &Value, is_old: bool) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    if is_old {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        return format!("{kind} {name}");
    }
    format!("new {kind}")
}

/// Texts that differ between runs, and what is put for them.
#[derive(Default)]
struct Words(Vec<(String, String)>);

impl Words {
    fn replace(&mut self, text: &Value, by: &str) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.0.push((text.to_owned(), format!("<{by}>")));
        }
    }

    /// The longest first: a name may be part of another.
    fn sort(&mut self) {
        self.0.sort_by(|one, other| {
            let length = |pair: &(String, String)| std::cmp::Reverse(pair.0.len());
            (length(one), one).cmp(&(length(other), other))
        });
    }

    fn apply(&self, value: &mut Value, now: i64) {
        match value {
            Value::String(text) => *text = self.of(text, now),
            Value::Array(items) => {
                for item in items {
                    self.apply(item, now);
                }
            }
            Value::Object(fields) => {
                for (_, value) in fields.iter_mut() {
                    self.apply(value, now);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn of(&self, text: &str, now: i64) -> String {
        let seconds: Option<i64> = text.parse().ok();
        let is_near = seconds.is_some_and(|seconds| (seconds - now).abs() < 86_400);
        if is_near || text.parse::<Timestamp>().is_ok() {
            return "<time>".to_owned();
        }
        let known = |text: String, (from, to): &(String, String)| replaced(&text, from, to);
        let text = self.0.iter().fold(text.to_owned(), known);
        without_uids(&text)
    }
}

/// A text with a word replaced where it is a whole one: not `uid-1` in `uid-12`.
fn replaced(text: &str, from: &str, to: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(from) {
        let (before, after) = (&rest[..place], &rest[place + from.len()..]);
        let is_apart = |neighbour: Option<char>| !neighbour.is_some_and(char::is_alphanumeric);
        let is_word = is_apart(before.chars().next_back()) && is_apart(after.chars().next());
        done.push_str(before);
        done.push_str(if is_word { to } else { from });
        rest = after;
    }
    done + rest
}

/// A text without the uids of objects that do not exist any more.
fn without_uids(text: &str) -> String {
    let mut parts = text.split("uid-");
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let is_uid = rest.len() < part.len();
        done.push_str(if is_uid { "<a uid>" } else { "uid-" });
        done.push_str(rest);
    }
    done
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn world(objects: &[Value]) -> World {
        let mut world = World::new();
        for object in objects {
            world.put(object).expect("it has a kind and a name");
        }
        world
    }

    fn map(name: &str, data: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    }

    #[test]
    fn generated_names_uids_and_times_are_no_difference() {
        let began = world(&[map("old", &json!({}))]);
        let left = |name: &str, time: &str| {
            let mut left = began.clone();
            let data =
                json!({"is": name, "since": time, "of": "uid-17", "at": left.now().to_string()});
            left.put(&map(name, &data)).expect("it has a name");
            State::of(&began, &left)
        };
        let (one, other) = (
            left("a-1", "2026-01-01T00:00:00Z"),
            left("b-2", "2026-01-02T00:00:00Z"),
        );
        assert_eq!(one.difference(&other, "there", &BTreeSet::new()), None);
        assert_eq!(one, other);
    }

    #[test]
    fn the_first_difference_is_said_in_one_line() {
        let began = world(&[map("old", &json!({"a": "b"}))]);
        let same = State::of(&began, &began);
        let mut more = began.clone();
        more.put(&map("new", &json!({}))).expect("it has a name");
        let more = State::of(&began, &more);
        let difference =
            |one: &State, other: &State| one.difference(other, "there", &BTreeSet::new());
        assert_eq!(
            difference(&more, &same).as_deref(),
            Some("new ConfigMap exists; there it does not")
        );
        let mut changed = began.clone();
        changed
            .put(&map("old", &json!({"a": "c"})))
            .expect("it has a name");
        assert_eq!(
            difference(&State::of(&began, &changed), &same).as_deref(),
            Some("ConfigMap old: data.a is \"c\"; there it is \"b\"")
        );
    }

    #[test]
    fn a_recreated_object_is_another_one() {
        let began =
            world(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foo"}})]);
        let mut left = began.clone();
        left.recreate_pod("foo", &began);
        let (is, was) = (State::of(&began, &left), State::of(&began, &began));
        let difference = is.difference(&was, "there", &BTreeSet::new());
        let said = difference.expect("they differ");
        assert!(said.starts_with("Pod foo: metadata.uid is "), "{said}");
    }

    #[test]
    fn a_recreated_pod_has_no_mark_and_needs_no_pod_of_now() {
        let began =
            world(&[json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foo"}})]);
        let mut left = began.clone();
        let mut marked = left.objects().next().expect("the pod").clone();
        marked["metadata"]["labels"] = json!({"mark": "yes"});
        left.put(&marked).expect("it has a name");
        for _ in 0..2 {
            left.recreate_pod("foo", &began);
            let pod = left.pod("foo").expect("there is another pod");
            assert!(pod.labels.is_empty(), "{:?}", pod.labels);
            left.remove_pod("foo");
        }
    }

    #[test]
    fn what_another_client_adds_is_no_difference() {
        let began = world(&[map("old", &json!({}))]);
        let mut left = began.clone();
        left.touch();
        assert_eq!(State::of(&began, &left), State::of(&began, &began));
    }

    #[test]
    fn only_whole_words_are_replaced() {
        assert_eq!(replaced("uid-1, uid-12", "uid-1", "<it>"), "<it>, uid-12");
        assert_eq!(without_uids("of uid-12: uid-x"), "of <a uid>: uid-x");
    }
}
