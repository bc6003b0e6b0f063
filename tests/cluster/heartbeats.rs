//! Heartbeats: what counts as one, what a silence ends, what a silence that nobody could have broken does not, and what it costs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::{Method, Uri};
use environment_operator::api::{EnvironmentLease, LeasePhase, Reason};
use futures::{StreamExt, stream};
use harness::wait::eventually;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::proxy::Fault;
use crate::support::{Claim, Expected, LIMIT, TestEnvironment, id_of, lease, moment};

const MISSED: Expected<'_> = Expected {
    phase: LeasePhase::Expired,
    reason: Reason::HeartbeatMissed,
    message: "no heartbeat came within spec.heartbeatTimeoutSeconds",
};

fn beating(name: &str, timeout_seconds: i32) -> Claim {
    lease(name).set("heartbeatTimeoutSeconds", timeout_seconds)
}

/// Sets the annotation to a value that it never had, or removes it.
async fn beat(world: &TestEnvironment<'_>, name: &str, set: bool) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let value = match set {
        true => json!(format!("beat {}", NUMBER.fetch_add(1, Ordering::Relaxed))),
        false => Value::Null,
    };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "paperclip.ing/renew-time": value } } }));
    let parameters = PatchParams::default();
    world.leases().patch(name, &parameters, &patch).await.unwrap();
}

/// Beats about three times a second until `done` says so: sets, changes and removes the annotation in turn.
async fn beat_until(world: &TestEnvironment<'_>, name: &str, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let mut turn = 0_u32;
    eventually(what, LIMIT * 2, async || {
        turn += 1;
        beat(world, name, !turn.is_multiple_of(3)).await;
        if done().await { Ok(()) } else { Err("not yet") }
    })
    .await;
}

async fn phase(world: &TestEnvironment<'_>, name: &str) -> LeasePhase {
    let lease = world.leases().get(name).await.unwrap();
    lease.status.unwrap().phase.unwrap()
}

fn released_at(lease: &EnvironmentLease) -> Timestamp {
    lease.status.as_ref().unwrap().released_at.unwrap().get()
}

/// The database's clock.
async fn now(world: &TestEnvironment<'_>) -> Timestamp {
    let now: Value = sqlx::query_scalar("SELECT to_jsonb(clock_timestamp())")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    moment(&now).unwrap()
}

fn watches_leases(method: &Method, uri: &Uri) -> bool {
    method == Method::GET
        && uri.path().ends_with("/environmentleases")
        && uri.query().is_some_and(|query| query.contains("watch="))
}

#[tokio::test]
async fn a_lease_that_beats_in_any_way_stays_and_one_that_falls_silent_expires() {
    let world = TestEnvironment::new("beat").await;
    let _operator = world.start_with(&["--notice-by=deadlines"]).await;
    for name in ["beats", "silent"] {
        world.granted(beating(name, 5)).await;
    }
    world.granted(lease("unasked")).await;
    beat_until(&world, "beats", "the silent lease expires", async || {
        phase(&world, "silent").await == LeasePhase::Expired
    })
    .await;
    MISSED.of(&world, "silent").await;
    assert_eq!(phase(&world, "beats").await, LeasePhase::Active);
    let last = now(&world).await;
    let ended = MISSED.of(&world, "beats").await;
    let silence = released_at(&ended).duration_since(last);
    assert!(
        (2..=8).contains(&silence.as_secs()),
        "it ended {silence} after its last heartbeat"
    );
    assert_eq!(phase(&world, "unasked").await, LeasePhase::Active);
    world.settles().await;
}

#[tokio::test]
async fn a_new_leader_begins_to_count_afresh() {
    let world = TestEnvironment::new("beat-leader").await;
    let mut leader = world.start().await;
    let _follower = world.start().await;
    world.granted(beating("patient", 4)).await;
    leader.kill().unwrap();
    let deposed = now(&world).await;
    world.pass_term().await;
    let ended = MISSED.of(&world, "patient").await;
    assert!(released_at(&ended).duration_since(deposed).as_secs() >= 4);
    // The next one, too.
    world.granted(beating("second", 4)).await;
    leader.start_again().unwrap();
    leader.wait_ready().await;
    MISSED.of(&world, "second").await;
    world.settles().await;
}

