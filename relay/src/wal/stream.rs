//! The running stream: frames in, feedback out. It carries bytes and understands none of them.
//!
//! ```text
//!   socket -> fill() -> received -> peek() -> Frame -> (pipeline) -> consume()
//!   socket <- send_feedback(ConfirmedLsn)
//! ```
//!
//! A frame stays in the buffer until it is consumed, so that a caller who cannot take it now
//! (Kafka's queue is full, a schema is being fetched) is offered the same frame again, and nothing
//! overtakes.
//!
//! Invariants held here: only a [`ConfirmedLsn`] is ever reported to the server (I1), and it never
//! goes backward (I2, release assert); of a frame above the limit the large values are dropped as
//! they arrive (I7).
//!
//! START_REPLICATION is asked at `0/0`: the server then begins at the slot's own confirmed
//! position. A position of ours that lies ahead of it would skip transactions without a word
//! (<https://www.postgresql.org/docs/current/protocol-replication.html>).

use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Frame;
use super::connect::{ANSWER_TIMEOUT, Connection, Transport};
use super::cut::Cutting;
use super::error::{ServerError, WalError, classify};
use super::pace::Pace;
use super::slot::{quote_identifier, quote_literal};
use crate::confirm::ConfirmedLsn;
use crate::limits;
use crate::lsn::{Lsn, WalEnd};

/// Feedback is 39 bytes; a socket that does not take them within this time is dead.
const FEEDBACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Microseconds from the Unix epoch to 2000-01-01, where PostgreSQL's clock starts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

const STEP: &str = "streaming";

/// Whether the server should answer a feedback message with a keepalive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It need not.
    Unneeded,
    /// Its answer tells how far it has read and that it is alive.
    Wanted,
}

/// A replication stream and the slot's last confirmed position.
#[derive(Debug)]
pub struct WalStream {
    connection: Connection,
    pace: Pace,
    late_until: Option<Instant>,
    confirmed: ConfirmedLsn,
    /// The frame at the front, while it is above the limit.
    cutting: Option<Cutting>,
    /// What the server announced of the frame at the front, if that was cut.
    cut_from: Option<u64>,
    has_ended: bool,
}

