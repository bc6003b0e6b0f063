//! Numbers in free objects, and moments: what the database gives back is what was written, so that nothing is written again.

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::End;
use environment_operator::store::environment_object::EnvironmentQuery;
use environment_operator::store::environments::{EnvironmentOutcome, EnvironmentSync};
use serde_json::{Value, json};

use crate::support::*;

#[tokio::test]
async fn every_number_comes_back_from_the_row_as_it_went_in() {
    let world = TestEnvironment::new().await;
    let mut numbers = json!([
        0,
        -0.0,
        1.0,
        0.1,
        1e2,
        1e22,
        1e23,
        1e300,
        -1e-300,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        123_456_789.123_456_78,
        9_007_199_254_740_993_i64,
        i64::MIN,
        u64::MAX,
        0.30000000000000004,
    ]);
    // Ordinary fractions too: without exact reading about every seventh of these came back as its neighbour.
    let fractions = (0..1000).map(|number| json!(f64::from(number) * 0.0137 + 1e-7));
    numbers.as_array_mut().unwrap().extend(fractions);
    let sync = EnvironmentSync {
        config: json!({ "provider": "kubernetes", "numbers": numbers }),
        metadata: Some(object(json!({ "numbers": numbers }))),
        ..world.sandbox("numbers")
    };
    assert!(matches!(
        world.sync_environment(&sync).await,
        EnvironmentOutcome::Inserted(_)
    ));
    let look = EnvironmentQuery {
        id: sync.id,
        namespace_uid: None,
        company_id: Some(world.company),
        driver: sync.driver,
    };
    let view = EnvironmentQuery::carry_out(&world.store, &world.leader, &[look])
        .await
        .unwrap()
        .remove(0);
    let row = view.row.unwrap();
    let differ = |written: &Value, read: &Value| {
        let pairs = written["numbers"]
            .as_array()
            .unwrap()
            .iter()
            .zip(read["numbers"].as_array().unwrap());
        pairs
            .filter(|(written, read)| written != read)
            .map(|(written, read)| format!("{written} as {read}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(differ(&sync.config, &row.config), Vec::<String>::new());
    assert_eq!(row.metadata, sync.metadata.map(Value::Object));
}

#[tokio::test]
async fn moments_are_stored_to_the_microsecond_whichever_year_they_are_of() {
    let world = TestEnvironment::new().await;
    for text in [
        "2026-11-27T09:08:07.123456789Z",
        "0000-02-03T04:05:06.789012Z",
        "-000043-03-15T00:00:00.000001Z",
        "9999-12-30T21:59:59.999999Z",
    ] {
        let moment: jiff::Timestamp = text.parse().unwrap();
        let lease = world.held().await;
        let end = End {
            id: lease.id,
            leaves: LeaseState::Active,
            ending: ending(LeaseState::Released, Reason::RunFinished),
            only_if_expired: false,
            run_ended_at: Some(moment),
        };
        let outcomes = End::carry_out(&world.store, &world.leader, &[end]).await.unwrap();
        ended(outcomes.into_iter().next().unwrap());
        let made = EnvironmentSync {
            created_at: moment,
            ..world.sandbox(text)
        };
        world.sync_environment(&made).await;
        let stored: Vec<i64> = sqlx::query_scalar(
            "SELECT (extract(epoch FROM run_ended_at) * 1000000)::int8 FROM environment_operator.lease_object WHERE id = $1
             UNION ALL
             SELECT (extract(epoch FROM created_at) * 1000000)::int8 FROM environment_operator.environment_object WHERE id = $2",
        )
        .bind(lease.id)
        .bind(made.id)
        .fetch_all(world.pool())
        .await
        .unwrap();
        assert_eq!(stored, [moment.as_microsecond(); 2], "{text}");
    }
}
