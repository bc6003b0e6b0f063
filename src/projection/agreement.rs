//! Whether a held lease's row says what its object says, and what the status shows where it does not and will not. Pure.

use serde_json::Value;

use crate::api::{CompactObject, Reason, Timestamp};
use crate::cache::object::LeaseObject;
use crate::lifecycle::lease_status::{Fault, shown_fault};
use crate::store::environment_leases::LeaseRow;
use crate::store::lease_object::{LeaseObjectRow, LeaseSnapshot};

/// Whether the row says what the spec says, as far as a spec may change and can be stored. Keys of others are no difference.
/// Of a spec that can't be read nothing is written: what stands in its place is nobody's wish.
pub fn in_step(lease: &LeaseObject, view: &LeaseSnapshot) -> bool {
    let (Some(row), Some(object)) = (&view.row, &view.object) else {
        return true;
    };
    lease.spec_fault.is_some() || object.generation >= lease.meta.generation && edits(lease, row).is_empty()
}

/// Why row and object do not agree where that is not mended: the spec cannot be stored as it is, or the row has been changed
/// in columns that are written once (or, in the others, since the spec was last written).
pub fn fault(lease: &LeaseObject, view: &LeaseSnapshot) -> Option<Fault> {
    let (row, object) = (view.row.as_ref()?, view.object.as_ref()?);
    if let Err(message) = lease.check() {
        return Some((Reason::InvalidSpec, message));
    }
    let mut kept = constants(lease, row, object);
    kept.extend(
        granted_at(lease, row)
            .filter(|at| *at != Timestamp::cut(row.acquired_at))
            .map(|_| "acquired_at"),
    );
    differs(&kept, &edits(lease, row))
}

/// What the object and the row of a lease that has ended do not agree about. Nothing of it is mended any more, so only what the
/// spec says counts: when it was granted, and until when, is past. An edit may have come with what has ended the lease.
pub fn fault_at_end(lease: &LeaseObject, view: &LeaseSnapshot) -> Option<Fault> {
    let (row, object) = (view.row.as_ref()?, view.object.as_ref()?);
    if let Err(message) = lease.check() {
        return Some((Reason::InvalidSpec, message));
    }
    if metadata_is_written(lease, row) {
        return differs(&constants(lease, row, object), &[]);
    }
    // The database may refuse what looks sound: what it has answered stands already.
    let shown = lease.status.as_ref().and_then(shown_fault);
    if let Some(refused) = shown.filter(|(reason, _)| *reason == Reason::InvalidSpec) {
        return Some(refused);
    }
    let why = if object.generation < lease.meta.generation {
        "the lease had ended before the last edit of spec.metadata could be written to its row"
    } else {
        "the row in the database differs from this lease in metadata, and is left as it is: the lease has ended"
    };
    Some((Reason::ChangedInDatabase, why.to_owned()))
}

/// Whether an edit of `spec.metadata` has still to be written before the lease ends: afterwards nothing is. Whatever else an edit
/// says is past with the end.
pub fn has_unwritten_metadata(lease: &LeaseObject, view: &LeaseSnapshot) -> bool {
    let (Some(row), Some(object)) = (&view.row, &view.object) else {
        return false;
    };
    let removed = |key: &String| !lease.spec.metadata.as_ref().is_some_and(|metadata| metadata.has(key));
    object.generation < lease.meta.generation
        && lease.check().is_ok()
        && (!metadata_is_written(lease, row) || object.metadata_keys.iter().any(removed))
}

/// Names the columns that differ, and for each what mends it.
fn differs(kept: &[&str], edits: &[&str]) -> Option<Fault> {
    if kept.is_empty() && edits.is_empty() {
        return None;
    }
    let restore = |what: &str| {
        format!("nothing is written to {what} again: restore the row, or end the lease and create another one")
    };
    let edit = |what: &str| format!("the next edit of the spec writes {what}");
    let (kept, edits) = (kept.join(", "), edits.join(", "));
    let (columns, mend) = match (kept.is_empty(), edits.is_empty()) {
        (false, true) => (kept.clone(), restore("it")),
        (true, _) => (edits.clone(), edit("it again")),
        (false, false) => (
            format!("{kept}, {edits}"),
            format!("{}; {}", restore(&kept), edit(&edits)),
        ),
    };
    let message = format!("the row in the database differs from this lease in {columns}: {mend}");
    Some((Reason::ChangedInDatabase, message))
}

/// Whether the row is still the one that was granted: of the same company and environment. What another one says is not this
/// lease's to show.
pub fn is_granted_row(row: &LeaseRow, object: &LeaseObjectRow) -> bool {
    row.company_id == object.company_id && row.environment_id == object.environment_id
}

/// Whether the time of the row has passed, by the database's clock. Where an edit of the spec that is still to be written gives it
/// a longer one, that one counts.
pub fn expired(view: &LeaseSnapshot, object: Option<&LeaseObject>) -> bool {
    let (Some(row), written) = (&view.row, view.object.as_ref().map(|object| object.generation)) else {
        return false;
    };
    let is_newer = |lease: &&LeaseObject| written.is_some_and(|written| written < lease.meta.generation);
    let edited = object.filter(is_newer).filter(|lease| lease.spec_fault.is_none());
    let asked = edited.and_then(|lease| {
        let ttl = jiff::SignedDuration::from_secs(lease.spec.ttl_seconds.into());
        row.acquired_at.saturating_add(ttl).ok()
    });
    row.expires_at
        .is_some_and(|at| asked.map_or(at, |asked| asked.max(at)) <= view.now)
}

/// The columns that follow the spec and do not say what it says.
fn edits(lease: &LeaseObject, row: &LeaseRow) -> Vec<&'static str> {
    let ttl = jiff::SignedDuration::from_secs(lease.spec.ttl_seconds.into());
    let after = |from: jiff::Timestamp| from.saturating_add(ttl).ok().map(Timestamp::cut);
    let expires = row.expires_at.map(Timestamp::cut);
    // An edit counts from what the row says, and another writer may have changed that alone since.
    let granted_at = granted_at(lease, row).map(Timestamp::get);
    let is_due = [Some(row.acquired_at), granted_at]
        .into_iter()
        .flatten()
        .any(|from| after(from) == expires);
    let mut columns = Vec::new();
    if !is_due {
        columns.push("expires_at");
    }
    // What cannot be stored is not missed.
    if lease.check().is_ok() && !metadata_is_written(lease, row) {
        columns.push("metadata");
    }
    columns
}

/// Whether each key of `spec.metadata` stands in the row.
fn metadata_is_written(lease: &LeaseObject, row: &LeaseRow) -> bool {
    let metadata = lease
        .spec
        .metadata
        .as_ref()
        .map(CompactObject::members)
        .unwrap_or_default();
    let is_written =
        |(key, value): (&String, &Value)| row.metadata.as_ref().and_then(|metadata| metadata.get(key)) == Some(value);
    metadata.iter().all(is_written)
}

/// When the lease was granted, as its object shows since then.
fn granted_at(lease: &LeaseObject, row: &LeaseRow) -> Option<Timestamp> {
    let status = lease.status.as_ref().filter(|status| status.lease_id == Some(row.id))?;
    status.acquired_at
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
