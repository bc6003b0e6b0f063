//! The commands of the runbooks are ones that kubectl and the operator take.

use crate::installed::installed;
use crate::operator::PROGRAM;
use crate::support::{path, run};

/// The lines of the runbooks' blocks of shell, without what they are piped into.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    for entry in std::fs::read_dir(path("docs/runbooks")).unwrap() {
        let page = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for block in page.split("```sh\n").skip(1) {
            let lines = block.split("```").next().unwrap().lines();
            commands.extend(lines.map(|line| line.split(" | ").next().unwrap().to_owned()));
        }
    }
    commands.sort();
    commands.dedup();
    commands
}

#[tokio::test]
async fn what_a_runbook_looks_at_with_kubectl_can_be_looked_at() {
    let control_plane = installed().await;
    let mut looked = 0;
    for command in commands() {
        let Some(arguments) = command.strip_prefix("kubectl ") else {
            assert!(
                command.starts_with("curl ") || command.starts_with("psql "),
                "{command}"
            );
            continue;
        };
        let words: Vec<&str> = arguments.split(' ').collect();
        let verb = if words[0] == "--namespace" { words[2] } else { words[0] };
        if ["get", "describe", "logs", "api-resources"].contains(&verb) {
            let mut kubectl = control_plane.kubectl().await.unwrap();
            let outcome = run(kubectl.args(&words)).await;
            outcome.unwrap_or_else(|said| panic!("{command}: {said}"));
            looked += 1;
        } else {
            // These need a Pod that runs, or change something.
            assert!(["exec", "port-forward", "scale"].contains(&verb), "{command}");
        }
    }
    assert!(looked > 10, "only {looked} commands were found");
}

#[tokio::test]
async fn what_a_runbook_asks_of_the_operator_is_a_command_of_its_own() {
    let of_the_operator = |command: String| {
        command
            .split_once(" -- /environment-operator ")
            .map(|(_, rest)| rest.to_owned())
    };
    let asked: Vec<String> = commands().into_iter().filter_map(of_the_operator).collect();
    assert!(!asked.is_empty());
    for arguments in asked {
        let mut program = tokio::process::Command::new(PROGRAM);
        let outcome = run(program.args(arguments.split(' ')).arg("--help")).await;
        outcome.unwrap_or_else(|said| panic!("{arguments}: {said}"));
    }
}
