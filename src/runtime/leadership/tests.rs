use std::collections::VecDeque;

use parking_lot::Mutex;

use super::*;

mod unfit;

const EXPIRY: Duration = Duration::from_secs(15);

fn term(epoch: i64) -> Leader {
    Leader {
        cluster: "cluster".into(),
        installation: "default".into(),
        epoch,
        incarnation: 1,
    }
}

/// The leadership's row, with answers prepared; when they are used up it keeps giving the last one.
#[derive(Clone)]
struct Row(Arc<Mutex<Script>>);

struct Script {
    answers: VecDeque<Word>,
    asked: Vec<Request>,
}

#[derive(Clone)]
enum Word {
    Held(i64),
    Refused,
    Vacant,
    Unfit,
    Down,
    Silent,
}

impl Row {
    fn answering(answers: impl IntoIterator<Item = Word>) -> Self {
        Self(Arc::new(Mutex::new(Script {
            answers: answers.into_iter().collect(),
            asked: Vec::new(),
        })))
    }

    async fn ask(self, request: Request) -> Result<Answer, StoreError> {
        let answer = {
            let mut script = self.0.lock();
            script.asked.push(request);
            if script.answers.len() > 1 {
                script.answers.pop_front()
            } else {
                script.answers.front().cloned()
            }
        };
        match answer.unwrap() {
            Word::Held(epoch) => Ok(Answer::Held(term(epoch))),
            Word::Refused => Ok(Answer::Led { left: EXPIRY }),
            Word::Vacant => Ok(Answer::Vacant),
            Word::Unfit => Err(StoreError::Unfit("a table is gone".to_owned())),
            Word::Down => Err(StoreError::Unavailable(Arc::new(sqlx::Error::PoolTimedOut))),
            Word::Silent => std::future::pending().await,
        }
    }

    fn asked(&self) -> Vec<Request> {
        self.0.lock().asked.clone()
    }
}

/// A elector against that row on paused time.
fn elector(row: &Row) -> (Leadership, CancellationToken, tokio::task::JoinHandle<()>) {
    elector_with_health(row, Health::new(Duration::from_secs(110)))
}

fn elector_with_health(row: &Row, health: Health) -> (Leadership, CancellationToken, tokio::task::JoinHandle<()>) {
    let (elector, leadership) = Elector::new(EXPIRY, health, Arc::new(Metrics::new()));
    let stop = CancellationToken::new();
    let row = row.clone();
    let running = tokio::spawn(elector.run(move |request| row.clone().ask(request), stop.clone()));
    (leadership, stop, running)
}

