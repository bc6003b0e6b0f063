//! Heartbeats: for how long each lease has been silent, of the time in which it could have been heard.
//!
//! A heartbeat that the operator could not hear is none that was missed. So silence is not measured on the clock, but on the
//! *heard time* of the watch that brings the leases: it does not run while the watch is broken, and what passed between its last sign
//! of life and its breaking does not count either. It is monotonic, and begins anew with every leadership.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::Cache;
use crate::api::LeasePhase;
use crate::cache::object::LeaseObject;

/// Pause before another look at a lease that can't be heard.
const DEAF_PAUSE: Duration = Duration::from_secs(2);

/// Pause before another look at a lease whose silence could not be proven.
const PROOF_PAUSE: Duration = Duration::from_millis(500);

/// When leases were last heard.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    /// By the Namespace that a watch is limited to (none: all).
    watches: HashMap<Option<String>, HeardTime>,
    beats: HashMap<Uuid, Beat>,
}

/// A clock that runs only while a watch can be heard.
#[derive(Debug)]
struct HeardTime {
    /// What has run for certain: up to the last sign of life.
    settled: Duration,
    last_sign: Instant,
    open: bool,
    /// What it read when this leadership began.
    leadership: Duration,
}

/// When a lease was last heard.
#[derive(Debug)]
struct Beat {
    /// The heard time from which its silence counts.
    since: Duration,
    /// When its annotation was last seen to change; none where only the expectation has begun.
    seen: Option<Instant>,
}

/// How long a lease has been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Heard time since its last heartbeat.
    lasted: Duration,
    /// `spec.heartbeatTimeoutSeconds`.
    timeout: Duration,
    /// Its watch can be heard.
    heard: bool,
    /// How long ago its annotation was last seen to change, by the monotonic clock.
    pub beaten: Option<Duration>,
}

impl Silence {
    /// Whether it has lasted for too long, as far as the watch tells.
    pub fn is_too_long(&self) -> bool {
        self.lasted >= self.timeout
    }

    /// When to look again at the latest.
    pub fn patience(&self) -> Duration {
        let left = self.timeout.saturating_sub(self.lasted);
        match self.heard {
            true if left.is_zero() => PROOF_PAUSE,
            true => left,
            false => left.max(DEAF_PAUSE),
        }
    }
}

impl HeardTime {
    fn read(&self, now: Instant) -> Duration {
        let unsettled = if self.open {
            now - self.last_sign
        } else {
            Duration::ZERO
        };
        self.settled + unsettled
    }

    fn hear(&mut self, now: Instant) {
        self.mark(now);
        (self.last_sign, self.open) = (now, true);
    }

    /// A reading from which something is to count: it never runs back behind it.
    fn mark(&mut self, now: Instant) -> Duration {
        self.settled = self.read(now);
        self.last_sign = now;
        self.settled
    }
}

/// How long a lease that is held may be silent; `None` where no heartbeat is expected of it.
fn timeout(lease: &LeaseObject) -> Option<Duration> {
    let phase = lease.status.as_ref().and_then(|status| status.phase);
    let seconds = lease.spec.heartbeat_timeout_seconds?;
    (phase == Some(LeasePhase::Active)).then(|| Duration::from_secs(seconds.unsigned_abs().into()))
}

impl Heartbeats {
    fn watch(&self, namespace: &str) -> Option<&HeardTime> {
        self.watches
            .get(&Some(namespace.to_owned()))
            .or(self.watches.get(&None))
    }

    fn watch_mut(&mut self, namespace: &str) -> Option<&mut HeardTime> {
        let own = Some(namespace.to_owned());
        let scope = if self.watches.contains_key(&own) { own } else { None };
        self.watches.get_mut(&scope)
    }

