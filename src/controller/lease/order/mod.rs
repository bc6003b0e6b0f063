//! Environment, agent, run and lease in every order, with reconciles between them: a claim comes to one end.
//!
//! A small world: the cache is the real one, so are the facts and the decision; the database is three maps and answers a snapshot query
//! as the statement of `store::lease_object` does.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::COMPANY_LABEL;
use crate::cache::object::{EnvironmentObject, LeaseObject, NamespaceObject, RunObject, Watched};
use crate::cache::{Cache, KnownRun, LOCAL_NAME, RunKey};
use crate::lifecycle::lease::{Decision, Run, decide};
use crate::lifecycle::{EnvironmentState, RunStatus};
use crate::projection::choice::choice;
use crate::projection::company::Company;
use crate::projection::environment_plan::{Plan, plan};
use crate::projection::facts::Findings;
use crate::projection::observed::{Choice, ObservedLease};
use crate::store::Mode;
use crate::store::environment_object::EnvironmentSnapshot;
use crate::store::environments::EnvironmentRow;
use crate::store::lease_object::{EnvironmentChoice, LeaseSnapshot, RunLook};

mod story;

use story::{
    AGENT, ANOTHER_AGENT, COMPANY, ENVIRONMENT, End, JOB, LEASE, LOCAL, PARTS, Part, RUN, Story, permutations, stories,
};

/// What the operator does between one part and the next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The Environments are mirrored.
    Mirror,
    /// The claim is looked at.
    Look,
}

const STEPS: [&[Step]; 3] = [&[], &[Step::Look], &[Step::Look, Step::Mirror, Step::Look]];

