//! Ways that fall silent, hosts that are not there, and servers that never say anything: each wait has an end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use environment_operator::store::heartbeat_runs::{self, Heard};
use environment_operator::store::{Category, Mode, StartError, Store, StoreError, migrate};
use harness::guard::fresh_directory;
use harness::operator::Operator;
use harness::postgres::{Database, Postgres};
use harness::process::Process;
use harness::wait::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::*;

/// A way to the database that can fall silent: what is sent then never arrives, and no connection ends.
struct Way {
    here: SocketAddr,
    silences: watch::Sender<u32>,
    _serving: JoinSet<()>,
}

impl Way {
    async fn to(database: &Database, at: &str) -> Self {
        let options = database.options().unwrap();
        let far = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind(at).await.unwrap();
        let here = listener.local_addr().unwrap();
        let (silences, seen) = watch::channel(0);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect((far.0.as_str(), far.1)).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                connections.spawn(pass_on(near_in, far_out, seen.clone()));
                connections.spawn(pass_on(far_in, near_out, seen.clone()));
            }
        });
        Self {
            here,
            silences,
            _serving: serving,
        }
    }

    /// The connections that there are fall silent for ever; new ones find the way open.
    fn fall_silent(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    fn url(&self, database: &Database) -> String {
        let user = database.options().unwrap().get_username().to_owned();
        format!("postgres://{user}@{}/{}", self.here, database.name())
    }
}

