//! What is told where a row does not say what its object says and will not: an edit that cannot be stored, another writer's
//! change of what is written once.

use environment_operator::api::{Condition, ConditionStatus, ConditionType, EnvironmentLease, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{LIMIT, TestEnvironment, id_of, lease, moment};

async fn edit(world: &TestEnvironment<'_>, name: &str, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world
        .leases()
        .patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn mirrored(conditions: &[Condition]) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Mirrored)
}

/// Waits until the lease is held, speaks of its latest spec, and says this of its row; the message.
async fn says(world: &TestEnvironment<'_>, name: &str, status: ConditionStatus, reason: Reason) -> String {
    eventually(&format!("{name} says {reason}"), LIMIT, async || {
        let lease: EnvironmentLease = world.leases().get(name).await.unwrap();
        let shown = lease.status.clone().unwrap_or_default();
        match mirrored(&shown.conditions) {
            Some(condition)
                if shown.phase == Some(LeasePhase::Active)
                    && shown.observed_generation == lease.metadata.generation
                    && (condition.status, condition.reason) == (status, reason) =>
            {
                Ok(condition.message.clone())
            }
            _ => Err(json!(shown).to_string()),
        }
    })
    .await
}

#[tokio::test]
async fn of_an_edit_of_a_held_lease_what_can_be_applied_is_and_the_rest_is_told() {
    let world = TestEnvironment::new("agree-edit").await;
    let _operator = world.start().await;
    let held = world.granted(lease("held").set("metadata", json!({ "mine": 1 }))).await;
    let acquired_at = held.status.as_ref().unwrap().acquired_at.unwrap().get();
    let deep = (0..75).fold(json!(1), |inner, _| json!({ "a": inner }));
    let bad = [
        ("NUL", json!({ "n": "\0" }), "\\u0000"),
        ("depth", json!({ "deep": deep }), "64 levels"),
        ("size", json!({ "large": "x".repeat(40_000) }), "32 KiB"),
    ];
    for ((what, metadata, words), ttl) in bad.into_iter().zip(4000..) {
        edit(&world, "held", json!({ "metadata": null })).await;
        says(&world, "held", ConditionStatus::True, Reason::Granted).await;
        edit(&world, "held", json!({ "ttlSeconds": ttl, "metadata": metadata })).await;
        let message = says(&world, "held", ConditionStatus::False, Reason::InvalidSpec).await;
        assert!(message.contains(words), "{what}: {message}");
        let row = world.lease_row(id_of(&held)).await.unwrap();
        let ttl = jiff::SignedDuration::from_secs(ttl);
        assert_eq!(
            moment(&row["expires_at"]),
            Some(acquired_at + ttl),
            "{what}: the time is applied"
        );
        assert_eq!(row["metadata"], json!({ "driver": "local" }), "{what}: nothing is cut");
        world.event_says("held", Reason::InvalidSpec, &message).await;
    }
    world.release("held").await;
    let ended = world
        .lease_because("held", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    let conditions = ended.status.unwrap().conditions;
    let condition = mirrored(&conditions).unwrap();
    assert_eq!(
        (condition.status, condition.reason),
        (ConditionStatus::False, Reason::InvalidSpec),
        "it never got into the row"
    );
}

#[tokio::test]
async fn what_comes_in_one_edit_with_the_end_is_written_or_told_to_be_missing() {
    let world = TestEnvironment::new("agree-end").await;
    let _operator = world.start().await;
    let good = json!({ "result": { "passed": 12 } });
    let ends = [
        (
            "release",
            json!({ "release": true }),
            Reason::ReleaseRequested,
            LeasePhase::Released,
        ),
        (
            "time",
            json!({ "ttlSeconds": 1 }),
            Reason::TtlExpired,
            LeasePhase::Expired,
        ),
    ];
    for (how, end, reason, phase) in ends {
        for (what, metadata, fault) in [
            ("good", good.clone(), None),
            ("bad", json!({ "n": "\0" }), Some("\\u0000")),
        ] {
            let name = format!("{how}-{what}");
            let held = world.granted(lease(&name).set("metadata", json!({ "mine": 1 }))).await;
            let mut spec = end.clone();
            spec["metadata"] = metadata.clone();
            edit(&world, &name, spec).await;
            let ended = world.lease_because(&name, phase, reason).await;
            let conditions = ended.status.unwrap().conditions;
            let condition = mirrored(&conditions).unwrap();
            let row = world.lease_row(id_of(&held)).await.unwrap();
            let Some(words) = fault else {
                assert_eq!(condition.status, ConditionStatus::True, "{name}: {condition:?}");
                // Of a merge patch the former key stays.
                let whole = json!({ "mine": 1, "result": good["result"], "driver": "local" });
                assert_eq!(row["metadata"], whole, "{name}");
                continue;
            };
            assert_eq!(
                (condition.status, condition.reason),
                (ConditionStatus::False, Reason::InvalidSpec),
                "{name}"
            );
            assert!(condition.message.contains(words), "{name}: {}", condition.message);
            assert_eq!(
                row["metadata"],
                json!({ "mine": 1, "driver": "local" }),
                "{name}: nothing is cut"
            );
            world.event_says(&name, Reason::InvalidSpec, &condition.message).await;
        }
    }
}

#[tokio::test]
async fn what_another_writer_changes_in_a_row_that_is_written_once_is_told_and_not_written_again() {
    let world = TestEnvironment::new("agree-row").await;
    let _operator = world.start_with(&["--resync-interval=1s"]).await;
    world.ssh_environment("builder").await;
    let held = world.granted(lease("held").environment("builder")).await;
    let change = async |statement: &str| {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&world.pool)
            .await
            .unwrap();
    };
    change("UPDATE environments SET driver = 'plugin' WHERE driver = 'ssh'").await;
    let told = eventually("the Environment says so", LIMIT, async || {
        let status = world.environments().get("builder").await.unwrap().status.unwrap();
        let accepting = |type_| {
            let found = status.conditions.iter().find(|condition| condition.type_ == type_);
            found.map(|condition| (condition.status, condition.reason))
        };
        let not = Some((ConditionStatus::False, Reason::ChangedInDatabase));
        if [ConditionType::Mirrored, ConditionType::Ready, ConditionType::Accepting].map(accepting) == [not; 3] {
            Ok(mirrored(&status.conditions).unwrap().message.clone())
        } else {
            Err(json!(status).to_string())
        }
    })
    .await;
    world.event_says("builder", Reason::ChangedInDatabase, &told).await;
    // Nothing is granted on what the row has become.
    let claim = world.claim(lease("late").environment("builder")).await;
    world
        .lease_because(&claim.name_any(), LeasePhase::Pending, Reason::EnvironmentNotActive)
        .await;
    change("UPDATE environments SET driver = 'ssh' WHERE driver = 'plugin'").await;
    world.lease_in("late", LeasePhase::Active).await;

    change("UPDATE environment_leases SET lease_policy = 'retain_on_failure'").await;
    let message = says(&world, "held", ConditionStatus::False, Reason::ChangedInDatabase).await;
    assert!(message.contains("lease_policy"), "{message}");
    assert_eq!(world.events_once_told("held", Reason::ChangedInDatabase).await.len(), 1);
    let row = world.lease_row(id_of(&held)).await.unwrap();
    let mark = world.mark();
    world.granted(lease("next").environment("builder")).await;
    let mut writes = world.writes_since(mark);
    writes.retain(|event| event.request_uri.contains("/held"));
    assert!(writes.is_empty(), "it is said once: {writes:?}");
    assert_eq!(world.lease_row(id_of(&held)).await.unwrap(), row, "and left as it is");
    change("UPDATE environment_leases SET lease_policy = 'ephemeral'").await;
    says(&world, "held", ConditionStatus::True, Reason::Granted).await;
}
