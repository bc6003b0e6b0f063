//! Several causes at once: the one that stands first in the table of `docs/lifecycle.md` ends the lease, whichever was first
//! in time.

use environment_operator::api::{LeasePhase, Reason};
use harness::wait::eventually;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Claim, Expected, GRACE, LIMIT, TestEnvironment, id_of, lease};

/// What is visible of a lease when the operator comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Happens {
    RunFails,
    RunIsCancelled,
    RunIsDeleted,
    Release,
    LeaseIsDeleted,
    EnvironmentIsDeleted,
    TimePasses,
    OriginReleases,
    OriginDeletes,
}

/// Each pair with what has to come of it.
const PAIRS: [([Happens; 2], LeasePhase, Reason); 14] = {
    use Happens::*;
    use LeasePhase::*;
    [
        ([RunFails, Release], Failed, Reason::RunFailed),
        ([RunFails, LeaseIsDeleted], Failed, Reason::RunFailed),
        ([RunFails, EnvironmentIsDeleted], Failed, Reason::RunFailed),
        ([RunIsCancelled, TimePasses], Expired, Reason::RunCancelled),
        ([Release, EnvironmentIsDeleted], Released, Reason::ReleaseRequested),
        ([Release, RunIsDeleted], Released, Reason::ReleaseRequested),
        ([Release, TimePasses], Released, Reason::ReleaseRequested),
        ([LeaseIsDeleted, EnvironmentIsDeleted], Released, Reason::LeaseDeleted),
        ([LeaseIsDeleted, RunIsDeleted], Released, Reason::LeaseDeleted),
        ([EnvironmentIsDeleted, RunIsDeleted], Failed, Reason::EnvironmentDeleted),
        ([RunIsDeleted, TimePasses], Expired, Reason::RunGone),
        ([OriginReleases, RunFails], Released, Reason::RunFailed),
        ([OriginReleases, Release], Released, Reason::EndedInDatabase),
        ([OriginDeletes, RunFails], Expired, Reason::EndedInDatabase),
    ]
};

#[tokio::test]
async fn of_two_causes_that_came_while_no_operator_ran_the_higher_one_ends_the_lease() {
    let world = TestEnvironment::new("pairs").await;
    let mut operator = world.start().await;
    let mut held = Vec::new();
    for (number, (pair, ..)) in PAIRS.iter().enumerate() {
        let (name, run) = (format!("lease-{number}"), world.insert_run().await);
        let mut claim = lease(&name).heartbeat_run(run);
        if pair.contains(&Happens::EnvironmentIsDeleted) {
            world.ssh_environment(&name).await;
            claim = claim.environment(&name);
        }
        let id = id_of(&world.granted(claim).await);
        held.push((name, run, id));
    }
    operator.stop(GRACE).await.unwrap();
    for ((pair, ..), (name, run, id)) in PAIRS.iter().zip(&held) {
        // The lower one first in time.
        for event in pair.iter().rev() {
            happen(&world, *event, name, *run, *id).await;
        }
    }
    operator.start_again().unwrap();
    for ((pair, phase, reason), (name, _, id)) in PAIRS.iter().zip(&held) {
        if pair.contains(&Happens::LeaseIsDeleted) {
            world.lease_row_is(*id, &phase.into_str().to_lowercase()).await;
        } else {
            world.lease_because(name, *phase, *reason).await;
        }
        let record = world.record(*id).await.unwrap();
        assert_eq!(record["reason"], json!(reason), "{pair:?} {record}");
        if !pair.contains(&Happens::OriginDeletes) {
            world.lease_row_is(*id, &phase.into_str().to_lowercase()).await;
        }
    }
}

async fn happen(world: &TestEnvironment<'_>, event: Happens, name: &str, run: Uuid, id: Uuid) {
    match event {
        Happens::RunFails => world.set_run_status(&[run], "failed").await,
        Happens::RunIsCancelled => world.set_run_status(&[run], "cancelled").await,
        Happens::RunIsDeleted => world.delete_run(run).await,
        Happens::Release => world.release(name).await,
        Happens::LeaseIsDeleted => world.delete_lease(name).await,
        Happens::EnvironmentIsDeleted => world.delete_environment(name).await,
        Happens::TimePasses => world.let_a_day_pass(id).await,
        Happens::OriginReleases => world.set_lease_status(id, "released").await,
        Happens::OriginDeletes => world.delete_lease_row(id).await,
    }
}

