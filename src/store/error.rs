//! What can go wrong between the operator and its database, sorted by what to do about it.

use std::sync::Arc;

/// A failed operation on the database. Cloned to every caller whose request was part of the batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, is read-only, stops, is out of space or too slow: retry with back-off.
    #[error("the database is not available: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// Another transaction was in the way (deadlock, serialization, lock timeout): retry soon.
    #[error("another transaction was in the way: {0}")]
    Conflict(Arc<sqlx::Error>),
    /// A request's own data cannot be stored: only a change of the data helps.
    #[error("{message}")]
    Data {
        /// What to change, as a sentence.
        message: String,
    },
    /// This process does not lead any more: nothing was changed, and it has to step down.
    #[error("this replica is not the leader any more")]
    Deposed,
    /// A statement, a right or a row is not as this version expects it: a person has to look.
    #[error("the database answered what this version does not expect: {0}")]
    Bug(String),
}

/// What to do about a [`StoreError`]; the label of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Category {
    /// Retry with back-off.
    Unavailable,
    /// Retry soon.
    Conflict,
    /// Tell the object's author.
    Data,
    /// Step down.
    Deposed,
    /// Tell the operator's authors.
    Bug,
}

impl Category {
    /// The metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Data => "data",
            Self::Deposed => "deposed",
            Self::Bug => "bug",
        }
    }
}

impl StoreError {
    /// What to do about it.
    pub const fn category(&self) -> Category {
        match self {
            Self::Unavailable(_) => Category::Unavailable,
            Self::Conflict(_) => Category::Conflict,
            Self::Data { .. } => Category::Data,
            Self::Deposed => Category::Deposed,
            Self::Bug(_) => Category::Bug,
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
            sqlx::Error::Decode(source) | sqlx::Error::ColumnDecode { source, .. } => Self::Data {
                message: format!("a row holds a value that is not in its closed set or range: {source}"),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(Arc::new(error)),
            _ => Self::Bug(error.to_string()),
        }
    }
}

/// Sorts an error by its SQLSTATE (PostgreSQL documentation, appendix A).
fn of_code(code: &str, text: String, error: sqlx::Error) -> StoreError {
    match code {
        "40001" | "40P01" | "55P03" => StoreError::Conflict(Arc::new(error)),
        // 25006: read-only, as after a fail-over. 57014: a statement longer than statement_timeout.
        "25006" | "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => StoreError::Unavailable(Arc::new(error)),
        "22P05" | "22021" => data(
            "remove the NUL character (\\u0000), which a database cannot hold",
            &text,
        ),
        "22003" => data("use a smaller number", &text),
        "22008" => data("use a time before the year 9999", &text),
        "54000" => data("shorten the text", &text),
        "54001" => data("nest the value less deeply", &text),
        "23503" => data("name only rows that exist", &text),
        _ => match code.get(..2) {
            Some("08" | "53" | "58" | "28") => StoreError::Unavailable(Arc::new(error)),
            Some("22" | "23" | "54") => data("change the value that the database refuses", &text),
            _ => StoreError::Bug(format!("{text} (SQLSTATE {code})")),
        },
    }
}

fn data(advice: &str, text: &str) -> StoreError {
    StoreError::Data {
        message: format!("{advice}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sqlstate_says_what_to_do() {
        let category = |code| of_code(code, "text".to_owned(), sqlx::Error::WorkerCrashed).category();
        for code in ["08006", "25006", "53100", "53300", "57014", "57P01", "57P03", "58030"] {
            assert_eq!(category(code), Category::Unavailable, "{code}");
        }
        for code in ["40001", "40P01", "55P03"] {
            assert_eq!(category(code), Category::Conflict, "{code}");
        }
        for code in ["22P05", "22021", "22003", "22008", "23503", "23514", "54000", "54001"] {
            assert_eq!(category(code), Category::Data, "{code}");
        }
        for code in ["42501", "42P01", "42703", ""] {
            assert_eq!(category(code), Category::Bug, "{code}");
        }
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
