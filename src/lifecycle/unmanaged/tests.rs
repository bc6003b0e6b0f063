//! Every combination of run, expiry, driver, grace and rules, and the endings that they give.

use super::*;
use crate::api::Reason;

const GRACE: Duration = Duration::from_secs(900);
const BEFORE: Duration = Duration::from_secs(899);

const END: Rules = Rules {
    ends: true,
    origin_cleans_up: false,
    grace: GRACE,
};
const ATTACHED_END: Rules = Rules {
    origin_cleans_up: true,
    ..END
};
const REPORT: Rules = Rules { ends: false, ..END };
const ATTACHED_REPORT: Rules = Rules {
    ends: false,
    ..ATTACHED_END
};
const OUTCOMES: [RunOutcome; 5] = [
    RunOutcome::Succeeded,
    RunOutcome::Failed,
    RunOutcome::TimedOut,
    RunOutcome::Cancelled,
    RunOutcome::Interrupted,
];

fn lease(run: Run) -> Facts {
    Facts {
        state: LeaseState::Active,
        run,
        unused_for: Duration::ZERO,
        expired_for: None,
        driver: Driver::Ssh,
        policy: LeasePolicy::Ephemeral,
        run_display: Some("run/1a2b3c4d".to_owned()),
        environment_display: "box".to_owned(),
    }
}

/// Status, reason, condition and cleanup of what is ended; `None` where it is left alone.
fn ended(facts: &Facts, rules: &Rules) -> Option<(LeaseState, Reason, Condition, bool)> {
    match decide(facts, rules) {
        Decision::Leave => None,
        Decision::Report(ending) => panic!("only reported: {ending:?}"),
        Decision::End {
            ending,
            only_if,
            cleanup_failed,
        } => Some((ending.state, ending.reason, only_if, cleanup_failed)),
    }
}

#[test]
fn each_state_of_the_run_ends_an_unmanaged_lease_as_it_ends_an_own_one() {
    use {LeaseState as State, RunOutcome as Outcome};
    for (outcome, state, reason) in [
        (Outcome::Succeeded, State::Released, Reason::RunFinished),
        (Outcome::Interrupted, State::Released, Reason::RunFinished),
        (Outcome::Failed, State::Failed, Reason::RunFailed),
        (Outcome::TimedOut, State::Failed, Reason::RunFailed),
        (Outcome::Cancelled, State::Expired, Reason::RunCancelled),
    ] {
        let due = lease(Run::Over(outcome, GRACE));
        assert_eq!(ended(&due, &END), Some((state, reason, Condition::None, false)));
        assert_eq!(ended(&lease(Run::Over(outcome, BEFORE)), &END), None);
    }
    let failed = Facts {
        policy: LeasePolicy::RetainOnFailure,
        ..lease(Run::Over(Outcome::Failed, GRACE))
    };
    let retained = (State::Retained, Reason::RunFailed, Condition::None, false);
    assert_eq!(ended(&failed, &END), Some(retained));
}

#[test]
fn a_lease_without_a_run_ends_once_it_was_not_used_for_the_grace() {
    let unused_for = |unused_for| Facts {
        unused_for,
        ..lease(Run::Missing)
    };
    assert_eq!(ended(&unused_for(BEFORE), &END), None);
    let gone = (LeaseState::Expired, Reason::RunGone, Condition::Unused, false);
    assert_eq!(ended(&unused_for(GRACE), &END), Some(gone));
}

#[test]
fn a_live_run_keeps_its_lease_until_its_time_has_passed_for_the_grace() {
    for (expired_for, due) in [(None, false), (Some(BEFORE), false), (Some(GRACE), true)] {
        let facts = Facts {
            expired_for,
            unused_for: Duration::MAX, // does not count while the run is live
            ..lease(Run::Live)
        };
        let expired = (LeaseState::Expired, Reason::TtlExpired, Condition::Expired, false);
        assert_eq!(ended(&facts, &END), due.then_some(expired));
    }
}

