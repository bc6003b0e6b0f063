//! What the tests share: a client with both kinds served, and attempts to store objects.

use std::process::Stdio;
use std::time::Duration;

use environment_operator::api;
use harness::control_plane::ControlPlane;
use harness::namespace::Namespace;
use harness::wait::eventually;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionSpec, JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

/// One of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Environment,
    Lease,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "Environment",
            Self::Lease => "EnvironmentLease",
        }
    }

    /// The kind's definition, as the crate generates it.
    pub fn definition(self) -> CustomResourceDefinition {
        api::crds()
            .into_iter()
            .find(|crd| crd.spec.names.kind == self.name())
            .unwrap()
    }
}

/// What is tried on the API server.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// Create an object with this spec.
    Create(Value),
    /// Create an object of this name with this spec.
    CreateNamed(&'static str, Value),
    /// Replace the first spec by the second.
    Change(Value, Value),
    /// Replace the first status by the second (null: none at all) of an object with the least spec.
    Report(Value, Value),
}

impl Attempt {
    /// Tries it on objects of a group that serves the kind. `Err` is the API server's message, without the part that names
    /// the object.
    pub async fn run(&self, client: &Client, group: &str, namespace: &str, kind: Kind) -> Result<Value, String> {
        let name = match self {
            Self::CreateNamed(name, _) => (*name).to_owned(),
            _ => format!("subject-{}", uuid::Uuid::new_v4().simple()),
        };
        let objects = Objects {
            api: dynamic(client, group, namespace, kind),
            group,
            kind,
            name: &name,
        };
        match self {
            Self::Create(spec) | Self::CreateNamed(_, spec) => objects.create(spec).await,
            Self::Change(before, after) => {
                let created = objects
                    .create(before)
                    .await
                    .expect("the spec before the change is admitted");
                let mut object = created;
                object["spec"] = after.clone();
                objects.replace(&object).await
            }
            Self::Report(before, after) => {
                let mut object = objects
                    .create(&least_spec(kind))
                    .await
                    .expect("the least spec is admitted");
                if !before.is_null() {
                    object["status"] = before.clone();
                    object = objects
                        .report(&object)
                        .await
                        .expect("the status before the change is admitted");
                }
                match after {
                    Value::Null => drop(object.as_object_mut().unwrap().remove("status")),
                    after => object["status"] = after.clone(),
                }
                objects.report(&object).await
            }
        }
    }
}

/// The smallest spec that is admitted.
pub fn least_spec(kind: Kind) -> Value {
    match kind {
        Kind::Environment => json!({ "driver": "Local" }),
        Kind::Lease => json!({}),
    }
}

/// One object, and where it is to be stored.
struct Objects<'a> {
    api: Api<DynamicObject>,
    group: &'a str,
    kind: Kind,
    name: &'a str,
}

impl Objects<'_> {
    async fn create(&self, spec: &Value) -> Result<Value, String> {
        let object = json!({
            "apiVersion": format!("{}/{}", self.group, api::VERSION),
            "kind": self.kind.name(),
            "metadata": { "name": self.name },
            "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.answer(self.api.create(&PostParams::default(), &object).await)
    }

    async fn replace(&self, object: &Value) -> Result<Value, String> {
        let object = serde_json::from_value(object.clone()).unwrap();
        self.answer(self.api.replace(self.name, &PostParams::default(), &object).await)
    }

    async fn report(&self, object: &Value) -> Result<Value, String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        self.answer(
            self.api
                .replace_status(self.name, &PostParams::default(), &object)
                .await,
        )
    }

    fn answer(&self, answer: kube::Result<DynamicObject>) -> Result<Value, String> {
        match answer {
            Ok(object) => Ok(serde_json::to_value(object).unwrap()),
            Err(kube::Error::Api(status)) => {
                let named = format!("{}.{} \"{}\" is invalid: ", self.kind.name(), self.group, self.name);
                Err(status
                    .message
                    .strip_prefix(&named)
                    .unwrap_or(&status.message)
                    .to_owned())
            }
            Err(error) => panic!("the API server did not answer: {error}"),
        }
    }
}

/// Objects of a kind as plain JSON.
pub fn dynamic(client: &Client, group: &str, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, api::VERSION, kind.name());
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind))
}

/// A namespace of a test's own on the shared control plane, with both kinds served.
pub struct Namespaced {
    pub client: Client,
    pub name: String,
}

impl Namespaced {
    pub async fn new(prefix: &str) -> Self {
        static SERVED: OnceCell<()> = OnceCell::const_new();
        let client = ControlPlane::shared().await.client().await.unwrap();
        SERVED.get_or_init(async || serve(&client, &api::crds()).await).await;
        let name = Namespace::create(&client, prefix).await.unwrap().name().to_owned();
        Self { client, name }
    }

    /// Runs kubectl in the namespace, with a text on its standard input.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = ControlPlane::shared().await.kubectl().await.unwrap();
        command.args(["--namespace", &self.name]).args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr))
        }
    }
}

/// Applies definitions and waits until the API server serves them.
pub async fn serve(client: &Client, definitions: &[CustomResourceDefinition]) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        let name = definition.metadata.name.as_deref().unwrap();
        let apply = PatchParams::apply("test").force();
        api.patch(name, &apply, &Patch::Apply(definition))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for definition in definitions {
        let CustomResourceDefinitionSpec { group, names, .. } = &definition.spec;
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(group, api::VERSION, &names.kind));
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        // That it is established does not say yet that it is served: the list itself is asked.
        let what = format!("{}.{group} is served", names.plural);
        eventually(&what, Duration::from_secs(60), async || {
            objects.list(&ListParams::default().limit(1)).await
        })
        .await;
    }
}

/// Calls `visit` with each list of rules of a schema and of all below it, and the path of their field.
pub fn visit_rules(schema: &mut JSONSchemaProps, path: &str, visit: &mut impl FnMut(&str, &mut Vec<ValidationRule>)) {
    if let Some(rules) = &mut schema.x_kubernetes_validations {
        visit(path, rules);
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        visit_rules(property, &format!("{path}.{name}"), visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        visit_rules(items, &format!("{path}[]"), visit);
    }
}

/// The schema of the one version.
pub fn schema(definition: &mut CustomResourceDefinition) -> &mut JSONSchemaProps {
    definition.spec.versions[0]
        .schema
        .as_mut()
        .unwrap()
        .open_api_v3_schema
        .as_mut()
        .unwrap()
}
