//! Environment, agent, run and lease, applied in every order that the database admits, many at once under one operator.

use std::collections::{BTreeMap, BTreeSet};

use environment_operator::api::{COMPANY_LABEL, EnvironmentLease, LeasePhase};
use futures::future::join_all;
use harness::wait::eventually;
use kube::ResourceExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Claim, LIMIT, TestEnvironment, id_of, lease};

/// What is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Environment,
    Agent,
    Run,
    Lease,
}

/// What a claim names, and what is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Story {
    /// An environment by name, a row as its run, and the run's agent.
    Named,
    /// The same with a run that is over.
    RunOver,
    /// A run of another agent than the one that it names.
    WrongAgent,
    /// A Job as its run.
    Job,
    /// No environment: the agent has a default.
    AgentsDefault,
    /// No environment, and an agent without default: the company's Local.
    Local,
    /// An environment that is archived.
    Archived,
}

const STORIES: [Story; 7] = [
    Story::Named,
    Story::RunOver,
    Story::WrongAgent,
    Story::Job,
    Story::AgentsDefault,
    Story::Local,
    Story::Archived,
];

impl Story {
    /// Whether the database admits the order: a run's row needs its agent's, an agent's default the environment's.
    fn admits(self, order: &[Part]) -> bool {
        let place = |part| order.iter().position(|one| *one == part);
        match self {
            Self::Named | Self::RunOver | Self::Local | Self::Archived => place(Part::Agent) < place(Part::Run),
            Self::AgentsDefault => place(Part::Environment) < place(Part::Agent),
            Self::WrongAgent | Self::Job => true,
        }
    }

    /// How it ends, whatever the order: the phase and the reason.
    fn end(self) -> (LeasePhase, &'static str) {
        match self {
            Self::Named | Self::Job | Self::AgentsDefault | Self::Local => (LeasePhase::Active, "Granted"),
            Self::RunOver => (LeasePhase::Failed, "RunAlreadyFinished"),
            Self::WrongAgent => (LeasePhase::Failed, "AgentMismatch"),
            Self::Archived => (LeasePhase::Failed, "EnvironmentArchived"),
        }
    }
}

/// One story in one order, with names and ids of its own.
struct Play<'w> {
    world: &'w TestEnvironment<'w>,
    company: Uuid,
    story: Story,
    order: Vec<Part>,
    /// The agent of runs that are not the named agent's.
    another: Uuid,
    name: String,
    agent: Uuid,
    run: Uuid,
}

