//! A namespace, a database, and operators that look after just these.

use std::collections::HashSet;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use environment_operator::api::{self, Environment, EnvironmentLease, EnvironmentPhase, LeasePhase, Reason};
use environment_operator::store::Mode;
use harness::control_plane::ControlPlane;
use harness::control_plane::audit::{AuditEvent, Mark};
use harness::control_plane::kubeconfig;
use harness::namespace::Namespace;
use harness::objects;
use harness::operator::{Operator, Options};
use harness::postgres::{Database, Postgres};
use harness::wait::{eventually, until};
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::core::request::Request;
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::leaks::LeaksNothing;
use super::proxy::Proxy;
use super::{Claim, LIMIT, release};

/// The binary under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_environment-operator");

/// The tables as a Paperclip server makes them.
const ORIGIN: &str = include_str!("../../fixtures/origin.sql");

/// What one test has to itself. Operators are started from it, and killed when their values are dropped.
pub struct TestEnvironment<'p> {
    /// The administrator's client.
    pub client: Client,
    /// Where the objects are.
    pub namespace: Namespace,
    /// Empty until the first operator has started.
    pub database: Arc<Database>,
    /// A way into the database.
    pub pool: PgPool,
    control_plane: &'p ControlPlane,
    /// The Pod that the operators' token is bound to, so that their requests can be told from others'.
    pod: String,
    kubeconfig: PathBuf,
    mode: Mode,
    #[expect(dead_code, reason = "it is there for what it does at the end")]
    leaks: LeaksNothing,
}

impl TestEnvironment<'static> {
    /// A world on the shared parts; `prefix` begins its namespace's name.
    pub async fn new(prefix: &str) -> Self {
        Self::with_labels(prefix, []).await
    }

    /// A world on the shared parts whose namespace has labels.
    pub async fn with_labels<const N: usize>(prefix: &str, labels: [(&str, &str); N]) -> Self {
        Self::on(ControlPlane::shared().await, Postgres::shared().await, prefix, labels).await
    }

    /// A world on the shared parts whose database a Paperclip server has prepared: its tables are there, and in them the
    /// company of the namespace. Its operators run in mode attached.
    pub async fn attached(prefix: &str) -> Self {
        let world = Self {
            mode: Mode::Attached,
            ..Self::new(prefix).await
        };
        sqlx::raw_sql(ORIGIN).execute(&world.pool).await.unwrap();
        world.insert_company(world.company()).await;
        world
    }
}

impl<'p> TestEnvironment<'p> {
    /// A world on parts of the test's own, for tests that harm them.
    pub async fn on<const N: usize>(
        control_plane: &'p ControlPlane,
        postgres: &Postgres,
        prefix: &str,
        labels: [(&str, &str); N],
    ) -> Self {
        let database = Arc::new(postgres.database().await.unwrap());
        Self::around(control_plane, database, prefix, labels).await
    }

