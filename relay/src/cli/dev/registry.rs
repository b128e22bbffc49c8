//! The registry of `walpost dev`: `walpost_schema`'s, in memory, served over HTTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use walpost_schema::registry::{MemoryRegistry, dev_server};

pub(super) struct DevRegistry {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl DevRegistry {
    pub(super) async fn start(asked: Option<u16>) -> anyhow::Result<Self> {
        let port = super::instance::port(asked, 8081, "--registry-port")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("port {port} cannot be served"))?;
        let address = listener.local_addr()?;
        let router = dev_server::router(Arc::new(MemoryRegistry::new()));
        let task = tokio::spawn(async move {
            // It ends with the process; an error shows at whoever asks it.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, task })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}
