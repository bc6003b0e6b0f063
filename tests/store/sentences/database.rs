//! Wrong database URLs.

use std::net::TcpListener;

use futures::future::join_all;
use harness::guard;
use sqlx::Executor;
use uuid::Uuid;

use super::{PASSWORD, check, no_postgres, said};
use crate::support::fresh_database;

#[tokio::test]
async fn a_wrong_database_url_is_answered_with_its_host_and_what_to_do() {
    let database = fresh_database().await;
    let options = database.options().unwrap();
    let place = format!("{}:{}", options.get_host(), options.get_port());
    let folder = guard::fresh_directory("sentences").unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (no_pem, folder) = (file("no.pem", "no certificate"), folder.to_str().unwrap().to_owned());
    let role = format!("role_{}", Uuid::new_v4().simple());
    let mut admin = database.connect().await.unwrap();
    admin
        .execute(sqlx::AssertSqlSafe(format!(
            "CREATE ROLE {role} LOGIN CONNECTION LIMIT 0"
        )))
        .await
        .unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = no_postgres();
    let (silent_place, http_place) = (silent.local_addr().unwrap().to_string(), http.to_string());
    let at = |rest: &str| format!("postgres://postgres:{PASSWORD}@{rest}");
    let cases: Vec<(String, Vec<&str>)> = vec![
        (
            String::new(),
            vec!["DATABASE_URL cannot be used: it is empty: write postgres://user:password@host:port/database"],
        ),
        (
            format!("host=db user=me password={PASSWORD}"),
            vec!["form of keywords", "a URL is needed: write postgres://user"],
        ),
        (
            "mysql://db/x".into(),
            vec!["does not begin with postgres://: write postgres://user:password@host"],
        ),
        (
            format!("postgres://{place}/x"),
            vec!["it names no user, and PGUSER is not set: write postgres://user"],
        ),
        (format!("postgres://{place}/x?user="), vec!["it names no user"]),
        (at("db:54320000/x"), vec!["a port is a number from 1 to 65535"]),
        (
            at("db/x?sslmode=on"),
            vec!["sslmode is disable, allow, prefer, require, verify-ca or verify-full"],
        ),
        (
            at("127.0.0.1:1/x"),
            vec!["127.0.0.1:1: nothing listens there", "look at host and port"],
        ),
        (at("[::1]:1/x"), vec!["[::1]:1: "]),
        (
            at("nowhere.invalid/x"),
            vec!["nowhere.invalid:5432: the name of the host cannot be looked up"],
        ),
        (
            at(&format!("/x?host={folder}")),
            vec![&folder, "no server has its socket in this folder"],
        ),
        (
            at(&format!("{http_place}/x")),
            vec![&http_place, "does not answer as Postgres does", "look at host and port"],
        ),
        (
            at(&format!("{silent_place}/x?connect_timeout=1")),
            vec![&silent_place, "did not answer within 1 s"],
        ),
        (
            at(&format!("{place}/nowhere")),
            vec![&place, "database \"nowhere\" does not exist"],
        ),
        (
            format!("postgres://nobody@{place}/x"),
            vec![&place, "role \"nobody\" does not exist"],
        ),
        (
            format!("postgres://{role}@{place}/{}", database.name()),
            vec![&place, "too many connections for role"],
        ),
        (
            at(&format!("{place}/{}?options=-c%20nope=1", database.name())),
            vec![&place, "parameter options", "\"nope\"", "remove it"],
        ),
        (
            at(&format!("{place}/x?sslmode=require")),
            vec![&place, "no encrypted connection can be made"],
        ),
        (
            at(&format!("{place}/x?sslmode=verify-full&sslrootcert=/nope.pem")),
            vec![&place, "/nope.pem, which sslrootcert names, cannot be read"],
        ),
        (
            at(&format!("{place}/x?sslmode=require&sslcert={no_pem}&sslkey=/nope.key")),
            vec![&place, "/nope.key, which sslkey names, cannot be read"],
        ),
        (
            at(&format!("{place},127.0.0.1:1/nowhere")),
            vec![
                "none of the hosts can be used: ",
                &place,
                "does not exist; 127.0.0.1:1: nothing listens there",
            ],
        ),
    ];
    join_all(cases.iter().map(async |(url, words)| {
        let said = said(&["migrate"], &[("DATABASE_URL", url)]).await;
        check(url, &said, words);
    }))
    .await;
    let by_variable = said(
        &["migrate"],
        &[("DATABASE_URL", &format!("postgres://{place}/x")), ("PGUSER", "nobody")],
    )
    .await;
    check("PGUSER", &by_variable, &["role \"nobody\" does not exist"]);
    admin
        .execute(sqlx::AssertSqlSafe(format!("DROP ROLE {role}")))
        .await
        .unwrap();
}
