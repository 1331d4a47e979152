//! Events about an object, as a user reads them.

use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};

use crate::text::duration;

/// An Event, or a series of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When it happened last.
    pub last: Option<Timestamp>,
    /// Whether it is a Warning.
    pub is_warning: bool,
    /// The reason.
    pub reason: String,
    /// What it says.
    pub message: String,
    /// How often it happened.
    pub count: i32,
}

impl Happening {
    /// How long ago it happened last; empty if that is unknown.
    pub fn age(&self, now: Timestamp) -> String {
        self.last.map_or(String::new(), |last| duration(last, now))
    }
}

/// The newest Events first, at most `most`.
pub fn happenings(events: Vec<Event>, most: usize) -> Vec<Happening> {
    let mut happenings: Vec<_> = events.into_iter().map(happening).collect();
    happenings.sort_by_key(|one| std::cmp::Reverse(one.last));
    happenings.truncate(most);
    happenings
}

fn happening(event: Event) -> Happening {
    let (series_count, series_last) = match event.series {
        Some(series) => (series.count, series.last_observed_time.map(|time| time.0)),
        None => (None, None),
    };
    let last = series_last
        .or(event.last_timestamp.map(|time| time.0))
        .or(event.event_time.map(|time| time.0))
        .or(event.first_timestamp.map(|time| time.0))
        .or(event.metadata.creation_timestamp.map(|time| time.0));
    Happening {
        last,
        is_warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        count: series_count.or(event.count).unwrap_or(1).max(1),
    }
}
