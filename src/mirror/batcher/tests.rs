use futures::future::join_all;
use parking_lot::Mutex;

use super::*;
use crate::store::Access;

/// A request: the row, and a word that the fake store acts upon.
type Asked = (u128, &'static str);

/// A request, and where its batches are recorded. It is answered with the row and the epoch, and fails as its word says.
struct Fake {
    row: u128,
    word: &'static str,
    batches: Batches,
}

impl Request for Fake {
    type Outcome = (u128, i64);

    const NAME: &'static str = "fake";

    const ACCESS: Access = Access::Write;

    fn key(&self) -> Uuid {
        Uuid::from_u128(self.row)
    }

    async fn carry_out(_: &Store, leader: &Leader, requests: &[Self]) -> Result<Vec<(u128, i64)>, StoreError> {
        let attempt = {
            let mut batches = requests[0].batches.lock();
            batches.push(requests.iter().map(|request| (request.row, request.word)).collect());
            batches.len()
        };
        let has = |word| requests.iter().any(|request| request.word == word);
        if has("poison") {
            let message = "remove the poison".to_owned();
            return Err(StoreError::Data { message });
        }
        if has("raises") {
            let message = "a trigger says no".to_owned();
            return Err(StoreError::Refused { message });
        }
        if has("unexpected") {
            return Err(StoreError::Bug("what is this?".to_owned()));
        }
        if has("held") {
            return Err(StoreError::Conflict(Arc::new(sqlx::Error::WorkerCrashed)));
        }
        if has("too long") {
            sleep(Duration::from_secs(10)).await;
            let message = "canceling statement due to statement timeout".to_owned();
            return Err(StoreError::Refused { message });
        }
        if has("deposed") {
            return Err(StoreError::Deposed);
        }
        if has("away") {
            return Err(timed_out());
        }
        if has("deadlock") && attempt < 3 {
            return Err(StoreError::Conflict(Arc::new(sqlx::Error::WorkerCrashed)));
        }
        assert!(!has("panics"), "as the request says");
        if has("slow") {
            sleep(Duration::from_millis(50)).await;
        }
        if has("hangs") {
            sleep(Duration::from_secs(3600)).await;
        }
        Ok(requests.iter().map(|request| (request.row, leader.epoch)).collect())
    }
}

/// A batcher of such requests, and what it has carried out.
#[derive(Clone)]
struct FakeBatcher {
    batcher: Batcher<Fake>,
    batches: Batches,
}

impl FakeBatcher {
    async fn ask(&self, (row, word): Asked) -> Result<(u128, i64), StoreError> {
        let batches = Arc::clone(&self.batches);
        self.batcher.ask(Fake { row, word, batches }).await
    }
}

/// Hears of a batcher that has panicked.
type Broken = watch::Receiver<Option<&'static str>>;

type Batches = Arc<Mutex<Vec<Vec<Asked>>>>;

fn leader(epoch: i64) -> Leader {
    Leader {
        cluster: "cluster".to_owned(),
        installation: "default".to_owned(),
        epoch,
        incarnation: 1,
    }
}

/// A batcher over a fake store that records its batches, answers with the row and the epoch, and fails as it is told.
fn batcher() -> (FakeBatcher, Batches, watch::Sender<Option<Leader>>) {
    let (batcher, batches, lead, _) = supervised();
    (batcher, batches, lead)
}

fn supervised() -> (FakeBatcher, Batches, watch::Sender<Option<Leader>>, Broken) {
    beside_others(Arc::new(Semaphore::new(1)))
}

/// The same; its transactions take their turns with those of others.
fn beside_others(turn: Arc<Semaphore>) -> (FakeBatcher, Batches, watch::Sender<Option<Leader>>, Broken) {
    let (broken, breaks) = watch::channel(None);
    let batches = Batches::default();
    let (lead, leading) = watch::channel(Some(leader(1)));
    let work = Work {
        store: Store::nowhere(),
        turn,
        observe: Arc::new(|_, _, _| {}),
        broken,
    };
    let batcher = FakeBatcher {
        batcher: Batcher::start(work, leading),
        batches: Arc::clone(&batches),
    };
    (batcher, batches, lead, breaks)
}

fn sizes(batches: &Batches) -> Vec<usize> {
    batches.lock().iter().map(Vec::len).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_moment_share_a_batch_and_each_gets_its_own_answer() {
    let (batcher, batches, _lead) = batcher();
    let answers = join_all((0..150).map(|row| batcher.ask((row, "")))).await;
    for (row, answer) in (0..150).zip(answers) {
        assert_eq!(answer.unwrap(), (row, 1));
    }
    assert_eq!(sizes(&batches), [150]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_two_hundred_at_most() {
    let (batcher, batches, _lead) = batcher();
    join_all((0..450).map(|row| batcher.ask((row, "")))).await;
    assert_eq!(sizes(&batches), [200, 200, 50]);
}

#[tokio::test(start_paused = true)]
async fn a_second_request_for_a_row_waits_for_the_next_batch() {
    let (batcher, batches, _lead) = batcher();
    join_all([(1, "first"), (2, ""), (1, "second")].map(|request| batcher.ask(request))).await;
    assert_eq!(*batches.lock(), [vec![(1, "first"), (2, "")], vec![(1, "second")]]);
}

#[tokio::test(start_paused = true)]
async fn the_neighbours_of_a_poisoned_request_land_in_the_same_flush() {
    let (batcher, batches, _lead) = batcher();
    let request = |row| (row, if row == 77 { "poison" } else { "" });
    let answers = join_all((0..200).map(|row| batcher.ask(request(row)))).await;
    for (row, answer) in (0..200).zip(answers) {
        match answer {
            Err(StoreError::Data { message }) => assert_eq!((row, message.as_str()), (77, "remove the poison")),
            answer => assert_eq!(answer.unwrap().0, row),
        }
    }
    assert!(batches.lock().len() <= 17, "halved, not tried one by one");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_request_fails_for_its_neighbours_land_and_it_alone_is_told() {
    for (word, category) in [
        ("raises", "refused"),
        ("unexpected", "bug"),
        ("held", "conflict"),
        ("too long", "refused"),
    ] {
        let (batcher, _batches, _lead) = batcher();
        let request = |row| (row, if row == 77 { word } else { "" });
        let answers = join_all((0..200).map(|row| batcher.ask(request(row)))).await;
        for (row, answer) in (0..200).zip(answers) {
            match answer {
                Err(error) => assert_eq!((row, error.category().into_str()), (77, category), "{word}"),
                Ok(answer) => assert_eq!(answer.0, row),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_for_itself_meets_the_others_again_only_after_it_has_succeeded() {
    let (batcher, batches, _lead) = batcher();
    let ask = async |requests: &[Asked]| {
        batches.lock().clear();
        join_all(requests.iter().map(|request| batcher.ask(*request))).await;
        batches.lock().clone()
    };
    ask(&[(1, ""), (2, "raises")]).await;
    assert_eq!(
        ask(&[(2, "raises"), (3, ""), (4, "")]).await,
        [vec![(3, ""), (4, "")], vec![(2, "raises")]]
    );
    ask(&[(2, "")]).await;
    assert_eq!(ask(&[(2, ""), (3, "")]).await, [vec![(2, ""), (3, "")]]);
}

#[tokio::test(start_paused = true)]
async fn the_search_for_slow_culprits_has_an_end() {
    let (batcher, batches, _lead) = batcher();
    let answers = join_all((0..200).map(|row| batcher.ask((row, "too long")))).await;
    assert!(answers.iter().all(Result::is_err));
    let tries = batches.lock().len();
    assert!(tries <= SLOW_FAILURES + 10, "{tries} of ten seconds each");
}

#[tokio::test(start_paused = true)]
async fn who_has_to_wait_for_its_turn_is_not_slow_and_its_neighbours_land() {
    let turn = Arc::new(Semaphore::new(1));
    let (batcher, _batches, _lead, _) = beside_others(Arc::clone(&turn));
    tokio::spawn(async move {
        loop {
            let _turn = turn.acquire().await;
            sleep(2 * SLOW).await;
        }
    });
    let culprits = [7, 77, 177];
    let request = |row| (row, if culprits.contains(&row) { "raises" } else { "" });
    let answers = join_all((0..200).map(|row| batcher.ask(request(row)))).await;
    for (row, answer) in (0..200).zip(answers) {
        assert_eq!(answer.is_err(), culprits.contains(&row), "{row}");
    }
    let begun = Instant::now();
    let answers = join_all((1_000..1_200).map(|row| batcher.ask((row, "raises")))).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(begun.elapsed() < SEARCH + 20 * SLOW, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_database_reaches_every_caller_once() {
    for (word, expected) in [
        ("deposed", "deposed"),
        ("away", "unavailable"),
        ("hangs", "unavailable"),
    ] {
        let (batcher, batches, _lead) = batcher();
        let answers = join_all([(1, ""), (2, word), (3, "")].map(|request| batcher.ask(request))).await;
        for answer in answers {
            assert_eq!(answer.unwrap_err().category().into_str(), expected);
        }
        assert_eq!(sizes(&batches), [3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_is_tried_again_with_all_that_were_in_it() {
    let (batcher, batches, _lead) = batcher();
    let answers = join_all([(1, ""), (2, "deadlock")].map(|request| batcher.ask(request))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(sizes(&batches), [2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_under_another_leadership_is_not_carried_out() {
    let (batcher, batches, lead) = batcher();
    let slow = batcher.ask((1, "slow"));
    let decided_before = async {
        sleep(Duration::from_millis(20)).await; // while the slow one is in its transaction
        let asked = batcher.ask((2, ""));
        let change = async {
            sleep(Duration::from_millis(1)).await;
            lead.send_replace(Some(leader(2)));
        };
        tokio::join!(asked, change).0
    };
    let (first, second) = tokio::join!(slow, decided_before);
    assert_eq!(first.unwrap(), (1, 1));
    assert!(matches!(second, Err(StoreError::Deposed)));
    assert_eq!(sizes(&batches), [1]);
    assert_eq!(batcher.ask((3, "")).await.unwrap(), (3, 2));
    lead.send_replace(None);
    assert!(matches!(batcher.ask((4, "")).await, Err(StoreError::Deposed)));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_callers_wait_and_loses_nothing() {
    let (batcher, batches, _lead) = batcher();
    let answers = join_all((0..5000).map(|row| batcher.ask((row, "slow")))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(sizes(&batches).iter().sum::<usize>(), 5000);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_in_is_answered_after_the_last_handle_is_dropped() {
    let (batcher, batches, _lead) = batcher();
    let ask = {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.ask((1, "slow")).await })
    };
    drop(batcher);
    assert_eq!(ask.await.unwrap().unwrap(), (1, 1));
    assert_eq!(sizes(&batches), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_batcher_that_panics_says_which_it_is_and_one_that_ends_in_order_says_nothing() {
    let (batcher, _batches, _lead, mut broken) = supervised();
    assert!(matches!(batcher.ask((1, "panics")).await, Err(StoreError::Bug(_))));
    assert_eq!(*broken.wait_for(Option::is_some).await.unwrap(), Some("fake"));

    let (batcher, _batches, _lead, mut broken) = supervised();
    batcher.ask((1, "")).await.unwrap();
    drop(batcher);
    assert!(broken.wait_for(Option::is_some).await.is_err(), "the task has ended");
}

#[tokio::test(start_paused = true)]
async fn a_request_beside_all_that_one_company_may_have_in_takes_twice_as_long_as_alone_at_most() {
    /// How many reconciles of one company run at once (`controller::work::queue::SHARE`).
    const SHARE: u128 = 256;
    let (batcher, batches, _lead) = batcher();
    let ask = async || {
        let begun = Instant::now();
        batcher.ask((1, "slow")).await.unwrap();
        begun.elapsed()
    };
    let alone = ask().await;
    let noise = join_all((0..SHARE).map(|row| batcher.ask((1_000 + row, "slow"))));
    let (_, beside) = tokio::join!(noise, ask());
    assert_eq!(sizes(&batches), [1, 200, 57], "one batch before its own");
    assert!(beside <= 2 * alone, "{beside:?} beside them, {alone:?} alone");
}
