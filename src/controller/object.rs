//! The small structs that watched objects are decoded into at once: what decisions need, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::api::{COMPANY_LABEL, EnvironmentLeaseSpec, EnvironmentLeaseStatus, EnvironmentSpec, EnvironmentStatus};
use crate::lifecycle::run::{RunObjectStatus, end_of_object};
use crate::lifecycle::{ResourceVersion, RunEnd};

/// What every object has, and the operator looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Its Namespace; empty for a Namespace itself.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another one under the same name is another object.
    pub uid: Uuid,
    /// Its version.
    pub resource_version: ResourceVersion,
    /// Rises with every change of the spec.
    pub generation: i64,
    /// When it was made, in whole seconds.
    pub created_at: jiff::Timestamp,
    /// It carries a deletion timestamp.
    pub deleting: bool,
    /// The annotation whose every change is a heartbeat (of a lease).
    pub renew_time: Option<String>,
    /// The intent that a Local object says it was made for.
    pub local_intent: Option<Uuid>,
}

/// An object that a feed can carry.
pub trait Watched: Sized + Send + 'static {
    /// Decodes the object as the API server sends it. Group and kind are the feed's: items of a list of a built-in kind
    /// do not name theirs.
    fn decode(group: &str, kind: &str, object: Value) -> Result<Self, DecodeError>;

    /// Its identity and version.
    fn meta(&self) -> &Meta;
}

/// An object that the API server admitted and the operator can't read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A field has another type than its schema says.
    #[error("{0}")]
    Field(#[from] serde_json::Error),
    /// The resourceVersion is no positive number, so versions can't be compared (KEP-5504).
    #[error("resourceVersion {0:?} is not a positive decimal number")]
    ResourceVersion(String),
}

/// A Namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceObject {
    /// Identity and version.
    pub meta: Meta,
    /// The label that names the company, as it is written there.
    pub company_label: Option<String>,
}

/// An object of one of the two kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirrored<Spec, Status> {
    /// Identity and version.
    pub meta: Meta,
    /// What is asked for.
    pub spec: Spec,
    /// What is shown.
    pub status: Option<Status>,
}

/// An Environment.
pub type EnvironmentObject = Mirrored<EnvironmentSpec, EnvironmentStatus>;

/// An EnvironmentLease.
pub type LeaseObject = Mirrored<EnvironmentLeaseSpec, EnvironmentLeaseStatus>;

/// An object that is a run: a Job, a Pod, or one of a configured kind.
#[derive(Clone, Debug, PartialEq)]
pub struct RunObject {
    /// Identity and version.
    pub meta: Meta,
    /// How and when it ended, once it has.
    pub end: Option<RunEnd>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    #[serde(default)]
    namespace: String,
    name: String,
    uid: Uuid,
    resource_version: String,
    #[serde(default)]
    generation: i64,
    creation_timestamp: jiff::Timestamp,
    #[serde(default)]
    deletion_timestamp: Option<jiff::Timestamp>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: WireAnnotations,
}

/// The annotations that are looked at.
#[derive(Default, Deserialize)]
struct WireAnnotations {
    #[serde(default, rename = "paperclip.ing/renew-time")]
    renew_time: Option<String>,
    #[serde(default, rename = "paperclip.ing/local-intent")]
    local_intent: Option<String>,
}

#[derive(Deserialize)]
struct Wire<Spec, Status> {
    metadata: WireMeta,
    spec: Spec,
    #[serde(default = "Option::default")]
    status: Option<Status>,
}

#[derive(Deserialize)]
struct WireRun {
    metadata: WireMeta,
    #[serde(default)]
    status: Value,
}

#[derive(Deserialize)]
struct WireNamespace {
    metadata: WireMeta,
}

impl TryFrom<WireMeta> for Meta {
    type Error = DecodeError;

    fn try_from(wire: WireMeta) -> Result<Self, DecodeError> {
        let Some(resource_version) = ResourceVersion::parse(&wire.resource_version) else {
            return Err(DecodeError::ResourceVersion(wire.resource_version));
        };
        Ok(Self {
            namespace: wire.namespace,
            name: wire.name,
            uid: wire.uid,
            resource_version,
            generation: wire.generation,
            created_at: wire.creation_timestamp,
            deleting: wire.deletion_timestamp.is_some(),
            renew_time: wire.annotations.renew_time,
            local_intent: wire.annotations.local_intent.and_then(|nonce| nonce.parse().ok()),
        })
    }
}

impl Watched for NamespaceObject {
    fn decode(_: &str, _: &str, object: Value) -> Result<Self, DecodeError> {
        let mut wire: WireNamespace = serde_json::from_value(object)?;
        let company_label = wire.metadata.labels.remove(COMPANY_LABEL);
        Ok(Self {
            meta: wire.metadata.try_into()?,
            company_label,
        })
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl<Spec, Status> Watched for Mirrored<Spec, Status>
where
    Spec: DeserializeOwned + Send + 'static,
    Status: DeserializeOwned + Send + 'static,
{
    fn decode(_: &str, _: &str, object: Value) -> Result<Self, DecodeError> {
        let wire: Wire<_, _> = serde_json::from_value(object)?;
        Ok(Self {
            meta: wire.metadata.try_into()?,
            spec: wire.spec,
            status: wire.status,
        })
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Watched for RunObject {
    fn decode(group: &str, kind: &str, object: Value) -> Result<Self, DecodeError> {
        let wire: WireRun = serde_json::from_value(object)?;
        // A status of another shape than workflow engines share tells nothing: such a run is not over.
        let status: RunObjectStatus = serde_json::from_value(wire.status).unwrap_or_default();
        let end = end_of_object(group, kind, &status);
        Ok(Self {
            meta: wire.metadata.try_into()?,
            end,
        })
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}
