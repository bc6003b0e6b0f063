//! `uninstall-database`: SQL for a person to read and to run; nothing that deletes runs by itself.

use clap::Args;

use crate::runtime::configuration::parse_mode;
use crate::store::Mode;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Who owns the origin's tables
    #[arg(long, env = "ENVIRONMENT_OPERATOR_MODE", value_parser = parse_mode(), default_value = "standalone")]
    mode: Mode,
}

pub(super) fn sql(arguments: &Arguments) -> String {
    let mut sql = OWN_SCHEMA.to_owned();
    if arguments.mode == Mode::Standalone {
        sql.push_str(ORIGIN_TABLES);
    }
    sql
}

/// The triggers on heartbeat_runs go with their function.
const OWN_SCHEMA: &str = "\
-- Stop the operator first. This removes what it remembers of its objects, and the triggers that tell it of runs' ends;
-- environments and leases stay as they are, and only mode attached takes them up again.
DROP SCHEMA IF EXISTS environment_operator CASCADE;
";

const ORIGIN_TABLES: &str = "
-- The operator made these tables (mode standalone). They hold all history: take away the hyphens to lose it.
-- DROP TABLE IF EXISTS public.activity_log, public.environment_leases, public.heartbeat_runs, public.agents,
--   public.environments, public.companies CASCADE;
";
