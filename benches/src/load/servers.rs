//! The servers of a run: PostgreSQL with fsync on, one Kafka broker, a registry in this process.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use secrecy::SecretString;
use tokio::net::TcpListener;
use walpost::database::{DatabaseAddress, SqlSession};
use walpost_schema::registry::{MemoryRegistry, Normalize, dev_server};
use xtask::stack::{Kafka, Postgres};

/// The record of the load: seven fields.
const SCHEMA: &str = r#"{"type": "record", "name": "OrderPlaced", "namespace": "shop", "fields": [
    {"name": "seq", "type": "long"}, {"name": "order_id", "type": "string"},
    {"name": "customer", "type": "string"},
    {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal",
        "precision": 12, "scale": 2}},
    {"name": "currency", "type": "string"}, {"name": "status", "type": "string"},
    {"name": "note", "type": ["null", "string"], "default": null}]}"#;

/// What the records of a topic are checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Every row fits.
    All,
    /// The rows of one aggregate in a hundred do not: their status is no symbol of the enum.
    AllButOnePercent,
}

pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Kafka,
    pub(crate) registry_url: String,
    registry: Arc<MemoryRegistry>,
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        let (postgres, kafka) = crate::start::start().await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let registry_url = format!("http://{}", listener.local_addr()?);
        let registry = Arc::new(MemoryRegistry::new());
        let router = dev_server::router(Arc::clone(&registry));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { postgres, kafka, registry_url, registry })
    }

    /// Registers the load's schema for a topic.
    pub(crate) fn register(&self, topic: &str, fit: Fit) -> Result<()> {
        let subject = format!("{topic}-shop.OrderPlaced");
        let strict = r#"{"name": "status", "type": {"type": "enum", "name": "Status",
            "symbols": ["placed"]}}"#;
        let schema = match fit {
            Fit::All => SCHEMA.to_owned(),
            Fit::AllButOnePercent => {
                SCHEMA.replace(r#"{"name": "status", "type": "string"}"#, strict)
            }
        };
        let put = self.registry.put(&subject, &schema, &[], Normalize::No);
        put.map(|_| ()).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))
    }

    pub(crate) fn address(&self) -> Result<DatabaseAddress> {
        let url = SecretString::from(self.postgres.url());
        Ok(DatabaseAddress::try_new(&url, None, None, None)?)
    }

    pub(crate) async fn sql(&self) -> Result<SqlSession> {
        Ok(self.address()?.connect_sql("load").await?)
    }

    /// The configuration of a relay that reads `slot` into `topic`.
    pub(crate) fn configuration(&self, slot: &str, topic: &str, admin_port: u16) -> String {
        format!(
            "[admin]\nlisten = \"127.0.0.1:{admin_port}\"\n\
             [kafka]\nbootstrap_servers = \"{}\"\ncreate_topics = true\npartitions = 6\n\
             replication_factor = 1\n\
             [registry]\nurl = \"{}\"\n\
             [schemas]\nnamespace = \"shop\"\n\
             [[source]]\nname = \"load-{slot}\"\nurl = \"{}\"\nslot = \"{slot}\"\n\
             publication = \"load\"\n[[source.route]]\ntopic = \"{topic}\"\n",
            self.kafka.address(),
            self.registry_url,
            self.postgres.url(),
        )
    }
}
