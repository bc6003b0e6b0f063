//! What an environment object shows: its `status`, projected from the committed row.

use uuid::Uuid;

use super::EnvironmentState;
use super::condition::{Finding, Stamp, carry_transition_times};
use crate::api::{
    CanonicalRef, Condition, ConditionStatus, ConditionType, EnvironmentPhase, EnvironmentStatus, Reason, Timestamp,
};

/// The row that an environment object stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct MirroredEnvironment {
    /// Id of the row: the object's uid, or an adopted Local's own.
    pub environment_id: Uuid,
    /// The company that the row belongs to.
    pub company_id: Uuid,
    /// The name in the row.
    pub name: String,
    /// The row's status.
    pub state: EnvironmentState,
    /// How many leases on it are active, whoever made them.
    pub active_leases: i32,
}

/// Which part a Local object has among those of its company in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalRole {
    /// It stands for the company's row.
    Canonical,
    /// Another object does.
    Duplicate(CanonicalRef),
}

impl LocalRole {
    /// The part that the object shows.
    pub fn shown(status: &EnvironmentStatus) -> Option<Self> {
        if let Some(canonical) = &status.canonical_ref {
            return Some(Self::Duplicate(canonical.clone()));
        }
        let canonical = |condition: &&Condition| condition.type_ == ConditionType::Canonical;
        let condition = status.conditions.iter().find(canonical)?;
        (condition.status == ConditionStatus::True).then_some(Self::Canonical)
    }
}

/// What has become of an environment object.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusUpdate {
    /// The row, where there is one; it stays the last good one while the spec is at fault.
    pub row: Option<MirroredEnvironment>,
    /// Of a Local that is mirrored, its part.
    pub role: Option<LocalRole>,
    /// Why the spec is not mirrored, where it is not.
    pub fault: Option<(Reason, String)>,
}

/// The complete status of an environment object. `now` is the database's clock.
pub fn environment_status(
    previous: Option<&EnvironmentStatus>,
    generation: i64,
    update: &StatusUpdate,
    now: Timestamp,
) -> EnvironmentStatus {
    let mut status = previous.cloned().unwrap_or_default();
    show_row(&mut status, update.row.as_ref());
    status.canonical_ref = match &update.role {
        Some(LocalRole::Duplicate(canonical)) => Some(canonical.clone()),
        Some(LocalRole::Canonical) | None => None,
    };
    status.phase = Some(phase(update));
    let mut conditions = conditions(update, Stamp { generation, now });
    // A probe's result is not this projection's to judge.
    let probed = |condition: &&Condition| condition.type_ == ConditionType::Reachable;
    conditions.extend(status.conditions.iter().filter(probed).cloned());
    status.conditions = carry_transition_times(conditions, &status.conditions);
    status.observed_generation = Some(generation);
    status
}

fn show_row(status: &mut EnvironmentStatus, row: Option<&MirroredEnvironment>) {
    if let Some(row) = row {
        status.environment_id = Some(row.environment_id);
        status.company_id = Some(row.company_id);
        status.name = Some(row.name.clone());
        status.active_leases = Some(row.active_leases);
    } else {
        // Leases do not outlive the row.
        status.active_leases = status.active_leases.map(|_| 0);
    }
}

fn phase(update: &StatusUpdate) -> EnvironmentPhase {
    match (update.row.as_ref().map(|row| row.state), &update.role) {
        (None, _) => EnvironmentPhase::Pending,
        (Some(_), Some(LocalRole::Duplicate(_))) => EnvironmentPhase::Duplicate,
        (Some(EnvironmentState::Active), _) => EnvironmentPhase::Active,
        (Some(EnvironmentState::Archived), _) => EnvironmentPhase::Archived,
    }
}

fn conditions(update: &StatusUpdate, stamp: Stamp) -> Vec<Condition> {
    let mut conditions = vec![
        stamp.condition(ConditionType::Ready, unless_at_fault(update, Reason::Ready)),
        stamp.condition(ConditionType::Accepting, accepting(update)),
        stamp.condition(ConditionType::Mirrored, unless_at_fault(update, Reason::Mirrored)),
    ];
    let role = update.role.as_ref().map(canonical);
    conditions.extend(role.map(|finding| stamp.condition(ConditionType::Canonical, finding)));
    conditions
}

/// Whether the spec is mirrored: so for this reason, or not for that of the fault.
fn unless_at_fault(update: &StatusUpdate, reason: Reason) -> Finding {
    match &update.fault {
        Some((fault, message)) => (false, *fault, message.clone()),
        None => (
            true,
            reason,
            "the row in the database says what the spec says".to_owned(),
        ),
    }
}

