//! What a session is set to, and why: whatever the role, the database, a pooler or the environment says.
//!
//! It is set after the connection is made and read back: start-up parameters are refused by a session pooler, or dropped by
//! it in silence.

use sqlx::{PgConnection, Row};

use super::ConnectError;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Reading, writing and listening.
    Work,
    /// Making and altering tables, which may take long.
    Migration,
}

/// What a setting has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This, as the server itself writes it.
    Is(&'static str),
    /// This for work, the other for migrations.
    By {
        /// For [`Purpose::Work`].
        work: &'static str,
        /// For [`Purpose::Migration`].
        migration: &'static str,
    },
    /// Whatever it is, but not the first: then the second.
    Not(&'static str, &'static str),
}

/// A setting of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its name in the server.
    pub name: &'static str,
    /// What it has to be.
    pub wanted: Wanted,
    pub why: &'static str,
}

const fn setting(name: &'static str, wanted: Wanted, why: &'static str) -> Setting {
    Setting { name, wanted, why }
}

/// All of them. One that this server does not have is left away (`transaction_timeout` came with PostgreSQL 17).
///
/// Not among them, for the statements are tested under any value: `plan_cache_mode`. `tcp_user_timeout`
/// is set below.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "statement_timeout",
        Wanted::By {
            work: "10s",
            migration: "0",
        },
        "a leader whose statement hangs would block its successor; an index on a large table takes its time",
    ),
    setting(
        "lock_timeout",
        Wanted::By {
            work: "5s",
            migration: "10s",
        },
        "a wait for a lock ends before a term of leadership does",
    ),
    setting(
        "idle_in_transaction_session_timeout",
        Wanted::Is("5s"),
        "a leader that is stopped within a transaction would block its successor",
    ),
    setting(
        "transaction_timeout",
        Wanted::Is("0"),
        "each statement has its limit already, and a migration has none",
    ),
    setting(
        "idle_session_timeout",
        Wanted::Is("0"),
        "the listener and the pool's idle sessions are idle for long",
    ),
    setting(
        "default_transaction_isolation",
        Wanted::Is("read committed"),
        "what is counted under a lock is counted by a statement that begins after the lock",
    ),
    setting(
        "default_transaction_read_only",
        Wanted::Is("off"),
        "the operator writes; where the server itself is configured so, it is passed over before",
    ),
    setting(
        "default_transaction_deferrable",
        Wanted::Is("off"),
        "no transaction waits for a quiet moment",
    ),
    setting(
        "synchronous_commit",
        Wanted::Not("off", "on"),
        "a grant that was told to a runner must outlive a crash of the server",
    ),
    setting(
        "session_replication_role",
        Wanted::Is("origin"),
        "with any other role no trigger and no foreign key is looked at",
    ),
    setting(
        "row_security",
        Wanted::Is("off"),
        "a policy that hides rows is an error, not an empty answer that would end leases",
    ),
    setting(
        "search_path",
        Wanted::Is("public"),
        "no other schema's functions and operators stand in for the server's own; triggers of the Paperclip server find its tables",
    ),
    setting(
        "exit_on_error",
        Wanted::Is("off"),
        "a refused statement does not end the session",
    ),
    setting(
        "transform_null_equals",
        Wanted::Is("off"),
        "a comparison with null is what SQL says it is",
    ),
    setting("array_nulls", Wanted::Is("on"), "null in an array is null"),
    setting(
        "TimeZone",
        Wanted::Is("UTC"),
        "times in JSON are read without a table of zones",
    ),
    setting("DateStyle", Wanted::Is("ISO, MDY"), "as the driver expects it"),
    setting("IntervalStyle", Wanted::Is("postgres"), "as the driver expects it"),
    setting("client_encoding", Wanted::Is("UTF8"), "as the driver expects it"),
    setting("bytea_output", Wanted::Is("hex"), "as the driver expects it"),
    setting(
        "extra_float_digits",
        Wanted::Is("1"),
        "a number comes back as it went in",
    ),
    setting(
        "standard_conforming_strings",
        Wanted::Is("on"),
        "a backslash in a statement is a backslash",
    ),
    setting(
        "client_min_messages",
        Wanted::Is("warning"),
        "the server's chatter is not for the operator's log",
    ),
    setting(
        "jit",
        Wanted::Is("off"),
        "compiling takes longer than any statement here runs",
    ),
];

