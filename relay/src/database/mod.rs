//! Where a source's database is and how to speak to it: an address as written becomes a
//! [`DatabaseAddress`], from which both the replication connection (`wal/`) and SQL sessions start.
//!
//! Passwords never appear in `Debug` or in an error.

mod options;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::secret::Secret;

/// How long a connection attempt to one host may take before the next host is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What TLS must guarantee, as libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Never encrypt.
    Disable,
    /// Encrypt when the server offers it; libpq's default.
    #[default]
    Prefer,
    /// Encrypt or fail; the server may be anybody.
    Require,
    /// The certificate must come from the given authority; the host name is not compared.
    VerifyCa,
    /// The certificate must come from a trusted authority and name the host.
    VerifyFull,
}

impl TlsMode {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for TlsMode {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "disable" => Ok(Self::Disable),
            "prefer" => Ok(Self::Prefer),
            "require" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" => Ok(Self::VerifyFull),
            other => Err(AddressError::UnknownTlsMode { found: other.to_owned() }),
        }
    }
}

/// The address cannot be used. No variant holds the address itself, since it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Neither a URL nor `key=value` pairs.
    #[error("database url cannot be read: {reason}")]
    Malformed {
        /// What the parser said, without the text it read.
        reason: String,
    },
    /// The address names no database, and guessing one hides mistakes.
    #[error("database url names no database")]
    NoDatabase,
    /// The address names no user.
    #[error("database url names no user")]
    NoUser,
    /// The address names no host.
    #[error("database url names no host")]
    NoHost,
    /// An `sslmode` that libpq does not know.
    #[error("\"{found}\" is no tls mode: use disable, prefer, require, verify-ca or verify-full")]
    UnknownTlsMode {
        /// The word found.
        found: String,
    },
    /// `verify-ca` without an authority to verify against.
    #[error("tls mode verify-ca needs tls_ca_file (sslrootcert)")]
    NoAuthority,
    /// The file with the authorities cannot be used.
    #[error("certificate authorities cannot be read from {}: {reason}", path.display())]
    BadAuthorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The TLS library refused the configuration.
    #[error("tls cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// One place to try: a host name and port, or the folder of a unix socket and the port in its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp {
        /// Name or address, also the name that the certificate must carry.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket `<folder>/.s.PGSQL.<port>`.
    Unix {
        /// The path of the socket itself.
        path: PathBuf,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}

/// A database, a user and how to reach them.
#[derive(Clone)]
pub struct DatabaseAddress {
    config: tokio_postgres::Config,
    user: String,
    database: String,
    password: Option<Secret>,
    tls_mode: TlsMode,
    ca_file: Option<PathBuf>,
    tls_config: Arc<ClientConfig>,
}

impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseAddress")
            .field("at", &self.to_string())
            .field("user", &self.user)
            .field("tls_mode", &self.tls_mode)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, endpoint) in self.endpoints().iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{endpoint}")?;
        }
        write!(f, "/{}", self.database)
    }
}

impl DatabaseAddress {
    /// Reads an address: a URL `postgres://user:password@host:port/database?sslmode=..`, or
    /// `key=value` pairs. `tls` and `ca_file` win over `sslmode` and `sslrootcert` in the text,
    /// `password` over a password in it.
    pub fn try_new(
        url: &SecretString,
        password: Option<Secret>,
        tls: Option<TlsMode>,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, AddressError> {
        let (text, options) = options::take_tls_options(url.expose_secret());
        let mut config: tokio_postgres::Config =
            text.parse().map_err(|error: tokio_postgres::Error| AddressError::Malformed {
                reason: describe_without_value(&error),
            })?;
        let database = config.get_dbname().ok_or(AddressError::NoDatabase)?.to_owned();
        let user = config.get_user().ok_or(AddressError::NoUser)?.to_owned();
        if config.get_hosts().is_empty() {
            return Err(AddressError::NoHost);
        }
        let written = config.get_password().map(|p| String::from_utf8_lossy(p).into_owned());
        let password = password.or(written.map(|text| Secret::written(text.into())));
        let tls_mode = match (tls, options.mode) {
            (Some(mode), _) => mode,
            (None, Some(text)) => text.parse()?,
            (None, None) => TlsMode::default(),
        };
        config.connect_timeout(CONNECT_TIMEOUT);
        config.ssl_mode(match tls_mode {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        let ca_file = ca_file.or(options.ca_file);
        let tls_config = tls::client_config(tls_mode, ca_file.clone())?;
        Ok(Self { config, user, database, password, tls_mode, ca_file, tls_config })
    }

    /// The places to try, in the order written.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let ports = self.config.get_ports();
        let port_of = |index: usize| match ports {
            [] => 5432,
            [one] => *one,
            many => many.get(index).copied().unwrap_or(5432),
        };
        let hosts = self.config.get_hosts().iter().enumerate();
        hosts
            .map(|(index, host)| match host {
                Host::Tcp(name) => Endpoint::Tcp { host: name.clone(), port: port_of(index) },
                Host::Unix(folder) => {
                    Endpoint::Unix { path: folder.join(format!(".s.PGSQL.{}", port_of(index))) }
                }
            })
            .collect()
    }

    /// The role to connect as.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database whose WAL is decoded.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The password as it is now: asked for anew for each connection, so that one that was rotated
    /// in its file needs no restart.
    pub(crate) fn password(&self) -> Option<SecretString> {
        self.password.as_ref().map(Secret::now)
    }

    /// What TLS must guarantee.
    pub fn tls_mode(&self) -> TlsMode {
        self.tls_mode
    }

    /// The file with the authorities, where one is named.
    pub fn ca_file(&self) -> Option<&std::path::Path> {
        self.ca_file.as_deref()
    }

    pub(crate) fn tls_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls_config)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        CONNECT_TIMEOUT
    }

