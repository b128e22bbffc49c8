//! A reverse proxy that asks who is there, as one stands before many registries. In: where to, the
//! wanted header, a certificate. Out: an address, and what was answered.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use xtask::stack::Tls;

/// How long either side may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// Passes a request on when its `Authorization` is the wanted one. It runs until the process ends.
#[derive(Debug, Clone)]
pub struct Proxy {
    url: String,
    rule: Arc<Mutex<Rule>>,
}

#[derive(Debug)]
struct Rule {
    wanted: String,
    refusal: &'static str,
    refused: usize,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

impl Proxy {
    /// `upstream` is `http://HOST:PORT/BASE`; `wanted` is the whole value of `Authorization`.
    pub fn start(upstream: &str, wanted: &str, tls: Option<&Tls>) -> Self {
        let rest = upstream.strip_prefix("http://").expect("an http address");
        let (address, base) = rest.split_once('/').unwrap_or((rest, ""));
        let address = address.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let config = tls.map(server_config);
        let scheme = if config.is_some() { "https" } else { "http" };
        let rule = Rule { wanted: wanted.to_owned(), refusal: "401 Unauthorized", refused: 0 };
        let proxy = Self {
            url: format!("{scheme}://127.0.0.1:{port}/{base}"),
            rule: Arc::new(Mutex::new(rule)),
        };
        let of_thread = proxy.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (proxy, address, config) = (of_thread.clone(), address.clone(), config.clone());
                // A client that leaves in the middle is no concern of ours.
                std::thread::spawn(move || proxy.serve(stream, &address, config));
            }
        });
        proxy
    }

    /// Its address, with the base of the registry behind it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Another value of `Authorization` is wanted from now on.
    pub fn want(&self, wanted: &str) {
        self.rule().wanted = wanted.to_owned();
    }

    /// Refuses with this status line from now on, such as `403 Forbidden`.
    pub fn refuse_with(&self, status: &'static str) {
        self.rule().refusal = status;
    }

    /// How many requests were refused.
    pub fn refused(&self) -> usize {
        self.rule().refused
    }

    fn rule(&self) -> std::sync::MutexGuard<'_, Rule> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(
        &self,
        stream: TcpStream,
        upstream: &str,
        config: Option<Arc<ServerConfig>>,
    ) -> Result<()> {
        stream.set_read_timeout(Some(SILENCE))?;
        let mut client: Box<dyn Wire> = match config {
            Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config)?, stream)),
            None => Box::new(stream),
        };
        let (head, body) = read_request(&mut client)?;
        let answer = match self.refusal(&head) {
            Some(status) => {
                let body = "{\"error_code\": 40101, \"message\": \"not you\"}";
                let head = format!("Connection: close\r\nContent-Length: {}", body.len());
                format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{body}").into_bytes()
            }
            None => forward(upstream, &head, &body)?,
        };
        client.write_all(&answer)?;
        client.flush()?;
        Ok(())
    }

    fn refusal(&self, head: &str) -> Option<&'static str> {
        let mut rule = self.rule();
        let given = head.lines().filter_map(|line| line.split_once(": "));
        let mut given = given.filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let is_wanted = given.next().is_some_and(|(_, value)| value == rule.wanted);
        rule.refused += usize::from(!is_wanted);
        (!is_wanted).then_some(rule.refusal)
    }
}

fn server_config(tls: &Tls) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(tls.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    Arc::new(config.expect("a certificate and its key"))
}

fn read_request(client: &mut dyn Wire) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = client.read(&mut piece)?;
        anyhow::ensure!(count > 0, "the client left");
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec())?;
        let length = head.lines().filter_map(|line| line.split_once(": "));
        let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.next().map_or(Ok(0), |(_, value)| value.parse())?;
        if bytes.len() >= end + 4 + length {
            return Ok((head, bytes[end + 4..].to_vec()));
        }
    }
}

/// The same request on a connection of its own, without what concerned us.
fn forward(upstream: &str, head: &str, body: &[u8]) -> Result<Vec<u8>> {
    let ours = ["authorization", "connection", "host"];
    let is_ours = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        ours.iter().any(|one| name.eq_ignore_ascii_case(one))
    };
    let mut request: Vec<&str> = head.lines().filter(|line| !is_ours(line)).collect();
    let host = format!("Host: {upstream}\r\nConnection: close\r\n\r\n");
    request.push(&host);
    let mut stream = TcpStream::connect(upstream).context("nobody behind the proxy")?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(request.join("\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
