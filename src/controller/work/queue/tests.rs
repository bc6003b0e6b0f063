//! The queue, with time that is moved by hand.

use uuid::Uuid;

use super::*;
use crate::cache::Class;

fn key(number: u128) -> Key {
    Key::Lease(Uuid::from_u128(number))
}

const LANE: Lane = lane(Class::Grant, 1);

const fn lane(class: Class, company: u128) -> Lane {
    Lane {
        class,
        company: Uuid::from_u128(company),
    }
}

fn opened() -> Queue {
    let queue = Queue::default();
    queue.open();
    queue
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_takes_nothing_in_and_forgets_what_it_had() {
    let queue = Queue::default();
    queue.extend([(key(1), LANE)]);
    queue.open();
    queue.extend([(key(2), LANE), (key(3), LANE)]);
    assert_eq!(queue.next().await, key(2));
    queue.push_at(key(4), Instant::now() + Duration::from_secs(1), Cause::Look, LANE);
    queue.close();
    queue.failed(key(2));
    queue.extend([(key(5), LANE)]);
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
    queue.extend([key(1), key(1), key(2)].map(|key| (key, LANE)));
    assert_eq!(
        (queue.next().await, queue.next().await, queue.size(Instant::now())),
        (key(1), key(2), QueueSize::default())
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_runs_is_taken_again_only_when_it_is_done() {
    let queue = opened();
    queue.extend([(key(1), LANE)]);
    assert_eq!(queue.next().await, key(1));
    queue.extend([(key(1), LANE)]);
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
    queue.extend([(key(1), LANE)]);
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
    queue.push_at(key(1), begun + Duration::from_secs(50), Cause::Look, LANE);
    queue.push_at(key(1), begun + Duration::from_secs(5), Cause::Look, LANE);
    queue.push_at(key(1), begun + Duration::from_secs(20), Cause::Look, LANE);
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
            LANE,
        );
    }
    let mut before = 0;
    for _ in 0..100_000 {
        let next = queue.next().await;
        queue.done(next);
        let Key::Lease(id) = next else { panic!("{next:?}") };
        let due = seconds(u64::try_from(id.as_u128()).unwrap());
        let now = begun.elapsed().as_secs();
        assert!(due >= before && now.abs_diff(due) <= 1, "due {due}, now {now}");
        before = due;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_tells_since_when_and_what_for_it_waits() {
    let (queue, begun) = (opened(), Instant::now());
    queue.extend([(Key::Environment(Uuid::from_u128(1)), LANE)]);
    queue.push_at(key(2), begun + Duration::from_secs(3), Cause::Heartbeat, LANE);
    tokio::time::advance(Duration::from_secs(2)).await;
    queue.extend([(key(3), LANE)]);
    tokio::time::advance(Duration::from_secs(5)).await;

    let size = queue.size(Instant::now());
    let waits = |seconds| Waiting {
        keys: 1,
        longest: Duration::from_secs(seconds),
    };
    assert_eq!((size.environments, size.leases), (waits(7), waits(5)));
    assert_eq!(size.timers, [(Cause::Heartbeat, 1)].into());

    // The moment of a timer counts, however late its key is taken.
    for _ in 0..3 {
        queue.next().await;
    }
    let since = begun + Duration::from_secs(3);
    let timer = Some(Cause::Heartbeat);
    assert_eq!(
        queue.ready(key(2)),
        Some(Ready {
            since,
            timer,
            lane: LANE
        })
    );
    assert_eq!(queue.ready(key(3)).unwrap().timer, None);
    assert_eq!(queue.size(Instant::now()), QueueSize::default());
}

#[tokio::test(start_paused = true)]
async fn what_was_pushed_while_a_key_ran_counts_from_then() {
    let (queue, begun) = (opened(), Instant::now());
    queue.extend([(key(1), LANE)]);
    queue.next().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.extend([(key(1), LANE)]);
    tokio::time::advance(Duration::from_secs(1)).await;
    queue.extend([(key(1), LANE)]);
    queue.done(key(1));
    queue.next().await;
    assert_eq!(queue.ready(key(1)).unwrap().since, begun + Duration::from_secs(1));
}

/// Pushes so many keys, whose numbers begin at `from`.
fn push_many(queue: &Queue, from: u128, count: u128, lane: Lane) {
    queue.extend((from..from + count).map(|number| (key(number), lane)));
}

/// How many keys are taken and done before this one.
async fn taken_before(queue: &Queue, wanted: Key) -> usize {
    for before in 0.. {
        let next = queue.next().await;
        queue.done(next);
        if next == wanted {
            return before;
        }
    }
    panic!("{wanted:?} was never taken")
}

#[tokio::test(start_paused = true)]
async fn a_company_with_fifty_thousand_due_keys_delays_another_s_grant_by_less_than_a_batch() {
    const BATCH: usize = 200;
    let quiet = opened();
    quiet.extend([(key(9), lane(Class::Grant, 2))]);
    assert_eq!(taken_before(&quiet, key(9)).await, 0);

    for class in [Class::Ending, Class::Grant, Class::Resync] {
        let queue = opened();
        push_many(&queue, 100, 50_000, lane(class, 1));
        queue.extend([(key(9), lane(Class::Grant, 2))]);
        let before = taken_before(&queue, key(9)).await;
        let expected = match class {
            Class::Ending => fair::STREAK,
            Class::Grant => 1,
            Class::Resync => 0,
        };
        assert_eq!(before, expected, "{class:?}");
        assert!(before < BATCH);
    }
}

#[tokio::test(start_paused = true)]
async fn with_all_classes_full_of_one_company_each_class_of_another_comes_within_its_round() {
    let queue = opened();
    for (class, from) in [
        (Class::Ending, 100_000),
        (Class::Grant, 200_000),
        (Class::Resync, 300_000),
    ] {
        push_many(&queue, from, 50_000, lane(class, 1));
    }
    queue.extend([
        (key(1), lane(Class::Ending, 2)),
        (key(2), lane(Class::Grant, 2)),
        (key(3), lane(Class::Resync, 2)),
    ]);
    let before = taken_before(&queue, key(1)).await;
    assert_eq!(before, 1);
    let before = taken_before(&queue, key(2)).await;
    assert_eq!(
        before + 2,
        fair::STREAK + 1,
        "after one streak of endings and one grant"
    );
    let before = taken_before(&queue, key(3)).await;
    assert!(before <= 4 * (fair::STREAK + fair::LENT), "no class starves: {before}");
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_while_nobody_more_urgent_waited_is_no_part_of_what_is_lent() {
    let queue = opened();
    push_many(&queue, 300_000, 1_000, lane(Class::Resync, 1));
    for _ in 1..fair::LENT {
        let next = queue.next().await;
        queue.done(next);
    }
    push_many(&queue, 100_000, 1_000, lane(Class::Ending, 1));
    let mut classes = Vec::new();
    for _ in 0..fair::STREAK + fair::LENT + 1 {
        let next = queue.next().await;
        classes.push(queue.ready(next).unwrap().lane.class);
        queue.done(next);
    }
    let (streak, rest) = classes.split_at(fair::STREAK);
    let (lent, next) = rest.split_at(fair::LENT);
    assert!(streak.iter().all(|class| *class == Class::Ending));
    assert!(lent.iter().all(|class| *class == Class::Resync), "{lent:?}");
    assert_eq!(next, [Class::Ending]);
}

#[tokio::test(start_paused = true)]
async fn one_company_never_has_all_hands() {
    let queue = opened();
    push_many(&queue, 100, 1_000, lane(Class::Grant, 1));
    for _ in 0..SHARE {
        queue.next().await;
    }
    let none = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
    assert!(none.is_err(), "its keys run, and the others wait");
    queue.extend([(key(9), lane(Class::Resync, 2))]);
    assert_eq!(queue.next().await, key(9));
    queue.done(key(100));
    assert_eq!(queue.next().await, key(100 + u128::try_from(SHARE).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_becomes_urgent_while_it_waits_moves_up_and_is_taken_once() {
    let queue = opened();
    push_many(&queue, 100, 10, lane(Class::Resync, 1));
    queue.extend([(key(105), lane(Class::Ending, 1))]);
    assert_eq!(queue.next().await, key(105));
    queue.done(key(105));
    for _ in 0..9 {
        let next = queue.next().await;
        assert_ne!(next, key(105));
        queue.done(next);
    }
    assert!(queue.sizes().iter().all(|(_, size)| *size == 0), "{:?}", queue.sizes());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_after_the_queue_was_closed_leaves_nothing_behind() {
    let queue = opened();
    push_many(&queue, 1, 1, LANE);
    queue.next().await;
    queue.close();
    queue.failed(key(1));
    assert!(queue.sizes().iter().all(|(_, size)| *size == 0), "{:?}", queue.sizes());
}