    /// Takes a newer state of a lease in. What is expected for the first time, and every change of the annotation, counts.
    pub(super) fn observe(&mut self, before: Option<&LeaseObject>, lease: &LeaseObject, now: Instant) {
        let uid = lease.meta.uid;
        if timeout(lease).is_none() {
            self.beats.remove(&uid);
            return;
        }
        let expected = before.filter(|before| timeout(before).is_some());
        let changed = expected.is_some_and(|before| before.meta.renew_time != lease.meta.renew_time);
        if changed || expected.is_none() {
            let since = self.watch_mut(&lease.meta.namespace).map(|watch| watch.mark(now));
            let seen = changed.then_some(now);
            self.beats.insert(
                uid,
                Beat {
                    since: since.unwrap_or_default(),
                    seen,
                },
            );
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.beats.len()
    }

    pub(super) fn forget(&mut self, uid: Uuid) {
        self.beats.remove(&uid);
    }

    fn silence(&self, lease: &LeaseObject, now: Instant) -> Option<Silence> {
        let (beat, watch) = (self.beats.get(&lease.meta.uid)?, self.watch(&lease.meta.namespace)?);
        Some(Silence {
            lasted: watch.read(now).saturating_sub(beat.since.max(watch.leadership)),
            timeout: timeout(lease)?,
            heard: watch.open,
            beaten: beat.seen.map(|seen| now - seen),
        })
    }
}

impl Cache {
    /// The watch of the leases of a Namespace (none: of all) has given a sign of life.
    pub fn hear_leases(&mut self, scope: Option<&str>, now: Instant) {
        let unheard = || HeardTime {
            settled: Duration::ZERO,
            last_sign: now,
            open: true,
            leadership: Duration::ZERO,
        };
        let watches = &mut self.heartbeats.watches;
        watches
            .entry(scope.map(str::to_owned))
            .or_insert_with(unheard)
            .hear(now);
    }

    /// The watch has broken off: until it is heard again, no lease can be.
    pub fn lose_leases(&mut self, scope: Option<&str>) {
        if let Some(watch) = self.heartbeats.watches.get_mut(&scope.map(str::to_owned)) {
            watch.open = false;
        }
    }

    /// The API server was too slow to prove a silence in this Namespace: what passed since the watch's last sign of life does
    /// not count.
    pub fn doubt_leases(&mut self, namespace: &str, now: Instant) {
        if let Some(watch) = self.heartbeats.watch_mut(namespace) {
            watch.last_sign = now;
        }
    }

    /// A leadership begins: no silence from before it counts.
    pub fn begin_leadership(&mut self, now: Instant) {
        for watch in self.heartbeats.watches.values_mut() {
            watch.leadership = watch.mark(now);
        }
    }

    /// How long this lease has been silent; `None` where no heartbeat is expected of it.
    pub fn silence(&self, uid: Uuid, now: Instant) -> Option<Silence> {
        self.heartbeats.silence(self.leases.get(uid)?, now)
    }