#[tokio::test]
async fn what_a_stalled_watch_keeps_back_is_found_by_a_read_before_a_lease_is_ended() {
    let world = TestEnvironment::new("beat-stalled").await;
    let proxy = world.proxy().await;
    let operator = world
        .operator()
        .kubeconfig(proxy.kubeconfig())
        .arg("--watch-timeout=1s");
    let operator = operator.start().unwrap();
    operator.wait_ready().await;
    world.granted(beating("unheard", 5)).await;

    let stalled = proxy.spoil(Fault::Withhold, watches_leases);
    beat_until(&world, "unheard", "the watch stalls", async || stalled.hits() > 0).await;
    let mark = world.mark();
    beat_until(&world, "unheard", "the lease is read instead", async || {
        let events = world.control_plane().audit().since(mark).unwrap();
        let read = events.into_iter().filter(|event| {
            let object = event.object_ref.as_ref();
            event.verb == "get" && object.is_some_and(|object| object.name == "unheard")
        });
        read.count() >= 1
    })
    .await;
    assert_eq!(phase(&world, "unheard").await, LeasePhase::Active);
    stalled.lift();
    MISSED.of(&world, "unheard").await;
    world.settles().await;
}

#[tokio::test]
async fn a_silence_does_not_count_while_the_watch_is_broken() {
    let world = TestEnvironment::new("beat-deaf").await;
    let proxy = world.proxy().await;
    let operator = world
        .operator()
        .kubeconfig(proxy.kubeconfig())
        .arg("--watch-timeout=1s");
    let operator = operator.start().unwrap();
    operator.wait_ready().await;
    world.granted(beating("unheard", 2)).await;
    beat_until(&world, "unheard", "it is heard", async || {
        phase(&world, "unheard").await == LeasePhase::Active
    })
    .await;
    let broken = proxy.spoil(Fault::Answer(500), watches_leases);
    broken.wait_for_hits(1).await;
    let since = Instant::now();
    eventually(
        "it has been silent for three times what is admitted",
        LIMIT,
        async || match since.elapsed() {
            passed if passed > Duration::from_secs(6) => Ok(()),
            passed => Err(format!("{passed:?}")),
        },
    )
    .await;
    assert_eq!(phase(&world, "unheard").await, LeasePhase::Active);
    broken.lift();
    MISSED.of(&world, "unheard").await;
    world.settles().await;
}

#[tokio::test]
async fn a_silence_does_not_count_while_the_lease_can_not_be_read() {
    let world = TestEnvironment::new("beat-unread").await;
    let proxy = world.proxy().await;
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    let unread = proxy.spoil(Fault::Answer(500), |method, uri| {
        method == Method::GET && uri.path().ends_with("/environmentleases/unread")
    });
    world.granted(beating("unread", 1)).await;
    unread.wait_for_hits(3).await;
    assert_eq!(phase(&world, "unread").await, LeasePhase::Active);
    unread.lift();
    MISSED.of(&world, "unread").await;
}

#[tokio::test]
async fn the_sweep_alone_ends_a_silent_lease_too() {
    let world = TestEnvironment::new("beat-sweep").await;
    let _operator = world.start_with(&["--notice-by=sweep", "--sweep-interval=1s"]).await;
    world.granted(beating("silent", 1)).await;
    MISSED.of(&world, "silent").await;
}

#[tokio::test]
async fn a_timeout_that_comes_later_counts_from_then_and_one_that_goes_counts_no_more() {
    let world = TestEnvironment::new("beat-changed").await;
    let _operator = world.start().await;
    world.granted(lease("later")).await;
    world.granted(beating("never", 3)).await;
    let patch = |timeout: Value| Patch::Merge(json!({ "spec": { "heartbeatTimeoutSeconds": timeout } }));
    let parameters = PatchParams::default();
    world
        .leases()
        .patch("never", &parameters, &patch(Value::Null))
        .await
        .unwrap();
    let asked = now(&world).await;
    world
        .leases()
        .patch("later", &parameters, &patch(json!(3)))
        .await
        .unwrap();
    let ended = MISSED.of(&world, "later").await;
    assert!(released_at(&ended).duration_since(asked).as_secs() >= 3);
    assert_eq!(phase(&world, "never").await, LeasePhase::Active);
}

