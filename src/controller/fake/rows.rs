//! Rows as the real statements would write them.

use crate::lifecycle::{EnvironmentState, LeaseState};
use crate::store::environment_leases::{Grant, LeaseRow};
use crate::store::environment_object::EnvironmentObjectRow;
use crate::store::environments::{EnvironmentRow, EnvironmentSync};
use crate::store::lease_object::LeaseObjectRow;

/// Of a lease that is granted.
pub(super) fn rows_of(grant: &Grant, now: jiff::Timestamp, token: i64) -> (LeaseRow, LeaseObjectRow) {
    let row = LeaseRow {
        id: grant.id,
        company_id: grant.company_id,
        environment_id: grant.environment_id,
        execution_workspace_id: None,
        issue_id: None,
        heartbeat_run_id: grant.run_id,
        status: LeaseState::Active,
        lease_policy: grant.policy,
        provider: grant.provider.clone(),
        provider_lease_id: grant.provider_lease_id.clone(),
        acquired_at: now,
        last_used_at: now,
        expires_at: now
            .checked_add(jiff::SignedDuration::from_secs(grant.ttl_seconds.into()))
            .ok(),
        released_at: None,
        failure_reason: None,
        cleanup_status: None,
        metadata: None,
        created_at: now,
        updated_at: now,
    };
    let run = grant.run_object.as_ref();
    let object = LeaseObjectRow {
        id: grant.id,
        company_id: grant.company_id,
        environment_id: grant.environment_id,
        cluster: "cluster".to_owned(),
        installation: "default".to_owned(),
        incarnation: 1,
        namespace: grant.version.namespace.clone(),
        name: grant.version.name.clone(),
        rv: grant.version.resource_version.as_str().to_owned(),
        generation: grant.version.generation,
        run_id: grant.run_id,
        run_api_version: run.map(|run| run.api_version.clone()),
        run_kind: run.map(|run| run.kind.clone()),
        run_name: run.map(|run| run.name.clone()),
        run_uid: run.and_then(|run| run.uid.clone()),
        fencing_token: token,
        context: grant.context.clone(),
        metadata_keys: Vec::new(),
        ttl_seconds_after_finished: grant.ttl_seconds_after_finished,
        ended_status: None,
        reason: None,
        message: None,
        ended_at: None,
        deleted_at: None,
    };
    (row, object)
}

/// Of an Environment that is written for the first time.
pub(super) fn environment_rows_of(
    sync: &EnvironmentSync,
    now: jiff::Timestamp,
) -> (EnvironmentRow, EnvironmentObjectRow) {
    let row = EnvironmentRow {
        id: sync.id,
        company_id: sync.company_id,
        name: sync.name.clone().unwrap_or_default(),
        description: sync.description.clone(),
        driver: sync.driver,
        status: sync.status.unwrap_or(EnvironmentState::Active),
        config: sync.config.clone(),
        metadata: sync.metadata.clone().map(serde_json::Value::Object),
        created_at: now,
        updated_at: now,
    };
    let object = EnvironmentObjectRow {
        id: sync.id,
        environment_id: sync.id,
        company_id: sync.company_id,
        cluster: "cluster".to_owned(),
        installation: "default".to_owned(),
        incarnation: 1,
        namespace: sync.version.namespace.clone(),
        name: sync.version.name.clone(),
        rv: sync.version.resource_version.as_str().to_owned(),
        generation: sync.version.generation,
        driver: sync.driver,
        max_active_leases: sync.max_active_leases,
        operator_made: false,
        created_at: sync.created_at,
        deleted_at: None,
    };
    (row, object)
}
