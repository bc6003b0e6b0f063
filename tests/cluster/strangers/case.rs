//! The ways in which a claim can name something.

use environment_operator::api::{LeasePhase, Reason};
use kube::ResourceExt;
use serde_json::json;
use uuid::Uuid;

use super::stranger::Stranger;
use crate::support::{Claim, TestEnvironment, lease};

/// A claim that names something of the other company, the same that names nothing that exists, and the answer to both.
pub struct Case {
    name: &'static str,
    /// Why both have to wait, or fail.
    pub reason: Reason,
    /// The claim that names the other company's, and the words that it names.
    pub theirs: (Claim, Vec<String>),
    /// The claim that names nobody's.
    pub nobodys: (Claim, Vec<String>),
}

impl Case {
    /// `claim` names `words` (ids or names): once the other company's, once some that nobody has.
    fn new<const N: usize>(
        name: &'static str,
        reason: Reason,
        theirs: [String; N],
        claim: impl Fn(Claim, &[String; N]) -> Claim,
    ) -> Self {
        let nobodys = theirs.each_ref().map(|word| match word.parse::<Uuid>() {
            Ok(_) => Uuid::new_v4().to_string(),
            Err(_) => word.replace("their", "no"),
        });
        let of = |whose: &str, words: &[String; N]| (claim(lease(&format!("{whose}-{name}")), words), words.to_vec());
        Self {
            name,
            reason,
            theirs: of("theirs", &theirs),
            nobodys: of("nobodys", &nobodys),
        }
    }

    /// All ways in which a claim can name something.
    pub fn all(stranger: &Stranger<'_>, our_run: Uuid) -> Vec<Self> {
        let [agent, run, finished, issue, workspace, job] = [
            stranger.agent,
            stranger.run,
            stranger.finished,
            stranger.issue,
            stranger.workspace,
            stranger.job,
        ]
        .map(|id| id.to_string());
        let run_row = |claim: Claim, id: &str| claim.set("run", json!({ "heartbeatRunId": id }));
        let by_uid = |claim: Claim, name: &str, uid: &str| {
            let object = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid });
            claim.set("run", json!({ "objectRef": object }))
        };
        let (box_, old_box, job_name) = ("their-box", "their-old-box", "their-job");
        vec![
            Self::new("run", Reason::RunNotFound, [run.clone()], |claim, [id]| {
                run_row(claim, id)
            }),
            Self::new("finished-run", Reason::RunNotFound, [finished], |claim, [id]| {
                run_row(claim, id)
            }),
            Self::new(
                "run-and-agent",
                Reason::ReferenceNotFound,
                [run.clone(), agent.clone()],
                |claim, [run, agent]| run_row(claim, run).set("agentId", agent.as_str()),
            ),
            Self::new("agent", Reason::ReferenceNotFound, [agent.clone()], |claim, [id]| {
                claim.set("agentId", id.as_str())
            }),
            Self::new(
                "agent-with-our-run",
                Reason::ReferenceNotFound,
                [agent.clone()],
                |claim, [id]| claim.heartbeat_run(our_run).set("agentId", id.as_str()),
            ),
            Self::new("issue", Reason::ReferenceNotFound, [issue.clone()], |claim, [id]| {
                claim.set("issueId", id.as_str())
            }),
            Self::new(
                "workspace",
                Reason::ReferenceNotFound,
                [workspace.clone()],
                |claim, [id]| claim.set("executionWorkspaceId", id.as_str()),
            ),
            Self::new(
                "environment",
                Reason::EnvironmentNotFound,
                [box_.into()],
                |claim, [name]| claim.environment(name),
            ),
            Self::new(
                "archived",
                Reason::EnvironmentNotFound,
                [old_box.into()],
                |claim, [name]| claim.environment(name),
            ),
            Self::new("job", Reason::RunNotFound, [job_name.into()], |claim, [name]| {
                claim.job(name)
            }),
            Self::new(
                "job-by-uid",
                Reason::RunGone,
                [job_name.into(), job],
                |claim, [name, uid]| by_uid(claim, name, uid),
            ),
            Self::new(
                "everything",
                Reason::ReferenceNotFound,
                [run, agent, issue, workspace, box_.into()],
                |claim, [run, agent, issue, workspace, environment]| {
                    run_row(claim, run)
                        .set("agentId", agent.as_str())
                        .set("issueId", issue.as_str())
                        .set("executionWorkspaceId", workspace.as_str())
                        .environment(environment)
                },
            ),
        ]
    }

    /// Makes both claims, waits until both have come to `phase`, and compares the answers.
    pub async fn is_answered_alike(&self, ours: &TestEnvironment<'_>, phase: LeasePhase, reason: Reason) {
        let mut answers = Vec::new();
        for (claim, _) in [&self.theirs, &self.nobodys] {
            ours.claim(claim.clone()).await;
        }
        for (claim, words) in [&self.theirs, &self.nobodys] {
            let lease = ours.lease_because(&claim.object().name_any(), phase, reason).await;
            answers.push(ours.answer(&lease, words).await);
        }
        assert_eq!(answers[0], answers[1], "{}", self.name);
    }
}
