//! The decision's table, and what must hold whatever happens.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn present() -> Object {
    Object::Present {
        release: false,
        deleting: false,
        shown: None,
    }
}

/// A claim that nothing stands against.
fn claim() -> Facts {
    Facts {
        object: present(),
        row: Row::Never,
        run: Run::Live,
        environment: Environment::Active,
        namespace_terminating: false,
        obstacle: None,
        policy: LeasePolicy::Ephemeral,
        run_display: Some("job/x".to_owned()),
        environment_display: "builder".to_owned(),
        expired: false,
        acquire_timed_out: false,
    }
}

/// A lease that nothing ends.
fn held() -> Facts {
    Facts {
        row: Row::Present {
            state: LeaseState::Active,
            recorded: None,
        },
        ..claim()
    }
}

fn ended(facts: &Facts) -> (LeaseState, Reason) {
    match decide(facts) {
        Decision::End(ending) => (ending.state, ending.reason),
        other => panic!("expected an ending, got {other:?}"),
    }
}

#[test]
fn a_claim_that_nothing_stands_against_is_granted_even_late() {
    assert_eq!(decide(&claim()), Decision::Grant);
    assert_eq!(
        decide(&Facts {
            acquire_timed_out: true,
            ..claim()
        }),
        Decision::Grant
    );
    assert_eq!(
        decide(&Facts {
            run: Run::None,
            ..claim()
        }),
        Decision::Grant
    );
}

#[test]
fn every_reason_to_wait_becomes_a_time_out() {
    let waits = |reason| Some(Obstacle::Waits(reason, "because".to_owned()));
    let cases = [
        (
            Facts {
                run: Run::NotFound,
                ..claim()
            },
            Reason::RunNotFound,
        ),
        (
            Facts {
                environment: Environment::NotFound,
                ..claim()
            },
            Reason::EnvironmentNotFound,
        ),
        (
            Facts {
                environment: Environment::NotMirrored,
                ..claim()
            },
            Reason::EnvironmentNotActive,
        ),
        (
            Facts {
                obstacle: waits(Reason::ReferenceNotFound),
                ..claim()
            },
            Reason::ReferenceNotFound,
        ),
        (
            Facts {
                obstacle: waits(Reason::CompanyNotFound),
                ..claim()
            },
            Reason::CompanyNotFound,
        ),
        (
            Facts {
                obstacle: waits(Reason::CompanyChanged),
                ..claim()
            },
            Reason::CompanyChanged,
        ),
    ];
    for (facts, expected) in cases {
        assert!(
            matches!(decide(&facts), Decision::Wait(reason, _) if reason == expected),
            "{facts:?}"
        );
        let late = Facts {
            acquire_timed_out: true,
            ..facts
        };
        assert!(
            matches!(decide(&late), Decision::Refuse(Reason::AcquireTimedOut, _)),
            "{late:?}"
        );
    }
}

#[test]
fn what_can_not_change_refuses_a_claim_at_once() {
    let refuses = |reason| Some(Obstacle::Refuses(reason, "because".to_owned()));
    let released = Object::Present {
        release: true,
        deleting: false,
        shown: None,
    };
    let cases = [
        (
            Facts {
                run: Run::Over(RunOutcome::Succeeded),
                ..claim()
            },
            Reason::RunAlreadyFinished,
        ),
        (
            Facts {
                run: Run::Gone,
                ..claim()
            },
            Reason::RunGone,
        ),
        (
            Facts {
                environment: Environment::Archived,
                ..claim()
            },
            Reason::EnvironmentArchived,
        ),
        (
            Facts {
                obstacle: refuses(Reason::InvalidSpec),
                ..claim()
            },
            Reason::InvalidSpec,
        ),
        (
            Facts {
                obstacle: refuses(Reason::AgentMismatch),
                ..claim()
            },
            Reason::AgentMismatch,
        ),
        (
            Facts {
                object: released,
                ..claim()
            },
            Reason::ReleaseRequested,
        ),
    ];
    for (facts, expected) in cases {
        assert!(
            matches!(decide(&facts), Decision::Refuse(reason, _) if reason == expected),
            "{facts:?}"
        );
    }
}

#[test]
fn an_archived_environment_refuses_in_the_origin_s_words() {
    let decision = decide(&Facts {
        environment: Environment::Archived,
        ..claim()
    });
    let message = "Environment \"builder\" is not active.".to_owned();
    assert_eq!(decision, Decision::Refuse(Reason::EnvironmentArchived, message));
}

#[test]
fn a_grant_that_was_refused_for_its_environment_is_decided_again() {
    for reason in [Reason::EnvironmentArchived, Reason::EnvironmentNotFound] {
        assert_eq!(refused_by_database(&claim(), reason, String::new()), None);
    }
    // What the next look tells: whoever deletes an Environment may make it again.
    let deleted = Facts {
        environment: Environment::Deleted,
        ..claim()
    };
    assert!(matches!(
        decide(&deleted),
        Decision::Wait(Reason::EnvironmentNotFound, _)
    ));
    let final_ = |reason| refused_by_database(&claim(), reason, String::new());
    for reason in [Reason::RunAlreadyFinished, Reason::AgentMismatch, Reason::InvalidSpec] {
        assert!(matches!(final_(reason), Some(Decision::Refuse(..))), "{reason:?}");
    }
    assert!(matches!(final_(Reason::RunNotFound), Some(Decision::Wait(..))));
}

