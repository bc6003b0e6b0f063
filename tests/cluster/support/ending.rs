//! What an ending must leave behind, everywhere at once.

use environment_operator::api::{ConditionStatus, ConditionType, EnvironmentLease, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LIMIT, TestEnvironment, moment};

/// How a granted lease has to end.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// What the object shows.
    pub phase: LeasePhase,
    /// The closed word.
    pub reason: Reason,
    /// The sentence.
    pub message: &'a str,
}

impl Expected<'_> {
    /// Waits until the lease has ended, and looks everywhere: at the object with its conditions and Event, at the row, at
    /// the activity and at what the operator remembers. Returns the ended object.
    pub async fn of(self, world: &TestEnvironment<'_>, name: &str) -> EnvironmentLease {
        let lease = world.lease_in(name, self.phase).await;
        self.check_object(&lease);
        let id = lease.uid().unwrap().parse().unwrap();
        let released_at = self.check_rows(world, id).await;
        let status = lease.status.as_ref().unwrap();
        assert_eq!(
            moment(&json!(status.released_at)),
            released_at,
            "the object tells the row's time"
        );
        self.check_event(world, name).await;
        lease
    }

    /// The same without the object: for one that was deleted.
    pub async fn of_row(self, world: &TestEnvironment<'_>, id: Uuid) {
        eventually("the row has ended", LIMIT, async || match world.lease_row(id).await {
            Some(row) if row["status"] != "active" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        self.check_rows(world, id).await;
    }

    fn check_object(self, lease: &EnvironmentLease) {
        let status = lease.status.as_ref().unwrap();
        assert_eq!(
            (status.reason, status.message.as_deref()),
            (Some(self.reason), Some(self.message))
        );
        assert_eq!(status.observed_generation, lease.metadata.generation);
        let expected = [
            (ConditionType::Decided, ConditionStatus::True),
            (ConditionType::Active, ConditionStatus::False),
            (ConditionType::Finished, ConditionStatus::True),
            (ConditionType::Mirrored, ConditionStatus::True),
        ];
        for (type_, value) in expected {
            let condition = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == type_)
                .unwrap();
            assert_eq!(
                (condition.status, condition.reason),
                (value, self.reason),
                "{}",
                type_.into_str()
            );
        }
    }

    /// Returns when the row says it ended.
    async fn check_rows(self, world: &TestEnvironment<'_>, id: Uuid) -> Option<jiff::Timestamp> {
        let state = self.phase.into_str().to_lowercase();
        let row = world.lease_row(id).await.unwrap();
        assert_eq!(row["status"], *state, "{row}");
        let explained = match self.phase {
            LeasePhase::Released => Value::Null,
            _ => json!(format!("{}: {}", self.reason.into_str(), self.message)),
        };
        assert_eq!(row["failure_reason"], explained, "{row}");
        assert_eq!(row["cleanup_status"], Value::Null, "{row}");
        let released_at = moment(&row["released_at"]);
        assert!(
            released_at.is_some() && released_at >= moment(&row["acquired_at"]),
            "{row}"
        );

        let record = world.record(id).await.unwrap();
        let recorded = (&record["ended_status"], &record["reason"], &record["message"]);
        assert_eq!(
            recorded,
            (&json!(state), &json!(self.reason), &json!(self.message)),
            "{record}"
        );

        let mut activity = world.activity(id).await;
        activity.retain(|entry| entry["action"] == "environment.lease_released");
        let [released] = activity.as_slice() else {
            panic!("one release in the activity log, not {activity:#?}")
        };
        let details = &released["details"];
        let told = (&details["status"], &details["reason"], &details["failureReason"]);
        assert_eq!(told, (&json!(state), &json!(self.reason), &explained), "{released}");
        for (key, column) in [
            ("environmentId", "environment_id"),
            ("leasePolicy", "lease_policy"),
            ("provider", "provider"),
            ("executionWorkspaceId", "execution_workspace_id"),
            ("issueId", "issue_id"),
        ] {
            assert_eq!(details[key], row[column], "{released}");
        }
        // Null where the run's row is gone.
        assert_eq!(released["run_id"], row["heartbeat_run_id"], "{released}");
        assert_eq!(released["company_id"], row["company_id"], "{released}");
        released_at
    }

    async fn check_event(self, world: &TestEnvironment<'_>, name: &str) {
        let events = world.events_once_told(name, self.reason).await;
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!(events[0].note.as_deref(), Some(self.message));
    }
}
