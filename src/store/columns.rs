//! How a set of rows gets into a statement: every value under the name that its column has in there, so that no two can be
//! confused.
//!
//! - [`json_rows`]: one parameter, an array of objects, which the statement reads by `json_to_recordset`. So go the rows of
//!   everything that is written.
//! - [`bind_arrays`]: one array a column, which the statement reads by `unnest`. So go the rows of what is looked at, which would
//!   cost a tenth more as JSON (decision 33).
//!
//! In both ways the names are compared with the statement's own wherever assertions are on, that is in all tests.

use serde::Serialize;

use super::StoreError;

/// The rows as the text of a JSON array of objects.
macro_rules! json_rows {
    ($statement:expr, $rows:expr, |$row:ident| { $($column:ident: $value:expr,)+ }) => {{
        debug_assert_eq!(
            $crate::store::columns::of_record($statement),
            [$(stringify!($column)),+],
            "columns as they are given and as the statement names them"
        );
        let mut json = $crate::store::columns::JsonRows::default();
        for $row in $rows {
            $(json.field(stringify!($column), &$value)?;)+
            json.end_row();
        }
        json.finish()
    }};
}

/// Binds the rows to a query, one array a column.
macro_rules! bind_arrays {
    ($query:expr, $statement:expr, $rows:expr, |$row:ident| { $($column:ident: $value:expr,)+ }) => {{
        debug_assert_eq!(
            $crate::store::columns::of_arrays($statement),
            [$(stringify!($column)),+],
            "columns as they are given and as the statement names them"
        );
        $query $(.bind($crate::store::column($rows, |$row| $value)))+
    }};
}

pub(super) use {bind_arrays, json_rows};

/// Rows that are being written down.
#[derive(Default)]
pub(super) struct JsonRows {
    text: Vec<u8>,
    in_row: bool,
}

impl JsonRows {
    /// One more field of the row.
    pub(super) fn field(&mut self, name: &str, value: &impl Serialize) -> Result<(), StoreError> {
        self.text.extend_from_slice(match (self.in_row, self.text.is_empty()) {
            (true, _) => b",\"",
            (false, true) => b"[{\"",
            (false, false) => b",{\"",
        });
        self.in_row = true;
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        serde_json::to_writer(&mut self.text, value)
            .map_err(|error| StoreError::Bug(format!("{name} cannot be written as JSON: {error}")))
    }

    /// The row is complete.
    pub(super) fn end_row(&mut self) {
        self.text.push(b'}');
        self.in_row = false;
    }

    /// All rows.
    pub(super) fn finish(mut self) -> String {
        if self.text.is_empty() {
            self.text.push(b'[');
        }
        self.text.push(b']');
        // What is written as JSON is text.
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// A moment as a column of type `timestamptz` reads it, to the microsecond; years before 1 as Postgres spells them.
pub(super) fn moment(moment: jiff::Timestamp) -> String {
    let time = jiff::tz::TimeZone::UTC.to_datetime(moment);
    let (year, era) = match time.year() {
        year @ 1.. => (year, ""),
        year => (1 - year, " BC"),
    };
    format!(
        "{year:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00{era}",
        time.month(),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.subsec_nanosecond() / 1_000,
    )
}

/// The names of the columns that a statement reads by `json_to_recordset`; none of one that is written otherwise.
pub(super) fn of_record(statement: &str) -> Vec<&str> {
    let Some((_, call)) = statement.split_once("json_to_recordset(") else {
        return Vec::new();
    };
    let alias = call.split_once(" AS ").map_or("", |(_, alias)| alias);
    let columns = between(alias, "(", ")").unwrap_or_default().split(',');
    columns.filter_map(|column| column.split_whitespace().next()).collect()
}

/// The names of the columns that a statement reads by `unnest`, as many as it is given arrays; none of one whose parameters do
/// not follow one another.
pub(super) fn of_arrays(statement: &str) -> Vec<&str> {
    let Some((arrays, rest)) = between(statement, "unnest(", ";").and_then(|call| call.split_once(')')) else {
        return Vec::new();
    };
    let parameter = |array: &str| {
        array
            .trim()
            .strip_prefix('$')?
            .split_once("::")?
            .0
            .parse::<usize>()
            .ok()
    };
    let parameters: Vec<Option<usize>> = arrays.split(',').map(parameter).collect();
    let in_order = parameters
        .windows(2)
        .all(|pair| matches!(pair, [Some(one), Some(next)] if one + 1 == *next));
    let names = between(rest, "(", ")").filter(|_| in_order).unwrap_or_default();
    names.split(',').map(str::trim).take(parameters.len()).collect()
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(begin)?;
    Some(rest.split_once(end).map_or(rest, |(inside, _)| inside))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RECORD: &str = "SELECT FROM ROWS FROM (json_to_recordset($1::json) AS (\n id uuid, name text\n)) AS t";

    fn written(rows: &[(u8, Option<&str>)]) -> Result<String, StoreError> {
        Ok(json_rows!(RECORD, rows, |row| { id: row.0, name: row.1, }))
    }

    #[test]
    fn rows_are_an_array_of_objects_with_every_column_null_or_not() {
        assert_eq!(written(&[]).unwrap(), "[]");
        let rows: serde_json::Value =
            serde_json::from_str(&written(&[(1, Some("a\"\0")), (2, None)]).unwrap()).unwrap();
        assert_eq!(rows, json!([{"id": 1, "name": "a\"\0"}, {"id": 2, "name": null}]));
    }

    #[test]
    #[should_panic(expected = "as the statement names them")]
    fn a_column_that_the_statement_does_not_name_is_seen() {
        let typed = || -> Result<String, StoreError> {
            Ok(json_rows!(RECORD, &[1], |row| {
                id: row,
                nmae: row,
            }))
        };
        drop(typed());
    }

    #[test]
    fn arrays_whose_parameters_or_names_are_not_in_order_are_seen() {
        let names = ["id", "name"];
        assert_eq!(
            of_arrays("FROM unnest($4::uuid[], $5::text[]) WITH ORDINALITY AS i(id, name, place)"),
            names
        );
        for wrong in [
            "FROM unnest($5::uuid[], $4::text[]) AS i(id, name)",
            "FROM unnest($4::uuid[], $5::text[]) AS i(name, id)",
            "FROM unnest($4::uuid[], $4::text[]) AS i(id, name)",
            "FROM unnest($4::uuid[]) AS i(id, name)",
            "SELECT",
        ] {
            assert_ne!(of_arrays(wrong), names, "{wrong}");
        }
    }

    #[test]
    fn a_moment_is_written_to_the_microsecond_and_before_the_year_1_too() {
        for (text, expected) in [
            ("2026-11-27T09:08:07.123456789Z", "2026-11-27 09:08:07.123456+00"),
            ("0000-01-02T00:00:00Z", "0001-01-02 00:00:00.000000+00 BC"),
            ("-000043-03-15T00:00:00Z", "0044-03-15 00:00:00.000000+00 BC"),
        ] {
            assert_eq!(moment(text.parse().unwrap()), expected);
        }
    }
}
