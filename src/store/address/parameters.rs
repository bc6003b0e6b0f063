//! The parameters of a URL: which of them the driver may see, which are read here, and which have no effect.

use std::time::Duration;

use super::{AddressError, decoded};

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// The driver takes it under this name.
    Driver(&'static str),
    /// It is read here.
    Here,
    /// libpq, or another client, knows it; here it has no effect.
    None,
}

/// Longest `connect_timeout`: a session has to be there well before a term of leadership is over.
const LONGEST_CONNECT_TIMEOUT: u64 = 10;

/// All parameters whose names are known, so that none of these names is a secret.
const KNOWN: &[(&str, Use)] = &[
    ("user", Use::Here),
    ("password", Use::Here),
    ("host", Use::Here),
    ("hostaddr", Use::Here),
    ("port", Use::Here),
    ("dbname", Use::Here),
    ("connect_timeout", Use::Here),
    ("target_session_attrs", Use::Here),
    ("application_name", Use::Here),
    ("sslmode", Use::Here),
    ("ssl-mode", Use::Here),
    ("sslrootcert", Use::Here),
    ("ssl-root-cert", Use::Here),
    ("ssl-ca", Use::Here),
    ("sslcert", Use::Driver("sslcert")),
    ("ssl-cert", Use::Driver("sslcert")),
    ("sslkey", Use::Driver("sslkey")),
    ("ssl-key", Use::Driver("sslkey")),
    ("options", Use::Driver("options")),
    ("statement-cache-capacity", Use::Here),
    ("channel_binding", Use::None),
    ("client_encoding", Use::None),
    ("fallback_application_name", Use::None),
    ("gssdelegation", Use::None),
    ("gssencmode", Use::None),
    ("gsslib", Use::None),
    ("keepalives", Use::None),
    ("keepalives_count", Use::None),
    ("keepalives_idle", Use::None),
    ("keepalives_interval", Use::None),
    ("krbsrvname", Use::None),
    ("load_balance_hosts", Use::None),
    ("max_protocol_version", Use::None),
    ("min_protocol_version", Use::None),
    ("passfile", Use::None),
    ("replication", Use::None),
    ("require_auth", Use::None),
    ("requirepeer", Use::None),
    ("require_peer", Use::None),
    ("requiressl", Use::None),
    ("service", Use::None),
    ("ssl", Use::None),
    ("ssl_max_protocol_version", Use::None),
    ("ssl_min_protocol_version", Use::None),
    ("sslcertmode", Use::None),
    ("sslcompression", Use::None),
    ("sslcrl", Use::None),
    ("sslcrldir", Use::None),
    ("sslkeylogfile", Use::None),
    ("sslnegotiation", Use::None),
    ("sslpassword", Use::None),
    ("sslsni", Use::None),
    ("tcp_user_timeout", Use::None),
    // Of other clients, which share such a URL.
    ("connection_limit", Use::None),
    ("currentschema", Use::None),
    ("pgbouncer", Use::None),
    ("pool_max_conns", Use::None),
    ("pool_timeout", Use::None),
    ("schema", Use::None),
    ("search_path", Use::None),
    ("sslaccept", Use::None),
];

/// What the parameters say.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    pub user: Option<String>,
    pub password: Option<String>,
    pub hosts: Option<String>,
    pub ports: Option<String>,
    pub database: Option<String>,
    pub connect_timeout: Option<Duration>,
    pub application_name: Option<String>,
    pub ssl_mode: Option<String>,
    pub root_certificate: Option<String>,
    /// Name, as the driver spells it, and value.
    pub for_driver: Vec<(String, String)>,
    pub ignored: Vec<String>,
}

/// Whether a parameter has this name; compared as people write it.
pub(super) fn is_known(key: &str) -> bool {
    use_of(&key.to_ascii_lowercase()).is_some()
}

fn use_of(key: &str) -> Option<Use> {
    if key.starts_with("options[") && key.ends_with(']') {
        return Some(Use::Driver(""));
    }
    KNOWN.iter().find(|(known, _)| *known == key).map(|(_, used)| *used)
}

