use super::*;

const STALE_AFTER: Duration = Duration::from_secs(110);

fn healthy() -> Health {
    let health = Health::new(STALE_AFTER);
    health.watch_listed("Environment");
    health.watch_listed("EnvironmentLease");
    health.set_api_server(Ok(()));
    health.set_database(Ok(()));
    health.set_leadership(LeadershipState::Leading { epoch: 3 });
    health
}

/// Asks the real router over a real socket; returns status line and body.
async fn ask(health: &Health, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, health.clone(), Arc::new(Metrics::new()), stop.clone()));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    stop.cancel();
    server.await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_new_process_is_alive_but_not_ready_and_says_all_that_is_missing() {
    let health = Health::new(STALE_AFTER);

    assert_eq!(
        ask(&health, "/healthz").await,
        ("HTTP/1.1 200 OK".into(), "alive\n".into())
    );
    let (status, body) = ask(&health, "/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(
        body,
        "not ready\nwatches: not started yet\nAPI server: not reached yet\ndatabase: not connected yet\nleadership: nobody is known to lead\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_refused_counts_until_it_is_granted_or_asked_for_no_more() {
    let health = healthy();
    let message = "jobs.batch is forbidden: User \"x\" cannot list resource \"jobs\"";
    assert!(health.lacks_right("list Job", message));
    assert!(!health.lacks_right("list Job", message), "no news");
    assert_eq!(health.missing(), [format!("right: {message}")]);
    assert!(health.has_right("list Job"));
    assert!(!health.has_right("list Job"), "no news");
    assert_eq!(health.missing(), [""; 0]);

    health.lacks_right("list Job", message);
    tokio::time::advance(REFUSAL_COUNTS).await;
    assert_eq!(health.missing(), [""; 0]);
    assert!(health.lacks_right("list Job", message), "news again");
}

#[tokio::test]
async fn a_leader_and_a_follower_are_ready() {
    let health = healthy();
    assert_eq!(
        ask(&health, "/readyz").await,
        ("HTTP/1.1 200 OK".into(), "ready\n".into())
    );

    health.set_leadership(LeadershipState::Following);
    assert_eq!(
        ask(&health, "/readyz").await,
        ("HTTP/1.1 200 OK".into(), "ready\n".into())
    );
}

#[test]
fn a_watch_that_was_announced_is_missing_until_it_has_listed() {
    let health = healthy();
    health.expect_watch("Job");
    assert_eq!(health.missing(), ["watch Job: not listed yet"]);

    health.watch_failed("Job", "jobs.batch is forbidden");
    assert_eq!(health.missing(), ["watch Job: not listed yet: jobs.batch is forbidden"]);

    health.watch_listed("Job");
    assert_eq!(health.missing(), [""; 0]);
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_remarked_upon_and_keeps_nobody_from_being_ready() {
    let health = healthy();
    health.expect_watch("Widget.example.test");
    assert!(health.watch_not_served("Widget.example.test"), "that is news");
    assert!(!health.watch_not_served("Widget.example.test"), "and is no more");
    assert_eq!(
        ask(&health, "/readyz").await,
        (
            "HTTP/1.1 200 OK".into(),
            "ready\nwatch Widget.example.test: the API server does not serve this kind (yet)\n".into()
        )
    );

    health.watch_failed("Widget.example.test", "widgets is forbidden");
    assert_eq!(
        health.missing(),
        ["watch Widget.example.test: not listed yet: widgets is forbidden"],
        "it is served now"
    );
    health.watch_listed("Widget.example.test");
    assert!(health.watch_not_served("Widget.example.test"), "again");
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_stale_until_it_hears_again() {
    let health = healthy();
    tokio::time::advance(STALE_AFTER).await;
    assert_eq!(health.missing(), [""; 0]);

    health.watch_heard("Environment");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(health.missing(), ["watch EnvironmentLease: nothing heard for 111 s"]);

    health.watch_heard("EnvironmentLease");
    assert_eq!(health.missing(), [""; 0]);
}

#[test]
fn an_unreachable_database_is_named_with_its_reason() {
    let health = healthy();
    health.set_database(Err(DatabaseTrouble::Unreachable("connection refused".into())));
    assert_eq!(health.missing(), ["database: connection refused"]);
}

#[test]
fn whether_the_database_answers_is_measured_apart_from_readiness() {
    let health = healthy();
    let metrics = Metrics::new();
    let unreachable = DatabaseTrouble::Unreachable("connection refused".into());
    let unfit = DatabaseTrouble::Unfit("the server is PostgreSQL 9".into());
    for (state, expected, fits) in [(Err(unreachable), 0, 1), (Err(unfit), 1, 0), (Ok(()), 1, 1)] {
        health.set_database(state);
        health.set_leadership(LeadershipState::Unknown);
        health.measure(&metrics);
        let text = metrics.encode().unwrap();
        let line = format!("environment_operator_database_reachable {expected}\n");
        assert!(text.contains(&line), "{text}");
        let line = format!("environment_operator_database_fits {fits}\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("environment_operator_ready 0\n"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn freshness_is_measured_when_the_metrics_are_read() {
    let health = healthy();
    let metrics = Metrics::new();
    tokio::time::advance(Duration::from_secs(7)).await;
    health.measure(&metrics);

    let text = metrics.encode().unwrap();
    assert!(
        text.contains(r#"environment_operator_watch_freshness_seconds{kind="Environment"} 7.0"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_kinds_watches_the_one_that_is_silent_longest_is_measured_and_no_namespace_is_named() {
    let health = healthy();
    let metrics = Metrics::new();
    health.watch_listed("Job/one");
    tokio::time::advance(Duration::from_secs(7)).await;
    health.watch_listed("Job/two");
    health.measure(&metrics);

    let text = metrics.encode().unwrap();
    let of_jobs: Vec<&str> = text.lines().filter(|line| line.contains("Job")).collect();
    assert_eq!(
        of_jobs,
        [r#"environment_operator_watch_freshness_seconds{kind="Job"} 7.0"#]
    );
}

#[test]
fn a_leader_that_could_not_renew_is_not_ready() {
    let health = healthy();
    health.set_leadership(LeadershipState::Lapsed { epoch: 3 });
    assert_eq!(health.missing(), ["leadership: epoch 3 was not renewed"]);
}

#[test]
fn an_api_server_that_does_not_answer_at_the_start_is_named_with_its_reason() {
    let health = healthy();
    health.set_api_server(Err("connection refused".into()));
    assert_eq!(health.missing(), ["API server: connection refused"]);
}
