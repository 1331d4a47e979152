//! The only writer of statuses: at most once per reconcile, only when it differs, and for one object at
//! most once a second, less often where a write takes long. Only a status that others wait for may be
//! written sooner, as often as its size allows.
//!
//! A status is written over the version from which it was decided. If the object has another one by now,
//! the API server refuses, and the status is decided again when the cache has that version.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    apply::timely,
    error::{Class, Error},
    recent::Recent,
};

/// The shortest time between two status writes of one object.
const INTERVAL: Duration = Duration::from_secs(1);

/// A write that takes long, because the object is large or the API server busy, is followed by so many
/// times its own time without one: a large job works on its targets instead.
const REST: u32 = 4;

/// The shortest time between two status writes of one object if the second only says how far its work is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// The longest time between two status writes that differ.
const LONGEST: Duration = Duration::from_secs(5);

/// How many bytes a second of one object's status are written at most where others wait for it.
const BYTES: f64 = 256.0 * 1024.0;

/// The result of a write of a status.
pub enum Written<K> {
    /// It is what the API server already has.
    Unchanged,
    /// It was written; this is the object now.
    Yes(Box<K>),
    /// The last write was too recent, or the object has another version by now: decide again when the
    /// cache has that version, or after this time.
    Later(Duration),
}

/// Times in a status are whole seconds, so that writing one and reading it back is no change.
pub(crate) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The body of the request: borrowed, without another copy of a status that may be large.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body<'a, S> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    metadata: Metadata<'a>,
    status: &'a S,
}

/// Which object is meant. A version that is `null` would be refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
}

impl<'a, S> Body<'a, S> {
    /// The status of this object, to be written over this version of it.
    pub(crate) fn new<K>(object: &'a K, version: Option<&'a str>, status: &'a S) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        let meta = object.meta();
        Self {
            api_version: K::api_version(&()),
            kind: K::kind(&()),
            metadata: Metadata {
                name: meta.name.as_deref().unwrap_or_default(),
                uid: meta.uid.as_deref(),
                resource_version: version,
            },
            status,
        }
    }
}

/// Writes statuses and remembers when, to space them. Forgetting that is harmless.
#[derive(Default)]
pub struct StatusWriter {
    /// The last writes, by uid, until the next one may be.
    written: Recent<String, Last>,
    /// What was written lately, by uid, until progress may be written again.
    reported: Recent<String, ()>,
    /// By uid: the version over which a write changed nothing, and what was written. The stored status differs from it
    /// for good: another operator's condition is in it, for example.
    settled: Mutex<HashMap<String, (String, u64)>>,
}

/// The last write of a status.
#[derive(Clone)]
struct Last {
    /// The version over which it was refused, so it always would be. Another version need not wait.
    refused: Option<String>,
    /// When it was answered.
    at: Instant,
    /// How long the API server took.
    took: Duration,
}

/// Of how many objects it is known at most that a write changes nothing.
const SETTLED: usize = 10_000;

