//! The operator's rights are the least: over all tests its requests need each of the chart's rules, and no other.
//!
//! The API servers' audit logs of the layers `cluster` and `chart` say what was asked for, faults included. `scripts/test.sh`
//! has them kept for this.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use harness::control_plane::audit::{self, AuditEvent, AuditLog};

use crate::rights::allowed;
use crate::support::{objects_with, only};

/// Verb, group, resource with its subresource.
type Right = (String, String, String);

/// The end of the groups of run kinds that tests make up. Pods and all of these stand for the one that is rendered here.
const MADE_UP: &str = ".example.test";

/// The chart's rules for Jobs and one more run kind.
async fn rendered() -> BTreeSet<Right> {
    let mut values = vec!["rbac.userRoles=false".to_owned()];
    let kinds = [("batch/v1", "Job", "jobs"), ("any.example.test/v1", "Task", "tasks")];
    for (number, (version, kind, resource)) in kinds.into_iter().enumerate() {
        let key = format!("settings.runKinds[{number}]");
        values.push(format!(
            "{key}.apiVersion={version},{key}.kind={kind},{key}.resource={resource}"
        ));
    }
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let objects = objects_with(&values).await;
    // The verb report is asked for by a policy and by no request.
    let rules = allowed(only(&objects, "ClusterRole")).into_iter();
    rules
        .filter(|(_, _, _, verb)| verb != "report")
        .map(|(group, resource, _, verb)| (verb, group, resource))
        .collect()
}

/// The right that a request needs; none for what every user may read, such as which kinds there are.
fn needed(event: &AuditEvent) -> Option<Right> {
    let object = event.object_ref.as_ref()?;
    if object.api_group.ends_with(MADE_UP) || object.resource == "pods" {
        return Some((event.verb.clone(), "any.example.test".into(), "tasks".into()));
    }
    let resource = match object.subresource.as_str() {
        "" => object.resource.clone(),
        subresource => format!("{}/{subresource}", object.resource),
    };
    Some((event.verb.clone(), object.api_group.clone(), resource))
}

/// The right that a request needs, the Namespace that it is about, and the Pod that asks.
fn by_whom_and_where(event: &AuditEvent) -> Option<(Right, String, Option<String>)> {
    let namespace = event.object_ref.as_ref()?.namespace.clone();
    Some((needed(event)?, namespace, event.pod().map(str::to_owned)))
}

/// What one API server's log tells.
struct Story {
    /// The requests of operators that speak by their own token: their ServiceAccounts are called `…environment-operator`.
    requests: Vec<AuditEvent>,
    /// The Namespaces that a test has deleted, and with them the Roles in them.
    deleted: BTreeSet<String>,
    /// What each Pod was let do, and in which Namespace.
    allowed: BTreeSet<(Right, String, Option<String>)>,
    /// How releases were bound to their rights and parted from them, in this order.
    bindings: Vec<AuditEvent>,
}

impl Story {
    fn of(log: &AuditLog) -> Self {
        let mut requests = log.lines_that(|line| line.contains("environment-operator\"")).unwrap();
        requests.retain(|event| {
            let user = event.user();
            event.is_genuine() && user.starts_with("system:serviceaccount:") && user.ends_with("environment-operator")
        });
        let deletions =
            log.lines_that(|line| line.contains("\"verb\":\"delete\"") && line.contains("\"resource\":\"namespaces\""));
        let deleted = deletions.unwrap().into_iter().filter_map(|event| event.object_ref);
        let mut bindings = log
            .lines_that(|line| line.contains("\"resource\":\"clusterrolebindings\""))
            .unwrap();
        bindings
            .retain(|event| event.is_write() && event.response_status.as_ref().is_some_and(|status| status.code < 300));
        bindings.sort_by(|one, other| one.received.cmp(&other.received));
        let allowed = requests.iter().filter(|event| !event.is_forbidden());
        Self {
            allowed: allowed.filter_map(by_whom_and_where).collect(),
            requests,
            deleted: deleted.map(|object| object.name).collect(),
            bindings,
        }
    }

    /// Whether a refusal is what the test is about: rights were taken away, went with their Namespace, or the release that
    /// brings them was not there (yet, or any more); or it is of a moment, for the Pod was let do the same at another time: an API
    /// server that has just started refuses all whose roles it has not read yet.
    fn is_expected(&self, refused: &AuditEvent) -> bool {
        let lacks = refused.pod().is_some_and(|pod| pod.starts_with(audit::LACKING));
        let namespace = refused.object_ref.clone().unwrap_or_default().namespace;
        let of_a_moment = by_whom_and_where(refused).is_some_and(|right| self.allowed.contains(&right));
        lacks || of_a_moment || self.deleted.contains(&namespace) || !self.is_bound(refused)
    }

    /// Whether the account was bound by its release then; one that is bound in another way is.
    fn is_bound(&self, request: &AuditEvent) -> bool {
        let account = request.user().rsplit(':').next();
        let named = |event: &&AuditEvent| event.object_ref.as_ref().map(|object| &object.name[..]) == account;
        let mut of_release = self.bindings.iter().filter(named).peekable();
        let by_release = of_release.peek().is_some();
        let last = of_release.take_while(|event| event.received < request.received).last();
        !by_release || last.is_some_and(|event| event.verb != "delete")
    }
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
    let stories: Vec<Story> = audit::in_folder(&folder).unwrap().iter().map(Story::of).collect();
    let (mut used, mut refused, mut requests) = (BTreeMap::<Right, u64>::new(), BTreeSet::new(), 0);
    for story in &stories {
        for event in &story.requests {
            requests += 1;
            let Some(right) = needed(event) else { continue };
            if !event.is_forbidden() {
                *used.entry(right).or_default() += 1;
            } else if !story.is_expected(event) {
                refused.insert((right, event.request_uri.clone(), event.pod().map(str::to_owned)));
            }
        }
    }
    assert!(
        requests > 0,
        "no operator has asked for anything in {}",
        folder.display()
    );
    println!("{requests} requests of operators used {} rights:", used.len());
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
