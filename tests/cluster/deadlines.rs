//! Deadlines: moved while the lease is held, and met whatever happens to the operator and to its machine's clock.

use std::path::{Path, PathBuf};

use environment_operator::api::{EnvironmentLease, LeasePhase, Reason};
use harness::guard;
use harness::operator::Operator;
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::{Expected, GRACE, LIMIT, TestEnvironment, lease, moment};

const EXPIRED: Expected<'_> = Expected {
    phase: LeasePhase::Expired,
    reason: Reason::TtlExpired,
    message: "the time of spec.ttlSeconds has passed",
};

async fn patch(world: &TestEnvironment<'_>, name: &str, patch: Value) {
    let parameters = PatchParams::default();
    let leases = world.leases();
    leases.patch(name, &parameters, &Patch::Merge(patch)).await.unwrap();
}

fn ttl(seconds: i32) -> Value {
    json!({ "spec": { "ttlSeconds": seconds } })
}

/// How long after its grant the lease expires.
fn lifetime(lease: &EnvironmentLease) -> i64 {
    let status = lease.status.as_ref().unwrap();
    let acquired = status.acquired_at.unwrap().get();
    status.expires_at.unwrap().get().duration_since(acquired).as_secs()
}

fn ended_in_time(lease: &EnvironmentLease) {
    let status = lease.status.as_ref().unwrap();
    assert!(status.released_at >= status.expires_at, "{status:?}");
}

async fn phase(world: &TestEnvironment<'_>, name: &str) -> LeasePhase {
    let lease = world.leases().get(name).await.unwrap();
    lease.status.unwrap().phase.unwrap()
}

/// Waits until so many seconds have passed by the database's clock.
async fn pass(world: &TestEnvironment<'_>, seconds: i64) {
    let now = async || -> Timestamp {
        let now: Value = sqlx::query_scalar("SELECT to_jsonb(clock_timestamp())")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        moment(&now).unwrap()
    };
    let begun = now().await;
    eventually("the time passes", LIMIT, async || {
        let passed = now().await.duration_since(begun);
        if passed.as_secs() >= seconds {
            Ok(())
        } else {
            Err(passed)
        }
    })
    .await;
}

#[tokio::test]
async fn expiry_follows_the_ttl_up_and_down_and_at_once_below_the_age() {
    let world = TestEnvironment::new("ttl").await;
    let _operator = world.start().await;
    for name in ["raised", "lowered", "below"] {
        let seconds = if name == "raised" { 5 } else { 3600 };
        world.granted(lease(name).set("ttlSeconds", seconds)).await;
    }
    patch(&world, "raised", ttl(1800)).await;
    patch(&world, "lowered", ttl(6)).await;
    let ended = EXPIRED.of(&world, "lowered").await;
    ended_in_time(&ended);
    assert_eq!(lifetime(&ended), 6);
    let raised = world.lease_in("raised", LeasePhase::Active).await;
    assert_eq!(lifetime(&raised), 1800, "its first time is over, and it is held");
    patch(&world, "below", ttl(1)).await;
    let ended = EXPIRED.of(&world, "below").await;
    assert_eq!(lifetime(&ended), 1);
    let late = ended.status.as_ref().unwrap();
    let late = late
        .released_at
        .unwrap()
        .get()
        .duration_since(late.expires_at.unwrap().get());
    assert!(late.as_secs() >= 4, "it ended by the change, not by its time: {late}");
    world.settles().await;
}

#[tokio::test]
async fn what_comes_due_without_an_operator_ends_with_the_next_and_nothing_else_does() {
    let world = TestEnvironment::new("absent").await;
    let mut operator = world.start().await;
    world.granted(lease("due").set("ttlSeconds", 3)).await;
    world.granted(lease("kept").set("ttlSeconds", 3600)).await;
    operator.stop(GRACE).await.unwrap();
    // Nobody has tried these while their time passed: once, they are tried all the same.
    world.claim(lease("late").set("acquireTimeoutSeconds", 1)).await;
    world
        .claim(lease("in-vain").environment("nowhere").set("acquireTimeoutSeconds", 1))
        .await;
    pass(&world, 4).await;
    assert_eq!(phase(&world, "due").await, LeasePhase::Active);
    operator.start_again().unwrap();
    ended_in_time(&EXPIRED.of(&world, "due").await);
    world.lease_in("late", LeasePhase::Active).await;
    world
        .lease_because("in-vain", LeasePhase::Failed, Reason::AcquireTimedOut)
        .await;
    assert_eq!(phase(&world, "kept").await, LeasePhase::Active);
    world.settles().await;
}

