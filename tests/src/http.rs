//! One HTTP request on one connection: the tests choose every header, `Host` included, and nothing
//! is retried or followed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    pub body: String,
}

/// Sends a request; `Host` is `address` unless `headers` has one.
pub fn request(
    method: &str,
    address: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
}

/// `GET` without further headers.
pub fn get(address: &str, path: &str) -> Result<Response> {
    request("GET", address, path, &[], "")
}

fn parse(answer: &[u8]) -> Result<Response> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.context("the answer has no head")?);
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = body.get(4..).unwrap_or_default();
    let body = if is_chunked { unchunked(body)? } else { body.to_vec() };
    Ok(Response {
        status: status.context("the answer has no status")?,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end =
            rest.windows(2).position(|part| part == b"\r\n").context("a chunk without end")?;
        let size = std::str::from_utf8(&rest[..end])?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        let chunk = rest.get(end + 2..end + 2 + size).context("a chunk is cut short")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        rest = rest.get(end + 4 + size..).context("a chunk is cut short")?;
    }
}
