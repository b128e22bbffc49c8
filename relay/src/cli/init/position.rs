//! A source's position topic: made, and given its birth record and its first position.
//!
//! The relay goes on from a position and from nothing else, so a source without one is not ready;
//! and one that had a position and has none is damaged: starting it at the slot would send again
//! what is in Kafka, and would not show what is missing. `walpost.source` tells the two apart.

use anyhow::Context;
use uuid::Uuid;

use super::database::Init;
use crate::catalog::{self, CatalogQuery};
use crate::kafka::TopicFinder;
use crate::lsn::Lsn;
use crate::position::{
    self, BIRTH_KEY, Birth, Frontier, LowestOffsets, Mark, Position, PositionTopic, Present,
    Recorded, SourceOids, position_key, write_birth, write_position,
};
use crate::settings::SourceSettings;
use crate::wal::{Connection, History, ServerIdentity};

/// The instance under whose key `init` writes; the first run of the relay releases it.
const INSTANCE: &str = "init";

/// The source's row of `walpost.source`.
struct Row {
    birth: Uuid,
    is_positioned: bool,
}

impl Init<'_> {
    /// Makes the position topic with birth and first position, or completes it.
    pub(crate) async fn position(&mut self, finder: &TopicFinder) -> anyhow::Result<()> {
        let topic = PositionTopic::of(&self.source.name, &self.source.kafka);
        let object = format!("position topic {}", topic.name());
        let recorded = topic.read(finder).await?;
        if self.mode.is_dry_run {
            let is_there = recorded.is_some_and(|recorded| recorded.position.is_some());
            self.note(object, if is_there { "exists" } else { "would_make" }, None);
            return Ok(());
        }
        let row = self.row().await?;
        let is_missing = recorded.is_none();
        let recorded = recorded.unwrap_or_default();
        let is_ours = recorded.birth.as_ref().is_some_and(|birth| birth.id == row.birth);
        let is_whole = is_ours && recorded.position.is_some();
        if row.is_positioned && is_whole && !self.mode.accepts_gap {
            self.note(object, "exists", None);
            return Ok(());
        }
        if row.is_positioned && !self.mode.accepts_gap {
            anyhow::bail!(
                "position topic {} existed and is gone or is another one [position_lost]: what was \
                 published since is not known; walpost init --accept-gap starts again at the slot",
                topic.name()
            );
        }
        if recorded.birth.is_some() && !is_ours && !self.mode.accepts_gap {
            anyhow::bail!(
                "position topic {} belongs to another source of this name [other_birth]: give the \
                 source another name; walpost init --accept-gap takes the topic over",
                topic.name()
            );
        }
        if is_missing {
            topic.make(finder).await?;
        }
        let note = self.write(&topic, finder, &row, &recorded).await?;
        let done = "UPDATE walpost.source SET positioned_at = now() WHERE name = $1";
        self.session.execute(done, &[&self.source.name]).await?;
        self.note(object, "made", Some(note));
        Ok(())
    }

    async fn row(&self) -> anyhow::Result<Row> {
        let sql = "SELECT birth, positioned_at IS NOT NULL FROM walpost.source WHERE name = $1";
        let row = self.session.query_one(sql, &[&self.source.name]).await?;
        Ok(Row { birth: row.get(0), is_positioned: row.get(1) })
    }

    /// Writes birth and position. A position of this birth from which the relay could go on is
    /// kept: starting at the slot would only send again what is in Kafka.
    async fn write(
        &self,
        topic: &PositionTopic,
        finder: &TopicFinder,
        row: &Row,
        recorded: &Recorded,
    ) -> anyhow::Result<String> {
        let mut server = Server::look(self.source).await?;
        let birth = Birth {
            id: row.birth,
            system_id: server.identity.system_id.clone(),
            cluster_id: finder.cluster_id().await?,
        };
        let mut records = vec![(BIRTH_KEY.to_owned(), Some(write_birth(&birth)))];
        let kept = recorded.position.as_ref().filter(|kept| {
            recorded.birth.as_ref() == Some(&birth)
                && position::check(kept, &server.present(&self.source.slot)).is_ok()
        });
        if let Some(kept) = kept {
            topic.write(records).await?;
            return Ok(format!("position {} is kept", kept.frontier.mark));
        }
        if let Some(before) = &recorded.position
            && before.oids.publication != server.oids.publication
        {
            // pgoutput looks the publication up as of each row, and fails at a row from before this
            // one was made: the old slot would never come past it.
            self.renew_slot().await?;
            server = Server::look(self.source).await?;
        }
        for instance in recorded.instances.iter().filter(|instance| *instance != INSTANCE) {
            records.push((position_key(instance), None));
        }
        let position = server.position(&self.source.slot);
        records.push((position_key(INSTANCE), Some(write_position(&position))));
        topic.write(records).await?;
        Ok(format!("starts at {}", position.frontier.end))
    }
}

/// The server as the relay will see it.
struct Server {
    identity: ServerIdentity,
    history: History,
    confirmed: Lsn,
    oids: SourceOids,
}

impl Server {
    async fn look(source: &SourceSettings) -> anyhow::Result<Self> {
        let mut connection = Connection::open(&source.address, "walpost-init").await?;
        let identity = connection.identify().await?;
        let history = connection.history(identity.timeline).await?;
        let slot = connection.inspect_slot(&source.slot).await?;
        let query = CatalogQuery {
            database: source.address.database(),
            table: &source.table,
            publication: &source.publication,
            columns: &source.columns,
            version_num: identity.version_num,
        };
        let table = catalog::look(&mut connection, &query).await.context("outbox table")?;
        let oids = catalog::source_oids(&mut connection, &source.publication, table.oid).await?;
        Ok(Self { identity, history, confirmed: slot.confirmed, oids })
    }

    fn present<'a>(&'a self, slot: &'a str) -> Present<'a> {
        let Self { identity, history, confirmed, oids } = self;
        Present { identity, history, slot, confirmed: *confirmed, oids: *oids }
    }

    /// Where the slot stands: nothing that it has still to give is dealt with.
    fn position(&self, slot: &str) -> Position {
        let end = self.confirmed;
        Position {
            system_id: self.identity.system_id.clone(),
            timeline: self.identity.timeline,
            slot: slot.to_owned(),
            frontier: Frontier { mark: Mark::before(end), end },
            park_lsn: Lsn::ZERO,
            oids: self.oids,
            offsets: LowestOffsets::new(),
        }
    }
}
