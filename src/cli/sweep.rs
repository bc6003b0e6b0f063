//! `sweep --dry-run`: what the next sweep would do, by company and reason. It needs no leadership, for it changes nothing; a
//! running operator sweeps by itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Args;
use uuid::Uuid;

use super::{Error, cluster_of, open};
use crate::controller::background::unmanaged_leases;
use crate::controller::lease::preview::preview;
use crate::lifecycle::Ending;
use crate::lifecycle::lease::Decision;
use crate::lifecycle::unmanaged::Decision as UnmanagedDecision;
use crate::runtime::configuration::{DatabaseSettings, EndingSettings, IdentitySettings};
use crate::store::{self, Leader, Store, cluster, sweep};

/// Leases that are looked at together.
const PART: usize = 200;

#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) database: DatabaseSettings,
    #[command(flatten)]
    identity: IdentitySettings,
    #[command(flatten)]
    endings: EndingSettings,
    /// Print what would be done and change nothing; must be given, for what is to be done a running operator does
    #[arg(long, required = true)]
    dry_run: bool,
    /// Print each lease, too
    #[arg(long)]
    verbose: bool,
}

/// What would be done to one lease.
struct Planned {
    company: Uuid,
    lease: Uuid,
    owner: &'static str,
    action: &'static str,
    ending: Ending,
}

pub(super) async fn plan(arguments: &Arguments) -> Result<String, Error> {
    let identity = &arguments.identity;
    let cluster = cluster_of(identity).await?;
    let store = open(&arguments.database).await?;
    cluster::require(&store, &cluster).await?;
    let asker = Leader {
        cluster,
        installation: identity.installation.clone(),
        // Nobody's term: looks do not need one, and nothing could be written with it.
        epoch: 0,
        incarnation: 0,
    };
    let mut planned = own(&store, &asker, &identity.namespaces).await?;
    planned.extend(unmanaged(&store, arguments).await?);
    Ok(print(&planned, arguments.verbose))
}

async fn own(store: &Store, asker: &Leader, namespaces: &[String]) -> Result<Vec<Planned>, Error> {
    let mut planned = Vec::new();
    for part in sweep::candidates(store, asker, namespaces).await?.chunks(PART) {
        for (view, decision) in preview(store, asker, part).await? {
            let (action, ending) = match decision {
                Decision::End(ending) => ("end", ending),
                Decision::Follow { ending, record: true } => ("record", ending),
                _ => continue,
            };
            let Some(object) = view.object else { continue };
            planned.push(Planned {
                company: object.company_id,
                lease: view.id,
                owner: "operator",
                action,
                ending,
            });
        }
    }
    Ok(planned)
}

async fn unmanaged(store: &Store, arguments: &Arguments) -> Result<Vec<Planned>, Error> {
    let mut planned = Vec::new();
    let Some(rules) = arguments.endings.unmanaged_rules(arguments.database.mode) else {
        return Ok(planned);
    };
    for part in store::unmanaged_leases::candidates(store).await?.chunks(PART) {
        for due in unmanaged_leases::judge(store, &rules, part).await?.due {
            let (action, ending) = match due.decision {
                UnmanagedDecision::End { ending, .. } => ("end", ending),
                UnmanagedDecision::Report(ending) => ("report", ending),
                UnmanagedDecision::Leave => continue,
            };
            planned.push(Planned {
                company: due.row.company_id,
                lease: due.row.id,
                owner: "unmanaged",
                action,
                ending,
            });
        }
    }
    Ok(planned)
}

/// A table by company, owner, action, status and reason; then, if asked for, a line per lease.
fn print(planned: &[Planned], verbose: bool) -> String {
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for one in planned {
        let key = (
            one.company,
            one.owner,
            one.action,
            one.ending.state.into_str(),
            one.ending.reason.into_str(),
        );
        *counts.entry(key).or_default() += 1;
    }
    let mut text = format!(
        "{:36}  {:8}  {:6}  {:8}  {:18}  LEASES\n",
        "COMPANY", "OWNER", "ACTION", "STATUS", "REASON"
    );
    for ((company, owner, action, status, reason), leases) in counts {
        let _ = writeln!(
            text,
            "{company}  {owner:8}  {action:6}  {status:8}  {reason:18}  {leases}"
        );
    }
    if verbose {
        for one in planned {
            let (reason, message) = (one.ending.reason.into_str(), &one.ending.message);
            let _ = writeln!(text, "{}  {}  {reason}: {message}", one.lease, one.action);
        }
    }
    text
}
