use std::collections::HashSet;

use environment_operator::api::{Driver, Reason};
use environment_operator::lifecycle::EnvironmentState;
use environment_operator::store::environment_object::EnvironmentQuery;
use environment_operator::store::environments::{
    Archive, ArchiveOutcome, EnvironmentOutcome, EnvironmentSync, ensure_local,
};
use environment_operator::store::session::Session;
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::*;

#[tokio::test]
async fn an_environment_is_inserted_updated_repaired_and_otherwise_left_alone() {
    let world = TestEnvironment::new().await;
    let first = EnvironmentSync {
        metadata: Some(object(json!({"a": 1}))),
        ..world.sandbox("one")
    };
    let EnvironmentOutcome::Inserted(row) = world.sync_environment(&first).await else {
        panic!()
    };
    assert_eq!(
        (row.id, row.company_id, row.name.as_str()),
        (first.id, world.company, "one")
    );
    assert_eq!(row.status, EnvironmentState::Active);
    assert_eq!(
        world.sync_environment(&first).await,
        EnvironmentOutcome::AlreadySo(row.clone())
    );
    let second = EnvironmentSync {
        version: version("one", 11, 2),
        description: Some("new".to_owned()),
        status: ARCHIVED,
        ..first.clone()
    };
    let EnvironmentOutcome::Updated(row) = world.sync_environment(&second).await else {
        panic!()
    };
    assert_eq!(
        (row.description.as_deref(), row.status),
        (Some("new"), EnvironmentState::Archived)
    );
    assert_eq!(world.sync_environment(&first).await, EnvironmentOutcome::Older);
    sqlx::query("UPDATE environments SET name = 'drifted'")
        .execute(world.pool())
        .await
        .unwrap();
    let EnvironmentOutcome::Updated(row) = world.sync_environment(&second).await else {
        panic!()
    };
    assert_eq!(row.name, "one");
    sqlx::query("DELETE FROM environments")
        .execute(world.pool())
        .await
        .unwrap();
    let EnvironmentOutcome::Inserted(row) = world.sync_environment(&second).await else {
        panic!()
    };
    assert_eq!(row.id, first.id, "again under the same id");
}

#[tokio::test]
async fn several_ssh_environments_live_in_one_company() {
    let world = TestEnvironment::new().await;
    for name in ["one", "two", "three"] {
        let sync = EnvironmentSync {
            driver: Driver::Ssh,
            config: json!({"host": name}),
            ..world.sandbox(name)
        };
        assert!(matches!(
            world.sync_environment(&sync).await,
            EnvironmentOutcome::Inserted(_)
        ));
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM environments WHERE driver = 'ssh'")
            .await,
        3
    );
}

#[tokio::test]
async fn standalone_makes_the_company_with_the_first_row_of_its_namespace() {
    let world = TestEnvironment::new().await;
    let company_id = Uuid::new_v4();
    let sync = EnvironmentSync {
        company_id,
        binding: Some(environment_operator::store::NamespaceBinding {
            namespace_uid: company_id,
            ..world.settle()
        }),
        ..world.sandbox("one")
    };
    let orphan = EnvironmentSync {
        binding: None,
        company_id: Uuid::new_v4(),
        ..world.sandbox("two")
    };
    let outcomes = EnvironmentSync::carry_out(&world.store, &world.leader, &[sync.clone(), orphan])
        .await
        .unwrap();
    assert!(matches!(outcomes[0], EnvironmentOutcome::Inserted(_)));
    let EnvironmentOutcome::Refused(refusal) = &outcomes[1] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(refusal.reason, Reason::CompanyNotFound);
    let look = EnvironmentQuery {
        id: sync.id,
        namespace_uid: Some(company_id),
        company_id: None,
        driver: Driver::Sandbox,
    };
    let view = EnvironmentQuery::carry_out(&world.store, &world.leader, &[look])
        .await
        .unwrap()
        .remove(0);
    assert_eq!(view.recorded_company, Some(company_id));
    assert!(view.company_exists && view.leading);
    assert_eq!(view.object.unwrap().environment_id, sync.id);
    assert_eq!(
        world.count("SELECT count(*) FROM companies WHERE name = 'team'").await,
        1
    );
}

