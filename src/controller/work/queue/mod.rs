//! The queue between the watches and the reconcilers: each key at most once, one run per key at a time, fair to companies
//! ([`Lane`]), and the one timer structure for deadlines, retries and everything else that has its time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use uuid::Uuid;

use crate::cache::{Key, Lane};
use crate::random;
use crate::runtime::metrics::{Cause, Waiting};

mod fair;

use fair::Fair;

/// How many keys of one company run at once at most: the permits beyond stay for the others.
pub const SHARE: usize = 256;

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
    fair: Fair,
    /// What stands in `fair`, and under which number.
    queued: HashMap<Key, (Ready, u64)>,
    running: HashMap<Key, Ready>,
    /// How many keys of each company run.
    permits: HashMap<Uuid, usize>,
    /// Running keys that were pushed meanwhile.
    again: HashMap<Key, Ready>,
    timers: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, (Instant, Cause, Lane)>,
    failures: HashMap<Key, u32>,
}

/// Since when, and why, a key is to be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The moment of the event; that of the key's timer, where one made it ready.
    pub since: Instant,
    /// What the timer was for.
    pub timer: Option<Cause>,
    /// Where it waits.
    pub lane: Lane,
}

impl Ready {
    fn now(lane: Lane) -> Self {
        Self {
            since: Instant::now(),
            timer: None,
            lane,
        }
    }
}

/// How the queue stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSize {
    /// Environments that are ready and wait for a free permit.
    pub environments: Waiting,
    /// Leases that do.
    pub leases: Waiting,
    /// Keys that have their moment, by what for.
    pub timers: HashMap<Cause, usize>,
}

impl Queue {
    /// Lets keys in from here on.
    pub fn open(&self) {
        self.lock().open = true;
    }

    /// Forgets everything that was asked for, and lets nothing in any more. What runs goes on.
    pub fn close(&self) {
        let mut state = self.lock();
        let (running, permits) = (std::mem::take(&mut state.running), std::mem::take(&mut state.permits));
        *state = State {
            running,
            permits,
            ..State::default()
        };
    }

    /// Whether keys are let in.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Asks for keys to be reconciled as soon as possible; those that run, once more after that.
    pub fn extend(&self, keys: impl IntoIterator<Item = (Key, Lane)>) {
        let mut state = self.lock();
        keys.into_iter()
            .for_each(|(key, lane)| state.push(key, Ready::now(lane)));
        drop(state);
        self.changed.notify_one();
    }

    /// Asks for a key to be reconciled at a moment; of several moments the earliest counts.
    pub fn push_at(&self, key: Key, at: Instant, cause: Cause, lane: Lane) {
        self.lock().push_at(key, at, cause, lane);
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
        let lane = state.running.get(&key).map(|ready| ready.lane);
        if let Some(lane) = lane.filter(|_| state.open) {
            let failures = state.failures.entry(key).or_default();
            let pause = random::backoff(FIRST_PAUSE, LONGEST_PAUSE, *failures);
            *failures = failures.saturating_add(1);
            state.push_at(key, Instant::now() + pause, Cause::Retry, lane);
        }
        state.finish(key);
        drop(state);
        self.changed.notify_one();
    }

    /// Since when, and why, a key that runs was to be reconciled.
    pub fn ready(&self, running: Key) -> Option<Ready> {
        self.lock().running.get(&running).copied()
    }

    /// How the queue stands at a moment.
    pub fn size(&self, now: Instant) -> QueueSize {
        let state = self.lock();
        let mut size = QueueSize::default();
        for (key, (ready, _)) in &state.queued {
            let waiting = match key {
                Key::Environment(_) => &mut size.environments,
                Key::Lease(_) => &mut size.leases,
            };
            waiting.keys += 1;
            waiting.longest = waiting.longest.max(now.saturating_duration_since(ready.since));
        }
        for (_, cause, _) in state.due.values() {
            *size.timers.entry(*cause).or_default() += 1;
        }
        size
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; were it to, the state would still be consistent.
        self.state.lock()
    }
}

impl State {
    fn push(&mut self, key: Key, ready: Ready) {
        if !self.open {
            return;
        }
        if self.running.contains_key(&key) {
            let again = self.again.entry(key).or_insert(ready);
            again.lane = again.lane.min(ready.lane);
            return;
        }
        match self.queued.entry(key) {
            Entry::Vacant(place) => {
                let number = self.fair.push(key, ready.lane);
                place.insert((ready, number));
            }
            // Something more urgent has come: it moves, and has waited since then.
            Entry::Occupied(mut place) if ready.lane.class < place.get().0.lane.class => {
                let (before, number) = *place.get();
                self.fair.remove(before.lane, number);
                let number = self.fair.push(key, ready.lane);
                let lane = ready.lane;
                place.insert((Ready { lane, ..before }, number));
            }
            Entry::Occupied(_) => {}
        }
    }

    fn push_at(&mut self, key: Key, at: Instant, cause: Cause, lane: Lane) {
        if !self.open {
            return;
        }
        match self.due.get(&key) {
            Some((earlier, ..)) if *earlier <= at => return,
            Some((later, ..)) => {
                self.timers.remove(&(*later, key));
            }
            None => {}
        }
        self.due.insert(key, (at, cause, lane));
        self.timers.insert((at, key));
    }

    /// Moves what is due to what is ready.
    fn fire(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, key));
            if let Some((_, cause, lane)) = self.due.remove(&key) {
                let timer = Some(cause);
                self.push(key, Ready { since: at, timer, lane });
            }
        }
    }

    fn take(&mut self) -> Option<Key> {
        let permits = &self.permits;
        let key = self
            .fair
            .take(|company| permits.get(&company).is_none_or(|permits| *permits < SHARE))?;
        let (ready, _) = self.queued.remove(&key)?;
        // The run that begins now sets its own time for the next.
        if let Some((at, ..)) = self.due.remove(&key) {
            self.timers.remove(&(at, key));
        }
        *self.permits.entry(ready.lane.company).or_default() += 1;
        self.running.insert(key, ready);
        Some(key)
    }

    fn finish(&mut self, key: Key) {
        if let Some(ready) = self.running.remove(&key)
            && let Entry::Occupied(mut permits) = self.permits.entry(ready.lane.company)
        {
            *permits.get_mut() -= 1;
            if *permits.get() == 0 {
                permits.remove();
            }
        }
        if let Some(ready) = self.again.remove(&key) {
            self.push(key, ready);
        }
    }

    /// How much is remembered, by what for.
    #[cfg(test)]
    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("queue: ready", self.fair.size() + self.queued.len()),
            (
                "queue: running",
                self.running.len() + self.permits.len() + self.again.len(),
            ),
            ("queue: timers", self.timers.len() + self.due.len()),
            ("queue: failures", self.failures.len()),
        ]
    }
}

#[cfg(test)]
impl Queue {
    /// How much is remembered, by what for.
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.lock().sizes()
    }
}

#[cfg(test)]
mod tests;
