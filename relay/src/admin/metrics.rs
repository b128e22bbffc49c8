//! Every metric: snapshots in, the exposition format out. Names, labels and units are a contract
//! (`docs/operations.md`); all states and statuses are always present, and no label holds an
//! aggregate id.

use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::unix_ms;
use crate::status::{Histogram, LotSample, Snapshot, State};

/// What `wal_status` may be.
const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// The metrics of these sources at this moment.
pub(super) fn render(sources: Vec<Snapshot>) -> String {
    let mut registry = Registry::with_prefix("walpost");
    registry.register_collector(Box::new(Sources { sources, now: unix_ms() }));
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Sources {
    sources: Vec<Snapshot>,
    now: i64,
}

type Labels<'a> = [(&'a str, &'a str); 2];

impl Collector for Sources {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.counters(&mut out)?;
        self.positions(&mut out)?;
        self.lots(&mut out)?;
        self.slots(&mut out)?;
        self.states(&mut out)?;
        let mut encoder =
            out.encode_descriptor("build_info", "The version that runs", None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1i64).encode(encoder.encode_family(&labels)?)
    }
}

impl Sources {
    fn counters(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        self.counter(out, "events_published", "Events acknowledged by Kafka", "topic", |s| {
            s.published.iter().map(|(topic, count)| (topic.to_string(), *count)).collect()
        })?;
        self.counter(out, "publish_errors", "Faults of publishing", "kind", |s| {
            owned(&s.publish_errors)
        })?;
        self.counter(out, "schema_errors", "Faults of events and schemas", "kind", |s| {
            owned(&s.schema_errors)
        })?;
        self.counter(out, "reconnects", "Tries after a fault, by peer", "peer", |s| {
            owned(&s.reconnects)
        })?;
        self.counter(out, "resent_events", "Events sent again", "reason", |s| owned(&s.resent))?;
        self.counter(out, "skipped_events", "What was seen and not sent", "reason", |s| {
            owned(&s.skipped)
        })?;
        self.counter(out, "parked_events_moved", "Events into and out of the lot", "way", |s| {
            let LotSample { parked, released, dead_lettered, .. } = s.lot;
            let ways =
                [("parked", parked), ("released", released), ("dead_lettered", dead_lettered)];
            ways.map(|(way, count)| (way.to_owned(), count)).into()
        })?;
        let help = "Time from commit to acknowledgement";
        let mut family = out.encode_descriptor(
            "commit_to_ack",
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for source in &self.sources {
            let labels = [("source", source.source.as_str())];
            encode_histogram(family.encode_family(&labels)?, &source.commit_to_ack)?;
        }
        Ok(())
    }

    fn positions(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let now = self.now;
        let seconds = Some(Unit::Seconds);
        let bytes = Some(Unit::Bytes);
        self.gauge(out, "lag", "Age of the oldest unconfirmed commit", seconds.as_ref(), |s| {
            Some(s.lag_seconds(now))
        })?;
        self.gauge(out, "confirmed_lsn", "Confirmed position", bytes.as_ref(), |s| {
            Some(s.confirmed.0 as f64)
        })?;
        self.gauge(out, "pending_events", "Events in flight", None, |s| {
            Some(s.pending_events as f64)
        })?;
        let help = "When the confirmed position moved or nothing was to do";
        self.gauge(out, "progress_timestamp", help, seconds.as_ref(), |s| {
            Some(s.progress_unix_ms as f64 / 1000.0)
        })
    }

    fn lots(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let lot = |of: fn(&LotSample) -> u64| move |s: &Snapshot| Some(of(&s.lot) as f64);
        self.gauge(out, "parked_events", "Events in the parking lot", None, lot(|l| l.events))?;
        self.gauge(out, "parked_keys", "Aggregates that wait", None, lot(|l| l.keys))?;
        let help = "Aggregates that may wait before the source stops";
        self.gauge(out, "parked_keys_max", help, None, lot(|l| l.keys_max))?;
        let help = "Size of the parking lot";
        self.gauge(out, "parked", help, Some(&Unit::Bytes), lot(|l| l.bytes))?;
        let help = "When the oldest event in the parking lot committed; absent when it is empty";
        self.gauge(out, "parked_oldest_timestamp", help, Some(&Unit::Seconds), |s| {
            s.lot_oldest_unix_ms.map(|at| at as f64 / 1000.0)
        })
    }

    fn slots(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let bytes = Some(Unit::Bytes);
        let slot = |of: fn(&crate::status::SlotSample) -> Option<f64>| {
            move |s: &Snapshot| s.slot.as_ref().and_then(of)
        };
        let lag = "End of WAL minus confirmed position";
        self.gauge(out, "slot_lag", lag, bytes.as_ref(), slot(|s| Some(s.lag_bytes as f64)))?;
        let retained = "WAL that the slot holds back";
        let of = slot(|s| Some(s.retained_bytes as f64));
        self.gauge(out, "slot_retained_wal", retained, bytes.as_ref(), of)?;
        let safe = "WAL that may be written before the slot is lost; absent when unlimited";
        let of = slot(|s| s.safe_bytes.map(|bytes| bytes as f64));
        self.gauge(out, "slot_safe_wal", safe, bytes.as_ref(), of)?;
        let active = "Whether somebody streams from the slot";
        self.gauge(out, "slot_active", active, None, slot(|s| Some(f64::from(s.is_active))))?;
        let sampled = "When the server was last asked about the slot";
        let of = slot(|s| Some(s.at_unix_ms as f64 / 1000.0));
        self.gauge(out, "server_sample_timestamp", sampled, Some(&Unit::Seconds), of)?;
        let help = "The slot's wal_status, one-hot";
        self.one_hot(out, "slot_wal_status", help, "status", &WAL_STATUSES, |s| {
            s.slot.as_ref().map_or("", |slot| slot.wal_status.as_str())
        })
    }

    fn states(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let states = State::ALL.map(State::as_str);
        self.one_hot(out, "state", "What a source is doing, one-hot", "state", &states, |s| {
            s.state.as_str()
        })
    }

    fn counter(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &str,
        counts: impl Fn(&Snapshot) -> BTreeMap<String, u64>,
    ) -> std::fmt::Result {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
        for source in &self.sources {
            for (value, count) in counts(source) {
                let labels: Labels<'_> = [("source", &source.source), (label, &value)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn gauge(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Snapshot) -> Option<f64>,
    ) -> std::fmt::Result {
        let mut family = out.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for source in &self.sources {
            if let Some(value) = value(source) {
                let labels = [("source", source.source.as_str())];
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn one_hot(
        &self,
        out: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &str,
        all: &[&str],
        current: impl Fn(&Snapshot) -> &str,
    ) -> std::fmt::Result {
        let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for source in &self.sources {
            for value in all {
                let labels: Labels<'_> = [("source", &source.source), (label, value)];
                let is_current = i64::from(current(source) == *value);
                ConstGauge::new(is_current).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn owned(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn encode_histogram(mut encoder: MetricEncoder<'_>, histogram: &Histogram) -> std::fmt::Result {
    let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
    let no_exemplars: Option<&std::collections::HashMap<usize, NoExemplar>> = None;
    encoder.encode_histogram::<NoLabels>(
        histogram.sum_seconds(),
        histogram.count(),
        &buckets,
        no_exemplars,
    )
}

type NoLabels = [(&'static str, &'static str); 0];
type NoExemplar = prometheus_client::metrics::exemplar::Exemplar<NoLabels, f64>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    #[test]
    fn names_and_closed_label_sets_are_as_promised() {
        let status = Status::new("shop");
        status.update(|snapshot| {
            snapshot.published.insert("events.order".into(), 7);
            snapshot.commit_to_ack.observe_all([3, 40].into_iter());
            snapshot.slot = Some(crate::status::SlotSample::default());
        });
        let text = render(vec![status.snapshot()]);
        let expected = [
            "walpost_events_published_total{source=\"shop\",topic=\"events.order\"} 7",
            "walpost_commit_to_ack_seconds_bucket{le=\"0.003\",source=\"shop\"} 1",
            "walpost_commit_to_ack_seconds_bucket{le=\"+Inf\",source=\"shop\"} 2",
            "walpost_commit_to_ack_seconds_count{source=\"shop\"} 2",
            "walpost_state{source=\"shop\",state=\"connecting\"} 1",
            "walpost_state{source=\"shop\",state=\"standby\"} 0",
            "walpost_slot_wal_status{source=\"shop\",status=\"lost\"} 0",
            "walpost_lag_seconds{source=\"shop\"} 0.0",
            "walpost_slot_lag_bytes{source=\"shop\"} 0.0",
            "walpost_pending_events{source=\"shop\"} 0.0",
            "walpost_parked_events{source=\"shop\"} 0.0",
            "walpost_parked_keys_max{source=\"shop\"} 0.0",
        ];
        for line in expected {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
