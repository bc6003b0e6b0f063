//! What a claim names, what there is, and how that ends.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Reason;
use crate::cache::LOCAL_NAME;
use crate::lifecycle::{EnvironmentState, RunStatus};

pub const COMPANY: Uuid = Uuid::from_u128(1);
pub const ENVIRONMENT: Uuid = Uuid::from_u128(2);
pub const LOCAL: Uuid = Uuid::from_u128(3);
pub const AGENT: Uuid = Uuid::from_u128(4);
pub const ANOTHER_AGENT: Uuid = Uuid::from_u128(5);
pub const RUN: Uuid = Uuid::from_u128(6);
pub const LEASE: Uuid = Uuid::from_u128(7);
pub const JOB: Uuid = Uuid::from_u128(8);

/// What comes, in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Environment,
    Agent,
    Run,
    Lease,
}

pub const PARTS: [Part; 4] = [Part::Environment, Part::Agent, Part::Run, Part::Lease];

/// What becomes of the claim.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Granted(Uuid),
    Refused(Reason),
    Waits,
}

/// What the claim names and what there is.
#[derive(Clone)]
pub struct Story {
    pub name: &'static str,
    pub claim: Value,
    pub archived: bool,
    /// Agent and status of the run's row; none: the run is a Job.
    pub run: Option<(Uuid, RunStatus)>,
    /// The agent's default is the environment.
    pub default: bool,
    /// The row of the company's Local, which is there before anything comes; its object is in another Namespace.
    pub local: Option<EnvironmentState>,
    pub end: End,
}

pub fn stories() -> Vec<Story> {
    let job = json!({ "objectRef": { "apiVersion": "batch/v1", "kind": "Job", "name": "build" } });
    let (row, named) = (json!({ "heartbeatRunId": RUN }), json!({ "name": "builder" }));
    let plain = Story {
        name: "environment by name, run by row",
        claim: json!({ "environmentRef": named, "run": row }),
        archived: false,
        run: Some((AGENT, RunStatus::Running)),
        default: false,
        local: None,
        end: End::Granted(ENVIRONMENT),
    };
    let archived_local = Some(EnvironmentState::Archived);
    vec![
        plain.clone(),
        Story {
            name: "a run that is over",
            run: Some((AGENT, RunStatus::Succeeded)),
            end: End::Refused(Reason::RunAlreadyFinished),
            ..plain.clone()
        },
        Story {
            name: "a run of another agent",
            claim: json!({ "environmentRef": named, "run": row, "agentId": AGENT }),
            run: Some((ANOTHER_AGENT, RunStatus::Running)),
            end: End::Refused(Reason::AgentMismatch),
            ..plain.clone()
        },
        Story {
            name: "a Job",
            claim: json!({ "environmentRef": named, "run": job, "agentId": AGENT }),
            run: None,
            ..plain.clone()
        },
        Story {
            name: "the default of the agent that is named, beside an archived Local",
            claim: json!({ "run": job, "agentId": AGENT }),
            run: None,
            default: true,
            local: archived_local,
            ..plain.clone()
        },
        Story {
            name: "the default of the run's agent, beside an archived Local",
            claim: json!({ "run": row }),
            default: true,
            local: archived_local,
            ..plain.clone()
        },
        Story {
            name: "the Local, which is there",
            claim: json!({ "run": row }),
            local: Some(EnvironmentState::Active),
            end: End::Granted(LOCAL),
            ..plain.clone()
        },
        Story {
            name: "the Local, which is made",
            claim: json!({ "environmentRef": { "name": LOCAL_NAME }, "run": job }),
            run: None,
            end: End::Granted(LOCAL),
            ..plain.clone()
        },
        Story {
            name: "the Local, which is archived",
            claim: json!({ "run": row }),
            local: archived_local,
            end: End::Refused(Reason::EnvironmentArchived),
            ..plain.clone()
        },
        Story {
            name: "an archived environment",
            archived: true,
            end: End::Refused(Reason::EnvironmentArchived),
            ..plain
        },
    ]
}

impl Story {
    /// Whether the database admits the order: a run's row needs its agent's, an agent's default the environment's.
    pub fn admits(&self, order: &[Part]) -> bool {
        let place = |part| order.iter().position(|one| *one == part);
        let needs_agent = self.run.is_some_and(|(agent, _)| agent == AGENT);
        (!needs_agent || place(Part::Agent) < place(Part::Run))
            && (!self.default || place(Part::Environment) < place(Part::Agent))
    }
}

/// All orders of the parts.
pub fn permutations() -> Vec<Vec<Part>> {
    (0..PARTS.len()).fold(vec![Vec::new()], |orders, _| {
        let longer = |order: Vec<Part>| {
            let rest = PARTS.into_iter().filter(|part| !order.contains(part));
            rest.map(|part| [order.clone(), vec![part]].concat())
                .collect::<Vec<_>>()
        };
        orders.into_iter().flat_map(longer).collect()
    })
}
