//! A transaction pooler, as far as a start has to recognise it: two clients on one session of the server.

use environment_operator::store::heartbeat_runs::{self, Heard};
use environment_operator::store::{Mode, StartError, Store, migrate};
use harness::postgres::pooler::Pooler;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// Reads one message of the protocol; that of the start has no type byte.
async fn message(stream: &mut TcpStream, has_type: bool) -> Option<Vec<u8>> {
    let mut head = vec![0; if has_type { 5 } else { 4 }];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await.ok()?;
    head.extend(body);
    Some(head)
}

/// Hands on what the server says until it is ready for the next query.
async fn relay_answer(server: &mut TcpStream, client: &mut TcpStream) -> Option<()> {
    loop {
        let answer = message(server, true).await?;
        client.write_all(&answer).await.ok()?;
        if answer[0] == b'Z' {
            return Some(());
        }
    }
}

/// Serves both clients by one session, a transaction (here: up to a Sync) at a time.
async fn share_one_session(listener: TcpListener, address: String) -> Option<()> {
    let mut server = TcpStream::connect(address).await.ok()?;
    let mut clients = Vec::new();
    for index in 0..2 {
        let (mut client, _) = listener.accept().await.ok()?;
        let mut start = message(&mut client, false).await?;
        if start[4..8] == 80_877_103u32.to_be_bytes() {
            client.write_all(b"N").await.ok()?; // no TLS here
            start = message(&mut client, false).await?;
        }
        if index == 0 {
            server.write_all(&start).await.ok()?;
            relay_answer(&mut server, &mut client).await?;
        } else {
            client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.ok()?; // authentication is fine, ready
        }
        clients.push(client);
    }
    let [first, second] = clients.as_mut_slice() else {
        return None;
    };
    loop {
        let (mut one, mut other) = ([0], [0]);
        let first_asks = tokio::select! {
            _ = first.peek(&mut one) => true,
            _ = second.peek(&mut other) => false,
        };
        let client = if first_asks { &mut *first } else { &mut *second };
        let asked = message(client, true).await?;
        server.write_all(&asked).await.ok()?;
        if matches!(asked[0], b'S' | b'Q') {
            relay_answer(&mut server, client).await?;
        }
    }
}

#[tokio::test]
async fn a_transaction_pooler_is_refused_with_one_sentence() {
    let database = fresh_database().await;
    let options = database.options().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(share_one_session(
        listener,
        format!("{}:{}", options.get_host(), options.get_port()),
    ));
    let user = options.get_username();
    let url = format!("postgres://{user}@127.0.0.1:{port}/{}?sslmode=disable", database.name());
    let Err(StartError::Refused(sentence)) = Store::open(&address(&url), Mode::Standalone, 1).await else {
        panic!()
    };
    assert!(
        sentence.contains("the database is reached through a transaction pooler"),
        "{sentence}"
    );
    assert!(
        migrate::migrate(&address(database.url()), Mode::Standalone)
            .await
            .is_ok(),
        "the direct way is fine"
    );
}

/// A store behind a session pooler reads, writes, keeps its settings, locks and listens.
async fn works_behind(settings: &[&str]) {
    let world = TestEnvironment::new().await;
    let pooler = Pooler::start(&world.database, settings).await.unwrap();
    let way = address(pooler.url());
    let migrations = futures::future::join_all((0..3).map(|_| migrate::migrate(&way, Mode::Standalone))).await;
    assert!(
        migrations
            .into_iter()
            .all(|applied| applied.is_ok_and(|applied| applied == 0))
    );
    let store = Store::open(&way, Mode::Standalone, 4).await.unwrap();
    // More than the pooler has sessions: some are handed on from one to the other, with whatever was left in them.
    for _ in 0..3 {
        let mut sessions = Vec::new();
        for _ in 0..4 {
            sessions.push(store.pool().session().await.unwrap());
        }
        for session in &mut sessions {
            let shown: Vec<String> = sqlx::query_scalar(
                "SELECT current_setting(name) FROM unnest('{statement_timeout,row_security,jit}'::text[]) AS name",
            )
            .fetch_all(session)
            .await
            .unwrap();
            assert_eq!(shown, ["10s", "off", "off"]);
        }
    }
    let mut ends = heartbeat_runs::listen(&store).await.unwrap();
    let run = world.run("running").await;
    world.set_run(run, "succeeded").await;
    let heard = tokio::time::timeout(std::time::Duration::from_secs(5), ends.next()).await;
    assert_eq!(heard.unwrap().unwrap(), Heard::RunEnd(run));
    store.close().await;
}

#[tokio::test]
async fn a_session_pooler_with_its_defaults_works() {
    works_behind(&["pool_mode = session"]).await;
}

#[tokio::test]
async fn a_session_pooler_that_drops_start_up_parameters_or_resets_nothing_works() {
    works_behind(&[
        "pool_mode = session",
        "ignore_startup_parameters = extra_float_digits,options",
        "server_reset_query =",
    ])
    .await;
}

#[tokio::test]
async fn pgbouncer_in_transaction_mode_is_refused_with_one_sentence() {
    let database = fresh_database().await;
    let pooler = Pooler::start(&database, &["pool_mode = transaction"]).await.unwrap();
    let refused = migrate::migrate(&address(pooler.url()), Mode::Standalone).await;
    let Err(StartError::Refused(sentence)) = refused else {
        panic!("{refused:?}")
    };
    assert!(sentence.contains("transaction pooler"), "{sentence}");
}
