//! What must exist when an operation is performed: read from the API server as the action's
//! ServiceAccount, because the stores may be behind. Many targets name the same owner at the same time,
//! so one answer serves all of them for a second.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use operon_core::action::{ObjectReference, Requirement};
use tokio::{sync::Mutex, time::Instant};

use super::{Performer, named};
use crate::{
    apply::within_limit,
    error::{Class, Error},
};

/// How long an answer that satisfies a requirement is reused.
const SERVES: Duration = Duration::from_secs(1);

/// Recently read objects, by namespace and object. Concurrent requests for one object share one read.
#[derive(Default)]
pub(super) struct Known(std::sync::Mutex<HashMap<(String, ObjectReference), Slot>>);

type Slot = Arc<Mutex<Option<Read>>>;

struct Read {
    at: Instant,
    found: Option<ObjectMeta>,
}

impl Known {
    fn slot(&self, namespace: &str, object: &ObjectReference) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let serves = |slot: &Slot| match slot.try_lock() {
            Ok(read) => read.as_ref().is_some_and(|read| read.at.elapsed() < SERVES),
            Err(_) => true,
        };
        slots.retain(|_, slot| Arc::strong_count(slot) > 1 || serves(slot));
        let key = (namespace.to_owned(), object.clone());
        Arc::clone(slots.entry(key).or_default())
    }
}

impl Performer {
    /// Checks that each of these objects exists, has the required uid, and is not being deleted.
    ///
    /// # Errors
    /// An object could not be read, or does not satisfy its requirement.
    pub async fn require(
        &self,
        namespace: &str,
        requirements: &[Requirement],
    ) -> Result<(), Error> {
        for requirement in requirements {
            self.require_one(namespace, requirement).await?;
        }
        Ok(())
    }

    async fn require_one(&self, namespace: &str, requirement: &Requirement) -> Result<(), Error> {
        self.live(namespace, requirement).await.map(|_| ())
    }

    /// The metadata of an object that satisfies its requirement.
    ///
    /// # Errors
    /// It could not be read, or does not satisfy the requirement.
    pub(super) async fn live(
        &self,
        namespace: &str,
        requirement: &Requirement,
    ) -> Result<ObjectMeta, Error> {
        let found = self.read(namespace, requirement).await?;
        match (unmet(requirement, found.as_ref()), found) {
            (None, Some(found)) => Ok(found),
            (state, _) => Err(Error::Requirement {
                object: named(namespace, &requirement.object),
                state: state.unwrap_or(ABSENT),
            }),
        }
    }

    /// The metadata of an object of this uid, which may be being deleted.
    ///
    /// # Errors
    /// It could not be read.
    pub(super) async fn found(
        &self,
        namespace: &str,
        requirement: &Requirement,
    ) -> Result<Option<ObjectMeta>, Error> {
        let found = self.read(namespace, requirement).await?;
        Ok(found.filter(|found| found.uid.as_ref() == Some(&requirement.uid)))
    }

    /// The object of this name as it is now, or was in the last second if that satisfies the requirement.
    async fn read(
        &self,
        namespace: &str,
        requirement: &Requirement,
    ) -> Result<Option<ObjectMeta>, Error> {
        let object = &requirement.object;
        let slot = self.known.slot(namespace, object);
        let mut read = slot.lock().await;
        // An object's version is read each time: it may have changed since the last answer.
        let serves =
            |read: &&Read| requirement.resource_version.is_none() && read.at.elapsed() < SERVES;
        let known = read.as_ref().filter(serves);
        if let Some(known) = known.filter(|read| unmet(requirement, read.found.as_ref()).is_none())
        {
            return Ok(known.found.clone());
        }
        let at = Instant::now();
        let found = self.metadata(namespace, object).await?;
        *read = Some(Read {
            at,
            found: found.clone(),
        });
        Ok(found)
    }

    async fn metadata(
        &self,
        namespace: &str,
        object: &ObjectReference,
    ) -> Result<Option<ObjectMeta>, Error> {
        let api = self.api(namespace, object).await?;
        let request = api.get_metadata(&object.name);
        match within_limit("get", || named(namespace, object), request).await {
            Ok(found) => Ok(Some(found.metadata)),
            Err(error) if error.class() == Class::Gone => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What keeps an object that is not there from meeting a requirement.
const ABSENT: &str = "does not exist any more";

/// What keeps an object from meeting a requirement.
fn unmet(requirement: &Requirement, found: Option<&ObjectMeta>) -> Option<&'static str> {
    let Requirement {
        object: _,
        uid,
        resource_version,
    } = requirement;
    let Some(found) = found else {
        return Some(ABSENT);
    };
    if found.uid.as_ref() != Some(uid) {
        return Some("has been replaced by another object of the same name");
    }
    if found.deletion_timestamp.is_some() {
        return Some("is being deleted");
    }
    let changed = resource_version.is_some() && found.resource_version != *resource_version;
    changed.then_some("has changed in the meantime")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_requirement_is_met_by_the_same_object_alone() {
        let requirement = |version: Option<&str>| Requirement {
            object: ObjectReference {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                name: "web".to_owned(),
            },
            uid: "u1".to_owned(),
            resource_version: version.map(str::to_owned),
        };
        let deleted = json!({"uid": "u1", "resourceVersion": "7",
            "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let table = [
            (json!({"uid": "u1", "resourceVersion": "7"}), None, true),
            (
                json!({"uid": "u1", "resourceVersion": "7"}),
                Some("7"),
                true,
            ),
            (
                json!({"uid": "u1", "resourceVersion": "8"}),
                Some("7"),
                false,
            ),
            (json!({"uid": "u2", "resourceVersion": "7"}), None, false),
            (deleted, None, false),
        ];
        for (metadata, version, met) in table {
            let found: ObjectMeta = serde_json::from_value(metadata.clone()).expect("metadata");
            let state = unmet(&requirement(version), Some(&found));
            assert_eq!(state.is_none(), met, "{metadata} {version:?}");
        }
        assert!(unmet(&requirement(None), None).is_some());
    }
}
