//! The code of `docs/inbox.md`, compiled and run as it stands there.

use std::future::Future;

use tokio_postgres::NoTls;
use uuid::Uuid;
use walpost_inbox::store::Database;
use walpost_inbox::{Cx, Error, Event, Inbox, Kafka, Outcome};
use walpost_tests::service::{Sent, Stage};
use walpost_tests::{stack, wait_for};

struct Addresses {
    database: String,
    registry: String,
    topic: String,
    brokers: String,
}

#[derive(serde::Deserialize)]
struct OrderPlaced {
    sku: String,
}
impl Event for OrderPlaced {
    const TYPE: &'static str = "shop.OrderPlaced";
}
async fn reserve(order: OrderPlaced, cx: &mut Cx<()>) -> Result<Outcome, Error> {
    let sql = "UPDATE stock SET reserved = reserved + 1 WHERE sku = $1";
    cx.tx().execute(sql, &[&order.sku]).await?;
    Ok(Outcome::Done)
}
async fn consume(at: &Addresses, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let inbox = Inbox::new("stock", Database::new(at.database.parse()?, NoTls), ());
    let inbox = inbox.registry(&at.registry)?.topic(&at.topic, |topic| topic.on(reserve));
    Ok(inbox.run(Kafka::new(&at.brokers, "stock"), stop).await?)
}

/// The page's code block.
fn block() -> &'static str {
    let page = include_str!("../../docs/inbox.md");
    let (_, rest) = page.split_once("```rust\n").expect("a block of code");
    rest.split_once("```\n").expect("its end").0
}

#[test]
fn the_page_for_newcomers_consumes() {
    let source = include_str!("inbox_page.rs");
    assert!(source.contains(block()), "docs/inbox.md shows other code than is run here");
    let lines = block().lines().filter(|line| !line.starts_with('}') && !line.contains("struct"));
    assert!(lines.count() <= 15, "fifteen lines of user code");
    let stage = Stage::new("page", 1);
    stage.database.run(
        "CREATE TABLE stock (sku text PRIMARY KEY, reserved int NOT NULL);
         INSERT INTO stock VALUES ('a-1', 0)",
    );
    for _ in 0..2 {
        let (partition, key, value) = (0, Some("42"), Some(&b"{\"sku\": \"a-1\"}"[..]));
        let (id, event_type, headers) = (Uuid::now_v7(), "shop.OrderPlaced", &[]);
        stage.send_as(Sent { id, partition, key, event_type, value, headers });
    }
    stage.flush();
    let at = Addresses {
        database: stage.database.url(),
        registry: stack().registry.clone(),
        topic: stage.topic.clone(),
        brokers: stage.cluster.bootstrap.clone(),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let running =
        runtime.spawn(async move { consume(&at, async move { drop(stopped.await) }).await });
    let reserved = "SELECT reserved FROM stock";
    wait_for("both reservations", || (stage.database.ask(reserved) == "2").then_some(()));
    drop(stop);
    runtime.block_on(running).expect("no panic").expect("no error");
}
