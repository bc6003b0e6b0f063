//! The database: rows by id, and a clock that goes with the test's.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use uuid::Uuid;

use super::{EPOCH, lock};
use crate::controller::outside::database::Database;
use crate::lifecycle::{EnvironmentState, LeaseState};
use crate::store::StoreError;
use crate::store::environment_leases::{
    End, EndOutcome, ForeignEnd, Grant, GrantOutcome, LeaseRow, LeaseSync, SyncOutcome, Touch,
};
use crate::store::environment_object::{EnvironmentLook, EnvironmentObjectRow, EnvironmentView};
use crate::store::environments::{ArchiveOutcome, EnvironmentOutcome, EnvironmentRow, EnvironmentSync};
use crate::store::lease_object::{Capacity, EnvironmentChoice, LeaseLook, LeaseObjectRow, LeaseView, RunLook};
use crate::store::local_intent::{LocalAnswer, LocalIntent, LocalNeed};

/// The database; clones are the same one.
#[derive(Clone)]
pub struct FakeDatabase {
    state: Arc<Mutex<State>>,
    begun: Instant,
}

#[derive(Default)]
struct State {
    environments: HashMap<Uuid, (EnvironmentRow, EnvironmentObjectRow)>,
    leases: HashMap<Uuid, (LeaseRow, LeaseObjectRow)>,
    away: bool,
    /// Looks at these panic.
    panicking: BTreeSet<Uuid>,
    /// Grants of these find a row locked.
    busy: BTreeSet<Uuid>,
    looks: usize,
}

impl Default for FakeDatabase {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            begun: Instant::now(),
        }
    }
}

impl FakeDatabase {
    /// The time, which is the cluster's too.
    pub fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(EPOCH).unwrap() + self.begun.elapsed()
    }

    /// Whether it can be reached.
    pub fn set_away(&self, away: bool) {
        lock(&self.state).away = away;
    }

    /// From here on every look at this lease panics, or none does any more.
    pub fn set_panicking(&self, lease: Uuid, panics: bool) {
        let panicking = &mut lock(&self.state).panicking;
        if panics {
            panicking.insert(lease);
        } else {
            panicking.remove(&lease);
        }
    }

    /// From here on a row that this claim needs is locked.
    pub fn set_busy(&self, lease: Uuid) {
        lock(&self.state).busy.insert(lease);
    }

    /// How many looks at leases there were.
    pub fn looks(&self) -> usize {
        lock(&self.state).looks
    }

    /// How many rows are active.
    pub fn active(&self) -> usize {
        let state = lock(&self.state);
        let active = |(row, _): &&(LeaseRow, LeaseObjectRow)| row.status == LeaseState::Active;
        state.leases.values().filter(active).count()
    }

    fn reach(&self) -> Result<(), StoreError> {
        if lock(&self.state).away {
            let error = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            return Err(StoreError::Unavailable(Arc::new(error)));
        }
        Ok(())
    }
}

impl State {
    fn active_of(&self, environment: Uuid) -> i64 {
        let held = |(row, _): &&(LeaseRow, LeaseObjectRow)| {
            row.environment_id == environment && row.status == LeaseState::Active
        };
        i64::try_from(self.leases.values().filter(held).count()).unwrap()
    }
}

impl Database for FakeDatabase {
    async fn look_lease(&self, look: LeaseLook) -> Result<LeaseView, StoreError> {
        self.reach()?;
        let mut state = lock(&self.state);
        state.looks += 1;
        if state.panicking.contains(&look.id) {
            drop(state);
            panic!("as the test says");
        }
        let lease = state.leases.get(&look.id).cloned();
        let chosen = match (&lease, look.environment) {
            (Some((row, _)), _) => Some(row.environment_id),
            (None, EnvironmentChoice::Object(id)) => Some(id),
            (None, EnvironmentChoice::Local | EnvironmentChoice::Default) => None,
        };
        let environment = chosen.and_then(|id| state.environments.get(&id)).cloned();
        let capacity = environment.as_ref().filter(|_| lease.is_none());
        let capacity = capacity.and_then(|(row, object)| {
            Some(Capacity {
                limit: object.max_active_leases?.into(),
                active: state.active_of(row.id),
                holders: Vec::new(),
            })
        });
        let deleted = environment
            .as_ref()
            .is_some_and(|(_, object)| object.deleted_at.is_some());
        let (row, object) = lease.unzip();
        Ok(LeaseView {
            id: look.id,
            now: self.now(),
            leading: true,
            recorded_company: look.company_id,
            company_exists: true,
            row,
            object,
            run: RunLook::None,
            environment: environment.map(|(row, _)| row),
            environment_deleted: deleted,
            local_object: None,
            agent_missing: false,
            issue_missing: false,
            execution_workspace_missing: false,
            capacity,
        })
    }