fn metadata(name: &str, uid: Uuid) -> Value {
    json!({
        "namespace": "team", "name": name, "uid": uid, "resourceVersion": "10", "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn environment_object(name: &str, uid: Uuid, spec: Value) -> EnvironmentObject {
    EnvironmentObject::decode("", "", json!({ "metadata": metadata(name, uid), "spec": spec })).unwrap()
}

struct World<'s> {
    story: &'s Story,
    cache: Cache,
    environments: HashMap<Uuid, EnvironmentRow>,
    agents: HashMap<Uuid, Option<Uuid>>,
    runs: HashMap<Uuid, (Uuid, RunStatus)>,
    end: End,
}

impl<'s> World<'s> {
    fn new(story: &'s Story) -> Self {
        let mut world = Self {
            story,
            cache: Cache::default(),
            environments: HashMap::new(),
            agents: HashMap::from([(ANOTHER_AGENT, None)]),
            runs: HashMap::new(),
            end: End::Waits,
        };
        let _ = world.cache.apply_namespace(namespace());
        if let Some(state) = story.local {
            let local = environment_object(LOCAL_NAME, LOCAL, json!({ "driver": "Local" }));
            world.write_row(&local);
            world.environments.get_mut(&LOCAL).unwrap().status = state;
        }
        world
    }

    fn apply(&mut self, part: Part) {
        match part {
            Part::Environment => {
                let sandbox = json!({ "provider": "kubernetes" });
                let spec = json!({ "driver": "Sandbox", "sandbox": sandbox, "archived": self.story.archived });
                let _ = self
                    .cache
                    .apply_environment(environment_object("builder", ENVIRONMENT, spec));
                if self.story.default {
                    self.step(Step::Mirror); // the agent's foreign key waits for the row
                }
            }
            Part::Agent => drop(self.agents.insert(AGENT, self.story.default.then_some(ENVIRONMENT))),
            Part::Run => match self.story.run {
                Some(run) => drop(self.runs.insert(RUN, run)),
                None => {
                    let job = json!({ "metadata": metadata("build", JOB), "status": {} });
                    let job = RunObject::decode("batch", "Job", job).unwrap();
                    let _ = self.cache.apply_run(&job_key(), job);
                }
            },
            Part::Lease => {
                let lease = json!({ "metadata": metadata("claim", LEASE), "spec": self.story.claim });
                let _ = self.cache.apply_lease(LeaseObject::decode("", "", lease).unwrap());
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Mirror => {
                let objects: Vec<Arc<EnvironmentObject>> = self.cache.environments.iter().cloned().collect();
                for object in objects {
                    self.write_row(&object);
                }
            }
            Step::Look => self.look(),
        }
    }

    /// What the plan asks for. A Local's row that is there is adopted untouched.
    fn write_row(&mut self, environment: &EnvironmentObject) {
        let now = Timestamp::UNIX_EPOCH;
        let view = EnvironmentSnapshot {
            id: environment.meta.uid,
            now,
            leading: true,
            recorded_company: Some(COMPANY),
            company_exists: true,
            object: None,
            row: None,
            unreadable: None,
            active_leases: 0,
            canonical: None,
        };
        let Plan::Sync(sync) = plan(environment, &view, Some(&namespace()), Mode::Standalone) else {
            panic!("an object without a row is written");
        };
        self.environments.entry(sync.id).or_insert(EnvironmentRow {
            id: sync.id,
            company_id: sync.company_id,
            name: sync.name.unwrap_or_else(|| "Local".to_owned()),
            description: sync.description,
            driver: sync.driver,
            status: sync.status.unwrap_or(EnvironmentState::Active),
            config: sync.config,
            metadata: sync.metadata.map(Value::Object),
            created_at: now,
            updated_at: now,
        });
    }

    /// What the statement of a look says about a claim.
    fn view(&self, lease: &LeaseObject, chosen: Option<EnvironmentChoice>) -> LeaseSnapshot {
        let run = lease.spec.run.as_ref().and_then(|run| run.heartbeat_run_id);
        let run = run.map(|id| self.runs.get(&id));
        let agent = lease.spec.agent_id.or(run.flatten().map(|(agent, _)| *agent));
        let default = agent.and_then(|agent| *self.agents.get(&agent)?);
        let chosen = match chosen.unwrap_or(EnvironmentChoice::Default) {
            EnvironmentChoice::Object(id) => id,
            EnvironmentChoice::Local => LOCAL,
            EnvironmentChoice::Default => default.unwrap_or(LOCAL),
        };
        LeaseSnapshot {
            id: LEASE,
            now: Timestamp::UNIX_EPOCH,
            leading: true,
            recorded_company: Some(COMPANY),
            company_exists: true,
            row: None,
            object: None,
            run: match run {
                None => RunLook::None,
                Some(None) => RunLook::Missing,
                Some(Some((agent_id, status))) => RunLook::Found {
                    status: *status,
                    agent_id: *agent_id,
                    finished_at: None,
                },
            },
            environment: self.environments.get(&chosen).cloned(),
            environment_deleted: false,
            agent_missing: lease
                .spec
                .agent_id
                .is_some_and(|agent| !self.agents.contains_key(&agent)),
            issue_missing: false,
            execution_workspace_missing: false,
            capacity: None,
            local_object: None,
        }
    }

    fn run(&self, view: &LeaseSnapshot) -> Run {
        match view.run {
            RunLook::Found { status, .. } => status.outcome().map_or(Run::Live, Run::Over),
            RunLook::Missing => Run::NotFound,
            RunLook::Unknown => Run::Unknown,
            RunLook::None => match self.cache.run(&job_key(), None) {
                KnownRun::Present { end, .. } => end.map_or(Run::Live, |end| Run::Over(end.outcome)),
                KnownRun::Vanished(end) => end.map_or(Run::Gone, |end| Run::Over(end.outcome)),
                KnownRun::Unknown => Run::NotFound,
            },
        }
    }

    fn look(&mut self) {
        let Some(lease) = self.cache.leases.get(LEASE).cloned() else {
            return;
        };
        if self.end != End::Waits {
            return; // a grant and a refusal are for good: other tests hold that
        }
        let observed = ObservedLease {
            id: LEASE,
            object: Some(lease.clone()),
            deleted: false,
            term: 0,
        };
        let chosen = choice(&self.cache, &observed);
        let view = self.view(&lease, chosen);
        let company = Company::Known(COMPANY, None);
        let findings = Findings {
            lease: &observed,
            snapshot: &view,
            chosen: Choice {
                environment: chosen,
                was_gone: false,
            },
            namespace: Some(&namespace()),
            unread: None,
            company: Some(&company),
            run: self.run(&view),
            run_obstacle: None,
            run_object: None,
            heartbeat_missed: false,
        };
        let facts = findings.facts(&self.cache);
        match decide(&facts) {
            Decision::Grant => self.end = End::Granted(view.environment.unwrap().id),
            Decision::Refuse(reason, _) => self.end = End::Refused(reason),
            Decision::MakeLocal => {
                let local = environment_object(LOCAL_NAME, LOCAL, json!({ "driver": "Local" }));
                let _ = self.cache.apply_environment(local);
            }
            Decision::Wait(..) | Decision::Nothing => {}
            other => panic!("{}: a claim came to {other:?}", self.story.name),
        }
    }
}

fn job_key() -> RunKey {
    RunKey {
        group: "batch".to_owned(),
        kind: "Job".to_owned(),
        namespace: "team".to_owned(),
        name: "build".to_owned(),
    }
}

fn namespace() -> NamespaceObject {
    let mut metadata = metadata("team", Uuid::from_u128(9));
    metadata["labels"] = json!({ COMPANY_LABEL: COMPANY });
    NamespaceObject::decode("", "Namespace", json!({ "metadata": metadata })).unwrap()
}

/// Plays a story: after each part but the last the steps, at the end steps until nothing more comes of them.
fn play(story: &Story, order: &[Part], steps: &[usize]) -> End {
    let mut world = World::new(story);
    for (place, part) in order.iter().enumerate() {
        world.apply(*part);
        let between = steps.get(place).map_or(STEPS[0], |steps| STEPS[*steps]);
        between.iter().for_each(|step| world.step(*step));
    }
    for _ in 0..3 {
        world.step(Step::Look);
        world.step(Step::Mirror);
    }
    world.end
}

#[test]
fn whatever_order_the_parts_of_a_story_come_in_and_whenever_they_are_looked_at_a_claim_comes_to_one_end() {
    let mut plays = 0;
    for story in stories() {
        assert_eq!(play(&story, &PARTS, &[0; 3]), story.end, "{}", story.name);
        for order in permutations().into_iter().filter(|order| story.admits(order)) {
            // After the last part everything is done anyway.
            for number in 0..STEPS.len().pow(3) {
                let steps = [0, 1, 2].map(|place| number / STEPS.len().pow(place) % STEPS.len());
                let end = play(&story, &order, &steps);
                assert_eq!(end, story.end, "{}: {order:?} with {steps:?}", story.name);
                plays += 1;
            }
        }
    }
    assert_eq!(plays, 27 * (6 * 12 + 3 * 24 + 4), "all orders that the database admits");
}
