//! In which order claims are served ([`order`]), what those that wait say ([`sentences`]), and that no free lease is forgotten
//! ([`properties`]).

use super::*;

mod order;
mod properties;
mod sentences;

const BOX: Uuid = Uuid::from_u128(900);

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn named(name: &str) -> Wants {
    Wants::Named("team".to_owned(), name.to_owned())
}

/// What all claims want here.
fn wants() -> Wants {
    named("box")
}

/// A claim is seen, and nothing else holds it back.
fn stand(wait_queue: &mut WaitQueue, claim: Uuid, created_at: Timestamp, environment: Uuid) -> Vec<Uuid> {
    wait_queue.arrive(claim, created_at, wants());
    wait_queue.stand(claim, environment)
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Claims that have come one after the other, one a second, and stand in the wait queue of the box.
fn queue_of(count: u128) -> WaitQueue {
    let mut wait_queue = WaitQueue::default();
    for number in 0..count {
        wait_queue.next_moment();
        let created_at = second(i64::try_from(number).unwrap());
        wait_queue.arrive(id(number), created_at, wants());
        stand(&mut wait_queue, id(number), created_at, BOX);
    }
    wait_queue
}
