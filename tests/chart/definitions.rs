//! Definitions that were there before the release, and that outlive it; and a release for a part of the cluster.

use std::path::Path;

use environment_operator::api;
use harness::control_plane::ControlPlane;
use harness::guard;
use harness::namespace::Namespace;
use harness::operator::Operator;
use harness::postgres::Postgres;
use harness::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::installed::{LIMIT, User, helm, lease, refused};
use crate::operator::{PROGRAM, takes_a_lease, works_in};
use crate::support::{LEAST, RELEASE, chart, run};

/// What an older definition says of a lease.
const OLD: &str = "An older sentence.";

/// A control plane of the test's own, for definitions are the whole cluster's.
struct Cluster {
    control_plane: ControlPlane,
    client: Client,
}

impl Cluster {
    async fn start(name: &str) -> Self {
        let control_plane = ControlPlane::start(&guard::fresh_directory(name).unwrap())
            .await
            .unwrap();
        let client = control_plane.client().await.unwrap();
        Self { control_plane, client }
    }

    /// `helm install` or `helm upgrade` of the chart, with more arguments.
    async fn helm(&self, command: &str, release: &str, arguments: &[&str]) -> Result<String, String> {
        let chart = chart();
        let first = [command, release, chart.to_str().unwrap(), "--set", LEAST[0]];
        helm(&self.control_plane, &[&first, arguments].concat()).await
    }

    /// `kubectl apply` of both definitions, which are of an older version.
    async fn apply_old_definitions(&self, folder: &Path) {
        let file = folder.join("old.yaml");
        let mut old = api::crds();
        for definition in &mut old {
            let schema = definition.spec.versions[0].schema.as_mut().unwrap();
            let schema = schema.open_api_v3_schema.as_mut().unwrap();
            schema.description = Some(OLD.to_owned());
            // Fields that an older version did not have: a spec's without a default, and a status's.
            for (part, field) in [("spec", "metadata"), ("status", "context"), ("status", "activeLeases")] {
                let fields = schema.properties.as_mut().unwrap().get_mut(part).unwrap();
                fields.properties.as_mut().unwrap().remove(field);
            }
        }
        let text: Vec<String> = old.iter().map(api::crd_yaml).collect();
        std::fs::write(&file, text.join("---\n")).unwrap();
        let mut kubectl = self.control_plane.kubectl().await.unwrap();
        run(kubectl.args(["apply", "--filename", file.to_str().unwrap()]))
            .await
            .unwrap();
    }

    fn definitions(&self) -> Api<CustomResourceDefinition> {
        Api::all(self.client.clone())
    }

    /// What the served definition says of a lease; `None` where there is none.
    async fn sentence(&self) -> Option<String> {
        let name = "environmentleases.paperclip.ing";
        let definition = self.definitions().get_opt(name).await.unwrap()?;
        let schema = definition.spec.versions[0]
            .schema
            .as_ref()?
            .open_api_v3_schema
            .as_ref()?;
        schema.description.clone()
    }
}

