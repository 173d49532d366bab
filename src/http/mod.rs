//! HTTP: health as Patroni tells it, the cluster as JSON, metrics, and the few orders an operator
//! gives.
//!
//! What changes anything needs the cluster secret as bearer token, or, without a secret, a
//! loopback address (the configuration holds that); and always a header that no web page can send
//! across sites. So does the one answer that holds clients' data, `/discarded/<name>`.

mod cluster;
mod discarded;
mod door;
mod health;
mod metrics;
mod orders;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use thiserror::Error;
use tokio::net::TcpListener;

use crate::server::Server;

/// Why the HTTP port is not served.
#[derive(Debug, Error)]
#[error("cannot listen for HTTP on {addr}: {source}; give another --http-addr")]
pub struct HttpError {
    /// As configured.
    pub addr: String,
    /// What the system said.
    pub source: std::io::Error,
}

/// Binds the HTTP port.
pub async fn bind(addr: &str) -> Result<TcpListener, HttpError> {
    let failed = |source| HttpError {
        addr: addr.to_string(),
        source,
    };
    TcpListener::bind(addr).await.map_err(failed)
}

type Shared = Arc<Server>;

/// Serves until the node stops.
pub async fn serve(server: Arc<Server>, listener: TcpListener) {
    let stopping = server.node.stopping.clone();
    let router = router(server);
    let door = door::Door::of(listener);
    let served = axum::serve(door, router).with_graceful_shutdown(stopping.cancelled_owned());
    if let Err(error) = served.await {
        tracing::warn!("HTTP ended: {error}");
    }
}

fn router(server: Shared) -> Router {
    let discarded = discarded::routes(Arc::clone(&server));
    Router::new()
        .route("/", get(health::primary))
        .route("/primary", get(health::primary))
        .route("/master", get(health::primary))
        .route("/leader", get(health::primary))
        .route("/read-write", get(health::primary))
        .route("/replica", get(health::replica))
        .route("/secondary", get(health::replica))
        .route("/read-only", get(health::read_only))
        .route("/health", get(health::health))
        .route("/readiness", get(health::readiness))
        .route("/liveness", get(health::liveness))
        .route("/cluster", get(cluster::cluster))
        .route("/history", get(cluster::history))
        .route("/metrics", get(metrics::metrics))
        .route("/promote-price", get(orders::price))
        .route("/switchover", post(orders::switchover))
        .route("/promote", post(orders::promote))
        .with_state(server)
        .merge(discarded)
}
