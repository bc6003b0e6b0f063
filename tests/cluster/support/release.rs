//! The chart's release around these tests' operators: its ServiceAccount, its admission policies and its rights, as helm
//! renders them. An operator has a token of that account and no other right than those.
//!
//! A control plane has the account and the policies once, for the whole cluster. As to rights each world is a release of its
//! own (`settings.namespaces`), bound to the one account, because the policy on status knows one operator; the Pods that the
//! tokens are bound to tell worlds apart in the audit log.

use std::collections::HashMap;

use futures::future::join_all;
use harness::control_plane::audit;
use harness::namespace::Namespace;
use harness::wait::eventually;
use harness::{helm, objects};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{LIMIT, TestEnvironment};

/// Where the account is.
pub const NAMESPACE: &str = "operators";

/// The name of the account.
pub const ACCOUNT: &str = "environment-operator";

/// Stands for a world's namespace, and for the name of its release, in what is rendered once for all of them.
const ANY: &str = "any-world";

/// A kind of run objects, as one of `settings.runKinds` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunKind {
    api_version: String,
    kind: String,
    resource: String,
}

impl RunKind {
    /// Jobs.
    pub fn jobs() -> Self {
        Self::of("batch/v1", "Job", "jobs")
    }

    /// Pods.
    pub fn pods() -> Self {
        Self::of("v1", "Pod", "pods")
    }

    /// A kind by its version, its name and its lower-case plural.
    pub fn of(api_version: &str, kind: &str, resource: &str) -> Self {
        Self {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            resource: resource.to_owned(),
        }
    }

    /// As `--run-kinds` spells it.
    pub fn flag(&self) -> String {
        format!("{}/{}", self.api_version, self.kind)
    }
}

/// Installs what a control plane has once.
pub async fn install(client: &Client) {
    // The policy on companies refuses labels that some tests set, as they stand where it is switched off or came later.
    let templates = ["service-account", "admission-leases", "admission-status"];
    let values = [&format!("fullnameOverride={ACCOUNT}")[..]];
    let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}");
    for text in [namespace, render(&templates, &values).await] {
        apply(client, &objects::parse(&text).unwrap()).await;
    }
}

impl TestEnvironment<'_> {
    /// Gives the operators of this world the chart's rights on its namespace, for Jobs as runs.
    pub async fn give_rights(&self) {
        self.grant(self.namespace.name(), &[RunKind::jobs()]).await;
    }

    /// The same for these run kinds; hands back the argument that names the kinds.
    pub async fn run_kinds(&self, kinds: &[RunKind]) -> String {
        self.grant(self.namespace.name(), kinds).await;
        let flags: Vec<String> = kinds.iter().map(RunKind::flag).collect();
        format!("--run-kinds={}", flags.join(","))
    }

    /// Gives the operators of this world the chart's rights on another namespace.
    pub async fn look_after(&self, namespace: &Namespace) {
        self.grant(namespace.name(), &[RunKind::jobs()]).await;
    }

    /// Takes these verbs on these resources from the operators of this world; they have every other right of the chart's.
    pub async fn lack(&self, rights: &[(&str, &[&str])]) {
        let name = self.namespace.name();
        assert!(
            name.starts_with(audit::LACKING),
            "the check of the audit logs has to know of {name}"
        );
        let mut objects = rights_on(name, &[RunKind::jobs()]).await;
        let mut taken = Vec::new();
        for role in &mut objects {
            let Some(rules) = role.data.get("rules").cloned() else {
                continue;
            };
            let mut left = Vec::new();
            for rule in rules_one_by_one(&rules) {
                let resource = rule["resources"][0].as_str().unwrap();
                let lacking = rights.iter().find(|(lacking, _)| *lacking == resource);
                let lacks = |verb: &Value| lacking.is_some_and(|(_, verbs)| verbs.iter().any(|one| verb == one));
                let (gone, kept): (Vec<Value>, Vec<Value>) = verbs_of(&rule).into_iter().partition(lacks);
                for (verbs, rules) in [(gone, &mut taken), (kept, &mut left)] {
                    if !verbs.is_empty() {
                        let mut rule = rule.clone();
                        rule["verbs"] = json!(verbs);
                        rules.push(rule);
                    }
                }
            }
            role.data["rules"] = json!(left);
        }
        let asked: usize = rights.iter().map(|(_, verbs)| verbs.len()).sum();
        let found: usize = taken.iter().map(|rule| verbs_of(rule).len()).sum();
        assert_eq!(found, asked, "the chart gives what is taken away: {taken:?}");
        apply(&self.client, &objects).await;
        let left: Vec<Value> = objects.iter().flat_map(rules_of).collect();
        self.hold(name, &left, true).await;
        self.hold(name, &taken, false).await;
    }

    async fn grant(&self, namespace: &str, kinds: &[RunKind]) {
        let objects = rights_on(namespace, kinds).await;
        apply(&self.client, &objects).await;
        // A role takes effect as a whole, and so does its binding; of one that is there already only the kinds may be new.
        let roles = objects.iter().filter(|object| object.data.get("rules").is_some());
        let mut rules: Vec<Value> = roles.filter_map(|role| rules_of(role).pop()).collect();
        rules.extend(kinds.iter().map(|kind| {
            let group = kind.api_version.rsplit_once('/').map_or("", |(group, _)| group);
            json!({ "apiGroups": [group], "resources": [kind.resource], "verbs": ["watch"] })
        }));
        self.hold(namespace, &rules, true).await;
    }

    /// Waits until the API server's authorizer has taken up that the account has these rights in a namespace, or lacks them.
    async fn hold(&self, namespace: &str, rules: &[Value], allowed: bool) {
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let asked = rules.iter().flat_map(|rule| {
            let verbs = verbs_of(rule);
            verbs.into_iter().map(move |verb| review(namespace, rule, &verb))
        });
        let answers = asked.map(async |review| {
            eventually(&format!("{:?} is {allowed}", review.spec), LIMIT, async || {
                let answer = reviews.create(&PostParams::default(), &review).await;
                let status = answer.map_err(|error| error.to_string())?.status.unwrap_or_default();
                if status.allowed == allowed {
                    Ok(())
                } else {
                    Err(format!("{status:?}"))
                }
            })
            .await;
        });
        join_all(answers).await;
    }
}

