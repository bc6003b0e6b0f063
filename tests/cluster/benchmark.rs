//! What leases cost beside a floor: the same objects, statuses, Events and rows, written by bare API calls and bare statements in
//! the same run. A ratio, printed and never asserted, for machines are noisy. `make benchmark` calls it.

use std::ops::Range;
use std::time::{Duration, Instant};

use environment_operator::api::{EnvironmentLease, EnvironmentLeaseStatus, LeasePhase};
use futures::{StreamExt, stream};
use harness::wait::until;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::support::{Claim, GRACE, TestEnvironment, lease};

mod fairness;

/// How often operator and floor are measured, one after the other.
const ROUNDS: usize = 3;

/// How many requests a client has under way at once.
const AT_ONCE: usize = 16;

/// How many leases one of the floor's transactions writes, as one of the operator's may at the most.
const BATCH: usize = 200;

/// How long one measurement may take before the benchmark fails.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long it took until all were granted, and until all had ended.
#[derive(Clone, Copy, Debug)]
struct Measured {
    granted: Duration,
    ended: Duration,
}

/// What the operator wrote for one moment of all leases, so that the same can be written by hand.
struct Written {
    statuses: Vec<EnvironmentLeaseStatus>,
    leases: Vec<Value>,
    records: Vec<Value>,
    activity: Vec<Value>,
    /// How many Events have been made so far.
    events: usize,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, of some minutes: make benchmark"]
async fn leases_beside_bare_calls_and_statements() {
    let number = std::env::var("BENCHMARK_LEASES").map_or(1000, |number| number.parse().unwrap());
    println!("{number} leases of run rows; {AT_ONCE} requests of a client at once");
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let world = TestEnvironment::new("benchmark").await;
        let mut operator = world.start_with(&["--log=warn"]).await;
        // The company, its Local and the first of everything.
        world.granted(lease("first")).await;
        let claims = claims(&world, "lease", number).await;
        let (taken, written) = by_operator(&world, &claims).await;
        operator.stop(GRACE).await.unwrap();
        let floor = by_hand(&world, &claims, &written).await;
        let granted = taken.granted.div_duration_f64(floor.granted);
        let ended = taken.ended.div_duration_f64(floor.ended);
        println!(
            "round {round}: granted in {:.2} s, floor {:.2} s, ratio {granted:.2}; ended in {:.2} s, floor {:.2} s, ratio {ended:.2}",
            taken.granted.as_secs_f64(),
            floor.granted.as_secs_f64(),
            taken.ended.as_secs_f64(),
            floor.ended.as_secs_f64(),
        );
        ratios.push((granted, ended));
    }
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = ratios.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "median ratios: granted {:.2}, ended {:.2}",
        median(|ratio| ratio.0),
        median(|ratio| ratio.1)
    );
}

/// Claims of as many run rows, which are made; `prefix` begins their names.
pub async fn claims(world: &TestEnvironment<'_>, prefix: &str, number: usize) -> Vec<Claim> {
    let agent = world.insert_agent(world.company()).await;
    let statement = "INSERT INTO heartbeat_runs (company_id, agent_id, status)
                     SELECT $1, $2, 'running' FROM generate_series(1, $3) RETURNING id";
    let runs: Vec<Uuid> = sqlx::query_scalar(statement)
        .bind(world.company())
        .bind(agent)
        .bind(i32::try_from(number).unwrap())
        .fetch_all(&world.pool)
        .await
        .unwrap();
    let claims = runs.into_iter().enumerate();
    claims
        .map(|(number, run)| lease(&format!("{prefix}-{number}")).heartbeat_run(run))
        .collect()
}

