//! The queue, with time that is moved by hand.

use uuid::Uuid;

use super::*;

fn key(number: u128) -> Key {
    Key::Lease(Uuid::from_u128(number))
}

fn opened() -> Queue {
    let queue = Queue::default();
    queue.open();
    queue
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_takes_nothing_in_and_forgets_what_it_had() {
    let queue = Queue::default();
    queue.push(key(1));
    queue.open();
    queue.extend([key(2), key(3)]);
    assert_eq!(queue.next().await, key(2));
    queue.push_at(key(4), Instant::now() + Duration::from_secs(1), Cause::Look);
    queue.close();
    queue.failed(key(2));
    queue.push(key(5));
    queue.open();
    assert!(
        tokio::time::timeout(Duration::from_secs(600), queue.next())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_pushed_twice_is_taken_once() {
    let queue = opened();
    queue.extend([key(1), key(1), key(2)]);
    assert_eq!(
        (queue.next().await, queue.next().await, queue.standing(Instant::now())),
        (key(1), key(2), Standing::default())
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_runs_is_taken_again_only_when_it_is_done() {
    let queue = opened();
    queue.push(key(1));
    assert_eq!(queue.next().await, key(1));
    queue.push(key(1));
    assert!(
        tokio::time::timeout(Duration::from_secs(60), queue.next())
            .await
            .is_err()
    );
    queue.done(key(1));
    assert_eq!(queue.next().await, key(1));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_fails_comes_back_later_and_later() {
    let queue = opened();
    queue.push(key(1));
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let begun = Instant::now();
        queue.next().await;
        pauses.push(begun.elapsed());
        queue.failed(key(1));
    }
    assert!(
        pauses[1] < FIRST_PAUSE * 2 && pauses[11] >= LONGEST_PAUSE / 2,
        "{pauses:?}"
    );
    assert!(
        pauses
            .iter()
            .all(|pause| *pause <= LONGEST_PAUSE + Duration::from_millis(2)),
        "{pauses:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_earliest_time_of_a_key_counts() {
    let queue = opened();
    let begun = Instant::now();
    queue.push_at(key(1), begun + Duration::from_secs(50), Cause::Look);
    queue.push_at(key(1), begun + Duration::from_secs(5), Cause::Look);
    queue.push_at(key(1), begun + Duration::from_secs(20), Cause::Look);
    assert_eq!(queue.next().await, key(1));
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_deadlines_fire_in_order_and_each_within_a_second() {
    let queue = opened();
    let begun = Instant::now();
    let seconds = |number: u64| number.wrapping_mul(7_919) % 100_000;
    for number in 0..100_000 {
        queue.push_at(
            key(number.into()),
            begun + Duration::from_secs(seconds(number)),
            Cause::Look,
        );
    }
    let mut before = 0;
    for _ in 0..100_000 {
        let Key::Lease(id) = queue.next().await else {
            unreachable!()
        };
        let due = seconds(u64::try_from(id.as_u128()).unwrap());
        let now = begun.elapsed().as_secs();
        assert!(due >= before && now.abs_diff(due) <= 1, "due {due}, now {now}");
        before = due;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_tells_since_when_and_what_for_it_waits() {
    let (queue, begun) = (opened(), Instant::now());
    queue.push(Key::Environment(Uuid::from_u128(1)));
    queue.push_at(key(2), begun + Duration::from_secs(3), Cause::Heartbeat);
    tokio::time::advance(Duration::from_secs(2)).await;
    queue.push(key(3));
    tokio::time::advance(Duration::from_secs(5)).await;

    let standing = queue.standing(Instant::now());
    let waits = |seconds| Waiting {
        keys: 1,
        longest: Duration::from_secs(seconds),
    };
    assert_eq!((standing.environments, standing.leases), (waits(7), waits(5)));
    assert_eq!(standing.timers, [(Cause::Heartbeat, 1)].into());

    // The moment of a timer counts, however late its key is taken.
    for _ in 0..3 {
        queue.next().await;
    }
    let since = begun + Duration::from_secs(3);
    let timer = Some(Cause::Heartbeat);
    assert_eq!(queue.ready(key(2)), Some(Ready { since, timer }));
    assert_eq!(queue.ready(key(3)).unwrap().timer, None);
    assert_eq!(queue.standing(Instant::now()), Standing::default());
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_while_a_key_ran_counts_from_then() {
    let (queue, begun) = (opened(), Instant::now());
    queue.push(key(1));
    queue.next().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.push(key(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.push(key(1));
    queue.done(key(1));
    queue.next().await;
    assert_eq!(queue.ready(key(1)).unwrap().since, begun + Duration::from_secs(1));
}