    /// The leases that have been silent for too long.
    pub fn silent_leases(&self, now: Instant) -> Vec<Uuid> {
        let leases = self.heartbeats.beats.keys();
        leases
            .copied()
            .filter(|uid| self.silence(*uid, now).is_some_and(|silence| silence.is_too_long()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cache::object::Watched;

    const UID: Uuid = Uuid::from_u128(1);
    const TIMEOUT: u64 = 10;

    /// A held lease of namespace `a` that has to beat every ten seconds.
    fn lease(version: u64, renew_time: Option<&str>) -> LeaseObject {
        object(version, renew_time, json!(TIMEOUT), "Active")
    }

    fn object(version: u64, renew_time: Option<&str>, timeout: Value, phase: &str) -> LeaseObject {
        let mut spec = json!({});
        if !timeout.is_null() {
            spec["heartbeatTimeoutSeconds"] = timeout;
        }
        let annotations = renew_time.map_or(
            json!({ "other": "x" }),
            |value| json!({ "paperclip.ing/renew-time": value }),
        );
        let object = json!({
            "metadata": {
                "namespace": "a", "name": "x", "uid": UID, "resourceVersion": version.to_string(),
                "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations,
            },
            "spec": spec, "status": { "phase": phase },
        });
        LeaseObject::decode("", "", object).unwrap()
    }

    /// A cache whose one watch is heard at `now`, and in it the lease.
    fn cache(now: Instant) -> Cache {
        let mut cache = Cache::default();
        cache.hear_leases(None, now);
        let _ = cache.apply_lease(lease(1, None));
        cache
    }

    fn too_long(cache: &Cache) -> bool {
        cache.silence(UID, Instant::now()).unwrap().is_too_long()
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_of_the_annotation_is_a_heartbeat_and_nothing_else_is() {
        let mut cache = cache(Instant::now());
        for (version, renew_time) in [(2, Some("1")), (3, Some("2")), (4, None), (5, Some("2"))] {
            pass(TIMEOUT - 1).await;
            let _ = cache.apply_lease(lease(version, renew_time));
            pass(1).await;
            assert!(!too_long(&cache), "heard one second ago: {renew_time:?}");
        }
        let _ = cache.apply_lease(lease(6, Some("2")));
        pass(TIMEOUT - 2).await;
        assert!(!too_long(&cache));
        pass(1).await;
        assert!(too_long(&cache), "the same value again is none");
        assert_eq!(cache.silent_leases(Instant::now()), [UID]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_concerns_no_key_and_any_other_change_does() {
        let mut cache = cache(Instant::now());
        assert_eq!(cache.apply_lease(lease(2, Some("1"))), []);
        assert_eq!(cache.leases.get(UID).unwrap().meta.resource_version.as_str(), "2");
        let key = [super::super::Key::Lease(UID)];
        assert_eq!(cache.apply_lease(object(3, Some("2"), json!(5), "Active")), key);
        assert_eq!(cache.apply_lease(object(4, Some("3"), json!(5), "Released")), key);
        assert_eq!(cache.silence(UID, Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_expected_before_the_grant_after_the_end_or_without_a_timeout() {
        let mut cache = Cache::default();
        cache.hear_leases(None, Instant::now());
        let _ = cache.apply_lease(object(1, None, json!(TIMEOUT), "Pending"));
        assert_eq!(cache.silence(UID, Instant::now()), None);
        pass(TIMEOUT).await;
        let _ = cache.apply_lease(lease(2, None));
        pass(1).await;
        assert!(!too_long(&cache), "it counts from the grant");
        for (version, timeout, phase) in [(3, json!(TIMEOUT), "Retained"), (4, Value::Null, "Active")] {
            let _ = cache.apply_lease(object(version, None, timeout, phase));
            assert_eq!(cache.silence(UID, Instant::now()), None, "{phase}");
        }
        pass(TIMEOUT).await;
        let _ = cache.apply_lease(lease(5, None));
        assert!(!too_long(&cache), "it counts from when it is expected");
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_timeout_counts_from_the_last_heartbeat() {
        let mut cache = cache(Instant::now());
        pass(6).await;
        let _ = cache.apply_lease(object(2, None, json!(20), "Active"));
        pass(6).await;
        assert!(!too_long(&cache));
        let _ = cache.apply_lease(object(3, None, json!(11), "Active"));
        assert!(too_long(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_watch_was_broken_does_not_count() {
        let mut cache = cache(Instant::now());
        pass(4).await;
        cache.hear_leases(None, Instant::now());
        pass(3).await; // it was silent before it broke: nobody knows since when
        cache.lose_leases(None);
        pass(3600).await;
        assert!(!too_long(&cache));
        assert!(cache.silence(UID, Instant::now()).unwrap().patience() >= DEAF_PAUSE);
        cache.hear_leases(None, Instant::now());
        pass(5).await;
        assert!(!too_long(&cache), "nine seconds were heard");
        assert_eq!(
            cache.silence(UID, Instant::now()).unwrap().patience(),
            Duration::from_secs(1)
        );
        pass(1).await;
        assert!(too_long(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leadership_begins_afresh_and_so_does_an_api_server_that_was_too_slow() {
        let mut cache = cache(Instant::now());
        pass(TIMEOUT).await;
        assert!(too_long(&cache));
        cache.begin_leadership(Instant::now());
        assert!(!too_long(&cache));
        pass(TIMEOUT).await;
        assert!(too_long(&cache));
        cache.doubt_leases("a", Instant::now());
        assert!(!too_long(&cache));
        pass(TIMEOUT).await;
        assert!(too_long(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn each_namespace_that_is_watched_alone_is_heard_by_its_own_feed() {
        let mut cache = Cache::default();
        for scope in [Some("a"), Some("b")] {
            cache.hear_leases(scope, Instant::now());
        }
        let _ = cache.apply_lease(lease(1, None));
        cache.lose_leases(Some("b"));
        pass(TIMEOUT).await;
        assert!(too_long(&cache));
        cache.lose_leases(Some("a"));
        assert!(!too_long(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_change_that_was_seen_tells_of_use() {
        let mut cache = cache(Instant::now());
        let beaten = |cache: &Cache| cache.silence(UID, Instant::now()).unwrap().beaten;
        assert_eq!(beaten(&cache), None);
        let _ = cache.apply_lease(lease(2, Some("1")));
        pass(3).await;
        assert_eq!(beaten(&cache), Some(Duration::from_secs(3)));
    }
}
