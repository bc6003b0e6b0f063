//! The database's URL, which carries a password: no way of printing it shows one.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::store::address::AddressError;
use crate::store::{Address, StartError};

/// `DATABASE_URL`, read once. Reading never fails: an error of the command line would quote the value with its password; what
/// is wrong with a URL is said where the address is asked for.
#[derive(Clone)]
pub struct DatabaseUrl(Result<Address, AddressError>);

impl DatabaseUrl {
    /// Where the database is.
    ///
    /// # Errors
    /// `Refused` with a sentence on what is wrong with the URL; it quotes no secret.
    pub fn address(&self) -> Result<&Address, StartError> {
        self.0.as_ref().map_err(|error| error.clone().into())
    }
}

impl FromStr for DatabaseUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse()))
    }
}

impl fmt::Display for DatabaseUrl {
    /// Hosts, ports and database.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(address) => address.fmt(formatter),
            Err(_) => formatter.write_str("(unreadable URL)"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DatabaseUrl({self})")
    }
}
