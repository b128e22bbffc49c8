//! The registry of `walpost dev`: `walpost_schema`'s, in memory, served over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use walpost_schema::registry::{MemoryRegistry, dev_server};

pub(super) struct DevRegistry {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl DevRegistry {
    pub(super) fn start(asked: Option<u16>) -> anyhow::Result<Self> {
        let listener = super::instance::listener(asked, 8081, "--registry-port")?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
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
