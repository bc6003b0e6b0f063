//! The other company, with whatever a claim could name.

use environment_operator::api::EnvironmentPhase;
use harness::operator::Operator;
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{TestEnvironment, id_of, lease};

/// Stands in whatever is named by the other company.
pub const MARK: &str = "hush";

/// The other company: a namespace beside ours with one of each thing, a lease held among them.
pub struct Stranger<'p> {
    /// Its namespace.
    pub world: TestEnvironment<'p>,
    /// Its agent.
    pub agent: Uuid,
    /// A run that is running, and the lease's.
    pub run: Uuid,
    /// A run that has failed.
    pub finished: Uuid,
    /// An issue.
    pub issue: Uuid,
    /// An execution workspace.
    pub workspace: Uuid,
    /// The uid of its Job.
    pub job: Uuid,
    /// Its lease.
    pub lease: Uuid,
    /// Its Environments: one that is active, one that is archived.
    pub environments: Vec<Uuid>,
}

impl<'p> Stranger<'p> {
    async fn beside(ours: &TestEnvironment<'p>, world: TestEnvironment<'p>) -> Self {
        let company = world.company();
        let agent = world.insert_agent(company).await;
        sqlx::query("UPDATE agents SET name = 'hush Ada' WHERE id = $1")
            .bind(agent)
            .execute(&ours.pool)
            .await
            .unwrap();
        let context = json!({ "of": MARK });
        let run = world.insert_run_of(company, agent, "running", context.clone()).await;
        let finished = world.insert_run_of(company, agent, "failed", context).await;
        let mut environments = Vec::new();
        for (name, archived) in [("their-box", false), ("their-old-box", true)] {
            let ssh = json!({ "host": "hush.example", "username": MARK, "remoteWorkspacePath": "/hush" });
            let spec =
                json!({ "driver": "SSH", "ssh": ssh, "displayName": format!("hush {name}"), "archived": archived });
            let made = world.environment(name, spec).await;
            environments.push(made.uid().unwrap().parse().unwrap());
        }
        world.environment_in("their-box", EnvironmentPhase::Active).await;
        world.environment_in("their-old-box", EnvironmentPhase::Archived).await;
        let job = world.job("their-job", json!({ "suspend": true })).await;
        let claim = lease("hush-lease").environment("their-box").heartbeat_run(run);
        let lease = id_of(&world.granted(claim).await);
        Self {
            agent,
            run,
            finished,
            issue: ours.insert_issue(company).await,
            workspace: ours.insert_execution_workspace(company).await,
            job: job.uid().unwrap().parse().unwrap(),
            lease,
            environments,
            world,
        }
    }

    /// All its rows as they stand, who has last written or locked them among it.
    pub async fn rows(&self) -> Vec<Value> {
        let mut rows = Vec::new();
        for statement in [
            "SELECT to_jsonb(t) || jsonb_build_object('xmin', t.xmin::text, 'xmax', t.xmax::text)
             FROM heartbeat_runs AS t WHERE company_id = $1 ORDER BY id",
            "SELECT to_jsonb(t) || jsonb_build_object('xmin', t.xmin::text, 'xmax', t.xmax::text)
             FROM environments AS t WHERE company_id = $1 ORDER BY id",
            "SELECT to_jsonb(t) || jsonb_build_object('xmin', t.xmin::text, 'xmax', t.xmax::text)
             FROM agents AS t WHERE company_id = $1 ORDER BY id",
            "SELECT to_jsonb(t) || jsonb_build_object('xmin', t.xmin::text, 'xmax', t.xmax::text)
             FROM environment_leases AS t WHERE company_id = $1 ORDER BY id",
            "SELECT to_jsonb(t) FROM activity_log AS t WHERE company_id = $1 ORDER BY id",
        ] {
            let some: Vec<Value> = sqlx::query_scalar(statement)
                .bind(self.world.company())
                .fetch_all(&self.world.pool)
                .await
                .unwrap();
            rows.extend(some);
        }
        rows
    }

    /// Whatever would tell of it.
    pub fn secrets(&self) -> Vec<String> {
        let ids = [
            self.world.company(),
            self.agent,
            self.run,
            self.finished,
            self.issue,
            self.workspace,
            self.job,
            self.lease,
        ];
        let ids = ids.iter().chain(&self.environments).map(Uuid::to_string);
        ids.chain([MARK.to_owned(), self.world.namespace.name().to_owned()])
            .collect()
    }
}

/// Our world, the other one beside it, and one operator for both that logs at the level of info.
pub async fn both() -> (TestEnvironment<'static>, Stranger<'static>, Operator) {
    let ours = TestEnvironment::new("strangers").await;
    ours.make_origin_s_own_tables().await;
    let theirs = ours.beside(ours.control_plane(), MARK, []).await;
    let names = format!("{},{}", ours.namespace.name(), theirs.namespace.name());
    let operator = ours
        .operator()
        .env("ENVIRONMENT_OPERATOR_NAMESPACES", names)
        .env("ENVIRONMENT_OPERATOR_LOG", "info")
        .start()
        .unwrap();
    operator.wait_ready().await;
    let stranger = Stranger::beside(&ours, theirs).await;
    (ours, stranger, operator)
}
