//! The tests that `docs/invariants.md` names for noticing, crashes, invariants and reasons are there, and those of the threat
//! model in `docs/security.md`.

use std::collections::{BTreeSet, HashSet};

use super::{files, read, section, table};

const DOCUMENT: &str = "docs/invariants.md";

/// The names of all tests.
fn tests() -> HashSet<String> {
    let mut sources = files("src", ".rs");
    sources.extend(files("tests", ".rs"));
    sources.iter().flat_map(tests_of).collect()
}

#[test]
fn every_test_that_is_named_for_noticing_and_crashes_exists() {
    let (tests, document) = (tests(), read(DOCUMENT));
    for heading in ["## How an ending is noticed", "## A crash at each step"] {
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
fn every_invariant_has_its_tests_and_each_of_them_exists() {
    let (tests, document) = (tests(), read(DOCUMENT));
    let headings = document.lines().filter(|line| line.starts_with("### I"));
    let mut count = 0;
    for (heading, number) in headings.zip(1..) {
        assert!(heading.starts_with(&format!("### I{number}: ")), "{heading}");
        let text = section(&document, heading);
        assert!(text.contains("\nHeld by "), "{heading}: what holds it?");
        let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        assert!(!names.is_empty(), "{heading}: no test");
        for name in names {
            assert!(
                tests.contains(name.trim_matches('`')),
                "{heading}: no test is called {name}"
            );
        }
        count += 1;
    }
    assert_eq!(count, 12, "an invariant was added or lost");
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let tests = tests();
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

/// Where the tests of each layer lie, by its name in the table.
const LAYERS: [(&str, &str); 3] = [("pure", "src"), ("store", "tests/store"), ("cluster", "tests/cluster")];

#[test]
fn every_reason_of_a_lease_is_tested_on_each_layer() {
    let documented = |document: &str, headings: &[(&str, usize)]| -> BTreeSet<String> {
        let rows = headings.iter().flat_map(|(heading, column)| {
            table(document, heading)
                .into_iter()
                .map(move |row| row[*column].clone())
        });
        rows.filter(|reason| reason != "the run's").collect()
    };
    let rows = table(&read(DOCUMENT), "## Reasons");
    let reasons: BTreeSet<String> = rows.iter().map(|row| row[0].clone()).collect();
    let of_lifecycle = [
        ("## Waiting for the grant", 0),
        ("## Refused", 0),
        ("## Endings", 2),
        ("## Ended in the database", 2),
    ];
    assert_eq!(reasons, documented(&read("docs/lifecycle.md"), &of_lifecycle));
    let layers: BTreeSet<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(layers, LAYERS.map(|(layer, _)| layer).into());
    for (layer, folder) in LAYERS {
        let tests: HashSet<String> = files(folder, ".rs").iter().flat_map(tests_of).collect();
        for reason in &reasons {
            let rows = rows.iter().filter(|row| row[0] == *reason && row[1] == layer);
            let names: Vec<&str> = rows.map(|row| row[2].as_str()).collect();
            assert!(!names.is_empty(), "{reason}: no {layer} test");
            // The cluster shows every reason; the others only what they decide.
            if names == ["–"] && layer != "cluster" {
                continue;
            }
            for name in names {
                assert!(tests.contains(name), "{reason}: no {layer} test is called {name}");
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
