//! `environment_operator.namespace`: which company a Namespace (by its uid) belongs to, decided once.

use uuid::Uuid;

/// Records a Namespace's company in the transaction that writes the Namespace's first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// `metadata.uid` of the Namespace.
    pub namespace_uid: Uuid,
    /// Name of the Namespace.
    pub namespace: String,
}
