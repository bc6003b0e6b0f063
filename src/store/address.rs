//! The database's address: a URL as libpq reads it, of one host or several.
//!
//! It is read here, not by the driver, which knows one host only, takes no IPv6 literal, and writes parameters that it does
//! not know into the log, values included. What the driver gets is one host and nothing but parameters that it knows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

mod parameters;
mod parts;

use parameters::Parameters;
use parts::Place;

/// Longest wait for one host until a session there is ready; a `connect_timeout` in the URL shortens it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The same where there are other hosts to try.
const CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(2);

/// The same where there are other hosts and a `connect_timeout`: two of them fit into the longest wait for a session.
const LONGEST_CONNECT_TIMEOUT_OF_SEVERAL: Duration = Duration::from_secs(4);

/// Why a URL cannot be used: a sentence that quotes nothing of it that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DATABASE_URL cannot be used: {0}")]
pub struct AddressError(String);

/// Where the database is, and how to get in; no way of printing it shows a credential. Cheap to clone: clones share the
/// memory of which host has answered last.
#[derive(Clone)]
pub struct Address {
    hosts: Arc<[Host]>,
    /// The first host to be tried: the one that has answered last, or one after it that was not tried in full.
    last: Arc<AtomicUsize>,
    connect_timeout: Duration,
    ignored: Vec<String>,
}

/// One host of an address.
#[derive(Clone)]
pub(super) struct Host {
    /// Host and port, or the folder of a Unix socket.
    pub name: String,
    /// What the driver needs to know.
    pub options: PgConnectOptions,
    /// The files that the driver reads: the parameter, or the variable of libpq, and the path.
    pub files: Vec<(&'static str, String)>,
}

impl Address {
    /// The hosts in the order in which to try them: in turn, from the one that has answered last.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (usize, &Host)> {
        let first = self.last.load(Ordering::Relaxed);
        (first..self.hosts.len())
            .chain(0..first)
            .filter_map(|index| Some((index, self.hosts.get(index)?)))
    }

    /// The host of this number has answered.
    pub(super) fn answered(&self, index: usize) {
        self.last.store(index, Ordering::Relaxed);
    }

    /// A round over the hosts that began with `first` was given up at the host `at`. The next round begins where this one has
    /// stood, and behind it where that was the first, which had all the time there was. So each host is tried in full once,
    /// however soon rounds are given up. What other rounds have found out meanwhile stays.
    pub(super) fn given_up(&self, first: usize, at: usize) {
        let next = if at == first { (at + 1) % self.hosts.len() } else { at };
        let _other_found_one = self
            .last
            .compare_exchange(first, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How long one host may take until a session there is ready.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Parameters of the URL that have no effect: their names where those are no secret, else their places.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parts = parts::split(text)?;
        let mut parameters = Parameters::read(&parts.parameters)?;
        let user = parameters.user.take().filter(|user| !user.is_empty()).or(parts.user);
        refuse_no_user(user.as_deref())?;
        let password = parameters.password.take().or(parts.password);
        refuse_line_break(password.as_deref())?;
        let places = parts::places(parts.hosts, &mut parameters)?;
        let database = parameters.database.take().or(parts.database);
        let several = places.len() > 1;
        let hosts = places.iter().map(|place| {
            let options = options(
                place,
                user.as_deref(),
                password.as_deref(),
                database.as_deref(),
                &parameters,
            )?;
            let name = name_of(place, &options);
            let files = files(&parameters);
            Ok(Host { name, options, files })
        });
        let wanted = parameters.connect_timeout;
        let connect_timeout = if several {
            wanted.map_or(CONNECT_TIMEOUT_OF_SEVERAL, |wanted| {
                wanted.min(LONGEST_CONNECT_TIMEOUT_OF_SEVERAL)
            })
        } else {
            wanted.unwrap_or(CONNECT_TIMEOUT)
        };
        Ok(Self {
            hosts: hosts.collect::<Result<_, AddressError>>()?,
            last: Arc::default(),
            connect_timeout,
            ignored: parameters.ignored,
        })
    }
}

impl fmt::Display for Address {
    /// Hosts with their ports, and the database.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
        let database = self.hosts.first().and_then(|host| host.options.get_database());
        write!(formatter, "{}/{}", names.join(","), database.unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self})")
    }
}