    async fn look_environment(&self, look: EnvironmentLook) -> Result<EnvironmentView, StoreError> {
        self.reach()?;
        let state = lock(&self.state);
        let (row, object) = state.environments.get(&look.id).cloned().unzip();
        Ok(EnvironmentView {
            id: look.id,
            now: self.now(),
            leading: true,
            recorded_company: look.company_id,
            company_exists: true,
            object,
            row,
            active_leases: state.active_of(look.id),
            canonical: None,
        })
    }

    async fn grant(&self, grant: Grant) -> Result<GrantOutcome, StoreError> {
        self.reach()?;
        let mut state = lock(&self.state);
        if state.busy.contains(&grant.id) {
            return Ok(GrantOutcome::Busy);
        }
        if state.leases.contains_key(&grant.id) {
            return Ok(GrantOutcome::AlreadySo);
        }
        let limit = state.environments[&grant.environment_id].1.max_active_leases;
        let active = state.active_of(grant.environment_id);
        if limit.is_some_and(|limit| active >= i64::from(limit)) {
            return Ok(GrantOutcome::Full);
        }
        let (row, object) = rows_of(&grant, self.now(), i64::try_from(state.leases.len()).unwrap());
        state.leases.insert(grant.id, (row.clone(), object));
        Ok(GrantOutcome::Granted {
            row: Box::new(row),
            fencing_token: 1,
            context: grant.context,
            free: limit.map(|limit| i64::from(limit) - active - 1),
        })
    }

    async fn sync_lease(&self, _sync: LeaseSync) -> Result<SyncOutcome, StoreError> {
        self.reach()?;
        Ok(SyncOutcome::AlreadySo)
    }

    async fn touch_lease(&self, _touch: Touch) -> Result<(), StoreError> {
        self.reach()
    }

    async fn end(&self, end: End) -> Result<EndOutcome, StoreError> {
        self.reach()?;
        let now = self.now();
        let mut state = lock(&self.state);
        let Some((row, object)) = state.leases.get_mut(&end.id) else {
            return Ok(EndOutcome::RowMissing);
        };
        row.status = end.ending.state;
        (row.last_used_at, row.released_at) = (now, Some(now));
        object.ended_status = Some(end.ending.state);
        object.reason = Some(end.ending.reason);
        object.message = Some(end.ending.message);
        object.ended_at = Some(now);
        Ok(EndOutcome::Ended(Box::new(row.clone())))
    }

    async fn record_foreign_end(&self, _end: ForeignEnd) -> Result<(), StoreError> {
        self.reach()
    }

    async fn sync_environment(&self, sync: EnvironmentSync) -> Result<EnvironmentOutcome, StoreError> {
        self.reach()?;
        let (row, object) = environment_rows_of(&sync, self.now());
        lock(&self.state).environments.insert(sync.id, (row.clone(), object));
        Ok(EnvironmentOutcome::Inserted(row))
    }

    async fn archive_environment(&self, id: Uuid) -> Result<ArchiveOutcome, StoreError> {
        self.reach()?;
        let now = self.now();
        let mut state = lock(&self.state);
        let Some((row, object)) = state.environments.get_mut(&id) else {
            return Ok(ArchiveOutcome::Unknown);
        };
        row.status = EnvironmentState::Archived;
        object.deleted_at = Some(now);
        Ok(ArchiveOutcome::Archived)
    }

    async fn intend_local(&self, need: LocalNeed) -> Result<LocalAnswer, StoreError> {
        self.reach()?;
        Ok(LocalAnswer::Make(LocalIntent {
            nonce: need.company_id,
            namespace: need.namespace,
            namespace_uid: need.namespace_uid,
        }))
    }

    async fn abandon_local(&self, _nonce: Uuid) -> Result<(), StoreError> {
        self.reach()
    }

    async fn other_locals(&self, _id: Uuid) -> Result<Vec<Uuid>, StoreError> {
        Ok(Vec::new())
    }

    async fn is_spare_local(&self, _id: Uuid) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn mark_gone(&self, id: Uuid) -> Result<(), StoreError> {
        self.reach()?;
        lock(&self.state).leases.remove(&id); // retention in haste
        Ok(())
    }
}

fn rows_of(grant: &Grant, now: jiff::Timestamp, token: i64) -> (LeaseRow, LeaseObjectRow) {
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

fn environment_rows_of(sync: &EnvironmentSync, now: jiff::Timestamp) -> (EnvironmentRow, EnvironmentObjectRow) {
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
