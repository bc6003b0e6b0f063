//! What can go wrong between the operator and its database, sorted by what to do about it.

use std::sync::Arc;

use strum::IntoStaticStr;

use super::cause::cause;

/// A failed operation on the database. Cloned to every caller whose request was part of the batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is read-only, stops, is out of space or too slow: retry with back-off.
    #[error("the database is not available: {}", cause(.0))]
    Unavailable(Arc<sqlx::Error>),
    /// Another transaction was in the way (deadlock, serialization, lock timeout): retry soon.
    #[error("another transaction was in the way: {}", cause(.0))]
    Conflict(Arc<sqlx::Error>),
    /// A request's own data cannot be stored, in whatever state the database is: only a change of the data helps.
    #[error("{message}")]
    Data {
        /// What to change, as a sentence.
        message: String,
    },
    /// The database refuses this request alone, for a reason that lies in its other rows, in a trigger, a constraint, a policy or
    /// an index, or because what it names is gone: it may go away without a change of the request, which waits and is tried again.
    #[error("{message}")]
    Refused {
        /// What the database answered, as a sentence.
        message: String,
    },
    /// The database answers, and is not one that this version may work on as it is: one sentence says what to mend. Nothing is
    /// granted or ended until then, and it goes on by itself.
    #[error("{0}")]
    Unfit(String),
    /// A statement failed as one does on a database that does not fit: what it names is not there, or rows or rights are withheld.
    /// It may as well be the fault of one trigger or one row, which a look at the database tells apart: nobody is told this
    /// sentence before that ([`crate::mirror::Examine`]).
    #[error("{0}")]
    Suspect(String),
    /// This process does not lead any more: nothing was changed, and it has to step down.
    #[error("this replica is not the leader any more")]
    Deposed,
    /// A statement or a row is not as this version expects it: a person has to look.
    #[error("the database answered what this version does not expect: {0}")]
    Bug(String),
}

/// What to do about a [`StoreError`]; the label of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(const_into_str, serialize_all = "snake_case")]
pub enum Category {
    /// Retry with back-off.
    Unavailable,
    /// Retry soon.
    Conflict,
    /// Tell the object's author.
    Data,
    /// Retry this one with back-off, and say on its object what was answered.
    Refused,
    /// Retry with back-off, and tell the administrator.
    Unfit,
    /// Step down.
    Deposed,
    /// Tell the operator's authors.
    Bug,
}

impl StoreError {
    /// What to do about it.
    pub const fn category(&self) -> Category {
        match self {
            Self::Unavailable(_) => Category::Unavailable,
            Self::Conflict(_) => Category::Conflict,
            Self::Data { .. } => Category::Data,
            Self::Refused { .. } => Category::Refused,
            Self::Unfit(_) | Self::Suspect(_) => Category::Unfit,
            Self::Deposed => Category::Deposed,
            Self::Bug(_) => Category::Bug,
        }
    }

    /// Whether only a look at the database tells whether it is of all.
    pub const fn is_suspect(&self) -> bool {
        matches!(self, Self::Suspect(_))
    }

    /// Whether it speaks of the whole connection, database or leadership: no request of a batch would fare better alone. Any
    /// other one may be a single request's.
    pub const fn is_of_all(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Deposed | Self::Unfit(_) => true,
            Self::Conflict(_) | Self::Data { .. } | Self::Refused { .. } | Self::Suspect(_) | Self::Bug(_) => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                of_code(&code, database.message().to_owned(), error)
            }
            sqlx::Error::Decode(source) | sqlx::Error::ColumnDecode { source, .. }
                if source.to_string().starts_with("missing field") =>
            {
                changed(&source.to_string())
            }
            sqlx::Error::Decode(source) | sqlx::Error::ColumnDecode { source, .. } => Self::Refused {
                message: cut(&format!(
                    "a row holds a value that is not in its closed set or range: {source}"
                )),
            },
            // A name or password that no server takes: the source names the character, not the text.
            sqlx::Error::Configuration(source) => Self::Unfit(format!(
                "the database's address, user or password cannot be used ({source}): does its Secret end with a line break?"
            )),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(Arc::new(error)),
            _ => Self::Bug(cause(&error)),
        }
    }
}

