//! The database: rows by id, and a clock that goes with the test's.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::rows::{environment_rows_of, rows_of};
use super::{EPOCH, lock};
use crate::controller::outside::database::{Ask, Database};
use crate::lifecycle::{EnvironmentState, LeaseState};
use crate::store::environment_leases::{
    End, EndOutcome, ExternalEnding, Grant, GrantOutcome, LeaseRow, LeaseSync, SyncOutcome, Touch,
};
use crate::store::environment_object::{EnvironmentObjectRow, EnvironmentQuery, EnvironmentSnapshot};
use crate::store::environments::{Archive, ArchiveOutcome, EnvironmentOutcome, EnvironmentRow, EnvironmentSync};
use crate::store::lease_object::{
    Capacity, EnvironmentChoice, GrantProof, Holder, LeaseObjectRow, LeaseQuery, LeaseSnapshot, MarkGone, RunLook,
    WasGranted,
};
use crate::store::local::{IsSpareLocal, OtherLocals};
use crate::store::local_intent::{AbandonLocal, LocalAnswer, LocalIntent, LocalNeed};
use crate::store::{Request, StoreError};

/// What it says where it refuses one thing alone.
pub const REFUSED: &str = "the database refuses it: as the test says";

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
    /// The rows of these environments cannot be read.
    unreadable: BTreeSet<Uuid>,
    /// Grants of these find a row locked.
    busy: BTreeSet<Uuid>,
    /// Looks at these are refused.
    refusing: BTreeSet<Uuid>,
    /// Intents of a Local are refused.
    without_locals: bool,
    /// Not even their keys can be looked at.
    hidden: BTreeSet<Uuid>,
    /// So many grants more find no room.
    full: usize,
    looks: usize,
}

/// Puts a lease in or takes it out.
fn set(set: &mut BTreeSet<Uuid>, lease: Uuid, holds: bool) {
    set.retain(|one| *one != lease);
    set.extend(holds.then_some(lease));
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
        set(&mut lock(&self.state).panicking, lease, panics);
    }

    /// From here on a row that this claim needs is locked.
    pub fn set_busy(&self, lease: Uuid) {
        lock(&self.state).busy.insert(lease);
    }

    /// From here on every look at this lease is refused, or none is any more.
    pub fn set_refusing(&self, lease: Uuid, refuses: bool) {
        set(&mut lock(&self.state).refusing, lease, refuses);
    }

    /// From here on nothing can be asked of this lease, or everything can again.
    pub fn set_hidden(&self, lease: Uuid, hides: bool) {
        self.set_refusing(lease, hides);
        set(&mut lock(&self.state).hidden, lease, hides);
    }

    /// From here on no Local can be intended.
    pub fn refuse_locals(&self) {
        lock(&self.state).without_locals = true;
    }

    /// From here on the row of this environment cannot be read.
    pub fn set_unreadable(&self, environment: Uuid) {
        lock(&self.state).unreadable.insert(environment);
    }

    /// So many grants more find no room, though the look before them did.
    pub fn set_full(&self, grants: usize) {
        lock(&self.state).full = grants;
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
    fn holders_of(&self, environment: Uuid) -> Vec<Holder> {
        let held = |(row, _): &&(LeaseRow, LeaseObjectRow)| {
            row.environment_id == environment && row.status == LeaseState::Active
        };
        let mut held: Vec<&(LeaseRow, LeaseObjectRow)> = self.leases.values().filter(held).collect();
        held.sort_by_key(|(row, _)| (row.acquired_at, row.id));
        let holder = |(row, object): &(LeaseRow, LeaseObjectRow)| Holder {
            id: row.id,
            namespace: Some(object.namespace.clone()),
            name: Some(object.name.clone()),
        };
        held.into_iter().take(3).map(holder).collect()
    }

    fn active_of(&self, environment: Uuid) -> i64 {
        let held = |(row, _): &&(LeaseRow, LeaseObjectRow)| {
            row.environment_id == environment && row.status == LeaseState::Active
        };
        i64::try_from(self.leases.values().filter(held).count()).unwrap()
    }
}

/// A request as the fake carries it out.
trait Answer: Request {
    /// Whether it is refused for itself alone, as a test says.
    fn is_refused(&self, _state: &State) -> bool {
        false
    }

    /// What becomes of it in a database that can be reached.
    fn answer(self, database: &FakeDatabase) -> Self::Outcome;
}

impl<R: Answer> Ask<R> for FakeDatabase {
    async fn ask(&self, request: R) -> Result<R::Outcome, StoreError> {
        self.reach()?;
        if request.is_refused(&lock(&self.state)) {
            return Err(StoreError::Refused {
                message: REFUSED.to_owned(),
            });
        }
        Ok(request.answer(self))
    }
}

impl Database for FakeDatabase {}

impl Answer for WasGranted {
    fn is_refused(&self, state: &State) -> bool {
        state.hidden.contains(&self.0)
    }

    fn answer(self, database: &FakeDatabase) -> GrantProof {
        GrantProof {
            id: self.0,
            now: database.now(),
            leading: true,
            granted: lock(&database.state).leases.contains_key(&self.0),
        }
    }
}

