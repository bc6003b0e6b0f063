//! The queries that `docs/queries.md` shows, each on rows for which its answer is known.

use environment_operator::api::Reason;
use environment_operator::lifecycle::LeaseState;
use environment_operator::store::environment_leases::{End, Grant};
use environment_operator::store::environments::EnvironmentSync;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::{Request, TestEnvironment, ended, ending, granted, version};

const PAGE: &str = include_str!("../../docs/queries.md");

/// What the query under a heading answers, its uuid replaced.
async fn answer(world: &TestEnvironment, heading: &str, id: &str) -> Vec<Value> {
    let section = PAGE.split(&format!("## {heading}\n")).nth(1).unwrap();
    let statement = section
        .split("```sql\n")
        .nth(1)
        .unwrap()
        .split(";\n```")
        .next()
        .unwrap();
    let statement = statement.replace("00000000-0000-4000-8000-000000000000", id);
    sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT to_jsonb(answer) FROM ({statement}) answer"
    )))
    .fetch_all(world.pool())
    .await
    .unwrap_or_else(|error| panic!("{heading}: {error}"))
}

/// An environment whose object is `mac-mini` and whose row has another name, one lease of it held and one ended.
async fn a_world_with_two_leases() -> (TestEnvironment, [String; 2]) {
    let world = TestEnvironment::new().await;
    let machine = EnvironmentSync {
        version: version("mac-mini", 10, 1),
        name: Some("The machine under the desk".to_owned()),
        ..world.sandbox("mac-mini")
    };
    world.sync_environment(&machine).await;
    let claim = |name| Grant {
        version: version(name, 20, 1),
        ..world.claim(machine.id)
    };
    let run = Grant {
        run_id: Some(world.run("running").await),
        ..claim("build")
    };
    let ended_lease = granted(world.grant(&run).await).id;
    ended(world.end(ended_lease, LeaseState::Expired, Reason::RunCancelled).await);
    let held = granted(world.grant(&claim("service")).await).id;
    let limited = EnvironmentSync {
        version: version("mac-mini", 11, 2),
        max_active_leases: Some(2),
        ..machine
    };
    world.sync_environment(&limited).await;
    (world, [held.to_string(), ended_lease.to_string()])
}

#[tokio::test]
async fn each_query_of_the_documentation_finds_what_it_promises() {
    let (world, [held, ended]) = a_world_with_two_leases().await;
    let ask = async |heading: &str| answer(&world, heading, &ended).await;

    let holders = ask("Who holds this machine").await;
    assert_eq!(holders.len(), 1, "{holders:#?}");
    assert_eq!(
        (&holders[0]["lease"], &holders[0]["lease_object"]),
        (&json!(held), &json!("service"))
    );

    let why = ask("Why did a lease end").await;
    assert_eq!(why.len(), 1, "{why:#?}");
    assert_eq!(
        (&why[0]["reason"], &why[0]["status_now"]),
        (&json!("RunCancelled"), &json!("expired"))
    );

    let story = ask("What happened to a lease").await;
    let told: Vec<_> = story.iter().map(|line| (&line["action"], &line["reason"])).collect();
    let (acquired, released) = (json!("environment.lease_acquired"), json!("environment.lease_released"));
    assert_eq!(told, [(&acquired, &Value::Null), (&released, &json!("RunCancelled"))]);

    let months = ask("Endings per month and reason").await;
    assert_eq!(months.len(), 1, "{months:#?}");
    assert_eq!(
        (&months[0]["reason"], &months[0]["leases"]),
        (&json!("RunCancelled"), &json!(1))
    );

    let longest = ask("Which leases have been active for the longest time").await;
    assert_eq!(longest.len(), 1, "{longest:#?}");
    assert_eq!(longest[0]["environment"], "The machine under the desk");

    let busy = ask("How busy is each environment").await;
    assert_eq!(busy.len(), 1, "{busy:#?}");
    assert_eq!(
        [&busy[0]["object"], &busy[0]["active"], &busy[0]["at_most"]],
        [&json!("mac-mini"), &json!(1), &json!(2)]
    );
}

#[tokio::test]
async fn the_queries_of_the_documentation_find_the_leases_that_outlived_their_run_by_more_than_a_minute() {
    let world = TestEnvironment::new().await;
    let (leaked, prompt) = (world.held().await.id, world.held().await.id);
    for (id, minutes) in [(leaked, 12), (prompt, 0)] {
        let end = End {
            id,
            leaves: LeaseState::Active,
            ending: ending(LeaseState::Expired, Reason::TtlExpired),
            only_if_expired: false,
            run_ended_at: Some(jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)),
        };
        let ends = End::carry_out(&world.store, &world.leader, &[end]).await;
        ended(ends.unwrap().remove(0));
    }
    let months = answer(&world, "How many leases outlived their run", "").await;
    assert_eq!(months.len(), 1, "{months:#?}");
    assert_eq!(
        (&months[0]["reason"], &months[0]["leases"]),
        (&json!("TtlExpired"), &json!(1))
    );
    for length in ["longest", "median"] {
        let length = months[0][length].as_str().unwrap();
        assert!(length.starts_with("00:12:"), "{length}");
    }
    let leases = answer(&world, "Which leases outlived their run", "").await;
    assert_eq!(leases.len(), 1, "{leases:#?}");
    assert_eq!(leases[0]["lease"], json!(leaked));
}

#[tokio::test]
async fn every_column_of_the_tables_that_readers_use_is_documented_and_no_other_is() {
    let world = TestEnvironment::new().await;
    let page = include_str!("../../docs/database.md");
    for table in ["environments", "environment_leases", "activity_log"] {
        let section = page.split(&format!("### `{table}`")).nth(1).unwrap();
        let section = section.split("\n#").next().unwrap();
        let mut documented: Vec<String> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .flat_map(|line| {
                line.split(" |")
                    .next()
                    .unwrap()
                    .split(", ")
                    .map(|name| name.replace('`', ""))
            })
            .collect();
        let mut columns: Vec<String> = sqlx::query_scalar(
            "SELECT column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1",
        )
        .bind(table)
        .fetch_all(world.pool())
        .await
        .unwrap();
        documented.sort();
        columns.sort();
        assert_eq!(documented, columns, "{table}");
    }
}
