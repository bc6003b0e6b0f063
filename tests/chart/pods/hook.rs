//! The migration's hook as a Pod.

use environment_operator::api::LeasePhase;
use harness::namespace::Namespace;
use kube::api::{Api, PostParams};

use super::release::Site;
use crate::installed::lease;
use crate::support::read;

#[tokio::test]
async fn after_the_migration_s_job_the_operator_needs_no_right_to_create() {
    let site = Site::prepare().await;
    let mut connection = site.database.connect().await.unwrap();
    let role = format!("limited_{}", site.database.name());
    let document = read("docs/installation.md");
    let (_, rest) = document.split_once("```sql\n").unwrap();
    let (rights, _) = rest.split_once("```").unwrap();
    let rights = rights.replace("environment_operator_role", &role);
    let statements = format!("CREATE ROLE {role} LOGIN; {rights}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(&mut connection)
        .await
        .unwrap();
    let options = site.database.options().unwrap();
    let limited = format!(
        "postgres://{role}@{}:{}/{}",
        options.get_host(),
        options.get_port(),
        site.database.name()
    );
    site.secret("database", &limited).await;
    site.secret("database-owner", site.database.url()).await;

    let values = [
        "replicaCount=1",
        "migration.mode=hook",
        "migration.hook.secretName=database-owner",
    ];
    site.install(&values).await;
    let namespace = Namespace::create(&site.client, "hook").await.unwrap();
    let leases = Api::namespaced(site.client.clone(), namespace.name());
    leases.create(&PostParams::default(), &lease("first")).await.unwrap();
    site.lease_in(namespace.name(), "first", LeasePhase::Active).await;
    let creates = format!(
        "SELECT has_database_privilege('{role}', current_database(), 'CREATE') OR has_schema_privilege('{role}', 'public', 'CREATE')"
    );
    let creates: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(creates))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!creates);
    site.uninstall().await;
    namespace.delete(&site.client).await.unwrap();
}
