//! Opens the replication connection: an address goes in, an authenticated [`Connection`] in query
//! mode comes out.
//!
//! Protocol: <https://www.postgresql.org/docs/current/protocol-flow.html> (start-up, SSL) and
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>. `replication=database` in
//! the start-up message makes the server side a walsender that still answers simple queries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ChannelBinding, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret;
use sha2::Digest;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::der::Decode;

use super::error::{START_UP, ServerError, WalError, classify};
use crate::database::{DatabaseAddress, Endpoint, TlsMode};
use crate::limits;

/// Start-up and each simple query must be answered within this time; a server that is up answers
/// in milliseconds, one that replays WAL refuses at once.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The socket below a replication connection.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Transport {
    /// A unix socket's small send buffer cannot bridge a pause of the reader.
    pub(super) fn can_be_read_late(&self) -> bool {
        !matches!(self, Self::Unix(_))
    }
}

/// An authenticated walsender session in query mode.
#[derive(Debug)]
pub struct Connection {
    pub(super) transport: Transport,
    /// Bytes received and not yet parsed.
    pub(super) received: BytesMut,
    pub(super) at: String,
    pub(super) user: String,
}

impl Connection {
    /// Connects to the first host of `address` that answers and authenticates there.
    ///
    /// Cancellation-safe: a dropped future closes the socket.
    pub async fn open(address: &DatabaseAddress, application: &str) -> Result<Self, WalError> {
        let mut last_refusal = io::Error::new(io::ErrorKind::AddrNotAvailable, "no host is named");
        for endpoint in address.endpoints() {
            let attempt = timeout(address.connect_timeout(), connect_socket(&endpoint)).await;
            let socket = match attempt {
                Ok(Ok(socket)) => socket,
                Ok(Err(refusal)) => {
                    last_refusal = refusal;
                    continue;
                }
                Err(_elapsed) => {
                    last_refusal = io::Error::from(io::ErrorKind::TimedOut);
                    continue;
                }
            };
            let start = start_session(socket, &endpoint, address, application);
            return timeout(ANSWER_TIMEOUT, start).await.unwrap_or_else(|_elapsed| {
                let at = endpoint.to_string();
                Err(WalError::Silent { at, step: START_UP, limit: ANSWER_TIMEOUT })
            });
        }
        Err(WalError::Unreachable { at: address.to_string(), source: last_refusal })
    }

    /// Runs one simple query and returns its rows as text, `None` for NULL.
    ///
    /// Not cancellation-safe: the answer of a cancelled query would be read as the next one's, so
    /// a caller that gives up must drop the connection.
    pub async fn query(
        &mut self,
        step: &'static str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, WalError> {
        let answer = timeout(ANSWER_TIMEOUT, self.query_without_limit(step, sql)).await;
        answer.unwrap_or_else(|_elapsed| {
            Err(WalError::Silent { at: self.at.clone(), step, limit: ANSWER_TIMEOUT })
        })
    }

