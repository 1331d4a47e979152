//! The API server's audit log, as a list of requests that are over.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

/// A request, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    /// Who sent it.
    pub(crate) user: String,
    /// Whom the sender acted as, if not itself.
    pub(crate) acting_as: Option<String>,
    /// get, list, watch, create, update, patch, delete …
    pub(crate) verb: String,
    /// The API group of the resource; empty for the core group.
    pub(crate) group: String,
    /// `pods`, `pods/status`; the path of a request that is about no object.
    pub(crate) resource: String,
    /// The object's name.
    pub(crate) name: String,
    /// The HTTP status.
    pub(crate) code: u64,
    /// When it arrived, in seconds since 1970.
    pub(crate) received: f64,
    /// When it was answered.
    pub(crate) answered: f64,
}

impl Request {
    /// Whether it was meant to change something.
    pub(crate) fn is_write(&self) -> bool {
        !self.is_read() && self.verb != "watch"
    }

    /// Whether it was a GET or a LIST.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list")
    }

    /// Whether the API server did what was asked.
    pub(crate) fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether it is about this resource or a part of it.
    pub(crate) fn concerns(&self, resource: &str) -> bool {
        self.resource.split('/').next() == Some(resource)
    }

    /// Whether it arrived within these moments.
    pub(crate) fn within(&self, from: f64, to: f64) -> bool {
        (from..=to).contains(&self.received)
    }
}

/// The requests that the log tells of, in the order of their arrival. A watch is in it once it has begun.
pub(crate) fn read(log: &Path) -> Result<Vec<Request>> {
    let mut requests = each(log)?.collect::<Result<Vec<_>>>()?;
    requests.sort_by(|a, b| a.received.total_cmp(&b.received));
    Ok(requests)
}

/// The requests that the log tells of, one after the other: a log may be large.
pub(crate) fn each(log: &Path) -> Result<impl Iterator<Item = Result<Request>>> {
    let failure = format!("failed to read {}", log.display());
    let file = File::open(log).with_context(|| failure.clone())?;
    let lines = BufReader::new(file).lines();
    Ok(lines.filter_map(move |line| {
        let line = line.with_context(|| failure.clone());
        line.map(|line| {
            // The last line may be half written.
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            request(&event)
        })
        .transpose()
    }))
}

fn request(event: &Value) -> Option<Request> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let verb = text("/verb")?;
    let stage = if verb == "watch" {
        "ResponseStarted"
    } else {
        "ResponseComplete"
    };
    if text("/stage") != Some(stage) {
        return None;
    }
    let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
        (Some(resource), None) => resource.to_owned(),
        (Some(resource), Some(part)) => format!("{resource}/{part}"),
        (None, _) => text("/requestURI")?.split('?').next()?.to_owned(),
    };
    Some(Request {
        user: text("/user/username")?.to_owned(),
        acting_as: text("/impersonatedUser/username").map(str::to_owned),
        verb: verb.to_owned(),
        group: text("/objectRef/apiGroup").unwrap_or_default().to_owned(),
        resource,
        name: text("/objectRef/name").unwrap_or_default().to_owned(),
        code: event
            .pointer("/responseStatus/code")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        received: seconds(text("/requestReceivedTimestamp")?)?,
        answered: seconds(text("/stageTimestamp")?)?,
    })
}

fn seconds(text: &str) -> Option<f64> {
    let time: Timestamp = text.parse().ok()?;
    Some(time.as_duration().as_secs_f64())
}

/// A request for tests that succeeded, a quarter of a second after it arrived.
#[cfg(test)]
pub(crate) fn answered(
    user: &str,
    verb: &str,
    resource: &str,
    name: &str,
    received: f64,
) -> Request {
    Request {
        user: user.to_owned(),
        acting_as: None,
        verb: verb.to_owned(),
        group: String::new(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        code: 200,
        received,
        answered: received + 0.25,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_of_the_log_is_a_request_once_it_is_answered() -> Result<()> {
        let mut event = json!({
            "stage": "ResponseComplete",
            "verb": "patch",
            "requestURI": "/api/v1/namespaces/bench/pods/a/status?fieldManager=kwok",
            "user": {"username": "system:serviceaccount:operon-system:operon"},
            "impersonatedUser": {"username": "system:serviceaccount:operon-system:action-replace"},
            "objectRef": {"resource": "pods", "subresource": "status", "namespace": "bench", "name": "a"},
            "responseStatus": {"code": 200},
            "requestReceivedTimestamp": "1970-01-01T00:00:10.250000Z",
            "stageTimestamp": "1970-01-01T00:00:10.500000Z"
        });
        let found = request(&event).context("no request")?;
        assert_eq!(
            (found.resource.as_str(), found.name.as_str()),
            ("pods/status", "a")
        );
        assert!(found.is_write() && found.succeeded() && found.concerns("pods"));
        assert!((found.received - 10.25).abs() < 1e-6 && (found.answered - 10.5).abs() < 1e-6);
        assert!(found.within(10.0, 11.0) && !found.within(11.0, 12.0));
        event["stage"] = json!("RequestReceived");
        assert_eq!(request(&event), None);
        Ok(())
    }
}
