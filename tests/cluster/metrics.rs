//! What the metrics tell of a real run: each documented family has a value where the story makes one, and no label says more
//! than its closed set.

use std::collections::{BTreeMap, BTreeSet};

use environment_operator::api::{Driver, EnvironmentPhase, LeasePhase, LeasePolicy, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use serde_json::json;
use strum::VariantArray as _;
use uuid::Uuid;

use crate::support::{LIMIT, TestEnvironment, id_of, lease};

/// The documentation, whose table is generated from the registry.
const DOCUMENT: &str = include_str!("../../docs/operations.md");

/// What this story has no cause for, and why.
const UNSEEN: [(&str, &str); 4] = [
    ("store_errors_total", "the database does not fail here"),
    ("unreadable_objects_total", "each object can be read here"),
    ("rows_set_aside_total", "no row is refused here"),
    ("reported_unmanaged_leases", "no other server's lease is here"),
];

#[tokio::test]
async fn every_documented_metric_tells_of_a_real_run_in_closed_labels() {
    let world = TestEnvironment::new("metrics").await;
    let operator = world.start_with(&["--sweep-interval=1s", "--retention=90d"]).await;
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    let spec = json!({ "driver": "SSH", "ssh": ssh, "maxActiveLeases": 1 });
    world.environment("box", spec).await;
    world.environment_in("box", EnvironmentPhase::Active).await;
    world.job("job", json!({})).await;
    world.granted(lease("first").environment("box").job("job")).await;
    world
        .claim(
            lease("second")
                .environment("box")
                .set("policy", "RetainOnFailure")
                .set("heartbeatTimeoutSeconds", 3600),
        )
        .await;
    world
        .lease_because("second", LeasePhase::Pending, Reason::CapacityFull)
        .await;
    let reference =
        json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "gone", "uid": Uuid::new_v4().to_string() });
    world
        .claim(lease("refused").set("run", json!({ "objectRef": reference })))
        .await;
    world
        .lease_because("refused", LeasePhase::Failed, Reason::RunGone)
        .await;

    shows(
        &operator,
        "leases",
        r#"phase="Active",policy="Ephemeral",driver="SSH""#,
        1.0,
    )
    .await;
    shows(
        &operator,
        "leases",
        r#"phase="Pending",policy="RetainOnFailure",driver="none""#,
        1.0,
    )
    .await;
    shows(&operator, "pending_leases", r#"reason="CapacityFull""#, 1.0).await;
    shows(&operator, "environments", r#"phase="Active",driver="SSH""#, 1.0).await;
    shows(&operator, "deadlines", r#"cause="ttl""#, 1.0).await;
    shows(&operator, "deadlines", r#"cause="acquire""#, 1.0).await;
    shows(&operator, "deadlines", r#"cause="removal""#, 1.0).await;
    shows(&operator, "lease_refusals_total", r#"reason="RunGone""#, 1.0).await;
    shows(&operator, "grant_delay_seconds_count", "", 1.0).await;
    shows(&operator, "batch_lag_seconds_count", r#"statement="grant""#, 1.0).await;
    shows(&operator, "release_delay_seconds_count", "", 0.0).await;
    shows(&operator, "database_connections_max", r#"pool="main""#, 8.0).await;
    shows(&operator, "ready", "", 1.0).await;
    shows(&operator, "leadership_changes_total", "", 1.0).await;

    world.end_job("job", "Succeeded").await;
    world.lease_in("first", LeasePhase::Released).await;
    world.lease_in("second", LeasePhase::Active).await;
    shows(&operator, "release_delay_seconds_count", "", 1.0).await;
    shows(&operator, "batch_lag_seconds_count", r#"statement="end""#, 1.0).await;
    shows(&operator, "pending_leases", r#"reason="CapacityFull""#, 0.0).await;
    shows(&operator, "deadlines", r#"cause="heartbeat""#, 1.0).await;
    let delay = value(&operator, "release_delay_seconds_sum", "").await;
    assert!(delay < LIMIT.as_secs_f64(), "{delay}");

    // A run that told of its end long after it: what counts is the moment that its row tells.
    let run = world.insert_run().await;
    let late = id_of(&world.granted(lease("late").heartbeat_run(run)).await);
    // The lease has to be older than the end of its run: before the grant nothing was late.
    sqlx::query("UPDATE environment_leases SET acquired_at = acquired_at - interval '200 s' WHERE id = $1")
        .bind(late)
        .execute(&world.pool)
        .await
        .unwrap();
    sqlx::query("UPDATE heartbeat_runs SET status = 'succeeded', finished_at = now() - interval '100 s' WHERE id = $1")
        .bind(run)
        .execute(&world.pool)
        .await
        .unwrap();
    world.lease_in("late", LeasePhase::Released).await;
    shows(&operator, "release_delay_seconds_count", "", 2.0).await;
    let of_both = value(&operator, "release_delay_seconds_sum", "").await;
    assert!(
        (100.0..100.0 + LIMIT.as_secs_f64()).contains(&(of_both - delay)),
        "{of_both}"
    );

    eventually("a sweep is done", LIMIT, async || {
        let swept = value(&operator, "sweep_last_success_timestamp_seconds", "").await;
        if swept > 1.7e9 { Ok(()) } else { Err(swept) }
    })
    .await;
    shows(&operator, "leaked_leases", r#"owner="operator""#, 0.0).await;

    // A follower tells of the same objects, and of nothing that the leader alone counts.
    let follower = world.start().await;
    shows(
        &follower,
        "leases",
        r#"phase="Active",policy="RetainOnFailure",driver="SSH""#,
        1.0,
    )
    .await;
    shows(&follower, "leases", r#"phase="Released""#, 2.0).await;
    shows(&follower, "leadership", "", 0.0).await;
    shows(&follower, "ready", "", 1.0).await;
    let of_follower = series(&follower).await;
    let has = |name: &str| of_follower.iter().any(|series| series.name == name);
    assert!(!has("leaked_leases") && !has("lease_endings_total"));
    assert_eq!(value(&follower, "sweep_last_success_timestamp_seconds", "").await, 0.0);

    check(&series(&operator).await);
}

/// A line of the text: name without the prefix, labels.
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

async fn series(operator: &Operator) -> Vec<Series> {
    let text = operator.get("/metrics").await.unwrap().body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, inside) = series.split_once('{').unwrap_or((series, "}"));
            let pairs = inside.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
            Series {
                name: name.strip_prefix("environment_operator_").unwrap().to_owned(),
                labels: pairs
                    .map(|pair| {
                        let (label, value) = pair.split_once('=').unwrap();
                        (label.to_owned(), value.trim_matches('"').to_owned())
                    })
                    .collect(),
            }
        })
        .collect()
}

/// Each documented family is there, with the labels that the table says, and their values are of closed sets.
fn check(series: &[Series]) {
    let table = DOCUMENT
        .split("<!-- metrics -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- end of metrics -->").next())
        .unwrap();
    let mut documented = 0;
    for row in table
        .lines()
        .filter(|line| line.starts_with("| `environment_operator_"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = cells[0]
            .trim_matches('`')
            .strip_prefix("environment_operator_")
            .unwrap();
        let labels: BTreeSet<&str> = cells[2].split(", ").filter(|label| !label.is_empty()).collect();
        let sample = match cells[1] {
            "histogram" => format!("{name}_count"),
            _ => name.to_owned(),
        };
        let of_it: Vec<&Series> = series.iter().filter(|series| series.name == sample).collect();
        let unseen = UNSEEN.iter().any(|(unseen, _)| *unseen == name);
        assert_ne!(of_it.is_empty(), !unseen, "{name}");
        for one in of_it {
            assert_eq!(
                one.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                labels,
                "{name}"
            );
        }
        documented += 1;
    }
    assert!(documented > 40, "{documented}");
    for (label, value) in series.iter().flat_map(|series| &series.labels) {
        assert!(is_closed(label, value), "{label}={value}");
    }
}

/// Whether a label may have this value.
fn is_closed(label: &str, value: &str) -> bool {
    // Of a queue, or of a watch with its group.
    let kinds = [
        "Environment",
        "EnvironmentLease",
        "Environment.paperclip.ing",
        "EnvironmentLease.paperclip.ing",
        "Namespace",
        "Job.batch",
        "heartbeat_runs",
    ];
    let statements = [
        "look_lease",
        "look_environment",
        "grant",
        "sync_lease",
        "touch_lease",
        "end",
        "end_unmanaged",
        "record_external_ending",
        "sync_environment",
        "archive_environment",
        "intend_local",
        "abandon_local",
        "other_locals",
        "is_spare_local",
        "mark_gone",
    ];
    match label {
        "phase" => {
            LeasePhase::VARIANTS.iter().any(|one| one.into_str() == value)
                || EnvironmentPhase::VARIANTS.iter().any(|one| one.into_str() == value)
        }
        "policy" => LeasePolicy::VARIANTS.iter().any(|one| one.into_str() == value),
        "driver" => value == "none" || Driver::VARIANTS.iter().any(|one| one.into_str() == value),
        "reason" => value == "none" || Reason::VARIANTS.iter().any(|one| one.into_str() == value),
        "kind" => kinds.contains(&value),
        "result" => [
            "ok",
            "refused",
            "conflict",
            "cluster",
            "forbidden",
            "deposed",
            "unavailable",
            "data",
            "bug",
            "unfit",
            "panic",
        ]
        .contains(&value),
        "statement" => statements.contains(&value),
        "cause" => ["ttl", "heartbeat", "acquire", "removal", "retry", "look"].contains(&value),
        "pool" => value == "main",
        "state" => ["used", "idle"].contains(&value),
        "owner" => ["operator", "unmanaged"].contains(&value),
        "verb" => [
            "get", "list", "watch", "create", "patch", "update", "delete", "discover",
        ]
        .contains(&value),
        "code" => value == "error" || value.parse().is_ok_and(|code: u16| (100..600).contains(&code)),
        "id" => value.parse::<Uuid>().is_ok(),
        "version" => value == env!("CARGO_PKG_VERSION"),
        "le" => value == "+Inf" || value.parse::<f64>().is_ok(),
        _ => false,
    }
}

async fn value(operator: &Operator, name: &str, labels: &str) -> f64 {
    operator
        .metric(&format!("environment_operator_{name}"), labels)
        .await
        .unwrap()
}

/// Waits until a metric has this value.
async fn shows(operator: &Operator, name: &str, labels: &str, expected: f64) {
    eventually(&format!("{name}{{{labels}}} is {expected}"), LIMIT, async || {
        let found = value(operator, name, labels).await;
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}
