//! `docs/lifecycle.md` against the decision.

use std::collections::BTreeSet;

use strum::VariantArray as _;

use super::{read, table};
use crate::api::{LeasePolicy, Reason};
use crate::lifecycle::lease::{Decision, Environment, Facts, Object, Obstacle, Row, Run, decide};
use crate::lifecycle::{LeaseState, RunOutcome};

const DOCUMENT: &str = "docs/lifecycle.md";

/// Makes one cause visible.
type Happens = fn(&mut Facts);

/// What each row of the table of endings stands for.
fn happens(cause: &str) -> Vec<Happens> {
    match cause {
        "run succeeded or was interrupted" => vec![|facts| facts.run = Run::Over(RunOutcome::Succeeded), |facts| {
            facts.run = Run::Over(RunOutcome::Interrupted)
        }],
        "run failed or timed out" => vec![|facts| facts.run = Run::Over(RunOutcome::Failed), |facts| {
            facts.run = Run::Over(RunOutcome::TimedOut)
        }],
        "run failed or timed out, policy RetainOnFailure" => vec![|facts| {
            facts.run = Run::Over(RunOutcome::Failed);
            facts.policy = LeasePolicy::RetainOnFailure;
        }],
        "run was cancelled" => vec![|facts| facts.run = Run::Over(RunOutcome::Cancelled)],
        "spec.release was set" => vec![|facts| facts.object = Object::released()],
        "lease object deleted, or its Namespace terminating" => vec![
            |facts| {
                if let Object::Present { deleting, .. } = &mut facts.object {
                    *deleting = true;
                }
            },
            |facts| facts.namespace_terminating = true,
        ],
        "Environment deleted (not a Local)" => vec![|facts| facts.environment = Environment::Deleted],
        "run row or run object gone, its outcome unseen" => {
            vec![|facts| facts.run = Run::Gone, |facts| facts.run = Run::NotFound]
        }
        "status.expiresAt passed" => vec![|facts| facts.expired = true],
        "no heartbeat within spec.heartbeatTimeoutSeconds" => vec![|facts| facts.heartbeat_missed = true],
        other => panic!("{DOCUMENT} names a cause that the decision does not know: {other:?}"),
    }
}

fn ending(facts: &Facts) -> [String; 2] {
    match decide(facts) {
        Decision::End(ending) => [ending.state.into_str().to_owned(), ending.reason.into_str().to_owned()],
        other => panic!("{facts:?} gives {other:?}"),
    }
}

#[test]
fn each_documented_ending_is_the_decision_s() {
    for row in table(&read(DOCUMENT), "## Endings") {
        for happens in happens(&row[0]) {
            let mut facts = Facts::held();
            happens(&mut facts);
            assert_eq!(ending(&facts), row[1..3], "{}", row[0]);
        }
    }
}

#[test]
fn of_two_visible_causes_the_one_that_stands_higher_in_the_documentation_wins() {
    let rows = table(&read(DOCUMENT), "## Endings");
    for (index, higher) in rows.iter().enumerate() {
        for lower in &rows[index + 1..] {
            let mut facts = Facts::held();
            // The higher cause comes last, for both may be about the one run.
            for cause in [lower, higher] {
                happens(&cause[0]).first().unwrap()(&mut facts);
            }
            if higher[0] != lower[0] && !lower[0].starts_with("run failed") {
                assert_eq!(ending(&facts), higher[1..3], "{} and {}", higher[0], lower[0]);
            }
        }
    }
}

