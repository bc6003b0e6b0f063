//! The operator's rights: the chart's are those that the documentation lists.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::support::{objects_with, of_kind, only, read};

/// What rules allow: (group, resource, names, verb), sorted.
pub fn allowed(role: &DynamicObject) -> Vec<(String, String, Value, String)> {
    let mut found = Vec::new();
    for rule in role.data["rules"].as_array().unwrap() {
        let texts = |key: &str| {
            rule[key]
                .as_array()
                .unwrap()
                .iter()
                .map(|text| text.as_str().unwrap().to_owned())
        };
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                found.extend(
                    texts("verbs").map(|verb| (group.clone(), resource.clone(), rule["resourceNames"].clone(), verb)),
                );
            }
        }
    }
    found.sort_by_key(|entry| format!("{entry:?}"));
    found
}

#[tokio::test]
async fn the_documentation_lists_the_chart_s_rights() {
    let document = read("docs/security.md");
    let (_, rest) = document.split_once("\n## What the operator may do\n").unwrap();
    let rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let mut documented = Vec::new();
    for row in rows.skip(2) {
        let row = row.replace('`', "");
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [resource, group, verbs, why] = cells[..] else {
            panic!("{row}")
        };
        assert!(!why.is_empty(), "{row}");
        documented.extend(verbs.split(", ").map(|verb| {
            let (group, resource) = (group.to_owned(), resource.to_owned());
            (group, resource, Value::Null, verb.to_owned())
        }));
    }
    documented.sort_by_key(|entry| format!("{entry:?}"));
    let rendered = objects_with(&["rbac.userRoles=false"]).await;
    assert_eq!(documented, allowed(only(&rendered, "ClusterRole")));
    assert!(of_kind(&rendered, "Role").is_empty());
}

#[tokio::test]
async fn in_namespaced_mode_the_same_rights_are_split_over_roles_and_the_names_of_namespaces() {
    let whole = objects_with(&["rbac.userRoles=false"]).await;
    let values = [
        "rbac.userRoles=false",
        "settings.clusterId=east",
        "settings.namespaces={team-a,team-b}",
    ];
    let split = objects_with(&values).await;
    let named = allowed(only(&split, "ClusterRole"));
    let names = json!(["team-a", "team-b"]);
    assert!(
        named
            .iter()
            .all(|(_, resource, of, _)| resource == "namespaces" && *of == names),
        "{named:?}"
    );
    let roles = of_kind(&split, "Role");
    let bindings = of_kind(&split, "RoleBinding");
    assert_eq!(bindings.len(), 2);
    for (role, namespace) in roles.iter().zip(["team-a", "team-b"]) {
        assert_eq!(role.metadata.namespace.as_deref(), Some(namespace));
        let mut together = allowed(role);
        together.extend(
            named
                .iter()
                .map(|(group, resource, _, verb)| (group.clone(), resource.clone(), Value::Null, verb.clone())),
        );
        together.sort_by_key(|entry| format!("{entry:?}"));
        assert_eq!(together, allowed(only(&whole, "ClusterRole")));
    }
}

#[tokio::test]
async fn run_kinds_bring_the_right_to_read_them() {
    let pods = [
        "settings.runKinds[0].apiVersion=v1",
        "settings.runKinds[0].kind=Pod",
        "settings.runKinds[0].resource=pods",
    ];
    let objects = objects_with(&[&pods[..], &["rbac.userRoles=false"]].concat()).await;
    let rights = allowed(only(&objects, "ClusterRole"));
    for verb in ["get", "list", "watch"] {
        assert!(
            rights.contains(&(String::new(), "pods".into(), Value::Null, verb.into())),
            "{verb}: {rights:?}"
        );
    }
    assert!(!rights.iter().any(|(_, resource, _, _)| resource == "jobs"));
}

#[tokio::test]
async fn no_rule_has_a_wildcard() {
    for role in of_kind(&objects_with(&[]).await, "ClusterRole") {
        assert!(!role.data["rules"].to_string().contains('*'), "{role:#?}");
    }
}
