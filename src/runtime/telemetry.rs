//! Logs: one line per event on standard error, as text for people or JSON for machines; and the way in for traces.

use std::io;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use super::configuration::{LogFormat, LogSettings};

mod lines;
mod traces;

use lines::Lines;

pub use traces::{Exporting, Origin, Traces};

/// Installs the process's one subscriber; with `traced`, one that traces can be added to.
///
/// # Errors
///
/// A sentence where the filter cannot be read or a subscriber is installed already.
pub fn install(settings: &LogSettings, traced: bool) -> Result<Option<Traces>, String> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| error.to_string())?;
    // Spans are for traces: a line names its objects itself. What the client says of a failed request, without its cause, is
    // said by whoever has sent it.
    let is_said_elsewhere = |metadata: &Metadata<'_>| {
        metadata.target() == "kube_client::client::builder" && *metadata.level() == Level::ERROR
    };
    let filter = filter.and(filter_fn(move |metadata| {
        metadata.is_event() && !is_said_elsewhere(metadata)
    }));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(settings.log_format == LogFormat::Text && io::IsTerminal::is_terminal(&io::stderr()))
        .event_format(Lines(settings.log_format));
    let (layer, traces) = traced.then(traces::layer).unzip();
    tracing_subscriber::registry()
        .with(layer)
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| format!("the log cannot be installed: {error}"))?;
    Ok(traces)
}