/// The pairs of a query as they stand; `None`: one of them is no pair, which may be a piece of a password.
pub(super) fn pairs(query: &str) -> Option<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=')?;
            (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

impl Parameters {
    /// Reads pairs. What is not known by its exact name has no effect and is only remembered.
    pub fn read(pairs: &[(String, String)]) -> Result<Self, AddressError> {
        let mut read = Self::default();
        for (index, (raw_key, raw_value)) in pairs.iter().enumerate() {
            let key = decoded(raw_key, "a parameter's name")?;
            match use_of(&key) {
                Some(Use::None) => read.ignored.push(key),
                None => {
                    // Before it may stand a password with an & in it, of which this would be a piece.
                    let may_be_secret = pairs[..index].iter().any(|(key, _)| is_secret(key)) || !looks_like_name(&key);
                    read.ignored.push(match use_of(&key.to_ascii_lowercase()) {
                        Some(_) => format!("{key} (its name is written in small letters)"),
                        None if may_be_secret => format!("the parameter at place {}", index + 1),
                        None => key,
                    });
                }
                Some(used) => read.take(used, &key, decoded(raw_value, &key)?)?,
            }
        }
        Ok(read)
    }

    fn take(&mut self, used: Use, key: &str, value: String) -> Result<(), AddressError> {
        if let Use::Driver(name) = used {
            let name = if name.is_empty() { key } else { name };
            self.for_driver.push((name.to_owned(), value));
            return Ok(());
        }
        match key {
            "user" => self.user = Some(value),
            "password" => self.password = Some(value),
            "host" if self.hosts.is_none() => self.hosts = Some(value),
            "host" => {} // an address is named, and that is where to
            "hostaddr" => self.hosts = Some(value),
            "port" => self.ports = Some(value),
            "dbname" => self.database = Some(value),
            "connect_timeout" => self.connect_timeout = seconds(&value)?,
            "target_session_attrs" => check_target(&value)?,
            "application_name" => {
                self.for_driver.push((key.to_owned(), value.clone()));
                self.application_name = Some(value);
            }
            "sslmode" | "ssl-mode" => {
                check_ssl_mode(&value)?;
                self.for_driver.push(("sslmode".to_owned(), value.clone()));
                self.ssl_mode = Some(value);
            }
            "statement-cache-capacity" => {
                let number: Result<usize, _> = value.parse();
                number.map_err(|_| AddressError("statement-cache-capacity is a number".to_owned()))?;
                self.for_driver.push((key.to_owned(), value));
            }
            _ => {
                if value != "system" {
                    self.for_driver.push(("sslrootcert".to_owned(), value.clone()));
                }
                self.root_certificate = Some(value);
            }
        }
        Ok(())
    }
}

/// libpq's `connect_timeout`, where 0 and less mean for ever; for ever is never meant here.
fn seconds(value: &str) -> Result<Option<Duration>, AddressError> {
    let seconds: i64 = value
        .parse()
        .map_err(|_| AddressError("connect_timeout is a number of seconds".to_owned()))?;
    let wanted = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    Ok(Some(Duration::from_secs(
        wanted.unwrap_or(LONGEST_CONNECT_TIMEOUT).min(LONGEST_CONNECT_TIMEOUT),
    )))
}

/// The operator writes: of several hosts it takes one that can be written to, whatever else is asked for.
fn check_target(value: &str) -> Result<(), AddressError> {
    match value {
        "any" | "read-write" | "primary" => Ok(()),
        "read-only" | "standby" | "prefer-standby" => Err(AddressError(
            "target_session_attrs asks for a server that is only read, and the operator writes: use read-write"
                .to_owned(),
        )),
        _ => Err(AddressError(
            "target_session_attrs is any, read-write or primary".to_owned(),
        )),
    }
}

fn check_ssl_mode(value: &str) -> Result<(), AddressError> {
    match value {
        "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full" => Ok(()),
        _ => Err(AddressError(
            "sslmode is disable, allow, prefer, require, verify-ca or verify-full".to_owned(),
        )),
    }
}

fn is_secret(key: &str) -> bool {
    key.to_ascii_lowercase().contains("pass")
}

/// Whether a key looks like the name of a parameter rather than like a piece of a password.
fn looks_like_name(key: &str) -> bool {
    key.len() <= 32 && key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
}
