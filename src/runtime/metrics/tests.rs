//! What the metrics say, as text.

use std::time::Duration;

use super::*;
use crate::api::{Driver, LeasePhase, LeasePolicy, Reason};
use crate::cache::ObjectCounts;
use crate::cache::object_counts::LeasesBy;

fn lines(metrics: &Metrics, of: &str) -> Vec<String> {
    let text = metrics.encode().unwrap();
    text.lines()
        .filter(|line| line.starts_with(of))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_family_carries_the_prefix_and_its_documented_name() {
    let metrics = Metrics::new();
    metrics
        .work
        .reconciled("EnvironmentLease", "ok", Duration::from_millis(3));
    metrics.leases.granted(Duration::from_millis(700));
    metrics.leases.ended(Reason::RunFinished);
    metrics.database.batch("grant", 200, Duration::from_millis(12));
    metrics.cluster.watch_listed("Job");
    metrics.replica.set_leading(true);
    metrics.sweep.set_leaked(LeaseOwner::Unmanaged, 7);

    let text = metrics.encode().unwrap();

    for line in [
        "environment_operator_build_info{version=",
        r#"environment_operator_reconciles_total{kind="EnvironmentLease",result="ok"} 1"#,
        r#"environment_operator_reconcile_duration_seconds_count{kind="EnvironmentLease"} 1"#,
        "environment_operator_lease_grants_total 1",
        r#"environment_operator_grant_delay_seconds_bucket{le="0.5"} 0"#,
        r#"environment_operator_grant_delay_seconds_bucket{le="1.0"} 1"#,
        r#"environment_operator_lease_endings_total{reason="RunFinished"} 1"#,
        r#"environment_operator_batch_size_sum{statement="grant"} 200"#,
        r#"environment_operator_watch_lists_total{kind="Job"} 1"#,
        "environment_operator_leadership 1",
        "environment_operator_leadership_changes_total 1",
        r#"environment_operator_leaked_leases{owner="unmanaged"} 7"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_has_nothing_to_count_any_more_shows_zero_and_what_others_count_is_not_shown() {
    let metrics = Metrics::new();
    let by = LeasesBy {
        phase: LeasePhase::Active,
        policy: LeasePolicy::Ephemeral,
        driver: Some(Driver::Local),
    };
    metrics.leases.set_object_counts(ObjectCounts {
        leases: [(by, 2)].into(),
        pending: [(None, 1), (Some(Reason::CapacityFull), 3)].into(),
        ..ObjectCounts::default()
    });
    metrics.sweep.set_reported_unmanaged(&[(Reason::RunGone, 4)].into());
    let active = r#"environment_operator_leases{phase="Active",policy="Ephemeral",driver="Local"}"#;
    let waits = r#"environment_operator_pending_leases{reason="CapacityFull"}"#;
    assert_eq!(lines(&metrics, active), [format!("{active} 2")]);
    assert_eq!(lines(&metrics, waits), [format!("{waits} 3")]);
    assert_eq!(
        lines(&metrics, r#"environment_operator_pending_leases{reason="none"}"#).len(),
        1
    );
    assert_eq!(
        lines(&metrics, "environment_operator_reported_unmanaged_leases{").len(),
        1
    );

    metrics.leases.set_object_counts(ObjectCounts::default());
    metrics.sweep.forget();
    assert_eq!(lines(&metrics, active), [format!("{active} 0")]);
    assert_eq!(lines(&metrics, waits), [format!("{waits} 0")]);
    assert_eq!(
        lines(&metrics, "environment_operator_reported_unmanaged_leases{").len(),
        0
    );
}

#[test]
fn a_state_is_measured_whenever_the_metrics_are_read() {
    let metrics = Metrics::new();
    let read = std::sync::atomic::AtomicUsize::new(0);
    metrics.measure_when_read(move |metrics| {
        let keys = read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let longest = Duration::from_secs(5);
        metrics.work.set_waiting("Environment", Waiting { keys, longest });
    });
    for keys in 0..3 {
        let depth = r#"environment_operator_queue_depth{kind="Environment"}"#;
        assert_eq!(lines(&metrics, depth), [format!("{depth} {keys}")]);
    }
}