#[test]
fn each_reason_is_documented_in_one_place_at_least_and_no_other_is() {
    let document = read(DOCUMENT);
    let headings = [
        ("## Waiting for the grant", 0),
        ("## Refused", 0),
        ("## Endings", 2),
        ("## Ended in the database", 2),
        ("## Other reasons", 0),
    ];
    let documented: BTreeSet<String> = headings
        .into_iter()
        .flat_map(|(heading, column)| {
            table(&document, heading)
                .into_iter()
                .map(move |row| row[column].clone())
        })
        .filter(|reason| reason != "the run's")
        .collect();
    let known: BTreeSet<String> = Reason::VARIANTS
        .iter()
        .map(|reason| reason.into_str().to_owned())
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn what_a_claim_waits_for_and_what_refuses_it_is_as_documented() {
    let document = read(DOCUMENT);
    let reasons = |heading| -> BTreeSet<String> {
        table(&document, heading)
            .into_iter()
            .map(|row| row[0].clone())
            .collect()
    };
    let (waiting, refused) = (reasons("## Waiting for the grant"), reasons("## Refused"));
    let changes: [Happens; 10] = [
        |facts| facts.run = Run::NotFound,
        |facts| facts.environment = Environment::NotFound,
        |facts| facts.environment = Environment::NotMirrored,
        |facts| facts.run = Run::Over(RunOutcome::Succeeded),
        |facts| facts.run = Run::Gone,
        |facts| facts.environment = Environment::Archived,
        |facts| facts.object = Object::released(),
        |facts| {
            facts.run = Run::NotFound;
            facts.acquire_timed_out = true;
        },
        |facts| facts.obstacle = Some(Obstacle::Waits(Reason::CompanyChanged, String::new())),
        |facts| facts.namespace_terminating = true,
    ];
    for change in changes {
        let mut facts = Facts::claim();
        change(&mut facts);
        match decide(&facts) {
            Decision::Wait(reason, _) => assert!(waiting.contains(reason.into_str()), "{reason}"),
            Decision::Refuse(reason, _) => assert!(refused.contains(reason.into_str()), "{reason}"),
            other => panic!("{facts:?} gives {other:?}"),
        }
    }
}

#[test]
fn a_row_that_another_writer_ended_gives_the_documented_status() {
    let rows = table(&read(DOCUMENT), "## Ended in the database");
    let follow = |row, run| match decide(&Facts {
        row,
        run,
        ..Facts::held()
    }) {
        Decision::Follow { ending, .. } => (ending.state, ending.reason),
        other => panic!("{other:?}"),
    };
    let released = || Row::Present {
        state: LeaseState::Released,
        recorded: None,
    };
    let decided = [
        ("the row's own", "EndedInDatabase", follow(released(), Run::Live)),
        (
            "the row's own",
            "the run's",
            follow(released(), Run::Over(RunOutcome::Failed)),
        ),
        (
            "expired",
            "EndedInDatabase",
            follow(Row::Deleted { recorded: None }, Run::Live),
        ),
        ("expired", "EndedInDatabase", follow(Row::Lost, Run::Live)),
    ];
    assert_eq!(rows.len(), decided.len());
    for (row, (status, reason, (state, cause))) in rows.iter().zip(decided) {
        assert_eq!(row[1..3], [status, reason], "{}", row[0]);
        assert_eq!(
            state,
            if status == "expired" {
                LeaseState::Expired
            } else {
                LeaseState::Released
            }
        );
        assert_eq!(
            cause,
            if reason == "the run's" {
                Reason::RunFailed
            } else {
                Reason::EndedInDatabase
            }
        );
    }
}

#[test]
fn an_object_is_over_by_the_documented_signs() {
    use crate::lifecycle::run::{RunObjectCondition, RunObjectStatus, end_of_object};
    let rows = table(&read(DOCUMENT), "## When a run is over");
    assert!(!rows.is_empty());
    for row in rows {
        let (group, kind) = match row[0].as_str() {
            "Job" => ("batch", "Job"),
            "Pod" => ("", "Pod"),
            _ => ("example.test", "Task"),
        };
        let mut status = RunObjectStatus::default();
        let (value, reason) = row[2].split_once(" for the reason ").unwrap_or((row[2].as_str(), ""));
        match row[1].strip_prefix("condition ") {
            Some(type_) => status.conditions.push(RunObjectCondition {
                type_: type_.to_owned(),
                status: value.to_owned(),
                reason: Some(reason.to_owned()),
                last_transition_time: None,
            }),
            None => status.phase = Some(value.to_owned()),
        }
        let outcome = end_of_object(group, kind, &status).map(|end| end.outcome.as_verb());
        assert_eq!(outcome, Some(row[3].as_str()), "{row:?}");
    }
}
