//! The queue between the feeds and the reconcilers: each key at most once, one run per key at a time, and the one timer
//! structure for deadlines, retries and everything else that has its time.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::backoff;
use super::index::Key;

/// Pause after the first failure of a key.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two tries of a key.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Keys that are to be reconciled. Many may push; one takes.
///
/// It is closed at first, and whenever this replica does not lead: what is pushed then is passed over, so that a follower's
/// queue does not grow. Whoever opens it pushes all keys after that, and nothing is lost.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    ready: VecDeque<Key>,
    /// What stands in `ready`.
    queued: HashSet<Key>,
    running: HashSet<Key>,
    /// Running keys that were pushed meanwhile.
    again: HashSet<Key>,
    timers: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

impl Queue {
    /// Lets keys in from here on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// Forgets everything that was asked for, and lets nothing in any more. What runs goes on.
    pub fn close(&self) {
        let mut state = self.lock();
        let running = std::mem::take(&mut state.running);
        *state = State {
            running,
            ..State::default()
        };
    }

    /// Whether keys are let in.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Asks for a key to be reconciled as soon as possible; while it runs, once more after that.
    pub fn push(&self, key: Key) {
        self.lock().push(key);
        self.changed.notify_one();
    }

    /// Asks for many keys.
    pub fn extend(&self, keys: impl IntoIterator<Item = Key>) {
        let mut state = self.lock();
        keys.into_iter().for_each(|key| state.push(key));
        drop(state);
        self.changed.notify_one();
    }

    /// Asks for a key to be reconciled at a moment; of several moments the earliest counts.
    pub fn push_at(&self, key: Key, at: Instant) {
        self.lock().push_at(key, at);
        self.changed.notify_one();
    }

    /// The next key, which counts as running until [`Self::done`] or [`Self::failed`]. Must be called by one task only.
    pub async fn next(&self) -> Key {
        loop {
            let next_timer = {
                let mut state = self.lock();
                state.fire(Instant::now());
                if let Some(key) = state.take() {
                    return key;
                }
                state.timers.first().map(|(at, _)| *at)
            };
            match next_timer {
                Some(at) => {
                    // Whichever comes first, the state is looked at again.
                    let _ = tokio::time::timeout_at(at, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// A run of this key has ended well.
    pub fn done(&self, key: Key) {
        let mut state = self.lock();
        state.failures.remove(&key);
        state.finish(key);
        drop(state);
        self.changed.notify_one();
    }

    /// A run of this key has failed: it is tried again after a pause that grows with each failure.
    pub fn failed(&self, key: Key) {
        let mut state = self.lock();
        let failures = state.failures.entry(key).or_default();
        let pause = backoff::pause(FIRST_PAUSE, LONGEST_PAUSE, *failures);
        *failures = failures.saturating_add(1);
        state.push_at(key, Instant::now() + pause);
        state.finish(key);
        drop(state);
        self.changed.notify_one();
    }

    /// How many environments and how many leases are ready and wait for a free hand.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        let environments = state
            .ready
            .iter()
            .filter(|key| matches!(key, Key::Environment(_)))
            .count();
        (environments, state.ready.len() - environments)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; were it to, the state would still be consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, key: Key) {
        if !self.open {
            return;
        }
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key) {
            self.ready.push_back(key);
        }
    }

    fn push_at(&mut self, key: Key, at: Instant) {
        if !self.open {
            return;
        }
        match self.due.get(&key) {
            Some(earlier) if *earlier <= at => return,
            Some(later) => {
                self.timers.remove(&(*later, key));
            }
            None => {}
        }
        self.due.insert(key, at);
        self.timers.insert((at, key));
    }

    /// Moves what is due to what is ready.
    fn fire(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            self.due.remove(&key);
            self.push(key);
        }
    }

    fn take(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        // The run that begins now sets its own time for the next.
        if let Some(at) = self.due.remove(&key) {
            self.timers.remove(&(at, key));
        }
        self.running.insert(key);
        Some(key)
    }

    fn finish(&mut self, key: Key) {
        self.running.remove(&key);
        if self.again.remove(&key) {
            self.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
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
        queue.push_at(key(4), Instant::now() + Duration::from_secs(1));
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
            (queue.next().await, queue.next().await, queue.depth()),
            (key(1), key(2), (0, 0))
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
        queue.push_at(key(1), begun + Duration::from_secs(50));
        queue.push_at(key(1), begun + Duration::from_secs(5));
        queue.push_at(key(1), begun + Duration::from_secs(20));
        assert_eq!(queue.next().await, key(1));
        assert_eq!(begun.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_thousand_deadlines_fire_in_order_and_each_within_a_second() {
        let queue = opened();
        let begun = Instant::now();
        let seconds = |number: u64| number.wrapping_mul(7_919) % 100_000;
        for number in 0..100_000 {
            queue.push_at(key(number.into()), begun + Duration::from_secs(seconds(number)));
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
}