/// Waits for a state; the time is paused, so waiting takes none of the real one.
async fn reach(leadership: &Leadership, state: LeadershipState) -> Instant {
    let mut states = leadership.state();
    timeout(Duration::from_secs(600), states.wait_for(|current| *current == state))
        .await
        .unwrap()
        .unwrap();
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_free_row_makes_a_leader_who_gives_it_up_when_stopped() {
    let row = Row::answering([Word::Held(1)]);
    let (leadership, stop, running) = elector(&row);

    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    assert_eq!(*leadership.leader().borrow(), Some(term(1)));
    stop.cancel();
    running.await.unwrap();

    assert_eq!(*leadership.leader().borrow(), None);
    assert_eq!(row.asked(), [Request::Acquire, Request::Release(term(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_term_goes_on_and_disturbs_nobody() {
    let row = Row::answering([Word::Held(1)]);
    let (leadership, _stop, _running) = elector(&row);
    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    let mut leader = leadership.leader();
    leader.mark_unchanged();

    assert!(timeout(EXPIRY * 20, leader.changed()).await.is_err());

    let renewals = row
        .asked()
        .into_iter()
        .filter(|request| *request == Request::Renew(term(1)))
        .count();
    assert!((60..=75).contains(&renewals), "{renewals} renewals in 20 expiries");
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_over_soon_after_the_term_of_another_has_passed() {
    let row = Row::answering([Word::Refused, Word::Refused, Word::Held(8)]);
    let (leadership, _stop, _running) = elector(&row);

    let following = reach(&leadership, LeadershipState::Following).await;
    let leading = reach(&leadership, LeadershipState::Leading { epoch: 8 }).await;

    assert!(leading - following <= EXPIRY * 2 / 3 + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_steps_down_at_once() {
    let row = Row::answering([Word::Held(1), Word::Refused]);
    let (leadership, _stop, _running) = elector(&row);

    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    reach(&leadership, LeadershipState::Following).await;

    assert_eq!(row.asked(), [Request::Acquire, Request::Renew(term(1))]);
    assert_eq!(*leadership.leader().borrow(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_database_lapses_before_its_row_expires_and_leads_again_later() {
    for trouble in [Word::Down, Word::Silent] {
        let mut answers = vec![Word::Held(1)];
        answers.extend(vec![trouble; 40]);
        answers.push(Word::Held(2));
        let row = Row::answering(answers);
        let (leadership, _stop, _running) = elector(&row);

        let leading = reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
        let lapsed = reach(&leadership, LeadershipState::Lapsed { epoch: 1 }).await;
        assert_eq!(*leadership.leader().borrow(), None);
        assert!(lapsed - leading < EXPIRY, "{:?}", lapsed - leading);
        assert!(lapsed - leading >= EXPIRY * 3 / 4, "{:?}", lapsed - leading);

        reach(&leadership, LeadershipState::Leading { epoch: 2 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_lost_renewal_costs_nothing() {
    let row = Row::answering([Word::Held(1), Word::Down, Word::Down, Word::Held(1)]);
    let (leadership, _stop, _running) = elector(&row);
    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    let mut states = leadership.state();
    states.mark_unchanged();

    assert!(timeout(EXPIRY * 4, states.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_steps_down_without_waiting_for_its_renewal() {
    let row = Row::answering([Word::Held(4), Word::Refused]);
    let (leadership, _stop, _running) = elector(&row);
    let leading = reach(&leadership, LeadershipState::Leading { epoch: 4 }).await;

    leadership.deposed(3);
    leadership.deposed(4);

    assert_eq!(reach(&leadership, LeadershipState::Following).await, leading);
    assert_eq!(row.asked(), [Request::Acquire]);
}

#[tokio::test(start_paused = true)]
async fn a_late_notice_about_an_old_term_does_not_end_the_present_one() {
    let row = Row::answering([Word::Held(4)]);
    let (leadership, _stop, _running) = elector(&row);
    reach(&leadership, LeadershipState::Leading { epoch: 4 }).await;
    let mut states = leadership.state();
    states.mark_unchanged();

    leadership.deposed(3);

    assert!(timeout(EXPIRY, states.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_does_not_wait_for_a_database_that_is_silent() {
    let row = Row::answering([Word::Held(1), Word::Silent]);
    let (leadership, stop, running) = elector(&row);
    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    while row.asked().len() < 2 {
        sleep(Duration::from_millis(10)).await;
    }

    stop.cancel();
    timeout(RELEASE_TIMEOUT + Duration::from_millis(10), running)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nobody_is_known_to_lead() {
    let row = Row::answering([Word::Refused, Word::Down]);
    let (leadership, _stop, _running) = elector(&row);

    reach(&leadership, LeadershipState::Following).await;
    reach(&leadership, LeadershipState::Unknown).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_slept_past_its_term_has_lapsed_before_it_asks_anything() {
    let now = Instant::now();
    let leader_state = LeaderState::Unknown.next(
        Event::Held {
            leader: term(1),
            asked_at: now,
        },
        EXPIRY,
        now,
    );
    assert_eq!(leader_state.state(), LeadershipState::Leading { epoch: 1 });

    let awake = now + EXPIRY * 2;
    assert_eq!(
        leader_state.next(Event::Passed, EXPIRY, awake),
        LeaderState::Lapsed { epoch: 1 }
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_took_longer_than_the_term_is_worth_nothing() {
    let asked_at = Instant::now();
    let leader_state = LeaderState::Following.next(
        Event::Held {
            leader: term(9),
            asked_at,
        },
        EXPIRY,
        asked_at + EXPIRY,
    );
    assert_eq!(leader_state, LeaderState::Lapsed { epoch: 9 });
}

#[tokio::test(start_paused = true)]
async fn readiness_learns_here_whether_the_database_answers() {
    let row = Row::answering([Word::Held(1), Word::Down, Word::Held(1)]);
    let health = Health::new(Duration::from_secs(110));
    let (leadership, _stop, _running) = elector_with_health(&row, health.clone());
    let database = || {
        health
            .missing()
            .into_iter()
            .find(|sentence| sentence.starts_with("database"))
    };

    reach(&leadership, LeadershipState::Leading { epoch: 1 }).await;
    assert_eq!(database(), None);
    for (asked, problem) in [(2, true), (3, false)] {
        while row.asked().len() < asked {
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(database().is_some(), problem, "{:?}", database());
    }
}
