//! An address in, connections with their prepared statements out.
//!
//! Each batch in progress holds one connection; there are as many as batches may run at once, so
//! there is no pool to wait for. One that was dropped in a transaction is closed, never reused.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{CancelToken, Client, Config, Socket};
use tracing::debug;

use crate::store::claim::Statements;
use crate::store::{Limits, StoreError};

type Opening = Pin<Box<dyn Future<Output = Result<Client, tokio_postgres::Error>> + Send>>;
type Cancelling = Pin<Box<dyn Future<Output = ()> + Send>>;
type Cancel = Arc<dyn Fn(CancelToken) -> Cancelling + Send + Sync>;

/// For asking the server to cancel a statement.
const CANCEL_MAX: Duration = Duration::from_secs(2);

/// The consumer's database: opens connections and keeps the idle ones.
#[derive(Clone)]
pub struct Database {
    open: Arc<dyn Fn() -> Opening + Send + Sync>,
    cancel: Cancel,
    limits: Limits,
    idle: Arc<Mutex<Vec<Link>>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// A connection with the inbox's statements prepared.
pub struct Link {
    client: Client,
    cancel: Cancel,
    pub(crate) statements: Statements,
}

impl Link {
    /// Ends the statement under way, if there is one, on a connection of its own. It may be asked
    /// after the link was dropped.
    pub(crate) fn canceller(&self) -> impl Future<Output = ()> + Send + use<> {
        (self.cancel)(self.client.cancel_token())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_closed", &self.client.is_closed()).finish()
    }
}

impl Deref for Link {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Database {
    /// With a configuration and a way to TLS, such as that of `tokio-postgres-rustls`, or
    /// [`tokio_postgres::NoTls`]. Nothing is opened yet.
    ///
    /// ```
    /// use walpost_inbox::store::Database;
    /// let config = "postgres://stock@127.0.0.1/stock".parse()?;
    /// let database = Database::new(config, tokio_postgres::NoTls);
    /// # Ok::<(), tokio_postgres::Error>(())
    /// ```
    pub fn new<T>(mut config: Config, tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        if config.get_application_name().is_none() {
            config.application_name("walpost-inbox");
        }
        let for_cancel = tls.clone();
        let cancel = move |token: CancelToken| -> Cancelling {
            let tls = for_cancel.clone();
            Box::pin(async move {
                // What cannot be cancelled ends by itself: its connection is closed anyway.
                let _ = tokio::time::timeout(CANCEL_MAX, token.cancel_query(tls)).await;
            })
        };
        let open = move || -> Opening {
            let (config, tls) = (config.clone(), tls.clone());
            Box::pin(async move {
                let (client, connection) = config.connect(tls).await?;
                // Ends when the client is dropped or the server goes away; its error is the next
                // statement's too.
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        debug!(%error, "connection ended");
                    }
                });
                Ok(client)
            })
        };
        Self {
            open: Arc::new(open),
            cancel: Arc::new(cancel),
            limits: Limits::default(),
            idle: Arc::default(),
        }
    }

    /// With other limits for its sessions, and no idle connection in common.
    #[must_use]
    pub(crate) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, idle: Arc::default(), ..self }
    }

    /// A connection that was used before, or a new one. Cancellation-safe.
    ///
    /// ```
    /// # use walpost_inbox::store::{Database, StoreError};
    /// # async fn f(database: &Database) -> Result<(), StoreError> {
    /// let link = database.link().await?;
    /// link.batch_execute("SELECT 1").await?;
    /// database.keep(link);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn link(&self) -> Result<Link, StoreError> {
        loop {
            let idle = self.idle().pop();
            let Some(link) = idle else { break };
            if !link.is_closed() {
                return Ok(link);
            }
        }
        let client = self.link_bare().await?;
        let limits = self.limits.session_sql();
        let (limited, statements) = tokio::join!(
            biased;
            client.batch_execute(&limits),
            Statements::prepare(&client),
        );
        limited?;
        let statements = statements?;
        Ok(Link { client, cancel: Arc::clone(&self.cancel), statements })
    }

    /// A new connection without the inbox's statements, whose tables may still be missing: for
    /// migrations. It is the caller's.
    ///
    /// ```
    /// # use walpost_inbox::store::{Database, StoreError};
    /// # async fn f(database: &Database) -> Result<(), StoreError> {
    /// let client = database.link_bare().await?;
    /// walpost_inbox::store::install(&client).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn link_bare(&self) -> Result<Client, StoreError> {
        Ok((self.open)().await?)
    }

    /// Keeps a connection for the next one; it must not be in a transaction.
    ///
    /// ```
    /// # use walpost_inbox::store::{Database, StoreError};
    /// # async fn f(database: &Database) -> Result<(), StoreError> {
    /// let link = database.link().await?;
    /// database.keep(link);
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep(&self, link: Link) {
        if !link.is_closed() {
            self.idle().push(link);
        }
    }

    /// Closes what is idle: after a failover it leads to a server that is read-only.
    ///
    /// ```
    /// # use walpost_inbox::store::{Database, StoreError};
    /// # async fn f(database: &Database) -> Result<(), StoreError> {
    /// database.forget_idle();
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget_idle(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Link>> {
        // Only push and pop run under the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
