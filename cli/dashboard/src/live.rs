//! The changes of a place: its part again whenever it is another one, at most twice a second.

use std::{convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse,
    sse::{Event, KeepAlive, Sse},
};
use futures::stream;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    cache::Known,
    part::{Reading, Source, Stamp},
    place::Place,
};

/// How often a part is sent at most.
const FRAME: Duration = Duration::from_millis(500);

/// How often what is not watched is read again: Jobs, pods, Events. Ages change with it.
const REFRESH: Duration = Duration::from_secs(2);

/// A browser that looks at a place.
struct Viewer {
    source: Source,
    place: Place,
    known: watch::Receiver<Vec<Known>>,
    last: Option<Seen>,
}

/// What a browser has seen.
struct Seen {
    part: String,
    /// When it was read, and what it depended on then.
    read: Instant,
    stamp: Stamp,
}

/// Sends the part now, and again when it changes, until the browser closes the connection.
pub(crate) fn stream(source: Source, place: Place) -> impl IntoResponse {
    let viewer = Viewer {
        known: source.cache.subscribe(),
        source,
        place,
        last: None,
    };
    let parts = stream::unfold(viewer, |mut viewer| async move {
        let part = viewer.next().await;
        Some((Ok::<_, Infallible>(Event::default().data(part)), viewer))
    });
    Sse::new(parts).keep_alive(KeepAlive::default())
}

impl Viewer {
    async fn next(&mut self) -> String {
        loop {
            let last = self.last.take();
            if let Some(seen) = &last {
                self.wait(seen).await;
            }
            let (read, stamp) = (Instant::now(), self.stamp());
            let part = self.source.part(&self.place, Reading::Watched).await.live;
            let is_new = last.is_none_or(|last| last.part != part);
            self.last = Some(Seen {
                part: part.clone(),
                read,
                stamp,
            });
            if is_new {
                return part;
            }
        }
    }

    /// Until something that the place depends on has changed, or until it is time to read it again.
    async fn wait(&mut self, seen: &Seen) {
        sleep_until(seen.read + FRAME).await;
        let changed =
            async { while self.stamp() == seen.stamp && self.known.changed().await.is_ok() {} };
        // When the time is up, it is read again.
        let _ = timeout_at(seen.read + REFRESH, changed).await;
    }

    fn stamp(&self) -> Stamp {
        Stamp::of(&self.known.borrow(), &self.place)
    }
}