/// Makes the claims, and ends all runs at once.
async fn by_operator(world: &TestEnvironment<'_>, claims: &[Claim]) -> (Measured, [Written; 2]) {
    let started = Instant::now();
    at_once(claims.iter().map(|claim| world.claim(claim.clone()))).await;
    all_show(world, "active", LeasePhase::Active, claims.len() + 1).await;
    let granted = started.elapsed();
    let while_held = written(world).await;

    let started = Instant::now();
    let end = "UPDATE heartbeat_runs SET status = 'succeeded', finished_at = now(), updated_at = now()";
    sqlx::query(end).execute(&world.pool).await.unwrap();
    all_show(world, "released", LeasePhase::Released, claims.len()).await;
    let ended = started.elapsed();
    let after_the_end = written(world).await;
    (Measured { granted, ended }, [while_held, after_the_end])
}

/// Waits until so many leases are in a phase; the rows are asked first, for that disturbs less.
pub async fn all_show(world: &TestEnvironment<'_>, status: &str, phase: LeasePhase, number: usize) {
    let rows = "SELECT count(*) FROM environment_leases WHERE status = $1";
    until(PATIENCE, async || {
        let count: i64 = sqlx::query_scalar(rows)
            .bind(status)
            .fetch_one(&world.pool)
            .await
            .unwrap();
        if usize::try_from(count) != Ok(number) {
            return Err(format!("{count} rows are {status}"));
        }
        let shown = world.leases().list(&ListParams::default()).await.unwrap().items;
        let shown = shown.iter().filter(|lease| phase_of(lease) == Some(phase)).count();
        if shown == number {
            Ok(())
        } else {
            Err(format!("{shown} objects are {}", phase.into_str()))
        }
    })
    .await
    .unwrap();
}

fn phase_of(lease: &EnvironmentLease) -> Option<LeasePhase> {
    lease.status.as_ref().and_then(|status| status.phase)
}

/// A table, and its column that names the run.
const LEASES: (&str, &str) = ("public.environment_leases", "heartbeat_run_id");
const RECORDS: (&str, &str) = ("environment_operator.lease_object", "run_id");
const ACTIVITY: (&str, &str) = ("public.activity_log", "run_id");

/// What stands in objects and rows now.
async fn written(world: &TestEnvironment<'_>) -> Written {
    let mut leases = world.leases().list(&ListParams::default()).await.unwrap().items;
    leases.retain(|lease| lease.spec.run.is_some());
    let rows = async |(table, run): (&str, &str)| -> Vec<Value> {
        let select = format!("SELECT to_jsonb(r) FROM {table} AS r WHERE {run} IS NOT NULL ORDER BY r.id");
        sqlx::query_scalar(AssertSqlSafe(select))
            .fetch_all(&world.pool)
            .await
            .unwrap()
    };
    Written {
        statuses: leases.into_iter().filter_map(|lease| lease.status).collect(),
        leases: rows(LEASES).await,
        records: rows(RECORDS).await,
        activity: rows(ACTIVITY).await,
        events: world.all_events().await.len(),
    }
}

