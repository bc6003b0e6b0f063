//! Wrong kubeconfigs.

use std::path::PathBuf;

use futures::future::join_all;
use harness::guard;

use super::{ANYWHERE, PASSWORD, check, no_postgres, said};

/// A kubeconfig of one context, in a folder of its own.
fn kubeconfig(cluster: &str, user: &str, context: &str) -> PathBuf {
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}, {{name: y, context: {{cluster: gone, user: u}}}}]\n\
         current-context: {context}\n"
    );
    write(&text)
}

fn write(text: &str) -> PathBuf {
    let path = guard::fresh_directory("kubeconfig").unwrap().join("config");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_wrong_kubeconfig_is_answered_with_its_path_or_server_and_what_to_do() {
    let http = no_postgres();
    let (nowhere, plain) = ("server: 'http://127.0.0.1:1'", format!("server: 'http://{http}'"));
    let tls = "server: 'https://me:hunter2secret@127.0.0.1:1'";
    let exec = |command: &str| format!("exec: {{apiVersion: client.authentication.k8s.io/v1, command: {command}}}");
    let cases: Vec<(PathBuf, Vec<&str>)> = vec![
        (
            "/nope".into(),
            vec!["the kubeconfig /nope cannot be used: /nope cannot be read"],
        ),
        (write("clusters: ["), vec!["it is no YAML of a kubeconfig", "line 1"]),
        (
            write(&format!("hunter2secret: {PASSWORD}: x")),
            vec!["it is no YAML of a kubeconfig"],
        ),
        (write(""), vec!["it names no current-context"]),
        (
            kubeconfig(nowhere, "token: t", "z"),
            vec!["its current-context, z, is none of its contexts"],
        ),
        (
            kubeconfig(nowhere, "token: t", "y"),
            vec!["the cluster of its current-context, gone, is none of its clusters"],
        ),
        (
            kubeconfig("server: 'a b'", "token: t", "x"),
            vec!["the server of its cluster is no URL"],
        ),
        (
            kubeconfig("tls-server-name: a", "token: t", "x"),
            vec!["its cluster has no server"],
        ),
        (
            kubeconfig("server: 'https://a', certificate-authority: /nope.crt", "token: t", "x"),
            vec!["/nope.crt, which certificate-authority names, cannot be read"],
        ),
        (
            kubeconfig("server: 'https://a', certificate-authority-data: '%'", "token: t", "x"),
            vec!["its certificate-authority-data is no base64"],
        ),
        (
            kubeconfig(tls, "client-certificate: /nope.crt, client-key: /nope.key", "x"),
            vec!["the API server at https://127.0.0.1:1 cannot be asked: /nope.crt, which client-certificate names"],
        ),
        (
            kubeconfig(tls, "tokenFile: /nope", "x"),
            vec![
                "no credentials for the API server",
                "/nope, which tokenFile names, cannot be read",
            ],
        ),
        (
            kubeconfig(tls, &exec("no-such-command"), "x"),
            vec!["the command of its user's exec cannot be started"],
        ),
        (
            kubeconfig(tls, &exec("/bin/false"), "x"),
            vec!["the command of its user's exec has failed: exit status: 1"],
        ),
        (
            kubeconfig(nowhere, "token: t", "x"),
            vec!["the API server at http://127.0.0.1:1: Connection refused"],
        ),
        (
            kubeconfig(&plain, "token: t", "x"),
            vec!["it answers 400 and not as an API server does: look at its address"],
        ),
        (
            kubeconfig(
                "server: 'https://127.0.0.1:1', proxy-url: 'socks5://me:hunter2secret@x'",
                "token: t",
                "x",
            ),
            vec!["a proxy of the kind socks5 cannot be used"],
        ),
    ];
    join_all(cases.iter().map(async |(path, words)| {
        let path = path.to_str().unwrap();
        let said = said(
            &["sweep", "--dry-run", "--kubeconfig", path],
            &[("DATABASE_URL", ANYWHERE)],
        )
        .await;
        let content = std::fs::read_to_string(path).unwrap_or_default();
        check(&content, &said, words);
    }))
    .await;
    let without = [("DATABASE_URL", ANYWHERE), ("HOME", "/nope")];
    let said = said(&["sweep", "--dry-run"], &without).await;
    let words = [
        "no cluster is configured",
        "--kubeconfig or KUBECONFIG",
        "/nope/.kube/config cannot be read",
        "or run in a Pod",
    ];
    check("no kubeconfig", &said, &words);
}
