//! `docs/operations.md` against the command line and the metrics.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args as _;

use super::agrees;
use crate::api::{Driver, EnvironmentPhase, LeasePhase, LeasePolicy, Reason};
use crate::cache::ObjectCounts;
use crate::cache::object_counts::LeasesBy;
use crate::runtime::configuration::{LogSettings, Settings};
use crate::runtime::metrics::{Cause, LeaseOwner, Metrics, Place, Waiting};
use crate::store::{Category, PoolUse};

const DOCUMENT: &str = "docs/operations.md";

#[test]
fn the_table_of_settings_is_the_command_line_s() {
    let command = LogSettings::augment_args(Settings::augment_args(clap::Command::new("run")));
    let mut table = "| flag | variable | default | meaning |\n|---|---|---|---|\n".to_owned();
    for argument in command.get_arguments() {
        let code = |text: String| if text.is_empty() { text } else { format!("`{text}`") };
        let flag = argument.get_long().unwrap();
        let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let possible = argument.get_possible_values();
        let choices: Vec<&str> = possible.iter().map(|value| value.get_name()).collect();
        let mut meaning = argument.get_help().unwrap().to_string();
        if !choices.is_empty() {
            let _ = write!(meaning, " ({})", choices.join(", "));
        }
        let _ = writeln!(
            table,
            "| `--{flag}` | {} | {} | {meaning} |",
            code(variable.unwrap_or_default()),
            code(defaults.join(","))
        );
    }
    agrees(DOCUMENT, "settings", &table);
}

#[test]
fn the_table_of_metrics_is_the_registry_s() {
    let metrics = Metrics::new();
    exercise(&metrics);
    let text = metrics.encode().unwrap();

    let labels = labels(&text);
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    let mut rows = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').unwrap();
        let type_line = format!("# TYPE {name} ");
        let type_ = text.lines().find_map(|line| line.strip_prefix(&type_line)).unwrap();
        let suffix = match type_ {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let of_it = labels.get(name).map(String::as_str).unwrap_or_default();
        let _ = writeln!(
            table,
            "| `{name}{suffix}` | {type_} | {of_it} | {} |",
            help.trim_end_matches('.')
        );
        rows += 1;
    }
    assert_eq!(
        rows, metrics.families,
        "a metric is not exercised above, so it would be left out of the table"
    );
    agrees(DOCUMENT, "metrics", &table);
}

/// Everything that can happen, once: a family without a series is not written.
fn exercise(metrics: &Metrics) {
    metrics.work.reconciled("EnvironmentLease", "ok", Duration::ZERO);
    metrics.work.set_waiting("EnvironmentLease", Waiting::default());
    metrics.work.set_deadlines(&HashMap::new());
    metrics.work.looked_after_deadline(Cause::Ttl, Duration::ZERO);
    metrics.leases.set_object_counts(ObjectCounts {
        leases: [(
            LeasesBy {
                phase: LeasePhase::Pending,
                policy: LeasePolicy::Ephemeral,
                driver: None,
            },
            1,
        )]
        .into(),
        pending: [(None, 1)].into(),
        environments: [((EnvironmentPhase::Active, Driver::Local), 1)].into(),
    });
    metrics.leases.granted(Duration::ZERO);
    metrics.leases.refused(Reason::AcquireTimedOut);
    metrics.leases.ended(Reason::RunFinished);
    metrics.leases.released(Duration::ZERO);
    metrics
        .leases
        .outlived_its_run(Reason::RunFinished, Duration::from_secs(61));
    metrics.leases.ending_rewritten();
    metrics.leases.object_removed();
    metrics.database.batch("grant", 1, Duration::ZERO);
    metrics.database.committed("grant", Duration::ZERO);
    let (open, idle, max) = (1, 1, 8);
    metrics.database.set_pool("main", PoolUse { open, idle, max });
    metrics.database.failed(Category::Unavailable);
    metrics.database.set_aside(Place::Sweep);
    metrics.database.set_notification_queue_usage(0.0);
    metrics.cluster.set_watch_freshness("EnvironmentLease", Duration::ZERO);
    metrics.cluster.watch_listed("EnvironmentLease");
    metrics.cluster.object_unreadable("EnvironmentLease", "spec");
    metrics.cluster.event_published();
    metrics.cluster.event_dropped();
    metrics.cluster.event_failed();
    metrics.cluster.requested("get", Some(200), Duration::ZERO);
    metrics.replica.set_leading(true);
    metrics.replica.set_ready(true);
    metrics.database.set_reachable(true);
    metrics.database.set_fits(true);
    metrics.database.set_identity(uuid::Uuid::nil());
    metrics.sweep.done(Duration::ZERO, 0.0);
    metrics.sweep.found(1);
    metrics.sweep.set_leaked(LeaseOwner::Operator, 0);
    metrics.sweep.set_reported_unmanaged(&[(Reason::RunGone, 1)].into());
    metrics.sweep.rows_removed(1);
    metrics.sweep.retention_succeeded(0.0);
}

/// The names of the labels of each family, as the samples carry them.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = sample.split_once('{') else {
            continue;
        };
        let family = ["_total", "_info", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let (inside, _) = rest.rsplit_once('}').unwrap();
        let names: Vec<&str> = inside
            .split(',')
            .filter_map(|pair| Some(pair.split_once('=')?.0))
            .filter(|name| *name != "le")
            .collect();
        // Under its full name as well, for one that ends like this but is of another type.
        for name in [family, name] {
            found.entry(name.to_owned()).or_insert_with(|| names.join(", "));
        }
    }
    found
}
