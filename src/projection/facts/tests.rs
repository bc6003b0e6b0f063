//! What stands against a claim, by what the database knows of it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::api::{EnvironmentLeaseStatus, LeasePhase};
use crate::cache::object::Watched;
use crate::lifecycle::RunStatus;

fn claim(spec: Value) -> LeaseObject {
    let metadata = json!({
        "namespace": "a", "name": "x", "uid": Uuid::from_u128(1), "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    LeaseObject::decode("", "", json!({ "metadata": metadata, "spec": spec })).unwrap()
}

/// A look that finds nothing amiss.
pub fn view() -> LeaseSnapshot {
    LeaseSnapshot {
        id: Uuid::from_u128(1),
        now: jiff::Timestamp::UNIX_EPOCH,
        leading: true,
        recorded_company: None,
        company_exists: true,
        row: None,
        object: None,
        run: RunLook::None,
        environment: None,
        environment_deleted: false,
        local_object: None,
        agent_missing: false,
        issue_missing: false,
        execution_workspace_missing: false,
        capacity: None,
    }
}

fn reason(obstacle: Option<Obstacle>) -> Option<(Reason, bool)> {
    obstacle.map(|obstacle| match obstacle {
        Obstacle::Waits(reason, _) => (reason, true),
        Obstacle::Refuses(reason, _) => (reason, false),
    })
}

#[test]
fn nothing_stands_against_a_claim_of_which_everything_is_there() {
    let lease = claim(json!({ "agentId": Uuid::from_u128(2) }));
    assert_eq!(obstacle(&lease, &view(), None, None), None);
}

#[test]
fn each_reference_that_is_missing_is_waited_for_by_name() {
    let [agent, issue, workspace] = [2, 3, 4].map(Uuid::from_u128);
    let lease = claim(json!({ "agentId": agent, "issueId": issue, "executionWorkspaceId": workspace }));
    let missing = [
        LeaseSnapshot {
            agent_missing: true,
            ..view()
        },
        LeaseSnapshot {
            issue_missing: true,
            ..view()
        },
        LeaseSnapshot {
            execution_workspace_missing: true,
            ..view()
        },
    ];
    let fields = [
        format!("spec.agentId {agent}"),
        format!("spec.issueId {issue}"),
        format!("spec.executionWorkspaceId {workspace}"),
    ];
    for (view, field) in missing.iter().zip(fields) {
        let message = format!("{field} names nothing that exists (yet) in this company");
        let expected = Obstacle::Waits(Reason::ReferenceNotFound, message);
        assert_eq!(obstacle(&lease, view, None, None), Some(expected));
    }
}

#[test]
fn another_agent_than_the_run_s_is_refused_once_both_are_known() {
    let lease = claim(json!({ "agentId": Uuid::from_u128(2) }));
    let of = |agent| RunLook::Found {
        status: RunStatus::Running,
        agent_id: Uuid::from_u128(agent),
        finished_at: None,
    };
    let look = |run, agent_missing| LeaseSnapshot {
        run,
        agent_missing,
        ..view()
    };
    let said = |view| reason(obstacle(&lease, &view, None, None));
    assert_eq!(said(look(of(2), false)), None);
    assert_eq!(said(look(of(3), false)), Some((Reason::AgentMismatch, false)));
    // An agent that is not there may be another company's, and is answered like one that does not exist.
    assert_eq!(said(look(of(3), true)), Some((Reason::ReferenceNotFound, true)));
    assert_eq!(said(look(RunLook::Missing, false)), None);
}

#[test]
fn what_never_goes_away_is_said_before_what_may() {
    let bad = claim(json!({ "metadata": { "text": "x".repeat(33 * 1024) } }));
    let good = claim(json!({}));
    let missing = LeaseSnapshot {
        agent_missing: true,
        ..view()
    };
    let of_run = || Some(Obstacle::Waits(Reason::RunNotFound, String::new()));
    for doubt in [Reason::CompanyNotFound, Reason::CompanyChanged] {
        let company = Company::Doubt(doubt, String::new());
        let said = |lease, of_run| reason(obstacle(lease, &missing, of_run, Some(&company)));
        assert_eq!(said(&bad, of_run()), Some((Reason::InvalidSpec, false)));
        assert_eq!(said(&good, of_run()), Some((Reason::RunNotFound, true)));
        assert_eq!(said(&good, None), Some((doubt, true)));
    }
}

#[test]
fn a_row_is_lost_if_the_object_shows_its_own_grant_and_the_database_has_none() {
    let shows = |phase, lease_id: u128| {
        let mut lease = claim(json!({}));
        lease.status = Some(EnvironmentLeaseStatus {
            phase: Some(phase),
            lease_id: Some(Uuid::from_u128(lease_id)),
            ..EnvironmentLeaseStatus::default()
        });
        row(&view(), Some(&lease))
    };
    assert_eq!(shows(LeasePhase::Active, 1), Row::Lost);
    assert_eq!(shows(LeasePhase::Retained, 1), Row::Lost);
    assert_eq!(shows(LeasePhase::Active, 2), Row::Never, "copied from another object");
    assert_eq!(shows(LeasePhase::Released, 1), Row::Never, "it has ended, and stays so");
    assert_eq!(row(&view(), Some(&claim(json!({})))), Row::Never);
    assert_eq!(row(&view(), None), Row::Never);
}

#[test]
fn a_run_that_is_not_there_is_called_by_its_whole_id_escaped_and_bounded() {
    let id = Uuid::from_u128(7);
    let named = |run: Value| run_named(&claim(json!({ "run": run })));
    assert_eq!(named(json!({ "heartbeatRunId": id })), Some(format!("run/{id}")));
    let job = |uid: Option<&str>| {
        let mut job = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "build" });
        if let Some(uid) = uid {
            job["uid"] = json!(uid);
        }
        named(json!({ "objectRef": job })).unwrap()
    };
    assert_eq!(job(None), "job/build");
    assert_eq!(job(Some("7\n")), "job/build with uid \"7\\n\"");
    assert!(job(Some(&"7".repeat(10_000))).len() < 200);
    assert_eq!(run_named(&claim(json!({}))), None);
}
