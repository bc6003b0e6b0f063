//! The pages for developers name functions, types, modules and tests that are there.

use std::collections::HashSet;

use super::{files, read};

/// The pages that name parts of the code.
const DOCUMENTS: [&str; 6] = [
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/howto.md",
    "docs/invariants.md",
    "docs/security.md",
];

/// What stands before a name that is defined.
const KEYWORDS: [&str; 7] = ["fn", "struct", "enum", "trait", "mod", "const", "type"];

/// Every name that is defined in the sources: of items, and of variants and fields, which begin a line.
fn defined(sources: &str) -> HashSet<&str> {
    let mut names = HashSet::new();
    for line in sources.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
        let plain = line.strip_prefix("pub ").unwrap_or(line);
        let (first, rest) = plain.split_at(plain.find(|c| !is_of_name(c)).unwrap_or(plain.len()));
        if first.starts_with(char::is_uppercase) || rest.starts_with(": ") {
            names.insert(first);
        }
        let mut words = line.split(|c| !is_of_name(c)).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            if KEYWORDS.contains(&word) {
                names.extend(words.next());
            }
        }
    }
    names
}

/// Whether this is a path of names, as in `decide::cause`, or one name of several words, as in `decide_claim`.
fn is_of_code(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let names: Vec<&str> = text.split("::").collect();
    let is_path = names.len() > 1 || text.contains('_');
    is_path && names.into_iter().all(is_name)
}

/// Names of several words that are none of the code: of columns, tables and constraints in SQL, and of settings.
fn is_of_database(text: &str, migrations: &str) -> bool {
    !text.contains("::") && (text == text.to_uppercase() || migrations.contains(text))
}

#[test]
fn every_function_type_and_test_that_the_pages_for_developers_name_is_there() {
    let text_of = |folder: &str, ending: &str| -> String {
        let texts = files(folder, ending)
            .into_iter()
            .map(|path| std::fs::read_to_string(path).unwrap());
        texts.collect::<Vec<_>>().join("\n")
    };
    let sources = format!("{}\n{}", text_of("src", ".rs"), text_of("tests", ".rs"));
    let (names, migrations) = (defined(&sources), text_of("migrations", ".sql"));
    let (mut missing, mut seen) = (Vec::new(), 0);
    for document in DOCUMENTS {
        let text = read(document);
        for quoted in text.split('`').skip(1).step_by(2).filter(|quoted| is_of_code(quoted)) {
            seen += 1;
            let is_defined = quoted.split("::").all(|name| names.contains(name));
            if !is_defined && !is_of_database(quoted, &migrations) {
                missing.push(format!("{document}: {quoted}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(seen > 200, "only {seen} names were found");
}

#[test]
fn a_name_that_is_nowhere_defined_is_seen() {
    let names = defined(
        "pub async fn grant() {\n    Held { grant: u8 },\n// fn gone() {}\npub struct Facts;\npub id: Uuid,\nmissing(1);\n",
    );
    assert!(["grant", "Held", "Facts", "id"].iter().all(|name| names.contains(name)));
    assert!(!names.contains("missing") && !names.contains("gone"));
    for (text, expected) in [
        ("lease::decide", true),
        ("decide_claim", true),
        ("decide", false),
        ("src/lib.rs", false),
        ("--run-kinds", false),
    ] {
        assert_eq!(is_of_code(text), expected, "{text}");
    }
}
