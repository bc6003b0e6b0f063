//! Values that the operator never writes, in every column of the Paperclip server's rows: its own row alone may suffer from one.

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{self, End, EndOutcome, LeaseRow};
use environment_operator::store::environment_object::EnvironmentQuery;
use environment_operator::store::lease_object::{LeaseQuery, RunLook, WasGranted};
use environment_operator::store::{StoreError, environments, sweep, unmanaged_leases};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::support::*;

/// What a column of a type may hold that no origin means well by.
const ODD: [(&str, &[&str]); 3] = [
    (
        "timestamp with time zone",
        &[
            "infinity",
            "-infinity",
            "9999-12-31 23:59:59+00",
            "294276-12-31 23:59:59+00",
            "0044-03-15 00:00:00+00 BC",
            "4713-01-01 00:00:00+00 BC",
        ],
    ),
    ("text", &["", "of_the_future"]),
    ("jsonb", &["null", "[]", "\"text\"", "{\"a\": 1e400}", "DEEP"]),
];

/// Its status is what a lease is ended by: of one that is none of the set nothing can be decided.
const DECIDES: [(&str, &str); 1] = [("environment_leases", "status")];

async fn columns(world: &TestEnvironment, of_type: &str) -> Vec<(String, String)> {
    sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name IN ('environments', 'environment_leases', 'heartbeat_runs')
           AND data_type = $1
         ORDER BY 1, 2",
    )
    .bind(of_type)
    .fetch_all(world.pool())
    .await
    .unwrap()
}

/// Sets one column of the rows of a lease.
async fn set(world: &TestEnvironment, lease: &LeaseRow, table: &str, column: &str, of_type: &str, value: &str) {
    let id = match table {
        "environments" => lease.environment_id,
        "heartbeat_runs" => lease.heartbeat_run_id.unwrap(),
        _ => lease.id,
    };
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let value = if value == "DEEP" { &deep } else { value };
    let statement = format!("UPDATE {table} SET {column} = $1::{of_type} WHERE id = $2");
    sqlx::query(AssertSqlSafe(statement))
        .bind(value)
        .bind(id)
        .execute(world.pool())
        .await
        .unwrap();
}

