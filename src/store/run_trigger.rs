//! The triggers on `heartbeat_runs` that notify of runs' ends: part of the tables that standalone mode makes, and in attached
//! mode made only if asked for, for they alter a table of the Paperclip server's.

use super::StartError;
use super::address::Address;
use super::connection::{Purpose, open};
use super::migrate::lock;
use super::session::Session;

/// What standalone mode migrates, word for word.
const TRIGGER: &str = include_str!("../../migrations/origin/20261122000008_run_end_trigger.sql");

/// Makes the triggers if they are not there. The schema `environment_operator` must be.
///
/// # Errors
/// `Refused` where the role may not make triggers on the table.
pub async fn ensure(address: &Address) -> Result<(), StartError> {
    let mut connection = Session::own(open(address, Purpose::Migration).await?);
    let are_there = "SELECT count(*) = 2 FROM pg_trigger
         WHERE tgrelid = 'public.heartbeat_runs'::regclass AND tgenabled <> 'D'
           AND tgname IN ('environment_operator_run_ended', 'environment_operator_run_deleted')";
    let ready: bool = sqlx::query_scalar(are_there).fetch_one(&mut connection).await?;
    if !ready {
        lock(&mut connection).await?;
        let ready: bool = sqlx::query_scalar(are_there).fetch_one(&mut connection).await?; // made meanwhile
        if !ready {
            make(&mut connection).await?;
        }
    }
    connection.close().await; // gives up the lock as well
    Ok(())
}

/// Makes function and triggers in one transaction, in the place of what is left of them.
async fn make(connection: &mut Session) -> Result<(), StartError> {
    connection.run("BEGIN").await?;
    let made = async {
        connection
            .run("DROP FUNCTION IF EXISTS environment_operator.notify_run_end() CASCADE")
            .await?;
        connection.run(TRIGGER).await
    };
    if let Err(error) = made.await {
        let forbidden = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if forbidden.as_deref() == Some("42501") {
            return Err(StartError::Refused(
                "--run-trigger makes triggers on heartbeat_runs, and this role may not: have the owner of the table run \
                 `environment-operator migrate --mode attached --run-trigger` once, or leave the setting away"
                    .to_owned(),
            ));
        }
        return Err(error.into()); // the session ends, and with it the transaction
    }
    connection.run("COMMIT").await?;
    Ok(())
}
