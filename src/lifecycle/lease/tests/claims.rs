//! What becomes of a claim: granted, waiting, refused.

use super::*;

#[test]
fn a_claim_that_nothing_stands_against_is_granted_even_late() {
    assert_eq!(decide(&Facts::claim()), Decision::Grant);
    assert_eq!(
        decide(&Facts {
            acquire_timed_out: true,
            ..Facts::claim()
        }),
        Decision::Grant
    );
    assert_eq!(
        decide(&Facts {
            run: Run::None,
            ..Facts::claim()
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
                ..Facts::claim()
            },
            Reason::RunNotFound,
        ),
        (
            Facts {
                environment: Environment::NotFound,
                ..Facts::claim()
            },
            Reason::EnvironmentNotFound,
        ),
        (
            Facts {
                environment: Environment::NotMirrored,
                ..Facts::claim()
            },
            Reason::EnvironmentNotActive,
        ),
        (
            Facts {
                obstacle: waits(Reason::ReferenceNotFound),
                ..Facts::claim()
            },
            Reason::ReferenceNotFound,
        ),
        (
            Facts {
                obstacle: waits(Reason::CompanyNotFound),
                ..Facts::claim()
            },
            Reason::CompanyNotFound,
        ),
        (
            Facts {
                obstacle: waits(Reason::CompanyChanged),
                ..Facts::claim()
            },
            Reason::CompanyChanged,
        ),
        (
            Facts {
                capacity: Capacity::Full("1 of 1 leases are active".to_owned()),
                ..Facts::claim()
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
    let deleting = Object::Present {
        release: false,
        deleting: true,
        shown: None,
    };
    let cases = [
        (
            Facts {
                run: Run::Over(RunOutcome::Succeeded),
                ..Facts::claim()
            },
            Reason::RunAlreadyFinished,
        ),
        (
            Facts {
                run: Run::Gone,
                ..Facts::claim()
            },
            Reason::RunGone,
        ),
        (
            Facts {
                environment: Environment::Archived,
                ..Facts::claim()
            },
            Reason::EnvironmentArchived,
        ),
        (
            Facts {
                obstacle: refuses(Reason::InvalidSpec),
                ..Facts::claim()
            },
            Reason::InvalidSpec,
        ),
        (
            Facts {
                obstacle: refuses(Reason::AgentMismatch),
                ..Facts::claim()
            },
            Reason::AgentMismatch,
        ),
        (
            Facts {
                object: released,
                ..Facts::claim()
            },
            Reason::ReleaseRequested,
        ),
        (
            Facts {
                object: deleting,
                ..Facts::claim()
            },
            Reason::LeaseDeleted,
        ),
        (
            Facts {
                namespace_terminating: true,
                ..Facts::claim()
            },
            Reason::LeaseDeleted,
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
        ..Facts::claim()
    });
    let message = "Environment \"builder\" is not active.".to_owned();
    assert_eq!(decision, Decision::Refuse(Reason::EnvironmentArchived, message));
}

#[test]
fn a_grant_that_was_refused_for_its_environment_is_decided_again() {
    for reason in [Reason::EnvironmentArchived, Reason::EnvironmentNotFound] {
        assert_eq!(refused_by_database(&Facts::claim(), reason, String::new()), None);
    }
    // What the next look tells: whoever deletes an Environment may make it again.
    let deleted = Facts {
        environment: Environment::Deleted,
        ..Facts::claim()
    };
    assert!(matches!(
        decide(&deleted),
        Decision::Wait(Reason::EnvironmentNotFound, _)
    ));
    let final_ = |reason| refused_by_database(&Facts::claim(), reason, String::new());
    for reason in [Reason::RunAlreadyFinished, Reason::AgentMismatch, Reason::InvalidSpec] {
        assert!(matches!(final_(reason), Some(Decision::Refuse(..))), "{reason:?}");
    }
    assert!(matches!(final_(Reason::RunNotFound), Some(Decision::Wait(..))));
}
