//! Killed at random moments.

use std::time::Duration;

use environment_operator::api::{EnvironmentLease, LeasePhase};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use uuid::Uuid;

use super::kill_and_start_again;
use crate::support::{World, id_of, lease};

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
    world.lease_row_is(id_of(&last), "active").await;
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
                let status = ["succeeded", "failed", "cancelled", "timed_out", "interrupted"];
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
