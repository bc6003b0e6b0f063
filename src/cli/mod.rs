//! The command line: one file per subcommand.

use std::future::Future;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::runtime::client::{self, ClientError};
use crate::runtime::configuration::{DatabaseSettings, IdentitySettings, LogSettings, Settings};
use crate::runtime::supervision::TaskEnded;
use crate::runtime::{NAME, shutdown, telemetry};
use crate::store::{StartError, Store, StoreError};

mod accept_database;
mod crds;
mod migrate;
mod new_incarnation;
mod run;
mod sweep;
mod uninstall_database;

/// Mirrors the environments and leases of AI agents into Postgres and ends leases when their runs are over
#[derive(Debug, Parser)]
#[command(name = NAME, version, max_term_width = 120)]
struct CommandLine {
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller until SIGTERM
    Run(Box<Settings>),
    /// Bring the database up to what this version needs, then end
    Migrate(DatabaseSettings),
    /// Print what the next sweep would end, by company and reason
    Sweep(Box<sweep::Arguments>),
    /// Begin a new incarnation of a cluster after its etcd was restored from a backup
    NewIncarnation(new_incarnation::Arguments),
    /// Say that the database is meant for the cluster, although it has never known it and leases are held there
    AcceptDatabase(accept_database::Arguments),
    /// Print the SQL that removes the operator from its database; changes nothing by itself
    UninstallDatabase(uninstall_database::Arguments),
    /// Print the CustomResourceDefinitions of both kinds as YAML
    Crds,
}

impl Command {
    /// Says which parameters of the database's URL have no effect: by their names, never with their values.
    fn tell_ignored_parameters(&self) {
        let url = match self {
            Self::Run(settings) => &settings.database.database_url,
            Self::Migrate(settings) => &settings.database_url,
            Self::Sweep(arguments) => &arguments.database.database_url,
            Self::NewIncarnation(arguments) => &arguments.database.database_url,
            Self::AcceptDatabase(arguments) => &arguments.database.database_url,
            Self::UninstallDatabase(_) | Self::Crds => return,
        };
        if let Ok(address) = url.address() {
            for parameter in address.ignored() {
                tracing::warn!(parameter, "a parameter of DATABASE_URL has no effect");
            }
        }
    }
}

/// Why a subcommand failed, each a sentence for standard error.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the log cannot be set up: {0}")]
    Log(String),
    #[error("the process cannot be set up: {0}")]
    Process(#[source] io::Error),
    #[error("{address} cannot be listened on: {source}; name another address and port by --listen")]
    Listen {
        address: std::net::SocketAddr,
        source: io::Error,
    },
    #[error("the controller ended without having been told to")]
    Ended,
    #[error(transparent)]
    Task(#[from] TaskEnded),
    #[error("it was told to stop before it was done: what is not committed is not there")]
    Stopped,
    #[error("standard output cannot be written: {0}")]
    Output(#[source] io::Error),
    #[error("the collector of traces cannot be used: {0}")]
    Traces(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Cluster(#[from] ClientError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the command line and does what it says; the exit code is 0 for success, 1 for failure, 2 for a bad command line.
pub fn main() -> ExitCode {
    match execute(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(line: CommandLine) -> Result<(), Error> {
    let traced = matches!(&line.command, Command::Run(settings) if settings.otlp_endpoint.is_some());
    let traces = telemetry::install(&line.log, traced).map_err(Error::Log)?;
    line.command.tell_ignored_parameters();
    match line.command {
        Command::Run(settings) => block_on(run::run(&settings, traces)),
        Command::Migrate(settings) => block_on(until_signal(migrate::migrate(&settings))),
        Command::Sweep(arguments) => block_on(until_signal(async move { print(&sweep::plan(&arguments).await?) })),
        Command::NewIncarnation(arguments) => block_on(until_signal(new_incarnation::raise(&arguments))),
        Command::AcceptDatabase(arguments) => block_on(until_signal(accept_database::accept(&arguments))),
        Command::UninstallDatabase(arguments) => print(uninstall_database::sql(&arguments)),
        Command::Crds => print(&crds::yaml()),
    }
}

/// The cluster's name in the database: as it is set, else as the cluster itself says.
async fn cluster_of(identity: &IdentitySettings) -> Result<String, Error> {
    Ok(match &identity.cluster_id {
        Some(id) => id.clone(),
        None => client::cluster_id(&client::connect(identity.kubeconfig.as_deref(), Arc::default()).await?).await?,
    })
}

/// The database, if it fits: what a subcommand that is no operator needs of it.
async fn open(database: &DatabaseSettings) -> Result<Store, Error> {
    Ok(Store::open(database.database_url.address()?, database.mode, 1).await?)
}

/// Runs the asynchronous subcommands; the others need no runtime.
fn block_on<Work: Future<Output = Result<(), Error>>>(work: Work) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Process)?;
    let outcome = runtime.block_on(work);
    // A name that is looked up for ever, in a thread of its own, does not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Ends work at the first signal: as the first process of a container it would otherwise not hear of one.
async fn until_signal(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let stop = CancellationToken::new();
    shutdown::stop_on_signal(stop.clone()).map_err(Error::Process)?;
    stop.run_until_cancelled(work).await.unwrap_or(Err(Error::Stopped))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Error> {
    match io::Write::write_all(&mut io::stdout(), text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
