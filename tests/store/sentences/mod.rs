//! What the program says of settings that are wrong, to somebody who knows nothing of its source code: what is wrong, where, and what
//! to do.

use std::net::TcpListener;
use std::path::Path;

mod database;
mod flags;
mod kubeconfig;

const PROGRAM: &str = env!("CARGO_BIN_EXE_environment-operator");

const PASSWORD: &str = "hunter2secret";

/// A database that nobody needs to reach, for what is wrong with something else.
const ANYWHERE: &str = "postgres://me:hunter2secret@127.0.0.1:1/x";

/// How a structure of the source code looks, a driver's own prefix, or a text that was quoted twice.
const NO_SENTENCE: &[&str] = &[
    "Os {",
    "Some(",
    "None",
    "Ok(",
    "Err(",
    "Error(",
    "Error:",
    "Status {",
    "Output {",
    "'\"",
    "\\\"",
    "error returned from database",
    "error communicating with",
    "failed to ",
    "Failed to ",
    "sqlx",
    "rs:",
    "{",
    "}",
    "anonymous",
];

/// Runs the program with this environment alone, and returns what it says. It must have failed, in one line.
async fn said(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = tokio::process::Command::new(PROGRAM);
    command
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .kill_on_drop(true);
    let limited = tokio::time::timeout(std::time::Duration::from_secs(60), command.output());
    let output = limited.await.expect("it ends by itself").unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{arguments:?} {environment:?}: {said}");
    said
}

/// Whether a text is one sentence for people; and never the password.
fn check(of: &str, said: &str, words: &[&str]) {
    let sentence = said.trim_end().strip_prefix("environment-operator: ");
    let sentence = sentence.unwrap_or_else(|| panic!("{of}: {said}"));
    assert_eq!(sentence.lines().count(), 1, "{of}: {said}");
    for word in words {
        assert!(sentence.contains(word), "{of}: it does not say {word:?}: {sentence}");
    }
    let strange: Vec<_> = NO_SENTENCE.iter().filter(|sign| sentence.contains(**sign)).collect();
    assert!(strange.is_empty(), "{of}: {strange:?} in: {sentence}");
    // A line of a file that the reader has is told with its column; a line alone is one of somebody's source code.
    let of_source_code = sentence.contains(" at line ") && !sentence.contains(", column ");
    assert!(!of_source_code, "{of}: {sentence}");
    assert!(!said.contains(PASSWORD), "{of}: {said}");
}

/// A server that speaks, and not as Postgres does; as many times as it is asked.
fn no_postgres() -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _read = stream.read(&mut [0; 512]);
            let _written = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn what_is_no_sentence_is_recognized() {
    let outcome = std::panic::catch_unwind(|| {
        let error = std::io::Error::from_raw_os_error(2);
        check(
            "a path",
            &format!("environment-operator: {:?} cannot be read: {error:?}", Path::new("/x")),
            &[],
        );
    });
    assert!(outcome.is_err());
}