/// An unmanaged lease of the same environment and run.
async fn unmanaged(world: &TestEnvironment, of: &LeaseRow) -> Uuid {
    sqlx::query_scalar(
        "INSERT INTO environment_leases (company_id, environment_id, heartbeat_run_id) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind(of.company_id)
    .bind(of.environment_id)
    .bind(of.heartbeat_run_id)
    .fetch_one(world.pool())
    .await
    .unwrap()
}

async fn end(world: &TestEnvironment, id: Uuid) -> Result<EndOutcome, StoreError> {
    let end = End {
        id,
        leaves: LeaseState::Active,
        ending: ending(LeaseState::Released, Reason::ReleaseRequested),
        only_if_expired: false,
        run_ended_at: None,
    };
    let mut outcomes = End::carry_out(&world.store, &world.leader, &[end]).await?;
    Ok(outcomes.remove(0))
}

#[tokio::test]
async fn an_odd_value_in_any_column_spoils_no_neighbour_and_its_own_lease_still_ends() {
    let world = TestEnvironment::attached().await;
    let neighbour = world.held().await;
    let unmanaged_neighbour = unmanaged(&world, &neighbour).await;
    let mut tried = 0;
    for (of_type, values) in ODD {
        for (table, column) in columns(&world, of_type).await {
            for value in values {
                tried += 1;
                let case = format!("{table}.{column} = {value}");
                let lease = world.held().await;
                set(&world, &lease, &table, &column, of_type, value).await;
                let decides = DECIDES.contains(&(table.as_str(), column.as_str()));
                if !decides {
                    let looks = [world.look_at(lease.id), world.look_at(neighbour.id)];
                    let views = LeaseQuery::carry_out(&world.store, &world.leader, &looks).await;
                    let views = views.unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert!(views[0].row.is_some(), "{case}");
                    assert_eq!(views[1].row.as_ref(), Some(&neighbour), "{case}");
                    let environment = EnvironmentQuery {
                        id: lease.environment_id,
                        namespace_uid: None,
                        company_id: Some(world.company),
                        driver: environment_operator::api::Driver::Sandbox,
                    };
                    EnvironmentQuery::carry_out(&world.store, &world.leader, &[environment])
                        .await
                        .unwrap_or_else(|error| panic!("{case}: {error}"));
                }
                let unmanaged_lease = unmanaged(&world, &lease).await;
                if table == "environment_leases" {
                    let of_unmanaged = LeaseRow {
                        id: unmanaged_lease,
                        ..lease.clone()
                    };
                    set(&world, &of_unmanaged, &table, &column, of_type, value).await;
                }
                unmanaged_leases::candidates(&world.store).await.unwrap();
                sweep::candidates(&world.store, &world.leader, &[]).await.unwrap();
                let looked = unmanaged_leases::look(&world.store, &[unmanaged_lease, unmanaged_neighbour]).await;
                let looked = looked.unwrap_or_else(|error| panic!("{case}: {error}"));
                let readable = looked.iter().flatten().any(|lease| lease.row.id == unmanaged_neighbour);
                assert!(readable, "{case}: {looked:?}");
                environments::list(&world.store, world.company, None).await.unwrap();
                environment_leases::list(&world.store, world.company, lease.environment_id, None)
                    .await
                    .unwrap();
                match end(&world, lease.id).await {
                    Ok(EndOutcome::Ended(_)) => {}
                    Ok(outcome) if !decides => panic!("{case}: {outcome:?}"),
                    Err(error) if !decides || error.is_of_all() => panic!("{case}: {error}"),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

#[tokio::test]
async fn a_deadline_that_never_comes_is_none_and_one_of_before_all_time_has_passed() {
    let world = TestEnvironment::attached().await;
    for (value, passed) in [
        ("infinity", None),
        ("9999-12-31 23:59:59+00", None),
        ("-infinity", Some(true)),
        ("5000-01-01 00:00:00+00", Some(false)),
    ] {
        let lease = world.held().await;
        set(&world, &lease, "environment_leases", "expires_at", "timestamptz", value).await;
        let view = world.look(world.look_at(lease.id)).await;
        let expires_at = view.row.unwrap().expires_at;
        assert_eq!(expires_at.map(|at| at <= view.now), passed, "{value}");
    }
}

#[tokio::test]
async fn a_run_of_an_unknown_status_ends_nothing_and_hides_nothing() {
    let world = TestEnvironment::attached().await;
    let lease = world.held().await;
    world.set_run(lease.heartbeat_run_id.unwrap(), "of_the_future").await;
    let view = world.look(world.look_at(lease.id)).await;
    assert_eq!((view.run, view.row), (RunLook::Unknown, Some(lease)));
}

#[tokio::test]
async fn whether_a_lease_was_granted_is_told_by_its_keys_where_its_row_can_not_be_read() {
    let world = TestEnvironment::attached().await;
    let lease = world.held().await;
    set(&world, &lease, "environment_leases", "status", "text", "of_the_future").await;
    let look = LeaseQuery::carry_out(&world.store, &world.leader, &[world.look_at(lease.id)]).await;
    assert!(matches!(look, Err(StoreError::Refused { .. })), "{look:?}");
    let deleted = world.held().await;
    sqlx::query("DELETE FROM environment_leases WHERE id = $1")
        .bind(deleted.id)
        .execute(world.pool())
        .await
        .unwrap();
    let asked = [lease.id, Uuid::new_v4(), deleted.id].map(WasGranted);
    let ask = async || {
        let proofs = WasGranted::carry_out(&world.store, &world.leader, &asked)
            .await
            .unwrap();
        assert_eq!(
            proofs.iter().map(|proof| WasGranted(proof.id)).collect::<Vec<_>>(),
            asked
        );
        proofs
            .into_iter()
            .map(|proof| (proof.leading, proof.granted))
            .collect::<Vec<(bool, bool)>>()
    };
    assert_eq!(ask().await, [(true, true), (true, false), (true, true)]);
    world.depose().await;
    assert_eq!(
        ask().await,
        [(false, true), (false, false), (false, true)],
        "no proof any more"
    );
}