impl WalStream {
    /// Starts streaming from the slot's confirmed position with pgoutput, protocol version 1.
    ///
    /// Not cancellation-safe: drop the connection with the future.
    pub async fn start(
        mut connection: Connection,
        slot: &str,
        publication: &str,
    ) -> Result<Self, WalError> {
        let step = "START_REPLICATION";
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL 0/0 \
             (proto_version '1', publication_names {}, messages 'true')",
            quote_identifier(slot),
            quote_literal(&quote_identifier(publication)).trim_start()
        );
        let mut out = BytesMut::new();
        frontend::query(&command, &mut out).map_err(|source| connection.lost(step, source))?;
        connection.send(step, &out).await?;
        let accepted = timeout(ANSWER_TIMEOUT, await_copy_both(&mut connection, slot, step)).await;
        accepted.unwrap_or_else(|_elapsed| {
            let at = connection.at.clone();
            Err(WalError::Silent { at, step, limit: ANSWER_TIMEOUT })
        })?;
        let pace = Pace::new();
        let confirmed = ConfirmedLsn::NOTHING;
        Ok(Self {
            connection,
            pace,
            late_until: None,
            confirmed,
            cutting: None,
            cut_from: None,
            has_ended: false,
        })
    }

    /// Until when the next [`fill`](Self::fill) waits, to collect a larger piece; `None` when it
    /// reads as soon as something arrives.
    pub fn late_until(&self) -> Option<Instant> {
        self.late_until
    }

    /// Waits for bytes and adds them to the buffer; how many came. Under load it reads late (see
    /// `pace.rs`), and then 0 when nothing came meanwhile. After [`Frame::End`] it waits for ever.
    ///
    /// Cancellation-safe: bytes are appended to a buffer that outlives the future.
    pub async fn fill(&mut self) -> Result<usize, WalError> {
        if self.has_ended {
            std::future::pending::<()>().await;
        }
        let count = match self.late_until {
            None => read_some(&mut self.connection, STEP).await?,
            Some(until) => {
                tokio::time::sleep_until(until.into()).await;
                self.late_until = None;
                // What came meanwhile, or nothing: the caller has other things to look at before it
                // waits for the next byte.
                tokio::select! {
                    biased;
                    read = read_some(&mut self.connection, STEP) => read?,
                    () = std::future::ready(()) => 0,
                }
            }
        };
        if self.connection.transport.can_be_read_late() {
            let now = Instant::now();
            self.late_until = self.pace.after_read(count, now).map(|pause| now + pause);
        }
        Ok(count)
    }

    /// The first frame in the buffer, `None` when it is not complete yet.
    pub fn peek(&mut self) -> Result<Option<Frame<'_>>, WalError> {
        loop {
            let Some(header) = parse_header(&self.connection, STEP)? else { return Ok(None) };
            let total = 1 + header.len() as usize;
            if total > limits::FRAME_BYTES_MAX {
                if !self.cut(header.tag(), total)? {
                    return Ok(None);
                }
                continue;
            }
            if self.connection.received.len() < total {
                return Ok(None);
            }
            match header.tag() {
                b'd' => break,
                // CopyDone, or CommandComplete from a server that shuts down.
                b'c' | b'C' => {
                    self.has_ended = true;
                    return Ok(Some(Frame::End));
                }
                // Notices and parameter changes may come at any time and mean nothing here.
                b'N' | b'S' => self.connection.received.advance(total),
                b'E' => return Err(read_refusal(&mut self.connection, STEP)),
                tag => {
                    let what = format!("a message with tag '{}'", tag.escape_ascii());
                    let at = self.connection.at.clone();
                    return Err(WalError::OutOfProtocol { at, step: STEP, what });
                }
            }
        }
        let frame = parse_copy_data(&self.connection.received).ok_or_else(|| {
            let what = "a copy message that is neither WAL data nor a keepalive".to_owned();
            WalError::OutOfProtocol { at: self.connection.at.clone(), step: STEP, what }
        })?;
        Ok(Some(match (frame, self.cut_from) {
            (Frame::Message { at, body }, Some(bytes)) => Frame::Cut { at, body, bytes },
            (frame, _) => frame,
        }))
    }

    /// Leaves the large values of the frame at the front out, as far as it has arrived; whether it
    /// is complete now.
    fn cut(&mut self, tag: u8, total: usize) -> Result<bool, WalError> {
        let cutting = self.cutting.get_or_insert_with(|| Cutting::new(total));
        let advanced = match tag {
            b'd' => cutting.advance(&mut self.connection.received).ok(),
            _ => None,
        };
        let bytes = cutting.announced();
        let is_complete = advanced.ok_or_else(|| {
            let (at, limit) = (self.connection.at.clone(), limits::FRAME_BYTES_MAX);
            WalError::FrameTooLarge { at, bytes, limit }
        })?;
        if is_complete {
            (self.cutting, self.cut_from) = (None, Some(bytes as u64));
        }
        Ok(is_complete)
    }

    /// Drops the frame that [`peek`](Self::peek) returned: it has been taken over.
    pub fn consume(&mut self) {
        if let Ok(Some(header)) = parse_header(&self.connection, STEP) {
            let total = 1 + header.len() as usize;
            assert!(total <= self.connection.received.len(), "a frame is consumed after peek");
            self.connection.received.advance(total);
            self.cut_from = None;
        }
    }

    /// Tells the server that everything below `confirmed` is done, and that we are alive.
    ///
    /// Written, flushed and applied are the same position: were this connection ever counted as a
    /// synchronous standby, a commit would wait for Kafka and not for our socket.
    ///
    /// Not cancellation-safe: a half-written message cannot be continued. It ends within five
    /// seconds.
    pub async fn send_feedback(
        &mut self,
        confirmed: ConfirmedLsn,
        reply: Reply,
    ) -> Result<(), WalError> {
        assert!(confirmed >= self.confirmed, "I2: the confirmed position never goes backward");
        self.confirmed = confirmed;
        let mut out = BytesMut::with_capacity(39);
        let message = feedback_message(confirmed, jiff::Timestamp::now().as_microsecond(), reply);
        frontend::CopyData::new(&message[..])
            .map_err(|source| self.connection.lost("feedback", source))?
            .write(&mut out);
        let sent = timeout(FEEDBACK_TIMEOUT, self.connection.send("feedback", &out)).await;
        sent.unwrap_or_else(|_elapsed| {
            Err(self.connection.lost("feedback", io::ErrorKind::TimedOut.into()))
        })
    }

    /// Ends the stream in good order: CopyDone, then whatever the server still sends is read and
    /// dropped until it ends its side, at most `limit`. Closing a socket with unread bytes would
    /// reset it, and the last feedback could be lost on the way.
    ///
    /// Not cancellation-safe; the stream is of no use afterwards.
    pub async fn close(&mut self, limit: Duration) {
        self.has_ended = true;
        let farewell = async {
            let mut out = BytesMut::new();
            frontend::copy_done(&mut out);
            frontend::terminate(&mut out);
            self.connection.transport.write_all(&out).await?;
            self.connection.transport.flush().await?;
            loop {
                self.connection.received.clear();
                let read = self.connection.transport.read_buf(&mut self.connection.received);
                if read.await? == 0 {
                    return Ok::<(), io::Error>(());
                }
            }
        };
        // The session is over either way: an error here changes nothing for anybody.
        let _ = timeout(limit, farewell).await;
    }
}

