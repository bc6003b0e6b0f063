//! `uninstall-database`: SQL for a person to read and to run; nothing that deletes runs by itself.

use clap::Args;

use crate::runtime::configuration::parse_mode;
use crate::store::Mode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Who owns the Paperclip server's tables
    #[arg(long, env = "ENVIRONMENT_OPERATOR_MODE", value_parser = parse_mode(), default_value = "standalone")]
    mode: Mode,
}

pub(super) fn sql(arguments: &Arguments) -> &'static str {
    match arguments.mode {
        Mode::Attached => ATTACHED,
        Mode::Standalone => STANDALONE,
    }
}

/// The triggers on heartbeat_runs go with their function.
const ATTACHED: &str = "\
-- Stop the operator first. This removes what it remembers of its objects, and the triggers that tell it of runs' ends;
-- environments and leases stay as they are.
DROP SCHEMA IF EXISTS environment_operator CASCADE;
";

const STANDALONE: &str = "\
-- Mode standalone: the operator made all tables of this database, and its own schema is its memory of them. Leave all as it
-- is, and it goes on from there when it comes back. To lose all history, stop it and take away the hyphens:
-- DROP SCHEMA IF EXISTS environment_operator CASCADE;
-- DROP TABLE IF EXISTS public.activity_log, public.environment_leases, public.heartbeat_runs, public.agents,
--   public.environments, public.companies CASCADE;
";
