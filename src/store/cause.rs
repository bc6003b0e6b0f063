//! The driver's errors in words for people. The driver's own text ends in a line of the server's or of its own source code, and
//! names neither host nor port.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};

use sqlx::error::{DatabaseError, ErrorKind as Kind};

/// What the driver says, in one sentence; the only way in which its errors are printed.
pub(crate) fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(answer) => answer.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => format!("no encrypted connection can be made: {error}"),
        sqlx::Error::Protocol(text) => without_source_line(text).to_owned(),
        sqlx::Error::Configuration(error) | sqlx::Error::Decode(error) | sqlx::Error::Encode(error) => {
            error.to_string()
        }
        sqlx::Error::PoolTimedOut => "all its connections were in use, and none became free in time".to_owned(),
        sqlx::Error::PoolClosed => "its connections are closed, for the operator stops".to_owned(),
        sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => "a connection was lost in the middle".to_owned(),
        error => error.to_string(),
    }
}

/// An error of the way to a host, or of the first words with it, with the name of that host (with its port, or the folder of
/// its socket) before it.
pub(super) fn of_host(host: &str, error: sqlx::Error) -> sqlx::Error {
    match error {
        sqlx::Error::Database(answer) => sqlx::Error::Database(Box::new(AnswerOfHost {
            message: format!("{host}: {}", answer.message()),
            answer,
        })),
        sqlx::Error::Io(error) => sqlx::Error::Io(io::Error::new(
            error.kind(),
            format!("{host}: {}", io_words(host, &error)),
        )),
        sqlx::Error::Tls(error) => sqlx::Error::Io(io::Error::other(format!(
            "{host}: no encrypted connection can be made: {error}"
        ))),
        sqlx::Error::Protocol(text) => sqlx::Error::Protocol(format!(
            "{host}: it does not answer as Postgres does ({}): look at host and port",
            without_source_line(&text)
        )),
        error => error,
    }
}

/// What keeps a connection from being made, and what to look at.
fn io_words(host: &str, error: &io::Error) -> String {
    const UNKNOWN: &str = "failed to lookup address information: ";
    let text = error.to_string();
    if host.starts_with('/') && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
        return "no server has its socket in this folder: look at the folder and at the port".to_owned();
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "nothing listens there: look at host and port, and whether the server runs".to_owned()
        }
        _ => match text.strip_prefix(UNKNOWN) {
            Some(why) => format!("the name of the host cannot be looked up ({why})"),
            None => text,
        },
    }
}

/// The driver's text without the place in its own source code.
fn without_source_line(text: &str) -> &str {
    text.split(" (sqlx").next().unwrap_or(text)
}

/// What a server answers while a connection is made, with the name of its host before it.
#[derive(Debug)]
struct AnswerOfHost {
    message: String,
    answer: Box<dyn DatabaseError>,
}

impl fmt::Display for AnswerOfHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for AnswerOfHost {}

impl DatabaseError for AnswerOfHost {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.answer.code()
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }

    fn kind(&self) -> Kind {
        self.answer.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_before_whatever_keeps_a_connection_from_being_made() {
        let io = |kind, text: &str| sqlx::Error::Io(io::Error::new(kind, text.to_owned()));
        let lookup = "failed to lookup address information: Name or service not known";
        for (host, error, sentence) in [
            (
                "db:5432",
                io(ErrorKind::ConnectionRefused, "Connection refused (os error 111)"),
                "db:5432: nothing listens there: look at host and port, and whether the server runs",
            ),
            (
                "db:5432",
                io(ErrorKind::Other, lookup),
                "db:5432: the name of the host cannot be looked up (Name or service not known)",
            ),
            (
                "/run/pg",
                io(ErrorKind::NotFound, "No such file or directory (os error 2)"),
                "/run/pg: no server has its socket in this folder: look at the folder and at the port",
            ),
            (
                "[::1]:5432",
                io(ErrorKind::ConnectionReset, "Connection reset by peer (os error 104)"),
                "[::1]:5432: Connection reset by peer (os error 104)",
            ),
            (
                "db:8080",
                sqlx::Error::Protocol(
                    "unexpected response from SSLRequest: 0x48 (sqlx_postgres::connection::tls:95)".into(),
                ),
                "db:8080: it does not answer as Postgres does (unexpected response from SSLRequest: 0x48): look at host and port",
            ),
            (
                "db:5432",
                sqlx::Error::Tls("server does not support TLS".into()),
                "db:5432: no encrypted connection can be made: server does not support TLS",
            ),
        ] {
            assert_eq!(cause(&of_host(host, error)), sentence);
        }
    }
}
