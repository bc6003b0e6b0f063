//! Leases that never had an object: the sweep ends them, reports them or leaves them alone, as it is told.

use harness::operator::Operator;
use harness::wait::eventually;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease};

/// An unmanaged lease and what the sweep makes of it: status, failure reason, cleanup status.
struct Case {
    id: Uuid,
    before: Value,
    ending: Option<(&'static str, Option<&'static str>, Option<&'static str>)>,
}

/// Waits until the sweep has been done so often again.
pub async fn sweeps(operator: &Operator, times: u32) {
    let count = async || operator.metric("environment_operator_sweeps_total", "").await.unwrap();
    let before = count().await;
    eventually("the next sweeps", LIMIT, async || {
        let now = count().await;
        if now >= before + f64::from(times) {
            Ok(())
        } else {
            Err(now)
        }
    })
    .await;
}

/// One lease for each way in which an unmanaged lease may stand, on environments of each driver. Grace: 15 minutes.
async fn cases(world: &TestEnvironment<'_>, remote: Option<(&'static str, Option<&'static str>)>) -> Vec<Case> {
    let ssh = world.insert_environment("theirs", "ssh").await;
    let local = world.insert_environment("Local", "local").await;
    let sandbox = world.insert_environment("cloud", "sandbox").await;
    let plugin = world.insert_environment("plugged", "plugin").await;
    let mut cases = Vec::new();
    let mut case = async |environment, columns: Value, ending| {
        let id = world.insert_unmanaged_lease(environment, columns).await;
        let before = world.lease_row(id).await.unwrap();
        cases.push(Case { id, before, ending });
    };
    let run = async |status: &'static str, ago: &'static str| world.insert_past_run(status, ago).await;
    let ago = |seconds: i64| json!((jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds)).to_string());

    for (status, ending) in [
        ("succeeded", ("released", None, None)),
        ("interrupted", ("released", None, None)),
        ("failed", ("failed", Some("RunFailed: "), None)),
        ("timed_out", ("failed", Some("RunFailed: "), None)),
        ("cancelled", ("expired", Some("RunCancelled: "), None)),
    ] {
        let over = run(status, "16 minutes").await;
        case(ssh, json!({ "heartbeat_run_id": over }), Some(ending)).await;
        let lately = run(status, "10 minutes").await;
        case(ssh, json!({ "heartbeat_run_id": lately }), None).await;
    }
    let over = run("failed", "1 day").await;
    let kept = json!({ "heartbeat_run_id": over, "lease_policy": "retain_on_failure" });
    case(ssh, kept, Some(("retained", Some("RunFailed: "), None))).await;
    case(local, json!({}), Some(("expired", Some("RunGone: "), None))).await;
    case(local, json!({ "last_used_at": ago(600) }), None).await;
    let live = run("running", "1 day").await;
    case(ssh, json!({ "heartbeat_run_id": live }), None).await;
    let expired = json!({ "heartbeat_run_id": live, "expires_at": ago(960) });
    case(ssh, expired, Some(("expired", Some("TtlExpired: "), None))).await;
    case(ssh, json!({ "heartbeat_run_id": live, "expires_at": ago(600) }), None).await;
    for status in ["released", "expired", "failed", "retained"] {
        case(ssh, json!({ "heartbeat_run_id": over, "status": status }), None).await;
    }
    for environment in [sandbox, plugin] {
        let ending = remote.map(|(status, cleanup)| (status, Some("RunFailed: "), cleanup));
        case(environment, json!({ "heartbeat_run_id": over }), ending).await;
    }
    cases
}

impl Case {
    async fn check(&self, world: &TestEnvironment<'_>) {
        let row = world.lease_row(self.id).await.unwrap();
        let activity = world.activity(self.id).await;
        let Some((status, reason, cleanup)) = self.ending else {
            assert_eq!(row, self.before, "left alone to the microsecond");
            assert!(activity.is_empty(), "{activity:?}");
            return;
        };
        assert_eq!(
            (&row["status"], &row["cleanup_status"]),
            (&json!(status), &json!(cleanup)),
            "{row}"
        );
        match reason {
            Some(reason) => assert!(row["failure_reason"].as_str().unwrap().starts_with(reason), "{row}"),
            None => assert_eq!(row["failure_reason"], Value::Null, "{row}"),
        }
        assert_eq!(row["released_at"].is_null(), status == "retained", "{row}");
        for column in [
            "company_id",
            "environment_id",
            "heartbeat_run_id",
            "lease_policy",
            "provider",
            "provider_lease_id",
            "acquired_at",
            "created_at",
            "expires_at",
            "metadata",
            "issue_id",
            "execution_workspace_id",
        ] {
            assert_eq!(
                row[column], self.before[column],
                "{column} is not the operator's to write"
            );
        }
        let [released] = activity.as_slice() else {
            panic!("{activity:#?}")
        };
        assert_eq!(released["action"], "environment.lease_released", "{released}");
        assert_eq!(released["details"]["status"], *status, "{released}");
        assert_eq!(released["run_id"], row["heartbeat_run_id"], "{released}");
    }
}

