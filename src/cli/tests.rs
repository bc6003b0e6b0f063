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
    assert_eq!(
        names,
        [
            "run",
            "migrate",
            "sweep",
            "new-incarnation",
            "accept-database",
            "uninstall-database",
            "crds"
        ]
    );
}

#[test]
fn without_a_database_run_says_which_setting_is_missing() {
    let command =
        CommandLine::command().mut_subcommand("run", |run| run.mut_args(|argument| argument.env(None::<&str>)));
    let refusal = command.try_get_matches_from([NAME, "run"]).unwrap_err().to_string();
    assert!(refusal.contains("--database-url <URL>"), "{refusal}");
}

#[test]
fn a_bad_database_url_is_refused_without_quoting_its_password() {
    let line =
        CommandLine::try_parse_from([NAME, "migrate", "--database-url=postgres://me:hunter2@db:port/x"]).unwrap();
    let Error::Start(error) = execute(line).unwrap_err() else {
        panic!("not refused by the store")
    };
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn crds_are_two_documents() {
    assert_eq!(crds::yaml().matches("kind: CustomResourceDefinition").count(), 2);
}

#[test]
fn uninstalling_keeps_the_history_unless_a_person_decides_otherwise() {
    for (mode, statements) in [
        ("standalone", &[][..]),
        ("attached", &["DROP SCHEMA IF EXISTS environment_operator CASCADE;"]),
    ] {
        let line = CommandLine::try_parse_from([NAME, "uninstall-database", "--mode", mode]).unwrap();
        let Command::UninstallDatabase(arguments) = line.command else {
            panic!("another subcommand")
        };
        let sql = uninstall_database::sql(&arguments);
        let printed: Vec<&str> = sql.lines().filter(|line| !line.starts_with("--")).collect();
        assert_eq!(printed, statements, "{mode}");
    }
}
