//! What those that wait say, and when they say something else.

use super::*;

#[test]
fn a_sentence_is_written_at_once_and_rewritten_once_an_interval() {
    let mut wait_queue = queue_of(2);
    let begun = Instant::now();
    let mut may_tell = |claim, shown, seconds| {
        wait_queue.may_tell(
            id(claim),
            shown,
            Duration::from_secs(60),
            begun + Duration::from_secs(seconds),
        )
    };
    assert!(may_tell(0, false, 0));
    assert!(!may_tell(0, true, 59));
    assert!(may_tell(0, true, 60));
    assert!(!may_tell(0, true, 119));
    // Of another leader's sentence it is not known when it was written, only that it is wrong by now.
    assert!(may_tell(1, true, 0));
    assert!(!may_tell(1, true, 59));
    assert!(may_tell(1, true, 60));
}

#[test]
fn a_long_wait_for_one_thing_is_told_once_and_a_short_one_never() {
    let mut wait_queue = queue_of(1);
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    let (run, environment) = (Reason::RunNotFound, Reason::EnvironmentNotFound);
    wait_queue.note_wait(id(0), environment, at(0));
    assert!(!wait_queue.has_waited_long(id(0), environment, at(9)));
    wait_queue.note_wait(id(0), run, at(9));
    assert!(
        !wait_queue.has_waited_long(id(0), environment, at(30)),
        "it waits for something else"
    );
    assert!(!wait_queue.has_waited_long(id(0), run, at(18)));
    assert!(wait_queue.has_waited_long(id(0), run, at(19)));
    assert!(!wait_queue.has_waited_long(id(0), run, at(60)), "once");
    wait_queue.leave(id(0));
    wait_queue.note_wait(id(0), run, at(60));
    assert!(
        !wait_queue.has_waited_long(id(0), run, at(90)),
        "it is no claim any more"
    );
}

#[test]
fn when_a_claim_leaves_those_have_to_be_looked_at_whose_sentence_is_another_one() {
    let mut wait_queue = queue_of(1_000);
    let ids = |numbers: &[u128]| numbers.iter().map(|number| id(*number)).collect::<Vec<Uuid>>();
    // After the first has left, claim n stands at place n.
    let moved_up = ids(&[1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!(wait_queue.leave(id(0)), moved_up);
    // Of one in the middle those behind it, and the first, who may be served now.
    assert_eq!(wait_queue.stand_aside(id(100)), ids(&[1, 129, 257, 513]));
    let drained: usize = (1..1_000).map(|number| wait_queue.leave(id(number)).len()).sum();
    assert!(
        drained < 1_000 * 12,
        "{drained}: no more than a few for each that leaves"
    );
}
