//! The only writer of statuses: at most once per pass, only when it differs, and for one object at most
//! once a second, less often where a write takes long.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt::Debug,
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

use crate::{apply::timely, error::Error};

/// The shortest time between two status writes of one object.
const INTERVAL: Duration = Duration::from_secs(1);

/// A write that takes long, because the object is large or the API server busy, is followed by so many
/// times its own time without one: a large job works on its targets instead.
const REST: u32 = 4;

/// The longest time between two status writes that differ.
const LONGEST: Duration = Duration::from_secs(5);

/// What became of a status.
pub enum Written<K> {
    /// It is what the API server already has.
    Unchanged,
    /// It was written; this is the object now.
    Yes(Box<K>),
    /// It was written too recently; try again after this time.
    Later(Duration),
}

/// Times in a status are whole seconds, so that writing one and reading it back is no change.
pub(crate) fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What is sent: as it is, without another copy of a status that may be large.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a, S> {
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
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
}

/// Writes statuses and remembers when, to space them. Forgetting that is harmless.
#[derive(Default)]
pub struct StatusWriter {
    /// From when on an object's next write may be, by uid.
    next: Mutex<HashMap<String, Instant>>,
}

impl StatusWriter {
    /// Writes `status` as the status of `object`, if it differs from `current`. The write is refused
    /// by the API server if the object is another one by now or, where `version` is given, if it has
    /// changed since that version.
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
        if let Some(wait) = self.wait(&uid) {
            return Ok(Written::Later(wait));
        }
        let name = object.name_any();
        let body = Body {
            api_version: K::api_version(&()),
            kind: K::kind(&()),
            metadata: Metadata {
                name: &name,
                uid: &uid,
                resource_version: version,
            },
            status,
        };
        let params = PatchParams::apply(manager).force();
        let patch = Patch::Apply(&body);
        let begin = Instant::now();
        let written = timely(
            "write the status of",
            object,
            api.patch_status(&name, &params, &patch),
        )
        .await?;
        self.note(uid, begin.elapsed());
        Ok(Written::Yes(Box::new(written)))
    }

    /// How long the next write of an object's status must wait.
    pub(crate) fn wait(&self, uid: &str) -> Option<Duration> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let left = next.get(uid)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn note(&self, uid: String, took: Duration) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        next.retain(|_, at| *at > now);
        next.insert(uid, now + (took * REST).clamp(INTERVAL, LONGEST));
    }
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
}
