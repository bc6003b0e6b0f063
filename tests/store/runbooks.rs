//! The SQL of the runbooks, on the tables as they are.

use std::path::Path;

use sqlx::AssertSqlSafe;

use crate::support::TestEnvironment;

#[tokio::test]
async fn every_statement_of_a_runbook_is_one_that_the_database_takes() {
    let world = TestEnvironment::new().await;
    let mut tried = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        for block in page.split("```sql\n").skip(1) {
            let statements = block.split("```").next().unwrap();
            let mut transaction = world.pool().begin().await.unwrap();
            let outcome = sqlx::raw_sql(AssertSqlSafe(statements))
                .execute(&mut *transaction)
                .await;
            outcome.unwrap_or_else(|error| panic!("{}: {error} in\n{statements}", path.display()));
            transaction.rollback().await.unwrap();
            tried += 1;
        }
    }
    assert!(tried > 10, "only {tried} blocks of SQL were found");
}