#[tokio::test]
async fn companies_whose_ids_begin_alike_get_different_prefixes() {
    let world = TestEnvironment::new().await;
    for last in 0..5u128 {
        let company_id = Uuid::from_u128(0xabcd << 112 | last);
        let settle = environment_operator::store::NamespaceBinding {
            namespace_uid: company_id,
            ..world.settle()
        };
        let sync = EnvironmentSync {
            company_id,
            binding: Some(settle),
            ..world.sandbox("one")
        };
        assert!(matches!(
            world.sync_environment(&sync).await,
            EnvironmentOutcome::Inserted(_)
        ));
    }
    assert_eq!(
        world
            .count("SELECT count(DISTINCT issue_prefix) FROM companies WHERE name = 'team'")
            .await,
        5
    );
}

#[tokio::test]
async fn a_local_is_made_as_the_origin_makes_it_and_reused() {
    let world = TestEnvironment::new().await;
    let EnvironmentOutcome::Inserted(row) = world.sync_environment(&world.local()).await else {
        panic!()
    };
    assert_eq!(row.name, "Local");
    assert_eq!(
        row.description.as_deref(),
        Some("Default execution environment for Paperclip runs on this machine.")
    );
    assert_eq!((row.config.clone(), row.status), (json!({}), EnvironmentState::Active));
    assert_eq!(
        row.metadata,
        Some(json!({"managedByPaperclip": true, "defaultForCompany": true}))
    );
    let second = world.local();
    assert_eq!(
        world.sync_environment(&second).await,
        EnvironmentOutcome::Adopted(row.clone())
    );
    assert_eq!(
        world.sync_environment(&second).await,
        EnvironmentOutcome::AlreadySo(row)
    );
}

#[tokio::test]
async fn an_archived_renamed_local_comes_back_untouched_to_the_microsecond() {
    let world = TestEnvironment::new().await;
    let mut connection = Session::own(world.connect().await);
    let (made, _) = ensure_local(&mut connection, world.company, Uuid::new_v4())
        .await
        .unwrap();
    sqlx::query(
        "UPDATE environments SET name = 'Mine', status = 'archived', metadata = '{}',
         updated_at = '2026-01-02T03:04:05.678901Z'",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let before = world.rows("SELECT to_jsonb(e) FROM environments e").await;
    let (row, is_new) = ensure_local(&mut connection, world.company, Uuid::new_v4())
        .await
        .unwrap();
    assert!(!is_new);
    assert_eq!(row.id, made.id);
    assert_eq!(row.updated_at.to_string(), "2026-01-02T03:04:05.678901Z");
    assert!(matches!(
        world.sync_environment(&world.local()).await,
        EnvironmentOutcome::Adopted(_)
    ));
    assert_eq!(world.rows("SELECT to_jsonb(e) FROM environments e").await, before);
}

#[tokio::test]
async fn a_locals_object_writes_only_what_it_sets_and_only_when_its_generation_is_new() {
    let world = TestEnvironment::new().await;
    let mut connection = Session::own(world.connect().await);
    ensure_local(&mut connection, world.company, Uuid::new_v4())
        .await
        .unwrap();
    let object_of = EnvironmentSync {
        name: Some("Mine".to_owned()),
        metadata: Some(object(json!({"a": 1}))),
        ..world.local()
    };
    let EnvironmentOutcome::Adopted(row) = world.sync_environment(&object_of).await else {
        panic!()
    };
    assert_eq!(row.name, "Mine");
    assert_eq!(
        row.metadata,
        Some(json!({"managedByPaperclip": true, "defaultForCompany": true, "a": 1}))
    );
    sqlx::query("UPDATE environments SET name = 'Theirs'")
        .execute(world.pool())
        .await
        .unwrap();
    let EnvironmentOutcome::AlreadySo(row) = world.sync_environment(&object_of).await else {
        panic!()
    };
    assert_eq!(row.name, "Theirs", "no repair: two clusters would fight");
    let edited = EnvironmentSync {
        version: version("local", 11, 2),
        ..object_of
    };
    let EnvironmentOutcome::Updated(row) = world.sync_environment(&edited).await else {
        panic!()
    };
    assert_eq!(row.name, "Mine");
}

#[tokio::test]
async fn sixty_four_concurrent_ensures_give_one_row_and_one_id() {
    let world = TestEnvironment::new().await;
    let mut sessions = Vec::new();
    for _ in 0..64 {
        sessions.push(Session::own(world.connect().await));
    }
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|mut session| {
            let company = world.company;
            tokio::spawn(async move { ensure_local(&mut session, company, Uuid::new_v4()).await.unwrap() })
        })
        .collect();
    let mut ids = HashSet::new();
    let mut made = 0;
    for task in tasks {
        let (row, is_new) = task.await.unwrap();
        ids.insert(row.id);
        made += u32::from(is_new);
    }
    assert_eq!((ids.len(), made), (1, 1));
    assert_eq!(world.count("SELECT count(*) FROM environments").await, 1);
}

