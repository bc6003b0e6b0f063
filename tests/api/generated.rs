//! Files that are generated from the types agree with them. `UPDATE=1` writes them anew.

use std::path::Path;

use environment_operator::api;

use crate::reference;

/// Compares a file of the project with what it should be, or writes it where `UPDATE` is set.
fn agrees(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} does not agree with the types: run `UPDATE=1 cargo test --test api generated` and commit it",
        path.display()
    );
}

#[test]
fn the_committed_definitions_agree_with_the_types() {
    // A chart holds only what lies in its own folder, so it has a copy.
    for folder in ["crds", "charts/environment-operator/files/crds"] {
        for crd in api::crds() {
            agrees(
                &format!("{folder}/{}.yaml", crd.spec.names.plural),
                &api::crd_yaml(&crd),
            );
        }
    }
}

#[test]
fn the_committed_reference_agrees_with_the_types() {
    agrees("docs/api-reference.md", &reference::document());
}