#[tokio::test]
async fn definitions_are_taken_over_upgraded_kept_and_only_then_deleted() {
    let cluster = Cluster::start("definitions").await;
    cluster.apply_old_definitions(cluster.control_plane.directory()).await;
    assert_eq!(cluster.sentence().await.as_deref(), Some(OLD));

    // Made by kubectl: helm does not touch them unasked, and not against kubectl's words unforced.
    let said = cluster.helm("install", RELEASE, &[]).await.unwrap_err();
    assert!(said.contains("invalid ownership metadata"), "{said}");
    let said = cluster
        .helm("install", RELEASE, &["--take-ownership"])
        .await
        .unwrap_err();
    assert!(said.contains("conflict"), "{said}");
    assert_eq!(cluster.sentence().await.as_deref(), Some(OLD));
    helm(&cluster.control_plane, &["uninstall", RELEASE]).await.unwrap();
    let force = ["--take-ownership", "--force-conflicts"];
    cluster.helm("install", RELEASE, &force).await.unwrap();
    let sentence = cluster.sentence().await.unwrap();
    assert_ne!(sentence, OLD);

    // The release goes, definitions and objects stay.
    let leases: Api<api::EnvironmentLease> = Api::default_namespaced(cluster.client.clone());
    leases.create(&PostParams::default(), &lease("kept")).await.unwrap();
    helm(&cluster.control_plane, &["uninstall", RELEASE]).await.unwrap();
    assert_eq!(cluster.sentence().await, Some(sentence));
    leases.get("kept").await.unwrap();

    // Another release takes them over, and is told to take them with it.
    let said = cluster.helm("install", "other", &[]).await.unwrap_err();
    assert!(said.contains("invalid ownership metadata"), "{said}");
    cluster.helm("install", "other", &["--take-ownership"]).await.unwrap();
    cluster
        .helm("upgrade", "other", &["--set", "crds.keep=false"])
        .await
        .unwrap();
    leases.get("kept").await.unwrap();
    helm(&cluster.control_plane, &["uninstall", "other"]).await.unwrap();
    eventually("the definitions are gone", LIMIT, async || {
        match cluster.sentence().await {
            None => Ok(()),
            Some(sentence) => Err(sentence),
        }
    })
    .await;
}

#[tokio::test]
async fn an_operator_says_which_definitions_are_missing_and_works_with_older_ones() {
    let cluster = Cluster::start("missing").await;
    let database = Postgres::shared().await.database().await.unwrap();
    let operator = Operator::of(PROGRAM.as_ref())
        .kubeconfig(&cluster.control_plane.admin_kubeconfig())
        .database_url(database.url())
        .start()
        .unwrap();
    eventually("it names both kinds", LIMIT, async || {
        let answer = operator.get("/readyz").await.map_err(|error| error.to_string())?;
        let words = "the API server does not serve this kind";
        let named = ["Environment", "EnvironmentLease"].map(|kind| format!("watch {kind}: not listed yet: {words}"));
        let so = answer.status == 503 && named.iter().all(|line| answer.body.contains(line));
        if so { Ok(()) } else { Err(answer.body) }
    })
    .await;
    cluster.apply_old_definitions(cluster.control_plane.directory()).await;
    operator.wait_ready().await;
    let namespace = Namespace::create(&cluster.client, "older").await.unwrap();
    takes_a_lease(&cluster.client, &namespace).await;
}

#[tokio::test]
async fn a_release_for_one_namespace_works_there_and_holds_its_policies_there_alone() {
    let cluster = Cluster::start("part").await;
    let (inside, outside) = (
        Namespace::create(&cluster.client, "inside").await.unwrap(),
        Namespace::create(&cluster.client, "outside").await.unwrap(),
    );
    let scope = format!("settings.namespaces={{{}}}", inside.name());
    let values = ["settings.clusterId=part", &scope];
    cluster
        .helm("install", RELEASE, &["--set", values[0], "--set", values[1]])
        .await
        .unwrap();
    works_in(&cluster.control_plane, &cluster.client, &inside, &values).await;

    let admin = User {
        client: cluster.client.clone(),
    };
    let patch = Patch::Merge(json!({ "status": { "message": "mine" } }));
    eventually("the policy holds inside", LIMIT, async || {
        let leases = admin.leases(inside.name());
        refused(leases.patch_status("first", &PatchParams::default(), &patch).await)
    })
    .await;
    let leases = admin.leases(outside.name());
    leases.create(&PostParams::default(), &lease("first")).await.unwrap();
    leases
        .patch_status("first", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let said = outside_is_forbidden(&cluster, outside.name()).await;
    assert!(said.contains("cannot list resource \"environmentleases\""), "{said}");
}

/// What the operator's ServiceAccount is told that looks beyond its namespaces.
async fn outside_is_forbidden(cluster: &Cluster, namespace: &str) -> String {
    let operator = User::named(&cluster.control_plane, crate::installed::OPERATOR).await;
    let listed = operator.leases(namespace).list(&kube::api::ListParams::default()).await;
    listed.unwrap_err().to_string()
}
