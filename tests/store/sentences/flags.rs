//! Wrong flags and variables.

use std::net::TcpListener;

use futures::future::join_all;

use super::{ANYWHERE, NO_SENTENCE, check, said};

/// Arguments, environment, and the words of the answer.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test]
async fn a_wrong_flag_or_variable_is_answered_with_what_may_be_written() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let of_program = said(&["run", "--listen", &address], &[("DATABASE_URL", ANYWHERE)]).await;
    check(
        "a port that is taken",
        &of_program,
        &[
            &address,
            "cannot be listened on",
            "name another address and port by --listen",
        ],
    );
    let cases: &[Case] = &[
        (&[], &[], &["Usage: environment-operator"]),
        (&["runn"], &[], &["unrecognized subcommand 'runn'", "'run'"]),
        (&["run"], &[], &["--database-url <URL>"]),
        (&["sweep"], &[], &["--dry-run"]),
        (
            &["run", "--lisen=x"],
            &[],
            &["unexpected argument '--lisen'", "'--listen'"],
        ),
        (
            &["run", "--listen=localhost:80"],
            &[],
            &["'localhost:80'", "write an IP address and a port"],
        ),
        (
            &["run", "--sweep-interval=ten"],
            &[],
            &["'ten'", "write a whole number and a unit"],
        ),
        (
            &["run"],
            &[("ENVIRONMENT_OPERATOR_RETENTION", "90")],
            &["'90'", "--retention", "as in 12h or 90d"],
        ),
        (
            &["run", "--database-connections=2"],
            &[],
            &["'2'", "write a whole number from 4 to 100"],
        ),
        (
            &["run", "--mode=detached"],
            &[],
            &["'detached'", "standalone, attached"],
        ),
        (&["run", "--run-kinds=job"], &[], &["'job'", "as in batch/v1/Job"]),
        (
            &["run", "--otlp-endpoint=collector"],
            &[],
            &["'collector'", "as in http://collector:4317"],
        ),
        (
            &["run"],
            &[("ENVIRONMENT_OPERATOR_LOG", "loud")],
            &["'loud'", "write a level"],
        ),
        (
            &["run"],
            &[("ENVIRONMENT_OPERATOR_RUN_TRIGGER", "maybe")],
            &["'maybe'", "--run-trigger", "true, false"],
        ),
    ];
    join_all(cases.iter().map(async |(arguments, environment, words)| {
        let said = said(arguments, environment).await;
        for word in *words {
            assert!(said.contains(word), "{arguments:?}: it does not say {word:?}: {said}");
        }
        let strange: Vec<_> = NO_SENTENCE.iter().filter(|sign| said.contains(**sign)).collect();
        assert!(strange.is_empty(), "{arguments:?}: {strange:?} in: {said}");
    }))
    .await;
}
