//! Leases that are retained after their failed run, by us or by another writer.

use super::*;

#[test]
fn a_failed_run_retains_its_lease_where_the_policy_says_so_until_another_cause_comes() {
    let retain = |facts| Facts {
        policy: LeasePolicy::RetainOnFailure,
        ..facts
    };
    let failed = retain(Facts {
        run: Run::Over(RunOutcome::Failed),
        ..Facts::held()
    });
    assert_eq!(ended(&failed), (LeaseState::Retained, Reason::RunFailed));
    let Decision::End(ending) = decide(&failed) else {
        panic!("it has not ended")
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
    Facts {
        row,
        run,
        ..Facts::held()
    }
}

#[test]
fn a_retained_lease_that_another_writer_ends_or_deletes_ends_as_that() {
    let Row::Present { recorded, .. } = retained().row else {
        panic!("it has not ended")
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
            ..Facts::held()
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
        panic!("it has not ended")
    };
    let row = Row::Present {
        state: LeaseState::Active,
        recorded,
    };
    for run in [retained().run, Run::Gone, Run::Live] {
        let facts = Facts {
            row: row.clone(),
            run,
            ..Facts::held()
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
        ended(&Facts { row, ..Facts::held() }),
        (LeaseState::Expired, Reason::EndedInDatabase)
    );
}

#[test]
fn an_ending_whose_cleanup_was_pending_follows_its_row_to_the_final_status_and_stays_there() {
    let recorded = |state| Ending {
        state,
        reason: Reason::RunFailed,
        message: "job/x failed".to_owned(),
    };
    let facts = |state, recorded| Facts {
        row: Row::Present {
            state,
            recorded: Some(recorded),
        },
        ..Facts::held()
    };
    let pending = recorded(LeaseState::PendingCleanup);
    for state in [LeaseState::Released, LeaseState::Expired, LeaseState::Failed] {
        let ending = recorded(state);
        let follow = |record| Decision::Follow {
            ending: ending.clone(),
            record,
        };
        assert_eq!(decide(&facts(state, pending.clone())), follow(true));
        assert_eq!(decide(&facts(state, ending.clone())), follow(false));
        assert_eq!(
            decide(&facts(LeaseState::PendingCleanup, ending.clone())),
            follow(false),
            "what is final stays"
        );
    }
    assert_eq!(
        decide(&facts(LeaseState::PendingCleanup, pending.clone())),
        Decision::Follow {
            ending: pending.clone(),
            record: false
        }
    );
    assert_eq!(
        decide(&Facts {
            row: Row::Deleted {
                recorded: Some(pending)
            },
            ..Facts::held()
        }),
        Decision::Follow {
            ending: recorded(LeaseState::Expired),
            record: true
        },
        "nothing will tell any more what became of it"
    );
}