/// Writes the same once more, without an operator: other objects, and the rows after they were taken out of their tables.
async fn by_hand(world: &TestEnvironment<'_>, claims: &[Claim], [held, ended]: &[Written; 2]) -> Measured {
    let tables = [LEASES, RECORDS, ACTIVITY].map(|(table, _)| table).join(", ");
    sqlx::raw_sql(AssertSqlSafe(format!("TRUNCATE {tables}")))
        .execute(&world.pool)
        .await
        .unwrap();

    let operator = world.operators_client().await;
    let started = Instant::now();
    let objects = claims
        .iter()
        .zip(&held.statuses)
        .enumerate()
        .map(async |(number, (claim, status))| {
            let mut object = claim.object();
            object.metadata.name = Some(floor(number));
            world.leases().create(&PostParams::default(), &object).await.unwrap();
            show(&operator, world, number, status, number < held.events).await;
        });
    let rows = in_batches(claims.len(), async |batch| {
        let mut transaction = world.pool.begin().await.unwrap();
        for ((table, _), rows) in [
            (LEASES, &held.leases),
            (RECORDS, &held.records),
            (ACTIVITY, &held.activity),
        ] {
            insert(&mut transaction, table, &rows[batch.clone()]).await;
        }
        transaction.commit().await.unwrap();
    });
    futures::join!(at_once(objects), rows);
    let granted = started.elapsed();

    let released: Vec<Value> = ended
        .activity
        .iter()
        .filter(|entry| !held.activity.contains(entry))
        .cloned()
        .collect();
    let started = Instant::now();
    let objects = ended.statuses.iter().enumerate().map(async |(number, status)| {
        show(&operator, world, number, status, number < ended.events - held.events).await;
    });
    let rows = in_batches(claims.len(), async |batch| {
        let mut transaction = world.pool.begin().await.unwrap();
        let leases = "UPDATE public.environment_leases AS l
                      SET status = n.status, released_at = n.released_at, last_used_at = n.last_used_at,
                        failure_reason = n.failure_reason, updated_at = n.updated_at
                      FROM jsonb_populate_recordset(NULL::public.environment_leases, $1) AS n WHERE n.id = l.id";
        let records = "UPDATE environment_operator.lease_object AS o
                       SET ended_status = n.ended_status, reason = n.reason, message = n.message, ended_at = n.ended_at
                       FROM jsonb_populate_recordset(NULL::environment_operator.lease_object, $1) AS n WHERE n.id = o.id";
        for (statement, rows) in [(leases, &ended.leases), (records, &ended.records)] {
            let query = sqlx::query(statement).bind(json!(rows[batch.clone()]));
            query.execute(&mut *transaction).await.unwrap();
        }
        insert(&mut transaction, ACTIVITY.0, &released[batch]).await;
        transaction.commit().await.unwrap();
    });
    futures::join!(at_once(objects), rows);
    Measured {
        granted,
        ended: started.elapsed(),
    }
}

/// The name of an object of the floor's.
fn floor(number: usize) -> String {
    format!("floor-{number}")
}

/// Writes a status and, where the operator made one, an Event: as the operator, for nobody else may.
async fn show(
    operator: &Client,
    world: &TestEnvironment<'_>,
    number: usize,
    status: &EnvironmentLeaseStatus,
    with_event: bool,
) {
    let name = floor(number);
    let patch = Patch::Merge(json!({ "status": status }));
    let leases: Api<EnvironmentLease> = Api::namespaced(operator.clone(), world.namespace.name());
    let shown = leases.patch_status(&name, &PatchParams::default(), &patch).await;
    let shown = shown.unwrap();
    if with_event {
        let events: Api<Event> = Api::namespaced(operator.clone(), world.namespace.name());
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}-")),
                ..ObjectMeta::default()
            },
            action: Some("Report".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: status.message.clone(),
            reason: status.reason.map(|reason| reason.into_str().to_owned()),
            regarding: Some(shown.object_ref(&())),
            reporting_controller: Some("benchmark".to_owned()),
            reporting_instance: Some("benchmark".to_owned()),
            type_: Some("Normal".to_owned()),
            ..Event::default()
        };
        events.create(&PostParams::default(), &event).await.unwrap();
    }
}

/// Does what a client does that has some requests under way at once.
pub async fn at_once<T>(requests: impl Iterator<Item = impl Future<Output = T>>) {
    stream::iter(requests)
        .buffer_unordered(AT_ONCE)
        .for_each(async |_| ())
        .await;
}

/// One transaction after the other.
async fn in_batches(rows: usize, transaction: impl AsyncFn(Range<usize>)) {
    for start in (0..rows).step_by(BATCH) {
        transaction(start..rows.min(start + BATCH)).await;
    }
}

async fn insert(connection: &mut PgConnection, table: &str, rows: &[Value]) {
    let statement = format!("INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1)");
    sqlx::query(AssertSqlSafe(statement))
        .bind(json!(rows))
        .execute(connection)
        .await
        .unwrap();
}
