//! The wall clock: the one place where it is read. What is decided upon is the database's clock; this process's only dates
//! Events and conditions that are written while the database cannot be asked.

/// The present by the clock of this process's host, which may be wrong.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place where the wall clock is read"
)]
pub(crate) fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
