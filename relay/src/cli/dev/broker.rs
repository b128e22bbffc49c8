//! The Kafka of `walpost dev`: librdkafka's mock cluster, in this process, on real TCP. It keeps
//! 5 MiB a partition and makes no topics by request, so they are made through its own handle.

use std::num::NonZeroU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context;
use rdkafka::mocking::MockCluster;

use crate::kafka::TopicMaker;

/// A topic to be made, and where to say how it went.
struct Order {
    topic: String,
    partitions: NonZeroU32,
    made: Sender<Result<(), String>>,
}

/// The cluster, on a thread of its own: its handle must not leave the thread that made it.
pub(super) struct MockKafka {
    address: String,
    maker: Arc<Maker>,
    thread: Option<JoinHandle<()>>,
}

struct Maker {
    orders: Mutex<Option<Sender<Order>>>,
}

impl MockKafka {
    pub(super) fn start() -> anyhow::Result<Self> {
        let (orders, taken) = channel();
        let (started, starting) = channel();
        let thread = std::thread::Builder::new()
            .name("mock-kafka".to_owned())
            .spawn(move || serve(&started, &taken))?;
        let address = starting.recv().context("the mock cluster did not start")?;
        let address = address.map_err(|reason| anyhow::anyhow!("mock cluster: {reason}"))?;
        let maker = Arc::new(Maker { orders: Mutex::new(Some(orders)) });
        Ok(Self { address, maker, thread: Some(thread) })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn maker(&self) -> Arc<dyn TopicMaker> {
        Arc::clone(&self.maker) as Arc<dyn TopicMaker>
    }
}

impl Drop for MockKafka {
    fn drop(&mut self) {
        // Without a sender the thread's loop ends, and the cluster with it.
        self.maker.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl TopicMaker for Maker {
    fn make(&self, topic: &str, partitions: NonZeroU32) -> Result<(), String> {
        let (made, answer) = channel();
        let order = Order { topic: topic.to_owned(), partitions, made };
        let gone = || "the mock cluster is gone".to_owned();
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.as_ref().ok_or_else(gone)?.send(order).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

fn serve(started: &Sender<Result<String, String>>, orders: &Receiver<Order>) {
    let cluster = match MockCluster::new(1) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _ = started.send(Err(error.to_string()));
            return;
        }
    };
    let _ = started.send(Ok(cluster.bootstrap_servers()));
    while let Ok(order) = orders.recv() {
        let partitions = i32::try_from(order.partitions.get()).unwrap_or(1);
        let made = cluster.create_topic(&order.topic, partitions, 1);
        let _ = order.made.send(made.map_err(|error| error.to_string()));
    }
}
