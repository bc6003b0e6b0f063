//! The picture of the modules in `docs/architecture.md` shows the imports that are allowed.

use std::collections::{BTreeMap, BTreeSet};

use super::ALLOWED;

/// Modules that the text beside the picture describes: they import nothing.
const BESIDE: [&str; 2] = ["clock", "random"];

/// The arrows of the page's first diagram.
fn arrows(document: &str) -> Vec<(&str, &str)> {
    let diagram = document
        .split("```mermaid")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let lines = diagram.unwrap_or_default().lines();
    lines.filter_map(|line| line.trim().split_once(" --> ")).collect()
}

/// Adds what can be reached from a module along the arrows.
fn reach<'a>(module: &str, arrows: &[(&'a str, &'a str)], reached: &mut BTreeSet<&'a str>) {
    for (_, to) in arrows.iter().filter(|(from, _)| *from == module) {
        if reached.insert(to) {
            reach(to, arrows, reached);
        }
    }
}

#[test]
fn the_picture_of_the_modules_shows_the_imports_that_are_allowed() {
    let document = include_str!("../../docs/architecture.md");
    let arrows = arrows(document);
    let modules = ALLOWED.iter().filter(|(module, _)| !BESIDE.contains(module));
    let expected: BTreeMap<&str, BTreeSet<&str>> = modules
        .map(|(module, others)| {
            let others = others.iter().copied().filter(|other| !BESIDE.contains(other));
            (*module, others.collect())
        })
        .collect();
    let shown: BTreeMap<&str, BTreeSet<&str>> = expected
        .keys()
        .map(|module| {
            let mut reached = BTreeSet::new();
            reach(module, &arrows, &mut reached);
            (*module, reached)
        })
        .collect();
    assert_eq!(shown, expected);
}
