//! One key, one partition, whoever produces: the relay's placement against a real Java producer's.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use walpost_tests::workload::Random;
use walpost_tests::{World, stack};

/// Odd for the modulus, more than one byte of hash decides.
const PARTITIONS: i32 = 7;

fn keys() -> Vec<String> {
    let mut random = Random::new(11);
    let mut keys: Vec<String> =
        ["", "a", "ä", "€", "🦀", "order-1", " ", "0"].map(str::to_owned).to_vec();
    for _ in 0..300 {
        let length = 1 + random.below(40);
        keys.push(
            (0..length).map(|_| random.pick(&["a", "Z", "9", "-", "é", "漢", "🦀"])).collect(),
        );
    }
    keys.sort();
    keys.dedup();
    keys
}

/// Kafka's own console producer, which places by the client's default partitioner.
fn produce_with_java(topic: &str, keys: &[String]) {
    let classes = stack().kafka_libs.join("*");
    let mut child = Command::new(&stack().java)
        .args([
            "-Dfile.encoding=UTF-8",
            "-Dstdin.encoding=UTF-8",
            "-Dsun.jnu.encoding=UTF-8",
            "-cp",
        ])
        .arg(classes)
        .args(["org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", &stack().kafka])
        .args(["--topic", topic])
        .args(["--reader-property", "parse.key=true", "--reader-property", "key.separator=\t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java starts");
    let text: String = keys.iter().map(|key| format!("{key}\tx\n")).collect();
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn places(world: &World, topic: &str) -> BTreeMap<String, i32> {
    let records = world.cluster.read(topic);
    records.iter().map(|record| (record.key().to_owned(), record.partition)).collect()
}

#[test]
fn the_relay_places_every_key_where_a_java_producer_does() {
    let world = World::json("java");
    let keys = keys();
    world.cluster.create(&world.topic("relay"), PARTITIONS, &[]);
    world.cluster.create(&world.topic("java"), PARTITIONS, &[]);
    let relay = world.streaming();
    let mut client = world.database.client();
    for key in &keys {
        let sql = "SELECT write_event('relay', $1, 'test.K', '{}')";
        client.execute(sql, &[key]).expect("an event");
    }
    produce_with_java(&world.topic("java"), &keys);
    world.drained(&relay);
    drop(relay);
    let (ours, javas) =
        (places(&world, &world.topic("relay")), places(&world, &world.topic("java")));
    assert_eq!(ours.len(), keys.len());
    assert_eq!(ours, javas);
    let used: std::collections::BTreeSet<i32> = ours.values().copied().collect();
    assert_eq!(used.len(), PARTITIONS as usize, "every partition is used");
}
