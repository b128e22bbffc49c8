//! The ledger example fed by a producer that follows its own ways: no header `type`, another name
//! of its record, ids that are no UUIDs, numbers from 0, Avro and JSON in one topic.
#![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use serde_json::json;
use walpost_tests::ledger::Bank;
use walpost_tests::registry::Registry;
use walpost_tests::{stack, wait_for};

const LEDGER: &str = env!("CARGO_BIN_EXE_ledger");
const ACCOUNTS: usize = 10;
const EVENTS: usize = 200;

/// An integer as Avro writes it; small ones only.
fn long(number: usize) -> Vec<u8> {
    let bits = number * 2;
    if bits < 0x80 { vec![bits as u8] } else { vec![(bits & 0x7F) as u8 | 0x80, (bits >> 7) as u8] }
}

#[test]
fn events_of_a_producer_with_ways_of_its_own_are_applied_once() {
    let mut bank = Bank::new("foreign", 2);
    bank.environment.clear();
    let schema = json!({"type": "record", "name": "Posting", "namespace": "acme", "fields": [
        {"name": "seq", "type": "int"},
        {"name": "memo", "type": ["null", "string"], "default": null},
        {"name": "amount", "type": ["null", "int"]},
        {"name": "account", "type": "string"}]});
    let registry = Registry::new(&stack().registry);
    let schema = registry.register(&format!("{}-value", bank.topic), &schema);
    let producer = bank.producer();
    // Two at once, before anything is there: each wants to make the tables.
    let consumers = [bank.consumer(LEDGER), bank.consumer(LEDGER)];
    for n in (0..EVENTS).chain(0..EVENTS) {
        let (account, seq) = (format!("account-{}", n % ACCOUNTS), n / ACCOUNTS);
        let value = if n % 2 == 0 {
            let text = json!({"seq": seq, "account": account, "amount": n, "by": "acme"});
            text.to_string().into_bytes()
        } else {
            let mut value = vec![0];
            value.extend_from_slice(&schema.to_be_bytes());
            for part in [long(seq), vec![0], vec![2], long(n), long(account.len())] {
                value.extend_from_slice(&part);
            }
            value.extend_from_slice(account.as_bytes());
            value
        };
        let id = format!("posting-{n}");
        let headers = OwnedHeaders::new()
            .insert(Header { key: "id", value: Some(&id) })
            .insert(Header { key: "traceparent", value: Some("not one") });
        let record = BaseRecord::to(&bank.topic).key(account.as_bytes()).payload(&value);
        producer.send(record.headers(headers)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    bank.wait_applied(EVENTS);
    wait_for("the copies to be read", || {
        let sql = "SELECT coalesce(sum(to_offset - from_offset), 0) FROM inbox_floor";
        (bank.database.ask(sql) == (2 * EVENTS).to_string()).then_some(())
    });
    for consumer in consumers {
        consumer.terminate();
    }
    let sql = "SELECT concat_ws(' ', count(*), sum(total), min(last_seq), max(last_seq),
                   sum(applied), (SELECT count(*) FROM ledger),
                   (SELECT count(*) FROM inbox_sequence)) FROM balance";
    let total: usize = (0..EVENTS).sum();
    assert_eq!(bank.database.ask(sql), format!("10 {total} 19 19 200 200 0"));
}
