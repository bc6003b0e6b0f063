//! The tests that `docs/architecture.md` names for noticing, crashes, invariants and reasons are there, and those of the threat
//! model in `docs/security.md`.

use std::collections::{BTreeSet, HashSet};

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

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut sources = files("src", ".rs");
    sources.extend(files("tests", ".rs"));
    let tests: HashSet<String> = sources.iter().flat_map(tests_of).collect();
    let document = read("docs/security.md");
    let (_, model) = document.split_once("## Threat model").unwrap();
    for heading in ["### A tenant", "### A compromised runner"] {
        for row in table(&document, heading) {
            assert!(!row.last().unwrap().is_empty(), "{}: no test", row[0]);
        }
    }
    // A name of many words in code quotes is a test's.
    let quoted = model.split('`').skip(1).step_by(2);
    let named: Vec<&str> = quoted.filter(|name| name.matches('_').count() > 3).collect();
    assert!(named.len() > 12, "{named:?}");
    for name in named {
        assert!(tests.contains(name), "no test is called {name}");
    }
}

/// What is tested of a reason where, by the column of the table.
const LAYERS: [(&str, &str); 3] = [("pure", "src"), ("store", "tests/store"), ("cluster", "tests/cluster")];

#[test]
fn every_reason_of_a_lease_is_tested_on_each_layer() {
    let reasons = |document: &str, headings: &[(&str, usize)]| -> BTreeSet<String> {
        let rows = headings.iter().flat_map(|(heading, column)| {
            table(document, heading)
                .into_iter()
                .map(move |row| row[*column].clone())
        });
        rows.filter(|reason| reason != "the run's").collect()
    };
    let (architecture, lifecycle) = (read("docs/architecture.md"), read("docs/lifecycle.md"));
    let documented = [
        ("## Waiting for the grant", 0),
        ("## Refused", 0),
        ("## Endings", 2),
        ("## Ended in the database", 2),
    ];
    assert_eq!(
        reasons(&architecture, &[("## Reasons", 0)]),
        reasons(&lifecycle, &documented)
    );
    for ((layer, folder), column) in LAYERS.into_iter().zip(1..) {
        let tests: HashSet<String> = files(folder, ".rs").iter().flat_map(tests_of).collect();
        for row in table(&architecture, "## Reasons") {
            // The cluster shows every reason; the others only what they decide.
            if row[column] == "–" && layer != "cluster" {
                continue;
            }
            for name in row[column].split(", ") {
                assert!(tests.contains(name), "{}: no {layer} test is called {name}", row[0]);
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
