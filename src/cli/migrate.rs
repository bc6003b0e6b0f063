//! `migrate`: the database's tables, without running anything; for those who migrate in a step of their own.

use super::Error;
use crate::runtime::configuration::DatabaseSettings;
use crate::store::migrate;

pub(super) async fn migrate(settings: &DatabaseSettings) -> Result<(), Error> {
    let applied = migrate::migrate(settings.database_url.expose(), settings.mode).await?;
    tracing::info!(database = %settings.database_url, applied, "the database is up to date");
    Ok(())
}
