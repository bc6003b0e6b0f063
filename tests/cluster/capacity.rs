//! Environments that admit only so many leases: never more, and the others in the order in which they came.

use std::collections::BTreeMap;

use environment_operator::api::{EnvironmentLease, EnvironmentPhase, LeasePhase, Reason};
use futures::future::join_all;
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use sqlx::Executor;
use uuid::Uuid;

use crate::support::{Claim, LIMIT, TestEnvironment, id_of, lease};

/// Longer than any test waits for what it expects.
const PATIENT: i32 = 3600;

fn claim(name: &str) -> Claim {
    lease(name).environment("box")
}

/// Sets the limit of the environment; none removes it.
async fn admit(world: &TestEnvironment<'_>, limit: Option<i32>) {
    let patch = json!({ "spec": { "maxActiveLeases": limit } });
    world
        .environments()
        .patch("box", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// An environment that admits so many leases, in the database already.
async fn limited(world: &TestEnvironment<'_>, limit: i32) {
    let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
    let spec = json!({ "driver": "SSH", "ssh": ssh, "maxActiveLeases": limit });
    world.environment("box", spec).await;
    world.environment_in("box", EnvironmentPhase::Active).await;
}

/// Waits until the claim shows that there is no room, in these words.
async fn is_told(world: &TestEnvironment<'_>, name: &str, message: &str) {
    eventually(&format!("{name} says {message}"), LIMIT, async || {
        let shown = world
            .lease_because(name, LeasePhase::Pending, Reason::CapacityFull)
            .await;
        match shown.status.unwrap().message {
            Some(shown) if shown == message => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

fn token(lease: &EnvironmentLease) -> i64 {
    lease.status.as_ref().unwrap().fencing_token.unwrap()
}

#[tokio::test]
async fn an_exclusive_environment_goes_from_one_lease_to_the_next_in_line() {
    let world = TestEnvironment::new("room-exclusive").await;
    let _operator = world.start().await;
    limited(&world, 1).await;
    let first = world.granted(claim("first")).await;
    world.claim(claim("second")).await;
    is_told(
        &world,
        "second",
        "1 of 1 leases are active (first); place 1 in the wait queue",
    )
    .await;
    world.claim(claim("third")).await;
    is_told(
        &world,
        "third",
        "1 of 1 leases are active (first); place 2 in the wait queue",
    )
    .await;
    world.release("first").await;
    let second = world.lease_in("second", LeasePhase::Active).await;
    assert!(token(&second) > token(&first), "tokens rise");
    // The third has moved up, and says so.
    is_told(
        &world,
        "third",
        "1 of 1 leases are active (second); place 1 in the wait queue",
    )
    .await;
    let rows = world.lease_rows(world.company()).await;
    assert_eq!(rows.iter().filter(|row| row["status"] == "active").count(), 1);
    world.delete_lease("second").await;
    let third = world.lease_in("third", LeasePhase::Active).await;
    assert!(token(&third) > token(&second));
    let events = world.events_once_told("third", Reason::CapacityFull).await;
    assert_eq!(events.len(), 1, "one Event");
    world.settles().await;
}

#[tokio::test]
async fn a_limit_that_is_lowered_ends_nothing_and_one_that_is_raised_or_removed_lets_the_next_in() {
    let world = TestEnvironment::new("room-changed").await;
    let _operator = world.start().await;
    limited(&world, 2).await;
    for name in ["a", "b"] {
        world.granted(claim(name)).await;
    }
    admit(&world, Some(1)).await;
    for name in ["c", "d", "e", "f"] {
        world.claim(claim(name)).await;
        world
            .lease_because(name, LeasePhase::Pending, Reason::CapacityFull)
            .await;
    }
    world.release("a").await;
    world.lease_in("a", LeasePhase::Released).await;
    admit(&world, Some(2)).await;
    world.lease_in("c", LeasePhase::Active).await;
    let held = world.leases().get("b").await.unwrap();
    assert_eq!(
        held.status.unwrap().phase,
        Some(LeasePhase::Active),
        "lowering ended nothing"
    );
    admit(&world, Some(3)).await;
    world.lease_in("d", LeasePhase::Active).await;
    let next = world.leases().get("e").await.unwrap();
    assert_eq!(next.status.unwrap().phase, Some(LeasePhase::Pending));
    admit(&world, None).await;
    for name in ["e", "f"] {
        world.lease_in(name, LeasePhase::Active).await;
    }
    world.settles().await;
}

#[tokio::test]
async fn leases_of_another_writer_count_and_are_not_named() {
    let world = TestEnvironment::new("room-unmanaged").await;
    let _operator = world.start().await;
    limited(&world, 2).await;
    let environment = world.environments().get("box").await.unwrap();
    let environment = environment.uid().unwrap().parse().unwrap();
    let unmanaged = world.insert_unmanaged_lease(environment, json!({})).await;
    world.granted(claim("ours")).await;
    world.claim(claim("next")).await;
    let message = "2 of 2 leases are active (a lease of another writer, ours); place 1 in the wait queue";
    is_told(&world, "next", message).await;
    world.set_lease_status(unmanaged, "released").await;
    world.lease_in("next", LeasePhase::Active).await;
    world.settles().await;
}

#[tokio::test]
async fn a_claim_that_something_else_holds_back_is_passed_and_a_retained_lease_makes_room() {
    let world = TestEnvironment::new("room-passed").await;
    let _operator = world.start().await;
    limited(&world, 1).await;
    let run = world.insert_run().await;
    let policy = "RetainOnFailure";
    world
        .granted(claim("holder").heartbeat_run(run).set("policy", policy))
        .await;
    world.claim(claim("eldest").job("later")).await;
    world
        .lease_because("eldest", LeasePhase::Pending, Reason::RunNotFound)
        .await;
    for name in ["released", "deleted", "younger"] {
        world.claim(claim(name)).await;
        world
            .lease_because(name, LeasePhase::Pending, Reason::CapacityFull)
            .await;
    }
    world.release("released").await;
    let refused = world.lease_in("released", LeasePhase::Failed).await;
    assert_eq!(refused.status.unwrap().reason, Some(Reason::ReleaseRequested));
    world.delete_lease("deleted").await;
    world.set_run_status(&[run], "failed").await;
    world.lease_in("holder", LeasePhase::Retained).await;
    world.lease_in("younger", LeasePhase::Active).await;
    world.job("later", json!({})).await;
    is_told(
        &world,
        "eldest",
        "1 of 1 leases are active (younger); place 1 in the wait queue",
    )
    .await;
    world.release("younger").await;
    world.lease_in("eldest", LeasePhase::Active).await;
}

#[tokio::test]
async fn a_claim_for_which_no_room_is_found_in_time_has_failed() {
    let world = TestEnvironment::new("room-late").await;
    let _operator = world.start().await;
    limited(&world, 1).await;
    world.granted(claim("holder")).await;
    world.claim(claim("late").set("acquireTimeoutSeconds", 2)).await;
    let failed = world
        .lease_because("late", LeasePhase::Failed, Reason::AcquireTimedOut)
        .await;
    assert_eq!(
        failed.status.unwrap().message.as_deref(),
        Some(
            "not granted within spec.acquireTimeoutSeconds; last: 1 of 1 leases are active (holder); place 1 in the wait queue"
        )
    );
    world.settles().await;
}

#[tokio::test]
async fn a_new_leader_keeps_the_line_and_the_limit() {
    let world = TestEnvironment::new("room-replicas").await;
    let mut first = world.start().await;
    limited(&world, 1).await;
    world.granted(claim("holder")).await;
    let _second = world.start().await;
    let names = ["z-first", "m-second", "a-third", "k-fourth"];
    for name in names {
        let made = world.claim(claim(name).set("acquireTimeoutSeconds", PATIENT)).await;
        world
            .lease_because(name, LeasePhase::Pending, Reason::CapacityFull)
            .await;
        // The next one in another second, so that the order does not hang on what either replica has seen.
        let second = made.creation_timestamp().unwrap().0.as_second();
        eventually("a second has passed", LIMIT, async || {
            if jiff::Timestamp::now().as_second() > second {
                Ok(())
            } else {
                Err("not yet")
            }
        })
        .await;
    }
    first.kill().unwrap();
    world.release("holder").await;
    let mut before = 0;
    for name in names {
        let held = world.lease_in(name, LeasePhase::Active).await;
        assert!(token(&held) > before, "{name}");
        before = token(&held);
        let rows = world.lease_rows(world.company()).await;
        assert_eq!(
            rows.iter().filter(|row| row["status"] == "active").count(),
            1,
            "after {name}"
        );
        world.release(name).await;
    }
    world.settles().await;
}

/// Counts the active leases at each commit that adds one, one commit after the other.
const COUNT_AT_COMMIT: &str = "
CREATE TABLE public.counted (active bigint NOT NULL);
CREATE FUNCTION public.count_active() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4711);
  INSERT INTO public.counted
    SELECT count(*) FROM public.environment_leases WHERE environment_id = NEW.environment_id AND status = 'active';
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER count_active AFTER INSERT OR UPDATE ON public.environment_leases
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.status = 'active') EXECUTE FUNCTION public.count_active();
";

#[tokio::test]
async fn two_hundred_claimants_of_three_leases_are_all_served_in_their_order_and_never_four_at_once() {
    const CLAIMANTS: usize = 200;
    const ROOM: usize = 3;
    let world = TestEnvironment::new("room-crowd").await;
    let _operator = world.start().await;
    limited(&world, i32::try_from(ROOM).unwrap()).await;
    world.pool.execute(sqlx::raw_sql(COUNT_AT_COMMIT)).await.unwrap();
    for number in 0..ROOM {
        world.granted(claim(&format!("holder-{number}"))).await;
    }
    let claims =
        (0..CLAIMANTS).map(|number| claim(&format!("claimant-{number}")).set("acquireTimeoutSeconds", PATIENT));
    let mut made = Vec::new();
    for some in claims.collect::<Vec<_>>().chunks(20) {
        made.extend(join_all(some.iter().map(|claim| world.claim(claim.clone()))).await);
    }
    // The watch tells of them in the order of their resourceVersions.
    let turn = |lease: &EnvironmentLease| {
        let version: u64 = lease.resource_version().unwrap().parse().unwrap();
        (lease.creation_timestamp().unwrap().0, version, id_of(lease))
    };
    let mut order: Vec<_> = made.iter().map(turn).collect();
    order.sort_unstable();
    eventually("all are told that there is no room", LIMIT, async || {
        let leases = world
            .leases()
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let reason = |lease: &EnvironmentLease| lease.status.as_ref().and_then(|status| status.reason);
        let told = leases
            .iter()
            .filter(|lease| reason(lease) == Some(Reason::CapacityFull))
            .count();
        if told == CLAIMANTS {
            Ok(())
        } else {
            Err(format!("{told} are"))
        }
    })
    .await;

    // Each lease is released as soon as it is seen to be held.
    eventually("all are served", 6 * LIMIT, async || {
        let leases = world
            .leases()
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let phase = |lease: &EnvironmentLease| lease.status.as_ref().and_then(|status| status.phase);
        let held = leases
            .iter()
            .filter(|lease| phase(lease) == Some(LeasePhase::Active) && !lease.spec.release);
        let names: Vec<String> = held.map(ResourceExt::name_any).collect();
        join_all(names.iter().map(|name| world.release(name))).await;
        let open = leases
            .iter()
            .filter(|lease| phase(lease) != Some(LeasePhase::Released))
            .count();
        if open == 0 {
            Ok(())
        } else {
            Err(format!("{open} are open"))
        }
    })
    .await;

    let tokens: BTreeMap<i64, Uuid> = sqlx::query_as("SELECT fencing_token, id FROM environment_operator.lease_object")
        .fetch_all(&world.pool)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(tokens.len(), CLAIMANTS + ROOM);
    let mut waiting: Vec<Uuid> = order.iter().map(|(_, _, id)| *id).collect();
    let mut overtaken = 0;
    for id in tokens.values().skip(ROOM) {
        let place = waiting.iter().position(|waiting| waiting == id).unwrap();
        assert!(place < ROOM, "{id} was granted from place {place}");
        overtaken += usize::from(place > 0);
        waiting.remove(place);
    }
    println!("{overtaken} of {CLAIMANTS} were granted a moment before one that had a place as well");
    let (most, commits): (i64, i64) = sqlx::query_as("SELECT max(active), count(*) FROM counted")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(
        most,
        i64::try_from(ROOM).unwrap(),
        "at the fullest of {commits} commits"
    );
    world.settles().await;
}
