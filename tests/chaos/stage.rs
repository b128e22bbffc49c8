//! What a case plays on. In: which servers it has for itself, or which wire can be bad. Out: those
//! servers, and a world that uses them.

use walpost_tests::registry::Registry;
use walpost_tests::wire::Wire;
use walpost_tests::{Cluster, World, stack};
use xtask::stack::{Apicurio, ApicurioOptions, Kafka, KafkaOptions, Postgres, PostgresOptions};

use crate::clock::Clock;
use crate::disk::Disk;

/// The room the broker's log has on a small disk: some minutes of load fit.
const DISK_MIB: u32 = 96;

/// Which servers a case has for itself; the others are the shared ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Shared,
    Postgres,
    Kafka,
    /// With Avro, so that it is asked.
    Registry,
    WireToPostgres,
    WireToKafka,
    WireToRegistry,
    /// A broker whose log is on a disk of its own.
    SmallDisk,
    /// The relay's clock is set by the case.
    Clock,
    ClockAndKafka,
    /// Three brokers, all of them voters of the quorum.
    Brokers,
    /// Three brokers, the first of them the one voter: it decides also while the others are away.
    BrokersOfOneVoter,
}

/// The servers that live as long as the case. The broker goes before its disk.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) postgres: Option<Postgres>,
    pub(crate) brokers: Vec<Kafka>,
    pub(crate) registry: Option<Apicurio>,
    pub(crate) wire: Option<Wire>,
    pub(crate) clock: Option<Clock>,
    pub(crate) disk: Option<Disk>,
}

impl Stage {
    /// The payload form of the source's route.
    pub(crate) fn form(self) -> &'static str {
        if self.has_schemas() { "avro" } else { "json" }
    }

    pub(crate) fn has_schemas(self) -> bool {
        matches!(self, Self::Registry | Self::WireToRegistry)
    }

    pub(crate) fn start(self) -> Servers {
        let mut servers = Servers::default();
        match self {
            Self::Postgres => {
                let postgres = Postgres::start(PostgresOptions::default());
                servers.postgres = Some(postgres.expect("a server"));
            }
            Self::Kafka => servers.brokers.push(broker(KafkaOptions::default())),
            Self::Registry => {
                let registry = Apicurio::start(ApicurioOptions::default());
                servers.registry = Some(registry.expect("a registry"));
            }
            // A wire to one of the shared servers is laid when the world's address is known.
            Self::Shared | Self::WireToPostgres | Self::WireToRegistry => {}
            Self::WireToKafka => {
                // A broker that is known by the wire's address alone.
                let wire = Wire::new("127.0.0.1:1");
                let advertised = format!("PLAINTEXT://{}", wire.address());
                let settings = vec![("advertised.listeners".to_owned(), advertised)];
                let kafka = broker(KafkaOptions { settings, ..KafkaOptions::default() });
                wire.lead_to(&kafka.address());
                servers.brokers.push(kafka);
                servers.wire = Some(wire);
            }
            Self::SmallDisk => {
                let disk = Disk::mount("data", DISK_MIB);
                let dir = Some(disk.folder().to_owned());
                servers.brokers.push(broker(KafkaOptions { dir, ..KafkaOptions::default() }));
                servers.disk = Some(disk);
            }
            Self::Clock => servers.clock = Some(Clock::new()),
            Self::ClockAndKafka => {
                servers.brokers.push(broker(KafkaOptions::default()));
                servers.clock = Some(Clock::new());
            }
            Self::Brokers => servers.brokers = three_brokers(3),
            Self::BrokersOfOneVoter => servers.brokers = three_brokers(1),
        }
        servers
    }
}

impl Servers {
    pub(crate) fn postgres_url(&self) -> String {
        self.postgres.as_ref().map_or_else(|| stack().postgres.clone(), Postgres::url)
    }

    pub(crate) fn cluster(&self, stage: Stage) -> Cluster {
        let addresses: Vec<String> = match (stage, &self.wire) {
            (Stage::WireToKafka, Some(wire)) => vec![wire.address()],
            _ => self.brokers.iter().map(Kafka::address).collect(),
        };
        if addresses.is_empty() {
            return Cluster::new(&stack().kafka);
        }
        Cluster::new(&addresses.join(","))
    }

    /// Gives the world the addresses that are not those of the shared servers.
    pub(crate) fn lead(&mut self, stage: Stage, world: &mut World) {
        if let Some(registry) = &self.registry {
            world.registry = Registry::new(&registry.url());
            world.registry_url = Some(registry.url());
        }
        if self.brokers.len() > 1 {
            world.replication_factor = 3;
        }
        let url = match stage {
            Stage::WireToPostgres => &mut world.url,
            Stage::WireToRegistry => world.registry_url.as_mut().expect("a registry is used"),
            _ => return,
        };
        let (wire, through) = Wire::before(url);
        *url = through;
        self.wire = Some(wire);
    }
}

fn broker(options: KafkaOptions) -> Kafka {
    Kafka::start(options).expect("a broker")
}

fn three_brokers(voters: u16) -> Vec<Kafka> {
    let settings = vec![("min.insync.replicas".to_owned(), "2".to_owned())];
    let options = KafkaOptions { settings, heap_mb: 320, ..KafkaOptions::default() };
    Kafka::start_cluster(3, voters, &options).expect("three brokers")
}