async fn reported(operator: &Operator) -> f64 {
    let metric = "environment_operator_reported_unmanaged_leases";
    operator.metric(metric, "").await.unwrap()
}

/// Checks all cases once the sweep has seen them, and once more after another two.
async fn check(world: &TestEnvironment<'_>, operator: &Operator, cases: &[Case]) {
    for _ in 0..2 {
        sweeps(operator, 2).await;
        for case in cases {
            case.check(world).await;
        }
    }
    world.settles().await;
}

#[tokio::test]
async fn standalone_the_sweep_ends_unmanaged_leases_whose_cause_has_stood_for_the_grace() {
    let world = TestEnvironment::new("unmanaged").await;
    assert!(world.command(&["migrate"]).await.status.success());
    world.insert_company(world.company()).await;
    let cases = cases(&world, Some(("failed", Some("failed")))).await;
    let operator = world.start_with(&["--sweep-interval=1s"]).await;
    check(&world, &operator, &cases).await;
    assert_eq!(reported(&operator).await, 0.0);
    let ended = operator
        .metric("environment_operator_lease_endings_total", "")
        .await
        .unwrap();
    assert_eq!(ended, cases.iter().filter(|case| case.ending.is_some()).count() as f64);
}

#[tokio::test]
async fn attached_unmanaged_leases_are_only_reported_unless_told_otherwise() {
    let world = TestEnvironment::attached("unmanaged-report").await;
    let mut cases = cases(&world, Some(("failed", None))).await;
    let due = cases.iter().filter(|case| case.ending.is_some()).count() as f64;
    for case in &mut cases {
        case.ending = None;
    }
    let operator = world.start_with(&["--sweep-interval=1s"]).await;
    check(&world, &operator, &cases).await;
    assert_eq!(reported(&operator).await, due);
}

#[tokio::test]
async fn attached_and_told_to_the_sweep_ends_all_but_what_the_origin_has_to_tear_down() {
    let world = TestEnvironment::attached("unmanaged-end").await;
    let cases = cases(&world, None).await;
    let operator = world
        .start_with(&["--sweep-interval=1s", "--unmanaged-leases=end"])
        .await;
    check(&world, &operator, &cases).await;
    assert_eq!(reported(&operator).await, 2.0, "one sandbox, one plugin");
}

#[tokio::test]
async fn unmanaged_leases_that_are_to_be_ignored_are_left_alone_and_not_reported() {
    let world = TestEnvironment::attached("unmanaged-ignore").await;
    let mut cases = cases(&world, None).await;
    for case in &mut cases {
        case.ending = None;
    }
    let operator = world
        .start_with(&["--sweep-interval=1s", "--unmanaged-leases=ignore"])
        .await;
    check(&world, &operator, &cases).await;
    assert_eq!(reported(&operator).await, 0.0);
}

#[tokio::test]
async fn the_leak_gauge_counts_by_run_rows_alone_who_made_what_and_falls_to_zero() {
    let world = TestEnvironment::new("leaks").await;
    let gauge = async |operator: &Operator, owner: &str| {
        let labels = format!("owner=\"{owner}\"");
        operator
            .metric("environment_operator_leaked_leases", &labels)
            .await
            .unwrap()
    };
    // It believes that all is well: nothing tells it of runs, and its sweep ends nothing.
    let mut blind = world.start_with(&["--notice-by=watches", "--sweep-interval=1s"]).await;
    let (ends, vanishes) = (world.insert_run().await, world.insert_run().await);
    let ended = world.granted(lease("ended").heartbeat_run(ends)).await;
    world.granted(lease("vanished").heartbeat_run(vanishes)).await;
    world.granted(lease("without")).await;
    let row = world.lease_row(id_of(&ended)).await.unwrap();
    let environment = row["environment_id"].as_str().unwrap().parse().unwrap();
    world
        .insert_unmanaged_lease(environment, json!({ "heartbeat_run_id": ends }))
        .await;
    world.insert_unmanaged_lease(environment, json!({})).await; // whether it ever had a run, nobody can tell
    sweeps(&blind, 2).await;
    assert_eq!(
        (gauge(&blind, "operator").await, gauge(&blind, "unmanaged").await),
        (0.0, 0.0)
    );
    world.set_run_status(&[ends], "failed").await;
    world.delete_run(vanishes).await;
    sweeps(&blind, 2).await;
    assert_eq!(
        (gauge(&blind, "operator").await, gauge(&blind, "unmanaged").await),
        (2.0, 1.0)
    );
    blind.stop(GRACE).await.unwrap();

    let operator = world.start_with(&["--sweep-interval=1s"]).await;
    eventually("nothing of the operator's leaks", LIMIT, async || {
        sweeps(&operator, 1).await;
        match gauge(&operator, "operator").await {
            0.0 => Ok(()),
            leaked => Err(leaked),
        }
    })
    .await;
    assert_eq!(gauge(&operator, "unmanaged").await, 1.0, "the grace runs");
    world.settles().await;
}
