use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn every_subcommand_is_there() {
    let command = CommandLine::command();
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(names, ["uninstall-database", "crds"]);
}

#[test]
fn crds_are_two_documents() {
    assert_eq!(crds::yaml().matches("kind: CustomResourceDefinition").count(), 2);
}

#[test]
fn uninstalling_keeps_the_history_unless_a_person_decides_otherwise() {
    let line = CommandLine::try_parse_from([NAME, "uninstall-database", "--mode=standalone"]).unwrap();
    let Command::UninstallDatabase(arguments) = line.command else {
        panic!("another subcommand")
    };
    let sql = uninstall_database::sql(&arguments);
    let statements: Vec<&str> = sql
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
        .collect();
    assert_eq!(statements, ["DROP SCHEMA IF EXISTS environment_operator CASCADE;"]);
}
