//! Who the server is and whether the slot is ours and sound: queries on the replication
//! connection before it streams, facts out.
//!
//! <https://www.postgresql.org/docs/current/view-pg-replication-slots.html>

use super::connect::Connection;
use super::error::WalError;
use super::history::History;
use crate::lsn::Lsn;

/// What IDENTIFY_SYSTEM tells: which cluster this is and on which history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Made by initdb, kept by physical copies: two answers differ only for two clusters.
    pub system_id: String,
    /// Counts promotions and restores.
    pub timeline: u32,
    /// The end of WAL at the time of asking.
    pub wal_end: Lsn,
    /// `server_version_num`, for instance 150018.
    pub version_num: u32,
    /// `wal_sender_timeout` in milliseconds, 0 where it is off.
    pub wal_sender_timeout_ms: u64,
}

/// The slot as the server shows it, found sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Up to here the server was told that everything is done.
    pub confirmed: Lsn,
    /// From here on WAL is kept for the slot.
    pub restart: Lsn,
}

impl Connection {
    /// Asks who the server is.
    ///
    /// Not cancellation-safe, as [`Connection::query`].
    pub async fn identify(&mut self) -> Result<ServerIdentity, WalError> {
        let step = "IDENTIFY_SYSTEM";
        let answer = self.query(step, "IDENTIFY_SYSTEM").await?;
        let row = answer.first().cloned().unwrap_or_default();
        let cell = |index: usize| row.get(index).cloned().flatten();
        let identity =
            (|| Some((cell(0)?, cell(1)?.parse::<u32>().ok()?, cell(2)?.parse::<Lsn>().ok()?)))();
        let (system_id, timeline, wal_end) =
            identity.ok_or_else(|| self.unreadable(step, "its identity"))?;
        let wal_level = self.single_value("SHOW wal_level").await?;
        if wal_level != "logical" {
            // Asked before the slot is looked for: without it no slot can exist.
            return Err(WalError::WalLevel { at: self.at.clone(), found: wal_level });
        }
        let version = self.single_value("SHOW server_version_num").await?;
        let version_num =
            version.parse().map_err(|_| self.unreadable("SHOW", "server_version_num"))?;
        let setting = "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'";
        let timeout = self.single_value(setting).await?;
        let wal_sender_timeout_ms =
            timeout.parse().map_err(|_| self.unreadable("SHOW", "wal_sender_timeout"))?;
        Ok(ServerIdentity { system_id, timeline, wal_end, version_num, wal_sender_timeout_ms })
    }

    /// Asks how the server's timeline came about.
    ///
    /// Not cancellation-safe, as [`Connection::query`].
    pub async fn history(&mut self, timeline: u32) -> Result<History, WalError> {
        if timeline == 1 {
            // The first one has no history file.
            return Ok(History::first(timeline));
        }
        let step = "TIMELINE_HISTORY";
        let answer = self.query(step, &format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = answer.first().and_then(|row| row.get(1).cloned().flatten());
        let content = content.ok_or_else(|| self.unreadable(step, "a history"))?;
        History::parse(timeline, &content).map_err(|error| WalError::OutOfProtocol {
            at: self.at.clone(),
            step,
            what: error.to_string(),
        })
    }

    /// Looks the slot up and refuses one that is missing, foreign, lost, or held by somebody else.
    ///
    /// Not cancellation-safe, as [`Connection::query`].
    pub async fn inspect_slot(&mut self, slot: &str) -> Result<SlotState, WalError> {
        let sql = format!(
            "SELECT slot_type, coalesce(plugin, ''), coalesce(database, ''), \
             current_database(), active_pid, coalesce(wal_status, ''), \
             confirmed_flush_lsn, restart_lsn \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            quote_literal(slot)
        );
        let answer = self.query("the look at the slot", &sql).await?;
        let Some(row) = answer.into_iter().next() else {
            return Err(WalError::SlotMissing { at: self.at.clone(), slot: slot.to_owned() });
        };
        let cell = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
        let foreign = |reason: String| WalError::SlotForeign { slot: slot.to_owned(), reason };
        if cell(0) != "logical" {
            return Err(foreign(format!("it is a {} slot, not a logical one", cell(0))));
        }
        if cell(1) != "pgoutput" {
            return Err(foreign(format!("its plugin is {}, not pgoutput", cell(1))));
        }
        if cell(2) != cell(3) {
            let reason = format!("it belongs to database \"{}\", not to \"{}\"", cell(2), cell(3));
            return Err(foreign(reason));
        }
        if cell(5) == "lost" {
            let reason = "wal_status is lost: the server removed WAL that was not confirmed";
            return Err(WalError::SlotLost { slot: slot.to_owned(), reason: reason.to_owned() });
        }
        if let Ok(pid) = cell(4).parse::<i32>() {
            let holder = self.describe_holder(pid).await?;
            return Err(WalError::SlotActive { slot: slot.to_owned(), holder });
        }
        let step = "the look at the slot";
        let position = |index: usize, what: &str| {
            cell(index).parse::<Lsn>().map_err(|_| self.unreadable(step, what))
        };
        Ok(SlotState {
            confirmed: position(6, "its confirmed position")?,
            restart: position(7, "its restart position")?,
        })
    }

    /// Names the process that streams from our slot, as far as our rights show it.
    ///
    /// Not cancellation-safe, as [`Connection::query`].
    async fn describe_holder(&mut self, pid: i32) -> Result<String, WalError> {
        let sql = format!(
            "SELECT coalesce(application_name, ''), coalesce(client_addr::text, 'local'), \
             coalesce(backend_start::text, '') FROM pg_catalog.pg_stat_activity WHERE pid = {pid}"
        );
        let answer = self.query("the look at the slot's holder", &sql).await?;
        let row = answer.into_iter().next().unwrap_or_default();
        let cell = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
        Ok(format!(
            "process {pid} (application \"{}\", from {}, since {})",
            cell(0),
            cell(1),
            cell(2)
        ))
    }

    /// Not cancellation-safe, as [`Connection::query`].
    async fn single_value(&mut self, sql: &str) -> Result<String, WalError> {
        let answer = self.query("the look at its settings", sql).await?;
        let value = answer.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.ok_or_else(|| self.unreadable("the look at its settings", "a setting"))
    }

    fn unreadable(&self, step: &'static str, what: &str) -> WalError {
        let what = format!("{what} in a form that cannot be read");
        WalError::OutOfProtocol { at: self.at.clone(), step, what }
    }
}

/// An identifier as SQL and the replication grammar read it.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same whatever `standard_conforming_strings` is.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_hostile_names() {
        assert_eq!(quote_identifier("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(quote_literal("o'x"), "'o''x'");
        assert_eq!(quote_literal("a\\'b"), " E'a\\\\''b'");
    }
}
