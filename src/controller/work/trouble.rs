//! Keys that do not get on for a reason of their own: another transaction holds a row that they need, or the database refuses
//! what is to be done. Each is tried again later and later, and says on its object what it waits for; no other key is held up.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::cache::Key;
use crate::controller::work::requeue::Requeue;
use crate::random;

/// Pause before a row that another transaction holds is tried again for the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tries after which it is worth a word on the object: most rows are held for a moment only.
const MOMENT: u32 = 4;

/// What is said of a row that another transaction holds.
pub(in crate::controller) const HELD: &str = "another transaction in the database holds a row that is needed (of the lease, its environment, \
                               company, run, agent, issue or execution workspace)";

/// Who does not get on, until it does.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<HashMap<Key, Trouble>>);

#[derive(Clone, Debug, Default)]
struct Trouble {
    busy: u32,
    said: Option<String>,
    logged: Option<String>,
}

impl Troubles {
    /// Another transaction holds a row that this key needs: when to try again.
    pub(in crate::controller) fn busy(&self, key: Key) -> Requeue {
        let mut troubles = self.lock();
        let busy = &mut troubles.entry(key).or_default().busy;
        let pause = random::backoff(FIRST_PAUSE, LONGEST_PAUSE, *busy);
        *busy = busy.saturating_add(1);
        Requeue::look(pause)
    }

    /// How often it has been busy since it last got on.
    pub(in crate::controller) fn tries(&self, key: Key) -> u32 {
        self.lock().get(&key).map_or(0, |trouble| trouble.busy)
    }

    /// Whether it has been busy for longer than a moment.
    pub(in crate::controller) fn is_lasting(&self, key: Key) -> bool {
        self.tries(key) > MOMENT
    }

    /// Whether this sentence about it is news.
    pub(in crate::controller) fn is_news(&self, key: Key, sentence: &str) -> bool {
        let mut troubles = self.lock();
        let said = &mut troubles.entry(key).or_default().said;
        let news = said.as_deref() != Some(sentence);
        *said = Some(sentence.to_owned());
        news
    }

    /// This sentence was written on its object.
    pub(in crate::controller) fn note_said(&self, key: Key, sentence: &str) {
        self.is_news(key, sentence);
    }

    /// Whether this sentence is the last that this replica has written on its object.
    pub(in crate::controller) fn has_said(&self, key: Key, sentence: &str) -> bool {
        self.lock()
            .get(&key)
            .is_some_and(|trouble| trouble.said.as_deref() == Some(sentence))
    }

    /// Whether this failure of it was not the last that the log tells.
    pub(in crate::controller) fn is_news_to_the_log(&self, key: Key, failure: &str) -> bool {
        let mut troubles = self.lock();
        let logged = &mut troubles.entry(key).or_default().logged;
        let news = logged.as_deref() != Some(failure);
        *logged = Some(failure.to_owned());
        news
    }

    /// A reconcile of it has come to its end: unless it was busy (again) in it, it gets on.
    pub(in crate::controller) fn settle(&self, key: Key, tries_before: u32) {
        let mut troubles = self.lock();
        if troubles.get(&key).is_some_and(|trouble| trouble.busy == tries_before) {
            troubles.remove(&key);
        }
    }

    /// This replica leads no more: who leads next finds out for itself.
    pub(in crate::controller) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Trouble>> {
        // Each method leaves it whole, whatever a thread that held it did afterwards.
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_key_whose_row_is_held_is_tried_later_and_later_until_it_gets_on() {
        let (troubles, key, other) = (
            Troubles::default(),
            Key::Lease(Uuid::from_u128(1)),
            Key::Lease(Uuid::from_u128(2)),
        );
        let mut full = FIRST_PAUSE;
        for tries in 0..12 {
            assert_eq!((troubles.tries(key), troubles.is_lasting(key)), (tries, tries > MOMENT));
            let pause = troubles.busy(key).pause;
            assert!(pause >= full / 2 && pause <= full, "{pause:?} after {tries} tries");
            full = (full * 2).min(LONGEST_PAUSE);
            troubles.settle(key, tries); // it was busy again
        }
        assert_eq!(full, LONGEST_PAUSE);
        assert!(
            troubles.busy(other).pause <= FIRST_PAUSE,
            "another one's tries do not count"
        );
        troubles.settle(key, 12);
        assert_eq!(troubles.tries(key), 0);
    }

    #[test]
    fn what_was_said_last_and_what_was_logged_last_are_known_apart() {
        let (troubles, key) = (Troubles::default(), Key::Environment(Uuid::from_u128(1)));
        assert!(!troubles.has_said(key, "no"));
        assert!(troubles.is_news_to_the_log(key, "no"));
        assert!(!troubles.is_news_to_the_log(key, "no"));
        assert!(!troubles.has_said(key, "no"));
        troubles.note_said(key, "no");
        assert!(troubles.has_said(key, "no") && !troubles.has_said(key, "never"));
        assert!(troubles.is_news_to_the_log(key, "never"));
    }

    #[test]
    fn what_the_database_answers_is_said_once_until_it_is_another_answer_or_the_key_has_got_on() {
        let (troubles, key) = (Troubles::default(), Key::Environment(Uuid::from_u128(1)));
        assert!(troubles.is_news(key, "no"));
        assert!(!troubles.is_news(key, "no"));
        assert!(troubles.is_news(key, "never"));
        troubles.settle(key, 0);
        assert!(troubles.is_news(key, "never"));
    }
}
