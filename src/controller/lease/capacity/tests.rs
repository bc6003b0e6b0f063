//! Which holders the message of a waiting claim names, and how it changes while the queue before it gets shorter.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::controller::fake::{FakeReconcilers, claim, environment, namespace, reconciler, uid};

/// For so long nothing may be ready for a world to count as settled.
const REST: Duration = Duration::from_millis(400);

fn shows(mut lease: Value, phase: &str) -> Value {
    lease["status"] = json!({ "phase": phase, "leaseId": lease["metadata"]["uid"] });
    lease
}

#[test]
fn a_claim_that_waits_is_never_called_a_holder_whatever_its_name() {
    let world = reconciler();
    let waits = world.make_lease(claim("team", "waits", 10, "box"));
    world.make_lease(shows(claim("team", "held", 11, "box"), "Active"));
    world.make_lease(shows(claim("other", "held", 12, "box"), "Active"));
    world.make_lease(shows(claim("team", "granted", 13, "box"), "Pending"));
    world.make_lease(claim("team", "again", 14, "box"));
    let name_of = |id, of: Option<(&str, &str)>| {
        let holder = Holder {
            id: uid(id),
            namespace: of.map(|(namespace, _)| namespace.to_owned()),
            name: of.map(|(_, name)| name.to_owned()),
        };
        world.leases.name_of(&holder, &waits)
    };
    assert_eq!(name_of(11, Some(("team", "held"))), "held");
    assert_eq!(name_of(12, Some(("other", "held"))), "other/held");
    assert_eq!(name_of(13, Some(("team", "granted"))), BEING_GRANTED);
    assert_eq!(
        name_of(99, Some(("team", "again"))),
        DELETED,
        "another object has its name"
    );
    assert_eq!(name_of(99, None), "a lease of another writer");
}

/// What each claim of the queue has to say, by its place; `holder` is who holds the one lease.
fn expected(holder: u128, place: usize) -> String {
    capacity::full(1, 1, &[format!("claim-{holder}")], place)
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_moves_is_told_rightly_to_everybody_with_few_writes() {
    const CLAIMS: u128 = 40;
    let world: Arc<FakeReconcilers> = reconciler();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment("team", "box", 2));
    world.settle(REST).await;
    for number in 0..CLAIMS {
        let mut claim = claim("team", &format!("claim-{number}"), 100 + number, "box");
        claim["spec"]["acquireTimeoutSeconds"] = json!(86_400);
        world.make_lease(claim);
        world.settle(REST).await;
    }
    let before = world.cluster.patches();
    for holder in 0..CLAIMS - 1 {
        // Some seconds, in which whatever has been put off is done.
        for _ in 0..8 {
            tokio::time::advance(Duration::from_secs(1)).await;
            world.settle(REST).await;
        }
        for (place, number) in (1..).zip(holder + 1..CLAIMS) {
            let [phase, _, message] = world.shown("team", &format!("claim-{number}")).unwrap();
            assert_eq!(phase, "Pending");
            assert_eq!(message, expected(holder, place), "claim-{number} while {holder} holds");
        }
        world.delete_lease_object("team", &format!("claim-{holder}"));
        world.settle(REST).await;
    }
    let (written, moves) = (world.cluster.patches() - before, usize::try_from(CLAIMS).unwrap());
    // One for the grant and its environment's count, those at the front, and one for each power of two behind.
    assert!(
        written < moves * (2 + capacity::FRONT + 3),
        "{written} writes for {moves} moves"
    );
}
