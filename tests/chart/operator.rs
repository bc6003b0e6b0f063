//! The operator's binary with the environment and the rights that the chart gives it.

use std::time::Duration;

use environment_operator::api::{EnvironmentLease, LeasePhase};
use harness::control_plane::ControlPlane;
use harness::control_plane::audit::Mark;
use harness::guard;
use harness::namespace::Namespace;
use harness::operator::{Operator, Options};
use harness::postgres::{Database, Postgres};
use harness::wait::eventually;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Mutex;

use crate::installed::{LIMIT, OPERATOR, installed, lease};
use crate::support::{NAMESPACE, objects_with, only};

/// The binary under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_environment-operator");

/// The values that name a database by its parts.
fn parts(database: &PgConnectOptions) -> [String; 3] {
    [
        format!("database.host={}", database.get_host()),
        format!("database.port={}", database.get_port()),
        format!("database.name={}", database.get_database().unwrap()),
    ]
}

/// The variables of the only container of the only object of a kind. Keys of Secrets become values as the kubelet would make
/// them: `secret` is asked for (Secret, key).
fn environment(objects: &[DynamicObject], kind: &str, secret: impl Fn(&str, &str) -> String) -> Vec<(String, String)> {
    let container = &only(objects, kind).data["spec"]["template"]["spec"]["containers"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let variables = container["env"].as_array().unwrap().iter();
    variables
        .map(|variable| {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            let value = match reference["key"].as_str() {
                None => text(&variable["value"]),
                Some(key) => secret(reference["name"].as_str().unwrap(), key),
            };
            (text(&variable["name"]), value)
        })
        .collect()
}

/// An operator with these variables, as the chart's ServiceAccount.
async fn operator(control_plane: &ControlPlane, variables: Vec<(String, String)>) -> Options {
    let kubeconfig = control_plane
        .service_account_kubeconfig(NAMESPACE, "demo-environment-operator")
        .await
        .unwrap();
    let operator = Operator::of(PROGRAM.as_ref()).kubeconfig(&kubeconfig);
    let add = |operator: Options, (name, value): (String, String)| operator.env(name, value);
    variables.into_iter().fold(operator, add)
}

/// Has the database accepted for the shared cluster, where leases of other tests are held that it does not know.
async fn accept(control_plane: &ControlPlane, variables: &[(String, String)]) {
    let kubeconfig = control_plane
        .service_account_kubeconfig(NAMESPACE, "demo-environment-operator")
        .await
        .unwrap();
    for subcommand in ["migrate", "accept-database"] {
        let output = tokio::process::Command::new(PROGRAM)
            .arg(subcommand)
            .envs(variables.iter().cloned())
            .env("KUBECONFIG", &kubeconfig)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{subcommand}: {output:?}");
    }
}

/// A role whose name and password would break a URL.
const ROLE: &str = "agents@example";
const PASSWORD: &str = "p@ss/w:rd?#%";

/// A server that asks the role for its password.
async fn postgres() -> Postgres {
    let postgres = Postgres::start(&guard::fresh_directory("strict").unwrap())
        .await
        .unwrap();
    let database = postgres.database().await.unwrap();
    let mut connection = database.connect().await.unwrap();
    let file: String = sqlx::query_scalar("SHOW hba_file")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let trusting = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("host all \"{ROLE}\" all scram-sha-256\n{trusting}")).unwrap();
    let role = format!("CREATE ROLE \"{ROLE}\" LOGIN PASSWORD '{PASSWORD}'; SELECT pg_reload_conf()");
    sqlx::raw_sql(sqlx::AssertSqlSafe(role))
        .execute(&mut connection)
        .await
        .unwrap();
    postgres
}

/// A database that the role owns.
async fn database(postgres: &Postgres) -> Database {
    let database = postgres.database().await.unwrap();
    let mut connection = database.connect().await.unwrap();
    let give = format!(
        "ALTER DATABASE {} OWNER TO \"{ROLE}\"; ALTER SCHEMA public OWNER TO \"{ROLE}\"",
        database.name()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(give))
        .execute(&mut connection)
        .await
        .unwrap();
    database
}