impl Answer for LeaseQuery {
    fn is_refused(&self, state: &State) -> bool {
        state.refusing.contains(&self.id)
    }

    fn answer(self, database: &FakeDatabase) -> LeaseSnapshot {
        let mut state = lock(&database.state);
        state.looks += 1;
        if state.panicking.contains(&self.id) {
            drop(state);
            panic!("as the test says");
        }
        let lease = state.leases.get(&self.id).cloned();
        let chosen = match (&lease, self.environment) {
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
                holders: state.holders_of(row.id),
            })
        });
        let deleted = environment
            .as_ref()
            .is_some_and(|(_, object)| object.deleted_at.is_some());
        let (row, object) = lease.unzip();
        LeaseSnapshot {
            id: self.id,
            now: database.now(),
            leading: true,
            recorded_company: self.company_id,
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
        }
    }
}

impl Answer for EnvironmentQuery {
    fn answer(self, database: &FakeDatabase) -> EnvironmentSnapshot {
        let state = lock(&database.state);
        let (row, object) = state.environments.get(&self.id).cloned().unzip();
        let unreadable = state.unreadable.contains(&self.id);
        let row = row.filter(|_| !unreadable);
        EnvironmentSnapshot {
            id: self.id,
            now: database.now(),
            leading: true,
            recorded_company: self.company_id,
            company_exists: true,
            object,
            row,
            unreadable: unreadable.then(|| "column config cannot be read".to_owned()),
            active_leases: state.active_of(self.id),
            canonical: None,
        }
    }
}

impl Answer for Grant {
    fn answer(self, database: &FakeDatabase) -> GrantOutcome {
        let mut state = lock(&database.state);
        if state.busy.contains(&self.id) {
            return GrantOutcome::Busy;
        }
        if state.leases.contains_key(&self.id) {
            return GrantOutcome::AlreadySo;
        }
        if state.full > 0 {
            state.full -= 1;
            return GrantOutcome::Full;
        }
        let limit = state.environments[&self.environment_id].1.max_active_leases;
        let active = state.active_of(self.environment_id);
        if limit.is_some_and(|limit| active >= i64::from(limit)) {
            return GrantOutcome::Full;
        }
        let (row, object) = rows_of(&self, database.now(), i64::try_from(state.leases.len()).unwrap());
        state.leases.insert(self.id, (row.clone(), object));
        GrantOutcome::Granted {
            row: Box::new(row),
            fencing_token: 1,
            context: self.context,
            free: limit.map(|limit| i64::from(limit) - active - 1),
        }
    }
}

impl Answer for LeaseSync {
    fn answer(self, _: &FakeDatabase) -> SyncOutcome {
        SyncOutcome::AlreadySo
    }
}

impl Answer for Touch {
    fn answer(self, _: &FakeDatabase) {}
}

impl Answer for End {
    fn answer(self, database: &FakeDatabase) -> EndOutcome {
        let now = database.now();
        let mut state = lock(&database.state);
        let Some((row, object)) = state.leases.get_mut(&self.id) else {
            return EndOutcome::RowMissing;
        };
        row.status = self.ending.state;
        (row.last_used_at, row.released_at) = (now, Some(now));
        object.ended_status = Some(self.ending.state);
        object.reason = Some(self.ending.reason);
        object.message = Some(self.ending.message);
        object.ended_at = Some(now);
        EndOutcome::Ended(Box::new(row.clone()))
    }
}

impl Answer for ExternalEnding {
    fn answer(self, _: &FakeDatabase) {}
}

impl Answer for EnvironmentSync {
    fn answer(self, database: &FakeDatabase) -> EnvironmentOutcome {
        let (row, object) = environment_rows_of(&self, database.now());
        lock(&database.state)
            .environments
            .insert(self.id, (row.clone(), object));
        EnvironmentOutcome::Inserted(row)
    }
}

impl Answer for Archive {
    fn answer(self, database: &FakeDatabase) -> ArchiveOutcome {
        let now = database.now();
        let mut state = lock(&database.state);
        let Some((row, object)) = state.environments.get_mut(&self.0) else {
            return ArchiveOutcome::Unknown;
        };
        row.status = EnvironmentState::Archived;
        object.deleted_at = Some(now);
        ArchiveOutcome::Archived
    }
}

impl Answer for LocalNeed {
    fn is_refused(&self, state: &State) -> bool {
        state.without_locals
    }

    fn answer(self, _: &FakeDatabase) -> LocalAnswer {
        LocalAnswer::Make(LocalIntent {
            nonce: self.company_id,
            namespace: self.namespace,
            namespace_uid: self.namespace_uid,
        })
    }
}

impl Answer for AbandonLocal {
    fn answer(self, _: &FakeDatabase) {}
}

impl Answer for OtherLocals {
    fn answer(self, _: &FakeDatabase) -> Vec<Uuid> {
        Vec::new()
    }
}

impl Answer for IsSpareLocal {
    fn answer(self, _: &FakeDatabase) -> bool {
        false
    }
}

impl Answer for MarkGone {
    fn answer(self, database: &FakeDatabase) {
        lock(&database.state).leases.remove(&self.0); // retention in haste
    }
}
