//! Attached to a database whose tables an origin's server has made, and goes on using.

use environment_operator::api::{LeasePhase, Reason};
use serde_json::json;

use crate::support::{GRACE, World, id_of, lease};

#[tokio::test]
async fn an_attached_operator_alters_none_of_the_origin_s_tables() {
    let world = World::attached("attached").await;
    let before = world.database.schema_dump("public").await.unwrap();
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let made = world
        .granted(lease("works").environment("box").heartbeat_run(run))
        .await;
    let row = world.lease_row(id_of(&made)).await.unwrap();
    assert_eq!(
        (&row["status"], &row["heartbeat_run_id"]),
        (&json!("active"), &json!(run))
    );
    world.release("works").await;
    world
        .lease_because("works", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.settles().await;
    operator.stop(GRACE).await.unwrap();
    assert_eq!(world.database.schema_dump("public").await.unwrap(), before);
}
