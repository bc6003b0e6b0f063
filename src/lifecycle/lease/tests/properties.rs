//! What must hold whatever happens: over generated facts and histories.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn any_facts() -> impl Strategy<Value = Facts> {
    let outcomes = [
        RunOutcome::Succeeded,
        RunOutcome::Failed,
        RunOutcome::TimedOut,
        RunOutcome::Cancelled,
        RunOutcome::Interrupted,
    ];
    let mut runs = vec![Run::None, Run::Live, Run::Gone, Run::NotFound, Run::Unknown];
    runs.extend(outcomes.map(Run::Over));
    let environments = vec![
        Environment::Active,
        Environment::Archived,
        Environment::Deleted,
        Environment::NotMirrored,
        Environment::NotFound,
        Environment::LocalMissing,
        Environment::Unsettled,
    ];
    let policies = vec![
        LeasePolicy::Ephemeral,
        LeasePolicy::ReuseByEnvironment,
        LeasePolicy::RetainOnFailure,
    ];
    let objects = prop_oneof![
        (any::<bool>(), any::<bool>()).prop_map(|(release, deleting)| Object::Present {
            release,
            deleting,
            shown: None
        }),
        Just(Object::Deleted),
        Just(Object::Unseen),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (select(runs), select(environments), select(policies), objects, flags).prop_map(
        |(run, environment, policy, object, (namespace_terminating, expired, heartbeat_missed, acquire_timed_out))| {
            Facts {
                object,
                run,
                environment,
                namespace_terminating,
                policy,
                expired,
                heartbeat_missed,
                acquire_timed_out,
                ..Facts::claim()
            }
        },
    )
}

