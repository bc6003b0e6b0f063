//! The operator's rights are the least: over all tests its requests need each of the chart's rules, and no other.
//!
//! The API servers' audit logs of the layers `cluster` and `chart` say what was asked for, faults included. `scripts/test.sh`
//! has them kept for this.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use harness::control_plane::audit::{self, AuditEvent};

use crate::rights::allowed;
use crate::support::{objects_with, only};

/// Verb, group, resource with its subresource.
type Right = (String, String, String);

/// The end of the groups of run kinds that tests make up; all of them stand for the one that is rendered here.
const MADE_UP: &str = ".example.test";

/// The chart's rules for Jobs, Pods and a kind of a workflow engine as run kinds.
async fn rendered() -> BTreeSet<Right> {
    let mut values = vec!["rbac.userRoles=false".to_owned()];
    let kinds = [
        ("batch/v1", "Job", "jobs"),
        ("v1", "Pod", "pods"),
        ("any.example.test/v1", "Task", "tasks"),
    ];
    for (number, (version, kind, resource)) in kinds.into_iter().enumerate() {
        let key = format!("settings.runKinds[{number}]");
        values.push(format!(
            "{key}.apiVersion={version},{key}.kind={kind},{key}.resource={resource}"
        ));
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let objects = objects_with(&values).await;
    let rules = allowed(only(&objects, "ClusterRole")).into_iter();
    rules
        .map(|(group, resource, _, verb)| (verb, group, resource))
        .collect()
}

/// The right that a request needs; none for what every user may read, such as which kinds there are.
fn needed(event: &AuditEvent) -> Option<Right> {
    let object = event.object_ref.as_ref()?;
    if object.api_group.ends_with(MADE_UP) {
        return Some((event.verb.clone(), "any.example.test".into(), "tasks".into()));
    }
    let resource = match object.subresource.as_str() {
        "" => object.resource.clone(),
        subresource => format!("{}/{subresource}", object.resource),
    };
    Some((event.verb.clone(), object.api_group.clone(), resource))
}

/// The requests of operators that speak by their own token: their ServiceAccounts are called `…environment-operator`.
fn by_operators(folder: &std::path::Path) -> Vec<AuditEvent> {
    let mut events = audit::in_folder(folder, |line| line.contains("environment-operator\"")).unwrap();
    events.retain(|event| {
        let user = event.user();
        event.is_genuine() && user.starts_with("system:serviceaccount:") && user.ends_with("environment-operator")
    });
    events
}

/// The Namespaces that a test has deleted, and with them the Roles in them.
fn deleted_namespaces(folder: &std::path::Path) -> BTreeSet<String> {
    let deletions = audit::in_folder(folder, |line| {
        line.contains("\"verb\":\"delete\"") && line.contains("\"resource\":\"namespaces\"")
    });
    let objects = deletions.unwrap().into_iter().filter_map(|event| event.object_ref);
    objects.map(|object| object.name).collect()
}

#[tokio::test]
#[ignore = "needs the audit logs of a whole run: scripts/test.sh"]
async fn over_all_tests_the_operators_need_each_of_the_chart_s_rules_and_no_other() {
    let folder = std::env::var_os(audit::FOLDER_VARIABLE).map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| {
        panic!(
            "this looks at the audit logs that the layers cluster and chart have left in the folder {}: run scripts/test.sh",
            audit::FOLDER_VARIABLE
        )
    });
    let events = by_operators(&folder);
    assert!(
        !events.is_empty(),
        "no operator has asked for anything in {}",
        folder.display()
    );
    let gone = deleted_namespaces(&folder);
    let (mut used, mut refused) = (BTreeMap::<Right, u64>::new(), BTreeSet::new());
    for event in &events {
        let Some(right) = needed(event) else { continue };
        if !event.is_forbidden() {
            *used.entry(right).or_default() += 1;
            continue;
        }
        let lacks = event.pod().is_some_and(|pod| pod.starts_with(audit::LACKING));
        let namespace = event.object_ref.clone().unwrap_or_default().namespace;
        if !lacks && !gone.contains(&namespace) {
            refused.insert((right, event.request_uri.clone(), event.pod().map(str::to_owned)));
        }
    }
    println!("{} requests of operators used {} rights:", events.len(), used.len());
    for ((verb, group, resource), times) in &used {
        println!("{times:>8} {verb} {resource} {group}");
    }
    let rendered = rendered().await;
    let used: BTreeSet<Right> = used.into_keys().collect();
    let unused: Vec<&Right> = rendered.difference(&used).collect();
    assert!(
        unused.is_empty(),
        "the chart gives rights that nothing needs: {unused:#?}"
    );
    let beyond: Vec<&Right> = used.difference(&rendered).collect();
    assert!(
        beyond.is_empty(),
        "operators have rights that the chart does not give: {beyond:#?}"
    );
    assert!(
        refused.is_empty(),
        "operators ask for what they may not do: {refused:#?}"
    );
}
