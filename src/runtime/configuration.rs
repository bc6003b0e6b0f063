//! The settings: each is a flag and an environment variable, defined and documented once, here.
//!
//! The structs are `clap` arguments themselves: a second set of plain structs would repeat every field and could drift.
//! A subcommand takes the groups that it needs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::lifecycle::unmanaged::Rules;
use crate::store::Mode;

mod duration;
mod log;
mod redacted;
mod run_kind;

pub use log::{LogFormat, LogSettings};
pub use redacted::DatabaseUrl;
pub use run_kind::RunKind;

/// Everything that `run` can be told.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Where the rows are.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// Sessions with Postgres that a replica opens at most, besides the one that listens; at least 4
    #[arg(long, env = "ENVIRONMENT_OPERATOR_DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "8", value_parser = parse_connections)]
    pub database_connections: u32,
    /// Which part of which cluster this is.
    #[command(flatten)]
    pub identity: IdentitySettings,
    /// What ends leases.
    #[command(flatten)]
    pub endings: EndingSettings,
    /// How often, how long.
    #[command(flatten)]
    pub pace: PaceSettings,
    /// Address of /metrics, /healthz and /readyz; [::] is every address, of IPv4 too
    #[arg(
        long,
        env = "ENVIRONMENT_OPERATOR_LISTEN",
        value_name = "ADDRESS",
        default_value = "[::]:8080",
        value_parser = parse_listen
    )]
    pub listen: SocketAddr,
    /// Collector of traces, over OTLP with gRPC, as in http://collector:4317 [default: no traces]
    #[arg(long, env = "ENVIRONMENT_OPERATOR_OTLP_ENDPOINT", value_name = "URL", value_parser = parse_endpoint)]
    pub otlp_endpoint: Option<String>,
}

/// The database and whose tables it holds.
#[derive(Args, Clone, Debug)]
pub struct DatabaseSettings {
    /// Postgres, as a libpq URL; needs session connections (no transaction pooler)
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: DatabaseUrl,
    /// Who owns the Paperclip server's tables
    #[arg(long, env = "ENVIRONMENT_OPERATOR_MODE", value_parser = parse_mode(), default_value = "standalone")]
    pub mode: Mode,
    /// In mode attached, make triggers on the Paperclip server's heartbeat_runs that tell of ended runs at once: this alters that table
    #[arg(long, env = "ENVIRONMENT_OPERATOR_RUN_TRIGGER")]
    pub run_trigger: bool,
}

impl DatabaseSettings {
    /// Whether triggers tell of runs that end; without them they are asked for.
    pub fn has_run_trigger(&self) -> bool {
        self.run_trigger || self.mode == Mode::Standalone
    }
}

/// The cluster and the installation in it; together they name the leadership row and the objects' rows.
#[derive(Args, Clone, Debug)]
pub struct IdentitySettings {
    /// Name of this cluster in the database [default: the uid of namespace kube-system]
    #[arg(long, env = "ENVIRONMENT_OPERATOR_CLUSTER_ID", value_name = "ID", value_parser = parse_name)]
    pub cluster_id: Option<String>,
    /// Name of this installation among those of one cluster; one whose namespaces overlap a living one's does not start
    #[arg(long, env = "ENVIRONMENT_OPERATOR_INSTALLATION", value_name = "NAME", default_value = "default", value_parser = parse_name)]
    pub installation: String,
    /// Namespaces to look after, separated by commas [default: all]
    #[arg(long, env = "ENVIRONMENT_OPERATOR_NAMESPACES", value_name = "NAMESPACES", value_delimiter = ',', value_parser = parse_namespace)]
    pub namespaces: Vec<String>,
    /// Kubeconfig file [default: KUBECONFIG, ~/.kube/config or the Pod's own service account]
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<PathBuf>,
}

/// What ends leases, and which rows of others may be ended.
#[derive(Args, Clone, Debug)]
pub struct EndingSettings {
    /// Kinds of run objects, separated by commas, as in batch/v1/Job,v1/Pod
    #[arg(
        long,
        env = "ENVIRONMENT_OPERATOR_RUN_KINDS",
        value_name = "KINDS",
        value_delimiter = ',',
        default_value = "batch/v1/Job"
    )]
    pub run_kinds: Vec<RunKind>,
    /// What the sweep does with leases that never had an object and whose run is over or whose time has passed [default: end in mode standalone, report in mode attached]
    #[arg(long, env = "ENVIRONMENT_OPERATOR_UNMANAGED_LEASES", value_enum)]
    pub unmanaged_leases: Option<UnmanagedLeases>,
    /// How long the run of such a lease must have been over, or its time have passed, before the sweep ends it
    #[arg(long, env = "ENVIRONMENT_OPERATOR_UNMANAGED_GRACE", value_name = "DURATION", default_value = "15m", value_parser = duration::parse)]
    pub unmanaged_grace: Duration,
    /// What makes the operator check whether a lease has to end, separated by commas. Leave one out only for a test: a lease whose end it would have noticed then stays active until another one has the lease checked. Without objects, a lease of a Job that is over stays active until its TTL has passed (deadlines), or until the lease is changed, deleted or listed again (watches, after at most --resync-interval)
    #[arg(
        long,
        env = "ENVIRONMENT_OPERATOR_NOTICE_BY",
        value_name = "SOURCES",
        value_enum,
        value_delimiter = ',',
        default_values_t = [NoticeSource::Runs, NoticeSource::Objects, NoticeSource::Deadlines, NoticeSource::Watches, NoticeSource::Sweep]
    )]
    pub notice_by: Vec<NoticeSource>,
}