impl Setting {
    /// What it has to be set to, where it is not as it has to be.
    fn mend(&self, purpose: Purpose, found: &str) -> Option<&'static str> {
        let wanted = match (self.wanted, purpose) {
            (Wanted::Is(wanted), _)
            | (Wanted::By { work: wanted, .. }, Purpose::Work)
            | (Wanted::By { migration: wanted, .. }, Purpose::Migration) => wanted,
            (Wanted::Not(unwanted, _), _) if found != unwanted => return None,
            (Wanted::Not(_, instead), _) => instead,
        };
        (found != wanted).then_some(wanted)
    }
}

/// Sets a session, and reads back what it is set to.
///
/// # Errors
/// `Refused` where a setting cannot be changed or does not stay.
pub(super) async fn apply(connection: &mut PgConnection, purpose: Purpose) -> Result<(), ConnectError> {
    // A session of a pooler may still have what its last user has set, prepared, listened to and locked.
    sqlx::raw_sql("DISCARD ALL").execute(&mut *connection).await?;
    let mends = mends(connection, purpose).await?;
    // The server's own end of a connection; over a Unix socket there is nothing to set, so it is not read back.
    let (names, values): (Vec<&str>, Vec<&str>) = mends.into_iter().chain([("tcp_user_timeout", "10s")]).unzip();
    let set =
        sqlx::query("SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS wanted(name, value)")
            .bind(names)
            .bind(values)
            .persistent(false)
            .execute(&mut *connection)
            .await;
    if let Err(sqlx::Error::Database(error)) = &set
        && error.code().as_deref() == Some("42501")
    {
        let reason = SETTINGS.iter().find(|setting| error.message().contains(setting.name));
        return Err(ConnectError::Refused(format!(
            "{}, and the operator cannot work with the value that this role or database gives it{}: have an administrator \
             take it back (ALTER ROLE … RESET, ALTER DATABASE … RESET)",
            error.message(),
            reason.map(|setting| format!(" ({})", setting.why)).unwrap_or_default()
        )));
    }
    set?;
    match self::mends(connection, purpose).await?.first() {
        None => Ok(()),
        Some((name, wanted)) => Err(ConnectError::Refused(format!(
            "the setting {name} was set to {wanted} and is not: between the operator and the server something does not keep \
             a session's settings; give the operator a direct or session-pooled address"
        ))),
    }
}

/// What is not as it has to be, with what to set it to.
async fn mends(
    connection: &mut PgConnection,
    purpose: Purpose,
) -> Result<Vec<(&'static str, &'static str)>, sqlx::Error> {
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let row = sqlx::query("SELECT array_agg(current_setting(name, true) ORDER BY place) FROM unnest($1::text[]) WITH ORDINALITY AS asked(name, place)")
        .bind(names)
        .persistent(false)
        .fetch_one(connection)
        .await?;
    let found: Vec<Option<String>> = row.try_get(0)?;
    let mends = SETTINGS.iter().zip(found).filter_map(|(setting, found)| {
        let wanted = setting.mend(purpose, found.as_deref()?)?;
        Some((setting.name, wanted))
    });
    Ok(mends.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_mended_where_it_is_not_as_it_has_to_be_and_left_alone_where_it_is() {
        let of = |name| SETTINGS.iter().find(|setting| setting.name == name).unwrap();
        let timeout = of("statement_timeout");
        assert_eq!(timeout.mend(Purpose::Work, "0"), Some("10s"));
        assert_eq!(timeout.mend(Purpose::Work, "10s"), None);
        assert_eq!(timeout.mend(Purpose::Migration, "10s"), Some("0"));
        let commit = of("synchronous_commit");
        assert_eq!(commit.mend(Purpose::Work, "off"), Some("on"));
        assert_eq!(
            commit.mend(Purpose::Work, "remote_apply"),
            None,
            "stricter is the administrator's choice"
        );
    }
}
