//! What a status shows of a lease whose row does not follow its object, and of one whose cleanup goes on after its end.

use strum::VariantArray as _;

use super::*;

fn second(second: i64) -> Timestamp {
    Timestamp::cut(jiff::Timestamp::from_second(second).unwrap())
}

fn grant() -> Box<Grant> {
    Box::new(Grant {
        lease_id: Uuid::from_u128(1),
        company_id: Uuid::from_u128(2),
        environment: LeasedEnvironment {
            name: "builder".to_owned(),
            id: Uuid::from_u128(3),
            driver: crate::api::Driver::Ssh,
        },
        run: None,
        acquired_at: second(1),
        expires_at: None,
        fencing_token: Some(7),
        context: None,
    })
}

fn held(fault: Option<Fault>) -> StatusUpdate {
    let grant = Some(grant());
    StatusUpdate::Held { grant, fault }
}

fn ended(state: LeaseState, reason: Reason) -> StatusUpdate {
    StatusUpdate::Ended {
        grant: Some(grant()),
        ending: Ending {
            state,
            reason,
            message: "job/x failed".to_owned(),
        },
        released_at: Some(second(5)),
        cleanup_status: Some("pending".to_owned()),
        fault: None,
    }
}

/// The status of a lease whose spec names no run.
fn lease_status(
    previous: Option<&EnvironmentLeaseStatus>,
    generation: i64,
    update: &StatusUpdate,
    now: Timestamp,
) -> EnvironmentLeaseStatus {
    super::lease_status(previous, generation, None, update, now)
}

fn condition(status: &EnvironmentLeaseStatus, type_: ConditionType) -> &Condition {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_);
    found.unwrap()
}

#[test]
fn a_held_lease_whose_row_does_not_follow_is_active_and_not_mirrored_and_says_why() {
    let fault = (Reason::InvalidSpec, "spec.metadata is too large".to_owned());
    let before = lease_status(None, 1, &held(None), second(10));
    assert_eq!(shown_fault(&before), None);
    let status = lease_status(Some(&before), 2, &held(Some(fault.clone())), second(20));
    assert_eq!(
        (status.phase, status.reason),
        (Some(LeasePhase::Active), Some(Reason::Granted))
    );
    assert_eq!(condition(&status, ConditionType::Active).status, ConditionStatus::True);
    let mirrored = condition(&status, ConditionType::Mirrored);
    assert_eq!(
        (mirrored.status, mirrored.reason, mirrored.message.as_str()),
        (ConditionStatus::False, fault.0, fault.1.as_str())
    );
    assert_eq!(
        (mirrored.last_transition_time, status.observed_generation),
        (second(20), Some(2))
    );
    assert_eq!(shown_fault(&status), Some(fault));
    let mended = lease_status(Some(&status), 3, &held(None), second(30));
    assert_eq!(
        condition(&mended, ConditionType::Mirrored).status,
        ConditionStatus::True
    );
    assert_eq!(shown_fault(&mended), None);
}

#[test]
fn of_a_row_that_is_not_the_granted_one_any_more_nothing_is_shown_but_that() {
    let before = lease_status(None, 1, &held(None), second(10));
    let fault = Some((Reason::ChangedInDatabase, "company_id".to_owned()));
    let update = StatusUpdate::Held { grant: None, fault };
    let status = lease_status(Some(&before), 1, &update, second(20));
    let alike = |status: &EnvironmentLeaseStatus| {
        let shown = (status.company_id, status.environment.clone(), status.message.clone());
        (shown, status.lease_id, status.fencing_token)
    };
    assert_eq!(alike(&status), alike(&before));
    assert_eq!(
        condition(&status, ConditionType::Mirrored).status,
        ConditionStatus::False
    );
}

#[test]
fn a_claim_that_waits_has_no_fault_of_a_row() {
    let pending = StatusUpdate::Pending(Reason::CapacityFull, String::new());
    assert_eq!(shown_fault(&lease_status(None, 1, &pending, second(10))), None);
    let refused = StatusUpdate::Refused(Reason::InvalidSpec, "x".repeat(2 * MESSAGE_BYTES));
    assert_eq!(shown_fault(&lease_status(None, 1, &refused, second(10))), None);
}

