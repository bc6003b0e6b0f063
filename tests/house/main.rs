//! Crate layout rules that the compiler does not check: imports run one way, every task is supervised, and more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod causes;
mod logs;
mod picture;
mod shape;

/// The modules that a module may import from, itself apart: cli -> controller -> runtime, and projection -> cache below both;
/// controller -> mirror -> store -> lifecycle -> api. Of two neighbours only one may know the other: the controller reports to
/// the process's metrics and health, which count what the cache holds. `clock` and `random` know nobody, and no module that
/// decides knows them.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("clock", &[]),
    ("random", &[]),
    ("lifecycle", &["api"]),
    ("store", &["random", "lifecycle", "api"]),
    ("mirror", &["store", "lifecycle", "api"]),
    ("cache", &["lifecycle", "api"]),
    ("projection", &["cache", "store", "lifecycle", "api"]),
    ("runtime", &["random", "mirror", "cache", "store", "lifecycle", "api"]),
    (
        "controller",
        &[
            "clock",
            "random",
            "runtime",
            "projection",
            "mirror",
            "cache",
            "store",
            "lifecycle",
            "api",
        ],
    ),
    (
        "cli",
        &[
            "random",
            "controller",
            "runtime",
            "projection",
            "mirror",
            "cache",
            "store",
            "lifecycle",
            "api",
        ],
    ),
];

#[test]
fn imports_run_one_way() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for file in sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))) {
        let Some(room) = room_of(&file) else { continue };
        let Some(others) = allowed.get(room.as_str()) else {
            wrong.push(format!(
                "{}: the room {room} is not in the list of this test",
                file.display()
            ));
            continue;
        };
        looked_at += 1;
        let text = std::fs::read_to_string(&file).unwrap();
        for other in rooms_named_in(&text) {
            if other != room && allowed.contains_key(other.as_str()) && !others.contains(&other.as_str()) {
                wrong.push(format!("{}: {room} must not import from {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked_at > 10, "only {looked_at} files were found");
}

/// Files that may start a task without the supervisor, and why.
const UNSUPERVISED: &[(&str, &str)] = &[
    ("src/runtime/shutdown.rs", "waits for one signal, and does nothing else"),
    (
        "src/mirror/batcher.rs",
        "tells by Mirror::broken, for which the controller listens",
    ),
    (
        "src/controller/workers.rs",
        "each reconcile is its key's, which fails where it panics",
    ),
];

#[test]
fn every_task_is_supervised() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = Vec::new();
    for file in sources(&root.join("src")) {
        let name = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let tests = name.ends_with("tests.rs") || name.contains("/tests/") || name == "src/runtime/supervision.rs";
        let starts = ["tokio::spawn(", "task::spawn(", "thread::spawn(", "JoinSet::new("];
        if !tests && starts.iter().any(|start| code.contains(start)) {
            seen.push(name);
        }
    }
    seen.sort();
    let mut allowed: Vec<&str> = UNSUPERVISED.iter().map(|(name, _)| *name).collect();
    allowed.sort_unstable();
    assert_eq!(
        seen, allowed,
        "use runtime::supervision::Supervisor, or say here why not"
    );
}

#[test]
fn a_wrong_import_is_seen_in_every_spelling() {
    let text = "use crate::store::Row;\nuse crate::{\n    api::Lease,\n    mirror::{self, Request},\n};\n\
                // crate::cli is only talked about\nlet row = crate::projection::project(row);\npub use crate::runtime;\n";
    assert_eq!(
        rooms_named_in(text),
        ["store", "api", "mirror", "projection", "runtime"]
    );
}

/// Where the driver's own connections, pools and transactions may be spoken of. Everywhere else statements are run on a
/// `Session` or the `Pool`, where each of them has an end.
const DRIVER: &[&str] = &[
    "src/store/address.rs",
    "src/store/connection/manager.rs",
    "src/store/connection/mod.rs",
    "src/store/connection/settings.rs",
    "src/store/heartbeat_runs.rs",
    "src/store/pool.rs",
    "src/store/session.rs",
];

#[test]
fn no_statement_is_run_but_on_a_session_that_has_an_end_for_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut users = Vec::new();
    for file in sources(&root.join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let is_user = ["PgConn", "PgPool", "PgListener", "sqlx::Transaction", "sqlx::Pool"];
        if is_user.iter().any(|word| text.contains(word)) {
            users.push(name);
        }
    }
    users.sort();
    assert_eq!(users, DRIVER);
}

/// Whose statements past the mirror are examined by who runs them: a part of the sweep, and what is only measured.
const EXAMINED_ELSEWHERE: [&str; 2] = ["src/controller/background/unmanaged_leases.rs", "src/controller/run.rs"];

#[test]
fn a_failure_past_the_mirror_is_told_only_after_a_look_at_the_database() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut elsewhere = Vec::new();
    for file in sources(&root.join("src/controller")) {
        let text = std::fs::read_to_string(&file).unwrap();
        if text.contains(".store()") && !text.contains(".examined(") {
            elsewhere.push(file.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
    elsewhere.sort();
    assert_eq!(elsewhere, EXAMINED_ELSEWHERE);
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The room that a file lies in: the folder or file below `src`; `None` for the crate's own roots, which name them all.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    let room = inside
        .components()
        .next()?
        .as_os_str()
        .to_str()?
        .trim_end_matches(".rs");
    // The tests that hold documents to the code name every room, and no room names them.
    (!matches!(room, "lib" | "main" | "documentation")).then(|| room.to_owned())
}

/// The first name after each `crate::`, and each name right inside of a `crate::{…}`; comments do not count.
fn rooms_named_in(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut rooms = Vec::new();
    for (place, _) in code.match_indices("crate::") {
        let rest = &code[place + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(first_name(rest)),
            Some(list) => {
                let mut depth = 0;
                let mut starts_here = true;
                for (offset, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => starts_here = true,
                        letter if starts_here && !letter.is_whitespace() => {
                            rooms.push(first_name(&list[offset..]));
                            starts_here = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

fn first_name(text: &str) -> String {
    text.chars()
        .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
        .collect()
}
