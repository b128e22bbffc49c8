//! A name in, the number that stands in every row out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

use crate::store::{Day, StoreError};

/// A consumer as the database knows it, and the cluster whose offsets it counts.
///
/// The name is chosen by people and kept: whoever changes it starts a consumer that has handled
/// nothing. It is never derived from names in code, which are renamed without a thought.
#[derive(Clone, Debug)]
pub struct Consumer {
    number: i16,
    name: Arc<str>,
    cluster: Arc<str>,
    /// Where the window started when it was last seen. Only a hint: each claim sees it again.
    window: Arc<AtomicI32>,
    /// Whether the last batch needed a look. Only a hint: the look then flies with the claim.
    looks: Arc<AtomicBool>,
}

impl Consumer {
    /// Looks the name up, or enters it. `cluster` is the Kafka cluster's id: offsets of another one
    /// mean nothing.
    ///
    /// ```no_run
    /// # use walpost_inbox::store::StoreError;
    /// # async fn f(client: &tokio_postgres::Client) -> Result<(), StoreError> {
    /// use walpost_inbox::store::Consumer;
    /// let consumer = Consumer::open(client, "stock", "MkU3OEVBNTcwNTJENDM2Qg").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(
        client: &impl GenericClient,
        name: &str,
        cluster: &str,
    ) -> Result<Self, StoreError> {
        let look = "SELECT c.number, w.oldest FROM inbox_consumer c, inbox_window w
                    WHERE c.name = $1";
        let enter = "INSERT INTO inbox_consumer (name) VALUES ($1) ON CONFLICT DO NOTHING";
        let found = client.query_typed(look, &[(&name, Type::TEXT)]).await?;
        let row = match found.into_iter().next() {
            Some(row) => row,
            None => {
                client.query_typed(enter, &[(&name, Type::TEXT)]).await?;
                client.query_typed_one(look, &[(&name, Type::TEXT)]).await?
            }
        };
        let window: Day = row.try_get(1)?;
        Ok(Self {
            number: row.try_get(0)?,
            name: name.into(),
            cluster: cluster.into(),
            window: Arc::new(AtomicI32::new(window.sql_number())),
            looks: Arc::default(),
        })
    }

    pub(crate) fn window(&self) -> Day {
        Day::from_sql_number(self.window.load(Ordering::Relaxed))
    }

    pub(crate) fn know_window(&self, start: Day) {
        self.window.store(start.sql_number(), Ordering::Relaxed);
    }

    pub(crate) fn expects_look(&self) -> bool {
        self.looks.load(Ordering::Relaxed)
    }

    pub(crate) fn expect_look(&self, is_needed: bool) {
        self.looks.store(is_needed, Ordering::Relaxed);
    }

    /// What stands in the rows.
    ///
    /// ```no_run
    /// # use walpost_inbox::store::{Consumer, StoreError};
    /// # async fn f(client: &tokio_postgres::Client) -> Result<(), StoreError> {
    /// let consumer = Consumer::open(client, "stock", "the-cluster").await?;
    /// let rows = "SELECT count(*) FROM inbox_claim WHERE consumer = $1";
    /// client.query_one(rows, &[&consumer.number()]).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn number(&self) -> i16 {
        self.number
    }

    /// The name.
    ///
    /// ```no_run
    /// # use walpost_inbox::store::{Consumer, StoreError};
    /// # async fn f(client: &tokio_postgres::Client) -> Result<(), StoreError> {
    /// let consumer = Consumer::open(client, "stock", "the-cluster").await?;
    /// assert_eq!(&**consumer.name(), "stock");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The Kafka cluster.
    ///
    /// ```no_run
    /// # use walpost_inbox::store::{Consumer, StoreError};
    /// # async fn f(client: &tokio_postgres::Client) -> Result<(), StoreError> {
    /// let consumer = Consumer::open(client, "stock", "the-cluster").await?;
    /// assert_eq!(&**consumer.cluster(), "the-cluster");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }
}
