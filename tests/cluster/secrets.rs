//! What opens a door is never logged, at whatever level.

use harness::operator::Operator;
use harness::wait::eventually;
use serde_json::json;

use crate::support::{GRACE, LIMIT, TestEnvironment, lease};

/// A password in the URL of the database; the tests' server lets everyone in who gives any.
const PASSWORD: &str = "open-sesame";

fn with_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, address) = rest.split_once('@').unwrap_or(("postgres", rest));
    let user = user.split(':').next().unwrap();
    format!("{scheme}://{user}:{PASSWORD}@{address}")
}

/// Fails where the log holds the password or the token, or any part of the token that is of use.
fn tells_nothing(world: &TestEnvironment<'_>, operator: &Operator) {
    let (log, token) = (operator.log(), world.token());
    assert!(!log.is_empty());
    let signature = token.rsplit('.').next().unwrap();
    for secret in [PASSWORD, &token, signature] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "it logs a secret");
    }
}

#[tokio::test]
async fn the_database_s_password_and_the_token_are_in_no_line_of_a_whole_run_s_log() {
    let world = TestEnvironment::new("secrets").await;
    let options = world.operator();
    let mut operator = options
        .database_url(&with_password(world.database.url()))
        .env("ENVIRONMENT_OPERATOR_LOG", "trace")
        .start()
        .unwrap();
    operator.wait_ready().await;
    world.job("build", json!({})).await;
    world.granted(lease("of-build").job("build")).await;
    world.delete_job("build").await;
    world.delete_lease("of-build").await;
    operator.stop(GRACE).await.unwrap();
    let log = operator.log();
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "everything is logged");
    tells_nothing(&world, &operator);
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_or_named_is_told_of_without_its_password() {
    let world = TestEnvironment::new("secrets").await;
    let nowhere = format!("postgres://operator:{PASSWORD}@127.0.0.1:1/nothing");
    let operator = world.operator().database_url(&nowhere).start().unwrap();
    eventually("readiness names the database", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        assert!(!answer.body.contains(PASSWORD), "{}", answer.body);
        let named = answer.body.contains("database: ") && !answer.body.contains("not connected yet");
        if named { Ok(()) } else { Err(answer.body) }
    })
    .await;
    tells_nothing(&world, &operator);

    let no_port = format!("postgres://operator:{PASSWORD}@127.0.0.1:port/nothing");
    let mut operator = world.operator().database_url(&no_port).start().unwrap();
    let status = operator.wait(LIMIT).await.expect("it ends by itself");
    assert!(!status.success());
    tells_nothing(&world, &operator);
}
