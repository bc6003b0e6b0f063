//! The database's URL, which carries a password: no way of printing it shows one.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// `DATABASE_URL`. Reading never fails: an error of the command line would quote the value with its password; what is
/// wrong with a URL is said at the connection.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL as it was given, password included: for the connection alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Display for DatabaseUrl {
    /// Host, port and database as the driver understands them. Cutting the text itself would leak: a password may hold
    /// `@` and `?`, and may stand among the parameters.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<PgConnectOptions>() {
            Ok(options) => {
                let database = options.get_database().unwrap_or_default();
                write!(formatter, "{}:{}/{database}", options.get_host(), options.get_port())
            }
            Err(_) => formatter.write_str("(unreadable URL)"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DatabaseUrl({self})")
    }
}
