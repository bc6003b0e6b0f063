//! The names of objects, whatever the release is called.

use harness::objects;
use kube::api::DynamicObject;

use crate::support::{chart, of_kind, only, template_of};

async fn release(name: &str, values: &[&str]) -> Result<Vec<DynamicObject>, String> {
    let arguments: Vec<&str> = values.iter().flat_map(|value| ["--set", *value]).collect();
    let text = template_of(&chart(), name, &arguments).await?;
    Ok(objects::parse(&text).unwrap())
}

fn is_dns_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    name.len() <= 63 && name.chars().all(plain) && begins && edge(name.chars().last())
}

#[tokio::test]
async fn a_release_of_any_name_gives_each_object_a_name_that_it_can_have() {
    // Helm takes names of 53 characters, with dots among them.
    let long = "a".repeat(53);
    let cut_at_a_hyphen = format!("{}-{}", "a".repeat(49), "b".repeat(3));
    let names = [
        "a",
        "a.b-c",
        "a.environment-operator.1",
        &long,
        &cut_at_a_hyphen,
        "true",
        "a1e3",
    ];
    for name in names {
        let objects = release(name, &["postgresql.embedded.enabled=true"]).await;
        let objects = objects.unwrap_or_else(|said| panic!("{name}: {said}"));
        for service in of_kind(&objects, "Service") {
            let called = service.metadata.name.as_deref().unwrap();
            assert!(is_dns_label(called), "{name}: {called}");
        }
        for object in &objects {
            let called = object.metadata.name.as_deref().unwrap();
            let kind = &object.types.as_ref().unwrap().kind;
            let limit = match kind.as_str() {
                "StatefulSet" => 52, // and a hash, in a label of its Pods
                "Service" | "Job" | "Pod" => 63,
                _ => 253,
            };
            assert!(called.len() <= limit, "{name}: {kind} {called}");
            for (key, value) in object.metadata.labels.iter().flatten() {
                assert!(value.len() <= 63, "{name}: {kind} {key}={value}");
            }
        }
    }
}

#[tokio::test]
async fn a_release_whose_service_could_not_be_made_is_refused_before_anything_is() {
    let least = "database.secretName=database";
    let said = release("1st", &[least]).await.unwrap_err();
    assert!(
        said.contains("a Service's name begins with a letter: set fullnameOverride"),
        "{said}"
    );
    let objects = release("1st", &[least, "fullnameOverride=first"]).await.unwrap();
    assert_eq!(only(&objects, "Service").metadata.name.as_deref(), Some("first"));
    for value in ["fullnameOverride=a.b", "fullnameOverride=1st", "nameOverride=a.b"] {
        let said = release("demo", &[least, value]).await.unwrap_err();
        assert!(said.contains("does not match pattern"), "{value}: {said}");
    }
}
