//! The decision's table. What must hold whatever happens stands in [`properties`], which of several causes stands in
//! [`precedence`].

use super::*;

mod precedence;
mod properties;

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
        capacity: Capacity::Free,
        policy: LeasePolicy::Ephemeral,
        run_display: Some("job/x".to_owned()),
        environment_display: "builder".to_owned(),
        expired: false,
        heartbeat_missed: false,
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
        (
            Facts {
                capacity: Capacity::Full("1 of 1 leases are active".to_owned()),
                ..claim()
            },
            Reason::CapacityFull,
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
        (
            Facts {
                heartbeat_missed: true,
                ..held()
            },
            LeaseState::Expired,
            Reason::HeartbeatMissed,
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
        decide(&Facts {
            heartbeat_missed: true,
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

/// A lease that is retained after its run has failed.
fn retained() -> Facts {
    let run = Run::Over(RunOutcome::Failed);
    let ending = Cause::RunOver(RunOutcome::Failed).ending(LeasePolicy::RetainOnFailure, None, "builder");
    let row = Row::Present {
        state: LeaseState::Retained,
        recorded: Some(ending),
    };
    Facts { row, run, ..held() }
}

#[test]
fn a_retained_lease_that_another_writer_ends_or_deletes_ends_as_that() {
    let Row::Present { recorded, .. } = retained().row else {
        unreachable!()
    };
    for (state, row) in [
        (LeaseState::Released, None),
        (LeaseState::Failed, None),
        (
            LeaseState::Expired,
            Some(Row::Deleted {
                recorded: recorded.clone(),
            }),
        ),
    ] {
        let row = row.unwrap_or(Row::Present {
            state,
            recorded: recorded.clone(),
        });
        match decide(&Facts { row, ..retained() }) {
            Decision::Follow { ending, record: true } => {
                assert_eq!((ending.state, ending.reason), (state, Reason::EndedInDatabase));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_lease_that_another_writer_retains_is_recorded_as_that_and_ends_by_the_next_cause() {
    let row = |recorded| Row::Present {
        state: LeaseState::Retained,
        recorded,
    };
    for (run, reason) in [
        (Run::Live, Reason::EndedInDatabase),
        (Run::Over(RunOutcome::Failed), Reason::RunFailed),
    ] {
        let facts = Facts {
            row: row(None),
            run,
            ..held()
        };
        let Decision::Follow { ending, record: true } = decide(&facts) else {
            panic!("{:?}", decide(&facts))
        };
        assert_eq!((ending.state, ending.reason), (LeaseState::Retained, reason));
        let recorded = Facts {
            row: row(Some(ending)),
            ..facts.clone()
        };
        assert_eq!(decide(&recorded), Decision::Hold);
        let expired = Facts { expired: true, ..facts };
        assert_eq!(ended(&expired), (LeaseState::Expired, Reason::TtlExpired));
    }
}

#[test]
fn a_retained_lease_that_is_set_back_to_active_is_retained_again_unless_a_cause_ends_it() {
    let Row::Present { recorded, .. } = retained().row else {
        unreachable!()
    };
    let row = Row::Present {
        state: LeaseState::Active,
        recorded,
    };
    for run in [retained().run, Run::Gone, Run::Live] {
        let facts = Facts {
            row: row.clone(),
            run,
            ..held()
        };
        assert_eq!(ended(&facts), (LeaseState::Retained, Reason::RunFailed));
        let expired = Facts { expired: true, ..facts };
        assert_eq!(ended(&expired), (LeaseState::Expired, Reason::TtlExpired));
    }
}

#[test]
fn a_lease_that_waited_for_its_cleanup_is_never_written_back_to_that() {
    let recorded = Some(Ending {
        state: LeaseState::PendingCleanup,
        reason: Reason::EndedInDatabase,
        message: "its row was ended in the database".to_owned(),
    });
    let row = Row::Present {
        state: LeaseState::Active,
        recorded,
    };
    assert_eq!(
        ended(&Facts { row, ..held() }),
        (LeaseState::Expired, Reason::EndedInDatabase)
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
