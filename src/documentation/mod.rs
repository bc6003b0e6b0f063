//! Tests that compare the documentation with the code: what `docs/` says of reasons, settings, metrics and tests is compared with
//! what is defined here, and so are the settings of the chart. `UPDATE=1 cargo test --lib documentation` writes what is generated anew.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

mod alerts;
mod chart;
mod configuration;
mod database;
mod dependencies;
mod growth;
mod invariants;
mod lifecycle;
mod links;
mod names;
mod operations;

/// Reads a file of the project.
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder whose names end so, those of the build aside.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The rows of the table under a heading, without its head: cells without their back-ticks.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = section(document, heading)
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect()
        })
        .collect();
    assert!(rows.len() > 2, "no table under {heading:?}");
    rows[2..].to_vec() // after the head and the line of hyphens
}

/// What stands between a heading and the next.
fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading:?}"));
    rest.split("\n#").next().unwrap_or_default()
}

/// Compares what stands between two comments of a document with what should, or writes it where `UPDATE` is set.
fn agrees(path: &str, name: &str, expected: &str) {
    static ONE_WRITER: Mutex<()> = Mutex::new(());
    let _one = ONE_WRITER.lock(); // another table may stand in the same document
    let document = read(path);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = document
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{path} has no {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{path} has no {end}"));
    settle(path, &document, [before, &begin, expected, &end, after].concat());
}

/// Compares a document with what it should be, or writes it where `UPDATE` is set: by another file in its place, for other tests
/// read it meanwhile.
fn settle(path: &str, found: &str, expected: String) {
    if std::env::var_os("UPDATE").is_some() {
        let fresh = root().join(format!("{path}.new"));
        std::fs::write(&fresh, expected).unwrap();
        std::fs::rename(fresh, root().join(path)).unwrap();
    } else {
        assert!(
            found == expected,
            "{path} does not agree with the code: run `UPDATE=1 cargo test --lib documentation` and commit it"
        );
    }
}
