//! `/healthz`, `/readyz` and `/metrics`, over plain HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
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

/// Where the host is on its way to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does not know the cluster yet.
    #[default]
    Starting,
    /// It leads, and its caches are being filled.
    Filling,
    /// It leads, and actions are being loaded; OperationJobs wait for that.
    Loading,
    /// It serves, or waits to lead.
    Ready,
}

/// Whether the host is ready: it leads, and its caches are synced and follow the API server, or it waits to
/// lead.
#[derive(Clone)]
pub(crate) struct Readiness {
    phase: Arc<Mutex<Phase>>,
    health: Health,
}

impl Readiness {
    pub(crate) fn new(health: Health) -> Self {
        Self {
            phase: Arc::default(),
            health,
        }
    }

    pub(crate) fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Why the host is not ready, if so. Readiness does not affect traffic, because the host gets none; it
    /// shows on the pod, and it holds up a rollout.
    fn missing(&self) -> Option<String> {
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        match phase {
            Phase::Starting => Some("starting".to_owned()),
            Phase::Filling => Some("caches are being filled".to_owned()),
            Phase::Loading => Some("actions are being loaded".to_owned()),
            Phase::Ready => {
                let broken: Vec<_> = self.health.broken().into_iter().collect();
                let broken = (!broken.is_empty()).then(|| broken.join(", "));
                broken.map(|broken| format!("watches are interrupted: {broken}"))
            }
        }
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
            tracing::error!(error = %error, "the server of the probes and metrics stopped");
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
