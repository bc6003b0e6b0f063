//! What goes to and comes from the API server: watches, Events, requests.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::families::{DURATIONS, Families, FloatGauge, Histograms};

/// Watches, Events and requests to the API server.
#[derive(Debug)]
pub struct ClusterMetrics {
    watch_freshness: Family<Kind, FloatGauge>,
    watch_lists: Family<Kind, Counter>,
    unreadable_objects: Family<KindPart, Counter>,
    events_published: Counter,
    events_dropped: Counter,
    events_failed: Counter,
    request_duration: Histograms<VerbCode>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindPart {
    kind: String,
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbCode {
    verb: &'static str,
    code: String,
}

impl ClusterMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            watch_freshness: families.register(
                "watch_freshness_seconds",
                "Time since a watch last heard from the API server; of heartbeat_runs, from the database",
                Family::default(),
            ),
            watch_lists: families.register("watch_lists", "Complete lists of a kind", Family::default()),
            unreadable_objects: families.register(
                "unreadable_objects",
                "Objects of whose spec or status not everything could be read, each time that one was seen",
                Family::default(),
            ),
            events_published: families.register(
                "events_published",
                "Events that the API server has taken",
                Counter::default(),
            ),
            events_dropped: families.register(
                "events_dropped",
                "Events over their namespace's budget",
                Counter::default(),
            ),
            events_failed: families.register(
                "events_failed",
                "Events that the API server has refused or not answered to",
                Counter::default(),
            ),
            request_duration: families.register(
                "api_request_duration_seconds",
                "Time to the head of the API server's answer, by verb and status code; error: no answer",
                Family::new_with_constructor(DURATIONS),
            ),
        }
    }

    /// How long ago a watch of the kind last heard anything.
    pub fn set_watch_freshness(&self, kind: &str, since: Duration) {
        self.watch_freshness
            .get_or_create(&Kind { kind: kind.into() })
            .set(since.as_secs_f64());
    }

    /// A watch has listed its kind completely.
    pub fn watch_listed(&self, kind: &str) {
        self.watch_lists.get_or_create(&Kind { kind: kind.into() }).inc();
    }

    /// An object of the kind was seen, of which not everything of this part (`spec`, `status`) could be read.
    pub fn object_unreadable(&self, kind: &str, part: &'static str) {
        let kind = kind.into();
        self.unreadable_objects.get_or_create(&KindPart { kind, part }).inc();
    }

    /// An Event is written.
    pub fn event_published(&self) {
        self.events_published.inc();
    }

    /// An Event was over its namespace's budget.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// An Event could not be written.
    pub fn event_failed(&self) {
        self.events_failed.inc();
    }

    /// The API server has answered to a request with this status code, or, without one, not at all.
    pub fn requested(&self, verb: &'static str, code: Option<u16>, duration: Duration) {
        let code = code.map_or_else(|| "error".to_owned(), |code| code.to_string());
        self.request_duration
            .get_or_create(&VerbCode { verb, code })
            .observe(duration.as_secs_f64());
    }
}