async fn pass_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut silences: watch::Receiver<u32>,
) {
    let before = *silences.borrow();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = tokio::select! {
            biased;
            _ = async { drop(silences.wait_for(|silences| *silences > before).await) } => None,
            read = from.read(&mut buffer) => Some(read.unwrap_or(0)),
        };
        let Some(length) = length else {
            return std::future::pending().await; // both ends stay open
        };
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn on_a_way_that_falls_silent_statements_and_the_listener_end_and_new_sessions_take_their_place() {
    let world = TestEnvironment::new().await;
    let way = Way::to(&world.database, "127.0.0.1:0").await;
    let store = Store::open(&address(&way.url(&world.database)), Mode::Standalone, 4)
        .await
        .unwrap();
    let mut ends = heartbeat_runs::listen(&store).await.unwrap();
    let hears_itself = tokio::time::timeout(Duration::from_secs(10), ends.next()).await;
    assert_eq!(hears_itself.unwrap().unwrap(), Heard::Itself);
    let mut held = store.pool().session().await.unwrap();
    drop(store.pool().session().await.unwrap()); // an idle one

    way.fall_silent();
    let begin = Instant::now();
    let statement = async {
        let answer = sqlx::query("SELECT 1").execute(&mut held).await;
        (StoreError::from(answer.unwrap_err()).category(), begin.elapsed())
    };
    let listener = async { (ends.next().await.unwrap_err().category(), begin.elapsed()) };
    let ((statement, answered), (listener, noticed)) = tokio::join!(statement, listener);
    assert_eq!((statement, listener), (Category::Unavailable, Category::Unavailable));
    assert!(answered < Duration::from_secs(14), "{answered:?}");
    assert!(noticed < Duration::from_secs(12), "{noticed:?}");
    assert!(
        sqlx::query("SELECT 1").execute(&mut held).await.is_err(),
        "it is not used again"
    );
    drop(held);

    let begin = Instant::now();
    for _ in 0..4 {
        sqlx::query("SELECT 1").execute(store.pool()).await.unwrap();
    }
    heartbeat_runs::listen(&store).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_migration_whose_answer_is_lost_on_the_way_ends() {
    let database = fresh_database().await;
    let way = Way::to(&database, "127.0.0.1:0").await;
    // What the first migration makes is made by somebody who does not commit.
    let mut other = database.connect().await.unwrap();
    sqlx::raw_sql("BEGIN; CREATE SCHEMA environment_operator")
        .execute(&mut other)
        .await
        .unwrap();
    let mut looking = database.connect().await.unwrap(); // a transaction sees one moment's activity alone
    let address = address(&way.url(&database));
    let migration = environment_operator::store::migrate::migrate(&address, Mode::Standalone);
    let loses_the_way = async {
        eventually("the migration waits", Duration::from_secs(20), async || {
            let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let waits: i64 = sqlx::query_scalar(waits).fetch_one(&mut looking).await.unwrap();
            if waits == 1 { Ok(()) } else { Err(waits) }
        })
        .await;
        way.fall_silent();
    };
    let ended = tokio::time::timeout(Duration::from_secs(50), async {
        tokio::join!(migration, loses_the_way).0
    })
    .await;
    let StartError::Store(error) = ended.expect("it ends").unwrap_err() else {
        panic!("refused")
    };
    assert_eq!(error.category(), Category::Unavailable);
}

#[tokio::test]
async fn an_address_of_version_6_and_hosts_that_are_not_there_or_silent_are_no_hindrance() {
    let world = TestEnvironment::new().await;
    let way = Way::to(&world.database, "[::1]:0").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap(); // takes connections and says nothing
    let there = format!("[::1]:{}", way.here.port());
    let url = format!(
        "postgres://postgres@127.0.0.1:1,{},{there}/{}?target_session_attrs=read-write",
        silent.local_addr().unwrap(),
        world.database.name()
    );
    let hosts = address(&url);
    let store = Store::open(&hosts, Mode::Standalone, 2).await.unwrap();
    let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(store.pool()).await.unwrap();
    assert_eq!(one, 1);
    let begin = Instant::now();
    for _ in 0..2 {
        drop(store.pool().session().await.unwrap());
    }
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "the one that answered is tried first"
    );
}

#[tokio::test]
async fn a_server_that_can_only_be_read_is_passed_over_and_found_again_after_a_fail_over() {
    let folder = || fresh_directory("hosts").unwrap();
    let (one, two) = tokio::join!(async { Postgres::start(&folder()).await.unwrap() }, async {
        Postgres::start(&folder()).await.unwrap()
    });
    let (first, second) = (one.database().await.unwrap(), two.database().await.unwrap());
    let place = |database: &Database| {
        let options = database.options().unwrap();
        format!("{}:{}", options.get_host(), options.get_port())
    };
    let hosts = address(&format!(
        "postgres://postgres@{},{}/postgres",
        place(&first),
        place(&second)
    ));
    for database in [&first, &second] {
        let own = address(&format!("postgres://postgres@{}/postgres", place(database)));
        migrate::migrate(&own, Mode::Standalone).await.unwrap();
    }
    set_read_only(&first, "on").await;
    let store = Store::open(&hosts, Mode::Standalone, 1).await.unwrap();
    let port = "SELECT current_setting('port')::int8";
    let at = async |store: &Store| -> i64 { sqlx::query_scalar(port).fetch_one(store.pool()).await.unwrap() };
    assert_eq!(at(&store).await, i64::from(second.options().unwrap().get_port()));

    set_read_only(&first, "off").await;
    two.kill().await.unwrap();
    eventually("the other host is found", Duration::from_secs(20), async || {
        let answer: Result<i64, _> = sqlx::query_scalar(port).fetch_one(store.pool()).await;
        match answer {
            Ok(at) if at == i64::from(first.options().unwrap().get_port()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    set_read_only(&first, "on").await;
    let refused = Store::open(&hosts, Mode::Standalone, 1).await.unwrap_err().to_string();
    assert!(
        refused.contains("can only be read: default_transaction_read_only is on"),
        "{refused}"
    );
    assert!(refused.contains(&place(&second)), "each host is told of: {refused}");
}

async fn set_read_only(database: &Database, value: &str) {
    let mut admin = database.connect().await.unwrap();
    let set = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    sqlx::query("SET default_transaction_read_only = off")
        .execute(&mut admin)
        .await
        .unwrap();
    sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut admin).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()")
        .execute(&mut admin)
        .await
        .unwrap();
    eventually(
        "the server has read its configuration",
        Duration::from_secs(10),
        async || {
            let mut fresh = database.connect().await.map_err(|error| error.to_string())?;
            let shown: String = sqlx::query_scalar("SHOW default_transaction_read_only")
                .fetch_one(&mut fresh)
                .await
                .map_err(|error| error.to_string())?;
            if shown == value { Ok(()) } else { Err(shown) }
        },
    )
    .await;
}

/// Takes connections, keeps them and says nothing.
async fn silent_server() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (here, mut serving) = (listener.local_addr().unwrap(), JoinSet::new());
    serving.spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(listener.accept().await.unwrap());
        }
    });
    (here, serving)
}

