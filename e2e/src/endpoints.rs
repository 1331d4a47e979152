//! Watches how many ready endpoints a Service has while a story goes on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use tokio::task::JoinHandle;

/// A watch of a Service's endpoints; it ends when this is dropped.
pub struct Endpoints {
    seen: Arc<Mutex<Seen>>,
    watch: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    slices: HashMap<String, usize>,
    least: Option<usize>,
}

impl Seen {
    fn now(&self) -> usize {
        self.slices.values().sum()
    }

    fn note(&mut self) {
        let now = self.now();
        self.least = Some(self.least.map_or(now, |least| least.min(now)));
    }
}

impl Endpoints {
    /// Watches the endpoints of a Service.
    pub fn watch(slices: Api<EndpointSlice>, service: &str) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let config =
            watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
        let notes = Arc::clone(&seen);
        let watch = tokio::spawn(async move {
            let mut events = watcher(slices, config).boxed();
            while let Some(event) = events.try_next().await.unwrap_or_default() {
                let mut seen = notes.lock().unwrap_or_else(PoisonError::into_inner);
                match event {
                    Event::Init => seen.slices.clear(),
                    Event::InitApply(slice) => {
                        seen.slices.insert(slice.name_any(), ready(&slice));
                    }
                    Event::InitDone => seen.note(),
                    Event::Apply(slice) => {
                        seen.slices.insert(slice.name_any(), ready(&slice));
                        seen.note();
                    }
                    Event::Delete(slice) => {
                        seen.slices.remove(&slice.name_any());
                        seen.note();
                    }
                }
            }
        });
        Self { seen, watch }
    }

    /// How many endpoints are ready now.
    pub fn now(&self) -> usize {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now()
    }

    /// The least number of ready endpoints there has been since the last [`Endpoints::reset`].
    pub fn least(&self) -> usize {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .least
            .unwrap_or(0)
    }

    /// Forgets the past.
    pub fn reset(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.least = None;
        seen.note();
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

fn ready(slice: &EndpointSlice) -> usize {
    let ready = |endpoint: &&k8s_openapi::api::discovery::v1::Endpoint| {
        endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready)
            .unwrap_or(true)
    };
    slice.endpoints.iter().filter(ready).count()
}