/// Sorts an error by its SQLSTATE (PostgreSQL documentation, appendix A).
fn of_code(code: &str, text: String, error: sqlx::Error) -> StoreError {
    match code {
        "40001" | "40P01" | "55P03" => StoreError::Conflict(Arc::new(error)),
        // 25006: read-only, as after a fail-over.
        "25006" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => StoreError::Unavailable(Arc::new(error)),
        // What a policy says of one new row is that row's; else the policies of a table would leave rows out of what is asked for.
        "42501" if text.contains("new row violates") => refused("a policy of the table refuses it", &text),
        "42501" if text.contains("row-level security") => StoreError::Suspect(hidden(&text)),
        "42501" => StoreError::Suspect(format!(
            "the operator's role lacks a right ({text}): grant it, docs/database.md lists what is needed"
        )),
        // A table, column, schema or function that is gone, and a statement that was prepared for what was there before.
        "42703" | "42P01" | "3F000" | "42883" => changed(&text),
        "0A000" if text.contains("cached plan") => changed(&text),
        // What the value alone causes. Whatever else of these classes is answered may be another's doing: a column or a constraint
        // that was added, a partition that is missing, a fault in a trigger.
        "22P05" | "22021" => data(
            "remove the NUL character (\\u0000), which a database cannot hold",
            &text,
        ),
        "22003" => data("use a smaller number", &text),
        "22008" => data("use a time before the year 9999", &text),
        "22001" | "54000" => data("shorten the text", &text),
        "54001" => data("nest the value less deeply", &text),
        // Another row has what this one wants to have, or what it refers to was deleted in between: neither is for good.
        "23505" => refused("another row is in the way", &text),
        "23503" => refused("what it refers to is not there (any more)", &text),
        // One row may be what makes a statement take longer than statement_timeout: its trigger waits, or its lock.
        "57014" => refused("the database broke it off", &text),
        _ => match code.get(..2) {
            Some("08" | "53" | "58" | "28" | "3D") => StoreError::Unavailable(Arc::new(error)),
            // What a trigger, a constraint or a rule of the database's owner raises.
            Some("P0" | "09" | "0A" | "21" | "22" | "23" | "27" | "38" | "39" | "40" | "44" | "54" | "55") => {
                refused("the database refuses it", &text)
            }
            // The class of a code is its owner's to choose, where none of the server's own begins like it.
            Some(class) if class.starts_with(|first: char| first.is_ascii_uppercase() && !"FHPX".contains(first)) => {
                refused("the database refuses it", &text)
            }
            _ => StoreError::Bug(format!("{text} (SQLSTATE {code})")),
        },
    }
}

/// What a statement says of tables that are not as it needs them.
pub(super) fn changed(text: &str) -> StoreError {
    StoreError::Suspect(format!(
        "the database's tables are not as this version needs them ({text}): use versions of the operator and of the origin's \
         server that go together"
    ))
}

/// The sentence on tables whose rows are not all shown.
pub(super) fn hidden(tables: &str) -> String {
    format!(
        "row-level security hides rows from the operator's role ({tables}): disable it on these tables, or give the role \
         BYPASSRLS"
    )
}

fn data(advice: &str, text: &str) -> StoreError {
    StoreError::Data {
        message: format!("{advice}: {text}"),
    }
}

fn refused(why: &str, text: &str) -> StoreError {
    StoreError::Refused {
        message: cut(&format!("{why}: {text}")),
    }
}

/// Longest text of a database's that is passed on, in characters: a trigger may say as much as it likes.
const LONGEST_ANSWER: usize = 512;

/// An answer as it may stand in a status: of one line, and not longer than anybody reads.
fn cut(text: &str) -> String {
    text.chars()
        .take(LONGEST_ANSWER)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sqlstate_says_what_to_do() {
        let category = |code| of_code(code, "text".to_owned(), sqlx::Error::WorkerCrashed).category();
        for code in ["08006", "25006", "53100", "53300", "57P01", "57P03", "58030", "3D000"] {
            assert_eq!(category(code), Category::Unavailable, "{code}");
        }
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(category(code), Category::Conflict, "{code}");
        }
        for code in ["22P05", "22021", "22001", "22003", "22008", "54000", "54001"] {
            assert_eq!(category(code), Category::Data, "{code}");
        }
        for code in [
            "P0001", "23505", "23503", "57014", "55000", "55006", "44000",
            "MYAPP", // another row, a trigger, a view
            "23502", "23514", "23P01", "22012", "22P02", "22004", "22000", "23000", "54011",
            "54023", // the tables, or a trigger
        ] {
            assert_eq!(category(code), Category::Refused, "{code}");
        }
        for code in ["42501", "42P01", "42703", "3F000", "42883"] {
            assert_eq!(category(code), Category::Unfit, "{code}");
            let error = of_code(code, "text".to_owned(), sqlx::Error::WorkerCrashed);
            assert!(
                matches!(error, StoreError::Suspect(_)),
                "{code}: only a look tells whether it is of all"
            );
        }
        let plan = of_code(
            "0A000",
            "cached plan must not change result type".to_owned(),
            sqlx::Error::WorkerCrashed,
        );
        assert!(matches!(plan, StoreError::Suspect(_)));
        for code in ["42601", ""] {
            assert_eq!(category(code), Category::Bug, "{code}");
        }
    }

    #[test]
    fn what_a_policy_says_of_one_new_row_is_that_row_s() {
        let text = "new row violates row-level security policy for table \"environment_leases\"".to_owned();
        let error = of_code("42501", text, sqlx::Error::WorkerCrashed);
        assert_eq!(error.category(), Category::Refused);
        assert!(!error.is_of_all());
    }

    #[test]
    fn what_a_trigger_says_is_passed_on_in_one_line_and_not_at_any_length() {
        let error = of_code(
            "P0001",
            format!("no\n{}", "x".repeat(10_000)),
            sqlx::Error::WorkerCrashed,
        );
        let sentence = error.to_string();
        assert!(sentence.starts_with("the database refuses it: no x"), "{sentence}");
        assert_eq!(sentence.chars().count(), LONGEST_ANSWER);
    }

    #[test]
    fn a_lost_connection_is_no_bug() {
        for error in [
            sqlx::Error::PoolTimedOut,
            sqlx::Error::WorkerCrashed,
            sqlx::Error::Protocol("cut".to_owned()),
        ] {
            assert_eq!(StoreError::from(error).category(), Category::Unavailable);
        }
    }
}
