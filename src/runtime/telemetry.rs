//! Logs: one line per event on standard error, as text for people or JSON for machines.

use std::io;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::configuration::LogSettings;

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal
    Text,
    /// One JSON object per line
    Json,
}

/// Installs the process's one subscriber.
///
/// # Errors
///
/// A sentence where the filter cannot be read or a subscriber is installed already.
pub fn install(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| error.to_string())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let installed = match settings.log_format {
        LogFormat::Text => lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|error| format!("the log cannot be installed: {error}"))
}

/// Checks a filter at the command line, so that a bad one is refused with the others.
pub(super) fn parse_filter(text: &str) -> Result<String, String> {
    const SENTENCE: &str =
        "write a level (off, error, warn, info, debug, trace) or targets with levels, as in info,sqlx=warn";
    // A word alone would be taken for a target with every level, and a misspelt level would silence all the rest.
    let misspelt = |part: &str| part.is_empty() || (!part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err());
    if text.split(',').any(misspelt) || EnvFilter::try_new(text).is_err() {
        return Err(SENTENCE.into());
    }
    Ok(text.into())
}
