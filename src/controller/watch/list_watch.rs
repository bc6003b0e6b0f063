//! A watch: everything that happens to the objects of one kind, in one Namespace or in all.
//!
//! It is our own because `kube::runtime::Controller` never calls a reconciler for a deleted object, and because its watcher
//! hides bookmarks and the list's resourceVersion: without those a deletion can't be distinguished from a listing that is
//! incomplete, nor a quiet watch from a dead one.
//!
//! A watch lists in pages at one consistent resourceVersion, then watches from there with bookmarks, and lists again every
//! resync interval. Each object is decoded by itself, as it arrives, into a small struct; no whole object is kept.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, WatchParams};
use kube::core::request::Request;
use kube::core::{DynamicObject, Status};
use kube::discovery::Scope;
use kube::error::DiscoveryError;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::source::{self, Source};
use crate::cache::object::{DecodeError, NamespaceObject, Watched};
use crate::lifecycle::ResourceVersion;
use crate::runtime::client::cause;

mod pieces;
mod rhythm;
#[cfg(test)]
mod tests;

use rhythm::Rhythm;

/// How many objects one page of a list holds.
const PAGE: u32 = 500;

/// How much longer than its own timeout a watch may be silent before it counts as dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the API server may take to say where the objects of a kind are found.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

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
    let request = Request::new(url_path(client, source).await?);
    let (objects, mut version) = list(client, source, &request).await?;
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
        let watched = watch(client, source, &request, timeout, &mut version, sink).await;
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
    let request = Request::new(url_path(client, &itself).await.ok()?);
    let (namespaces, version) = list::<NamespaceObject>(client, &itself, &request).await.ok()?;
    if !namespaces.is_empty() {
        return None;
    }
    tracing::info!(kind = %source.kind.kind, namespace, "the namespace does not exist, and nothing of this kind in it");
    Some(version)
}

async fn url_path(client: &Client, source: &Source) -> Result<String, WatchError> {
    let resource = match &source.resource {
        Some(resource) => resource.clone(),
        None => {
            let discovery = kube::discovery::pinned_kind(client, &source.kind);
            let (resource, capabilities) = within(DISCOVERY_TIMEOUT, discovery).await?.map_err(refused)?;
            if capabilities.scope == Scope::Cluster {
                return Err(WatchError::ClusterScoped);
            }
            resource
        }
    };
    Ok(DynamicObject::url_path(&resource, source.namespace.as_deref()))
}

/// Reads all pages. The first is read at the newest version (unset: a quorum read), the others at the same one.
async fn list<T: Watched>(
    client: &Client,
    source: &Source,
    request: &Request,
) -> Result<(Vec<T>, ResourceVersion), WatchError> {
    #[derive(Deserialize)]
    struct Page {
        metadata: ListMeta,
    }

    let mut objects = Vec::new();
    let mut parameters = ListParams {
        field_selector: field_selector(source),
        ..ListParams::default()
    }
    .limit(PAGE);
    let mut version: Option<ResourceVersion> = None;
    loop {
        let request = request.list(&parameters).map_err(kube::Error::BuildRequest)?;
        let read = async {
            let answer = client.request_stream(request).await.map_err(refused)?;
            let around = pieces::items(answer, |item| {
                objects.push(T::read(&source.kind.group, &source.kind.kind, item)?);
                Ok::<_, DecodeError>(())
            });
            Ok::<_, WatchError>(serde_json::from_str::<Page>(&around.await?)?)
        };
        let page = within(LIST_TIMEOUT, read).await??;
        let page_version = page.metadata.resource_version.unwrap_or_default();
        let page_version = ResourceVersion::parse(&page_version).ok_or(DecodeError::ResourceVersion(page_version))?;
        if version.get_or_insert_with(|| page_version.clone()) != &page_version {
            return Err(WatchError::BrokenPages);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok((objects, page_version)),
        }
    }
}

/// One watch, from `version` on, which moves along with what is heard.
async fn watch<T: Watched>(
    client: &Client,
    source: &Source,
    request: &Request,
    timeout: Duration,
    version: &mut ResourceVersion,
    sink: &mut impl FnMut(WatchEvent<T>),
) -> Result<(), WatchError> {
    let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).clamp(1, 60);
    let parameters = WatchParams {
        field_selector: field_selector(source),
        ..WatchParams::default()
    }
    .timeout(seconds);
    let request = request
        .watch(&parameters, version.as_str())
        .map_err(kube::Error::BuildRequest)?;
    let silence = timeout + SILENCE;
    let answer = within(silence, client.request_stream(request))
        .await?
        .map_err(refused)?;
    let mut answer = std::pin::pin!(answer);
    sink(WatchEvent::Heard);
    let mut line = Vec::new();
    while within(silence, pieces::line(&mut answer, &mut line)).await?? {
        if line.is_empty() {
            continue;
        }
        let event = std::str::from_utf8(&line).map_err(|_| WatchError::Garbled)?;
        let event: WireEvent<'_> = serde_json::from_str(event)?;
        let object = || T::read(&source.kind.group, &source.kind.kind, event.object.get());
        let (heard, told) = match event.type_ {
            EventType::Added | EventType::Modified => {
                let object = object()?;
                (
                    Some(object.meta().resource_version.clone()),
                    WatchEvent::Applied(object),
                )
            }
            EventType::Deleted => {
                let object = object()?;
                (
                    Some(object.meta().resource_version.clone()),
                    WatchEvent::Deleted(object),
                )
            }
            EventType::Bookmark => {
                let bookmark: Bookmark = serde_json::from_str(event.object.get())?;
                (
                    ResourceVersion::parse(&bookmark.metadata.resource_version),
                    WatchEvent::Heard,
                )
            }
            EventType::Error => {
                let status: Status = serde_json::from_str(event.object.get())?;
                return Err(refused(kube::Error::Api(status.boxed())));
            }
        };
        if let Some(heard) = heard {
            *version = heard;
        }
        sink(told);
    }
    Ok(())
}

/// One line of a watch.
#[derive(Deserialize)]
struct WireEvent<'a> {
    #[serde(rename = "type")]
    type_: EventType,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventType {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// An object of which nothing is told but the version.
#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
}

fn field_selector(source: &Source) -> Option<String> {
    source.name.as_ref().map(|name| format!("metadata.name={name}"))
}

/// Tells the answers that ask for something else than another try. A list's 404 is its whole kind's.
fn refused(error: kube::Error) -> WatchError {
    match error {
        kube::Error::Api(status) if status.code == 410 => WatchError::Expired,
        kube::Error::Api(status) if status.code == 404 => WatchError::NotServed,
        kube::Error::Api(status) if status.code == 403 => WatchError::Forbidden(status.message),
        kube::Error::Discovery(DiscoveryError::MissingKind(_)) => WatchError::NotServed,
        error => WatchError::Api(error),
    }
}

async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T, WatchError> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| WatchError::Timeout(limit))
}
