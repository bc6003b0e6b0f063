//! What the chart refuses, and in which words.

use crate::support::{LEAST, chart, helm, try_set};

/// A rendering that is refused; what is said of it.
async fn refusal(values: &[&str]) -> String {
    match try_set(values).await {
        Ok(rendered) => panic!("{values:?} is not refused:\n{rendered}"),
        Err(said) => said,
    }
}

#[tokio::test]
async fn helm_lint_finds_nothing() {
    let chart = chart();
    let lint = helm(&["lint", "--strict", chart.to_str().unwrap(), "--set", LEAST[0]]).await;
    assert!(lint.is_ok(), "{lint:?}");
}

#[tokio::test]
async fn keys_and_values_that_the_schema_does_not_know_are_refused_by_name() {
    let cases: &[(&str, &[&str])] = &[
        ("replicas=3", &["additional properties 'replicas' not allowed"]),
        (
            "settings.unmanagedGrce=1m",
            &["at '/settings'", "'unmanagedGrce' not allowed"],
        ),
        ("image.tags=1", &["at '/image'", "'tags' not allowed"]),
        ("replicaCount=two", &["at '/replicaCount'", "got string, want integer"]),
        ("replicaCount=-1", &["at '/replicaCount'", "minimum"]),
        (
            "settings.mode=shared",
            &["at '/settings/mode'", "'standalone', 'attached'"],
        ),
        ("settings.sweepInterval=30", &["at '/settings/sweepInterval'"]),
        (
            "settings.sweepInterval=soon",
            &["at '/settings/sweepInterval'", "does not match pattern"],
        ),
        (
            "settings.noticeBy={runs,wishes}",
            &["at '/settings/noticeBy/1'", "'runs', 'objects', 'deadlines'"],
        ),
        (
            "settings.runKinds[0].kind=Job",
            &[
                "at '/settings/runKinds/0'",
                "missing properties 'apiVersion', 'resource'",
            ],
        ),
        (
            "settings.runTrigger=perhaps",
            &["at '/settings/runTrigger'", "want boolean"],
        ),
        ("database.port=70000", &["at '/database/port'"]),
        ("database.tls.mode=strict", &["at '/database/tls/mode'"]),
        ("migration.mode=never", &["at '/migration/mode'", "'start', 'hook'"]),
        ("serviceMonitor.enabled=true", &["at '/serviceMonitor/enabled'"]),
        ("resources.limits.memory=much", &["at '/resources/limits/memory'"]),
    ];
    for (value, words) in cases {
        let said = refusal(&[LEAST[0], value]).await;
        for word in *words {
            assert!(said.contains(word), "{value}: no {word:?} in {said}");
        }
    }
}

#[tokio::test]
async fn durations_are_taken_in_the_units_of_their_flag() {
    for value in [
        "settings.retention=90d",
        "settings.sweepInterval=5ms",
        "settings.watchTimeout=1m",
    ] {
        let rendered = try_set(&[LEAST[0], value]).await;
        assert!(rendered.is_ok(), "{value}: {rendered:?}");
    }
    for value in ["settings.sweepInterval=1w", "settings.watchTimeout=1h"] {
        let said = refusal(&[LEAST[0], value]).await;
        assert!(said.contains("does not match pattern"), "{value}: {said}");
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_with_a_sentence() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "the operator needs a Postgres: set database.secretName"),
        (
            &["postgresql.embedded.enabled=true", "database.secretName=database"],
            "postgresql.embedded.enabled brings its own address and credentials",
        ),
        (
            &["postgresql.embedded.enabled=true", "migration.mode=hook"],
            "use migration.mode=start",
        ),
        (
            &["database.secretName=database", "settings.namespaces={a}"],
            "set settings.clusterId",
        ),
        (
            &[
                "database.secretName=database",
                "database.tls.secretName=tls",
                "database.tls.certificateKey=tls.crt",
            ],
            "a client certificate needs both",
        ),
        (
            &[
                "database.secretName=database",
                "database.tls.certificateKey=tls.crt",
                "database.tls.privateKeyKey=tls.key",
            ],
            "set database.tls.secretName",
        ),
    ];
    for (values, sentence) in cases {
        let said = refusal(values).await;
        assert!(said.contains(sentence), "{values:?}: {said}");
    }
}
