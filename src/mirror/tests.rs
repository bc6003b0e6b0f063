use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::*;

/// A request that fails so, or takes a second. It is answered with the moments at which it was begun and done.
struct Fake<const WRITING: bool, const REFUSING: bool>(Option<StoreError>);

const WRITES: bool = true;
const REFUSES: bool = true;

#[derive(Debug, PartialEq)]
enum Outcome {
    Done(Instant, Instant),
    Refused(Refusal),
}

impl<const WRITING: bool, const REFUSING: bool> Request for Fake<WRITING, REFUSING> {
    type Outcome = Outcome;

    const NAME: &'static str = "fake";

    const ACCESS: Access = if WRITING { Access::Write } else { Access::Read };

    fn key(&self) -> Uuid {
        Uuid::nil()
    }

    fn check(&self) -> Result<(), StoreError> {
        match &self.0 {
            Some(StoreError::Data { message }) => Err(StoreError::Data {
                message: message.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    fn refused(refusal: Refusal) -> Option<Outcome> {
        REFUSING.then_some(Outcome::Refused(refusal))
    }

    async fn carry_out(_: &Store, _: &Leader, requests: &[Self]) -> Result<Vec<Outcome>, StoreError> {
        if let Some(error) = requests.iter().find_map(|request| request.0.clone()) {
            return Err(error);
        }
        let begun = Instant::now();
        sleep(Duration::from_secs(1)).await;
        Ok(requests.iter().map(|_| Outcome::Done(begun, Instant::now())).collect())
    }
}

fn mirror() -> (Mirror, watch::Sender<Option<Leader>>) {
    let (lead, leader) = watch::channel(Some(Leader {
        cluster: "cluster".to_owned(),
        installation: "default".to_owned(),
        epoch: 1,
        incarnation: 1,
    }));
    let examine = Examine::by(|_| async { StoreError::Unfit("the one sentence".to_owned()) });
    (
        Mirror::start(Store::nowhere(), leader, Arc::new(|_, _, _| {}), examine),
        lead,
    )
}

/// When a request was begun and done.
async fn done<R: Request<Outcome = Outcome>>(mirror: &Mirror, request: R) -> (Instant, Instant) {
    match mirror.ask(request).await {
        Ok(Outcome::Done(begun, done)) => (begun, done),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn of_all_kinds_that_write_one_runs_at_a_time_and_those_that_read_do_not_wait() {
    let (mirror, _lead) = mirror();
    let (one, other, read) = tokio::join!(
        done(&mirror, Fake::<WRITES, REFUSES>(None)),
        done(&mirror, Fake::<WRITES, { !REFUSES }>(None)),
        done(&mirror, Fake::<{ !WRITES }, { !REFUSES }>(None)),
    );
    let (first, second) = if one.0 <= other.0 { (one, other) } else { (other, one) };
    assert!(first.1 <= second.0, "{first:?} {second:?}");
    assert!(read.0 < first.1, "{read:?} {first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_its_own_is_an_outcome_where_the_kind_has_one_and_else_an_error() {
    let data = StoreError::Data {
        message: "shorten the text".to_owned(),
    };
    let raised = StoreError::Refused {
        message: "a trigger says no".to_owned(),
    };
    let (mirror, lead) = mirror();
    for (error, reason) in [(data, Reason::InvalidSpec), (raised, Reason::StoreUnavailable)] {
        let answer = mirror.ask(Fake::<WRITES, { !REFUSES }>(Some(error.clone()))).await;
        assert_eq!(answer.unwrap_err().category(), error.category());
        let message = error.to_string();
        let answer = mirror.ask(Fake::<WRITES, REFUSES>(Some(error))).await;
        assert_eq!(answer.unwrap(), Outcome::Refused(Refusal { reason, message }));
    }
    lead.send_replace(None);
    let answer = mirror.ask(Fake::<WRITES, REFUSES>(None)).await;
    assert!(matches!(answer, Err(StoreError::Deposed)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn what_may_be_the_whole_database_s_fault_is_told_only_after_a_look_at_it() {
    let (mirror, _lead) = mirror();
    let suspect = || StoreError::Suspect("a column is gone".to_owned());
    let asked = mirror.ask(Fake::<WRITES, REFUSES>(Some(suspect()))).await;
    let past = mirror.examined::<Outcome>(Err(suspect())).await;
    for outcome in [asked, past] {
        let Err(StoreError::Unfit(sentence)) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(sentence, "the one sentence");
    }
}
