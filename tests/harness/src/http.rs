//! The little of HTTP that asking the operator and probing a Pod need: one GET, one answer.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// An answer: status code and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200, for example.
    pub status: u16,
    /// Without the head.
    pub body: String,
}

/// `GET http://<address>:<port><path>`.
///
/// # Errors
/// When nothing listens, nothing comes within five seconds, or what comes is no HTTP.
pub async fn get(address: (Ipv4Addr, u16), path: &str) -> Result<Answer> {
    tokio::time::timeout(LIMIT, exchange(address, path))
        .await
        .with_context(|| format!("no answer within {LIMIT:?} to GET {path}"))?
        .with_context(|| format!("GET {path} at {}:{}", address.0, address.1))
}

async fn exchange(address: (Ipv4Addr, u16), path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    // Version 1.0: the answer comes in one piece and ends with the connection.
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", address.0).as_bytes())
        .await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    let text = String::from_utf8(bytes).context("the answer is no text")?;
    let (head, body) = text.split_once("\r\n\r\n").context("the answer has no head")?;
    let status = head.split_whitespace().nth(1).context("the answer has no status")?;
    ensure!(head.starts_with("HTTP/1."), "the answer is no HTTP: {head}");
    Ok(Answer {
        status: status.parse()?,
        body: body.to_owned(),
    })
}