#[tokio::test]
async fn a_run_that_its_origin_fails_and_releases_at_once_gives_its_reason_to_the_origin_s_status() {
    let world = TestEnvironment::new("pairs-origin").await;
    let _operator = world.start_with(&["--sweep-interval=1s"]).await;
    for (status, phase) in [("released", LeasePhase::Released), ("failed", LeasePhase::Failed)] {
        let run = world.insert_run().await;
        let id = id_of(&world.granted(lease(status).heartbeat_run(run)).await);
        let mut transaction = world.pool.begin().await.unwrap();
        for (statement, id) in [
            ("UPDATE heartbeat_runs SET status = 'failed' WHERE id = $1", run),
            ("UPDATE environment_leases SET released_at = now() WHERE id = $1", id),
        ] {
            sqlx::query(statement)
                .bind(id)
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        sqlx::query("UPDATE environment_leases SET status = $2 WHERE id = $1")
            .bind(id)
            .bind(status)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let as_written = world.lease_row(id).await;
        world.lease_because(status, phase, Reason::RunFailed).await;
        assert_eq!(world.lease_row(id).await, as_written, "the row is left as written");
    }
}

#[tokio::test]
async fn a_job_that_failed_and_a_lease_that_was_deleted_unseen_leave_a_failed_row() {
    let world = TestEnvironment::new("pairs-job").await;
    let mut operator = world.start().await;
    world.job("build", json!({})).await;
    let id = id_of(&world.granted(lease("of-build").job("build")).await);
    operator.stop(GRACE).await.unwrap();
    world.delete_lease("of-build").await;
    world.end_job("build", "Failed").await;
    world.job_finished("build").await;
    operator.start_again().unwrap();
    let expected = Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message: "job/build failed",
    };
    expected.of_row(&world, id).await;
}

#[tokio::test]
async fn in_a_terminating_namespace_every_lease_ends_as_deleted_even_where_something_else_is_gone_first() {
    let world = TestEnvironment::new("pairs-namespace").await;
    let _operator = world.start().await;
    world.ssh_environment("builder").await;
    world.job("build", json!({ "backoffLimit": 6 })).await;
    let claims: [Claim; 3] = [
        lease("of-nothing-else"),
        lease("of-a-job").job("build"),
        lease("on-builder").environment("builder"),
    ];
    for claim in claims {
        world.granted(claim).await;
    }
    // The leases stay, so that it is not their own deletion that ends them; everything else goes in any order.
    let ward = Ward::over_leases(&world).await;
    world.namespace.delete(&world.client).await.unwrap();
    for name in ["of-nothing-else", "of-a-job", "on-builder"] {
        let ended = world
            .lease_because(name, LeasePhase::Released, Reason::LeaseDeleted)
            .await;
        assert_eq!(ended.metadata.deletion_timestamp, None, "it is there");
        assert_eq!(
            ended.status.unwrap().message.as_deref(),
            Some("the namespace is being deleted")
        );
    }
    ward.lift(&world).await;
}

/// Refuses the deletion of leases in the world's namespace.
struct Ward {
    name: String,
}

impl Ward {
    async fn over_leases(world: &TestEnvironment<'_>) -> Self {
        let namespace = world.namespace.name();
        let name = format!("keep-leases-{namespace}");
        let rule = json!({
            "apiGroups": ["paperclip.ing"], "apiVersions": ["*"], "resources": ["environmentleases"],
            "operations": ["DELETE"],
        });
        let policy = json!({ "metadata": { "name": name }, "spec": {
            "matchConstraints": { "resourceRules": [rule] },
            "matchConditions": [{ "name": "here", "expression": format!("request.namespace == '{namespace}'") }],
            "validations": [{ "expression": "false", "message": "leases are kept here" }],
        } });
        let binding = json!({ "metadata": { "name": name }, "spec": {
            "policyName": name, "validationActions": ["Deny"],
        } });
        let (policies, bindings) = Self::apis(world);
        let parameters = PostParams::default();
        policies
            .create(&parameters, &serde_json::from_value(policy).unwrap())
            .await
            .unwrap();
        bindings
            .create(&parameters, &serde_json::from_value(binding).unwrap())
            .await
            .unwrap();
        let lease = world.leases().list(&Default::default()).await.unwrap().items.remove(0);
        eventually("leases can't be deleted", LIMIT, async || {
            let dry_run = DeleteParams::default().dry_run();
            match world.leases().delete(&lease.name_any(), &dry_run).await {
                Err(kube::Error::Api(status)) if status.message.contains("leases are kept here") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        Self { name }
    }

    async fn lift(self, world: &TestEnvironment<'_>) {
        let (policies, bindings) = Self::apis(world);
        bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
        policies.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }

    fn apis(world: &TestEnvironment<'_>) -> (Api<ValidatingAdmissionPolicy>, Api<ValidatingAdmissionPolicyBinding>) {
        (Api::all(world.client.clone()), Api::all(world.client.clone()))
    }
}

#[tokio::test]
async fn a_release_and_a_deletion_that_a_finalizer_holds_up_end_a_lease_as_released() {
    let world = TestEnvironment::new("pairs-held").await;
    let mut operator = world.start().await;
    world.granted(lease("both")).await;
    operator.stop(GRACE).await.unwrap();
    let finalizers = |list: serde_json::Value| Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    let (leases, parameters) = (world.leases(), PatchParams::default());
    let hold = finalizers(json!(["example.test/hold"]));
    leases.patch("both", &parameters, &hold).await.unwrap();
    leases.delete("both", &DeleteParams::default()).await.unwrap();
    world.release("both").await;
    operator.start_again().unwrap();
    let expected = Expected {
        phase: LeasePhase::Released,
        reason: Reason::ReleaseRequested,
        message: "spec.release was set",
    };
    expected.of(&world, "both").await;
    let let_go = finalizers(json!(null));
    leases.patch("both", &parameters, &let_go).await.unwrap();
}
