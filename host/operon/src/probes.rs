//! `/healthz`, `/readyz` and `/metrics`, over plain HTTP.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use operon_controllers::health::Health;
use prometheus_client::registry::Registry;

/// The content type of OpenMetrics text.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the host is ready: it leads, and its caches are full and follow the API server, or it waits to
/// lead.
#[derive(Clone)]
pub(crate) struct Readiness {
    is_started: Arc<AtomicBool>,
    health: Health,
}

impl Readiness {
    pub(crate) fn new(health: Health) -> Self {
        Self {
            is_started: Arc::default(),
            health,
        }
    }

    pub(crate) fn set(&self, ready: bool) {
        self.is_started.store(ready, Ordering::Relaxed);
    }

    /// Why the host is not ready, if so. That removes it from no traffic, as it gets none; it tells
    /// whoever looks at the pod, and holds up a rollout.
    fn missing(&self) -> Option<String> {
        if !self.is_started.load(Ordering::Relaxed) {
            return Some("caches are being filled".to_owned());
        }
        let broken: Vec<_> = self.health.broken().into_iter().collect();
        (!broken.is_empty()).then(|| format!("watches are interrupted: {}", broken.join(", ")))
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    registry: Registry,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address} (--listen)"))?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .merge(
            Router::new()
                .route("/metrics", get(metrics))
                .with_state(Arc::new(registry)),
        );
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(error = %error, "probes and metrics ended");
        }
    });
    Ok(())
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    match readiness.missing() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPENMETRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain")],
            error.to_string(),
        ),
    }
}
