//! Events: what happened to an object, for `kubectl describe` and `kubectl get events`.
//!
//! A small emitter of our own, because kube's Recorder has no budget. Here each Namespace has a token bucket, so that a storm in
//! one does not flood the API server; what does not fit is counted. A warning may take the last tokens, a normal Event may not.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::ClusterError;
use crate::api::{GROUP, VERSION, cut};
use crate::cache::object::Meta;
use crate::clock;
use crate::controller::outside::permissions::Permissions;
use crate::runtime::NAME;
use crate::runtime::metrics::Metrics;

/// How many Events a Namespace may have at once.
const BURST: f64 = 100.0;

/// Tokens that only a warning may take.
const RESERVED: f64 = 20.0;

/// Tokens that a Namespace gets back per second.
const PER_SECOND: f64 = 10.0;

/// The most bytes of a note. The API server counts bytes, and refuses more than 1024.
const NOTE_BYTES: usize = 1024;

/// The most bytes of the name of who writes, which the API server bounds too.
const INSTANCE_BYTES: usize = 128;

/// The most bytes of an object's name that its Events' names begin with: a name has ASCII characters alone.
const NAME_BYTES: usize = 200;

/// How long writing an Event may take.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// A notice for people, attached to an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Kind of the object that it regards.
    pub kind: &'static str,
    /// The object that it regards.
    pub regarding: Meta,
    /// Something that a person should look at.
    pub warning: bool,
    /// The closed reason.
    pub reason: &'static str,
    pub message: String,
}

/// Writes Events.
#[derive(Clone)]
pub struct Emitter {
    client: Client,
    /// Who writes: the Pod's name, as far as it is known.
    instance: String,
    metrics: Arc<Metrics>,
    permissions: Permissions,
    buckets: Arc<Mutex<Buckets>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant, warning: bool) -> bool {
        let gained = now.saturating_duration_since(self.filled_at).as_secs_f64() * PER_SECOND;
        self.tokens = (self.tokens + gained).min(BURST);
        self.filled_at = now;
        let enough = self.tokens >= if warning { 1.0 } else { 1.0 + RESERVED };
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

/// The buckets of the Namespaces of the last seconds: a full one is as good as none. They are forgotten in the order of their
/// last use, so no call looks at those that stay.
#[derive(Debug, Default)]
struct Buckets {
    by_namespace: HashMap<String, Bucket>,
    by_use: BTreeSet<(Instant, String)>,
}

impl Buckets {
    fn take(&mut self, now: Instant, namespace: &str, warning: bool) -> bool {
        let is_full = |used: Instant| now.saturating_duration_since(used).as_secs_f64() >= BURST / PER_SECOND;
        while let Some((_, full)) = self.by_use.first().filter(|(used, _)| is_full(*used)).cloned() {
            self.by_use.pop_first();
            self.by_namespace.remove(&full);
        }
        let full = || Bucket {
            tokens: BURST,
            filled_at: now,
        };
        let bucket = self.by_namespace.entry(namespace.to_owned()).or_insert_with(full);
        self.by_use.remove(&(bucket.filled_at, namespace.to_owned()));
        self.by_use.insert((now, namespace.to_owned()));
        bucket.take(now, warning)
    }
}

impl Emitter {
    /// An emitter that writes through `client` in the name of `instance`.
    pub fn new(client: Client, instance: String, metrics: Arc<Metrics>, permissions: Permissions) -> Self {
        Self {
            client,
            instance,
            metrics,
            permissions,
            buckets: Arc::default(),
        }
    }

    /// Writes one Event; one that does not fit or can't be written is counted.
    pub async fn emit(&self, notice: Notice) {
        if !self.take(&notice) {
            self.metrics.cluster.event_dropped();
        } else if self.write(&notice).await {
            self.metrics.cluster.event_published();
        } else {
            self.metrics.cluster.event_failed();
        }
    }

    fn take(&self, notice: &Notice) -> bool {
        let namespace = &notice.regarding.namespace;
        self.buckets.lock().take(Instant::now(), namespace, notice.warning)
    }

    async fn write(&self, notice: &Notice) -> bool {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &notice.regarding.namespace);
        let event = self.event(notice);
        let written = tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &event)).await;
        let answer = written.map_or(Err(ClusterError::Timeout), |answer| answer.map_err(ClusterError::from));
        self.permissions.note("create", "events", &answer);
        answer
            .inspect_err(|error| tracing::debug!(%error, "event was not written"))
            .is_ok()
    }

    fn event(&self, notice: &Notice) -> Event {
        let of = &notice.regarding;
        Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", of.name.get(..NAME_BYTES).unwrap_or(&of.name))),
                namespace: Some(of.namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(clock::wall())),
            note: Some(cut(&notice.message, NOTE_BYTES)),
            reason: Some(notice.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(format!("{GROUP}/{VERSION}")),
                kind: Some(notice.kind.to_owned()),
                namespace: Some(of.namespace.clone()),
                name: Some(of.name.clone()),
                uid: Some(of.uid.to_string()),
                resource_version: Some(of.resource_version.as_str().to_owned()),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(NAME.to_owned()),
            reporting_instance: Some(cut(&self.instance, INSTANCE_BYTES)),
            type_: Some(if notice.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_text_is_cut_by_bytes_between_two_characters() {
        assert_eq!(cut("short", NOTE_BYTES), "short");
        for (text, least) in [
            ("x".repeat(2_000), 1_024),
            ("ä".repeat(1_000), 1_023),
            ("🦀".repeat(300), 1_020),
        ] {
            let note = cut(&text, NOTE_BYTES);
            assert!((least..=NOTE_BYTES).contains(&note.len()), "{}", note.len());
            assert!(note.ends_with('…') && text.starts_with(note.trim_end_matches('…')));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn warnings_may_take_the_last_tokens_and_time_brings_new_ones() {
        let mut bucket = Bucket {
            tokens: BURST,
            filled_at: Instant::now(),
        };
        let normal = std::iter::repeat_with(|| bucket.take(Instant::now(), false))
            .take_while(|taken| *taken)
            .count();
        let warnings = std::iter::repeat_with(|| bucket.take(Instant::now(), true))
            .take_while(|taken| *taken)
            .count();
        assert_eq!((normal, warnings), (80, 20));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            std::iter::repeat_with(|| bucket.take(Instant::now(), true))
                .take_while(|taken| *taken)
                .count(),
            10
        );
    }
    #[tokio::test(start_paused = true)]
    async fn only_the_namespaces_of_the_last_seconds_are_remembered() {
        let mut buckets = Buckets::default();
        for number in 0..1_000 {
            assert!(buckets.take(Instant::now(), &format!("team-{number}"), false));
            assert!(buckets.take(Instant::now(), "busy", false), "{number}");
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(buckets.by_namespace.len(), buckets.by_use.len());
        assert_eq!(buckets.by_use.len(), 101, "of the last ten seconds, and the busy one");
    }
}
