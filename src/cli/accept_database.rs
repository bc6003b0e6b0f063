//! `accept-database`: a database that has never known a cluster whose leases are held is not led from until a person says that it
//! is the one that is meant.

use super::{Error, cluster_of, open};
use crate::runtime::configuration::{DatabaseSettings, IdentitySettings};
use crate::store::cluster;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) database: DatabaseSettings,
    #[command(flatten)]
    identity: IdentitySettings,
}

pub(super) async fn accept(arguments: &Arguments) -> Result<(), Error> {
    let cluster = cluster_of(&arguments.identity).await?;
    let store = open(&arguments.database).await?;
    let news = cluster::accept(&store, &cluster).await?;
    let database_id = store.id();
    if news {
        tracing::info!(cluster, %database_id, "the database is accepted for the cluster");
    } else {
        tracing::info!(cluster, %database_id, "the database knew the cluster before");
    }
    Ok(())
}
