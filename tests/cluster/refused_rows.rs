//! The database refuses one object's row, or somebody holds what it needs: that object says so, and nobody else waits for it.

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use sqlx::{Connection, Executor};

use crate::support::{LIMIT, TestEnvironment, lease};

/// The Paperclip server's own trigger, which raises for some rows.
const RAISE: &str = "
CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the licence is used up'; END $$;
CREATE TRIGGER raise_at_grant BEFORE INSERT ON environment_leases FOR EACH ROW
  WHEN (NEW.metadata ->> 'licence' = 'used up') EXECUTE FUNCTION raise();
CREATE TRIGGER raise_at_end BEFORE UPDATE ON environment_leases FOR EACH ROW
  WHEN (OLD.metadata ->> 'licence' = 'kept') EXECUTE FUNCTION raise()";

#[tokio::test]
async fn what_a_trigger_says_of_one_lease_stands_on_it_and_it_is_tried_until_the_database_takes_it() {
    let world = TestEnvironment::new("raises").await;
    let _operator = world.start().await;
    world.ssh_environment("box").await;
    world.pool.execute(sqlx::raw_sql(RAISE)).await.unwrap();
    let claim = |name, licence: &str| {
        lease(name)
            .environment("box")
            .set("metadata", serde_json::json!({ "licence": licence }))
    };
    world.granted(claim("kept", "kept")).await;
    world.granted(claim("neighbour", "free")).await;
    world.claim(claim("refused", "used up")).await;
    world.granted(claim("later", "free")).await;
    let refused = world
        .lease_because("refused", LeasePhase::Pending, Reason::StoreUnavailable)
        .await;
    let message = refused.status.unwrap().message.unwrap();
    assert!(message.contains("the licence is used up"), "{message}");

    world.release("kept").await;
    world.release("neighbour").await;
    world
        .lease_because("neighbour", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    eventually("an Event tells of the lease that cannot end", LIMIT, async || {
        let events = world.events("kept", Reason::StoreUnavailable).await;
        let told = |message: Option<String>| message.is_some_and(|message| message.contains("the licence is used up"));
        if events.into_iter().any(|event| told(event.note)) {
            Ok(())
        } else {
            Err("none does".to_owned())
        }
    })
    .await;
    world.lease_in("kept", LeasePhase::Active).await;

    world
        .pool
        .execute(sqlx::raw_sql("DROP FUNCTION raise() CASCADE"))
        .await
        .unwrap();
    world.lease_in("refused", LeasePhase::Active).await;
    world
        .lease_because("kept", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.settles().await;
}

#[tokio::test]
async fn a_claim_whose_environment_somebody_holds_says_so_and_its_time_runs_out() {
    let world = TestEnvironment::new("held").await;
    let _operator = world.start().await;
    world.ssh_environment("held").await;
    world.ssh_environment("free").await;
    let mut other = world.database.connect().await.unwrap();
    let mut obstacle = other.begin().await.unwrap();
    obstacle
        .execute("SELECT FROM environments WHERE name = 'held' FOR UPDATE")
        .await
        .unwrap();
    world.claim(lease("patient").environment("held")).await;
    world
        .claim(lease("hasty").environment("held").set("acquireTimeoutSeconds", 4))
        .await;
    world.granted(lease("neighbour").environment("free")).await;
    let says = "another transaction in the database holds a row that is needed";
    let waiting = world
        .lease_because("patient", LeasePhase::Pending, Reason::StoreUnavailable)
        .await;
    let message = waiting.status.unwrap().message.unwrap();
    assert!(message.starts_with(says), "{message}");
    let failed = world
        .lease_because("hasty", LeasePhase::Failed, Reason::AcquireTimedOut)
        .await;
    let message = failed.status.unwrap().message.unwrap();
    assert!(message.contains(says), "{message}");
    obstacle.rollback().await.unwrap();
    world.lease_in("patient", LeasePhase::Active).await;
    world.settles().await;
}
