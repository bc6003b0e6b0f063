//! What a user sees of an installation that lacks something, and that it heals once that is there.

use harness::wait::eventually;
use k8s_openapi::api::core::v1::ContainerStatus;

use super::release::Site;
use crate::installed::LIMIT;

/// The status of the only container of the only Pod.
async fn container(site: &Site) -> Result<ContainerStatus, String> {
    let pod = site.operators().await.into_iter().next().ok_or("no Pod")?;
    let statuses = pod.status.unwrap_or_default().container_statuses.unwrap_or_default();
    statuses.into_iter().next().ok_or_else(|| "no container".to_owned())
}

/// Waits until the Pod's status says these words, in whatever place of it.
async fn says(site: &Site, words: &[&str]) {
    eventually(&format!("the Pod's status says {words:?}"), LIMIT, async || {
        let status = container(site).await?;
        let text = serde_json::to_string(&status).unwrap();
        if !status.ready && words.iter().all(|word| text.contains(word)) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}

/// Waits until `/readyz` says these words.
async fn not_ready(site: &Site, words: &str) {
    eventually(&format!("/readyz says {words}"), LIMIT, async || {
        let answers = site.try_ask("/readyz").await?;
        let so = answers
            .iter()
            .all(|answer| answer.status == 503 && answer.body.contains(words));
        if so { Ok(()) } else { Err(format!("{answers:?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_installation_that_lacks_something_says_what_and_heals_once_it_is_there() {
    let site = Site::prepare().await;
    let values = ["replicaCount=1", "rbac.create=false", "database.secretName=absent"];
    let said = site.helm_waits("install", "3s", &values).await.unwrap_err();
    assert!(
        said.contains("demo-environment-operator") && said.contains("not ready"),
        "{said}"
    );

    says(
        &site,
        &["CreateContainerConfigError", "secret \\\"absent\\\" not found"],
    )
    .await;
    let options = site.database.options().unwrap();
    let (host, port) = (options.get_host(), options.get_port());
    let nobody = format!("postgres://nobody@{host}:{port}/{}", site.database.name());
    site.secret("absent", &nobody).await;
    not_ready(&site, "namespaces \"kube-system\" is forbidden").await;

    // With its rights the same Pod comes further.
    let values = ["replicaCount=1", "database.secretName=absent"];
    let said = site.helm_waits("upgrade", "3s", &values).await.unwrap_err();
    assert!(said.contains("not ready"), "{said}");
    not_ready(&site, "role \"nobody\" does not exist").await;

    // A Pod reads its Secret when it starts, so another one is needed.
    site.secret("absent", site.database.url()).await;
    site.upgrade(&[&values[..], &["podAnnotations.secret=new"]].concat())
        .await;
    site.uninstall().await;
}
