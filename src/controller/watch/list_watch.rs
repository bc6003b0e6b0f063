//! A watch: everything that happens to the objects of one kind, in one Namespace or in all.
//!
//! It is our own because `kube::runtime::Controller` never calls a reconciler for a deleted object, and because its watcher
//! hides bookmarks and the list's resourceVersion: without those a deletion can't be distinguished from a listing that is
//! incomplete, nor a quiet watch from a dead one.
//!
//! A watch lists in pages at one consistent resourceVersion, then watches from there with bookmarks, and lists again every
//! resync interval. Each object is decoded by itself, as it arrives, into a small struct; no whole object is kept.

use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use super::source::{self, Source};
use crate::cache::object::{DecodeError, NamespaceObject, Watched};
use crate::lifecycle::ResourceVersion;
use crate::runtime::client::cause;

mod endpoint;
mod pieces;
mod rhythm;
#[cfg(test)]
mod tests;

use endpoint::Endpoint;
use rhythm::Rhythm;

/// What a watch hands on.
#[derive(Debug)]
pub enum WatchEvent<T> {
    /// An object was made or has changed.
    Applied(T),
    /// An object was deleted; this is its last state.
    Deleted(T),
    /// The complete set of objects at one resourceVersion: what is not in it did not exist then.
    Listed {
        objects: Vec<T>,
        /// The version of the list.
        resource_version: ResourceVersion,
    },
    /// A sign of life: a bookmark, or a watch that was opened.
    Heard,
    /// The list or the watch broke off, and is tried again.
    Broken(WatchError),
}

/// Intervals of a watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchSettings {
    /// How long one watch lasts before it is opened anew (at most a minute, so that a dead connection is noticed).
    pub watch_timeout: Duration,
    /// How long until everything is listed again.
    pub resync_interval: Duration,
}

/// Why a list or a watch broke off. It is tried again, with a longer and longer pause.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The API server refused or did not answer.
    #[error("{}", cause(.0))]
    Api(#[from] kube::Error),
    /// The API server answered too late.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Read(#[source] std::io::Error),
    /// The answer is not what a list or a watch gives.
    #[error("the answer is no list and no event: {0}")]
    Shape(#[from] serde_json::Error),
    /// The answer is no text.
    #[error("the answer is no text")]
    Garbled,
    /// An object is larger than any that an API server stores.
    #[error("an object is larger than any that an API server stores")]
    TooLarge,
    /// What the API server itself writes of an object can't be read, so the list would not be complete.
    #[error("an object can't be read: {0}")]
    Decode(#[from] DecodeError),
    /// Pages of one list speak of different moments.
    #[error("the pages of the list are of different resourceVersions")]
    BrokenPages,
    /// The API server does not let the operator do this.
    #[error("{0}")]
    Forbidden(String),
    /// The version to watch from is too old: a new list is needed.
    #[error("the resourceVersion has expired")]
    Expired,
    /// The API server has no such kind (any more): its CRD is missing, or serves another version. That says nothing of the
    /// objects.
    #[error("the API server does not serve this kind")]
    NotServed,
    /// The objects of this kind are in no Namespace.
    #[error("the objects of this kind are in no namespace, and a run is an object in its lease's own")]
    ClusterScoped,
}

/// Follows the source for ever; every event goes to `sink`, in order.
pub async fn follow<T: Watched>(
    client: &Client,
    source: &Source,
    settings: WatchSettings,
    mut sink: impl FnMut(WatchEvent<T>),
) {
    let mut rhythm = Rhythm::default();
    loop {
        if let Err(error) = list_and_watch(client, source, settings, &mut rhythm, &mut sink).await {
            let pause = rhythm.after_failure(&error);
            if let Some(resource_version) = gone_with_its_namespace(client, source, &error).await {
                let objects = Vec::new();
                sink(WatchEvent::Listed {
                    objects,
                    resource_version,
                });
            } else {
                // A kind that is not served may be none of the operator's business: who takes the event knows.
                if !matches!(error, WatchError::NotServed) {
                    tracing::warn!(kind = %source.kind.kind, namespace = source.namespace, %error, "watch broke off, listing again");
                }
                sink(WatchEvent::Broken(error));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// One list, and watches from it until the next list is due.
async fn list_and_watch<T: Watched>(
    client: &Client,
    source: &Source,
    settings: WatchSettings,
    rhythm: &mut Rhythm,
    sink: &mut impl FnMut(WatchEvent<T>),
) -> Result<(), WatchError> {
    let endpoint = Endpoint::find(client, source).await?;
    let (objects, mut version) = endpoint.list().await?;
    sink(WatchEvent::Listed {
        objects,
        resource_version: version.clone(),
    });
    let next_list = Instant::now() + settings.resync_interval;
    loop {
        let opened = Instant::now();
        let left = next_list.saturating_duration_since(opened);
        if left.is_zero() {
            return Ok(());
        }
        let timeout = settings.watch_timeout.min(left);
        let watched = endpoint.watch(timeout, &mut version, sink).await;
        let pause = match watched {
            Ok(()) => rhythm.after_watch(opened.elapsed()),
            Err(error) => {
                rhythm.note_watch(opened.elapsed());
                // With the kind its resource may change, so it is asked for anew; with a Namespace its permissions may have gone.
                if matches!(
                    error,
                    WatchError::Expired | WatchError::NotServed | WatchError::Forbidden(_)
                ) {
                    return Err(error);
                }
                tracing::debug!(kind = %source.kind.kind, %error, "watch broke off");
                let pause = rhythm.after_failure(&error);
                sink(WatchEvent::Broken(error));
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The version at which the source's Namespace did not exist, and with it nothing that the source could hold. Asked where
/// listing is forbidden: the right to it is a Role in that Namespace, and has gone with it.
async fn gone_with_its_namespace(client: &Client, source: &Source, error: &WatchError) -> Option<ResourceVersion> {
    let forbidden = matches!(error, WatchError::Forbidden(_));
    let namespace = source.namespace.as_deref().filter(|_| forbidden)?;
    let itself = source::namespaces(Some(namespace));
    let endpoint = Endpoint::find(client, &itself).await.ok()?;
    let (namespaces, version) = endpoint.list::<NamespaceObject>().await.ok()?;
    if !namespaces.is_empty() {
        return None;
    }
    tracing::info!(kind = %source.kind.kind, namespace, "the namespace does not exist, and nothing of this kind in it");
    Some(version)
}
