//! Which of several causes stands: every combination of what can be visible at once, against a table that is read from the
//! top.

use std::collections::BTreeSet;

use strum::VariantArray as _;

use super::*;

/// A cause, whether it is visible, and what it gives.
struct Entry {
    visible: fn(&Facts) -> bool,
    /// Whether it ends a lease that is retained, too.
    ends_retained: bool,
    gives: (LeaseState, Reason),
}

const fn entry(visible: fn(&Facts) -> bool, ends_retained: bool, state: LeaseState, reason: Reason) -> Entry {
    Entry {
        visible,
        ends_retained,
        gives: (state, reason),
    }
}

/// The highest first.
const TABLE: [Entry; 10] = [
    entry(
        succeeded_or_interrupted,
        false,
        LeaseState::Released,
        Reason::RunFinished,
    ),
    entry(failed_and_is_retained, false, LeaseState::Retained, Reason::RunFailed),
    entry(failed, false, LeaseState::Failed, Reason::RunFailed),
    entry(cancelled, false, LeaseState::Expired, Reason::RunCancelled),
    entry(released, true, LeaseState::Released, Reason::ReleaseRequested),
    entry(deleted, true, LeaseState::Released, Reason::LeaseDeleted),
    entry(
        environment_deleted,
        true,
        LeaseState::Failed,
        Reason::EnvironmentDeleted,
    ),
    entry(run_gone, false, LeaseState::Expired, Reason::RunGone),
    entry(expired, true, LeaseState::Expired, Reason::TtlExpired),
    entry(heartbeat_missed, false, LeaseState::Expired, Reason::HeartbeatMissed),
];

fn succeeded_or_interrupted(facts: &Facts) -> bool {
    matches!(facts.run, Run::Over(RunOutcome::Succeeded | RunOutcome::Interrupted))
}

fn failed_and_is_retained(facts: &Facts) -> bool {
    failed(facts) && facts.policy == LeasePolicy::RetainOnFailure
}

fn failed(facts: &Facts) -> bool {
    matches!(facts.run, Run::Over(RunOutcome::Failed | RunOutcome::TimedOut))
}

fn cancelled(facts: &Facts) -> bool {
    facts.run == Run::Over(RunOutcome::Cancelled)
}

fn released(facts: &Facts) -> bool {
    matches!(facts.object, Object::Present { release: true, .. })
}

fn deleted(facts: &Facts) -> bool {
    let deleting = matches!(facts.object, Object::Present { deleting: true, .. } | Object::Deleted);
    deleting || facts.namespace_terminating
}

fn environment_deleted(facts: &Facts) -> bool {
    facts.environment == Environment::Deleted
}

fn run_gone(facts: &Facts) -> bool {
    matches!(facts.run, Run::Gone | Run::NotFound)
}

fn expired(facts: &Facts) -> bool {
    facts.expired
}

fn heartbeat_missed(facts: &Facts) -> bool {
    facts.heartbeat_missed
}

const RUNS: [Run; 10] = [
    Run::None,
    Run::Live,
    Run::Unknown,
    Run::Gone,
    Run::NotFound,
    Run::Over(RunOutcome::Succeeded),
    Run::Over(RunOutcome::Interrupted),
    Run::Over(RunOutcome::Failed),
    Run::Over(RunOutcome::TimedOut),
    Run::Over(RunOutcome::Cancelled),
];

/// Everything that can be visible of a lease at once.
fn everything() -> Vec<Facts> {
    let mut objects = vec![Object::Deleted, Object::Unseen];
    for release in [false, true] {
        objects.extend([false, true].map(|deleting| Object::Present {
            release,
            deleting,
            shown: None,
        }));
    }
    let environments = [Environment::Active, Environment::Archived, Environment::Deleted];
    let mut everything = Vec::new();
    for run in RUNS {
        for object in &objects {
            for environment in environments {
                for flags in 0..8 {
                    let flag = |place: u8| flags & (1 << place) != 0;
                    everything.extend(LeasePolicy::VARIANTS.iter().map(|policy| Facts {
                        object: object.clone(),
                        run,
                        environment,
                        namespace_terminating: flag(0),
                        expired: flag(1),
                        heartbeat_missed: flag(2),
                        policy: *policy,
                        ..Facts::claim()
                    }));
                }
            }
        }
    }
    everything
}

fn in_state(facts: &Facts, state: LeaseState) -> Facts {
    let retained = || Cause::RunOver(RunOutcome::Failed).ending(LeasePolicy::RetainOnFailure, None, "builder");
    let recorded = (state == LeaseState::Retained).then(retained);
    Facts {
        row: Row::Present { state, recorded },
        ..facts.clone()
    }
}

#[test]
fn of_all_causes_that_are_visible_at_once_the_highest_stands() {
    let mut pairs = BTreeSet::new();
    for facts in everything() {
        let visible: Vec<usize> = (0..TABLE.len())
            .filter(|place| (TABLE[*place].visible)(&facts))
            .collect();
        for state in [LeaseState::Active, LeaseState::Retained] {
            let counts = |place: &&usize| state == LeaseState::Active || TABLE[**place].ends_retained;
            let expected = visible.iter().find(counts).map(|place| TABLE[*place].gives);
            let decided = match decide(&in_state(&facts, state)) {
                Decision::End(ending) => Some((ending.state, ending.reason)),
                Decision::Hold => None,
                other => panic!("{facts:?} gives {other:?}"),
            };
            assert_eq!(decided, expected, "{state:?} {facts:?}");
        }
        for (index, higher) in visible.iter().enumerate() {
            pairs.extend(visible[index + 1..].iter().map(|lower| (*higher, *lower)));
        }
    }
    // Two causes that are both about the one run exclude each other; every other pair was there.
    let of_the_run = [
        Reason::RunFinished,
        Reason::RunFailed,
        Reason::RunCancelled,
        Reason::RunGone,
    ];
    let of_run = |place: usize| of_the_run.contains(&TABLE[place].gives.1);
    for higher in 0..TABLE.len() {
        for lower in higher + 1..TABLE.len() {
            let possible = !(of_run(higher) && of_run(lower)) || (higher, lower) == (1, 2);
            assert_eq!(pairs.contains(&(higher, lower)), possible, "{higher} and {lower}");
        }
    }
}