    /// Opens an SQL session under `application_name`. The returned session drives its own
    /// connection task, which ends when the session is dropped.
    ///
    /// Cancellation-safe: a dropped future leaves nothing behind but a closed socket.
    pub async fn connect_sql(&self, application_name: &str) -> Result<SqlSession, SqlError> {
        let mut config = self.config.clone();
        config.application_name(application_name);
        if let Some(password) = self.password() {
            config.password(password.expose_secret());
        }
        let tls = MakeRustlsConnect::new(ClientConfig::clone(&self.tls_config));
        let (client, connection) = config
            .connect(tls)
            .await
            .map_err(|source| SqlError { at: self.to_string(), source })?;
        let driver = tokio::spawn(async move {
            // The error reaches the caller through the client, whose pending call fails with it.
            let _ = connection.await;
        });
        Ok(SqlSession { client, driver })
    }
}

/// An SQL session could not be opened or used.
#[derive(Debug, thiserror::Error)]
#[error("database {at} did not serve a request")]
pub struct SqlError {
    /// The address, without secrets.
    pub at: String,
    /// What the driver or the server said.
    #[source]
    pub source: tokio_postgres::Error,
}

/// An open SQL session and the task that drives its socket.
#[derive(Debug)]
pub struct SqlSession {
    client: tokio_postgres::Client,
    driver: tokio::task::JoinHandle<()>,
}

impl SqlSession {
    /// Waits until the session is over, for whatever reason.
    ///
    /// Cancellation-safe.
    pub async fn closed(&mut self) {
        // A driver that was aborted or panicked has closed its socket too.
        let _ = (&mut self.driver).await;
    }
}

impl std::ops::Deref for SqlSession {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

impl std::ops::DerefMut for SqlSession {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}

impl Drop for SqlSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The parser's message names keys and reasons; its source could quote the value, so that is left
/// out.
fn describe_without_value(error: &tokio_postgres::Error) -> String {
    let text = error.to_string();
    text.split('`').next().unwrap_or("").trim_end_matches([' ', ':']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<DatabaseAddress, AddressError> {
        DatabaseAddress::try_new(&SecretString::from(text), None, None, None)
    }

    #[test]
    fn several_hosts_keep_their_order_and_ports() {
        let found = address("postgres://u@a:1,b:2/shop?sslmode=require").expect("address");
        assert_eq!(found.to_string(), "a:1,b:2/shop");
        assert_eq!(found.tls_mode(), TlsMode::Require);
    }

    #[test]
    fn unix_socket_folder_becomes_a_socket_path() {
        let found = address("host=/run/pg port=5433 user=u dbname=shop").expect("address");
        assert_eq!(found.to_string(), "/run/pg/.s.PGSQL.5433/shop");
    }

    #[test]
    fn neither_debug_nor_errors_show_the_password() {
        let found = address("postgres://u:s3cret@a/shop").expect("address");
        assert!(!format!("{found:?} {found}").contains("s3cret"));
        for text in ["postgres://u:s3cret@a:port/shop", "postgres://u:s3cret@a/", "u:s3cret@a=b"] {
            let error = address(text).expect_err(text);
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn verify_ca_without_an_authority_is_refused() {
        let error = address("postgres://u@a/shop?sslmode=verify-ca").expect_err("no authority");
        assert!(matches!(error, AddressError::NoAuthority));
    }

    #[test]
    fn unknown_tls_mode_is_refused_by_name() {
        let error = address("postgres://u@a/shop?sslmode=on").expect_err("unknown mode");
        assert_eq!(
            error.to_string(),
            "\"on\" is no tls mode: use disable, prefer, require, verify-ca or verify-full"
        );
    }
}
