//! The dashboard and the alerts, asked of a real Prometheus that scrapes real operators while leases live and end.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use environment_operator::api::{LeasePhase, Reason};
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::operator::Operator;
use harness::postgres::Postgres;
use harness::prometheus::Prometheus;
use harness::wait::eventually;
use serde_json::{Value, json};

use crate::support::{LIMIT, TestEnvironment, lease};

const DASHBOARD: &str = include_str!("../../charts/environment-operator/files/dashboard.json");
const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/charts/environment-operator/files/alerts.yaml"
);

/// The job that the rules expect where no chart has put another one in.
const JOB: &str = "environment-operator";

/// How long leases come and go until each panel has had something to show.
const STORY: Duration = Duration::from_secs(120);

/// What each panel asks for: its title and a query.
fn questions() -> BTreeSet<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let of_panel = |panel: &Value| {
        let title = panel["title"].as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let query = |target: Value| {
            let query = target["expr"].as_str().unwrap();
            // Twenty scrapes, where a real dashboard's has at least four of theirs.
            (
                title.clone(),
                query.replace("$__rate_interval", "20s").replace("$job", JOB),
            )
        };
        targets.into_iter().map(query).collect::<Vec<_>>()
    };
    panels.flat_map(of_panel).collect()
}

/// Whether a query gives any number.
async fn shows(prometheus: &Prometheus, query: &str) -> bool {
    let series = prometheus.query(query).await.unwrap();
    series.iter().any(|series| series["value"][1] != "NaN")
}

/// Waits until just these are the alerts whose condition holds, firing or not long enough yet.
async fn alerts_are(prometheus: &Prometheus, expected: &[&str]) {
    eventually(&format!("the alerts are {expected:?}"), LIMIT, async || {
        let series = prometheus.query("ALERTS").await.unwrap();
        let name = |series: &Value| {
            let name = series["metric"]["alertname"].as_str().unwrap();
            name.trim_start_matches("EnvironmentOperator").to_owned()
        };
        let names: BTreeSet<String> = series.iter().map(name).collect();
        if names.iter().eq(expected) {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
}

/// What happens in the world, as often as it takes.
struct Story<'w> {
    world: &'w TestEnvironment<'w>,
    chapter: u32,
}

impl Story<'_> {
    async fn begin(&self) {
        let world = self.world;
        world.ssh_environment("wide").await;
        let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
        let narrow = json!({ "driver": "SSH", "ssh": ssh, "maxActiveLeases": 1 });
        world.environment("narrow", narrow).await;
        world.granted(lease("holder").environment("narrow")).await;
        world.claim(lease("waits").environment("narrow")).await;
        world
            .lease_because("waits", LeasePhase::Pending, Reason::CapacityFull)
            .await;
        let theirs = world.insert_environment("theirs", "ssh").await;
        let over = world.insert_past_run("succeeded", "1 day").await;
        world
            .insert_unmanaged_lease(theirs, json!({ "heartbeat_run_id": over }))
            .await;
    }

    /// A run that succeeds, a time that passes, a claim that is refused, an ear that is cut off.
    async fn go_on(&mut self) {
        let world = self.world;
        self.chapter += 1;
        let name = |what: &str| format!("{what}-{}", self.chapter);
        let (works, passes, refused) = (name("works"), name("passes"), name("refused"));
        let run = world.insert_run().await;
        let claim = |name: &str| lease(name).environment("wide").set("ttlSecondsAfterFinished", 0);
        world.granted(claim(&works).heartbeat_run(run)).await;
        world.claim(claim(&passes).set("ttlSeconds", 1)).await;
        world
            .claim(lease(&refused).environment("wide").set("release", true))
            .await;
        world.lease_in(&refused, LeasePhase::Failed).await;
        world.set_run_status(&[run], "succeeded").await;
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND query LIKE 'LISTEN %'";
        sqlx::query(cut).execute(&world.pool).await.unwrap();
        eventually("the lease that worked is gone", LIMIT, async || {
            match world.leases().get_opt(&works).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn every_panel_shows_a_real_run_and_the_alerts_tell_what_is_wrong_in_it() {
    let postgres = Postgres::start(&guard::fresh_directory("postgres").unwrap())
        .await
        .unwrap();
    let world = TestEnvironment::on(ControlPlane::shared().await, &postgres, "dashboard", []).await;
    let settings = ["--sweep-interval=1s", "--unmanaged-leases=report", "--retention=1d"];
    let leader = world.start_with(&settings).await;
    let follower = world.start_with(&settings).await;
    let ports = [&leader, &follower].map(Operator::port);
    let prometheus = Prometheus::start(JOB, &ports, &[Path::new(RULES)]).await.unwrap();
    let mut story = Story {
        world: &world,
        chapter: 0,
    };
    story.begin().await;

    let mut unseen = questions();
    assert!(unseen.len() > 40);
    let begun = tokio::time::Instant::now();
    while !unseen.is_empty() {
        assert!(begun.elapsed() < STORY, "nothing to show: {unseen:#?}");
        story.go_on().await;
        for question in unseen.clone() {
            if shows(&prometheus, &question.1).await {
                unseen.remove(&question);
            }
        }
    }

    alerts_are(&prometheus, &["CapacityExhausted", "UnmanagedLeasesReported"]).await;
    let rules = prometheus.ask("/api/v1/rules").await.unwrap();
    for rule in rules["data"]["groups"][0]["rules"].as_array().unwrap() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }

    // Nobody leads and nobody is ready then, either: what a person has to act upon is one thing.
    postgres.stop().await.unwrap();
    alerts_are(&prometheus, &["DatabaseUnreachable"]).await;
    drop((leader, follower));
    alerts_are(&prometheus, &["Down"]).await;
}