/// What the driver is told of one host: a URL that holds nothing but parameters that it knows, each of them escaped. So it
/// also looks at libpq's environment and at `.pgpass`.
fn options(
    place: &Place,
    user: Option<&str>,
    password: Option<&str>,
    database: Option<&str>,
    parameters: &Parameters,
) -> Result<PgConnectOptions, AddressError> {
    let port = place.port.map(|port| port.to_string());
    let known = [
        ("host", place.host.as_deref()),
        ("port", port.as_deref()),
        ("user", user),
        ("password", password),
        ("dbname", database),
    ];
    let mut pairs: Vec<(&str, &str)> = known
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    pairs.extend(
        parameters
            .for_driver
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str())),
    );
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
        .collect();
    // The error's own text may quote a value.
    let mut options: PgConnectOptions = format!("postgres:///?{}", pairs.join("&")).parse().map_err(|_| {
        AddressError("one of its parameters has a value that is not among the possible ones".to_owned())
    })?;
    if parameters.application_name.is_none() {
        options = options.application_name("environment-operator");
    }
    if password.is_none() {
        refuse_line_break(std::env::var("PGPASSWORD").ok().as_deref())?;
    }
    trust(options, parameters)
}

/// `sslrootcert=system`: the system's authorities, which the driver trusts anyway; nothing less than a full check then.
fn trust(mut options: PgConnectOptions, parameters: &Parameters) -> Result<PgConnectOptions, AddressError> {
    let named = parameters.root_certificate.clone();
    if named.or_else(|| std::env::var("PGSSLROOTCERT").ok()).as_deref() != Some("system") {
        return Ok(options);
    }
    options = options.ssl_root_cert_from_pem(Vec::new());
    let is_said = parameters.ssl_mode.is_some() || std::env::var_os("PGSSLMODE").is_some();
    if is_said && !matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) {
        return Err(AddressError(
            "sslrootcert=system trusts all of the system's authorities, so only sslmode=verify-full is safe with it"
                .to_owned(),
        ));
    }
    Ok(options.ssl_mode(PgSslMode::VerifyFull))
}

/// The files of certificates and keys: what the URL names goes before libpq's variables.
fn files(parameters: &Parameters) -> Vec<(&'static str, String)> {
    let of = |(parameter, variable): &(&'static str, &'static str)| {
        let named = parameters.for_driver.iter().rev().find(|(key, _)| key == parameter);
        match named {
            Some((_, path)) => Some((*parameter, path.clone())),
            None => Some((*variable, std::env::var(variable).ok()?)),
        }
    };
    let known = [
        ("sslrootcert", "PGSSLROOTCERT"),
        ("sslcert", "PGSSLCERT"),
        ("sslkey", "PGSSLKEY"),
    ];
    known
        .iter()
        .filter_map(of)
        .filter(|(_, path)| path != "system")
        .collect()
}

/// libpq takes the name of the system's user where none is named; in a container there is none, and the driver would take a
/// name that nobody has given.
fn refuse_no_user(user: Option<&str>) -> Result<(), AddressError> {
    if user.is_some() || std::env::var_os("PGUSER").is_some_and(|name| !name.is_empty()) {
        return Ok(());
    }
    Err(AddressError(format!(
        "it names no user, and PGUSER is not set: {}",
        parts::FORM
    )))
}

fn name_of(place: &Place, options: &PgConnectOptions) -> String {
    match place.host.as_deref() {
        Some(folder) if folder.starts_with('/') => folder.to_owned(),
        Some(address) if address.contains(':') => format!("[{address}]:{}", options.get_port()),
        _ => format!("{}:{}", options.get_host(), options.get_port()),
    }
}

/// A password never ends in a line break, but a Secret that was made by `echo` does.
fn refuse_line_break(password: Option<&str>) -> Result<(), AddressError> {
    if password.is_some_and(|password| password.ends_with(['\n', '\r'])) {
        return Err(AddressError(
            "the password ends in a line break: make its Secret anew, with `printf` or `echo -n` in the place of `echo`"
                .to_owned(),
        ));
    }
    Ok(())
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The text that a part of a URL stands for.
fn decoded(part: &str, name: &str) -> Result<String, AddressError> {
    let text = percent_decode_str(part)
        .decode_utf8()
        .map_err(|_| AddressError(format!("{name} is no UTF-8 once its percent signs are decoded")))?;
    if text.contains('\0') {
        return Err(AddressError(format!("{name} holds %00, which no part may hold")));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests;
