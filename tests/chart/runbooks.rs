//! The commands of the documentation that only look are ones that kubectl and the operator take.

use crate::commands::{STORY, commands, look};
use crate::installed::installed;
use crate::operator::PROGRAM;
use crate::support::run;

#[tokio::test]
async fn what_a_page_looks_at_with_kubectl_can_be_looked_at() {
    let control_plane = installed().await;
    let mut looked = 0;
    for command in commands() {
        let Some(words) = look(&command).filter(|_| !STORY.contains(&command.as_str())) else {
            continue;
        };
        let mut kubectl = control_plane.kubectl().await.unwrap();
        let outcome = run(kubectl.args(&words)).await;
        outcome.unwrap_or_else(|said| panic!("{command}: {said}"));
        looked += 1;
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
