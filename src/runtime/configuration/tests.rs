use clap::{CommandFactory as _, Parser};

use super::*;

#[derive(Debug, Parser)]
struct TestCommand {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    log: LogSettings,
}

/// Flags beside a database; the twins in the environment are taken away, so that nothing ambient is read.
fn parse(flags: &[&str]) -> Result<Settings, clap::Error> {
    let command = TestCommand::command().mut_args(|argument| argument.env(None::<&str>));
    let arguments = ["test", "--database-url", "postgres://operator:secret@db/paperclip"]
        .iter()
        .chain(flags);
    let matches = command.try_get_matches_from(arguments)?;
    Ok(<TestCommand as clap::FromArgMatches>::from_arg_matches(&matches)?.settings)
}

/// The first line of the refusal: the sentence.
fn refusal(flags: &[&str]) -> String {
    parse(flags)
        .unwrap_err()
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let settings = parse(&[]).unwrap();

    assert_eq!(settings.database.mode, Mode::Standalone);
    assert_eq!(settings.identity.cluster_id, None);
    assert_eq!(settings.identity.installation, "default");
    assert_eq!(settings.identity.namespaces, [""; 0]);
    assert_eq!(settings.endings.run_kinds, ["batch/v1/Job".parse().unwrap()]);
    assert_eq!(settings.endings.unmanaged_grace, Duration::from_secs(15 * 60));
    assert_eq!(settings.endings.sources().len(), 5);
    assert_eq!(settings.pace.sweep_interval, Duration::from_secs(30));
    assert_eq!(settings.pace.resync_interval, Duration::from_secs(600));
    assert_eq!(settings.pace.watch_timeout, Duration::from_secs(55));
    assert_eq!(settings.pace.drain_timeout, Duration::from_secs(10));
    assert_eq!(settings.listen.to_string(), "[::]:8080");
}

#[test]
fn a_collector_is_named_with_its_scheme_and_host() {
    assert_eq!(parse(&[]).unwrap().otlp_endpoint, None);
    for good in ["http://collector:4317", "https://traces.example/otlp"] {
        let settings = parse(&[&format!("--otlp-endpoint={good}")]).unwrap();
        assert_eq!(settings.otlp_endpoint.as_deref(), Some(good));
    }
    for bad in ["collector:4317", "grpc://collector:4317", "http://", "", "http:///v1"] {
        assert!(
            refusal(&[&format!("--otlp-endpoint={bad}")]).contains("http://"),
            "{bad}"
        );
    }
}

#[test]
fn every_flag_has_its_twin_in_the_environment() {
    for argument in TestCommand::command().get_arguments() {
        let name = argument.get_id().as_str();
        let expected = match name {
            "help" | "version" | "kubeconfig" => continue,
            "database_url" => "DATABASE_URL".to_owned(),
            _ => format!("ENVIRONMENT_OPERATOR_{}", name.to_uppercase()),
        };
        assert_eq!(
            argument.get_env().and_then(|twin| twin.to_str()),
            Some(expected.as_str()),
            "{name}"
        );
    }
}

#[test]
fn unmanaged_leases_end_standalone_and_are_reported_attached_unless_told_otherwise() {
    let endings = parse(&[]).unwrap().endings;
    assert_eq!(endings.unmanaged_leases(Mode::Standalone), UnmanagedLeases::End);
    assert_eq!(endings.unmanaged_leases(Mode::Attached), UnmanagedLeases::Report);

    let endings = parse(&["--unmanaged-leases", "ignore"]).unwrap().endings;
    assert_eq!(endings.unmanaged_leases(Mode::Standalone), UnmanagedLeases::Ignore);
}

#[test]
fn lists_are_separated_by_commas() {
    let settings = parse(&[
        "--namespaces=team-a,team-b",
        "--run-kinds=v1/Pod,argoproj.io/v1alpha1/Workflow",
        "--notice-by=sweep",
    ])
    .unwrap();

    assert_eq!(settings.identity.namespaces, ["team-a", "team-b"]);
    assert_eq!(settings.endings.run_kinds[0].api_version(), "v1");
    assert_eq!(
        settings.endings.run_kinds[1].to_string(),
        "argoproj.io/v1alpha1/Workflow"
    );
    assert_eq!(settings.endings.sources(), BTreeSet::from([NoticeSource::Sweep]));
}

#[test]
fn a_run_kind_is_known_by_group_and_kind_whatever_the_version() {
    let workflow: RunKind = "argoproj.io/v1alpha1/Workflow".parse().unwrap();
    assert!(workflow.is("argoproj.io", "Workflow"));
    assert!(!workflow.is("", "Workflow"));
    assert!(!workflow.is("argoproj.io", "CronWorkflow"));

    let settings = parse(&["--run-kinds=batch/v1/Job,v1/Pod,batch/v2/Job,batch.example/v1/Job"]).unwrap();
    let watched: Vec<String> = settings
        .endings
        .watched_kinds()
        .iter()
        .map(RunKind::to_string)
        .collect();
    assert_eq!(watched, ["batch/v1/Job", "v1/Pod", "batch.example/v1/Job"]);
}

