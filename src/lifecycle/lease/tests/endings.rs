//! What ends a lease, and as what.

use super::*;

#[test]
fn each_cause_gives_its_status_and_reason() {
    let outcome = |outcome| Facts {
        run: Run::Over(outcome),
        ..Facts::held()
    };
    let object = |release, deleting| Facts {
        object: Object::Present {
            release,
            deleting,
            shown: None,
        },
        ..Facts::held()
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
                ..Facts::held()
            },
            LeaseState::Released,
            Reason::LeaseDeleted,
        ),
        (
            Facts {
                namespace_terminating: true,
                ..Facts::held()
            },
            LeaseState::Released,
            Reason::LeaseDeleted,
        ),
        (
            Facts {
                environment: Environment::Deleted,
                ..Facts::held()
            },
            LeaseState::Failed,
            Reason::EnvironmentDeleted,
        ),
        (
            Facts {
                run: Run::Gone,
                ..Facts::held()
            },
            LeaseState::Expired,
            Reason::RunGone,
        ),
        (
            Facts {
                run: Run::NotFound,
                ..Facts::held()
            },
            LeaseState::Expired,
            Reason::RunGone,
        ),
        (
            Facts {
                expired: true,
                ..Facts::held()
            },
            LeaseState::Expired,
            Reason::TtlExpired,
        ),
        (
            Facts {
                heartbeat_missed: true,
                ..Facts::held()
            },
            LeaseState::Expired,
            Reason::HeartbeatMissed,
        ),
    ];
    for (facts, state, reason) in table {
        assert_eq!(ended(&facts), (state, reason), "{facts:?}");
    }
    assert_eq!(decide(&Facts::held()), Decision::Hold);
    assert_eq!(
        decide(&Facts {
            run: Run::Unknown,
            ..Facts::held()
        }),
        Decision::Hold
    );
    assert_eq!(
        decide(&Facts {
            environment: Environment::Archived,
            ..Facts::held()
        }),
        Decision::Hold
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
    let facts = Facts { row, ..Facts::held() };
    assert_eq!(follow(&facts), (LeaseState::Released, Reason::EndedInDatabase));
    let failed = Facts {
        run: Run::Over(RunOutcome::Failed),
        ..facts
    };
    assert_eq!(follow(&failed), (LeaseState::Released, Reason::RunFailed));
    let deleted = Facts {
        row: Row::Deleted { recorded: None },
        ..Facts::held()
    };
    assert_eq!(follow(&deleted), (LeaseState::Expired, Reason::EndedInDatabase));
}

#[test]
fn a_lease_whose_row_was_lost_is_expired_and_never_granted_again() {
    for run in [Run::None, Run::Live, Run::Over(RunOutcome::Succeeded), Run::NotFound] {
        let facts = Facts {
            row: Row::Lost,
            run,
            ..Facts::held()
        };
        match decide(&facts) {
            Decision::Follow { ending, record: false } => assert_eq!(
                (ending.state, ending.reason),
                (LeaseState::Expired, Reason::EndedInDatabase)
            ),
            other => panic!("{facts:?} gives {other:?}"),
        }
    }
}