    /// Another world on the same database: a namespace of its own, on the same control plane or on another one. An operator
    /// that is to look after several of them is told so by [`scope`].
    pub async fn beside<'q, const N: usize>(
        &self,
        control_plane: &'q ControlPlane,
        prefix: &str,
        labels: [(&str, &str); N],
    ) -> TestEnvironment<'q> {
        let mode = self.mode;
        let world = TestEnvironment::around(control_plane, self.database.clone(), prefix, labels).await;
        TestEnvironment { mode, ..world }
    }

    /// The same world with another database: its operators to come have that one's URL.
    pub fn moved_to(self, database: Database) -> Self {
        let database = Arc::new(database);
        Self {
            pool: pool(&database),
            leaks: LeaksNothing(database.clone()),
            database,
            ..self
        }
    }

    async fn around<const N: usize>(
        control_plane: &'p ControlPlane,
        database: Arc<Database>,
        prefix: &str,
        labels: [(&str, &str); N],
    ) -> Self {
        let client = control_plane.client().await.unwrap();
        ensure_definitions(control_plane, &client).await;
        let namespace = Namespace::create_with_labels(&client, prefix, labels).await.unwrap();
        let pool = pool(&database);
        let pod = namespace.name().to_owned();
        let kubeconfig = control_plane
            .pod_kubeconfig(release::NAMESPACE, release::ACCOUNT, &pod)
            .await
            .unwrap();
        let world = Self {
            client,
            namespace,
            leaks: LeaksNothing(database.clone()),
            database,
            pool,
            control_plane,
            pod,
            kubeconfig,
            mode: Mode::Standalone,
        };
        world.give_rights().await;
        world
    }

    /// An operator to start, with this world's identity. The sweep rests for an hour and objects are not looked at again
    /// without cause, so that a test sees what it is about; arguments go over these settings.
    pub fn operator(&self) -> Options {
        self.operator_of(PROGRAM.as_ref())
    }

    /// The same with another program in the place of the binary.
    pub fn operator_of(&self, program: &Path) -> Options {
        let options = Operator::of(program)
            .kubeconfig(&self.kubeconfig)
            .database_url(self.database.url());
        let identity = self.identity().into_iter();
        identity
            .fold(options, |options, (name, value)| options.env(name, value))
            .env("ENVIRONMENT_OPERATOR_SWEEP_INTERVAL", "1h")
            .env("ENVIRONMENT_OPERATOR_RESYNC_INTERVAL", "1h")
            .env("ENVIRONMENT_OPERATOR_LOG", "info,environment_operator=debug")
    }

    /// A started operator that is ready.
    pub async fn start(&self) -> Operator {
        self.start_with(&[]).await
    }

    /// A started operator with more arguments, ready.
    pub async fn start_with(&self, arguments: &[&str]) -> Operator {
        let options = arguments
            .iter()
            .fold(self.operator(), |options, argument| options.arg(*argument));
        let operator = options.start().unwrap();
        operator.wait_ready().await;
        operator
    }

    /// Runs another subcommand of the same binary to its end, with this world's settings in its environment.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(PROGRAM);
        command
            .args(arguments)
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("DATABASE_URL", self.database.url())
            .envs(self.identity());
        command.kill_on_drop(true).output().await.unwrap()
    }

    /// The settings that all of this world's operators share.
    fn identity(&self) -> [(&'static str, &str); 3] {
        let mode = match self.mode {
            Mode::Standalone => "standalone",
            Mode::Attached => "attached",
        };
        [
            ("ENVIRONMENT_OPERATOR_MODE", mode),
            ("ENVIRONMENT_OPERATOR_CLUSTER_ID", self.namespace.name()),
            ("ENVIRONMENT_OPERATOR_NAMESPACES", self.namespace.name()),
        ]
    }

    /// What the operators' user is known by to the API server.
    pub fn token(&self) -> String {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        document["users"][0]["user"]["token"].as_str().unwrap().to_owned()
    }

    /// What its operators reach the API server with.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A way to the API server that can be spoiled, as the operators' own user.
    pub async fn proxy(&self) -> Proxy {
        self.proxy_with_pages(None).await
    }

    /// The same; lists get pages of so many objects.
    pub async fn proxy_with_pages(&self, page_size: Option<u32>) -> Proxy {
        Proxy::start(self.operators_client().await, page_size).await
    }

    /// A client that speaks as the operators of this world do.
    pub async fn operators_client(&self) -> Client {
        kubeconfig::client(&self.kubeconfig).await.unwrap()
    }

    /// The company of the world's namespace, where no label names another.
    pub fn company(&self) -> Uuid {
        self.namespace.uid().parse().unwrap()
    }

    /// The control plane that the world is on.
    pub fn control_plane(&self) -> &'p ControlPlane {
        self.control_plane
    }

    /// The leases of the namespace.
    pub fn leases(&self) -> Api<EnvironmentLease> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    /// The environments of the namespace.
    pub fn environments(&self) -> Api<Environment> {
        Api::namespaced(self.client.clone(), self.namespace.name())
    }

    /// Applies YAML, as a user would.
    pub async fn apply(&self, yaml: &str) {
        objects::apply(&self.client, self.namespace.name(), yaml).await.unwrap();
    }

    /// Makes a lease object.
    pub async fn claim(&self, claim: Claim) -> EnvironmentLease {
        self.create(claim.name(), claim.spec()).await
    }

    /// Makes a lease object and waits until it is Active.
    pub async fn granted(&self, claim: Claim) -> EnvironmentLease {
        let made = self.claim(claim).await;
        self.lease_in(&made.name_any(), LeasePhase::Active).await
    }

    /// Makes an Environment from its spec, as JSON.
    pub async fn environment(&self, name: &str, spec: Value) -> Environment {
        self.create(name, spec).await
    }

    /// Makes an object from its spec to the letter: of one that can't be stored the types hold nothing.
    async fn create<K>(&self, name: &str, spec: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": { "name": name }, "spec": spec,
        });
        let request = Request::new(K::url_path(&(), Some(self.namespace.name())));
        let request = request.create(&PostParams::default(), object.to_string().into_bytes());
        self.client.request(request.unwrap()).await.unwrap()
    }

    /// Makes an SSH Environment and waits until it is Active.
    pub async fn ssh_environment(&self, name: &str) -> Environment {
        let ssh = json!({ "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" });
        self.environment(name, json!({ "driver": "SSH", "ssh": ssh })).await;
        self.environment_in(name, EnvironmentPhase::Active).await
    }

    /// Sets `spec.archived`.
    pub async fn archive_environment(&self, name: &str, archived: bool) {
        let patch = Patch::Merge(json!({ "spec": { "archived": archived } }));
        let patched = self.environments().patch(name, &PatchParams::default(), &patch).await;
        patched.unwrap();
    }

    /// Waits until the lease has this phase.
    #[track_caller]
    pub fn lease_in(&self, name: &str, phase: LeasePhase) -> impl Future<Output = EnvironmentLease> {
        object_that(self.leases(), name, phase.into_str().to_owned(), move |lease| {
            let status = lease.status.clone().unwrap_or_default();
            if status.phase == Some(phase) {
                Ok(())
            } else {
                Err(json!(status))
            }
        })
    }

    /// Waits until the lease has this phase for this reason.
    #[track_caller]
    pub fn lease_because(
        &self,
        name: &str,
        phase: LeasePhase,
        reason: Reason,
    ) -> impl Future<Output = EnvironmentLease> {
        let what = format!("{} because of {}", phase.into_str(), reason.into_str());
        object_that(self.leases(), name, what, move |lease| {
            let status = lease.status.clone().unwrap_or_default();
            let so = status.phase == Some(phase) && status.reason == Some(reason);
            if so { Ok(()) } else { Err(json!(status)) }
        })
    }

    /// Waits until the environment has this phase.
    #[track_caller]
    pub fn environment_in(&self, name: &str, phase: EnvironmentPhase) -> impl Future<Output = Environment> {
        object_that(
            self.environments(),
            name,
            phase.into_str().to_owned(),
            move |environment| {
                let status = environment.status.clone().unwrap_or_default();
                if status.phase == Some(phase) {
                    Ok(())
                } else {
                    Err(json!(status))
                }
            },
        )
    }

    /// Deletes a lease object and waits until it is gone.
    pub async fn delete_lease(&self, name: &str) {
        delete(&self.leases(), name).await;
    }

    /// Deletes an Environment and waits until it is gone.
    pub async fn delete_environment(&self, name: &str) {
        delete(&self.environments(), name).await;
    }

    /// Deletes the world's namespace and waits until it is gone.
    pub async fn delete_namespace(&self) {
        self.namespace.delete(&self.client).await.unwrap();
        let namespaces: Api<NamespaceObject> = Api::all(self.client.clone());
        eventually("the namespace is gone", LIMIT, async || {
            match namespaces.get_opt(self.namespace.name()).await {
                Ok(None) => Ok(()),
                Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Sets `spec.release`.
    pub async fn release(&self, name: &str) {
        let patch = json!({ "spec": { "release": true } });
        self.leases()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// The Events about an object of this name, with a reason.
    pub async fn events(&self, name: &str, reason: Reason) -> Vec<Event> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace.name());
        let mut list = events.list(&ListParams::default()).await.unwrap().items;
        list.retain(|event| {
            let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            regarding == Some(name) && event.reason.as_deref() == Some(reason.into_str())
        });
        list
    }

    /// The Events of this reason about an object, once there is one: an Event follows the status that it tells of.
    pub async fn events_once_told(&self, name: &str, reason: Reason) -> Vec<Event> {
        eventually(&format!("an Event {reason} tells of {name}"), LIMIT, async || {
            let events = self.events(name, reason).await;
            if events.is_empty() {
                Err("none does")
            } else {
                Ok(events)
            }
        })
        .await
    }

    /// Waits until an Event of this reason about an object says this.
    pub async fn event_says(&self, name: &str, reason: Reason, message: &str) {
        eventually(&format!("an Event says of {name}: {message}"), LIMIT, async || {
            let events = self.events(name, reason).await;
            if events.iter().any(|event| event.note.as_deref() == Some(message)) {
                Ok(())
            } else {
                Err(format!("{events:?}"))
            }
        })
        .await;
    }

    /// A place in the audit log.
    pub fn mark(&self) -> Mark {
        self.control_plane.audit().mark().unwrap()
    }

    /// What the operators of this world have asked the API server for since then.
    pub fn requests_since(&self, mark: Mark) -> Vec<AuditEvent> {
        let mut events = self.control_plane.audit().since(mark).unwrap();
        events.retain(|event| event.pod() == Some(&self.pod));
        events
    }

    /// What the operators of this world have asked the API server to change since then.
    pub fn writes_since(&self, mark: Mark) -> Vec<AuditEvent> {
        self.control_plane
            .audit()
            .writes(mark, |event| event.pod() == Some(&self.pod))
            .unwrap()
    }
}

/// A way into a database.
fn pool(database: &Database) -> PgPool {
    let options = database.options().unwrap();
    PgPoolOptions::new().max_connections(4).connect_lazy_with(options)
}

/// The argument of an operator that looks after the namespaces of several worlds.
pub fn scope(worlds: &[TestEnvironment<'_>]) -> String {
    let names: Vec<&str> = worlds.iter().map(|world| world.namespace.name()).collect();
    format!("--namespaces={}", names.join(","))
}

/// Waits until the object is what `see` looks for; where it never is, the test fails in its own line.
#[track_caller]
fn object_that<K>(
    api: Api<K>,
    name: &str,
    what: String,
    see: impl Fn(&K) -> Result<(), Value>,
) -> impl Future<Output = K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let (caller, name) = (Location::caller(), name.to_owned());
    async move {
        let found = until(LIMIT, async || {
            let object = api.get(&name).await.map_err(|error| error.to_string())?;
            see(&object).map_err(|seen| seen.to_string())?;
            Ok::<_, String>(object)
        });
        found
            .await
            .unwrap_or_else(|seen| panic!("{caller}: {name} is not {what} within {LIMIT:?}; last seen: {seen}"))
    }
}

async fn delete<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.delete(name, &DeleteParams::default()).await.unwrap();
    eventually(&format!("{name} is gone"), LIMIT, async || {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

/// Installs both kinds and what the chart brings once per control plane.
async fn ensure_definitions(control_plane: &ControlPlane, client: &Client) {
    static INSTALLED: Mutex<Option<HashSet<u16>>> = Mutex::const_new(None);
    // Held while they are installed, so that no other test goes on before they are.
    let mut installed = INSTALLED.lock().await;
    if installed.get_or_insert_default().insert(control_plane.port()) {
        install_definitions(client).await;
        release::install(client).await;
    }
}

/// Installs both kinds and waits until they are served.
pub async fn install_definitions(client: &Client) {
    let applied = objects::apply(client, "default", &api::crds_yaml()).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in applied {
        let name = definition.name_any();
        eventually(&format!("{name} is established"), LIMIT, async || {
            let definition = definitions.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = definition
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let established = conditions
                .iter()
                .any(|one| one.type_ == "Established" && one.status == "True");
            if established {
                Ok(())
            } else {
                Err(format!("{conditions:?}"))
            }
        })
        .await;
    }
}