/// Whether leases are granted.
fn accepting(update: &StatusUpdate) -> Finding {
    match (update.row.as_ref().map(|row| row.state), &update.fault) {
        // What would be granted is not what the object says.
        (Some(_), Some((reason @ Reason::ChangedInDatabase, message))) => (false, *reason, message.clone()),
        (Some(EnvironmentState::Active), _) => (true, Reason::Ready, "leases are granted".to_owned()),
        (Some(EnvironmentState::Archived), _) => (
            false,
            Reason::Archived,
            "archived: leases that are held run out, new ones are refused".to_owned(),
        ),
        (None, Some((reason, message))) => (false, *reason, message.clone()),
        (None, None) => (false, Reason::Waiting, "not in the database yet".to_owned()),
    }
}

/// Whether the object stands for its company's Local.
fn canonical(role: &LocalRole) -> Finding {
    match role {
        LocalRole::Canonical => (
            true,
            Reason::Canonical,
            "this object stands for the company's Local".to_owned(),
        ),
        LocalRole::Duplicate(CanonicalRef { namespace, name }) => {
            let message = format!("environment {name} of namespace {namespace} stands for the company's Local");
            (false, Reason::Duplicate, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Timestamp {
        Timestamp::cut(jiff::Timestamp::UNIX_EPOCH)
    }

    fn shown(previous: Option<&EnvironmentStatus>, state: EnvironmentState, role: LocalRole) -> EnvironmentStatus {
        let row = MirroredEnvironment {
            environment_id: Uuid::from_u128(1),
            company_id: Uuid::from_u128(2),
            name: "Local".to_owned(),
            state,
            active_leases: 0,
        };
        let update = StatusUpdate {
            row: Some(row),
            role: Some(role),
            fault: None,
        };
        environment_status(previous, 1, &update, moment())
    }

    fn elsewhere() -> LocalRole {
        LocalRole::Duplicate(CanonicalRef {
            namespace: "team".to_owned(),
            name: "local".to_owned(),
        })
    }

    fn condition(status: &EnvironmentStatus, type_: ConditionType) -> (ConditionStatus, Reason) {
        let found = status.conditions.iter().find(|condition| condition.type_ == type_);
        found.map(|condition| (condition.status, condition.reason)).unwrap()
    }

    #[test]
    fn a_duplicate_is_ready_points_to_the_canonical_one_and_accepts_what_the_row_accepts() {
        for (state, accepting) in [
            (EnvironmentState::Active, (ConditionStatus::True, Reason::Ready)),
            (EnvironmentState::Archived, (ConditionStatus::False, Reason::Archived)),
        ] {
            let status = shown(None, state, elsewhere());
            assert_eq!(status.phase, Some(EnvironmentPhase::Duplicate));
            assert_eq!(status.canonical_ref.as_ref().unwrap().namespace, "team");
            assert_eq!(
                condition(&status, ConditionType::Ready),
                (ConditionStatus::True, Reason::Ready)
            );
            assert_eq!(condition(&status, ConditionType::Accepting), accepting);
            assert_eq!(
                condition(&status, ConditionType::Canonical),
                (ConditionStatus::False, Reason::Duplicate)
            );
        }
    }

    #[test]
    fn a_part_that_changes_leaves_nothing_of_the_former_one() {
        let duplicate = shown(None, EnvironmentState::Active, elsewhere());
        let canonical = shown(Some(&duplicate), EnvironmentState::Active, LocalRole::Canonical);
        assert_eq!(canonical.phase, Some(EnvironmentPhase::Active));
        assert_eq!(canonical.canonical_ref, None);
        assert_eq!(LocalRole::shown(&canonical), Some(LocalRole::Canonical));
        assert_eq!(
            condition(&canonical, ConditionType::Canonical),
            (ConditionStatus::True, Reason::Canonical)
        );
        let again = shown(Some(&canonical), EnvironmentState::Active, elsewhere());
        assert_eq!(LocalRole::shown(&again), Some(elsewhere()));
        assert_eq!(again, duplicate);
    }

    #[test]
    fn an_environment_whose_row_has_gone_holds_no_lease_and_keeps_its_id() {
        let gone = StatusUpdate {
            row: None,
            role: None,
            fault: Some((Reason::CompanyNotFound, "gone".to_owned())),
        };
        let never = environment_status(None, 1, &gone, moment());
        assert_eq!(never.active_leases, None);
        let mut before = shown(None, EnvironmentState::Active, LocalRole::Canonical);
        before.active_leases = Some(3);
        let after = environment_status(Some(&before), 1, &gone, moment());
        assert_eq!(
            (after.active_leases, after.environment_id),
            (Some(0), before.environment_id)
        );
        assert_eq!(
            condition(&after, ConditionType::Ready),
            (ConditionStatus::False, Reason::CompanyNotFound)
        );
    }
}