#[test]
fn of_two_visible_causes_the_run_s_gives_the_reason_and_either_makes_it_due() {
    for (over, expired, due) in [
        (BEFORE, BEFORE, false),
        (GRACE, BEFORE, true),
        (BEFORE, GRACE, true),
        (GRACE, GRACE, true),
    ] {
        let facts = Facts {
            expired_for: Some(expired),
            ..lease(Run::Over(RunOutcome::Failed, over))
        };
        let failed = (LeaseState::Failed, Reason::RunFailed, Condition::None, false);
        assert_eq!(ended(&facts, &END), due.then_some(failed), "{over:?} {expired:?}");
    }
    // That it names no run is no cause before the grace, so its time's reason stands.
    let used = Facts {
        unused_for: BEFORE,
        expired_for: Some(GRACE),
        ..lease(Run::Missing)
    };
    assert_eq!(ended(&used, &END).unwrap().1, Reason::TtlExpired);
}

#[test]
fn only_the_time_ends_what_is_retained_and_nothing_ends_what_has_ended() {
    for run in [Run::Live, Run::Missing, Run::Over(RunOutcome::Failed, Duration::MAX)] {
        let facts = |state, expired_for| Facts {
            state,
            expired_for,
            unused_for: Duration::MAX,
            ..lease(run)
        };
        assert_eq!(ended(&facts(LeaseState::Retained, None), &END), None);
        let reason = ended(&facts(LeaseState::Retained, Some(GRACE)), &END).map(|(state, reason, ..)| (state, reason));
        assert_eq!(reason, Some((LeaseState::Expired, Reason::TtlExpired)));
        for state in [
            LeaseState::Released,
            LeaseState::Expired,
            LeaseState::Failed,
            LeaseState::PendingCleanup,
        ] {
            assert_eq!(ended(&facts(state, Some(Duration::MAX)), &END), None, "{state:?}");
        }
    }
}

/// Every combination of run, expiry, use, driver, policy and state against every rule.
#[test]
fn drivers_and_rules_say_whether_a_due_lease_is_ended_or_reported_and_never_whether_it_is_due() {
    let times = [Duration::ZERO, BEFORE, GRACE, Duration::MAX];
    let mut runs = vec![Run::Live, Run::Missing];
    runs.extend(
        OUTCOMES
            .into_iter()
            .flat_map(|outcome| times.map(|since| Run::Over(outcome, since))),
    );
    let mut due = 0;
    for run in runs {
        for unused_for in times {
            for expired_for in [None, Some(Duration::ZERO), Some(GRACE)] {
                for policy in [LeasePolicy::Ephemeral, LeasePolicy::RetainOnFailure] {
                    for state in [LeaseState::Active, LeaseState::Retained] {
                        let facts = |driver| Facts {
                            state,
                            run,
                            unused_for,
                            expired_for,
                            driver,
                            policy,
                            ..lease(run)
                        };
                        due += usize::from(decide(&facts(Driver::Local), &END) != Decision::Leave);
                        compare(facts);
                    }
                }
            }
        }
    }
    assert!(due > 100, "{due}");
}

/// What the drivers make of the decision that stands for a local lease.
fn compare(facts: impl Fn(Driver) -> Facts) {
    let here = decide(&facts(Driver::Local), &END);
    let Decision::End { ending, only_if, .. } = here.clone() else {
        for driver in [Driver::Local, Driver::Ssh, Driver::Sandbox, Driver::Plugin] {
            for rules in [END, ATTACHED_END, REPORT, ATTACHED_REPORT] {
                assert_eq!(decide(&facts(driver), &rules), Decision::Leave);
            }
        }
        return;
    };
    let torn_down_by_nobody = Ending {
        state: LeaseState::Failed,
        ..ending.clone()
    };
    for driver in [Driver::Local, Driver::Ssh] {
        for rules in [END, ATTACHED_END] {
            assert_eq!(decide(&facts(driver), &rules), here);
        }
        for rules in [REPORT, ATTACHED_REPORT] {
            assert_eq!(decide(&facts(driver), &rules), Decision::Report(ending.clone()));
        }
    }
    for driver in [Driver::Sandbox, Driver::Plugin] {
        let failed = Decision::End {
            ending: torn_down_by_nobody.clone(),
            only_if,
            cleanup_failed: true,
        };
        assert_eq!(decide(&facts(driver), &END), failed);
        assert_eq!(
            decide(&facts(driver), &REPORT),
            Decision::Report(torn_down_by_nobody.clone())
        );
        for rules in [ATTACHED_END, ATTACHED_REPORT] {
            assert_eq!(decide(&facts(driver), &rules), Decision::Report(ending.clone()));
        }
    }
}
