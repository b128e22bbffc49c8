//! The HTTP server: who may ask, and what is answered.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{StatusJson, health, metrics};
use crate::clock::unix_ms;
use crate::settings::AdminSettings;
use crate::status::{Snapshot, Status};

/// The admin address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("admin address {listen} cannot be served (set admin.listen to a free one)")]
pub struct AdminError {
    listen: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// An address that is ours, and that nobody answers at yet.
#[derive(Debug)]
pub struct AdminListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl AdminListener {
    /// Takes the configured address.
    pub async fn open(settings: &AdminSettings) -> Result<Self, AdminError> {
        let failed = |source| AdminError { listen: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Takes over an address that is held already.
    pub fn taken_over(listener: std::net::TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener: TcpListener::from_std(listener)?, address })
    }
}

/// The running server and the task that serves.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Where it listens; the port is known even if it was chosen by the system.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once: an open connection must not hold up the end of the process.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

struct Served {
    statuses: Vec<Status>,
    hosts: HashSet<String>,
    token: Option<SecretString>,
    needs_token: bool,
}

impl Served {
    fn snapshots(&self) -> Vec<Snapshot> {
        self.statuses.iter().map(Status::snapshot).collect()
    }
}

/// Starts serving. It answers while the sources drain, until [`AdminServer::stop`].
pub fn serve(
    AdminListener { listener, address }: AdminListener,
    settings: &AdminSettings,
    statuses: Vec<Status>,
) -> AdminServer {
    let served = Arc::new(Served {
        statuses,
        hosts: settings.hosts.clone(),
        token: settings.token.clone(),
        needs_token: !settings.listen.ip().is_loopback() && !settings.is_insecure,
    });
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_text))
        .route("/api/v1/status", get(status))
        .layer(middleware::from_fn_with_state(Arc::clone(&served), admit))
        .with_state(served);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the admin server ended");
        }
    });
    tracing::info!(%address, "admin");
    AdminServer { address, task }
}

/// Lets a request in: by a known name, and with the token where one is demanded.
async fn admit(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !is_known_host(host, &served.hosts) {
        let hint = "unknown host name: add it to admin.hosts\n";
        return (StatusCode::MISDIRECTED_REQUEST, hint).into_response();
    }
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    if served.needs_token && !is_probe && !has_token(headers, served.token.as_ref()) {
        let hint = "token required: Authorization: Bearer ...\n";
        return (StatusCode::UNAUTHORIZED, hint).into_response();
    }
    next.run(request).await
}

/// An address, `localhost`, or a configured name, each with or without a port.
fn is_known_host(host: &str, configured: &HashSet<String>) -> bool {
    let host = host.to_ascii_lowercase();
    let without_port = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default().to_owned(),
        None => host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).to_owned(),
    };
    without_port == "localhost"
        || without_port.parse::<std::net::IpAddr>().is_ok()
        || configured.contains(&without_port)
}

fn has_token(headers: &HeaderMap, token: Option<&SecretString>) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    match (given, token) {
        (Some(given), Some(token)) => {
            same_bytes(given.as_bytes(), token.expose_secret().as_bytes())
        }
        _ => false,
    }
}

/// Takes the same time wherever the difference is.
fn same_bytes(given: &[u8], wanted: &[u8]) -> bool {
    let difference = given.iter().zip(wanted).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == wanted.len() && difference == 0
}

fn verdict(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn livez(State(served): State<Arc<Served>>) -> Response {
    let is_live = health::is_live(&served.snapshots(), unix_ms());
    (verdict(is_live), if is_live { "live\n" } else { "a loop does not turn\n" }).into_response()
}

async fn readyz(State(served): State<Arc<Served>>) -> Response {
    let snapshots = served.snapshots();
    let line = |source: &Snapshot| format!("{} {}\n", source.source, source.state.as_str());
    let lines: String = snapshots.iter().map(line).collect();
    (verdict(health::is_ready(&snapshots)), lines).into_response()
}

async fn healthz(State(served): State<Arc<Served>>) -> Response {
    let status = StatusJson::of(&served.snapshots());
    let is_healthy = status.sources.iter().all(|source| source.healthy);
    (verdict(is_healthy), axum::Json(status)).into_response()
}

async fn metrics_text(State(served): State<Arc<Served>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::render(served.snapshots())).into_response()
}

async fn status(State(served): State<Arc<Served>>) -> Response {
    axum::Json(StatusJson::of(&served.snapshots())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_configured_names_are_served() {
        let configured = HashSet::from(["relay.internal".to_owned()]);
        for host in ["127.0.0.1:9464", "localhost", "[::1]:9464", "Relay.Internal:80", "10.0.0.7"] {
            assert!(is_known_host(host, &configured), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:9464", "127.0.0.1.evil.example"] {
            assert!(!is_known_host(host, &configured), "{host}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same_bytes(b"abc", b"abc"));
        assert!(!same_bytes(b"ab", b"abc") && !same_bytes(b"abd", b"abc"));
    }
}