#[test]
fn a_lease_that_ends_with_metadata_that_is_not_in_its_row_is_not_mirrored_and_says_why() {
    let fault = (Reason::InvalidSpec, "spec.metadata is too large".to_owned());
    let StatusUpdate::Ended {
        grant,
        ending,
        released_at,
        cleanup_status,
        ..
    } = ended(LeaseState::Released, Reason::ReleaseRequested)
    else {
        panic!("it has ended");
    };
    let update = StatusUpdate::Ended {
        grant,
        ending,
        released_at,
        cleanup_status,
        fault: Some(fault.clone()),
    };
    let status = lease_status(None, 2, &update, second(20));
    let mirrored = condition(&status, ConditionType::Mirrored);
    assert_eq!((mirrored.status, mirrored.reason), (ConditionStatus::False, fault.0));
    assert_eq!(shown_fault(&status), Some(fault));
    assert_eq!(
        condition(&status, ConditionType::Finished).reason,
        Reason::ReleaseRequested
    );
}

#[test]
fn a_lease_whose_cleanup_is_pending_follows_to_its_final_status_and_keeps_its_reason() {
    let pending = lease_status(
        None,
        1,
        &ended(LeaseState::PendingCleanup, Reason::RunFailed),
        second(10),
    );
    assert_eq!(pending.phase, Some(LeasePhase::PendingCleanup));
    for state in [LeaseState::Released, LeaseState::Expired, LeaseState::Failed] {
        let status = lease_status(Some(&pending), 1, &ended(state, Reason::EndedInDatabase), second(20));
        assert_eq!(status.phase, Some(phase(state)));
        assert_eq!(
            (status.reason, &status.message),
            (Some(Reason::RunFailed), &pending.message)
        );
        assert_eq!(status.conditions, pending.conditions, "it ended then, and not now");
        for later in LeaseState::VARIANTS {
            let again = lease_status(Some(&status), 1, &ended(*later, Reason::EndedInDatabase), second(30));
            assert_eq!(again.phase, status.phase, "{later:?} after {state:?}");
        }
    }
    for state in [LeaseState::Active, LeaseState::Retained, LeaseState::PendingCleanup] {
        let status = lease_status(Some(&pending), 1, &ended(state, Reason::EndedInDatabase), second(20));
        assert_eq!(status.phase, Some(LeasePhase::PendingCleanup), "{state:?} is no end");
    }
    let resurrected = lease_status(Some(&pending), 1, &held(None), second(20));
    assert_eq!(resurrected.phase, Some(LeasePhase::PendingCleanup));
}

#[test]
fn a_claim_is_decided_once_it_is_granted_or_refused() {
    let decided = |update: &StatusUpdate| {
        let status = lease_status(None, 1, update, second(1));
        condition(&status, ConditionType::Decided).status
    };
    let waits = StatusUpdate::Pending(Reason::CapacityFull, String::new());
    assert_eq!(decided(&waits), ConditionStatus::False);
    let refused = StatusUpdate::Refused(Reason::AcquireTimedOut, String::new());
    assert_eq!(decided(&refused), ConditionStatus::True);
}

#[test]
fn a_claim_without_a_grant_shows_the_run_that_it_names_and_pins_nothing() {
    let object = RunRef {
        heartbeat_run_id: None,
        object_ref: Some(ObjectRef {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: "build".to_owned(),
            uid: Some(Uuid::from_u128(9).to_string()),
        }),
    };
    let row = RunRef {
        heartbeat_run_id: Some(Uuid::from_u128(0x1a2b_3c4d << 96)),
        object_ref: None,
    };
    let asks = [
        (Some(object), Some("job/build")),
        (Some(row), Some("run/1a2b3c4d")),
        (None, None),
    ];
    for (asked, display) in asks {
        let status_of = |previous: Option<&EnvironmentLeaseStatus>, update: &StatusUpdate| {
            super::lease_status(previous, 1, asked.as_ref(), update, second(10))
        };
        let shown = display.map(|display| LeasedRun {
            display: display.to_owned(),
            kind: None,
            name: None,
            uid: None,
        });
        let waits = StatusUpdate::Pending(Reason::CapacityFull, "1 of 1 leases are active".to_owned());
        let pending = status_of(None, &waits);
        assert_eq!(pending.run, shown, "a claim that waits");
        assert_eq!(status_of(Some(&pending), &waits), pending, "it is written once");
        let refused = StatusUpdate::Refused(Reason::AcquireTimedOut, String::new());
        assert_eq!(status_of(None, &refused).run, shown, "a claim that is refused at once");

        // One that was shown before runs were displayed: it shows its run from the next look on.
        let before = EnvironmentLeaseStatus {
            run: None,
            ..pending.clone()
        };
        assert_eq!(status_of(Some(&before), &waits), pending);
        let ended_before = EnvironmentLeaseStatus {
            run: None,
            ..status_of(None, &refused)
        };
        assert_eq!(
            status_of(Some(&ended_before), &refused),
            ended_before,
            "an ended one is never rewritten"
        );

        let granted = status_of(Some(&pending), &held(None));
        assert_eq!(granted.run, None, "what was granted is the authority");
    }
}