/// Each rule for each of its resources.
fn rules_one_by_one(rules: &Value) -> Vec<Value> {
    let rules = rules.as_array().unwrap().iter();
    rules
        .flat_map(|rule| {
            rule["resources"].as_array().unwrap().iter().map(|resource| {
                let mut one = rule.clone();
                one["resources"] = json!([resource]);
                one
            })
        })
        .collect()
}

fn rules_of(object: &DynamicObject) -> Vec<Value> {
    object.data.get("rules").map(rules_one_by_one).unwrap_or_default()
}

fn verbs_of(rule: &Value) -> Vec<Value> {
    rule["verbs"].as_array().unwrap().clone()
}

/// Asks whether the account may do this in a namespace, or to that Namespace itself.
fn review(namespace: &str, rule: &Value, verb: &Value) -> SubjectAccessReview {
    let text = |value: &Value| Some(value.as_str().unwrap().to_owned());
    let resource = rule["resources"][0].as_str().unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = ResourceAttributes {
        group: text(&rule["apiGroups"][0]),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: (resource == "namespaces").then(|| namespace.to_owned()),
        verb: text(verb),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: Some(format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    SubjectAccessReview {
        spec,
        ..SubjectAccessReview::default()
    }
}

/// The chart's roles and bindings for a release that looks after one namespace.
async fn rights_on(namespace: &str, kinds: &[RunKind]) -> Vec<DynamicObject> {
    static RENDERED: Mutex<Option<HashMap<Vec<RunKind>, String>>> = Mutex::const_new(None);
    let mut rendered = RENDERED.lock().await;
    let rendered = rendered.get_or_insert_default();
    if !rendered.contains_key(kinds) {
        let mut values = vec![
            format!("fullnameOverride={ANY}"),
            format!("settings.namespaces={{{ANY}}}"),
            format!("settings.clusterId={ANY}"),
            "serviceAccount.create=false".to_owned(),
            format!("serviceAccount.name={ACCOUNT}"),
        ];
        for (number, kind) in kinds.iter().enumerate() {
            let key = format!("settings.runKinds[{number}]");
            values.push(format!("{key}.apiVersion={}", kind.api_version));
            values.push(format!("{key}.kind={},{key}.resource={}", kind.kind, kind.resource));
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        rendered.insert(kinds.to_vec(), render(&["rights"], &values).await);
    }
    objects::parse(&rendered[kinds].replace(ANY, namespace)).unwrap()
}

/// Templates of the chart with values, as YAML.
async fn render(templates: &[&str], values: &[&str]) -> String {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/environment-operator");
    let mut arguments = vec!["template", "tests", chart, "--namespace", NAMESPACE];
    let least = ["database.secretName=database"];
    arguments.extend(least.iter().chain(values).flat_map(|value| ["--set", value]));
    let files: Vec<String> = templates.iter().map(|name| format!("templates/{name}.yaml")).collect();
    arguments.extend(files.iter().flat_map(|file| ["--show-only", file]));
    helm::offline(&arguments).await.unwrap().unwrap()
}

/// Applies objects all at once.
async fn apply(client: &Client, objects: &[DynamicObject]) {
    let applied = objects.iter().map(async |object| {
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.as_deref().unwrap();
        let how = PatchParams::apply(objects::FIELD_MANAGER).force();
        api.patch(name, &how, &Patch::Apply(object)).await.unwrap();
    });
    join_all(applied).await;
}