#[tokio::test]
async fn an_operator_that_was_paused_ends_what_is_due_and_believes_no_silence_that_it_slept_through() {
    let world = TestEnvironment::new("paused").await;
    let mut operator = world.start().await;
    world.granted(lease("due").set("ttlSeconds", 4)).await;
    world.granted(lease("kept")).await;
    world.granted(lease("beats").set("heartbeatTimeoutSeconds", 5)).await;
    operator.pause().unwrap();
    for turn in 0..4 {
        pass(&world, 2).await;
        let beat = json!({ "metadata": { "annotations": { "paperclip.ing/renew-time": format!("turn {turn}") } } });
        patch(&world, "beats", beat).await;
    }
    assert_eq!(phase(&world, "due").await, LeasePhase::Active);
    operator.resume().unwrap();
    ended_in_time(&EXPIRED.of(&world, "due").await);
    let late = world.lease_because("beats", LeasePhase::Expired, Reason::HeartbeatMissed);
    let late = late.await.status.unwrap();
    let held = late
        .released_at
        .unwrap()
        .get()
        .duration_since(late.acquired_at.unwrap().get());
    assert!(
        held >= SignedDuration::from_secs(8 + 4),
        "its last heartbeat was not heard: {held}"
    );
    assert_eq!(phase(&world, "kept").await, LeasePhase::Active);
    world.settles().await;
}

/// The library that tells a process another time.
fn faketime() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok);
    let mut found = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1"));
    found
        .find(|library| library.exists())
        .expect("libfaketime is missing: scripts/setup.sh installs it (Debian package libfaketime)")
}

/// What the operator's clock says, from its last log line, before that of this machine.
fn ahead(operator: &Operator) -> SignedDuration {
    let log = operator.log();
    let said: Option<Timestamp> = log
        .lines()
        .rev()
        .find_map(|line| line.split_whitespace().next()?.parse().ok());
    said.unwrap().duration_since(Timestamp::now())
}

fn step(clock: &Path, step: &str) {
    std::fs::write(clock, step).unwrap();
}

#[tokio::test]
async fn an_hour_that_the_operator_s_clock_is_stepped_by_ends_nothing_early_and_nothing_late() {
    let world = TestEnvironment::new("stepped").await;
    let clock = guard::fresh_directory("clock").unwrap().join("offset");
    step(&clock, "+0");
    let operator = world
        .operator()
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .start()
        .unwrap();
    operator.wait_ready().await;
    let epoch = world.epoch().await;
    world.granted(lease("kept").set("ttlSeconds", 1800)).await;
    world
        .granted(lease("expected").set("heartbeatTimeoutSeconds", 1800))
        .await;
    let waiting = lease("waiting").environment("nowhere");
    world.claim(waiting.set("acquireTimeoutSeconds", 1800)).await;
    world.granted(lease("shown").set("ttlSecondsAfterFinished", 1800)).await;
    world.release("shown").await;

    for (number, (offset, hours)) in [("+1h", 1), ("-1h", -1), ("+0", 0)].into_iter().enumerate() {
        let name = |what: &str| format!("{what}-{number}");
        world.granted(lease(&name("across")).set("ttlSeconds", 4)).await;
        step(&clock, offset);
        world.granted(lease(&name("due")).set("ttlSeconds", 2)).await;
        let silent = lease(&name("silent")).set("heartbeatTimeoutSeconds", 2);
        world.granted(silent).await;
        let refused = lease(&name("refused"))
            .environment("nowhere")
            .set("acquireTimeoutSeconds", 1);
        world.claim(refused.set("ttlSecondsAfterFinished", 3600)).await;
        let brief = lease(&name("brief")).set("release", true);
        world.claim(brief.set("ttlSecondsAfterFinished", 1)).await;
        for what in ["across", "due"] {
            ended_in_time(&EXPIRED.of(&world, &name(what)).await);
        }
        world
            .lease_because(&name("silent"), LeasePhase::Expired, Reason::HeartbeatMissed)
            .await;
        world
            .lease_because(&name("refused"), LeasePhase::Failed, Reason::AcquireTimedOut)
            .await;
        eventually("the object is removed", LIMIT, async || {
            match world.leases().get_opt(&name("brief")).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let ahead = ahead(&operator);
        assert!(
            (ahead - SignedDuration::from_hours(hours)).abs() < SignedDuration::from_mins(5),
            "{ahead}"
        );
    }
    for (name, expected) in [
        ("kept", LeasePhase::Active),
        ("expected", LeasePhase::Active),
        ("waiting", LeasePhase::Pending),
        ("shown", LeasePhase::Released),
    ] {
        assert_eq!(phase(&world, name).await, expected, "{name}");
    }
    assert_eq!(world.epoch().await, epoch, "it led throughout");
    world.settles().await;
    assert!(operator.get("/readyz").await.unwrap().status == 200);
}
