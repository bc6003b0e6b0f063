//! What log lines call their fields.

use std::path::Path;

/// The keys that a line has of its own.
const OWN: [&str; 4] = ["message", "level", "target", "timestamp"];

/// The macros that log.
const MACROS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "event"];

#[test]
fn no_field_of_a_log_line_has_the_name_of_a_key_of_the_line_itself() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in super::sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        // The one file that shows what becomes of such names.
        if file.ends_with("telemetry/lines.rs") {
            continue;
        }
        for fields in logged_fields(&std::fs::read_to_string(&file).unwrap()) {
            seen += 1;
            let own = fields.iter().filter(|field| OWN.contains(&field.as_str()));
            wrong.extend(own.map(|field| format!("{}: a field is called {field}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "only {seen} lines were found");
}

#[test]
fn a_field_is_seen_in_every_spelling() {
    let text = r#"
        tracing::info!(message, "x");
        tracing::warn!(%level, ?target, timestamp = 1, "level = {}", target);
        tracing::error!(lease = %id, message);
        tracing::debug!("nothing, {message}");
    "#;
    let expected: [&[&str]; 4] = [
        &["message"],
        &["level", "target", "timestamp"],
        &["lease", "message"],
        &[],
    ];
    assert_eq!(logged_fields(text), expected);
}

/// The names of the fields of each call of a macro that logs: the arguments before the line's words.
fn logged_fields(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for name in MACROS {
        for (place, start) in text.match_indices(&format!("tracing::{name}!(")) {
            found.push((place, fields(&text[place + start.len()..])));
        }
    }
    found.sort();
    found.into_iter().map(|(_, fields)| fields).collect()
}

fn fields(arguments: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut argument = String::new();
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for letter in arguments.chars() {
        if in_text {
            in_text = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '"' if argument.trim().is_empty() => break, // the line's words: what follows are their values
            '"' => in_text = true,
            ',' | ')' if depth == 0 => {
                let name = argument.split('=').next().unwrap_or_default();
                let name = name.trim().trim_start_matches(['%', '?']);
                fields.extend((!name.is_empty()).then(|| name.to_owned()));
                argument.clear();
                if letter == ')' {
                    break;
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ if depth == 0 => argument.push(letter),
            _ => {}
        }
    }
    fields
}
