//! What the sweep would do to leases of objects, as far as the database alone shows: for a person who asks beforehand.

use uuid::Uuid;

use crate::cache::Cache;
use crate::lifecycle::lease::{Decision, Facts, Run, decide};
use crate::projection::facts::{self, Findings};
use crate::projection::observed::{Choice, ObservedLease};
use crate::store::lease_object::{EnvironmentChoice, LeaseQuery, LeaseSnapshot, RunLook};
use crate::store::{Leader, Request, Store, StoreError};

/// The decisions about leases by the very function that the controller decides with. Objects are not looked at: what only
/// they could tell (a release, a deletion, the end of a run object) stands in none of them.
///
/// # Errors
/// When the database cannot be asked.
pub async fn preview(
    store: &Store,
    leader: &Leader,
    ids: &[Uuid],
) -> Result<Vec<(LeaseSnapshot, Decision)>, StoreError> {
    let (mut decided, mut parts) = (Vec::new(), vec![ids]);
    while let Some(part) = parts.pop() {
        let looks: Vec<LeaseQuery> = part.iter().map(|id| look(*id)).collect();
        match LeaseQuery::carry_out(store, leader, &looks).await {
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

fn look(id: Uuid) -> LeaseQuery {
    LeaseQuery {
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

fn of_rows(view: &LeaseSnapshot) -> Facts {
    let observed = ObservedLease {
        id: view.id,
        object: None,
        deleted: false,
        term: 0,
    };
    let run_object = facts::run_object(&observed, view);
    let run = match view.run {
        _ if run_object.is_some() => Run::Unknown,
        RunLook::None => Run::None,
        RunLook::Missing => Run::NotFound,
        RunLook::Unknown => Run::Unknown,
        RunLook::Found { status, .. } => status.outcome().map_or(Run::Live, Run::Over),
    };
    let findings = Findings {
        lease: &observed,
        snapshot: view,
        chosen: Choice {
            environment: None,
            was_gone: false,
        },
        namespace: None,
        unread: None,
        company: None,
        run,
        run_obstacle: None,
        run_object: run_object.as_ref(),
        heartbeat_missed: false,
    };
    findings.facts(&Cache::default())
}
