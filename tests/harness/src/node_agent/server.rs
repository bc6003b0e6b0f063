//! What the API server asks a node for: the logs of containers, for `kubectl logs` and `helm test --logs`.
//!
//! It is answered with what has been printed so far, all of it or the last lines; nothing is followed. Whoever reaches the loopback
//! address may ask: there is nothing in a test's logs to hide.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// No request of an API server has a longer head.
const HEAD: usize = 16 * 1024;

/// A server on a port of its own; ends with this value.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves the logs in `directory`.
    pub(super) async fn start(directory: &Path) -> Result<Self> {
        // The API server looks at no kubelet's certificate, unless it is told an authority.
        let own = rcgen::generate_simple_self_signed([Ipv4Addr::LOCALHOST.to_string()])?;
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let configuration = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key.into())?;
        let acceptor = TlsAcceptor::from(Arc::new(configuration));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("listen for the API server")?;
        let port = listener.local_addr()?.port();
        let directory = directory.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, directory) = (acceptor.clone(), directory.clone());
                tokio::spawn(async move {
                    let answered = async { answer(acceptor.accept(stream).await?, &directory).await };
                    if let Err(error) = answered.await {
                        eprintln!("node agent: a request for logs was not answered: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port, task })
    }

    /// Where it listens on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers the one request of a connection.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, directory: &Path) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < HEAD, "its head is too long");
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split_whitespace().nth(1).unwrap_or_default();
    let (status, body) = match log(directory, target) {
        Some(file) => ("200 OK", lines(&std::fs::read(file)?, target)),
        None => ("404 Not Found", format!("{target} is not here\n").into_bytes()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body).await?;
    Ok(stream.shutdown().await?)
}

/// The log that `/containerLogs/<namespace>/<Pod>/<container>` asks for: that of the Pod of this name that was made last.
fn log(directory: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split('?').next()?.strip_prefix("/containerLogs/")?;
    let [namespace, pod, container] = path.split('/').collect::<Vec<_>>().try_into().ok()?;
    let of_it = super::prefix(namespace, pod);
    let folders = std::fs::read_dir(directory).ok()?.flatten();
    folders
        .filter(|folder| folder.file_name().to_string_lossy().starts_with(&of_it))
        .map(|folder| folder.path().join(format!("{container}.log")))
        .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
        .max()
        .map(|(_, file)| file)
}

/// As many of the last lines as the request asks for.
fn lines(text: &[u8], target: &str) -> Vec<u8> {
    let (_, query) = target.split_once('?').unwrap_or_default();
    let wanted = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("tailLines=")?.parse::<usize>().ok());
    let all: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    all[all.len().saturating_sub(wanted.unwrap_or(all.len()))..].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_of_the_last_lines_as_are_asked_for() {
        let text = b"one\ntwo\nthree";
        assert_eq!(lines(text, "/a/b/c"), text);
        assert_eq!(lines(text, "/a/b/c?follow=false&tailLines=2"), b"two\nthree");
        assert_eq!(lines(text, "/a/b/c?tailLines=0"), b"");
    }
}
