//! The tests that `docs/architecture.md` names for the invariants are there.

use std::collections::HashSet;

use super::{files, read, table};

#[test]
fn every_test_that_holds_an_invariant_exists() {
    let mut sources = files("src", ".rs");
    sources.extend(files("tests", ".rs"));
    let mut tests = HashSet::new();
    for source in sources {
        let text = std::fs::read_to_string(source).unwrap();
        let names = text
            .split("fn ")
            .skip(1)
            .filter_map(|rest| rest.split(['(', '<']).next());
        tests.extend(names.map(str::to_owned));
    }
    for row in table(&read("docs/architecture.md"), "## Invariants") {
        let [_, _, _, held_by] = row.as_slice() else {
            panic!("{row:?} has not four columns")
        };
        for name in held_by.split(", ").filter(|name| !name.is_empty()) {
            assert!(tests.contains(name), "{}: no test is called {name}", row[0]);
        }
    }
}