    /// As [`Connection::query`].
    async fn query_without_limit(
        &mut self,
        step: &'static str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, WalError> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|source| self.lost(step, source))?;
        self.send(step, &out).await?;
        let mut rows = Vec::new();
        let mut refusal = None;
        loop {
            match self.receive(step).await? {
                Message::DataRow(body) => {
                    let cells = body.ranges().map(|range| {
                        let cell = range.and_then(|range| body.buffer().get(range));
                        Ok(cell.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
                    });
                    rows.push(cells.collect().map_err(|source| self.lost(step, source))?);
                }
                // The answer ends with ReadyForQuery even after an error.
                Message::ErrorResponse(body) => refusal = Some(ServerError::read(body.fields())),
                Message::ReadyForQuery(_) => break,
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse
                | Message::NoticeResponse(_)
                | Message::ParameterStatus(_) => {}
                other => return Err(self.out_of_protocol(step, &other)),
            }
        }
        match refusal {
            Some(error) => Err(classify(&self.at, &self.user, step, error)),
            None => Ok(rows),
        }
    }

    /// Not cancellation-safe: a half-written message cannot be continued.
    pub(super) async fn send(&mut self, step: &'static str, bytes: &[u8]) -> Result<(), WalError> {
        let sent = async {
            self.transport.write_all(bytes).await?;
            self.transport.flush().await
        };
        sent.await.map_err(|source| self.lost(step, source))
    }

    /// The next message of the start-up or of a query. Asynchronous notices are passed on.
    ///
    /// Cancellation-safe: bytes are appended to a buffer that outlives the future.
    async fn receive(&mut self, step: &'static str) -> Result<Message, WalError> {
        loop {
            let parsed = Message::parse(&mut self.received);
            if let Some(message) = parsed.map_err(|source| self.lost(step, source))? {
                return Ok(message);
            }
            if self.received.len() > limits::QUERY_ANSWER_BYTES_MAX {
                let what = "an answer without end".to_owned();
                return Err(WalError::OutOfProtocol { at: self.at.clone(), step, what });
            }
            let read = self.transport.read_buf(&mut self.received).await;
            if read.map_err(|source| self.lost(step, source))? == 0 {
                return Err(self.lost(step, io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub(super) fn lost(&self, step: &'static str, source: io::Error) -> WalError {
        WalError::Lost { at: self.at.clone(), step, source }
    }

    fn out_of_protocol(&self, step: &'static str, message: &Message) -> WalError {
        let what = format!("an unexpected message ({})", name_of(message));
        WalError::OutOfProtocol { at: self.at.clone(), step, what }
    }
}

/// Cancellation-safe: a dropped future closes the socket.
async fn connect_socket(endpoint: &Endpoint) -> io::Result<Transport> {
    match endpoint {
        Endpoint::Unix { path } => Ok(Transport::Unix(UnixStream::connect(path).await?)),
        Endpoint::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            // Room for what arrives while the reader pauses; the kernel grants what it allows.
            socket.set_recv_buffer_size(limits::RECEIVE_BUFFER_BYTES)?;
            // A host that vanished is noticed even while feedback still fits the send buffer.
            let keepalive = TcpKeepalive::new()
                .with_time(Duration::from_secs(10))
                .with_interval(Duration::from_secs(5))
                .with_retries(3);
            socket.set_tcp_keepalive(&keepalive)?;
            Ok(Transport::Tcp(stream))
        }
    }
}

/// Start-up, TLS and authentication on a connected socket.
///
/// Cancellation-safe: a dropped future closes the socket.
async fn start_session(
    transport: Transport,
    endpoint: &Endpoint,
    address: &DatabaseAddress,
    application: &str,
) -> Result<Connection, WalError> {
    let at = format!("{endpoint}/{}", address.database());
    let (transport, binding) = negotiate_tls(transport, endpoint, address, &at).await?;
    let mut connection = Connection {
        transport,
        received: BytesMut::with_capacity(8 * 1024),
        at,
        user: address.user().to_owned(),
    };
    let parameters = [
        ("user", address.user()),
        ("database", address.database()),
        ("replication", "database"),
        ("application_name", application),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, YMD"),
        ("TimeZone", "UTC"),
        ("extra_float_digits", "1"),
        ("bytea_output", "hex"),
        // Limits of the database or the role are for queries of people.
        ("statement_timeout", "0"),
        ("lock_timeout", "0"),
    ];
    let mut out = BytesMut::new();
    frontend::startup_message(parameters, &mut out)
        .map_err(|source| connection.lost(START_UP, source))?;
    connection.send(START_UP, &out).await?;
    authenticate(&mut connection, address, binding).await?;
    loop {
        match connection.receive(START_UP).await? {
            Message::BackendKeyData(_)
            | Message::ParameterStatus(_)
            | Message::NoticeResponse(_) => {}
            Message::ReadyForQuery(_) => return Ok(connection),
            Message::ErrorResponse(body) => {
                let error = ServerError::read(body.fields());
                return Err(classify(&connection.at, &connection.user, START_UP, error));
            }
            other => return Err(connection.out_of_protocol(START_UP, &other)),
        }
    }
}

/// Asks for TLS where the mode wants it. The server answers with a single byte and nothing after
/// it: exactly one byte is read in the clear, so that nobody can slip in plain text before the
/// handshake (CVE-2021-23222).
///
/// Cancellation-safe: a dropped future closes the socket.
async fn negotiate_tls(
    transport: Transport,
    endpoint: &Endpoint,
    address: &DatabaseAddress,
    at: &str,
) -> Result<(Transport, Option<ChannelBinding>), WalError> {
    let (mut stream, host) = match (transport, endpoint) {
        (Transport::Tcp(stream), Endpoint::Tcp { host, .. })
            if address.tls_mode() != TlsMode::Disable =>
        {
            (stream, host)
        }
        // PostgreSQL speaks no TLS over unix sockets.
        (transport, _) => return Ok((transport, None)),
    };
    let step = "the tls negotiation";
    let lost = |source| WalError::Lost { at: at.to_owned(), step, source };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        b'S' => {}
        b'N' if address.tls_mode() == TlsMode::Prefer => {
            return Ok((Transport::Tcp(stream), None));
        }
        b'N' => return Err(WalError::TlsNotOffered { at: at.to_owned() }),
        // A server that cannot start a session says so before TLS. What follows comes from
        // whoever is on the wire, so nobody is shown it.
        b'E' => return Err(lost(io::Error::other("the server answers with an error"))),
        byte => {
            let what = format!("byte {byte} in answer to the request for tls");
            return Err(WalError::OutOfProtocol { at: at.to_owned(), step, what });
        }
    }
    let failed = |source| WalError::TlsFailed { at: at.to_owned(), source };
    let name = ServerName::try_from(host.clone())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let connector = TlsConnector::from(address.tls_config());
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let binding = channel_binding(&stream);
    Ok((Transport::Tls(Box::new(stream)), binding))
}

/// What ties SCRAM to this very TLS connection: the hash of the server's certificate by the hash
/// of its signature algorithm, SHA-256 in place of MD5 and SHA-1 (RFC 5929, section 4.1). An
/// algorithm without a hash of its own (Ed25519), or with one in its parameters (RSASSA-PSS), gives
/// none.
fn channel_binding(stream: &TlsStream<TcpStream>) -> Option<ChannelBinding> {
    use x509_cert::der::oid::db::rfc5912 as oid;
    let (_, session) = stream.get_ref();
    let der = session.peer_certificates().and_then(<[_]>::first)?;
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let hash = match certificate.signature_algorithm.oid {
        oid::SHA_1_WITH_RSA_ENCRYPTION
        | oid::SHA_256_WITH_RSA_ENCRYPTION
        | oid::ECDSA_WITH_SHA_256 => sha2::Sha256::digest(der).to_vec(),
        oid::SHA_384_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_384 => {
            sha2::Sha384::digest(der).to_vec()
        }
        oid::SHA_512_WITH_RSA_ENCRYPTION | oid::ECDSA_WITH_SHA_512 => {
            sha2::Sha512::digest(der).to_vec()
        }
        _ => return None,
    };
    Some(ChannelBinding::tls_server_end_point(hash))
}

/// Answers the server's question who we are.
///
/// Not cancellation-safe: the connection is of no use in the middle of it.
async fn authenticate(
    connection: &mut Connection,
    address: &DatabaseAddress,
    binding: Option<ChannelBinding>,
) -> Result<(), WalError> {
    let step = "the authentication";
    let unsupported = |connection: &Connection, method| {
        Err(WalError::AuthenticationUnsupported { at: connection.at.clone(), method })
    };
    match connection.receive(step).await? {
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword => {
            let password = password_of(connection, address)?;
            send_password(connection, password.as_bytes()).await?;
        }
        Message::AuthenticationMd5Password(body) => {
            let password = password_of(connection, address)?;
            let hash = md5_hash(address.user().as_bytes(), password.as_bytes(), body.salt());
            send_password(connection, hash.as_bytes()).await?;
        }
        Message::AuthenticationSasl(body) => {
            let offered: Vec<String> = body
                .mechanisms()
                .map(|name| Ok(name.to_owned()))
                .collect()
                .map_err(|source| connection.lost(step, source))?;
            let password = password_of(connection, address)?;
            authenticate_scram(connection, &password, &offered, binding).await?;
        }
        Message::ErrorResponse(body) => {
            let error = ServerError::read(body.fields());
            return Err(classify(&connection.at, &connection.user, step, error));
        }
        Message::AuthenticationKerberosV5 => return unsupported(connection, "Kerberos V5"),
        Message::AuthenticationGss => return unsupported(connection, "GSSAPI"),
        Message::AuthenticationSspi => return unsupported(connection, "SSPI"),
        Message::AuthenticationScmCredential => return unsupported(connection, "SCM credential"),
        other => return Err(connection.out_of_protocol(step, &other)),
    }
    match connection.receive(step).await? {
        Message::AuthenticationOk => Ok(()),
        Message::ErrorResponse(body) => {
            let error = ServerError::read(body.fields());
            Err(classify(&connection.at, &connection.user, step, error))
        }
        other => Err(connection.out_of_protocol(step, &other)),
    }
}

fn password_of(connection: &Connection, address: &DatabaseAddress) -> Result<String, WalError> {
    address.password().map(|password| password.expose_secret().to_owned()).ok_or_else(|| {
        WalError::PasswordMissing { at: connection.at.clone(), user: connection.user.clone() }
    })
}

/// As [`authenticate`].
async fn send_password(connection: &mut Connection, password: &[u8]) -> Result<(), WalError> {
    let mut out = BytesMut::new();
    frontend::password_message(password, &mut out)
        .map_err(|source| connection.lost("the authentication", source))?;
    connection.send("the authentication", &out).await
}

/// The mechanism, and what the server is told of channel binding (RFC 5802, section 6). A client
/// that could bind and finds no -PLUS says so (`unrequested`), so that a downgrade in between is
/// noticed; one that cannot must not say that it could, or a server that offers -PLUS takes it for
/// such a downgrade.
fn choose_scram(
    offered: &[String],
    binding: Option<ChannelBinding>,
) -> Option<(&'static str, ChannelBinding)> {
    let offers = |name: &str| offered.iter().any(|mechanism| mechanism == name);
    match binding {
        Some(binding) if offers(sasl::SCRAM_SHA_256_PLUS) => {
            Some((sasl::SCRAM_SHA_256_PLUS, binding))
        }
        _ if !offers(sasl::SCRAM_SHA_256) => None,
        Some(_) => Some((sasl::SCRAM_SHA_256, ChannelBinding::unrequested())),
        None => Some((sasl::SCRAM_SHA_256, ChannelBinding::unsupported())),
    }
}

/// As [`authenticate`].
async fn authenticate_scram(
    connection: &mut Connection,
    password: &str,
    offered: &[String],
    binding: Option<ChannelBinding>,
) -> Result<(), WalError> {
    let step = "the authentication";
    let Some((mechanism, binding)) = choose_scram(offered, binding) else {
        let method = "SASL without SCRAM-SHA-256";
        return Err(WalError::AuthenticationUnsupported { at: connection.at.clone(), method });
    };
    let failed = |connection: &Connection, source: io::Error| WalError::ScramFailed {
        at: connection.at.clone(),
        reason: source.to_string(),
    };
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut out)
        .map_err(|source| failed(connection, source))?;
    connection.send(step, &out).await?;
    match connection.receive(step).await? {
        Message::AuthenticationSaslContinue(body) => {
            scram.update(body.data()).map_err(|source| failed(connection, source))?;
        }
        Message::ErrorResponse(body) => {
            let error = ServerError::read(body.fields());
            return Err(classify(&connection.at, &connection.user, step, error));
        }
        other => return Err(connection.out_of_protocol(step, &other)),
    }
    out.clear();
    frontend::sasl_response(scram.message(), &mut out)
        .map_err(|source| failed(connection, source))?;
    connection.send(step, &out).await?;
    match connection.receive(step).await? {
        // The server's signature proves that it knows the password as well.
        Message::AuthenticationSaslFinal(body) => {
            scram.finish(body.data()).map_err(|source| failed(connection, source))
        }
        Message::ErrorResponse(body) => {
            let error = ServerError::read(body.fields());
            Err(classify(&connection.at, &connection.user, step, error))
        }
        other => Err(connection.out_of_protocol(step, &other)),
    }
}

fn name_of(message: &Message) -> &'static str {
    match message {
        Message::AuthenticationCleartextPassword
        | Message::AuthenticationGss
        | Message::AuthenticationKerberosV5
        | Message::AuthenticationMd5Password(_)
        | Message::AuthenticationOk
        | Message::AuthenticationScmCredential
        | Message::AuthenticationSspi
        | Message::AuthenticationGssContinue(_)
        | Message::AuthenticationSasl(_)
        | Message::AuthenticationSaslContinue(_)
        | Message::AuthenticationSaslFinal(_) => "authentication",
        Message::CopyData(_)
        | Message::CopyDone
        | Message::CopyInResponse(_)
        | Message::CopyOutResponse(_) => "copy",
        Message::DataRow(_) => "data row",
        Message::ReadyForQuery(_) => "ready for query",
        Message::RowDescription(_) => "row description",
        Message::NotificationResponse(_) => "notification",
        _ => "unnamed",
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scram_is_bound_where_both_sides_can_and_says_else_what_is_true() {
        let (plain, plus) = (sasl::SCRAM_SHA_256, sasl::SCRAM_SHA_256_PLUS);
        let bound = || Some(ChannelBinding::tls_server_end_point(vec![1]));
        for (offered, binding, wanted) in [
            (&[plus, plain][..], bound(), Some((plus, "p=tls-server-end-point,,"))),
            (&[plain], bound(), Some((plain, "y,,"))),
            (&[plus, plain], None, Some((plain, "n,,"))),
            (&[plain], None, Some((plain, "n,,"))),
            (&[plus], None, None),
            (&["OAUTHBEARER"], bound(), None),
        ] {
            let names: Vec<String> = offered.iter().map(|name| (*name).to_owned()).collect();
            let chosen = choose_scram(&names, binding).map(|(mechanism, binding)| {
                let scram = ScramSha256::new(b"secret", binding);
                (mechanism, String::from_utf8_lossy(scram.message()).into_owned())
            });
            let begins = |(mechanism, header): (&str, &str)| {
                chosen.as_ref().is_some_and(|(name, message)| {
                    *name == mechanism && message.starts_with(header)
                })
            };
            assert!(wanted.map_or(chosen.is_none(), begins), "{offered:?} {chosen:?}");
        }
    }
}
