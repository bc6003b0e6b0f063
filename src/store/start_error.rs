//! What keeps the operator, or one of its subcommands, from starting on a database.

use super::StoreError;
use super::address::AddressError;
use super::connection::ConnectError;

/// Why the operator does not start on a database.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be read: no other try with the same settings fares better.
    #[error("{0}")]
    Setting(String),
    /// The database, its server or the way to it does not fit; one sentence says what to do, and then it goes on.
    #[error("{0}")]
    Refused(String),
    /// The database failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unfit(sentence) | StoreError::Suspect(sentence) => Self::Refused(sentence),
            error => Self::Store(error),
        }
    }
}

impl From<sqlx::Error> for StartError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}

impl From<AddressError> for StartError {
    fn from(error: AddressError) -> Self {
        Self::Setting(error.to_string())
    }
}

impl From<ConnectError> for StartError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(sentence) => Self::Refused(sentence),
            error => sqlx::Error::from(error).into(),
        }
    }
}
