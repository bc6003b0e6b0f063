//! The tests that `docs/architecture.md` names for noticing, crashes and invariants are there.

use std::collections::HashSet;

use super::{files, read, table};

#[test]
fn every_test_that_the_architecture_names_exists() {
    let mut sources = files("src", ".rs");
    sources.extend(files("tests", ".rs"));
    let tests: HashSet<String> = sources.iter().flat_map(tests_of).collect();
    let document = read("docs/architecture.md");
    for heading in [
        "## How an ending is noticed",
        "## A crash at each line",
        "## Invariants",
    ] {
        for row in table(&document, heading) {
            let names = row.last().unwrap();
            assert!(!names.is_empty(), "{}: no test", row[0]);
            for name in names.split(", ") {
                assert!(tests.contains(name), "{}: no test is called {name}", row[0]);
            }
        }
    }
}

/// The names of the functions that carry a test's attribute.
fn tests_of(source: &std::path::PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(source).unwrap();
    let after_attributes = text.split("test]").chain(text.split("test(")).skip(1);
    after_attributes
        .filter_map(|rest| rest.split("fn ").nth(1)?.split(['(', '<']).next())
        .map(str::to_owned)
        .collect()
}