/// Takes a lease.
pub async fn takes_a_lease(client: &Client, namespace: &Namespace) {
    let leases: Api<EnvironmentLease> = Api::namespaced(client.clone(), namespace.name());
    leases.create(&PostParams::default(), &lease("first")).await.unwrap();
    eventually("the lease is Active", LIMIT, async || {
        let status = leases.get("first").await.map_err(|error| error.to_string())?.status;
        match status.as_ref().and_then(|status| status.phase) {
            Some(LeasePhase::Active) => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    })
    .await;
}

/// The requests of the operator that were refused.
fn refused(control_plane: &ControlPlane, mark: Mark) -> Vec<String> {
    let mut asked = control_plane.audit().since(mark).unwrap();
    asked.retain(|event| event.user() == OPERATOR);
    assert!(!asked.is_empty(), "it speaks as its ServiceAccount");
    asked.retain(|event| event.response_status.as_ref().is_some_and(|status| status.code == 403));
    asked
        .into_iter()
        .map(|event| format!("{} {}", event.verb, event.request_uri))
        .collect()
}

/// Held while an operator looks after the shared cluster: each has a database of its own, so two would contend for its objects.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn the_operator_works_with_the_rendered_environment_and_rights_of_the_whole_cluster() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespace = Namespace::create(&client, "works").await.unwrap();
    let values = ["settings.runTrigger=true", "settings.drainTimeout=5s"];
    let _alone = ALONE.lock().await;
    works_in(control_plane, &client, &namespace, &values).await;
}

/// Runs the operator on values until it has granted a lease and shown it past the policies; nothing may be refused to it.
pub async fn works_in(control_plane: &ControlPlane, client: &Client, namespace: &Namespace, values: &[&str]) {
    let postgres = postgres().await;
    let database = database(&postgres).await;
    let parts = parts(&database.options().unwrap());
    let values: Vec<&str> = values.iter().copied().chain(parts.iter().map(String::as_str)).collect();
    let variables = environment(&objects_with(&values).await, "Deployment", |name, key| {
        match (name, key) {
            ("database", "username") => ROLE.to_owned(),
            ("database", "password") => PASSWORD.to_owned(),
            other => panic!("{other:?}"),
        }
    });
    let mark = control_plane.audit().mark().unwrap();
    accept(control_plane, &variables).await;
    let mut operator = operator(control_plane, variables).await.start().unwrap();
    operator.wait_ready().await;
    takes_a_lease(client, namespace).await;
    operator.stop(Duration::from_secs(15)).await.unwrap();
    let refused = refused(control_plane, mark);
    assert!(refused.is_empty(), "{refused:#?}");
}

/// A policy of somebody else's that refuses every status in one namespace.
fn refusal(name: &str, namespace: &Namespace) -> String {
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["paperclip.ing"],
                "apiVersions": ["*"],
                "operations": ["UPDATE"],
                "resources": ["environmentleases/status"],
            }] },
            "validations": [{ "expression": "false", "message": "somebody else writes here", "reason": "Forbidden" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": {
            "policyName": name,
            "validationActions": ["Deny"],
            "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace.name() } } },
        },
    });
    format!("{policy}\n---\n{binding}")
}

#[tokio::test]
async fn a_policy_that_refuses_the_status_keeps_the_replica_from_being_ready_with_its_sentence() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespace = Namespace::create(&client, "refused-status").await.unwrap();
    let _alone = ALONE.lock().await;
    let database = Postgres::shared().await.database().await.unwrap();
    let variables = vec![("DATABASE_URL".to_owned(), database.url().to_owned())];
    accept(control_plane, &variables).await;
    let mut operator = operator(control_plane, variables).await.start().unwrap();
    operator.wait_ready().await;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let name = format!("refuses-{}", uuid::Uuid::new_v4().simple());
    harness::objects::apply(&client, "default", &refusal(&name, &namespace))
        .await
        .unwrap();
    let leases: Api<EnvironmentLease> = Api::namespaced(client.clone(), namespace.name());
    // Leases are made until the API server has taken the policy up.
    eventually("/readyz says what the policy says", LIMIT, async || {
        let next = lease(&format!("lease-{}", uuid::Uuid::new_v4().simple()));
        leases
            .create(&PostParams::default(), &next)
            .await
            .map_err(|error| error.to_string())?;
        let answer = operator.get("/readyz").await.map_err(|error| format!("{error:#}"))?;
        if answer.status == 503 && answer.body.contains("right: ") && answer.body.contains("somebody else writes here")
        {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    operator.wait_ready().await;
    operator.stop(Duration::from_secs(15)).await.unwrap();
}
