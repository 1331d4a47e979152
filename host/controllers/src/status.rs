//! The only writer of statuses: at most once per pass, only when it differs, and for one object at most
//! once a second.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::Mutex,
    time::{Duration, Instant},
};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::{apply::timely, error::Error};

/// The shortest time between two status writes of one object.
const INTERVAL: Duration = Duration::from_secs(1);

/// What became of a status.
pub enum Written<K> {
    /// It is what the API server already has.
    Unchanged,
    /// It was written; this is the object now.
    Yes(Box<K>),
    /// It was written too recently; try again after this time.
    Later(Duration),
}

/// Writes statuses and remembers when, to space them. Forgetting that is harmless.
#[derive(Default)]
pub struct StatusWriter {
    last: Mutex<HashMap<String, Instant>>,
}

impl StatusWriter {
    /// Writes `status` as the status of `object`, if it differs from `current`. The write is refused
    /// by the API server if the object is another one by now.
    pub async fn write<K, S>(
        &self,
        api: &Api<K>,
        manager: &str,
        object: &K,
        current: Option<&S>,
        status: &S,
    ) -> Result<Written<K>, Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
        S: Serialize + PartialEq,
    {
        if current == Some(status) {
            return Ok(Written::Unchanged);
        }
        let uid = object.uid().unwrap_or_default();
        if let Some(wait) = self.wait(&uid) {
            return Ok(Written::Later(wait));
        }
        let name = object.name_any();
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name, "uid": uid },
            "status": status,
        });
        let params = PatchParams::apply(manager).force();
        let patch = Patch::Apply(&body);
        let written = timely(
            "write the status of",
            object,
            api.patch_status(&name, &params, &patch),
        )
        .await?;
        self.note(uid);
        Ok(Written::Yes(Box::new(written)))
    }

    fn wait(&self, uid: &str) -> Option<Duration> {
        let last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        last.get(uid)
            .and_then(|at| INTERVAL.checked_sub(at.elapsed()))
            .filter(|left| !left.is_zero())
    }

    fn note(&self, uid: String) {
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        last.retain(|_, at| at.elapsed() < INTERVAL);
        last.insert(uid, Instant::now());
    }
}