#[test]
fn beside_another_writer_s_ending_nothing_counts_but_the_end_of_the_run() {
    let states = [
        LeaseState::Released,
        LeaseState::Expired,
        LeaseState::Failed,
        LeaseState::PendingCleanup,
    ];
    for facts in everything() {
        let run_over = TABLE.iter().find(|entry| (entry.visible)(&facts));
        let reason = match (facts.run, run_over) {
            (Run::Over(_), Some(entry)) => entry.gives.1,
            _ => Reason::EndedInDatabase,
        };
        for state in states {
            match decide(&in_state(&facts, state)) {
                Decision::Follow { ending, record: true } => assert_eq!((ending.state, ending.reason), (state, reason)),
                other => panic!("{facts:?} gives {other:?}"),
            }
        }
        let deleted = Facts {
            row: Row::Deleted { recorded: None },
            ..facts
        };
        match decide(&deleted) {
            Decision::Follow { ending, record: true } => assert_eq!(
                (ending.state, ending.reason),
                (LeaseState::Expired, Reason::EndedInDatabase)
            ),
            other => panic!("{deleted:?} gives {other:?}"),
        }
    }
}

#[test]
fn an_ending_that_is_recorded_stands_whatever_becomes_visible_later() {
    for entry in &TABLE {
        let ending = Ending {
            state: entry.gives.0,
            reason: entry.gives.1,
            message: "as recorded".to_owned(),
        };
        if ending.state == LeaseState::Retained {
            continue; // not an ending for good
        }
        for facts in everything() {
            let present = Facts {
                row: Row::Present {
                    state: ending.state,
                    recorded: Some(ending.clone()),
                },
                ..facts
            };
            let expected = match present.object {
                Object::Deleted => Decision::Forget,
                Object::Present { .. } | Object::Unseen => Decision::Follow {
                    ending: ending.clone(),
                    record: false,
                },
            };
            assert_eq!(decide(&present), expected, "{present:?}");
            // Somebody has set the row back to active.
            let zombie = Facts {
                row: Row::Present {
                    state: LeaseState::Active,
                    recorded: Some(ending.clone()),
                },
                ..present
            };
            assert_eq!(decide(&zombie), Decision::End(ending.clone()), "{zombie:?}");
        }
    }
}

/// What may stand against a claim, the highest first.
#[test]
fn of_all_that_stands_against_a_claim_the_highest_is_said() {
    let obstacles = [
        None,
        Some(Obstacle::Waits(Reason::ReferenceNotFound, String::new())),
        Some(Obstacle::Refuses(Reason::InvalidSpec, String::new())),
    ];
    let environments = [
        (Environment::Active, None),
        (Environment::NotFound, Some(Reason::EnvironmentNotFound)),
        (Environment::Deleted, Some(Reason::EnvironmentNotFound)),
        (Environment::NotMirrored, Some(Reason::EnvironmentNotActive)),
        (Environment::Archived, Some(Reason::EnvironmentArchived)),
    ];
    for run in RUNS {
        for obstacle in &obstacles {
            for (environment, of_environment) in environments {
                for late in [false, true] {
                    let facts = Facts {
                        run,
                        environment,
                        obstacle: obstacle.clone(),
                        acquire_timed_out: late,
                        ..Facts::claim()
                    };
                    let archived = environment == Environment::Archived;
                    let refused = match (obstacle, run) {
                        (Some(Obstacle::Refuses(reason, _)), _) => Some(*reason),
                        (_, Run::Over(_)) => Some(Reason::RunAlreadyFinished),
                        (_, Run::Gone) => Some(Reason::RunGone),
                        _ => archived.then_some(Reason::EnvironmentArchived),
                    };
                    let waits = match (obstacle, run) {
                        (Some(Obstacle::Waits(reason, _)), _) => Some(*reason),
                        (_, Run::NotFound) => Some(Reason::RunNotFound),
                        (_, Run::Unknown) => of_environment.or(Some(Reason::RunNotFound)),
                        _ => of_environment,
                    };
                    match (decide(&facts), refused, waits) {
                        (Decision::Refuse(said, _), Some(reason), _) => assert_eq!(said, reason, "{facts:?}"),
                        (Decision::Refuse(said, _), None, Some(_)) if late => {
                            assert_eq!(said, Reason::AcquireTimedOut, "{facts:?}")
                        }
                        (Decision::Wait(said, _), None, Some(reason)) if !late => assert_eq!(said, reason, "{facts:?}"),
                        (Decision::Grant, None, None) => assert!(matches!(run, Run::None | Run::Live), "{facts:?}"),
                        (decision, ..) => panic!("{facts:?} gives {decision:?}"),
                    }
                }
            }
        }
    }
}
