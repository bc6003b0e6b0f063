//! Nothing without need: what finds the world unchanged writes nothing, not even to the write-ahead log.

use environment_operator::api::Driver;
use environment_operator::store::environment_leases::{LeaseSync, SyncOutcome};
use environment_operator::store::environment_object::EnvironmentQuery;
use environment_operator::store::environments::{self, EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::lease_object::LeaseQuery;
use environment_operator::store::{Store, sweep};
use harness::guard::fresh_directory;
use harness::postgres::Postgres;

use crate::support::*;

/// Bytes of log that this session's server has written so far.
async fn position(world: &TestEnvironment) -> i64 {
    world
        .count("SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::int8")
        .await
}

#[tokio::test]
async fn an_idle_look_and_an_idle_sync_write_no_log() {
    // A server of its own: other tests write to the log of theirs.
    let postgres = Postgres::start(&fresh_directory("idle").unwrap()).await.unwrap();
    let mut world = TestEnvironment::on(postgres.database().await.unwrap()).await;
    world.store = Store::open(&address(world.database.url()), world.store.mode(), 1)
        .await
        .unwrap();
    let (sandbox, local) = (world.sandbox("box"), world.local());
    let syncs = [&sandbox, &local].map(|sync| environments::EnvironmentSync {
        binding: None,
        ..sync.clone()
    });
    for sync in [&sandbox, &local] {
        world.sync_environment(sync).await;
    }
    let lease = granted(world.grant(&world.claim(sandbox.id)).await);
    let same = LeaseSync {
        id: lease.id,
        version: version("lease", 25, 1),
        ttl_seconds: 3600,
        metadata: Some(Default::default()),
        ttl_seconds_after_finished: 60,
    };
    let before = position(&world).await;
    let edited = LeaseSync {
        version: version("lease", 26, 2),
        ttl_seconds: 60,
        ..same.clone()
    };
    LeaseSync::carry_out(&world.store, &world.leader, std::slice::from_ref(&edited))
        .await
        .unwrap();
    assert!(position(&world).await > before, "the measure sees one deliberate write");
    let same = LeaseSync {
        version: version("lease", 27, 2),
        ..edited
    };
    let idle = async || {
        LeaseQuery::carry_out(&world.store, &world.leader, &[world.look_at(lease.id)])
            .await
            .unwrap();
        let look = EnvironmentQuery {
            id: sandbox.id,
            namespace_uid: Some(world.namespace_uid),
            company_id: None,
            driver: Driver::Sandbox,
        };
        EnvironmentQuery::carry_out(&world.store, &world.leader, &[look])
            .await
            .unwrap();
        for outcome in EnvironmentSync::carry_out(&world.store, &world.leader, &syncs)
            .await
            .unwrap()
        {
            assert!(matches!(outcome, EnvironmentOutcome::AlreadySo(_)), "{outcome:?}");
        }
        let outcomes = LeaseSync::carry_out(&world.store, &world.leader, std::slice::from_ref(&same))
            .await
            .unwrap();
        assert_eq!(outcomes, [SyncOutcome::AlreadySo]);
        assert_eq!(
            sweep::candidates(&world.store, &world.leader, &[]).await.unwrap(),
            Vec::<uuid::Uuid>::new()
        );
    };
    // The server's own processes write now and then (a checkpoint, a vacuum); an idle round in between must write nothing.
    let mut written = Vec::new();
    for _ in 0..20 {
        let before = position(&world).await;
        idle().await;
        written.push(position(&world).await - before);
        if written.last() == Some(&0) {
            return;
        }
    }
    panic!("each idle round wrote to the log: {written:?} bytes");
}
