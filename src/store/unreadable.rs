//! Rows that this version may not be able to read: each is named by table, id and column, once until something else is wrong
//! with it, and the others beside it are read all the same.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::StoreError;
use super::error::changed;

/// Rows that are remembered as named in the log at most; beyond, they are named again.
const REMEMBERED: usize = 1_000;

/// A row of one of the Paperclip server's tables.
pub(crate) trait TableRow: DeserializeOwned {
    /// The table.
    const TABLE: &'static str;

    /// The row's id.
    fn id(&self) -> Uuid;
}

/// A row as it was found, read or not.
#[derive(Debug)]
pub(crate) struct Row<T>(Result<T, Unreadable>);

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    table: &'static str,
    id: Option<Uuid>,
    /// The column whose value is at fault; none where one is missing.
    column: Option<String>,
    fault: String,
}

impl Unreadable {
    /// Reads a row, which stands there as JSON.
    fn read<T: TableRow>(text: &str) -> Result<T, Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let column = error.path().iter().next().map(ToString::to_string);
            let fault = error.into_inner().to_string();
            // Where in the text that was is of no use to who looks into the table.
            let fault = fault.split(" at line ").next().unwrap_or_default();
            Self {
                table: T::TABLE,
                id: id_of(text),
                column: column.filter(|column| column != "?"),
                fault: fault.to_owned(),
            }
        })
    }

    /// Whether it has not got a column that it needs: then no row of its table has it.
    fn lacks_column(&self) -> bool {
        self.column.is_none() && self.fault.starts_with("missing field")
    }
}

impl Display for Unreadable {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "row {} of {}", self.id.unwrap_or_default(), self.table)?;
        if let Some(column) = &self.column {
            write!(formatter, ", column {column},")?;
        }
        write!(formatter, " cannot be read: {}", self.fault)
    }
}

/// The id of a row that cannot be read as a whole.
fn id_of(text: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Identified {
        id: Uuid,
    }
    serde_json::from_str(text).ok().map(|Identified { id }| id)
}

impl<'de, T: TableRow> Deserialize<'de> for Row<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Unreadable::read(raw.get())))
    }
}

impl<T: TableRow> Row<T> {
    /// The row, or why it cannot be read.
    ///
    /// # Errors
    /// `Suspect` where a column is missing: that is no fault of this row's, and not to be taken for a row that is not there.
    pub(crate) fn known(self) -> Result<Result<T, Unreadable>, StoreError> {
        match self.0 {
            Err(unreadable) if unreadable.lacks_column() => Err(changed(&unreadable.to_string())),
            read => Ok(read),
        }
    }

    /// The row; of one that cannot be read nothing can be decided.
    ///
    /// # Errors
    /// `Refused` where a value cannot be read, `Suspect` where a column is missing.
    pub(crate) fn needed(self) -> Result<T, StoreError> {
        self.known()?.map_err(|unreadable| StoreError::Refused {
            message: unreadable.to_string(),
        })
    }
}

/// The rows that were named in the log as ones that cannot be read; cheap to clone, and all clones know the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnreadableRows(Arc<Mutex<HashMap<Uuid, String>>>);

impl UnreadableRows {
    /// The row; one that cannot be read is named in the log, and counts as not there.
    ///
    /// # Errors
    /// `Suspect` where a column is missing.
    pub(crate) fn pass_over<T: TableRow>(&self, row: Row<T>) -> Result<Option<T>, StoreError> {
        match row.known()? {
            Ok(row) => {
                self.is_readable(row.id());
                Ok(Some(row))
            }
            Err(unreadable) => {
                if self.is_news(unreadable.id.unwrap_or_default(), &unreadable.to_string()) {
                    let Unreadable {
                        table,
                        id,
                        column,
                        fault,
                    } = unreadable;
                    let id = id.unwrap_or_default();
                    tracing::warn!(table, %id, column, error = fault, "a row cannot be read, passed over");
                }
                Ok(None)
            }
        }
    }

    /// Whether it is news that this row cannot be read for this reason.
    pub(crate) fn is_news(&self, id: Uuid, fault: &str) -> bool {
        let mut named = self.0.lock();
        if named.get(&id).is_some_and(|named| named == fault) {
            return false;
        }
        if named.len() >= REMEMBERED {
            named.clear();
        }
        named.insert(id, fault.to_owned());
        true
    }

    /// The row can be read: the next time that it cannot is news again.
    pub(crate) fn is_readable(&self, id: Uuid) {
        self.0.lock().remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Thing {
        id: Uuid,
        size: u8,
    }

    impl TableRow for Thing {
        const TABLE: &'static str = "public.things";

        fn id(&self) -> Uuid {
            self.id
        }
    }

    fn row(rest: &str) -> Row<Thing> {
        serde_json::from_str(&format!("{{\"id\": \"{}\"{rest}}}", Uuid::from_u128(7))).unwrap()
    }

    #[test]
    fn a_row_that_cannot_be_read_is_named_by_table_id_and_column() {
        let Err(StoreError::Refused { message }) = row(", \"size\": 900").needed() else {
            panic!("not refused")
        };
        let begin =
            "row 00000000-0000-0000-0000-000000000007 of public.things, column size, cannot be read: invalid value";
        assert!(message.starts_with(begin), "{message}");
    }

    #[test]
    fn a_row_without_a_column_is_no_fault_of_the_row_and_never_passed_over() {
        let outcome = UnreadableRows::default().pass_over(row(""));
        let Err(StoreError::Suspect(sentence)) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(sentence.contains("missing field `size`"), "{sentence}");
    }

    #[test]
    fn a_row_that_cannot_be_read_is_news_once_until_its_fault_is_another_or_it_was_readable() {
        let (rows, id) = (UnreadableRows::default(), Uuid::from_u128(7));
        assert!(rows.is_news(id, "size"));
        assert!(!rows.clone().is_news(id, "size"));
        assert!(rows.is_news(id, "colour"));
        assert_eq!(rows.pass_over(row(", \"size\": 9")).unwrap().unwrap().size, 9);
        assert!(rows.is_news(id, "colour"), "it was readable in between");
        for number in 100..100 + 2 * REMEMBERED as u128 {
            rows.is_news(Uuid::from_u128(number), "size");
        }
        assert!(rows.0.lock().len() <= REMEMBERED);
    }
}
