//! Commands in the middle of a sentence: which of them are commands, and which only speak of one.

use std::path::Path;

use tokio::process::Command;

use crate::commands::{PROGRAMS, commands};
use crate::support::{path, run};

/// The spans in back-ticks that are more than the name of a program, outside of blocks; a line break in one is a space.
pub fn inline(text: &str) -> Vec<String> {
    let mut is_block = false;
    let mut outside = String::new();
    for line in text.lines() {
        let line = line.trim_start().trim_start_matches("# ");
        if line.starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            outside.push_str(line);
            outside.push('\n');
        }
    }
    let spans = outside.split('`').skip(1).step_by(2);
    let words = spans.map(|span| span.split_whitespace().collect::<Vec<_>>());
    let commands = words.filter(|words| {
        // Variables may be set before a program.
        let mut rest = words.iter().skip_while(|word| is_assignment(word));
        let program = rest.next();
        program.is_some_and(|program| PROGRAMS.contains(program)) && rest.next().is_some()
    });
    commands.map(|words| words.join(" ")).collect()
}

/// A command without the variables that are set before its program.
pub fn without_assignments(command: &str) -> String {
    let words = command.split(' ').skip_while(|word| is_assignment(word));
    words.collect::<Vec<_>>().join(" ")
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
    })
}

/// Whether a command is only spoken of: a subcommand of a client that names nothing to act on, whatever its options, as in
/// `helm upgrade --wait`. It could not be run as it stands, and nobody would try to.
pub fn is_mention(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let operands = words.filter(|word| !word.starts_with('-')).count();
    match program {
        "kubectl" | "helm" => operands <= 1,
        "pg_dump" | "psql" => operands == 0,
        _ => false,
    }
}

#[test]
fn a_command_in_a_sentence_is_whole_if_it_names_what_it_acts_on() {
    let text = "Run `kubectl get\n  jobs`, or `UPDATE=1 cargo test --lib`; `helm` and `kubectl get` are names, `values.yaml` a file.\n\
                ```sh\nhelm test `x y`\n```\n`make demo` ends it, and so does `helm upgrade --wait` or `kubectl apply -f crds/`.\n";
    let found = inline(text);
    assert_eq!(
        found,
        [
            "kubectl get jobs",
            "UPDATE=1 cargo test --lib",
            "kubectl get",
            "make demo",
            "helm upgrade --wait",
            "kubectl apply -f crds/"
        ]
    );
    let mentions: Vec<_> = found.iter().filter(|command| is_mention(command)).collect();
    assert_eq!(mentions, ["kubectl get", "helm upgrade --wait"]);
}

/// Whether a filter of tests finds any: a module of this name, or a test with these words in its name.
fn is_found(folder: &Path, filter: &str) -> bool {
    let word = filter.rsplit("::").next().unwrap_or_default();
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let file = entry.unwrap().path();
        let is_module = file.file_stem().is_some_and(|stem| stem == word);
        if file.is_dir() {
            return is_module || is_found(&file, filter);
        }
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let is_test = |line: &str| line.split_once("fn ").is_some_and(|(_, name)| name.contains(word));
        is_module || text.lines().any(is_test)
    })
}

#[tokio::test]
async fn every_target_and_every_test_that_a_page_names_is_there() {
    let manifests = ["Cargo.toml", "tests/harness/Cargo.toml"];
    let manifests = manifests
        .map(|file| std::fs::read_to_string(path(file)).unwrap())
        .concat();
    let (mut targets, mut layers) = (0, 0);
    for command in commands() {
        if command.starts_with("make ") {
            let dry = format!("{command} --just-print --silent");
            let outcome = run(Command::new("/bin/bash").args(["-c", &dry]).current_dir(path(""))).await;
            outcome.unwrap_or_else(|said| panic!("{command}: {said}"));
            targets += 1;
        }
        let command = without_assignments(&command);
        let words: Vec<&str> = command.split(' ').take_while(|word| *word != "--").collect();
        if words.starts_with(&["cargo", "test"]) {
            for pair in words.windows(2).filter(|pair| pair[0] == "--test") {
                assert!(manifests.contains(&format!("name = \"{}\"", pair[1])), "{command}");
            }
            let filter = words
                .last()
                .filter(|_| words.len() > 2 && !words[words.len() - 2].starts_with("--test"));
            let filter = filter.filter(|word| !word.starts_with('-'));
            let is_there =
                filter.is_none_or(|filter| is_found(&path("tests"), filter) || is_found(&path("src"), filter));
            assert!(is_there, "{command}: no test is called so");
            layers += 1;
        }
    }
    assert!(targets > 5 && layers > 5, "{targets} targets, {layers} layers");
}
