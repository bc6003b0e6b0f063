//! Whether a held lease's row says what its object says, and what is told where it does not and will not. Pure.

use serde_json::Value;

use crate::api::{CompactObject, Reason, Timestamp};
use crate::cache::object::LeaseObject;
use crate::lifecycle::lease_status::Fault;
use crate::store::environment_leases::LeaseRow;
use crate::store::lease_object::{LeaseObjectRow, LeaseView};

/// Whether the row says what the spec says, as far as a spec may change and can be stored. Keys of others are no difference.
/// Of a spec that can't be read nothing is written: what stands in its place is nobody's wish.
pub fn in_step(lease: &LeaseObject, view: &LeaseView) -> bool {
    let (Some(row), Some(object)) = (&view.row, &view.object) else {
        return true;
    };
    lease.spec_fault.is_some() || object.generation >= lease.meta.generation && edits(lease, row).is_empty()
}

/// Why row and object do not agree where that is not mended: the spec cannot be stored as it is, or the row has been changed
/// in columns that are written once (or, in the others, since the spec was last written).
pub fn fault(lease: &LeaseObject, view: &LeaseView) -> Option<Fault> {
    let (row, object) = (view.row.as_ref()?, view.object.as_ref()?);
    if let Err(message) = lease.check() {
        return Some((Reason::InvalidSpec, message));
    }
    let mut columns = constants(lease, row, object);
    columns.extend(edits(lease, row));
    if columns.is_empty() {
        return None;
    }
    let message = format!(
        "the row in the database differs from this lease in {}, and is left as it is: end the lease and create another one, \
         or restore the row",
        columns.join(", ")
    );
    Some((Reason::ChangedInDatabase, message))
}

/// Whether the row is still the one that was granted: of the same company and environment. What another one says is not this
/// lease's to show.
pub fn is_granted_row(row: &LeaseRow, object: &LeaseObjectRow) -> bool {
    row.company_id == object.company_id && row.environment_id == object.environment_id
}

/// The columns that follow the spec and do not say what it says.
fn edits(lease: &LeaseObject, row: &LeaseRow) -> Vec<&'static str> {
    let ttl = jiff::SignedDuration::from_secs(lease.spec.ttl_seconds.into());
    let expires = row.acquired_at.saturating_add(ttl).ok();
    // What cannot be stored is not missed.
    let stored = lease.spec.metadata.as_ref().filter(|_| lease.check().is_ok());
    let metadata = stored.map(CompactObject::members).unwrap_or_default();
    let is_written =
        |(key, value): (&String, &Value)| row.metadata.as_ref().and_then(|metadata| metadata.get(key)) == Some(value);
    let mut columns = Vec::new();
    if row.expires_at.map(Timestamp::cut) != expires.map(Timestamp::cut) {
        columns.push("expires_at");
    }
    if !metadata.iter().all(is_written) {
        columns.push("metadata");
    }
    columns
}

/// The columns that are written at the grant and never again, and do not say any more what they said then. The run's is null
/// once the run's row is deleted; what a spec leaves out is others' to write.
fn constants(lease: &LeaseObject, row: &LeaseRow, object: &LeaseObjectRow) -> Vec<&'static str> {
    let spec = &lease.spec;
    let kept = [
        ("company_id", row.company_id == object.company_id),
        ("environment_id", row.environment_id == object.environment_id),
        (
            "heartbeat_run_id",
            row.heartbeat_run_id.is_none() || row.heartbeat_run_id == object.run_id,
        ),
        ("lease_policy", row.lease_policy == spec.policy),
        ("issue_id", spec.issue_id.is_none() || row.issue_id == spec.issue_id),
        (
            "execution_workspace_id",
            spec.execution_workspace_id.is_none() || row.execution_workspace_id == spec.execution_workspace_id,
        ),
    ];
    kept.into_iter()
        .filter(|(_, kept)| !kept)
        .map(|(column, _)| column)
        .collect()
}

#[cfg(test)]
mod tests;
