//! What the operator counts, in the OpenMetrics format; every name begins with `environment_operator_`.
//!
//! One file per subject, and in it one struct of families with a method per thing that happens. Labels come from closed sets
//! or from the configuration: none grows with the number of objects. What is counted as it happens is added up where it
//! happens; what is a state (how many leases, how full the pool) is measured when the metrics are read, from memory alone:
//! see [`Metrics::measure_when_read`].

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod cluster;
mod database;
mod families;
mod leases;
mod replica;
mod sweep;
mod work;

pub use cluster::ClusterMetrics;
pub use database::{DatabaseMetrics, Place};
pub use leases::LeaseMetrics;
pub use replica::ReplicaMetrics;
pub use sweep::{LeaseOwner, SweepMetrics};
pub use work::{Cause, Waiting, WorkMetrics};

use families::Families;

/// Media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What measures a state: it is handed the metrics to set.
type Measure = Box<dyn Fn(&Metrics) + Send + Sync>;

/// The process's metrics, by subject.
pub struct Metrics {
    registry: Registry,
    measures: Mutex<Vec<Measure>>,
    /// How many families there are.
    #[cfg(test)]
    pub(crate) families: usize,
    /// Leases and environments, and what becomes of them.
    pub leases: LeaseMetrics,
    /// Reconciles and the queue of what is to be reconciled.
    pub work: WorkMetrics,
    /// Transactions and connections.
    pub database: DatabaseMetrics,
    /// Watches, Events and requests to the API server.
    pub cluster: ClusterMetrics,
    /// This replica: whether it leads, whether it is ready.
    pub replica: ReplicaMetrics,
    /// The sweep, the retention, and what only they count.
    pub sweep: SweepMetrics,
}

impl Metrics {
    /// All families at zero, registered.
    pub fn new() -> Self {
        let mut families = Families::new(Registry::with_prefix("environment_operator"));
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        families.register_constant("build", "What runs here", build);
        Self {
            leases: LeaseMetrics::new(&mut families),
            work: WorkMetrics::new(&mut families),
            database: DatabaseMetrics::new(&mut families),
            cluster: ClusterMetrics::new(&mut families),
            replica: ReplicaMetrics::new(&mut families),
            sweep: SweepMetrics::new(&mut families),
            measures: Mutex::default(),
            #[cfg(test)]
            families: families.registered(),
            registry: families.into_registry(),
        }
    }

    /// Has a state measured whenever the metrics are read. `measure` must be quick and ask nobody: it runs inside of the
    /// request, one after the other.
    pub fn measure_when_read(&self, measure: impl Fn(&Self) + Send + Sync + 'static) {
        let mut measures = self.measures.lock();
        measures.push(Box::new(measure));
    }

    /// The text of `/metrics`: measured first, and for one reader at a time.
    ///
    /// # Errors
    ///
    /// None in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        // A measure that has panicked leaves some gauges as they were, and the next reader gets the rest.
        let measures = self.measures.lock();
        for measure in measures.iter() {
            measure(self);
        }
        let mut buffer = String::new();
        text::encode(&mut buffer, &self.registry)?;
        Ok(buffer)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