impl Play<'_> {
    async fn apply(&self, part: Part) {
        match part {
            Part::Environment => self.apply_environment().await,
            Part::Agent => self.apply_agent().await,
            Part::Run => self.apply_run().await,
            Part::Lease => drop(self.world.claim(self.claim()).await),
        }
    }

    async fn apply_environment(&self) {
        let sandbox = json!({ "provider": "kubernetes" });
        let mut spec = json!({ "driver": "Sandbox", "sandbox": sandbox });
        if self.story == Story::Archived {
            spec["archived"] = json!(true);
        }
        self.world.environment(&self.name, spec).await;
    }

    async fn apply_agent(&self) {
        let default = if self.story == Story::AgentsDefault {
            // A foreign key: the default can't be set before its row is there.
            let environment = self.world.environments().get(&self.name).await.unwrap();
            let id = environment.uid().unwrap().parse().unwrap();
            eventually("the environment has its row", LIMIT, async || {
                self.world.environment_row(id).await.map(drop).ok_or("none")
            })
            .await;
            Some(id)
        } else {
            None
        };
        sqlx::query("INSERT INTO agents (id, company_id, name, default_environment_id) VALUES ($1, $2, 'Ada', $3)")
            .bind(self.agent)
            .bind(self.company)
            .bind(default)
            .execute(&self.world.pool)
            .await
            .unwrap();
    }

    async fn apply_run(&self) {
        let agent = match self.story {
            Story::Job | Story::AgentsDefault => {
                self.world.job(&self.name, json!({ "suspend": true })).await;
                return;
            }
            Story::WrongAgent => self.another,
            Story::Named | Story::RunOver | Story::Local | Story::Archived => self.agent,
        };
        let status = if self.story == Story::RunOver {
            "succeeded"
        } else {
            "running"
        };
        sqlx::query("INSERT INTO heartbeat_runs (id, company_id, agent_id, status) VALUES ($1, $2, $3, $4)")
            .bind(self.run)
            .bind(self.company)
            .bind(agent)
            .bind(status)
            .execute(&self.world.pool)
            .await
            .unwrap();
    }

    fn claim(&self) -> Claim {
        let claim = lease(&self.name).set("agentId", json!(self.agent));
        let claim = match self.story {
            Story::AgentsDefault | Story::Local => claim,
            _ => claim.environment(&self.name),
        };
        match self.story {
            Story::Job | Story::AgentsDefault => claim.job(&self.name),
            _ => claim.heartbeat_run(self.run),
        }
    }

    /// Applies everything, with a look at the API server between one part and the next in every second play.
    async fn perform(&self, number: usize) {
        for part in &self.order {
            self.apply(*part).await;
            for _ in 0..(number % 2) * 4 {
                self.world.leases().get_opt("nobody").await.unwrap();
            }
        }
    }

    /// What object and row say in the end, without what differs from play to play: names, ids, times, tokens.
    async fn end(&self) -> Value {
        let (phase, reason) = self.story.end();
        let ended = eventually(
            &format!("{:?} {:?} has settled", self.story, self.order),
            LIMIT,
            async || {
                let object = self
                    .world
                    .leases()
                    .get(&self.name)
                    .await
                    .map_err(|error| error.to_string())?;
                let status = object.status.clone().unwrap_or_default();
                let so = status.phase == Some(phase) && status.reason.map(|reason| reason.into_str()) == Some(reason);
                if so { Ok(object) } else { Err(json!(status).to_string()) }
            },
        )
        .await;
        self.without_names(&ended, self.world.lease_row(id_of(&ended)).await)
    }

    fn without_names(&self, object: &EnvironmentLease, row: Option<Value>) -> Value {
        let status = object.status.as_ref().unwrap();
        let environment = status.environment.as_ref();
        let said = status.message.clone().unwrap_or_default().replace(&self.name, "NAME");
        let said = said.replace(&self.run.to_string()[..8], "RUN");
        let said = said.replace(&self.agent.to_string(), "AGENT");
        json!({
            "phase": status.phase, "reason": status.reason, "message": said, "company": status.company_id,
            "conditions": status.conditions.iter().map(|one| json!([one.type_, one.status, one.reason])).collect::<Vec<_>>(),
            "environment": environment.map(|one| json!([one.name.replace(&self.name, "NAME"), one.driver])),
            "run": status.run.as_ref().map(|run| run.kind.clone()),
            "row": row.map(|row| {
                let run = row["heartbeat_run_id"] == json!(self.run);
                json!([row["status"], row["company_id"], row["provider"], row["lease_policy"], row["metadata"], run])
            }),
        })
    }
}

fn permutations() -> Vec<Vec<Part>> {
    let parts = [Part::Environment, Part::Agent, Part::Run, Part::Lease];
    let mut orders = vec![Vec::new()];
    for _ in 0..parts.len() {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<Part>| {
                let rest: Vec<Part> = parts.into_iter().filter(|part| !order.contains(part)).collect();
                rest.into_iter().map(move |part| [order.clone(), vec![part]].concat())
            })
            .collect();
    }
    orders
}

#[tokio::test]
async fn whatever_order_environment_agent_run_and_lease_come_in_they_settle_to_the_same_end() {
    let company = Uuid::new_v4();
    let world = TestEnvironment::with_labels("order-all", [(COMPANY_LABEL, &company.to_string())]).await;
    let _operator = world.start().await;
    let another = world.insert_agent(company).await;
    let mut plays = Vec::new();
    for story in STORIES {
        for order in permutations().into_iter().filter(|order| story.admits(order)) {
            let name = format!("play-{}", plays.len());
            let (agent, run) = (Uuid::new_v4(), Uuid::new_v4());
            plays.push(Play {
                world: &world,
                company,
                story,
                order,
                another,
                name,
                agent,
                run,
            });
        }
    }
    assert_eq!(plays.len(), 5 * 12 + 2 * 24);
    join_all(plays.iter().enumerate().map(|(number, play)| play.perform(number))).await;
    let mut ends: BTreeMap<Story, BTreeSet<String>> = BTreeMap::new();
    for play in &plays {
        ends.entry(play.story).or_default().insert(play.end().await.to_string());
    }
    for (story, ends) in ends {
        assert_eq!(ends.len(), 1, "{story:?}: {ends:#?}");
    }
    world.settles().await;
}
