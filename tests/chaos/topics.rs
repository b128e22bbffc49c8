//! Topics that are changed or deleted under the relay.

use std::time::Duration;

use walpost_tests::wait_for;

use crate::arena::{Arena, Expect, pass};
use crate::case::{Case, KEPT};

#[test]
fn limit_of_the_topic_is_lowered() {
    let fault = |arena: &mut Arena| {
        let topic = arena.world.topic("order");
        arena.world.cluster.set(&topic, "max.message.bytes", "700");
        arena.world.database.run(
            "SELECT write_event('order', '3', 'test.Chaos', \
             jsonb_build_object('t', repeat('x', 2000)))",
        );
        wait_for("the event to be parked", || {
            let parked = arena.world.parked_events();
            parked.iter().any(|(_, key, code)| key == "3" && code != "behind").then_some(())
        });
        arena.wait_published(100);
        arena.world.cluster.set(&topic, "max.message.bytes", "1048588");
        // A broker may be told a moment later than its controller.
        wait_for("the event to be published", || {
            let asked = ["retry", "--aggregate", "order/3", "--yes", "--wait", "60"];
            arena.world.parked(&asked).stdout.contains("refused again 0").then_some(())
        });
    };
    Case { name: "topic: max.message.bytes lowered", fault, ..KEPT }.run();
}

#[test]
fn topic_is_deleted() {
    let fault = |arena: &mut Arena| {
        let topic = arena.world.topic("order");
        arena.world.cluster.delete(std::slice::from_ref(&topic));
        wait_for("the topic to come back", || {
            pass(Duration::from_millis(200));
            (arena.world.cluster.count(&topic) > 50).then_some(())
        });
    };
    Case { name: "topic: deleted", fault, expect: Expect::Destroyed, ..KEPT }.run();
}

#[test]
fn partitions_are_added() {
    let fault = |arena: &mut Arena| {
        arena.world.cluster.grow(&arena.world.topic("order"), 7);
        // The relay looks once a minute; a new producer looks at once.
        arena.kill_relay();
        arena.start_relay();
        arena.wait_published(300);
    };
    Case { name: "topic: partitions raised", fault, expect: Expect::Moved, ..KEPT }.run();
}
