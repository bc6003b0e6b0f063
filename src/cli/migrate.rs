//! `migrate`: the database's tables, without running anything; for those who migrate in a step of their own.

use super::Error;
use crate::runtime::configuration::DatabaseSettings;
use crate::store::{StartError, migrate, run_trigger};

pub(super) async fn migrate(settings: &DatabaseSettings) -> Result<(), Error> {
    let applied = prepare(settings).await?;
    tracing::info!(database = %settings.database_url, applied, "the database is up to date");
    Ok(())
}

/// Brings the database up to what these settings need, and says how many migrations that took.
pub(super) async fn prepare(settings: &DatabaseSettings) -> Result<usize, StartError> {
    let address = settings.database_url.address()?;
    let applied = migrate::migrate(address, settings.mode).await?;
    if settings.run_trigger {
        run_trigger::ensure(address).await?;
    }
    Ok(applied)
}
