//! Runs the driver against a cluster: its port over the caches and the API server, once for all kinds
//! that own objects. What a controller adds is what it sees.

use std::{borrow::Cow, fmt::Debug, sync::Arc, time::Duration};

use kube::{
    Resource, ResourceExt,
    core::{DynamicObject, object::HasStatus},
    runtime::reflector::ObjectRef,
};
use operon_core::{
    action::{Effect, ObjectReference},
    driver::{Asked, Conclusion, Kind, Next, Port, Question, Refusal, StatusWrite, reconcile},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    ask::Questions,
    effects::{OnBehalf, Performed, Performer},
    error::Error,
    report::{Reported, Reports},
    run::{PACE, Reconciler},
    store::{Cache, Cached},
};

/// What a controller adds to the driver.
pub trait Controller: Send + Sync + 'static {
    /// The objects that it reconciles.
    type Object: Reported + HasStatus<Status = <Self::Kind as Kind>::Status>;
    /// What is decided about them.
    type Kind: Kind<Status: Serialize + PartialEq + Debug>;

    /// The controller's name, in logs and metrics.
    const NAME: &'static str;
    /// The field manager of what it writes.
    const MANAGER: &'static str;

    /// Reads the caches. `before` is what was seen of the same version of the object a moment ago.
    fn look(
        &self,
        object: Arc<Self::Object>,
        before: Option<<Self::Kind as Kind>::Seen>,
    ) -> <Self::Kind as Kind>::Seen;

    /// The least time between two reconciles of an object.
    fn pace(_object: &Self::Object) -> Duration {
        PACE
    }

    /// The object that was seen.
    fn object(seen: &<Self::Kind as Kind>::Seen) -> &Arc<Self::Object>;
}

/// A controller with what it writes by.
pub struct Driven<C: Controller> {
    /// What is seen.
    pub controller: C,
    /// Performs writes.
    pub performer: Performer,
    /// Reads what caches do not hold.
    pub questions: Questions,
    /// The caches of what the objects own.
    pub owned: Vec<Arc<dyn OwnedCache>>,
    /// Writes statuses, and sends the Events that follow.
    pub reports: Arc<Reports<C::Object>>,
}

impl<C: Controller> Reconciler for Driven<C> {
    type Object = C::Object;
    const NAME: &'static str = C::NAME;
    const STATUS_MANAGER: Option<&'static str> = Some(C::MANAGER);

    async fn reconcile(&self, object: Arc<C::Object>) -> Result<Next, Error> {
        let port = ClusterPort {
            driven: self,
            namespace: object.namespace().unwrap_or_default(),
            object,
        };
        reconcile::<C::Kind>(&port).await.map_err(Error::from)
    }

    fn pace(object: &C::Object) -> Duration {
        C::pace(object)
    }

    async fn stop(&self) {
        self.reports.written().await;
    }
}

/// The cluster as one object meets it in one reconcile.
struct ClusterPort<'a, C: Controller> {
    driven: &'a Driven<C>,
    object: Arc<C::Object>,
    namespace: String,
}

impl<C: Controller> ClusterPort<'_, C> {
    /// Tells the caches of an object as the API server returned it.
    fn wrote(&self, written: &Value) {
        let kind = written["kind"].as_str().unwrap_or_default();
        if kind == C::Object::kind(&()) {
            tell(self.driven.reports.cache(), written);
        } else if let Some(cache) = self.owned(kind) {
            cache.wrote(written);
        }
    }

    /// The cache of a kind of which the objects own some.
    fn owned(&self, kind: &str) -> Option<&Arc<dyn OwnedCache>> {
        let mut caches = self.driven.owned.iter();
        caches.find(|cache| cache.kind() == kind)
    }
}

impl<C: Controller> Port<C::Kind> for ClusterPort<'_, C> {
    fn seen(&self) -> Option<<C::Kind as Kind>::Seen> {
        let object = Arc::clone(&self.object);
        Some(self.driven.controller.look(object, None))
    }

    fn seen_again(&self, before: <C::Kind as Kind>::Seen) -> <C::Kind as Kind>::Seen {
        let object = Arc::clone(C::object(&before));
        self.driven.controller.look(object, Some(before))
    }

    fn known(&self, object: &ObjectReference) -> Option<Value> {
        let cache = self.owned(&object.kind)?;
        cache.get(&self.namespace, &object.name)
    }

    async fn get(&self, object: &ObjectReference) -> Result<Value, Refusal> {
        let performer = &self.driven.performer;
        let found = value(performer.get(&self.namespace, object).await?);
        self.wrote(&found);
        Ok(found)
    }

    async fn perform(&self, effect: &Effect) -> Result<Value, Refusal> {
        if let Effect::Event {
            severity,
            reason,
            message,
        } = effect
        {
            let events = self.driven.reports.events();
            events
                .send(&*self.object, *severity, reason, "Reconcile", message)
                .await;
            return Ok(Value::Null);
        }
        let performer = &self.driven.performer;
        match performer
            .perform(&OnBehalf::of(&*self.object), effect)
            .await?
        {
            Performed::Object(object) => {
                let written = value(*object);
                self.wrote(&written);
                Ok(written)
            }
            Performed::Nothing => Ok(Value::Null),
        }
    }

    async fn ask(&self, question: &Question) -> Asked {
        self.driven.questions.ask(&*self.object, question).await
    }

    fn status_write(&self) -> StatusWrite<<C::Kind as Kind>::Status> {
        self.driven.reports.status_write(&*self.object)
    }

    fn report(
        &self,
        seen: &<C::Kind as Kind>::Seen,
        conclusion: Conclusion<<C::Kind as Kind>::Status>,
    ) -> Next {
        let is_progress = C::Kind::is_progress;
        let object = C::object(seen);
        self.driven
            .reports
            .report_at_pace(object, conclusion, is_progress)
    }
}

/// The cache of a kind of which objects own some.
pub trait OwnedCache: Send + Sync {
    /// The kind.
    fn kind(&self) -> Cow<'static, str>;

    /// The object of this name, if the cache holds it.
    fn get(&self, namespace: &str, name: &str) -> Option<Value>;

    /// Updates the cache with an object as the API server returned it.
    fn wrote(&self, written: &Value);
}

impl<K> OwnedCache for Cache<K>
where
    K: Cached + Resource<DynamicType = ()> + Serialize + DeserializeOwned,
{
    fn kind(&self) -> Cow<'static, str> {
        K::kind(&())
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        let object = self.store.get(&ObjectRef::new(name).within(namespace))?;
        serde_json::to_value(&*object).ok()
    }

    fn wrote(&self, written: &Value) {
        tell(self, written);
    }
}

/// Tells a cache of a written object, unless that was its last version: its last finalizer is off.
fn tell<K: Cached + DeserializeOwned>(cache: &Cache<K>, written: &Value) {
    let metadata = &written["metadata"];
    let is_held = metadata["finalizers"]
        .as_array()
        .is_some_and(|held| !held.is_empty());
    if metadata["deletionTimestamp"].is_null() || is_held {
        match serde_json::from_value(written.clone()) {
            Ok(object) => cache.wrote(object),
            // The watch reports it too.
            Err(error) => {
                tracing::warn!(error = %error, "an answer of the API server cannot be read");
            }
        }
    }
}

fn value(object: DynamicObject) -> Value {
    // What was read from JSON is JSON.
    serde_json::to_value(object).unwrap_or_default()
}
