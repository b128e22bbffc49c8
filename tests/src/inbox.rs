//! The consumer's side as the tests see it: a database with the inbox's tables, and events.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;
use walpost_inbox::store::claim::Statements;
use walpost_inbox::store::{Consumer, Day, INBOX_SQL, Limits};
use walpost_inbox::{MessageRef, Place, Record};

use crate::{Database, stack};

/// The cluster that the tests of the database alone speak of.
pub const CLUSTER: &str = "cluster";

/// A database of its own with the inbox's tables.
#[derive(Debug)]
pub struct Inbox {
    pub database: Database,
    runtime: Runtime,
}

impl Inbox {
    /// On the shared server.
    pub fn new(label: &str) -> Self {
        Self::on(&stack().postgres, label)
    }

    /// On the server of an address.
    pub fn on(url: &str, label: &str) -> Self {
        let database = Database::empty(url, label);
        database.run(INBOX_SQL);
        let runtime = Runtime::new().expect("a runtime");
        Self { database, runtime }
    }

    /// Runs a future; the test fails when it takes longer than anything here may.
    #[track_caller]
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let bounded = async { tokio::time::timeout(crate::PATIENCE, future).await };
        self.runtime.block_on(bounded).expect("in time")
    }

    /// [`Database::ask`], also from inside [`Self::run`].
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        outside(|| self.database.ask(sql))
    }

    /// [`Database::run`], also from inside [`Self::run`].
    #[track_caller]
    pub fn sql(&self, sql: &str) {
        outside(|| self.database.run(sql));
    }

    /// Waits until a session waits for a lock in this database.
    #[track_caller]
    pub fn wait_for_a_waiter(&self) {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        outside(|| {
            crate::wait_for("a session that waits for a lock", || {
                (self.database.ask(sql) != "0").then_some(())
            });
        });
    }

    /// A connection of its own.
    pub async fn client(&self) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.database.url(), NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client
    }

    /// A connection, the consumer `c`, and prepared statements.
    pub async fn session(&self) -> Session {
        let client = self.client().await;
        let consumer = Consumer::open(&client, "c", CLUSTER).await.expect("a consumer");
        let statements = Statements::prepare(&client).await.expect("statements");
        client.batch_execute(&LIMITS.session_sql()).await.expect("limits");
        Session { client, consumer, statements }
    }
}

/// Blocking clients have a runtime of their own, which needs a thread of its own.
fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(answer) => answer,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A connection that claims.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub consumer: Consumer,
    pub statements: Statements,
}

/// Short, for tests that wait for them.
pub const LIMITS: Limits = Limits { lock: Duration::from_secs(20), idle: Duration::from_secs(60) };

/// The majors of PostgreSQL that run, with their addresses.
pub fn majors() -> Vec<(u16, String)> {
    let of = |major: u16| {
        let url = std::env::var(format!("WALPOST_TEST_POSTGRES_{major}_URL")).ok()?;
        Some((major, url))
    };
    let found: Vec<_> = (14..=18).filter_map(of).collect();
    assert!(!found.is_empty(), "no PostgreSQL runs: `cargo x test` starts one");
    found
}

/// An event of today with this number as its id, at this offset.
pub fn message(number: u64, offset: i64, key: &str) -> MessageRef {
    dated(number, offset, key, today())
}

/// The same on another day.
pub fn dated(number: u64, offset: i64, key: &str, day: Day) -> MessageRef {
    MessageRef {
        id: id(number),
        day,
        place: Place { topic: "t".into(), partition: 0 },
        offset,
        sequence: Arc::from([&[1], key.as_bytes()].concat()),
    }
}

/// The record of a message.
pub fn record(message: &MessageRef) -> Record {
    Record {
        topic: Arc::clone(&message.place.topic),
        partition: message.place.partition,
        offset: message.offset,
        time_ms: Some(1_000),
        key: message.sequence.get(1..).map(<[u8]>::to_vec),
        value: Some(format!("value {}", message.offset).into_bytes()),
        headers: vec![
            ("id".into(), Some(message.id.to_string().into_bytes())),
            ("nothing".into(), None),
        ],
    }
}

pub fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x0000_0000_0000_4000, 0x8000_0000_0000_0000 | number)
}

pub fn today() -> Day {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Day::of_unix_ms(u64::try_from(now.expect("after 1970").as_millis()).expect("a small number"))
}
