//! Session connections that are safe to lead from.

use sqlx::PgPool;

/// Who owns the origin's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The operator makes and migrates them.
    Standalone,
    /// The origin's server does; the operator alters none.
    Attached,
}

/// The database, connected, migrated and known.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) mode: Mode,
}

impl Store {
    /// Who owns the origin's tables.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The pool, for reads of the caller's own.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}
