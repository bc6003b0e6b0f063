//! `new-incarnation`: after an etcd restore resourceVersions run backwards, and the fences would refuse every object.

use clap::Args;

use super::{Error, cluster_of, open};
use crate::runtime::configuration::{DatabaseSettings, IdentitySettings};
use crate::store::cluster;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) database: DatabaseSettings,
    #[command(flatten)]
    identity: IdentitySettings,
}

pub(super) async fn raise(arguments: &Arguments) -> Result<(), Error> {
    let identity = &arguments.identity;
    let cluster = cluster_of(identity).await?;
    let store = open(&arguments.database).await?;
    let incarnation = cluster::raise_incarnation(&store, &cluster).await?;
    tracing::info!(
        cluster,
        incarnation,
        "a new incarnation has begun: restart the operator"
    );
    Ok(())
}