/// The row after a decision was carried out, and what the object shows then.
fn carry_out(row: &Row, shown: Option<Ending>, decision: &Decision) -> (Row, Option<Ending>) {
    let done = |ending: &Ending| (ending.state != LeaseState::Retained).then(|| ending.clone());
    match decision {
        Decision::Grant => (
            Row::Present {
                state: LeaseState::Active,
                recorded: None,
            },
            shown,
        ),
        Decision::End(ending) => (
            Row::Present {
                state: ending.state,
                recorded: Some(ending.clone()),
            },
            shown.or(done(ending)),
        ),
        Decision::Follow { ending, .. } => match row {
            Row::Deleted { .. } => (
                Row::Deleted {
                    recorded: Some(ending.clone()),
                },
                shown.or(done(ending)),
            ),
            Row::Never | Row::Lost => (row.clone(), shown.or(done(ending))),
            Row::Present { .. } => (
                Row::Present {
                    state: ending.state,
                    recorded: Some(ending.clone()),
                },
                shown.or(done(ending)),
            ),
        },
        Decision::Refuse(reason, message) => {
            let ending = Ending {
                state: LeaseState::Failed,
                reason: *reason,
                message: message.clone(),
            };
            (row.clone(), shown.or(Some(ending)))
        }
        Decision::MakeLocal | Decision::Wait(..) | Decision::Hold | Decision::Forget | Decision::Nothing => {
            (row.clone(), shown)
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_of_events_resurrects_a_lease_or_changes_its_ending(history in prop::collection::vec(any_facts(), 1..20)) {
        let (mut row, mut shown) = (Row::Never, None);
        for facts in history {
            let object = match facts.object {
                Object::Present { release, deleting, .. } => Object::Present { release, deleting, shown: shown.clone() },
                other => other,
            };
            let facts = Facts { object, row: row.clone(), ..facts };
            let before = shown.clone();
            (row, shown) = carry_out(&row, shown, &decide(&facts));
            if before.is_some() {
                prop_assert_eq!(&before, &shown);
                prop_assert!(!matches!(row, Row::Present { state: LeaseState::Active, .. }), "{:?}", row);
            }
        }
    }

    #[test]
    fn no_lease_stays_active_once_its_run_s_end_was_seen(facts in any_facts(), outcome in select(vec![RunOutcome::Succeeded, RunOutcome::Failed, RunOutcome::Cancelled])) {
        let facts = Facts { row: Row::Present { state: LeaseState::Active, recorded: None }, run: Run::Over(outcome), ..facts };
        let (row, _) = carry_out(&facts.row, None, &decide(&facts));
        prop_assert!(!matches!(row, Row::Present { state: LeaseState::Active, .. }), "{:?}", row);
    }

    #[test]
    fn a_decision_that_is_repeated_changes_nothing_more(
        events in prop::collection::vec(any_event(), 1..8),
        looks in prop::collection::vec(0usize..4, 8),
    ) {
        // Events become visible one by one; between them the facts are looked at never, once or several times.
        let (mut facts, mut row, mut shown) = (Facts::held(), Facts::held().row, None);
        let mut expected = None;
        for (event, looks) in events.iter().zip(looks) {
            event.happen(&mut facts);
            for _ in 0..looks {
                let object = match facts.object.clone() {
                    Object::Present { release, deleting, .. } => Object::Present { release, deleting, shown: shown.clone() },
                    other => other,
                };
                let decision = decide(&Facts { object, row: row.clone(), ..facts.clone() });
                // The ending is the one that the facts give when they are first looked at, however often that is.
                if expected.is_none() && let Decision::End(ending) = &decision {
                    expected = Some(ending.clone());
                }
                (row, shown) = carry_out(&row, shown, &decision);
            }
        }
        if facts.object != Object::Deleted {
            prop_assert_eq!(shown, expected.clone());
        }
        if let Some(expected) = expected {
            prop_assert_eq!(row, Row::Present { state: expected.state, recorded: Some(expected) });
        }
    }

    #[test]
    fn events_that_are_all_visible_give_one_ending_in_whatever_order_they_came(
        (events, shuffled) in prop::collection::vec(any_event(), 1..8).prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle())),
    ) {
        let decide_after = |events: &[Event]| {
            let mut facts = Facts::held();
            // The first outcome of a run stands; the order among several is the Paperclip server's matter.
            let outcome = events.iter().find(|event| matches!(event, Event::RunOver(_)));
            let others = events.iter().filter(|event| !matches!(event, Event::RunOver(_)));
            others.chain(outcome).for_each(|event| event.happen(&mut facts));
            decide(&facts)
        };
        let one_outcome = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::RunOver(_))).count() < 2;
        prop_assume!(one_outcome(&events));
        prop_assert_eq!(decide_after(&events), decide_after(&shuffled));
    }
}

/// Something that happens to a lease that is held.
#[derive(Clone, Copy, Debug)]
enum Event {
    RunOver(RunOutcome),
    RunGone,
    Release,
    Deleted,
    EnvironmentDeleted,
    NamespaceTerminating,
    Expired,
    HeartbeatMissed,
}

impl Event {
    fn happen(self, facts: &mut Facts) {
        match self {
            Self::RunOver(outcome) => facts.run = Run::Over(outcome),
            Self::RunGone if facts.run == Run::Live => facts.run = Run::Gone,
            Self::RunGone => {}
            Self::Release if facts.object != Object::Deleted => {
                facts.object = Object::Present {
                    release: true,
                    deleting: false,
                    shown: None,
                };
            }
            Self::Release => {}
            Self::Deleted => facts.object = Object::Deleted,
            Self::EnvironmentDeleted => facts.environment = Environment::Deleted,
            Self::NamespaceTerminating => facts.namespace_terminating = true,
            Self::Expired => facts.expired = true,
            Self::HeartbeatMissed => facts.heartbeat_missed = true,
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    select(vec![
        Event::RunOver(RunOutcome::Succeeded),
        Event::RunOver(RunOutcome::Failed),
        Event::RunOver(RunOutcome::Cancelled),
        Event::RunGone,
        Event::Release,
        Event::Deleted,
        Event::EnvironmentDeleted,
        Event::NamespaceTerminating,
        Event::Expired,
        Event::HeartbeatMissed,
    ])
}