#[tokio::test]
async fn a_deleted_environment_is_archived_and_a_local_stays() {
    let world = TestEnvironment::new().await;
    let (sandbox, local) = (world.sandbox("one"), world.local());
    world.sync_environment(&sandbox).await;
    world.sync_environment(&local).await;
    let unknown = Uuid::new_v4();
    for _ in 0..2 {
        let objects = [sandbox.id, local.id, unknown].map(Archive);
        let outcomes = Archive::carry_out(&world.store, &world.leader, &objects).await.unwrap();
        assert_eq!(
            outcomes,
            [
                ArchiveOutcome::Archived,
                ArchiveOutcome::Archived,
                ArchiveOutcome::Unknown
            ]
        );
    }
    let statuses = world
        .rows("SELECT jsonb_agg(status ORDER BY driver) FROM environments")
        .await;
    assert_eq!(statuses, [json!(["active", "archived"])]);
    assert_eq!(
        world.sync_environment(&sandbox).await,
        EnvironmentOutcome::Older,
        "it never comes back"
    );
}

#[tokio::test]
async fn a_lease_learns_that_its_environment_was_deleted() {
    let world = TestEnvironment::new().await;
    let environment = world.environment().await;
    let lease = granted(world.grant(&world.claim(environment)).await);
    assert!(!world.look(world.look_at(lease.id)).await.environment_deleted);
    Archive::carry_out(&world.store, &world.leader, &[Archive(environment)])
        .await
        .unwrap();
    assert!(world.look(world.look_at(lease.id)).await.environment_deleted);
}

#[tokio::test]
async fn a_row_that_got_another_driver_or_company_is_not_written_and_nothing_of_it_told() {
    let world = TestEnvironment::new().await;
    let sync = EnvironmentSync {
        binding: None,
        ..world.sandbox("one")
    };
    world.sync_environment(&world.sandbox("first")).await;
    world.sync_environment(&sync).await;
    let edited = EnvironmentSync {
        version: version("one", 11, 2),
        description: Some("new".to_owned()),
        ..sync.clone()
    };
    let rows = async || {
        let rows = world
            .rows("SELECT to_jsonb(e) FROM environments AS e ORDER BY id")
            .await;
        let remembered = "SELECT to_jsonb(o) FROM environment_operator.environment_object AS o ORDER BY id";
        (rows, world.rows(remembered).await)
    };
    let other: Uuid =
        sqlx::query_scalar("INSERT INTO companies (name, issue_prefix) VALUES ('other', 'OTHER') RETURNING id")
            .fetch_one(world.pool())
            .await
            .unwrap();
    for (column, value) in [("driver", "plugin".to_owned()), ("company_id", other.to_string())] {
        let statement = format!("UPDATE environments SET {column} = '{value}' WHERE id = '{}'", sync.id);
        sqlx::query(AssertSqlSafe(statement))
            .execute(world.pool())
            .await
            .unwrap();
        let before = rows().await;
        for sync in [&sync, &edited, &edited] {
            assert_eq!(
                world.sync_environment(sync).await,
                EnvironmentOutcome::OfAnother,
                "{column}"
            );
        }
        assert_eq!(rows().await, before, "{column}");
    }
}

#[tokio::test]
async fn a_local_whose_row_got_another_driver_is_told_and_finds_the_next_local_of_its_company() {
    let world = TestEnvironment::new().await;
    let local = world.local();
    world.sync_environment(&local).await;
    let local = EnvironmentSync { binding: None, ..local };
    sqlx::query("UPDATE environments SET driver = 'ssh'")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.sync_environment(&local).await, EnvironmentOutcome::OfAnother);
    let next: Uuid = sqlx::query_scalar(
        "INSERT INTO environments (company_id, name, driver) VALUES ($1, 'Local', 'local') RETURNING id",
    )
    .bind(world.company)
    .fetch_one(world.pool())
    .await
    .unwrap();
    match world.sync_environment(&local).await {
        EnvironmentOutcome::AlreadySo(row) => assert_eq!(row.id, next),
        other => panic!("{other:?}"),
    }
}