#[tokio::test]
async fn the_row_tells_when_a_lease_was_last_used_and_is_written_once_a_minute_at_most() {
    let world = TestEnvironment::new("beat-row").await;
    let _operator = world.start().await;
    let id = id_of(&world.granted(beating("used", 4)).await);
    let row = async || {
        let row: (Value, String) =
            sqlx::query_as("SELECT to_jsonb(last_used_at), xmin::text FROM environment_leases WHERE id = $1")
                .bind(id)
                .fetch_one(&world.pool)
                .await
                .unwrap();
        (moment(&row.0).unwrap(), row.1)
    };
    sqlx::query("UPDATE environment_leases SET last_used_at = last_used_at - interval '1 hour' WHERE id = $1")
        .bind(id)
        .execute(&world.pool)
        .await
        .unwrap();
    let (long_ago, _) = row().await;
    beat_until(&world, "used", "the row tells of it", async || row().await.0 > long_ago).await;
    let (used, version) = row().await;
    assert!(used <= now(&world).await && now(&world).await.duration_since(used).as_secs() < 5);
    // Looked at every four seconds, it would be written again and again.
    let since = Instant::now();
    beat_until(&world, "used", "it beats for a while", async || {
        since.elapsed() > Duration::from_secs(10)
    })
    .await;
    assert_eq!(row().await, (used, version));
    MISSED.of(&world, "used").await;
}

/// How many leases beat at once.
const MANY: usize = 1_000;

/// How often each of them beats.
const ROUNDS: usize = 4;

#[tokio::test]
async fn a_thousand_leases_that_beat_cost_no_status_writes_and_no_row_writes_within_a_minute() {
    let world = TestEnvironment::new("beat-many").await;
    let operator = world.start().await;
    let names: Vec<String> = (0..MANY).map(|number| format!("beats-{number}")).collect();
    stream::iter(&names)
        .map(|name| world.claim(beating(name, 3600)))
        .buffer_unordered(16)
        .for_each(async |_| {})
        .await;
    eventually("all are granted", LIMIT * 4, async || {
        let granted: i64 = sqlx::query_scalar("SELECT count(*) FROM environment_leases WHERE status = 'active'")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        let shown = operator
            .metric("environment_operator_batch_size_sum", "statement=\"grant\"")
            .await
            .unwrap();
        if granted == MANY as i64 {
            Ok(())
        } else {
            Err(format!("{granted} granted, {shown} tried"))
        }
    })
    .await;
    eventually("all are shown", LIMIT * 4, async || {
        let shown = world.leases().list(&Default::default()).await.unwrap().items;
        let shown = shown.iter().filter(|lease| {
            lease
                .status
                .as_ref()
                .is_some_and(|status| status.phase == Some(LeasePhase::Active))
        });
        match shown.count() {
            MANY => Ok(()),
            shown => Err(shown),
        }
    })
    .await;

    let looks = async || {
        operator
            .metric("environment_operator_batch_size_sum", "statement=\"look_lease\"")
            .await
            .unwrap()
    };
    let (mark, versions, looked) = (world.mark(), versions(&world).await, looks().await);
    let beaten = Instant::now();
    for _ in 0..ROUNDS {
        stream::iter(&names)
            .map(|name| beat(&world, name, true))
            .buffer_unordered(16)
            .for_each(async |()| {})
            .await;
    }
    let took = beaten.elapsed();
    println!("{} heartbeats in {took:?}", MANY * ROUNDS);
    let of_leases: Vec<String> = world
        .writes_since(mark)
        .into_iter()
        .filter_map(|event| event.object_ref)
        .filter(|object| object.resource == "environmentleases")
        .map(|object| object.name)
        .collect();
    assert_eq!(of_leases, Vec::<String>::new(), "no write to the API server");
    let after = self::versions(&world).await;
    let written = after
        .iter()
        .filter(|(id, version)| versions.get(*id) != Some(*version))
        .count();
    let early: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM environment_leases
         WHERE last_used_at > acquired_at AND last_used_at < acquired_at + interval '1 minute'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(early, 0, "no write to a row within a minute of its last one");
    let looked = looks().await - looked;
    println!("{written} rows written, {looked} looks");
    assert!(
        looked <= MANY as f64 * (1.0 + took.as_secs_f64() / 60.0),
        "{looked} looks"
    );
    assert_eq!(
        world.leases().list(&Default::default()).await.unwrap().items.len(),
        MANY
    );
}

/// Which transaction has written each lease's row.
async fn versions(world: &TestEnvironment<'_>) -> HashMap<Uuid, String> {
    let rows: Vec<(Uuid, String)> = sqlx::query_as("SELECT id, xmin::text FROM environment_leases")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    rows.into_iter().collect()
}
