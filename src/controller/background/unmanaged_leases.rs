//! Unmanaged leases: each sweep judges those that SQL selects, ends what it may, and reports what it may not.

use std::collections::HashMap;

use futures::StreamExt;
use futures::stream;
use uuid::Uuid;

use crate::api::Reason;
use crate::controller::context::Context;
use crate::lifecycle::unmanaged::{Condition, Decision, Rules, decide};
use crate::mirror::Mirror;
use crate::runtime::metrics::Place;
use crate::store::environment_leases::{End, EndOutcome, LeaseRow, UnmanagedLeaseEnd};
use crate::store::unmanaged_leases::{self, UnmanagedLease};
use crate::store::{Store, StoreError};

/// Leases that are looked at and ended together: as many as one transaction of the mirror takes.
const PART: usize = 200;

/// An unmanaged lease for which the grace is over.
#[derive(Clone, Debug)]
pub struct Due {
    pub row: LeaseRow,
    /// What is to be done about it.
    pub decision: Decision,
}

/// What came of a look at unmanaged leases.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// For which the grace is over.
    pub due: Vec<Due>,
    /// How many could not be read.
    pub passed_over: usize,
}

/// Judges some unmanaged leases. What cannot be read is passed over: it is in the log, and no obstacle to the others.
///
/// # Errors
/// When the database cannot be asked.
pub async fn judge(store: &Store, rules: &Rules, ids: &[Uuid]) -> Result<Judged, StoreError> {
    let mut judged = Judged::default();
    for lease in look(store, ids).await? {
        match lease {
            Ok(lease) => match decide(&lease.facts, rules) {
                Decision::Leave => {}
                decision => judged.due.push(Due {
                    row: lease.row,
                    decision,
                }),
            },
            Err(_) => judged.passed_over += 1,
        }
    }
    Ok(judged)
}

/// Looks at unmanaged leases. Where the statement fails for one of them, that one is found by halving.
async fn look(store: &Store, ids: &[Uuid]) -> Result<Vec<Result<UnmanagedLease, StoreError>>, StoreError> {
    let (mut found, mut parts) = (Vec::new(), vec![ids]);
    while let Some(part) = parts.pop() {
        match unmanaged_leases::look(store, part).await {
            Ok(leases) => found.extend(leases),
            Err(error) if error.is_of_all() || error.is_suspect() => return Err(error),
            Err(error) => match part {
                [id] => {
                    store.pass_over(*id, &error);
                    found.push(Err(error));
                }
                _ => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
            },
        }
    }
    Ok(found)
}

/// What the database is asked to do about a lease that is due; `None` where that is only reported.
pub fn request(due: &Due, rules: &Rules) -> Option<UnmanagedLeaseEnd> {
    let Decision::End {
        ending,
        only_if,
        cleanup_failed,
    } = &due.decision
    else {
        return None;
    };
    Some(UnmanagedLeaseEnd {
        end: End {
            id: due.row.id,
            leaves: due.row.status,
            ending: ending.clone(),
            only_if_expired: *only_if == Condition::Expired,
            run_ended_at: None,
        },
        only_if_unused_for: (*only_if == Condition::Unused).then_some(rules.grace),
        cleanup_failed: *cleanup_failed,
    })
}

/// Sweeps the unmanaged leases, as far as the settings say.
pub(super) async fn sweep_unmanaged(context: &Context, mirror: &Mirror) -> Result<(), StoreError> {
    let Some(rules) = context.settings.unmanaged else {
        return Ok(());
    };
    let store = mirror.store();
    let mut reported: HashMap<Reason, usize> = HashMap::new();
    for part in unmanaged_leases::candidates(store).await?.chunks(PART) {
        let Judged { due, passed_over } = judge(store, &rules, part).await?;
        (0..passed_over).for_each(|_| context.metrics.database.set_aside(Place::Sweep));
        for due in &due {
            if let Decision::Report(ending) = &due.decision {
                *reported.entry(ending.reason).or_default() += 1;
            }
        }
        let ends: Vec<_> = due.iter().filter_map(|due| request(due, &rules)).collect();
        let mut outcomes =
            stream::iter(ends.into_iter().map(|end| end_unmanaged(context, mirror, end))).buffer_unordered(PART);
        while let Some(outcome) = outcomes.next().await {
            outcome?;
        }
    }
    context.metrics.sweep.set_reported_unmanaged(&reported);
    Ok(())
}

/// Ends one. What the database refuses for this one alone is no obstacle to the others, and tried again by the next sweep.
async fn end_unmanaged(context: &Context, mirror: &Mirror, end: UnmanagedLeaseEnd) -> Result<(), StoreError> {
    let (id, reason) = (end.end.id, end.end.ending.reason);
    let outcome = match mirror.ask(end).await {
        Err(error) if !error.is_of_all() => {
            context.metrics.database.set_aside(Place::Sweep);
            tracing::warn!(lease = %id, %error, "unmanaged lease could not be ended, passed over until the next sweep");
            return Ok(());
        }
        outcome => outcome?,
    };
    // Whatever else comes back: its maker has used or ended it, or holds its row; the next sweep sees.
    if let EndOutcome::Ended(row) = outcome {
        context.metrics.leases.ended(reason);
        tracing::info!(lease = %row.id, reason = reason.into_str(), status = row.status.into_str(), "unmanaged lease ended");
        context.count_again(row.environment_id);
    }
    Ok(())
}
