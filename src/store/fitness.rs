//! Whether a database is one that this version may work on: its encoding, mode and generation, its tables, and whether
//! all rows are shown to this role.
//!
//! Every start and every subcommand checks it, and a replica that leads or wants to lead checks it again before each term and renewal:
//! what does not fit pauses all work as a database does that cannot be reached, until it fits.

use uuid::Uuid;

use super::catalog::{Found, unfit};
use super::references::References;
use super::session::Session;
use super::{Mode, StoreError, migrate};

/// A database that fits, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// Its own id; a restored backup has the same.
    pub(super) id: Uuid,
    /// Which of the tables exist that need not.
    pub(super) references: References,
    /// Stands for all columns of all tables: another one means that statements were prepared for tables that are no more.
    pub(super) shape: String,
}

/// Looks at everything.
///
/// # Errors
/// `Unfit` with one sentence that says what to do.
pub(super) async fn examine(connection: &mut Session, mode: Mode) -> Result<Fit, StoreError> {
    let found = Found::read(connection).await?;
    found.check_encoding()?;
    found.check_mode(connection, mode).await?;
    if migrate::pending(connection, &found, mode).await? > 0 {
        return unfit(
            "the database has not been migrated to this version: run `environment-operator migrate` as a database role that may \
             create tables"
                .to_owned(),
        );
    }
    found.check_tables()?;
    let id: Option<Uuid> = sqlx::query_scalar("SELECT id FROM environment_operator.database")
        .persistent(false)
        .fetch_optional(connection)
        .await?;
    let Some(id) = id else {
        return unfit(
            "the row of environment_operator.database is gone: insert one with INSERT INTO environment_operator.database \
             DEFAULT VALUES"
                .to_owned(),
        );
    };
    Ok(Fit {
        id,
        references: References::new(found.issues, found.execution_workspaces),
        shape: found.shape.unwrap_or_default(),
    })
}
