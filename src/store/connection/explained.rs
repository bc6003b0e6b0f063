//! What has kept a connection from being made, in words for people, where the driver's own name neither a file nor what to do.

use std::io;

use super::ConnectError;
use crate::store::address::Host;

/// What the driver says of a host, explained where there is more to say.
pub(super) fn explained(host: &Host, error: sqlx::Error) -> ConnectError {
    let explained = certificate_sentence(&host.name, &error)
        .or_else(|| unreadable_file(host, &error))
        .or_else(|| refused_parameter(&error));
    explained.unwrap_or(ConnectError::Driver(error))
}

/// A file that the URL names and that is not there, or is not what it has to be. The driver names none.
fn unreadable_file(host: &Host, error: &sqlx::Error) -> Option<ConnectError> {
    if let sqlx::Error::Configuration(source) = error {
        let named = host
            .files
            .iter()
            .any(|(parameter, _)| matches!(*parameter, "sslcert" | "sslkey"));
        return named.then(|| {
            ConnectError::Refused(format!(
                "the files that sslcert and sslkey name cannot be used ({source}): they hold a certificate and its key as PEM"
            ))
        });
    }
    let may_be_a_file_s = match error {
        sqlx::Error::Io(error) => {
            use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied};
            matches!(error.kind(), NotFound | PermissionDenied | IsADirectory)
        }
        sqlx::Error::Tls(_) => true,
        _ => false,
    };
    if !may_be_a_file_s {
        return None;
    }
    host.files.iter().find_map(|(parameter, path)| {
        let error = std::fs::read(path).err()?;
        Some(ConnectError::Refused(format!(
            "{path}, which {parameter} names, cannot be read: {error}"
        )))
    })
}

/// A setting of the URL's parameter `options` that the server does not know or does not take.
fn refused_parameter(error: &sqlx::Error) -> Option<ConnectError> {
    let answer = error.as_database_error()?;
    matches!(answer.code().as_deref(), Some("42704" | "22023")).then(|| {
        ConnectError::Refused(format!(
            "the server refuses a setting that the parameter options of DATABASE_URL asks for ({}): correct or remove it",
            answer.message()
        ))
    })
}

/// What to do about a certificate that is not trusted, by what rustls calls it.
fn certificate_sentence(host: &str, error: &sqlx::Error) -> Option<ConnectError> {
    let text = match error {
        sqlx::Error::Tls(error) => error.to_string(),
        sqlx::Error::Io(error) => error.to_string(),
        _ => return None,
    };
    if !text.contains("certificate") {
        return None;
    }
    let advice = ADVICE
        .iter()
        .find(|(sign, _)| text.contains(sign))
        .map_or("look at the server's certificate and at sslrootcert", |(_, advice)| {
            advice
        });
    // The name alone, without the driver's way of writing it down.
    let text = text.replace("Other(OtherError(", "").replace("))", "");
    Some(ConnectError::Certificate(format!(
        "the certificate of {host} is refused ({text}): {advice}"
    )))
}

/// What rustls says, and what helps.
const ADVICE: &[(&str, &str)] = &[
    (
        "UnsupportedCertVersion",
        "it is of X.509 version 1, and only version 3 is accepted: make the certificate anew with the extension \
         subjectAltName, which makes it one of version 3",
    ),
    (
        "CaUsedAsEndEntity",
        "it is the certificate of an authority (basicConstraints CA:TRUE) and stands for a server: have the server use a \
         certificate that this authority has signed, with CA:FALSE",
    ),
    (
        "UnknownIssuer",
        "nobody who is trusted has signed it: name its authority's certificate as sslrootcert",
    ),
    (
        "not valid for name",
        "it is another host's: use the name that stands in its subjectAltName (a common name does not count), or \
         sslmode=verify-ca",
    ),
    (
        "expired",
        "its time is over: have it renewed, or set this machine's clock right",
    ),
    (
        "not valid yet",
        "its time has not come: set the clock of this machine or of the authority right",
    ),
    (
        "BadEncoding",
        "it cannot be read as X.509 version 3: make the certificate anew",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_refused_is_told_of_with_what_to_do() {
        let sentence = |text: &str| {
            let error = sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, text.to_owned()));
            certificate_sentence("db:5432", &error).map(|error| error.to_string())
        };
        for (text, advice) in [
            (
                "invalid peer certificate: Other(OtherError(UnsupportedCertVersion))",
                "version 1",
            ),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "CA:FALSE",
            ),
            ("invalid peer certificate: UnknownIssuer", "sslrootcert"),
            (
                "invalid peer certificate: certificate not valid for name \"db\"",
                "subjectAltName",
            ),
            ("invalid peer certificate: certificate expired: …", "renewed"),
            (
                "invalid peer certificate: something new",
                "look at the server's certificate",
            ),
        ] {
            let sentence = sentence(text).unwrap();
            assert!(
                sentence.starts_with("the certificate of db:5432 is refused"),
                "{sentence}"
            );
            assert!(sentence.contains(advice), "{sentence}");
        }
        assert_eq!(sentence("connection reset"), None);
    }
}
