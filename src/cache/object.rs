//! The small structs that watched objects are decoded into at once: what decisions need, and nothing else.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::api::{
    self, COMPANY_LABEL, EnvironmentLeaseSpec, EnvironmentLeaseStatus, EnvironmentSpec, EnvironmentStatus, LeasePhase,
    Part, salvage,
};
use crate::lifecycle::run::{RunObjectStatus, end_of_object};
use crate::lifecycle::{ResourceVersion, RunEnd};

/// The most bytes of the annotation for heartbeats that are kept as they are.
const RENEW_TIME_BYTES: usize = 64;

/// What every object has, and the operator looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// Its Namespace; empty for a Namespace itself.
    pub namespace: String,
    pub name: String,
    /// Its uid: another one under the same name is another object.
    pub uid: Uuid,
    pub resource_version: ResourceVersion,
    /// Rises with every change of the spec.
    pub generation: i64,
    /// When it was made, in whole seconds.
    pub created_at: jiff::Timestamp,
    /// It carries a deletion timestamp.
    pub deleting: bool,
    /// The annotation whose every change is a heartbeat (of a lease); of a long one a digest.
    pub renew_time: Option<String>,
    /// The intent that a Local object says it was made for.
    pub local_intent: Option<Uuid>,
}

/// An object that a watch can carry.
pub trait Watched: Sized + Send + 'static {
    /// Reads the object as the API server sends it. Group and kind are the watch's: items of a list of a built-in kind do
    /// not name theirs.
    ///
    /// Of what its user or another version of the operator has written, nothing makes it fail: what can't be read is told by
    /// [`Watched::unreadable`]. Nothing of the text is kept beyond what is decided upon.
    ///
    /// # Errors
    /// What the API server itself writes (uid, name, resourceVersion) can't be read: then nothing can be said of the object,
    /// and a list that holds it is not complete.
    fn read(group: &str, kind: &str, object: &str) -> Result<Self, DecodeError>;

    /// Its identity and version.
    fn meta(&self) -> &Meta;

    /// The parts of which something could not be read.
    fn unreadable(&self) -> impl Iterator<Item = &'static str> {
        std::iter::empty()
    }

    /// Reads an object that a test has made.
    #[cfg(test)]
    fn decode(group: &str, kind: &str, object: serde_json::Value) -> Result<Self, DecodeError> {
        Self::read(group, kind, &object.to_string())
    }
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
    /// Not even the stand-ins of its fields make a spec: they do not fit this version's own type.
    #[error("its spec can't be read")]
    Spec,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceObject {
    pub meta: Meta,
    /// The label that names the company, as it is written there.
    pub company_label: Option<String>,
}

/// An object of one of the two kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirrored<Spec, Status> {
    pub meta: Meta,
    /// What is asked for. What can't be read of it stands with its default.
    pub spec: Spec,
    /// Why the spec can't be read, or not all of it: then no more may be made of the object than there is.
    pub spec_fault: Option<String>,
    /// What is shown, as far as it can be read.
    pub status: Option<Status>,
    /// Something that is shown can't be read: the status is to be written anew as a whole, unless it shows an end.
    pub status_unreadable: bool,
}

impl<Spec: PartialEq, Status: PartialEq> Mirrored<Spec, Status> {
    /// Whether nothing has changed between two states that a decision could depend on.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        self.spec == other.spec
            && self.spec_fault == other.spec_fault
            && self.status == other.status
            && self.status_unreadable == other.status_unreadable
    }
}

impl EnvironmentObject {
    /// Whether the spec can be read and stored. Nothing is written to the database from one that can't.
    ///
    /// # Errors
    /// The sentence that says what to change, for the reason `InvalidSpec`.
    pub fn check(&self) -> Result<(), String> {
        self.spec_fault.clone().map_or_else(|| api::validate(&self.spec), Err)
    }
}

impl LeaseObject {
    /// Whether the spec can be read and stored. Nothing is written to the database from one that can't.
    ///
    /// # Errors
    /// The sentence that says what to change, for the reason `InvalidSpec`.
    pub fn check(&self) -> Result<(), String> {
        self.spec_fault
            .clone()
            .map_or_else(|| api::validate_lease(&self.spec), Err)
    }
}

pub type EnvironmentObject = Mirrored<EnvironmentSpec, EnvironmentStatus>;

pub type LeaseObject = Mirrored<EnvironmentLeaseSpec, EnvironmentLeaseStatus>;

impl LeaseObject {
    /// Whether the object shows that it holds a lease. A status that was copied from another object names that one's lease: such
    /// an object is a claim.
    pub fn shows_own_grant(&self) -> bool {
        let shows = |status: &EnvironmentLeaseStatus| {
            let held = match status.phase {
                Some(phase) => matches!(
                    phase,
                    LeasePhase::Active | LeasePhase::Retained | LeasePhase::PendingCleanup
                ),
                None => self.status_unreadable && status.acquired_at.is_some(), // a phase that is not known shows no end
            };
            status.lease_id == Some(self.meta.uid) && held
        };
        self.status.as_ref().is_some_and(shows)
    }

    /// Whether the object shows that it waits, or nothing yet; one whose phase is not known is no claim if it shows a grant.
    pub fn shows_that_it_waits(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase);
        matches!(phase, None | Some(LeasePhase::Pending)) && !self.shows_own_grant()
    }
}

