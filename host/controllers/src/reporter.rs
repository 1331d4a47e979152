//! The end of a pass over an object that has Jobs: its status is written, and what became different is
//! told by Events.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::{NamespaceResourceScope, api::core::v1::ObjectReference};
use kube::{Api, Client, Resource, ResourceExt};
use operon_core::driver::Event;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::Error,
    events::Events,
    run::Next,
    status::{StatusWriter, Written},
    store::{Cache, Cached},
};

/// What a report is made with.
pub struct Reporter<'a, K: Cached> {
    /// Writes the status.
    pub client: &'a Client,
    /// The field manager.
    pub manager: &'static str,
    /// Spaces the writes of statuses.
    pub status: &'a StatusWriter,
    /// The cache that is told of the write.
    pub cache: &'a Cache<K>,
    /// Sends Events.
    pub events: &'a Events,
}

impl<K> Reporter<'_, K>
where
    K: Cached
        + Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Debug
        + DeserializeOwned,
{
    /// Writes `status`, if it is not the `current` one, and then sends the Events.
    ///
    /// # Errors
    /// The status could not be written.
    pub async fn report<S: Serialize + PartialEq + Debug>(
        &self,
        object: &K,
        current: Option<&S>,
        status: &S,
        events: &[Event],
        requeue_after: Option<Duration>,
    ) -> Result<Next, Error> {
        let namespace = object.namespace().unwrap_or_default();
        let api = Api::namespaced(self.client.clone(), &namespace);
        let written = self
            .status
            .write(&api, self.manager, object, current, status)
            .await?;
        let mut next = Next {
            requeue_after,
            retry: false,
        };
        match written {
            Written::Unchanged => {}
            Written::Later(wait) => next.requeue_after = Some(wait),
            Written::Yes(written) => {
                self.cache.wrote(*written);
                for event in events {
                    self.tell(object, event).await;
                }
            }
        }
        Ok(next)
    }

    /// Events of one reason about different Jobs are different Events.
    async fn tell(&self, object: &K, event: &Event) {
        let Event {
            severity,
            reason,
            message,
            related,
        } = event;
        let job = related.as_ref().map(|related| ObjectReference {
            api_version: Some(related.api_version.clone()),
            kind: Some(related.kind.clone()),
            namespace: object.namespace(),
            name: Some(related.name.clone()),
            ..ObjectReference::default()
        });
        self.events
            .send_about(
                &object.object_ref(&()),
                job,
                *severity,
                reason,
                "Run",
                message,
            )
            .await;
    }
}
