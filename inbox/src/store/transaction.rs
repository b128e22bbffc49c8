//! A connection and messages in; an open transaction with their verdicts out, after one round trip.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio_postgres::Client;

use crate::message::MessageRef;
use crate::store::claim::Statements;
use crate::store::{Claims, Consumer, Link, StoreError};

/// How long the server waits on our behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a lock: a claim waits for another instance's copy of the same event. Past it, 55P03,
    /// which is no attempt.
    pub lock: Duration,
    /// Between two statements: past it the server ends a holder that froze. A little more than a
    /// handler may take.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lock: Duration::from_secs(5), idle: Duration::from_secs(40) }
    }
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// The cheapest such statement that was measured: an empty SELECT is planned and run, for 9 us
/// against 2 us.
const COMMIT: &str = "SET CONSTRAINTS ALL IMMEDIATE; COMMIT";

impl Limits {
    /// The statement that sets them for a session. Within a transaction `SET LOCAL` does the same,
    /// for two statements more each time.
    ///
    /// ```
    /// use walpost_inbox::store::Limits;
    /// assert!(Limits::default().session_sql().starts_with("SET lock_timeout = 5000"));
    /// ```
    #[must_use]
    pub fn session_sql(self) -> String {
        // 0 would be no limit, and more than an int holds is refused.
        let ms = |wait: Duration| wait.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
        format!(
            "SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}",
            ms(self.lock),
            ms(self.idle)
        )
    }
}

/// An open transaction over a connection that it owns or borrows. Dropped, it is rolled back, and
/// an owned connection closes with it.
pub struct Transaction<C: Deref<Target = Client>> {
    /// `None` once it ended.
    client: Option<C>,
}

impl<C: Deref<Target = Client>> fmt::Debug for Transaction<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("is_open", &self.client.is_some()).finish()
    }
}

impl<C: Deref<Target = Client>> Transaction<C> {
    /// BEGIN and the claim, in one flight.
    ///
    /// The session should have [`Limits`]: a claim may wait for another instance's copy.
    /// On an error nothing is open any more. Cancellation-safe: dropped, the transaction is rolled
    /// back.
    ///
    /// ```no_run
    /// # async fn f(client: &mut tokio_postgres::Client, messages: &[walpost_inbox::MessageRef])
    /// # -> Result<(), walpost_inbox::store::StoreError> {
    /// use walpost_inbox::store::claim::Statements;
    /// use walpost_inbox::store::{Claim, Consumer, Limits, Transaction};
    ///
    /// let consumer = Consumer::open(client, "stock", "the-cluster").await?;
    /// let statements = Statements::prepare(client).await?;
    /// client.batch_execute(&Limits::default().session_sql()).await?;
    /// let (tx, claims) = Transaction::begin(client, &statements, &consumer, messages).await?;
    /// for _ in claims.fresh(messages) {
    ///     tx.execute("UPDATE stock SET ...", &[]).await?;
    /// }
    /// tx.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn begin(
        client: C,
        statements: &Statements,
        consumer: &Consumer,
        messages: &[MessageRef],
    ) -> Result<(Self, Claims), StoreError> {
        let tx = Self { client: Some(client) };
        // Polled in this order the first time, which is when each is put on the wire.
        let (begun, claims) = tokio::join!(
            biased;
            tx.batch_execute(BEGIN),
            statements.claim(&tx, consumer, messages),
        );
        begun?;
        Ok((tx, claims?))
    }

    /// Only BEGIN: for a release, whose events are claimed already.
    ///
    /// ```
    /// # use walpost_inbox::store::{StoreError, Transaction};
    /// # async fn f(client: &mut tokio_postgres::Client) -> Result<(), StoreError> {
    /// let tx = Transaction::begin_bare(client).await?;
    /// tx.rollback().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn begin_bare(client: C) -> Result<Self, StoreError> {
        let tx = Self { client: Some(client) };
        tx.batch_execute(BEGIN).await?;
        Ok(tx)
    }

    /// Commits, and gives the connection back.
    ///
    /// PostgreSQL answers COMMIT after a failed statement with a rollback and no error; so the same
    /// message starts with a statement that a failed transaction refuses: to check the deferred
    /// constraints now, which is what COMMIT would do next. When the connection breaks here,
    /// whether it committed is unknown: claim again, and the verdict tells.
    ///
    /// ```
    /// # use walpost_inbox::store::{StoreError, Transaction};
    /// # async fn f(client: &mut tokio_postgres::Client) -> Result<(), StoreError> {
    /// let tx = Transaction::begin_bare(client).await?;
    /// tx.batch_execute("UPDATE stock SET reserved = 0").await?;
    /// tx.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn commit(mut self) -> Result<C, StoreError> {
        let ended = self.batch_execute(COMMIT).await;
        match ended {
            Ok(()) => self.client.take().ok_or(StoreError::SequenceGone),
            Err(error) => Err(StoreError::Aborted(error)),
        }
    }

    /// Rolls back, and gives the connection back.
    ///
    /// ```
    /// # use walpost_inbox::store::{StoreError, Transaction};
    /// # async fn f(client: &mut tokio_postgres::Client) -> Result<(), StoreError> {
    /// let tx = Transaction::begin_bare(client).await?;
    /// tx.rollback().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rollback(mut self) -> Result<C, StoreError> {
        self.batch_execute("ROLLBACK").await?;
        self.client.take().ok_or(StoreError::SequenceGone)
    }
}

impl Transaction<Link> {
    /// Ends the statement under way; to be awaited after the transaction was dropped.
    pub(crate) fn canceller(&self) -> impl Future<Output = ()> + Send + use<> {
        let cancelling = self.client.as_ref().map(Link::canceller);
        async move {
            if let Some(cancelling) = cancelling {
                cancelling.await;
            }
        }
    }
}

impl<C: Deref<Target = Client>> Deref for Transaction<C> {
    type Target = Client;

    #[expect(clippy::expect_used, reason = "only commit and rollback take it, and they consume")]
    fn deref(&self) -> &Client {
        // tidy: allow unwrap: an ended transaction is consumed, so nobody can ask it
        self.client.as_deref().expect("an open transaction has its connection")
    }
}

impl<C: Deref<Target = Client>> Drop for Transaction<C> {
    fn drop(&mut self) {
        if let Some(client) = self.client.as_deref() {
            // The first poll puts the request on the wire, behind everything that was asked before;
            // the answer is read by the connection's own task. Whoever uses the connection next
            // stands behind it.
            let mut rollback = pin!(client.batch_execute("ROLLBACK"));
            let _ = rollback.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_always_one_that_the_server_takes() {
        let limits = Limits { lock: Duration::from_micros(10), idle: Duration::MAX };
        let sql = "SET lock_timeout = 1; SET idle_in_transaction_session_timeout = 2147483647";
        assert_eq!(limits.session_sql(), sql);
    }
}