#[test]
fn each_cause_gives_its_status_and_reason() {
    let outcome = |outcome| Facts {
        run: Run::Over(outcome),
        ..held()
    };
    let object = |release, deleting| Facts {
        object: Object::Present {
            release,
            deleting,
            shown: None,
        },
        ..held()
    };
    let table = [
        (
            outcome(RunOutcome::Succeeded),
            LeaseState::Released,
            Reason::RunFinished,
        ),
        (
            outcome(RunOutcome::Interrupted),
            LeaseState::Released,
            Reason::RunFinished,
        ),
        (outcome(RunOutcome::Failed), LeaseState::Failed, Reason::RunFailed),
        (outcome(RunOutcome::TimedOut), LeaseState::Failed, Reason::RunFailed),
        (
            outcome(RunOutcome::Cancelled),
            LeaseState::Expired,
            Reason::RunCancelled,
        ),
        (object(true, false), LeaseState::Released, Reason::ReleaseRequested),
        (object(false, true), LeaseState::Released, Reason::LeaseDeleted),
        (
            Facts {
                object: Object::Deleted,
                ..held()
            },
            LeaseState::Released,
            Reason::LeaseDeleted,
        ),
        (
            Facts {
                namespace_terminating: true,
                ..held()
            },
            LeaseState::Released,
            Reason::LeaseDeleted,
        ),
        (
            Facts {
                environment: Environment::Deleted,
                ..held()
            },
            LeaseState::Failed,
            Reason::EnvironmentDeleted,
        ),
        (
            Facts {
                run: Run::Gone,
                ..held()
            },
            LeaseState::Expired,
            Reason::RunGone,
        ),
        (
            Facts {
                run: Run::NotFound,
                ..held()
            },
            LeaseState::Expired,
            Reason::RunGone,
        ),
        (
            Facts {
                expired: true,
                ..held()
            },
            LeaseState::Expired,
            Reason::TtlExpired,
        ),
    ];
    for (facts, state, reason) in table {
        assert_eq!(ended(&facts), (state, reason), "{facts:?}");
    }
    assert_eq!(decide(&held()), Decision::Hold);
    assert_eq!(
        decide(&Facts {
            run: Run::Unknown,
            ..held()
        }),
        Decision::Hold
    );
    assert_eq!(
        decide(&Facts {
            environment: Environment::Archived,
            ..held()
        }),
        Decision::Hold
    );
}

#[test]
fn a_failed_run_retains_its_lease_where_the_policy_says_so_until_another_cause_comes() {
    let retain = |facts| Facts {
        policy: LeasePolicy::RetainOnFailure,
        ..facts
    };
    let failed = retain(Facts {
        run: Run::Over(RunOutcome::Failed),
        ..held()
    });
    assert_eq!(ended(&failed), (LeaseState::Retained, Reason::RunFailed));
    let Decision::End(ending) = decide(&failed) else {
        unreachable!()
    };
    let retained = Facts {
        row: Row::Present {
            state: LeaseState::Retained,
            recorded: Some(ending),
        },
        ..failed
    };
    assert_eq!(decide(&retained), Decision::Hold);
    assert_eq!(
        decide(&Facts {
            run: Run::Gone,
            ..retained.clone()
        }),
        Decision::Hold
    );
    assert_eq!(
        ended(&Facts {
            expired: true,
            ..retained.clone()
        }),
        (LeaseState::Expired, Reason::TtlExpired)
    );
    assert_eq!(
        ended(&Facts {
            object: Object::Deleted,
            ..retained
        }),
        (LeaseState::Released, Reason::LeaseDeleted)
    );
}

#[test]
fn a_row_that_another_writer_ended_keeps_its_status_and_takes_the_run_s_reason_if_that_is_over() {
    let row = Row::Present {
        state: LeaseState::Released,
        recorded: None,
    };
    let follow = |facts: &Facts| match decide(facts) {
        Decision::Follow { ending, record: true } => (ending.state, ending.reason),
        other => panic!("{other:?}"),
    };
    let facts = Facts { row, ..held() };
    assert_eq!(follow(&facts), (LeaseState::Released, Reason::EndedInDatabase));
    let failed = Facts {
        run: Run::Over(RunOutcome::Failed),
        ..facts
    };
    assert_eq!(follow(&failed), (LeaseState::Released, Reason::RunFailed));
    let deleted = Facts {
        row: Row::Deleted { recorded: None },
        ..held()
    };
    assert_eq!(follow(&deleted), (LeaseState::Expired, Reason::EndedInDatabase));
}

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
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (select(runs), select(environments), select(policies), objects, flags).prop_map(
        |(run, environment, policy, object, (namespace_terminating, expired, acquire_timed_out))| Facts {
            object,
            run,
            environment,
            namespace_terminating,
            policy,
            expired,
            acquire_timed_out,
            ..claim()
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
            Row::Never | Row::Present { .. } => (
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
        let (mut facts, mut row, mut shown) = (held(), held().row, None);
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
            let mut facts = held();
            // The first outcome of a run stands; the order among several is the origin's matter.
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
    ])
}
