//! What can be set without a chart of one's own: Kubernetes' fields for Pods, labels, registries.

use harness::objects;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::rendered::case;
use crate::support::{objects_with, of_kind, only, template, try_set};

/// The objects of the case that sets them all.
async fn given() -> Vec<DynamicObject> {
    objects::parse(&case("given").await).unwrap()
}

/// The specs of the Pods of the operator's image: the Deployment's, the migration's and the test's.
fn pods(objects: &[DynamicObject]) -> Vec<Value> {
    let of_template = ["Deployment", "Job"].map(|kind| only(objects, kind).data["spec"]["template"]["spec"].clone());
    let test = only(objects, "Pod").data["spec"].clone();
    of_template.into_iter().chain([test]).collect()
}

#[tokio::test]
async fn all_pods_of_the_operator_take_what_is_set_for_pods_and_containers() {
    for pod in pods(&given().await) {
        assert_eq!(
            pod["imagePullSecrets"],
            json!([{ "name": "registry" }, { "name": "shared" }])
        );
        let context = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" }, "supplementalGroups": [4711] });
        assert_eq!(pod["securityContext"], context);
        assert_eq!(pod["hostAliases"][0]["hostnames"][0], "postgres.example");
        assert_eq!(pod["dnsConfig"]["options"][0]["name"], "ndots");
        assert_eq!(pod["volumes"][0]["name"], "database-certificates");
        assert_eq!(
            pod["volumes"][1],
            json!({ "name": "authorities", "configMap": { "name": "authorities" } })
        );
        let container = &pod["containers"][0];
        assert_eq!(
            container["image"],
            "mirror.example:5000/pulled/environment-operator:0.1.0"
        );
        assert_eq!(container["securityContext"]["runAsUser"], 1_000_700_000);
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        assert_eq!(container["envFrom"], json!([{ "secretRef": { "name": "more" } }]));
        assert_eq!(container["volumeMounts"][1]["mountPath"], "/etc/authorities");
        let variables = container["env"].as_array().unwrap();
        let named = |name: &str| variables.iter().filter(|variable| variable["name"] == name).count();
        assert_eq!(named("OTEL_EXPORTER_OTLP_HEADERS"), 1);
        let listen = json!({ "name": "ENVIRONMENT_OPERATOR_LISTEN", "value": "[::]:8080" });
        assert!(variables.contains(&listen), "{variables:?}");
        let url = json!({ "name": "DATABASE_URL", "value": "postgres://[fd00::1]:5432/environment_operator" });
        assert!(variables.contains(&url), "{variables:?}");
    }
}

#[tokio::test]
async fn the_deployment_is_spread_replaced_and_remembered_as_asked() {
    let objects = given().await;
    let spec = &only(&objects, "Deployment").data["spec"];
    assert_eq!(spec["strategy"], json!({ "type": "Recreate" }));
    assert_eq!(spec["revisionHistoryLimit"], 3);
    let pod = &spec["template"]["spec"];
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(spread.len(), 1, "{spread:?}");
    assert_eq!(spread[0]["whenUnsatisfiable"], "DoNotSchedule");
    assert_eq!(spread[0]["labelSelector"], spec["selector"]);
    assert_eq!(pod["containers"][0]["args"], json!(["run", "--log-format=text"]));
}

#[tokio::test]
async fn every_object_and_every_pod_has_the_common_labels_and_annotations_beneath_its_own() {
    let values = crate::support::path("tests/chart/values/given.yaml");
    let arguments = [
        "--values",
        values.to_str().unwrap(),
        "--set",
        "serviceMonitor.enabled=always,prometheusRule.enabled=always,extraObjects=null",
    ];
    let objects = objects::parse(&template(&arguments).await.unwrap()).unwrap();
    assert!(objects.len() > 25, "{}", objects.len());
    for object in &objects {
        let name = format!("{:?} {:?}", object.types, object.metadata.name);
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(labels["example.com/team"], "platform", "{name}");
        assert_eq!(labels["app.kubernetes.io/name"], "environment-operator", "{name}");
        assert_eq!(annotations["example.com/owner"], "somebody", "{name}");
        if let Some(pod) = object.data["spec"].get("template") {
            assert!(pod["metadata"]["labels"]["example.com/team"].is_string(), "{name}");
            assert!(
                pod["metadata"]["annotations"]["example.com/owner"].is_string(),
                "{name}"
            );
        }
    }
    let deployment = only(&objects, "Deployment");
    let labels = &deployment.data["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["example.com/team"], "pods");
    assert_eq!(
        labels["app.kubernetes.io/component"], "operator",
        "the selector finds its Pods"
    );
    let service = only(&objects, "Service").metadata.annotations.clone().unwrap();
    assert_eq!(service["example.com/exposed"], "no");
}

#[tokio::test]
async fn more_objects_are_installed_as_they_stand_or_rendered() {
    let objects = given().await;
    let names: Vec<String> = of_kind(&objects, "ConfigMap")
        .into_iter()
        .filter_map(|object| object.metadata.name.clone())
        .collect();
    assert_eq!(names, ["more", "demo-environment-operator-rendered"]);
}

#[tokio::test]
async fn a_registry_for_all_images_takes_the_place_of_the_one_that_an_image_names() {
    let cases = [
        ("environment-operator", "environment-operator"),
        ("registry.example/team/operator", "team/operator"),
        ("localhost/operator", "operator"),
        ("team/operator", "team/operator"),
    ];
    for (repository, expected) in cases {
        let value = format!("image.repository={repository}");
        let objects = objects_with(&[&value, "global.imageRegistry=mirror.example"]).await;
        let image = &only(&objects, "Deployment").data["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, format!("mirror.example/{expected}:0.1.0"));
    }
    let embedded = [
        "postgresql.embedded.enabled=true",
        "global.imageRegistry=mirror.example",
    ];
    let objects = objects::parse(&try_set(&embedded).await.unwrap()).unwrap();
    let image = &only(&objects, "StatefulSet").data["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "mirror.example/library/postgres:17");
}

#[tokio::test]
async fn a_variable_or_a_volume_that_the_chart_makes_itself_is_refused_by_name() {
    for name in [
        "DATABASE_URL",
        "ENVIRONMENT_OPERATOR_LOG_FORMAT",
        "ENVIRONMENT_OPERATOR_LOG",
    ] {
        let value = format!("extraEnv[0].name={name},extraEnv[0].value=x");
        let said = try_set(&["database.secretName=database", &value]).await.unwrap_err();
        assert!(
            said.contains(&format!("extraEnv: the chart sets {name} itself")),
            "{said}"
        );
    }
    let volume = "extraVolumes[0].name=database-certificates,extraVolumes[0].emptyDir.medium=Memory";
    let said = try_set(&["database.secretName=database", volume]).await.unwrap_err();
    assert!(said.contains("is the chart's own"), "{said}");
}

#[tokio::test]
async fn a_pod_shows_that_it_is_not_ready_within_two_periods_of_its_probe() {
    for objects in [objects_with(&[]).await, given().await] {
        let probe = &only(&objects, "Deployment").data["spec"]["template"]["spec"]["containers"][0]["readinessProbe"];
        // In the worst case /readyz turns right after a probe: that many more are needed.
        assert_eq!(probe["failureThreshold"], 1, "{probe}");
        assert!(
            probe["timeoutSeconds"].as_u64() < probe["periodSeconds"].as_u64(),
            "{probe}"
        );
    }
}
