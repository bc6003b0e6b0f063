//! What the API server takes of what the chart renders, and what an upgrade leaves as it was.

use harness::namespace::Namespace;
use harness::objects;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Secret, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};

use crate::installed::{helm, installed};
use crate::rendered::{CASES, case};
use crate::support::{NAMESPACE, chart, run};

/// The values of a second release beside the one that is installed: without what the whole cluster shares.
const BESIDE: &[&str] = &[
    "--set",
    "crds.install=false",
    "--set",
    "admission.companies=false",
    "--set",
    "admission.leases=false",
    "--set",
    "admission.status=false",
];

#[tokio::test]
async fn every_rendered_object_is_taken_by_the_api_server_without_an_unknown_field() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespaces: Api<NamespaceObject> = Api::all(client.clone());
    for name in ["team-a", "team-b"] {
        let namespace = NamespaceObject {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    // A Pod by itself is admitted only where its account is there, and a dry run makes none.
    for name in ["tried", "penv", "agents"] {
        let account = format!("{{ apiVersion: v1, kind: ServiceAccount, metadata: {{ name: {name} }} }}");
        objects::apply(&client, NAMESPACE, &account).await.unwrap();
    }
    let folder = harness::guard::fresh_directory("rendered").unwrap();
    for name in CASES {
        // New names, so that nothing is merged into the release that is here. The Prometheus operator is not, nor its kinds.
        let rendered = case(name).await.replace("demo-environment-operator", "tried");
        let documents = rendered
            .split("\n---\n")
            .filter(|document| !document.contains("apiVersion: monitoring.coreos.com"));
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, documents.collect::<Vec<_>>().join("\n---\n")).unwrap();
        let mut kubectl = control_plane.kubectl().await.unwrap();
        kubectl.args([
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
        ]);
        let said = run(kubectl.args(["--filename", file.to_str().unwrap()])).await;
        assert!(said.is_ok(), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn an_upgrade_keeps_the_password_of_the_embedded_postgres() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let chart = chart();
    let with = async |command: &str, arguments: &[&str]| {
        let first = [
            command,
            "trial",
            chart.to_str().unwrap(),
            "--set",
            "postgresql.embedded.enabled=true",
        ];
        helm(control_plane, &[&first, BESIDE, arguments].concat())
            .await
            .unwrap();
        let secret = secrets.get("trial-environment-operator-postgresql").await.unwrap();
        let text = |key: &str| String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap();
        (text("password"), text("url"))
    };
    let (password, url) = with("install", &[]).await;
    assert_eq!(password.len(), 32);
    let (user, rest) = url.split_once(&password).unwrap();
    assert_eq!(user, "postgres://environment_operator:");
    assert_eq!(
        rest,
        "@trial-environment-operator-postgresql.operators.svc:5432/environment_operator?sslmode=disable"
    );
    assert_eq!(with("upgrade", &["--set", "replicaCount=1"]).await, (password, url));
    helm(control_plane, &["uninstall", "trial"]).await.unwrap();
}

#[tokio::test]
async fn an_upgrade_changes_the_way_to_the_database_and_a_rollback_takes_it_back() {
    let control_plane = installed().await;
    let deployments: Api<Deployment> = Api::namespaced(control_plane.client().await.unwrap(), NAMESPACE);
    let chart = chart();
    let with = async |command: &str, arguments: &[&str]| {
        let first = [
            command,
            "moved",
            chart.to_str().unwrap(),
            "--set",
            "database.secretName=database",
        ];
        helm(control_plane, &[&first, BESIDE, arguments].concat())
            .await
            .unwrap();
    };
    let url = async || {
        let deployment = deployments.get("moved-environment-operator").await.unwrap();
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let variables = pod.containers[0].env.clone().unwrap();
        let url = variables
            .into_iter()
            .find(|variable| variable.name == "DATABASE_URL")
            .unwrap();
        (url.value, url.value_from.is_some())
    };
    with("install", &[]).await;
    assert_eq!(url().await, (None, true));
    with("upgrade", &["--set", "database.host=postgres.example"]).await;
    let whole = "postgres://postgres.example:5432/environment_operator".to_owned();
    assert_eq!(url().await, (Some(whole), false));
    helm(control_plane, &["rollback", "moved"]).await.unwrap();
    assert_eq!(url().await, (None, true));
    helm(control_plane, &["uninstall", "moved"]).await.unwrap();
}

#[tokio::test]
async fn a_second_release_of_the_same_name_elsewhere_is_refused_and_changes_nothing() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let elsewhere = Namespace::create(&client, "elsewhere").await.unwrap();
    let mut command = control_plane.helm().await.unwrap();
    let chart = chart();
    command.args([
        "install",
        "demo",
        chart.to_str().unwrap(),
        "--set",
        "database.secretName=database",
    ]);
    command.args(BESIDE).args(["--namespace", elsewhere.name()]);
    let said = run(&mut command).await.unwrap_err();
    assert!(said.contains("invalid ownership metadata"), "{said}");
    let accounts: Api<ServiceAccount> = Api::namespaced(client, elsewhere.name());
    assert!(accounts.get_opt("demo-environment-operator").await.unwrap().is_none());
}
