//! Foreign leases: each sweep judges those that SQL selects, ends what it may, and reports what it may not.

use std::collections::HashMap;

use futures::StreamExt;
use futures::stream;
use uuid::Uuid;

use super::reconcile::Reconciler;
use crate::api::Reason;
use crate::lifecycle::foreign::{Condition, Decision, Rules, decide};
use crate::mirror::Mirror;
use crate::store::environment_leases::{End, EndOutcome, ForeignLeaseEnd, LeaseRow};
use crate::store::{Store, StoreError, foreign_leases};

/// Leases that are looked at and ended together: as many as one transaction of the mirror takes.
const PART: usize = 200;

/// A foreign lease for which the grace is over.
#[derive(Clone, Debug)]
pub struct Due {
    /// Its row.
    pub row: LeaseRow,
    /// What is to be done about it.
    pub decision: Decision,
}

/// Judges some foreign leases. What cannot be read is passed over: it is in the log, and no obstacle to the others.
///
/// # Errors
/// When the database cannot be asked.
pub async fn judge(store: &Store, rules: &Rules, ids: &[Uuid]) -> Result<Vec<Due>, StoreError> {
    let mut due = Vec::new();
    for lease in foreign_leases::look(store, ids).await? {
        match lease {
            Ok(lease) => match decide(&lease.facts, rules) {
                Decision::Leave => {}
                decision => due.push(Due {
                    row: lease.row,
                    decision,
                }),
            },
            Err(error) => tracing::warn!(%error, "passed over"),
        }
    }
    Ok(due)
}

/// What the database is asked to do about a lease that is due; `None` where that is only reported.
pub fn request(due: &Due, rules: &Rules) -> Option<ForeignLeaseEnd> {
    let Decision::End {
        ending,
        only_if,
        cleanup_failed,
    } = &due.decision
    else {
        return None;
    };
    Some(ForeignLeaseEnd {
        end: End {
            id: due.row.id,
            leaves: due.row.status,
            ending: ending.clone(),
            only_if_expired: *only_if == Condition::Expired,
        },
        only_if_unused_for: (*only_if == Condition::Unused).then_some(rules.grace),
        cleanup_failed: *cleanup_failed,
    })
}

impl<C> Reconciler<Mirror, C> {
    /// Sweeps the foreign leases, as far as the settings say.
    pub(super) async fn sweep_foreign(&self) -> Result<(), StoreError> {
        let Some(rules) = self.settings.foreign else {
            return Ok(());
        };
        let store = self.database.store();
        let mut reported: HashMap<Reason, usize> = HashMap::new();
        for part in foreign_leases::candidates(store).await?.chunks(PART) {
            let due = judge(store, &rules, part).await?;
            for due in &due {
                if let Decision::Report(ending) = &due.decision {
                    *reported.entry(ending.reason).or_default() += 1;
                }
            }
            let ends: Vec<_> = due.iter().filter_map(|due| request(due, &rules)).collect();
            let mut outcomes = stream::iter(ends.into_iter().map(|end| self.end_foreign(end))).buffer_unordered(PART);
            while let Some(outcome) = outcomes.next().await {
                outcome?;
            }
        }
        self.metrics.sweep.set_reported_foreign(&reported);
        Ok(())
    }

    async fn end_foreign(&self, end: ForeignLeaseEnd) -> Result<(), StoreError> {
        let reason = end.end.ending.reason;
        // Whatever else comes back: its maker has used or ended it, or holds its row; the next sweep sees.
        if let EndOutcome::Ended(row) = self.database.end_foreign(end).await? {
            self.metrics.leases.ended(reason);
            tracing::info!(lease = %row.id, reason = reason.as_str(), status = row.status.as_str(), "foreign lease ended");
            self.count_again(row.environment_id);
        }
        Ok(())
    }
}
