//! A database that is refused, checks that are asked for, and what is known of a term that runs.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_leader_whose_database_does_not_fit_stops_at_once_and_gives_its_term_up() {
    let row = Row::answering([Word::Held(1), Word::Unfit, Word::Vacant, Word::Unfit, Word::Held(2)]);
    let health = Health::new(Duration::from_secs(110));
    let (leadership, _stop, _running) = elector_with_health(&row, health.clone());
    let leading = reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;

    let lapsed = reach(&leadership, LeadershipState::Lapsed { epoch: 1 }).await;
    assert!(lapsed - leading <= EXPIRY / 3, "{:?}", lapsed - leading);
    assert_eq!(*leadership.leader().borrow(), None);
    let mut refusal = leadership.refusal();
    assert_eq!(refusal.borrow_and_update().as_deref(), Some("a table is gone"));
    assert!(health.missing().contains(&"database: a table is gone".to_owned()));

    // It says the same for as long as it is the same, and leads anew, in a term of its own, once it fits.
    let again = reach(&leadership, LeadershipState::Leading { epoch: 2 }).await;
    assert!(again - lapsed <= EXPIRY / 3, "{:?}", again - lapsed);
    assert_eq!(*refusal.borrow_and_update(), None);
    assert_eq!(
        row.asked(),
        [
            Request::Acquire,
            Request::Renew(term(1)),
            Request::Release(term(1)),
            Request::Acquire,
            Request::Acquire,
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_statement_has_the_database_looked_at_at_once_and_all_share_the_look() {
    let suspect = || StoreError::Suspect("column x does not exist".to_owned());
    for (word, told) in [
        (Word::Unfit, "a table is gone"),
        (Word::Held(1), "column x does not exist"),
    ] {
        let row = Row::answering([Word::Held(1), word]);
        let (leadership, _stop, _running) = elector(&row);
        let leading = reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;

        let asked = (0..50).map(|_| leadership.examine(suspect()));
        for error in futures::future::join_all(asked).await {
            assert_eq!(error.to_string(), told);
            let of_all = told == "a table is gone";
            assert_eq!(error.is_of_all(), of_all);
            assert!(!error.is_suspect());
            let lapsed = *leadership.state().borrow() == LeadershipState::Lapsed { epoch: 1 };
            assert_eq!(lapsed, of_all, "before anybody is told");
        }
        assert!(leading.elapsed() <= EXPIRY / 10, "{:?}", leading.elapsed());
        assert_eq!(
            row.asked()
                .iter()
                .filter(|request| **request == Request::Renew(term(1)))
                .count(),
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn statements_that_fail_on_and_on_have_the_database_looked_at_once_a_second_at_most() {
    let row = Row::answering([Word::Held(1)]);
    let (leadership, _stop, _running) = elector(&row);
    let leading = reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    while leading.elapsed() < EXPIRY {
        leadership.examine(StoreError::Suspect("column x".to_owned())).await;
    }
    let looks = row.asked().len();
    assert!((10..=20).contains(&looks), "{looks} looks in {EXPIRY:?}");
}

#[tokio::test(start_paused = true)]
async fn a_look_without_an_answer_tells_that_the_database_is_away() {
    let row = Row::answering([Word::Held(1), Word::Silent]);
    let (leadership, stop, running) = elector(&row);
    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    let suspect = || StoreError::Suspect("column x".to_owned());
    assert!(matches!(
        leadership.examine(suspect()).await,
        StoreError::Unavailable(_)
    ));
    stop.cancel();
    running.await.unwrap();
    assert!(matches!(
        leadership.examine(suspect()).await,
        StoreError::Unavailable(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_lead_is_ready_only_while_another_one_s_term_runs() {
    let row = Row::answering([Word::Vacant, Word::Refused, Word::Vacant, Word::Held(3)]);
    let health = Health::new(Duration::from_secs(110));
    let (leadership, _stop, _running) = elector_with_health(&row, health.clone());
    let led = || !health.missing().iter().any(|line| line.starts_with("leadership: "));
    while row.asked().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!led(), "nobody's term runs");
    reach(&leadership, LeadershipState::Following).await;
    assert!(led());
    let vacant = reach(&leadership, LeadershipState::Unknown).await;
    assert!(!led(), "the other one's has passed");
    let leading = reach(&leadership, LeadershipState::Leading { epoch: 3 }).await;
    assert!(led());
    assert!(
        leading - vacant <= EXPIRY / 15,
        "whoever finds nobody leading asks again soon"
    );
}

#[tokio::test(start_paused = true)]
async fn a_follower_asks_again_when_the_term_of_another_has_passed() {
    let asked = parking_lot::Mutex::new(Vec::new());
    let asked = Arc::new(asked);
    let (elector, leadership) = Elector::new(EXPIRY, Health::new(EXPIRY), Arc::new(Metrics::new()));
    let noted = Arc::clone(&asked);
    let left = Duration::from_secs(2);
    let ask = move |_| {
        noted.lock().push(Instant::now());
        let first = noted.lock().len() == 1;
        async move {
            Ok(if first {
                Answer::Led { left }
            } else {
                Answer::Held(term(1))
            })
        }
    };
    tokio::spawn(elector.run(ask, CancellationToken::new()));
    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    let asked = asked.lock().clone();
    assert!(asked[1] - asked[0] <= left, "{:?}", asked[1] - asked[0]);
}
