//! A URL, taken apart as libpq does it: several hosts with ports of their own, IPv6 literals, folders of Unix sockets.

use super::parameters::{self, Parameters};
use super::{AddressError, decoded};

/// What an unreadable URL is answered by.
pub(super) const FORM: &str = "write postgres://user:password@host:port/database (several hosts with commas between them), and in \
                    user and password %40 for @, %3A for :, %2F for /, %3F for ?, %23 for #, %25 for %";

/// A URL in its parts, decoded but for the parameters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub user: Option<String>,
    pub password: Option<String>,
    pub hosts: Vec<Place>,
    pub database: Option<String>,
    /// Key and value as they stand in the URL.
    pub parameters: Vec<(String, String)>,
}

/// Where one host listens; what is not said is libpq's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// A name, an address, or the folder of a Unix socket.
    pub host: Option<String>,
    pub port: Option<u16>,
}

/// Takes a URL apart. Space around it is what is left of an `echo`; inside of it nothing is passed over.
pub(super) fn split(text: &str) -> Result<Parts, AddressError> {
    let text = text.trim();
    let rest = without_scheme(text)?;
    if text.contains(|character: char| character.is_control() || character.is_whitespace()) {
        return Err(AddressError(
            "it holds a line break or a space: a Secret that was made by `echo` ends in one, so make it anew with `printf` \
             or `echo -n`; write %20 for a space that belongs there"
                .to_owned(),
        ));
    }
    let (credentials, rest) = credentials(rest);
    let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
        Some((user, password)) => (part(user, "the user")?, part(password, "the password")?),
        None => (None, None),
    };
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let (hosts, database) = path.split_once('/').unwrap_or((path, ""));
    // An @ or a / here is a password's, so nothing of it may be taken for a name, which would be printed.
    let parameters = parameters::pairs(query.unwrap_or_default()).ok_or_else(unreadable)?;
    let is_strange = |(key, value): &(String, String)| value.contains(['@', '/']) && !parameters::is_known(key);
    if database.contains(['/', '@']) || parameters.iter().any(is_strange) {
        return Err(unreadable());
    }
    Ok(Parts {
        user,
        password,
        hosts: hosts.split(',').map(place).collect::<Result<_, _>>()?,
        database: part(database, "the database")?,
        parameters,
    })
}

/// What follows the scheme; or what to write in the place of what is there.
fn without_scheme(text: &str) -> Result<&str, AddressError> {
    let rest = text
        .strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"));
    rest.ok_or_else(|| {
        let key = text.split('=').next().unwrap_or_default().trim_end();
        let why = if text.is_empty() {
            "it is empty"
        } else if text.contains('=') && parameters::is_known(key) {
            "libpq's form of keywords (host=… dbname=…) is not read, a URL is needed"
        } else {
            "it does not begin with postgres://"
        };
        AddressError(format!("{why}: {FORM}"))
    })
}

/// Parts user and password from what follows. A password may hold `@`, `?` and `&` if what follows can still be told.
fn credentials(rest: &str) -> (Option<&str>, &str) {
    let Some(first) = rest.find('@') else {
        return (None, rest);
    };
    let before = &rest[..first];
    let begins_parameters = |place: usize| {
        let key = before[place + 1..].split(['=', '&']).next().unwrap_or_default();
        parameters::is_known(key)
    };
    if before.contains('/') || before.find('?').is_some_and(begins_parameters) {
        return (None, rest);
    }
    let end = rest[first..].find(['/', '?']).map_or(rest.len(), |end| first + end);
    let last = rest[..end].rfind('@').unwrap_or(first);
    (Some(&rest[..last]), &rest[last + 1..])
}

/// Reads `host`, `host:port`, `[address]:port`, `:port` or nothing.
fn place(text: &str) -> Result<Place, AddressError> {
    let (host, port) = if let Some(literal) = text.strip_prefix('[') {
        let (address, port) = literal.split_once(']').ok_or_else(unreadable)?;
        address
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| AddressError("what stands in brackets is no IPv6 address".to_owned()))?;
        (
            address,
            port.strip_prefix(':')
                .or(port.is_empty().then_some(""))
                .ok_or_else(unreadable)?,
        )
    } else {
        text.split_once(':').unwrap_or((text, ""))
    };
    Ok(Place {
        host: part(host, "the host")?,
        port: self::port(port)?,
    })
}

fn port(text: &str) -> Result<Option<u16>, AddressError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(port) if port > 0 => Ok(Some(port)),
        _ => Err(AddressError(format!("a port is a number from 1 to 65535: {FORM}"))),
    }
}

/// The hosts: the parameters' where they name some, with their ports.
pub(super) fn places(mut places: Vec<Place>, parameters: &mut Parameters) -> Result<Vec<Place>, AddressError> {
    if let Some(hosts) = parameters.hosts.take() {
        let ports: Vec<Option<u16>> = places.iter().map(|place| place.port).collect();
        let hosts: Vec<&str> = hosts.split(',').collect();
        let port_of = |index: usize| {
            if ports.len() == 1 {
                ports[0]
            } else {
                ports.get(index).copied().flatten()
            }
        };
        places = (0..hosts.len())
            .map(|index| Place {
                host: (!hosts[index].is_empty()).then(|| unbracketed(hosts[index]).to_owned()),
                port: port_of(index),
            })
            .collect();
    }
    if let Some(text) = parameters.ports.take() {
        let ports = text.split(',').map(port).collect::<Result<Vec<_>, _>>()?;
        if ports.len() != 1 && ports.len() != places.len() {
            return Err(AddressError(format!(
                "it names {} hosts and {} ports: name one port for all, or one for each",
                places.len(),
                ports.len()
            )));
        }
        for (place, port) in places.iter_mut().zip(ports.iter().cycle()) {
            place.port = port.or(place.port);
        }
    }
    Ok(places)
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// A part that was left empty was not said.
fn part(text: &str, name: &str) -> Result<Option<String>, AddressError> {
    if text.is_empty() {
        return Ok(None);
    }
    decoded(text, name).map(Some)
}

fn unreadable() -> AddressError {
    AddressError(FORM.to_owned())
}
