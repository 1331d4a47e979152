//! For tests: a Kubernetes client whose API server is a function, for faults that a real API server can't
//! be made to produce.

use std::{sync::Arc, time::Duration};

use http::{Request, Response};
use kube::{Client, client::Body};
use serde_json::Value;

/// A client with requests that this function answers. A request without an answer hangs.
pub(crate) fn client(
    answer: impl Fn(&Request<String>) -> Option<Response<Body>> + Send + Sync + 'static,
) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let body = String::from_utf8_lossy(&body).into_owned();
            match answer(&Request::from_parts(parts, body)) {
                Some(response) => Ok::<_, kube::Error>(response),
                None => std::future::pending().await,
            }
        }
    });
    Client::new(service, "default")
}

/// An answer of this code.
pub(crate) fn answer(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(body.to_string().into_bytes());
    let response = Response::builder().status(code).body(body);
    response.expect("a code and a body make a response")
}

/// Waits until this is so.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(waited.is_ok(), "{what}");
}
