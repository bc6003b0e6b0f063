//! The chart, installed by helm on the control plane that these tests share.
//!
//! Nothing runs its Pods: what is tried here is what the API server makes of the rest.

use std::time::Duration;

use environment_operator::api::{Environment, EnvironmentLease};
use harness::control_plane::ControlPlane;
use harness::namespace::Namespace;
use harness::wait::eventually;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::Client;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::support::{LEAST, NAMESPACE, RELEASE, chart, run};

/// How long what the controllers and the API server come to by themselves may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The user that the chart's ServiceAccount is.
pub const OPERATOR: &str = "system:serviceaccount:operators:demo-environment-operator";

/// The shared control plane with the release on it, once its policies hold.
pub async fn installed() -> &'static ControlPlane {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let control_plane = ControlPlane::shared().await;
    INSTALLED
        .get_or_init(async || {
            helm(
                control_plane,
                &["install", RELEASE, chart().to_str().unwrap(), "--set", LEAST[0]],
            )
            .await
            .unwrap();
            policies_hold(&control_plane.client().await.unwrap()).await;
        })
        .await;
    control_plane
}

/// Runs helm on the release's namespace. `Err` is what it says on standard error.
pub async fn helm(control_plane: &ControlPlane, arguments: &[&str]) -> Result<String, String> {
    let mut command = control_plane.helm().await.unwrap();
    command.args(arguments).args(["--namespace", NAMESPACE]);
    if arguments[0] == "install" {
        command.arg("--create-namespace");
    }
    run(&mut command).await
}

/// Waits until each of the four policies has been taken up: the API server needs a moment.
async fn policies_hold(admin: &Client) {
    let namespace = Namespace::create(admin, "probe").await.unwrap();
    let leases: Api<EnvironmentLease> = Api::namespaced(admin.clone(), namespace.name());
    eventually("leases are served", LIMIT, async || {
        leases.create(&PostParams::default(), &lease("probe")).await
    })
    .await;
    let control_plane = ControlPlane::shared().await;
    let writer = User::bound(control_plane, admin, namespace.name(), "edit").await;
    let operator = User::named(control_plane, OPERATOR).await;
    let environment = Environment::new("probe", serde_json::from_value(json!({ "driver": "Local" })).unwrap());
    let environments = operator.environments(namespace.name());
    let mine: Api<Environment> = Api::namespaced(admin.clone(), namespace.name());
    eventually("an environment that a lease holds is there", LIMIT, async || {
        let _there_already = mine.create(&PostParams::default(), &environment).await;
        let held = Patch::Merge(json!({ "status": { "activeLeases": 1 } }));
        environments.patch_status("probe", &PatchParams::default(), &held).await
    })
    .await;
    let try_out = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually("the policies hold", LIMIT, async || {
        let status = Patch::Merge(json!({ "status": { "message": "mine" } }));
        let spec = Patch::Merge(json!({ "spec": { "ttlSeconds": 1 } }));
        let labelled = NamespaceObject {
            metadata: ObjectMeta {
                name: Some("labelled".into()),
                labels: Some([("paperclip.ing/company-id".into(), "x".into())].into()),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        let delete = DeleteParams {
            dry_run: true,
            ..DeleteParams::default()
        };
        let deleted = writer.environments(namespace.name()).delete("probe", &delete).await;
        let admission = [
            refused(deleted.map(drop))?,
            refused(leases.patch_status("probe", &try_out, &status).await)?,
            refused(writer.leases(namespace.name()).patch("probe", &try_out, &spec).await)?,
            refused(
                namespacer(control_plane)
                    .await
                    .create(&PostParams::default(), &labelled)
                    .await,
            )?,
        ];
        Ok::<_, String>(admission)
    })
    .await;
}

/// Namespaces as a user who may make and change them, but gives none to a company.
async fn namespacer(control_plane: &ControlPlane) -> Api<NamespaceObject> {
    let admin = control_plane.client().await.unwrap();
    Api::all(User::with_rule(control_plane, &admin, &namespaces_rule()).await.client)
}

/// Everything on Namespaces, as a rule.
pub fn namespaces_rule() -> serde_json::Value {
    json!([{
        "apiGroups": [""],
        "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
        "verbs": ["get", "list", "create", "update", "patch"],
    }])
}

/// What a policy says in refusing; anything else is no refusal by a policy.
pub fn refused<T: std::fmt::Debug>(answer: kube::Result<T>) -> Result<String, String> {
    match answer {
        Err(kube::Error::Api(status)) if status.message.contains("ValidatingAdmissionPolicy") => Ok(status.message),
        other => Err(format!("no policy refuses: {other:?}")),
    }
}

/// A lease object with the least spec.
pub fn lease(name: &str) -> EnvironmentLease {
    EnvironmentLease::new(name, serde_json::from_value(json!({})).unwrap())
}

/// Somebody with rights of their own.
pub struct User {
    pub client: Client,
}

impl User {
    /// A user without any right of their own.
    pub async fn stranger(control_plane: &ControlPlane) -> Self {
        Self::named(control_plane, &format!("user-{}", uuid::Uuid::new_v4().simple())).await
    }

    /// A user of this name.
    pub async fn named(control_plane: &ControlPlane, name: &str) -> Self {
        let kubeconfig = control_plane.kubeconfig(name, &[]).unwrap();
        let client = harness::control_plane::kubeconfig::client(&kubeconfig).await.unwrap();
        Self { client }
    }

    /// A user who has a ClusterRole in a namespace; returns once the role lets them read leases there.
    pub async fn bound(control_plane: &ControlPlane, admin: &Client, namespace: &str, role: &str) -> Self {
        let name = format!("{role}-{}", uuid::Uuid::new_v4().simple());
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        });
        harness::objects::apply(admin, namespace, &binding.to_string())
            .await
            .unwrap();
        // Aggregated roles are put together by a controller.
        let verbs: &[&str] = match role {
            "edit" => &["get", "update"],
            "admin" => &["get", "update", "manage"],
            _ => &["get"],
        };
        for verb in verbs {
            may(admin, &name, verb, "environmentleases", Some(namespace)).await;
        }
        Self::named(control_plane, &name).await
    }

    /// A user with rules of their own in the whole cluster.
    pub async fn with_rule(control_plane: &ControlPlane, admin: &Client, rules: &serde_json::Value) -> Self {
        let name = format!("user-{}", uuid::Uuid::new_v4().simple());
        let metadata = json!({ "name": name });
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name }],
        });
        for object in [role, binding] {
            harness::objects::apply(admin, "default", &object.to_string())
                .await
                .unwrap();
        }
        may(admin, &name, "create", "namespaces", None).await;
        Self::named(control_plane, &name).await
    }

    /// Leases as this user sees them.
    pub fn leases(&self, namespace: &str) -> Api<EnvironmentLease> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Environments as this user sees them.
    pub fn environments(&self, namespace: &str) -> Api<Environment> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Waits until the API server's authorizer has taken a right up.
async fn may(admin: &Client, user: &str, verb: &str, resource: &str, namespace: Option<&str>) {
    let group = if resource == "namespaces" { "" } else { "paperclip.ing" };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                namespace: namespace.map(str::to_owned),
                resource: Some(resource.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(admin.clone());
    eventually(&format!("{user} may {verb} {resource}"), LIMIT, async || {
        let answer = reviews.create(&PostParams::default(), &review).await;
        let status = answer.map_err(|error| error.to_string())?.status.unwrap_or_default();
        if status.allowed {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
}