#[tokio::test]
async fn a_host_behind_silent_ones_is_reached_though_whoever_asks_has_less_time_than_one_of_them_takes() {
    let world = TestEnvironment::new().await;
    let database = &world.database;
    let options = database.options().unwrap();
    let ((one, _first), (two, _second)) = (silent_server().await, silent_server().await);
    for silent in [vec![one], vec![one, two]] {
        let hosts: Vec<String> = silent.iter().map(SocketAddr::to_string).collect();
        let address = address(&format!(
            "postgres://{}@{},{}:{}/{}?connect_timeout=10",
            options.get_username(),
            hosts.join(","),
            options.get_host(),
            options.get_port(),
            database.name()
        ));
        for _ in &silent {
            let open = Store::open(&address, Mode::Standalone, 1);
            let outcome = tokio::time::timeout(Duration::from_millis(300), open).await;
            assert!(outcome.is_err(), "the silent one takes longer");
        }
        let open = Store::open(&address, Mode::Standalone, 1);
        let store = tokio::time::timeout(Duration::from_secs(3), open).await;
        let store = store.expect("the next try begins with the next host").unwrap();
        sqlx::query("SELECT 1").execute(store.pool()).await.unwrap();
    }
}

#[tokio::test]
async fn a_start_that_a_silent_server_holds_up_ends_at_once_when_it_is_told_to() {
    let (silent, _serving) = silent_server().await;
    let kubeconfig = fresh_directory("silent").unwrap().join("kubeconfig");
    let document = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": { "server": format!("http://{silent}") } }],
        "users": [{ "name": "it", "user": {} }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    std::fs::write(&kubeconfig, document.to_string()).unwrap();
    let program = env!("CARGO_BIN_EXE_environment-operator");
    let url = format!("postgres://postgres:secret@{silent}/x");
    for arguments in [&[][..], &["--cluster-id=c"]] {
        let options = Operator::of(program.as_ref())
            .kubeconfig(&kubeconfig)
            .database_url(&url);
        let mut operator = arguments
            .iter()
            .fold(options, |options, argument| options.arg(*argument))
            .start()
            .unwrap();
        eventually("it waits", Duration::from_secs(30), async || {
            operator
                .get("/healthz")
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
        let status = operator.stop(Duration::from_secs(3)).await.unwrap();
        assert!(status.success(), "{arguments:?}: {status}\n{}", operator.log());
    }

    let log = fresh_directory("silent").unwrap().join("log");
    let mut command = Process::command(program);
    command.args(["migrate", "--log=debug"]).env("DATABASE_URL", &url);
    let mut migrate = Process::start("migrate", command, &log).unwrap();
    let status = migrate.wait(Duration::from_secs(20)).await.expect("it ends by itself");
    assert!(!status.success());
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains("did not answer within 5 s"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn no_secret_of_the_url_is_in_any_line_at_level_trace_wherever_it_stands() {
    const SECRET: &str = "plantedsecret";
    for url in [
        "postgres://me:plantedsecret@127.0.0.1:1/x",
        "postgres://127.0.0.1:1/x?user=me&password=plantedsecret",
        "postgres://me@127.0.0.1:1/x?sslpassword=plantedsecret",
        "postgres://me@127.0.0.1:1/x?PASSWORD=plantedsecret",
        "postgres://me@127.0.0.1:1/x?passwort=plantedsecret",
        "postgres://me:a?plantedsecret@127.0.0.1:1/x",
        "postgres://me:a&plantedsecret=1@127.0.0.1:1/x",
        "postgres://me:a/plantedsecret@127.0.0.1:1/x",
        "postgres://me:1/plantedsecret@127.0.0.1:1/x",
        "postgres://me:1/x?y=plantedsecret@127.0.0.1:1/x",
        "postgres://me:a#plantedsecret@127.0.0.1:1/x",
        "postgres://me:a@plantedsecret@127.0.0.1:1/x",
        "postgres://me:plantedsecret@127.0.0.1:port/x",
        "postgres://me@127.0.0.1:1/x?password=a&plantedsecret",
        "postgres://me@127.0.0.1:1/x?password=a&plantedsecret=1",
        "postgres://me@127.0.0.1:1/x?password=a&sslmode=plantedsecret",
        "postgres://me@127.0.0.1:1/x?sslmode=require&plantedsecret1=1",
        "host=127.0.0.1 port=1 password=plantedsecret",
        "postgres://me:plantedsecret\n@127.0.0.1:1/x",
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_environment-operator"))
            .args(["migrate", "--log=trace"])
            .env_clear()
            .env("DATABASE_URL", url)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{url}");
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(said.iter().any(|text| !text.is_empty()), "{url}: it says why");
        let told = said
            .iter()
            .flat_map(|text| text.lines())
            .find(|line| line.contains(SECRET));
        assert_eq!(told, None, "{url}");
    }
}
