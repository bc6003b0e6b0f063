//! Every relative link and every file named in the documentation is there.

use std::path::Path;

use super::{files, root};

fn documents() -> Vec<std::path::PathBuf> {
    let mut documents = files("docs", ".md");
    documents.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    documents
}

#[test]
fn every_relative_link_leads_somewhere() {
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") {
                let found = document.parent().unwrap().join(path);
                assert!(found.exists(), "{}: link to {path}", document.display());
            }
        }
    }
}

#[test]
fn every_file_of_the_project_that_is_named_exists() {
    let folders = [
        "src/",
        "tests/",
        "migrations/",
        "charts/",
        "crds/",
        "examples/",
        "docs/",
        "scripts/",
        ".ci/",
    ];
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        for name in quoted.filter(|name| folders.iter().any(|folder| name.starts_with(folder))) {
            let plain = !name.contains(['*', ' ', '<', '{', '…']);
            assert!(
                !plain || Path::new(root()).join(name).exists(),
                "{}: {name}",
                document.display()
            );
        }
    }
}