/// What is done with leases that never had an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnmanagedLeases {
    /// It ends them after the grace; attached, those of sandboxes and plugins are only reported
    End,
    /// It counts them in a metric
    Report,
    /// It leaves them alone
    Ignore,
}

/// A way of noticing that a lease has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum NoticeSource {
    /// Run rows, by LISTEN or, attached without --run-trigger, by asking for them
    Runs,
    /// Run objects, by their watches
    Objects,
    /// Expiry and heartbeat timeouts, by the deadline queue
    Deadlines,
    /// Leases and environments, by their watches
    Watches,
    /// Whatever the others missed, by the periodic sweep
    Sweep,
}

/// Intervals and time limits. Durations are written as in 30s, 5ms or 10m.
#[derive(Args, Clone, Debug)]
pub struct PaceSettings {
    /// Time between two sweeps
    #[arg(long, env = "ENVIRONMENT_OPERATOR_SWEEP_INTERVAL", value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub sweep_interval: Duration,
    /// Time between two looks at every object, and between two complete lists of each kind
    #[arg(long, env = "ENVIRONMENT_OPERATOR_RESYNC_INTERVAL", value_name = "DURATION", default_value = "10m", value_parser = duration::parse)]
    pub resync_interval: Duration,
    /// Time after which the server ends a watch, at most 60s
    #[arg(long, env = "ENVIRONMENT_OPERATOR_WATCH_TIMEOUT", value_name = "DURATION", default_value = "55s", value_parser = duration::parse_watch_timeout)]
    pub watch_timeout: Duration,
    /// How long the rows of ended leases are kept once their objects are gone, as in 90d [default: for ever]
    #[arg(long, env = "ENVIRONMENT_OPERATOR_RETENTION", value_name = "DURATION", value_parser = duration::parse_retention)]
    pub retention: Option<Duration>,
    /// How long a stopping process may take to finish what it has begun
    #[arg(long, env = "ENVIRONMENT_OPERATOR_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    pub drain_timeout: Duration,
}

impl EndingSettings {
    /// What is done with unmanaged leases in this mode.
    pub fn unmanaged_leases(&self, mode: Mode) -> UnmanagedLeases {
        self.unmanaged_leases.unwrap_or(match mode {
            Mode::Standalone => UnmanagedLeases::End,
            Mode::Attached => UnmanagedLeases::Report,
        })
    }

    /// The kinds of run objects, each of them once: of two versions of one kind the first is read.
    pub fn watched_kinds(&self) -> Vec<RunKind> {
        let mut kinds: Vec<RunKind> = Vec::new();
        for kind in &self.run_kinds {
            if !kinds.iter().any(|known| known.is(&kind.group, &kind.kind)) {
                kinds.push(kind.clone());
            }
        }
        kinds
    }

    /// What may be done about unmanaged leases in this mode; `None`: they are left alone.
    pub fn unmanaged_rules(&self, mode: Mode) -> Option<Rules> {
        let ends = match self.unmanaged_leases(mode) {
            UnmanagedLeases::End => true,
            UnmanagedLeases::Report => false,
            UnmanagedLeases::Ignore => return None,
        };
        Some(Rules {
            ends,
            origin_cleans_up: mode == Mode::Attached,
            grace: self.unmanaged_grace,
        })
    }

    /// The sources that may end leases.
    pub fn sources(&self) -> BTreeSet<NoticeSource> {
        self.notice_by.iter().copied().collect()
    }
}

/// Reads the mode.
pub fn parse_mode() -> impl TypedValueParser<Value = Mode> {
    PossibleValuesParser::new([
        PossibleValue::new("standalone").help("The operator creates the Paperclip server's tables"),
        PossibleValue::new("attached").help("The Paperclip server has created its tables; the operator alters none"),
    ])
    .map(|text| {
        if text == "attached" {
            Mode::Attached
        } else {
            Mode::Standalone
        }
    })
}

/// Reads how many sessions there may be.
fn parse_connections(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (4..=100).contains(number));
    number.ok_or_else(|| "write a whole number from 4 to 100".into())
}

/// Reads an address to listen on.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let sentence =
        "write an IP address and a port, as in [::]:8080, 0.0.0.0:8080 or 127.0.0.1:9090; names are not looked up";
    text.parse().map_err(|_| sentence.into())
}

/// Reads the address of a collector.
fn parse_endpoint(text: &str) -> Result<String, String> {
    let address = text.parse::<axum::http::Uri>().ok();
    let is_whole = |address: axum::http::Uri| {
        matches!(address.scheme_str(), Some("http" | "https")) && address.host().is_some_and(|host| !host.is_empty())
    };
    if !address.is_some_and(is_whole) {
        return Err("write http:// or https://, a host and a port, as in http://collector:4317".into());
    }
    Ok(text.into())
}

/// Reads a name that becomes part of a primary key.
fn parse_name(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if text.is_empty() || text.len() > 63 || !text.chars().all(plain) {
        return Err("write 1 to 63 letters, digits, hyphens, underscores or dots".into());
    }
    Ok(text.into())
}

/// Reads the name of a Namespace: a DNS label.
fn parse_namespace(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    if text.is_empty() || text.len() > 63 || !text.chars().all(plain) || text.starts_with('-') || text.ends_with('-') {
        return Err(
            "write names of namespaces with commas between them, as in team-a,team-b; leave the setting away for \
                    all namespaces"
                .into(),
        );
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests;
