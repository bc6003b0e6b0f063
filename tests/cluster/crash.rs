//! An operator that is killed (SIGKILL) at each place where a crash could tear something, and started again.

use std::time::Duration;

use environment_operator::api::{EnvironmentLease, LeasePhase, Reason};
use harness::operator::Operator;
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::proxy::{Fault, Proxy, creates, writes_status_of};
use crate::support::{Expected, LIMIT, World, lease};

const RUN_FAILED: &str = "failed";

/// A way to the API server that only this operator goes.
async fn proxy(world: &World<'_>) -> Proxy {
    Proxy::start(world.client.clone(), None).await
}

async fn start_through(proxy: &Proxy, world: &World<'_>) -> Operator {
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    operator
}

/// Kills the operator and starts it again, when what happens meanwhile has happened.
async fn kill_and_start_again(world: &World<'_>, operator: &mut Operator, meanwhile: impl AsyncFnOnce()) {
    operator.kill().unwrap();
    meanwhile().await;
    world.pass_term().await;
    operator.start_again().unwrap();
    operator.wait_ready().await;
}

fn id(lease: &EnvironmentLease) -> Uuid {
    lease.uid().unwrap().parse().unwrap()
}

async fn row_is(world: &World<'_>, id: Uuid, status: &str) {
    eventually(&format!("the row is {status}"), LIMIT, async || {
        match world.lease_row(id).await {
            Some(row) if row["status"] == status => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn phase(world: &World<'_>, name: &str) -> Option<LeasePhase> {
    world
        .leases()
        .get(name)
        .await
        .unwrap()
        .status
        .and_then(|status| status.phase)
}

#[tokio::test]
async fn a_kill_before_the_grants_transaction_leaves_nothing_behind() {
    let world = World::new("crash").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let mut obstruction = world.obstruct("environment_leases").await;
    let kept = world.claim(lease("kept").environment("box")).await;
    let withdrawn = world.claim(lease("withdrawn").environment("box")).await;
    obstruction.wait_for_operator().await;
    kill_and_start_again(&world, &mut operator, async || {
        obstruction.discard_operator().await;
        for lease in [&kept, &withdrawn] {
            assert_eq!(world.lease_row(id(lease)).await, None);
            assert_eq!(world.record(id(lease)).await, None);
        }
        world.delete_lease("withdrawn").await;
    })
    .await;
    world.lease_in("kept", LeasePhase::Active).await;
    world.settles().await;
    assert_eq!(world.lease_row(id(&withdrawn)).await, None, "it was never granted");
    assert_eq!(world.activity(id(&withdrawn)).await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_dead_leaders_transaction_that_goes_on_grants_nothing_twice() {
    let world = World::new("crash").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let mut obstruction = world.obstruct("environment_leases").await;
    for number in 0..3 {
        world.claim(lease(&format!("claim-{number}")).environment("box")).await;
    }
    obstruction.wait_for_operator().await;
    // Postgres does not know yet that nobody waits for the answer: the statement is carried out once it can be.
    kill_and_start_again(&world, &mut operator, async || obstruction.clear().await).await;
    for number in 0..3 {
        world.lease_in(&format!("claim-{number}"), LeasePhase::Active).await;
    }
    world.settles().await;
}

#[tokio::test]
async fn a_grant_that_was_committed_but_not_shown_is_shown_or_ended_after_the_kill() {
    let world = World::new("crash").await;
    let proxy = proxy(&world).await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let unshown = proxy.spoil(Fault::Withhold, writes_status_of("environmentleases"));
    let kept = world.claim(lease("kept").environment("box")).await;
    let deleted = world.claim(lease("deleted").environment("box")).await;
    let finished = world
        .claim(lease("finished").environment("box").heartbeat_run(run))
        .await;
    for lease in [&kept, &deleted, &finished] {
        row_is(&world, id(lease), "active").await;
    }
    unshown.wait_for_hits(3).await;
    kill_and_start_again(&world, &mut operator, async || {
        unshown.discard();
        for name in ["kept", "deleted", "finished"] {
            assert_ne!(phase(&world, name).await, Some(LeasePhase::Active), "nothing was shown");
        }
        world.delete_lease("deleted").await;
        world.set_run_status(&[run], RUN_FAILED).await;
    })
    .await;
    let token = world.record(id(&kept)).await.unwrap()["fencing_token"].clone();
    let status = world.lease_in("kept", LeasePhase::Active).await.status.unwrap();
    assert_eq!(json!(status.fencing_token), token, "it is the same grant");
    row_is(&world, id(&deleted), "released").await;
    assert_eq!(world.record(id(&deleted)).await.unwrap()["reason"], "LeaseDeleted");
    world
        .lease_because("finished", LeasePhase::Failed, Reason::RunFailed)
        .await;
    world.settles().await;
}

#[tokio::test]
async fn a_grant_that_was_shown_is_not_shown_again_after_the_kill() {
    let world = World::new("crash").await;
    let proxy = proxy(&world).await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    let unheard = proxy.spoil(Fault::KeepAnswer, writes_status_of("environmentleases"));
    world.claim(lease("shown").environment("box")).await;
    unheard.wait_for_hits(1).await;
    let shown = world.lease_in("shown", LeasePhase::Active).await;
    let mark = world.mark();
    kill_and_start_again(&world, &mut operator, async || unheard.lift()).await;
    // A later lease's grant: by then the first has been looked at.
    world.granted(lease("later").environment("box")).await;
    world.settles().await;
    let again = world.leases().get("shown").await.unwrap();
    assert_eq!(again.resource_version(), shown.resource_version());
    let written = world.control_plane().audit().writes(mark, |event| {
        let object = event.object_ref.clone().unwrap_or_default();
        object.namespace == world.namespace.name() && object.name == "shown"
    });
    assert_eq!(written.unwrap().len(), 0);
}

#[tokio::test]
async fn a_kill_between_the_object_local_and_its_row_makes_neither_twice() {
    let world = World::new("crash").await;
    let proxy = proxy(&world).await;
    let mut operator = start_through(&proxy, &world).await;
    // The object is made, the operator has not heard so.
    let unheard = proxy.spoil(Fault::KeepAnswer, creates("environments"));
    world.claim(lease("first")).await;
    unheard.wait_for_hits(1).await;
    let made = world.environments().get("local").await.unwrap();
    // The next one knows of the object and waits for the row.
    let mut obstruction = world.obstruct("environments").await;
    kill_and_start_again(&world, &mut operator, async || unheard.lift()).await;
    obstruction.wait_for_operator().await;
    // The one after it has written the row, and not shown it.
    let unshown = proxy.spoil(Fault::Withhold, writes_status_of("environments"));
    kill_and_start_again(&world, &mut operator, async || obstruction.discard_operator().await).await;
    unshown.wait_for_hits(1).await;
    kill_and_start_again(&world, &mut operator, async || unshown.discard()).await;
    world.lease_in("first", LeasePhase::Active).await;
    world.settles().await;
    let objects = world.environments().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(objects.len(), 1, "one object: {objects:#?}");
    assert_eq!(objects[0].uid(), made.uid(), "the first one");
    assert_eq!(world.environment_rows(world.company()).await.len(), 1);
}

#[tokio::test]
async fn a_kill_before_an_endings_transaction_ends_the_lease_once_for_its_reason() {
    let world = World::new("crash").await;
    let mut operator = world.start().await;
    world.ssh_environment("box").await;
    let run = world.insert_run().await;
    let finished = world
        .granted(lease("finished").environment("box").heartbeat_run(run))
        .await;
    let deleted = world.granted(lease("deleted").environment("box")).await;
    let mut obstruction = world.obstruct("environment_leases").await;
    world.set_run_status(&[run], RUN_FAILED).await;
    world.delete_lease("deleted").await;
    obstruction.wait_for_operator().await;
    kill_and_start_again(&world, &mut operator, async || {
        obstruction.discard_operator().await;
        for lease in [&finished, &deleted] {
            assert_eq!(world.lease_row(id(lease)).await.unwrap()["status"], "active");
        }
    })
    .await;
    let failed = Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message: &format!("run/{} failed", &run.to_string()[..8]),
    };
    failed.of(&world, "finished").await;
    row_is(&world, id(&deleted), "released").await;
    assert_eq!(world.record(id(&deleted)).await.unwrap()["reason"], "LeaseDeleted");
    world.settles().await;
}

#[tokio::test]
async fn an_ending_that_was_committed_but_not_shown_keeps_its_reason_after_the_kill() {
    let world = World::new("crash").await;
    let proxy = proxy(&world).await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    let runs = [world.insert_run().await, world.insert_run().await];
    for (name, run) in ["released-later", "changed-later"].into_iter().zip(runs) {
        world.granted(lease(name).environment("box").heartbeat_run(run)).await;
    }
    let unshown = proxy.spoil(Fault::Withhold, writes_status_of("environmentleases"));
    world.set_run_status(&runs, RUN_FAILED).await;
    unshown.wait_for_hits(2).await;
    kill_and_start_again(&world, &mut operator, async || {
        unshown.discard();
        for name in ["released-later", "changed-later"] {
            assert_eq!(phase(&world, name).await, Some(LeasePhase::Active), "nothing was shown");
        }
        // Causes that would have gone before, or had another status, had they come first.
        world.release("released-later").await;
        world.set_run_status(&runs[1..], "succeeded").await;
    })
    .await;
    for name in ["released-later", "changed-later"] {
        world.lease_because(name, LeasePhase::Failed, Reason::RunFailed).await;
    }
    world.settles().await;
}

#[tokio::test]
async fn an_ending_that_was_shown_is_not_told_again_after_the_kill() {
    let world = World::new("crash").await;
    let proxy = proxy(&world).await;
    let mut operator = start_through(&proxy, &world).await;
    world.ssh_environment("box").await;
    world.granted(lease("ended").environment("box")).await;
    let unheard = proxy.spoil(Fault::KeepAnswer, writes_status_of("environmentleases"));
    world.release("ended").await;
    unheard.wait_for_hits(1).await;
    let ended = world
        .lease_because("ended", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    let row = world.lease_row(id(&ended)).await;
    kill_and_start_again(&world, &mut operator, async || unheard.lift()).await;
    world.granted(lease("later").environment("box")).await;
    world.settles().await;
    assert_eq!(
        world.leases().get("ended").await.unwrap().resource_version(),
        ended.resource_version()
    );
    assert_eq!(world.lease_row(id(&ended)).await, row);
}

/// How often the operator is killed at random.
const KILLS: u32 = 8;

#[tokio::test]
async fn kills_at_random_moments_lose_and_double_nothing() {
    // To run the same again: TEST_SEED=<the seed that was printed>.
    let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = Random(seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0));
    println!("TEST_SEED={}", random.0);
    let world = World::new("crash").await;
    let mut operator = world.start().await;
    for kill in 0..KILLS {
        disturb(&world, &mut random, kill).await;
        // Not a wait for anything: the moment itself is what is drawn.
        tokio::time::sleep(Duration::from_millis(random.below(400))).await;
        kill_and_start_again(&world, &mut operator, async || {
            disturb(&world, &mut random, KILLS + kill).await
        })
        .await;
    }
    let last = world.claim(lease("last")).await;
    row_is(&world, id(&last), "active").await;
    world.settles().await;
    let open = |lease: &EnvironmentLease| {
        lease
            .status
            .as_ref()
            .is_none_or(|status| status.phase == Some(LeasePhase::Pending))
    };
    let left: Vec<_> = world.leases().list(&ListParams::default()).await.unwrap().items;
    let left: Vec<_> = left
        .iter()
        .filter(|lease| open(lease))
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(left, Vec::<String>::new(), "every claim was granted or refused");
}

/// Makes six leases (half of them with runs), and ends about half of all that are there, each in some way.
async fn disturb(world: &World<'_>, random: &mut Random, round: u32) {
    for number in 0..6 {
        let claim = lease(&format!("lease-{round}-{number}"));
        let claim = if number % 2 == 0 {
            claim.heartbeat_run(world.insert_run().await)
        } else {
            claim
        };
        world.claim(claim).await;
    }
    for lease in world.leases().list(&ListParams::default()).await.unwrap().items {
        let run = lease.spec.run.as_ref().and_then(|run| run.heartbeat_run_id);
        match (random.below(6), run) {
            (0, _) => world.release(&lease.name_any()).await,
            (1, _) => drop(
                world
                    .leases()
                    .delete(&lease.name_any(), &DeleteParams::default())
                    .await
                    .unwrap(),
            ),
            (2, Some(run)) => {
                let status = ["succeeded", RUN_FAILED, "cancelled", "timed_out", "interrupted"];
                let status = status[usize::try_from(random.below(5)).unwrap()];
                world.set_run_status(&[run], status).await;
            }
            _ => {}
        }
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}
