//! The task that keeps a cache: it lists, then watches, and begins again with a list whatever ends that.
//! It notices lists that are never answered and connections that died.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use kube::{
    Api,
    api::WatchParams,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::watcher,
};
use tokio::time::Instant;

use super::{
    Cached, Store,
    keeper::{Keeper, Kept},
};
use crate::{fault::contained, health::refusal};

/// The wait before a watch that ended starts again; it doubles with every failure up to the second. An
/// API server that refuses is not asked again and again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// How long a list may go without a part of it: longer than the API server works on one. A connection that
/// died unnoticed answers never.
const LIST_LIMIT: Duration = Duration::from_secs(90);

/// How long one request of a watch lasts, from the first to the second of these seconds: at its end the
/// watch goes on by another request, without a list. A connection that died unnoticed is noticed 5 s after
/// it. That is one request a minute for each watch.
const WATCH_SECONDS: (u32, u32) = (60, 90);

/// How long one request of a watch of this kind lasts, so that those of all kinds do not end together.
pub(super) fn watch_seconds(kind: &str) -> u32 {
    let (least, most) = WATCH_SECONDS;
    let sum = kind.bytes().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    least + sum % (most - least + 1)
}

/// How often what was not read is compressed: an object is whole for one to two of these after it was read.
const SETTLE: Duration = Duration::from_secs(30);

/// How long the API server may take to answer whether it serves a kind.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The code by which the API server says that it does not serve a kind.
const NOT_FOUND: u16 = 404;

/// How a watch ended.
enum End {
    Failed(watcher::Error),
    /// The stream of its events ended, which it should not, or a list took too long.
    Closed,
    /// Another list was asked for.
    Again,
}

/// How the objects of a watch are read.
pub(super) struct Reading<R, K> {
    pub(super) read: fn(R) -> Option<K>,
    /// Whether the API server may not serve the kind, which means that there are no objects.
    pub(super) may_be_absent: bool,
}

impl<O> Reading<O, O> {
    /// Every object is read as it is, of a kind that the API server serves.
    pub(super) fn all() -> Self {
        Self {
            read: Some,
            may_be_absent: false,
        }
    }
}

impl<R, K> Clone for Reading<R, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R, K> Copy for Reading<R, K> {}

/// The task that brings what one watch of a cache reports.
pub(super) struct Watch<K: Cached>(pub(super) Arc<Kept<K>>);

impl<K: Cached> Watch<K> {
    /// Watches for ever. Each turn is a watch of its own, which begins with a list.
    pub(super) async fn run<R: Cached>(
        self,
        api: Api<R>,
        reading: Reading<R, K>,
        config: watcher::Config,
    ) {
        let (mut failures, mut panics) = (Pauses::default(), Pauses::default());
        loop {
            let turn = self.turn(
                api.clone(),
                reading.read,
                config.clone(),
                &mut failures,
                &mut panics,
            );
            match contained(turn).await {
                Ok(End::Again) => continue,
                Ok(End::Closed) => {}
                Ok(End::Failed(error)) if reading.may_be_absent && is_absent(&error) => {
                    self.0.change(Keeper::absent);
                    self.served(&api).await;
                    failures.reset();
                    continue;
                }
                Ok(End::Failed(error)) => self.0.health.failed(&error),
                Err(panic) => {
                    self.0.health.panicked(&panic);
                    self.0.lock().panicked(None, &panic);
                }
            }
            tokio::time::sleep(failures.next()).await;
        }
    }

    /// Waits until the API server may serve the kind. What else fails is found by the turn that follows.
    async fn served<R: Cached>(&self, api: &Api<R>) {
        let params = WatchParams::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSES.1) => {}
                () = self.0.again.notified() => return,
            }
            let watch = api.watch(&params, "0");
            match tokio::time::timeout(ANSWER_LIMIT, watch).await {
                Ok(Err(kube::Error::Api(status))) if status.code == NOT_FOUND => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    async fn turn<R: Cached>(
        &self,
        api: Api<R>,
        read: fn(R) -> Option<K>,
        config: watcher::Config,
        failures: &mut Pauses,
        panics: &mut Pauses,
    ) -> End {
        // The list that begins now serves whoever asked for one before.
        let _ = self.0.again.notified().now_or_never();
        let mut events = std::pin::pin!(watcher(api, config));
        let mut again = std::pin::pin!(async {
            self.0.again.notified().await;
            tokio::time::sleep(panics.next()).await;
        });
        let mut is_listing = true;
        loop {
            let next = async {
                if is_listing {
                    let part = tokio::time::timeout(LIST_LIMIT, events.next());
                    part.await.unwrap_or(None)
                } else {
                    events.next().await
                }
            };
            let event = tokio::select! {
                event = next => event,
                () = &mut again => return End::Again,
            };
            match event {
                Some(Ok(event)) => {
                    match event {
                        watcher::Event::Init => is_listing = true,
                        watcher::Event::InitDone => {
                            is_listing = false;
                            failures.reset();
                        }
                        watcher::Event::Apply(_)
                        | watcher::Event::Delete(_)
                        | watcher::Event::InitApply(_) => {}
                    }
                    if let Some(event) = each(event, read) {
                        self.0.change(|keeper| keeper.watched(event));
                    }
                }
                Some(Err(error)) => return End::Failed(error),
                None => return End::Closed,
            }
        }
    }
}

/// Keeps small what is not read, for ever.
pub(super) async fn settle<K: Cached>(store: Store<K>) {
    loop {
        tokio::time::sleep(SETTLE).await;
        let store = store.clone();
        // What it panics on stays whole.
        let _ = tokio::task::spawn_blocking(move || store.settle()).await;
    }
}

/// Whether a watch failed because the API server does not serve the kind.
fn is_absent(error: &watcher::Error) -> bool {
    refusal(error).is_some_and(|status| status.code == NOT_FOUND)
}

/// The waits after failures.
#[derive(Default)]
struct Pauses {
    failures: u32,
    last: Option<Instant>,
}

impl Pauses {
    /// The next wait: twice the last one, unless that is long ago.
    fn next(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > PAUSES.1 * 2) {
            self.reset();
        }
        let wait = PAUSES.0.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Instant::now());
        wait.min(PAUSES.1)
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

/// An event about the object that was read, if it could be.
pub(super) fn each<R, K>(
    event: watcher::Event<R>,
    read: fn(R) -> Option<K>,
) -> Option<watcher::Event<K>> {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
    match event {
        Apply(object) => read(object).map(Apply),
        Delete(object) => read(object).map(Delete),
        Init => Some(Init),
        InitApply(object) => read(object).map(InitApply),
        InitDone => Some(InitDone),
    }
}

pub(super) fn readable<K: Cached>(object: DeserializeGuard<K>) -> Option<K> {
    let unreadable = match object.0 {
        Ok(object) => return Some(object),
        Err(unreadable) => unreadable,
    };
    let InvalidObject { error, metadata } = unreadable;
    tracing::warn!(
        kind = std::any::type_name::<K>().rsplit("::").next(),
        namespace = metadata.namespace.as_deref(),
        name = metadata.name.as_deref(),
        error = error,
        "an object can't be read and is left alone: it is not what its schema says"
    );
    None
}
