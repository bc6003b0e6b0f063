//! The control plane: start, identities, audit log, a restart of the API server.

use std::time::Duration;

use harness::control_plane::{ControlPlane, kubeconfig};
use harness::namespace::Namespace;
use harness::wait::eventually;
use harness::{guard, objects};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};

const CONFIG_MAP: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: kept}, data: {key: value}}";

#[tokio::test]
async fn the_audit_log_counts_the_writes_of_one_user() {
    let cluster = ControlPlane::shared().await;
    let admin = cluster.client().await.unwrap();
    let namespace = Namespace::create(&admin, "audit").await.unwrap();
    let user = format!("user-{}", namespace.name());
    let kubeconfig = cluster.kubeconfig(&user, &["system:masters", "another-group"]).unwrap();
    let client = kubeconfig::client(&kubeconfig).await.unwrap();
    let log = cluster.audit();
    let mark = log.mark().unwrap();
    objects::apply(&client, namespace.name(), CONFIG_MAP).await.unwrap();
    objects::apply(&admin, namespace.name(), CONFIG_MAP).await.unwrap();
    let writes = log.writes(mark, |event| event.user() == user).unwrap();
    assert_eq!(writes.len(), 1, "{writes:#?}");
    assert_eq!(writes[0].verb, "patch");
    assert_eq!(writes[0].object_ref.as_ref().unwrap().resource, "configmaps");
}

#[tokio::test]
async fn rights_are_those_of_the_user_that_a_kubeconfig_names() {
    let cluster = ControlPlane::shared().await;
    let admin = cluster.client().await.unwrap();
    let namespace = Namespace::create(&admin, "rights").await.unwrap();
    let nobody = kubeconfig::client(&cluster.kubeconfig("nobody", &[]).unwrap())
        .await
        .unwrap();
    let account = cluster
        .service_account_kubeconfig(namespace.name(), "default")
        .await
        .unwrap();
    for client in [nobody, kubeconfig::client(&account).await.unwrap()] {
        let refused = Api::<ConfigMap>::namespaced(client, namespace.name())
            .create(&PostParams::default(), &ConfigMap::default())
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, kube::Error::Api(status) if status.code == 403),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn the_api_server_starts_again_on_the_same_state() {
    let cluster = ControlPlane::start(&guard::fresh_directory("cluster").unwrap())
        .await
        .unwrap();
    let client = cluster.client().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    objects::apply(&client, "default", CONFIG_MAP).await.unwrap();
    cluster.kill_api_server().await.unwrap();
    assert!(maps.get("kept").await.is_err(), "a killed API server must not answer");
    cluster.start_api_server().await.unwrap();
    eventually("the ConfigMap is there again", Duration::from_secs(10), async || {
        maps.get("kept").await
    })
    .await;
}

#[tokio::test]
async fn kubectl_and_helm_report_versions_that_can_be_parsed() {
    let cluster = ControlPlane::shared().await;
    let version = cluster
        .kubectl()
        .await
        .unwrap()
        .args(["version", "--output=json"])
        .output()
        .await
        .unwrap();
    let version: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(version["serverVersion"]["major"], "1");
    assert_eq!(version["clientVersion"]["major"], "1");
    let helm = cluster
        .helm()
        .await
        .unwrap()
        .args(["version", "--template={{.Version}}"])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&helm.stdout).into_owned();
    assert!(
        text.starts_with("v4."),
        "{text} {}",
        String::from_utf8_lossy(&helm.stderr)
    );
}