/// Reads once into the spare room of the buffer.
///
/// Cancellation-safe: bytes are appended to a buffer that outlives the future.
async fn read_some(connection: &mut Connection, step: &'static str) -> Result<usize, WalError> {
    let wanted = match parse_header(connection, step)? {
        // A large frame is read in as few pieces as possible, one that is cut as it comes.
        Some(header) => 1 + header.len() as usize,
        None => 0,
    };
    let wanted = if wanted > limits::FRAME_BYTES_MAX { 0 } else { wanted };
    let missing = wanted.saturating_sub(connection.received.len());
    connection.received.reserve(missing.max(limits::READ_BYTES));
    let Connection { transport, received, .. } = connection;
    match transport.read_buf(received).await {
        Ok(0) => Err(connection.lost(step, io::ErrorKind::UnexpectedEof.into())),
        Ok(count) => Ok(count),
        Err(source) => Err(connection.lost(step, source)),
    }
}

fn parse_header(connection: &Connection, step: &'static str) -> Result<Option<Header>, WalError> {
    Header::parse(&connection.received).map_err(|_invalid| WalError::OutOfProtocol {
        at: connection.at.clone(),
        step,
        what: "a message of impossible length".to_owned(),
    })
}

fn read_refusal(connection: &mut Connection, step: &'static str) -> WalError {
    match Message::parse(&mut connection.received) {
        Ok(Some(Message::ErrorResponse(body))) => {
            let error = ServerError::read(body.fields());
            classify(&connection.at, &connection.user, step, error)
        }
        _ => {
            let what = "an error that cannot be read".to_owned();
            WalError::OutOfProtocol { at: connection.at.clone(), step, what }
        }
    }
}

/// Reads on until the server has begun to stream, or refuses.
///
/// Not cancellation-safe, as [`WalStream::start`].
async fn await_copy_both(
    connection: &mut Connection,
    slot: &str,
    step: &'static str,
) -> Result<(), WalError> {
    loop {
        let Some(header) = parse_header(connection, step)? else {
            read_some(connection, step).await?;
            continue;
        };
        let total = 1 + header.len() as usize;
        if total > limits::QUERY_ANSWER_BYTES_MAX {
            let what = format!("an answer of {total} bytes");
            return Err(WalError::OutOfProtocol { at: connection.at.clone(), step, what });
        }
        if connection.received.len() < total {
            read_some(connection, step).await?;
            continue;
        }
        // CopyBothResponse is unknown to the message parser: it is told apart by its tag.
        if header.tag() == b'W' {
            connection.received.advance(total);
            return Ok(());
        }
        refuse_or_skip(connection, slot, step)?;
    }
}

