//! What is logged, and how.

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person at a terminal
    Text,
    /// One JSON object per line
    Json,
}

/// What is logged and how; common to all subcommands.
#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    /// Form of a log line
    #[arg(long, global = true, env = "ENVIRONMENT_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Least level that is logged (off, error, warn, info, debug, trace); others for parts follow, as in info,environment_operator=debug
    #[arg(long, global = true, env = "ENVIRONMENT_OPERATOR_LOG", value_name = "FILTER", default_value = "info", value_parser = parse_filter)]
    pub log: String,
}

/// Checks a filter at the command line, so that a bad one is refused with the others.
fn parse_filter(text: &str) -> Result<String, String> {
    const SENTENCE: &str = "write a level (off, error, warn, info, debug, trace) or targets with levels, as in info,environment_operator=debug";
    // A word alone would be taken for a target with every level, and a misspelt level would silence all the rest.
    let misspelt = |part: &str| part.is_empty() || (!part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err());
    if text.split(',').any(misspelt) || EnvFilter::try_new(text).is_err() {
        return Err(SENTENCE.into());
    }
    Ok(text.into())
}
