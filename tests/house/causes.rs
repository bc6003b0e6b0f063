//! How errors of the libraries are printed: by the functions that make sentences of them, and in no other way.

use std::path::Path;

/// The errors whose own text shows structures or lines of a library's source code.
const LIBRARIES: [&str; 4] = ["sqlx::Error", "kube::Error", "KubeconfigError", "InClusterError"];

/// The variants of error enums that hold one of them and do not print it by a `cause` function.
fn printed_as_they_are(text: &str) -> Vec<String> {
    let (mut attribute, mut wrong) = (String::new(), Vec::new());
    let mut is_in_attribute = false;
    for raw in text.lines() {
        let line = raw.trim();
        if line.starts_with("#[error(") {
            attribute.clear();
            is_in_attribute = true;
        }
        if is_in_attribute {
            attribute.push_str(line);
            is_in_attribute = !line.ends_with(")]");
            continue;
        }
        if raw == "}" || raw.starts_with("impl ") {
            attribute.clear();
        }
        let holds = LIBRARIES.iter().any(|name| line.contains(name));
        if holds && !attribute.is_empty() && !attribute.contains("cause") {
            wrong.push(format!("{attribute} {line}"));
        }
    }
    wrong
}

#[test]
fn an_error_of_a_library_is_printed_as_a_sentence_of_its_cause() {
    let (mut wrong, mut holders) = (Vec::new(), 0);
    for file in super::sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        holders += usize::from(text.contains("#[error(") && LIBRARIES.iter().any(|name| text.contains(name)));
        let here = printed_as_they_are(&text);
        wrong.extend(here.into_iter().map(|of| format!("{}: {of}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(holders > 4, "only {holders} files were found");
}

#[test]
fn an_error_that_is_printed_as_it_is_is_seen() {
    let text = "#[error(\"{0}\")]\nApi(#[from] kube::Error),\n#[error(\"x: {}\", cause(.0))]\nOther(sqlx::Error),\n\
                #[error(transparent)]\nThird(Arc<sqlx::Error>),\nimpl From<sqlx::Error> for X {\n";
    assert_eq!(
        printed_as_they_are(text),
        [
            "#[error(\"{0}\")] Api(#[from] kube::Error),",
            "#[error(transparent)] Third(Arc<sqlx::Error>),"
        ]
    );
}