/// Handles a complete message before CopyBothResponse: a refusal ends the attempt.
fn refuse_or_skip(
    connection: &mut Connection,
    slot: &str,
    step: &'static str,
) -> Result<(), WalError> {
    match Message::parse(&mut connection.received) {
        Ok(Some(Message::ErrorResponse(body))) => {
            let error = ServerError::read(body.fields());
            Err(match error.sqlstate.as_str() {
                "55006" => WalError::SlotActive { slot: slot.to_owned(), holder: error.message },
                "42704" => {
                    WalError::SlotMissing { at: connection.at.clone(), slot: slot.to_owned() }
                }
                _ => classify(&connection.at, &connection.user, step, error),
            })
        }
        Ok(_) => Ok(()),
        Err(source) => Err(connection.lost(step, source)),
    }
}

/// Splits a complete CopyData message (tag and length included) into its frame.
fn parse_copy_data(received: &[u8]) -> Option<Frame<'_>> {
    let header = Header::parse(received).ok()??;
    let payload = received.get(5..1 + usize::try_from(header.len()).ok()?)?;
    let number = |from: usize| {
        let bytes = payload.get(from..from + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    match payload.first()? {
        b'w' => Some(Frame::Message { at: Lsn(number(1)?), body: payload.get(25..)? }),
        b'k' => Some(Frame::Keepalive {
            wal_end: WalEnd(Lsn(number(1)?)),
            reply_requested: *payload.get(17)? == 1,
        }),
        _ => None,
    }
}

/// Standby status update: written, flushed, applied, the client's clock, reply wanted or not.
fn feedback_message(confirmed: ConfirmedLsn, now_us: i64, reply: Reply) -> [u8; 34] {
    let mut message = [0; 34];
    message[0] = b'r';
    let position = confirmed.lsn().0.to_be_bytes();
    message[1..9].copy_from_slice(&position);
    message[9..17].copy_from_slice(&position);
    message[17..25].copy_from_slice(&position);
    message[25..33].copy_from_slice(&(now_us - POSTGRES_EPOCH_US).to_be_bytes());
    message[33] = u8::from(reply == Reply::Wanted);
    message
}

impl WalStream {
    /// Whether the transport below is encrypted, for the log line at start.
    pub fn is_encrypted(&self) -> bool {
        matches!(self.connection.transport, Transport::Tls(_))
    }

    /// The error of a stream that the server ended.
    pub fn ended_by_server(&self) -> WalError {
        WalError::Ended { at: self.connection.at.clone() }
    }

    /// The error of a server that answers no heartbeat.
    pub fn silent(&self, limit: Duration) -> WalError {
        WalError::Silent { at: self.connection.at.clone(), step: "answering heartbeats", limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy_data(payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        frontend::CopyData::new(payload).expect("copy data").write(&mut out);
        out
    }

    #[test]
    fn frames_are_told_apart_by_their_first_byte() {
        let mut wal = vec![b'w'];
        wal.extend(7u64.to_be_bytes());
        wal.extend(9u64.to_be_bytes());
        wal.extend(0u64.to_be_bytes());
        wal.extend(b"body");
        let frame = Frame::Message { at: Lsn(7), body: b"body" };
        assert_eq!(parse_copy_data(&copy_data(&wal)), Some(frame));

        let mut keepalive = vec![b'k'];
        keepalive.extend(8u64.to_be_bytes());
        keepalive.extend(0u64.to_be_bytes());
        keepalive.push(1);
        let frame = Frame::Keepalive { wal_end: WalEnd(Lsn(8)), reply_requested: true };
        assert_eq!(parse_copy_data(&copy_data(&keepalive)), Some(frame));
    }

    #[test]
    fn a_short_or_unknown_frame_is_none() {
        for payload in [&b""[..], b"w1234", b"k", b"z00000000000000000"] {
            assert_eq!(parse_copy_data(&copy_data(payload)), None, "{payload:?}");
        }
    }
}
