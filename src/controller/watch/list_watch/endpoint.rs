//! Where the API server gives the objects of a source: their list, and watches from it.

use std::pin::pin;
use std::time::Duration;

use futures::AsyncBufRead;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, WatchParams};
use kube::core::request::Request;
use kube::core::{DynamicObject, Status};
use kube::discovery::Scope;
use kube::error::DiscoveryError;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{WatchError, WatchEvent, pieces};
use crate::cache::object::{DecodeError, Watched};
use crate::controller::watch::source::Source;
use crate::lifecycle::ResourceVersion;

/// How many objects one page of a list holds.
const PAGE: u32 = 500;

/// How much longer than its own timeout a watch may be silent before it counts as dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the API server may take to say where the objects of a kind are found.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the objects of a source are found.
pub(super) struct Endpoint<'a> {
    client: &'a Client,
    source: &'a Source,
    request: Request,
}

impl<'a> Endpoint<'a> {
    /// Asks the API server where that is, unless it is known beforehand.
    pub(super) async fn find(client: &'a Client, source: &'a Source) -> Result<Self, WatchError> {
        let request = Request::new(url_path(client, source).await?);
        Ok(Self {
            client,
            source,
            request,
        })
    }

    /// Reads all pages. The first is read at the newest version (unset: a quorum read), the others at the same one.
    pub(super) async fn list<T: Watched>(&self) -> Result<(Vec<T>, ResourceVersion), WatchError> {
        let mut objects = Vec::new();
        let mut parameters = ListParams {
            field_selector: self.field_selector(),
            ..ListParams::default()
        }
        .limit(PAGE);
        let mut version: Option<ResourceVersion> = None;
        loop {
            let request = self.request.list(&parameters).map_err(kube::Error::BuildRequest)?;
            let read = async {
                let answer = self.client.request_stream(request).await.map_err(refused)?;
                let around = pieces::items(answer, |item| {
                    objects.push(self.read(item)?);
                    Ok::<_, DecodeError>(())
                });
                Ok::<_, WatchError>(serde_json::from_str::<Page>(&around.await?)?)
            };
            let page = within(LIST_TIMEOUT, read).await??;
            let page_version = page.metadata.resource_version.unwrap_or_default();
            let page_version =
                ResourceVersion::parse(&page_version).ok_or(DecodeError::ResourceVersion(page_version))?;
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
    pub(super) async fn watch<T: Watched>(
        &self,
        timeout: Duration,
        version: &mut ResourceVersion,
        sink: &mut impl FnMut(WatchEvent<T>),
    ) -> Result<(), WatchError> {
        let silence = timeout + SILENCE;
        let answer = within(silence, self.open_watch(timeout, version)).await??;
        let mut answer = pin!(answer);
        sink(WatchEvent::Heard);
        let mut line = Vec::new();
        while within(silence, pieces::line(&mut answer, &mut line)).await?? {
            if line.is_empty() {
                continue;
            }
            let (heard, event) = self.read_event(&line)?;
            if let Some(heard) = heard {
                *version = heard;
            }
            sink(event);
        }
        Ok(())
    }

    async fn open_watch(
        &self,
        timeout: Duration,
        version: &ResourceVersion,
    ) -> Result<impl AsyncBufRead + use<>, WatchError> {
        let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).clamp(1, 60);
        let parameters = WatchParams {
            field_selector: self.field_selector(),
            ..WatchParams::default()
        }
        .timeout(seconds);
        let request = self.request.watch(&parameters, version.as_str());
        let request = request.map_err(kube::Error::BuildRequest)?;
        self.client.request_stream(request).await.map_err(refused)
    }

    /// One line of a watch: the version that it is of, and what it says.
    fn read_event<T: Watched>(&self, line: &[u8]) -> Result<(Option<ResourceVersion>, WatchEvent<T>), WatchError> {
        let line = std::str::from_utf8(line).map_err(|_| WatchError::Garbled)?;
        let event: WireEvent<'_> = serde_json::from_str(line)?;
        let object = || {
            let object: T = self.read(event.object.get())?;
            Ok::<_, WatchError>((Some(object.meta().resource_version.clone()), object))
        };
        match event.type_ {
            EventType::Added | EventType::Modified => {
                object().map(|(version, object)| (version, WatchEvent::Applied(object)))
            }
            EventType::Deleted => object().map(|(version, object)| (version, WatchEvent::Deleted(object))),
            EventType::Bookmark => {
                let bookmark: Bookmark = serde_json::from_str(event.object.get())?;
                let version = ResourceVersion::parse(&bookmark.metadata.resource_version);
                Ok((version, WatchEvent::Heard))
            }
            EventType::Error => {
                let status: Status = serde_json::from_str(event.object.get())?;
                Err(refused(kube::Error::Api(status.boxed())))
            }
        }
    }

    /// An object as it is remembered.
    fn read<T: Watched>(&self, object: &str) -> Result<T, DecodeError> {
        T::read(&self.source.kind.group, &self.source.kind.kind, object)
    }

    fn field_selector(&self) -> Option<String> {
        self.source.name.as_ref().map(|name| format!("metadata.name={name}"))
    }
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

/// What a page of a list says besides its objects.
#[derive(Deserialize)]
struct Page {
    metadata: ListMeta,
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
