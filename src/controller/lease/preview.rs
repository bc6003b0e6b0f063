//! What the sweep would do to leases of objects, as far as the database alone shows: for a person who asks beforehand.

use uuid::Uuid;

use crate::lifecycle::capacity::Capacity;
use crate::lifecycle::lease::{Decision, Environment, Facts, Run, decide};
use crate::projection::facts::{self, Subject};
use crate::store::lease_object::{EnvironmentChoice, LeaseLook, LeaseView, RunLook};
use crate::store::{Leader, Request, Store, StoreError};

/// The decisions about leases by the very function that the controller decides with. Objects are not looked at: what only
/// they could tell (a release, a deletion, the end of a run object) stands in none of them.
///
/// # Errors
/// When the database cannot be asked.
pub async fn preview(store: &Store, leader: &Leader, ids: &[Uuid]) -> Result<Vec<(LeaseView, Decision)>, StoreError> {
    let (mut decided, mut parts) = (Vec::new(), vec![ids]);
    while let Some(part) = parts.pop() {
        let looks: Vec<LeaseLook> = part.iter().map(|id| look(*id)).collect();
        match LeaseLook::carry_out(store, leader, &looks).await {
            Ok(views) => decided.extend(views.into_iter().map(|view| {
                let decision = decide(&of_rows(&view));
                (view, decision)
            })),
            Err(error) if error.is_of_all() => return Err(error),
            Err(error) => match part {
                [id] => tracing::warn!(lease = %id, %error, "passed over"),
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            },
        }
    }
    Ok(decided)
}

fn look(id: Uuid) -> LeaseLook {
    LeaseLook {
        id,
        namespace_uid: None,
        company_id: None,
        environment: EnvironmentChoice::Default,
        agent_id: None,
        run_id: None,
        issue_id: None,
        execution_workspace_id: None,
    }
}

fn of_rows(view: &LeaseView) -> Facts {
    let subject = Subject {
        id: view.id,
        object: None,
        deleted: false,
        term: 0,
    };
    let run_object = facts::run_object(&subject, view);
    let run = match view.run {
        _ if run_object.is_some() => Run::Unknown,
        RunLook::None => Run::None,
        RunLook::Missing => Run::NotFound,
        RunLook::Unknown => Run::Unknown,
        RunLook::Found { status, .. } => status.outcome().map_or(Run::Live, Run::Over),
    };
    Facts {
        object: facts::object(&subject),
        row: facts::row(view, None),
        run,
        environment: if view.environment_deleted {
            Environment::Deleted
        } else {
            Environment::Active
        },
        namespace_terminating: false,
        obstacle: None,
        capacity: Capacity::Free,
        policy: facts::policy(&subject, view),
        run_display: facts::run_display(&subject, view, run_object.as_ref()),
        run_named: None,
        environment_display: facts::environment_display(&subject, view, None),
        expired: view
            .row
            .as_ref()
            .and_then(|row| row.expires_at)
            .is_some_and(|at| at <= view.now),
        heartbeat_missed: false,
        acquire_timed_out: false,
    }
}
