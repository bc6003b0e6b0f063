//! Every dependency has its reason in `docs/dependencies.md`.

use super::{read, table};

#[test]
fn every_dependency_has_its_reason_and_no_other_crate_is_named() {
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies: Vec<&str> = rest
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split([' ', '.', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect();
    let documented: Vec<String> = table(&read("docs/dependencies.md"), "## Crates")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(documented, dependencies);
}
