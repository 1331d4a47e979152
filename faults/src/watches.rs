//! Watches that are silent for a while, or end, when the fault happens.

use std::{future::pending, time::Duration};

use anyhow::Result;
use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;

use crate::{
    plan::Fault,
    proxy::{Content, full},
};

/// How long a watch is delayed.
const DELAY: Duration = Duration::from_mins(1);

/// The event that ends a watch from which too much time has passed.
const GONE: &str = r#"{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","message":"too old resource version","code":410}}"#;

/// The events of a watch that began before the fault.
pub(crate) fn disturbed(body: Content, fault: Fault, struck: watch::Receiver<bool>) -> Content {
    let disturbed = Disturbed {
        body,
        fault,
        struck: Some(struck),
        is_whole: true,
    };
    StreamBody::new(stream::unfold(disturbed, Disturbed::next)).boxed_unsync()
}

/// A watch to which something happens when the fault does.
struct Disturbed {
    body: Content,
    fault: Fault,
    struck: Option<watch::Receiver<bool>>,
    /// Whether the last event has arrived in whole.
    is_whole: bool,
}

impl Disturbed {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>>, Self)> {
        if self.is_whole
            && let Some(mut struck) = self.struck.take()
        {
            tokio::select! {
                biased;
                () = has_struck(&mut struck) => match self.fault {
                    Fault::Delay => tokio::time::sleep(DELAY).await,
                    Fault::Gone | Fault::Stale => {
                        self.body = full(Bytes::new());
                        return Some((Ok(Frame::data(Bytes::from(format!("{GONE}\n")))), self));
                    }
                    _ => pending().await,
                },
                frame = self.body.frame() => {
                    self.struck = Some(struck);
                    return Some(self.with(frame?));
                }
            }
        }
        let frame = self.body.frame().await?;
        Some(self.with(frame))
    }

    fn with(mut self, frame: Result<Frame<Bytes>>) -> (Result<Frame<Bytes>>, Self) {
        if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
            self.is_whole = data.ends_with(b"\n");
        }
        (frame, self)
    }
}

async fn has_struck(struck: &mut watch::Receiver<bool>) {
    if struck.wait_for(|struck| *struck).await.is_err() {
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(body: Content) -> String {
        let bytes = body.collect().await.expect("a body").to_bytes();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn a_watch_ends_with_410_between_two_events() {
        let (struck, has_struck) = watch::channel(false);
        let events = ["{\"a\"", ": 1}\n", "{\"b\": 2}\n"].map(|part| {
            // The fault happens while the first event is under way.
            struck.send_replace(true);
            Ok(Frame::data(Bytes::from(part)))
        });
        let body = StreamBody::new(stream::iter(events)).boxed_unsync();
        let mut watch = Disturbed {
            body,
            fault: Fault::Gone,
            struck: Some(has_struck),
            is_whole: false,
        };
        let mut read = String::new();
        while let Some((frame, next)) = watch.next().await {
            let data = frame.expect("a frame").into_data().expect("data");
            read += &String::from_utf8_lossy(&data);
            watch = next;
        }
        assert_eq!(read, format!("{{\"a\": 1}}\n{GONE}\n"));
    }

    #[tokio::test]
    async fn a_watch_goes_on_while_nothing_happens() {
        let (_struck, has_struck) = watch::channel(false);
        let body = disturbed(full(Bytes::from("{}\n")), Fault::Freeze, has_struck);
        assert_eq!(text(body).await, "{}\n");
    }
}