/// An object that is a run: a Job, a Pod, or one of a configured kind.
#[derive(Clone, Debug, PartialEq)]
pub struct RunObject {
    pub meta: Meta,
    /// How and when it ended, once it has.
    pub end: Option<RunEnd>,
}

/// No more of it than is looked at: labels, annotations and the account of the fields' owners may be of any size.
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
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    labels: Option<WireLabels>,
    #[serde(default)]
    annotations: Option<WireAnnotations>,
}

/// The label that is looked at.
#[derive(Default, Deserialize)]
struct WireLabels {
    #[serde(default, rename = "paperclip.ing/company-id")]
    company: Option<String>,
}

/// The annotations that are looked at.
#[derive(Default, Deserialize)]
struct WireAnnotations {
    #[serde(default, rename = "paperclip.ing/renew-time")]
    renew_time: Option<String>,
    #[serde(default, rename = "paperclip.ing/local-intent")]
    local_intent: Option<String>,
}

/// An object, its parts as texts that are not kept.
#[derive(Deserialize)]
struct Wire<'a> {
    metadata: WireMeta,
    #[serde(default, borrow)]
    spec: Option<&'a RawValue>,
    #[serde(default, borrow)]
    status: Option<&'a RawValue>,
}

impl WireMeta {
    fn company_label(&mut self) -> Option<String> {
        self.labels.take()?.company
    }
}

/// A heartbeat is any change of the annotation, so of a long text a digest does as well.
fn renew_time(text: String) -> String {
    if text.len() <= RENEW_TIME_BYTES {
        return text;
    }
    let mut digest = DefaultHasher::new();
    text.hash(&mut digest);
    format!("{} bytes, {:016x}", text.len(), digest.finish())
}

impl TryFrom<WireMeta> for Meta {
    type Error = DecodeError;

    fn try_from(wire: WireMeta) -> Result<Self, DecodeError> {
        let Some(resource_version) = ResourceVersion::parse(&wire.resource_version) else {
            return Err(DecodeError::ResourceVersion(wire.resource_version));
        };
        let annotations = wire.annotations.unwrap_or_default();
        Ok(Self {
            namespace: wire.namespace,
            name: wire.name,
            uid: wire.uid,
            resource_version,
            generation: wire.generation,
            created_at: wire.creation_timestamp,
            deleting: wire.deletion_timestamp.is_some(),
            renew_time: annotations.renew_time.map(renew_time),
            local_intent: annotations.local_intent.and_then(|nonce| nonce.parse().ok()),
        })
    }
}

impl NamespaceObject {
    /// The company that a Namespace names: by its label, else by its uid. However the uuid is written, it is the same company.
    ///
    /// # Errors
    /// A sentence about a label that is no company's id: it is never passed over. The nil uuid and the one of all ones are
    /// placeholders; taken for ids they would make one company of all Namespaces that were labelled with them.
    pub fn company(&self) -> Result<Uuid, String> {
        let Some(label) = &self.company_label else {
            return Ok(self.meta.uid);
        };
        let fault = match label.parse::<Uuid>() {
            Ok(id) if !id.is_nil() && !id.is_max() => return Ok(id),
            Ok(_) => "which is a placeholder and no company's id",
            Err(_) => "which is no uuid",
        };
        Err(format!(
            "label {COMPANY_LABEL} of namespace {} is \"{label}\", {fault}: write the company's id or remove it",
            self.meta.name
        ))
    }

    /// What decides about the company: another Namespace under the same name, or another label, and it is decided afresh.
    pub fn decides_company(&self) -> (Uuid, Option<&str>) {
        (self.meta.uid, self.company_label.as_deref())
    }
}

impl Watched for NamespaceObject {
    fn read(_: &str, _: &str, object: &str) -> Result<Self, DecodeError> {
        let mut wire: Wire<'_> = serde_json::from_str(object)?;
        Ok(Self {
            company_label: wire.metadata.company_label(),
            meta: wire.metadata.try_into()?,
        })
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl<Spec, Status> Watched for Mirrored<Spec, Status>
where
    Spec: Part + Send + 'static,
    Status: Part + Send + 'static,
{
    fn read(_: &str, _: &str, object: &str) -> Result<Self, DecodeError> {
        let wire: Wire<'_> = serde_json::from_str(object)?;
        let spec = salvage::<Spec>(wire.spec.map_or("{}", RawValue::get));
        let status = salvage::<Status>(wire.status.map_or("null", RawValue::get));
        Ok(Self {
            meta: wire.metadata.try_into()?,
            spec: spec.value.ok_or(DecodeError::Spec)?,
            spec_fault: spec.fault,
            status: status.value,
            status_unreadable: status.fault.is_some(),
        })
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn unreadable(&self) -> impl Iterator<Item = &'static str> {
        let spec = self.spec_fault.is_some().then_some(Spec::NAME);
        spec.into_iter().chain(self.status_unreadable.then_some(Status::NAME))
    }
}

impl Watched for RunObject {
    fn read(group: &str, kind: &str, object: &str) -> Result<Self, DecodeError> {
        let wire: Wire<'_> = serde_json::from_str(object)?;
        let status = wire.status.map(|status| RunObjectStatus::read(status.get()));
        let end = end_of_object(group, kind, &status.unwrap_or_default());
        Ok(Self {
            meta: wire.metadata.try_into()?,
            end,
        })
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

#[cfg(test)]
mod tests;