#[test]
fn every_bad_value_is_refused_with_one_sentence_that_says_what_to_write() {
    const DURATION: &str = "write a whole number and a unit (ms, s, m, h or d), as in 5ms, 30s or 10m, from 1ms to 30d";
    const KIND: &str = "write group/version/Kind, or version/Kind for the core group, as in batch/v1/Job or v1/Pod";
    const NAMESPACES: &str = "write names of namespaces with commas between them, as in team-a,team-b; leave the \
                              setting away for all namespaces";
    const CONNECTIONS: &str = "write a whole number from 4 to 100";
    const LISTEN: &str =
        "write an IP address and a port, as in [::]:8080, 0.0.0.0:8080 or 127.0.0.1:9090; names are not looked up";
    const NAME: &str = "write 1 to 63 letters, digits, hyphens, underscores or dots";
    for (flag, value, placeholder, sentence) in [
        ("--sweep-interval", "30", "DURATION", DURATION),
        ("--sweep-interval", "0s", "DURATION", DURATION),
        ("--sweep-interval", "1.5s", "DURATION", DURATION),
        ("--resync-interval", "s", "DURATION", DURATION),
        ("--unmanaged-grace", "721h", "DURATION", DURATION),
        (
            "--retention",
            "3651d",
            "DURATION",
            "write a whole number and a unit (ms, s, m, h or d), as in 12h or 90d, to 3650d at most",
        ),
        ("--drain-timeout", "99999999999999999999ms", "DURATION", DURATION),
        (
            "--watch-timeout",
            "61s",
            "DURATION",
            "write 1s to 60s, in whole seconds",
        ),
        (
            "--watch-timeout",
            "500ms",
            "DURATION",
            "write 1s to 60s, in whole seconds",
        ),
        ("--run-kinds", "Job", "KINDS", KIND),
        ("--run-kinds", "batch/v1/job", "KINDS", KIND),
        ("--run-kinds", "/v1/Pod", "KINDS", KIND),
        ("--namespaces", "", "NAMESPACES", NAMESPACES),
        ("--namespaces", "Team", "NAMESPACES", NAMESPACES),
        ("--installation", "", "NAME", NAME),
        ("--cluster-id", "a b", "ID", NAME),
        ("--database-connections", "3", "NUMBER", CONNECTIONS),
        ("--database-connections", "many", "NUMBER", CONNECTIONS),
        ("--listen", "8080", "ADDRESS", LISTEN),
        ("--listen", "localhost:8080", "ADDRESS", LISTEN),
    ] {
        assert_eq!(
            refusal(&[&format!("{flag}={value}")]),
            format!("error: invalid value '{value}' for '{flag} <{placeholder}>': {sentence}")
        );
    }
    assert_eq!(
        refusal(&["--mode=detached"]),
        "error: invalid value 'detached' for '--mode <MODE>'"
    );
    assert_eq!(
        refusal(&["--notice-by=runs,fax"]),
        "error: invalid value 'fax' for '--notice-by <SOURCES>'"
    );
    for filter in ["inof", "", "info,environment_operator=loud"] {
        let sentence = refusal(&[&format!("--log={filter}")]);
        assert!(
            sentence.ends_with("or targets with levels, as in info,environment_operator=debug"),
            "{sentence}"
        );
    }
    assert!(parse(&["--log=off"]).is_ok() && parse(&["--log=warn,sqlx=debug"]).is_ok());
}

#[test]
fn no_way_of_printing_the_settings_shows_the_database_s_password() {
    for url in [
        "postgres://operator:hunter2@db:5433/paperclip",
        "postgres://operator:hunter2%40x@db:5433/paperclip?sslmode=require",
        "postgres://db:5433/paperclip?user=operator&password=hunter2",
        "postgres://db:5433/paperclip?user=operator&password=a@hunter2",
    ] {
        let url: DatabaseUrl = url.parse().unwrap();
        assert_eq!(format!("{url}"), "db:5433/paperclip");
        assert_eq!(format!("{url:?}"), "DatabaseUrl(db:5433/paperclip)");
    }
    for url in [
        "hunter2",
        "postgres://operator:hunter2?@db/paperclip",
        "postgres://operator:hunter2@db:port/paperclip",
    ] {
        let url: DatabaseUrl = url.parse().unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter2"), "{url}");
    }
    assert!(!format!("{:?}", parse(&[]).unwrap()).contains("secret"));
}

#[test]
fn help_never_shows_the_database_s_url() {
    let command = TestCommand::command();
    let database = command
        .get_arguments()
        .find(|argument| argument.get_id() == "database_url")
        .unwrap();
    assert!(database.is_hide_env_values_set());
}