impl StatusWriter {
    /// Writes `status` as the status of `object`, if it differs from `current`. It is written over
    /// `version`: the API server refuses it if the object has changed since then, or is another one.
    pub async fn write<K, S>(
        &self,
        api: &Api<K>,
        manager: &str,
        object: &K,
        version: Option<&str>,
        current: Option<&S>,
        status: &S,
    ) -> Result<Written<K>, Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
        S: Serialize + PartialEq + Debug,
    {
        if current == Some(status) {
            return Ok(Written::Unchanged);
        }
        let uid = object.uid().unwrap_or_default();
        if self.is_settled(&uid, version, status) {
            return Ok(Written::Unchanged);
        }
        if let Some(wait) = self.wait(&uid, version) {
            return Ok(Written::Later(wait));
        }
        let name = object.name_any();
        let body = Body::new(object, version, status);
        let params = PatchParams::apply(manager).force();
        let patch = Patch::Apply(&body);
        let begin = Instant::now();
        let request = api.patch_status(&name, &params, &patch);
        match timely("write the status of", object, request).await {
            Ok(written) => {
                self.settle(&uid, version, status, &written);
                let last = Last::of(begin, None);
                let rest = (last.took * REST).clamp(INTERVAL, LONGEST);
                self.reported
                    .keep(uid.clone(), (), rest.max(PROGRESS_INTERVAL));
                self.written.keep(uid, last, rest);
                Ok(Written::Yes(Box::new(written)))
            }
            Err(error) if error.class() == Class::Conflict => {
                tracing::debug!(
                    error = error.chain(),
                    "the status is decided again: the object has changed"
                );
                let last = Last::of(begin, version);
                self.written.keep(uid, last, INTERVAL);
                Ok(Written::Later(INTERVAL))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a write of this status over this version is known to change nothing.
    pub(crate) fn is_settled<S: Serialize>(
        &self,
        uid: &str,
        version: Option<&str>,
        status: &S,
    ) -> bool {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = settled.get(uid);
        known.is_some_and(|(known, written)| {
            Some(known.as_str()) == version && *written == digest(status)
        })
    }

    fn settle<K: Resource, S: Serialize>(
        &self,
        uid: &str,
        version: Option<&str>,
        status: &S,
        written: &K,
    ) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let unchanged =
            version.filter(|version| Some(*version) == written.meta().resource_version.as_deref());
        match unchanged {
            Some(version) => {
                if settled.len() >= SETTLED {
                    settled.clear();
                }
                settled.insert(uid.to_owned(), (version.to_owned(), digest(status)));
            }
            None => drop(settled.remove(uid)),
        }
    }

    /// How long a write of an object's status over this version must wait.
    pub(crate) fn wait(&self, uid: &str, version: Option<&str>) -> Option<Duration> {
        let (last, left) = self.written.get(uid)?;
        let refused = last.refused.as_deref();
        let is_other = refused.is_some() && refused != version;
        (!is_other).then_some(left)
    }

    /// How long a write must wait that only says how far the work on an object is.
    pub(crate) fn wait_with_progress(&self, uid: &str) -> Option<Duration> {
        self.reported.get(uid).map(|((), left)| left)
    }

    /// The same of a status that others wait for. It waits only as long as its size requires, or the API server is
    /// slow; if it need not wait, its write does not.
    pub(crate) fn wait_if_urgent<S: Serialize>(
        &self,
        uid: &str,
        version: Option<&str>,
        status: &S,
    ) -> Option<Duration> {
        let wait = self.wait(uid, version)?;
        let (last, _) = self.written.get(uid)?;
        if last.refused.is_some() {
            return Some(wait);
        }
        // A status is always JSON.
        let bytes = serde_json::to_vec(status).map_or(0, |bytes| bytes.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let rest = Duration::from_secs_f64(f64::from(bytes) / BYTES).max(last.took * REST);
        let left = rest.saturating_sub(last.at.elapsed()).min(wait);
        if left.is_zero() {
            self.written.forget(uid);
        }
        (!left.is_zero()).then_some(left)
    }
}

impl Last {
    fn of(begin: Instant, refused: Option<&str>) -> Self {
        Self {
            refused: refused.map(str::to_owned),
            at: Instant::now(),
            took: begin.elapsed(),
        }
    }
}

fn digest<S: Serialize>(status: &S) -> u64 {
    let mut hasher = DefaultHasher::new();
    // A status is always JSON.
    serde_json::to_vec(status)
        .unwrap_or_default()
        .hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use operon_api::JobFlow;
    use serde_json::{Value, json};

    use super::*;
    use crate::fake;

    /// The body of the request that writes a status over this version.
    async fn sent(version: Option<&str>) -> Value {
        let flow = json!({
            "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
            "metadata": {"name": "flow", "namespace": "ns", "uid": "u"},
            "spec": {"flows": [{"name": "a"}]},
        });
        let body = std::sync::Arc::new(Mutex::new(Value::Null));
        let (noted, answer) = (std::sync::Arc::clone(&body), flow.clone());
        let client = fake::client(move |request| {
            let body = serde_json::from_str(request.body()).expect("JSON");
            *noted.lock().unwrap_or_else(PoisonError::into_inner) = body;
            Some(fake::answer(200, &answer))
        });
        let object: JobFlow = serde_json::from_value(flow).expect("a flow");
        let status = operon_api::job_flow::JobFlowStatus::default();
        let writer = StatusWriter::default();
        let api = Api::namespaced(client, "ns");
        let written = writer.write(&api, "test", &object, version, None, &status);
        assert!(matches!(written.await, Ok(Written::Yes(_))));
        let body = body.lock().unwrap_or_else(PoisonError::into_inner);
        body["metadata"].clone()
    }

    #[tokio::test]
    async fn a_status_is_written_over_a_version_only_where_one_is_given() {
        let any = json!({"name": "flow", "uid": "u"});
        assert_eq!(sent(None).await, any);
        let this = json!({"name": "flow", "uid": "u", "resourceVersion": "7"});
        assert_eq!(sent(Some("7")).await, this);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_changes_nothing_is_not_repeated_while_the_object_stays_as_it_is() {
        let flow = |version: &str| {
            json!({
                "apiVersion": "api.practice.com/v1alpha1", "kind": "JobFlow",
                "metadata": {"name": "flow", "namespace": "ns", "uid": "u", "resourceVersion": version},
                "spec": {"flows": [{"name": "a"}]},
            })
        };
        let sent = std::sync::Arc::new(Mutex::new(0));
        let (count, answer) = (std::sync::Arc::clone(&sent), flow("7"));
        let client = fake::client(move |_| {
            *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            Some(fake::answer(200, &answer))
        });
        let writer = StatusWriter::default();
        let api: Api<JobFlow> = Api::namespaced(client, "ns");
        let status = |steps: i32| operon_api::job_flow::JobFlowStatus {
            observed_generation: Some(steps.into()),
            ..Default::default()
        };
        // The version, the status, how many requests were sent by then.
        for (version, generation, requests) in [
            ("7", 1, 1),
            ("7", 1, 1),
            ("7", 2, 2),
            ("7", 2, 2),
            ("8", 2, 3),
        ] {
            let object: JobFlow = serde_json::from_value(flow(version)).expect("a flow");
            let status = status(generation);
            let written = writer.write(&api, "test", &object, Some(version), None, &status);
            assert!(written.await.is_ok());
            let sent = *sent.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(sent, requests, "{version} {generation}");
            tokio::time::sleep(LONGEST).await;
        }
    }
}
