//! Who is served, and who is passed.

use super::*;

fn places(wait_queue: &mut WaitQueue, count: u128, free: usize) -> Vec<Position> {
    (0..count)
        .map(|number| wait_queue.place(id(number), BOX, free, vec![wants()]))
        .collect()
}

#[test]
fn as_many_as_are_free_are_served_and_the_others_know_their_place() {
    let mut wait_queue = queue_of(4);
    let expected = [
        Position::Served,
        Position::Served,
        Position::Waits(3),
        Position::Waits(4),
    ];
    assert_eq!(places(&mut wait_queue, 4, 2), expected);
    let moved_up = [id(1), id(2), id(3)];
    assert_eq!(
        wait_queue.leave(id(0)),
        moved_up,
        "the next one is looked at, and who has another place"
    );
    assert_eq!(wait_queue.place(id(2), BOX, 2, vec![wants()]), Position::Served);
}

#[test]
fn the_older_comes_first_then_the_one_seen_first_then_the_lower_uid() {
    let mut wait_queue = WaitQueue::default();
    for (number, created_at, moments) in [(5, 1, 0), (3, 1, 0), (4, 1, 1), (2, 0, 1)] {
        for _ in 0..moments {
            wait_queue.next_moment();
        }
        stand(&mut wait_queue, id(number), second(created_at), BOX);
    }
    assert_eq!(wait_queue.first(BOX, 9), [id(2), id(3), id(5), id(4)]);
}

#[test]
fn a_claim_that_is_held_back_is_passed_and_comes_back_to_its_place() {
    let mut wait_queue = queue_of(3);
    assert_eq!(wait_queue.stand_aside(id(0)), [id(1), id(2)]);
    assert_eq!(wait_queue.first(BOX, 3), [id(1), id(2)]);
    wait_queue.next_moment();
    stand(&mut wait_queue, id(0), second(99), BOX);
    assert_eq!(wait_queue.first(BOX, 3), [id(0), id(1), id(2)], "a turn is kept");
}

#[test]
fn lines_of_different_environments_do_not_know_each_other() {
    let mut wait_queue = queue_of(2);
    let other = id(901);
    assert_eq!(
        stand(&mut wait_queue, id(0), second(0), other),
        [id(1)],
        "it has changed its wait_queue"
    );
    assert_eq!(wait_queue.place(id(0), other, 1, vec![wants()]), Position::Served);
    assert_eq!(wait_queue.place(id(1), BOX, 1, vec![wants()]), Position::Served);
}

#[test]
fn nobody_passes_an_older_claim_that_has_not_been_looked_at() {
    let mut wait_queue = WaitQueue::default();
    for number in 0..3 {
        wait_queue.arrive(id(number), second(i64::try_from(number).unwrap()), wants());
    }
    stand(&mut wait_queue, id(2), second(2), BOX);
    assert_eq!(wait_queue.place(id(2), BOX, 2, vec![wants()]), Position::InDoubt);
    assert_eq!(
        wait_queue.place(id(2), BOX, 3, vec![wants()]),
        Position::Served,
        "there is one for each"
    );
    assert_eq!(wait_queue.place(id(2), BOX, 2, vec![wants()]), Position::InDoubt);
    assert!(wait_queue.stand_aside(id(1)).is_empty(), "the oldest is still unknown");
    assert_eq!(
        stand(&mut wait_queue, id(0), second(0), id(901)),
        [id(2)],
        "now it can be told"
    );
    assert_eq!(wait_queue.place(id(2), BOX, 1, vec![wants()]), Position::Served);
}

#[test]
fn a_claim_that_is_deleted_before_it_was_looked_at_holds_up_nobody() {
    let mut wait_queue = WaitQueue::default();
    wait_queue.arrive(id(0), second(0), wants());
    stand(&mut wait_queue, id(1), second(1), BOX);
    assert_eq!(wait_queue.place(id(1), BOX, 1, vec![wants()]), Position::InDoubt);
    assert_eq!(wait_queue.leave(id(0)), [id(1)]);
}

#[test]
fn a_claim_that_can_not_be_looked_at_holds_up_those_alone_who_may_want_what_it_wants() {
    let (other, company) = (id(901), Uuid::from_u128(77));
    let mut wait_queue = WaitQueue::default();
    wait_queue.arrive(id(0), second(0), named("box"));
    wait_queue.arrive(id(1), second(1), named("other"));
    wait_queue.stand(id(1), other);
    let place = wait_queue.place(id(1), other, 1, vec![named("other"), Wants::OfCompany(company)]);
    assert_eq!(place, Position::Served, "the oldest is for another environment");
    wait_queue.arrive(id(2), second(2), named("box"));
    wait_queue.stand(id(2), BOX);
    let for_box = || vec![named("box"), Wants::OfCompany(company)];
    assert_eq!(wait_queue.place(id(2), BOX, 1, for_box()), Position::InDoubt);
    // Another one of the company, that may be for any of its environments, is older than one that comes now.
    wait_queue.arrive(id(3), second(1), Wants::OfCompany(company));
    assert_eq!(wait_queue.leave(id(0)), [id(2)]);
    assert_eq!(wait_queue.place(id(2), BOX, 1, for_box()), Position::InDoubt);
    wait_queue.want(id(3), Wants::OfCompany(id(78)));
    assert_eq!(wait_queue.stand_aside(id(3)), [id(2)], "whatever it turned out to want");
    assert_eq!(wait_queue.place(id(2), BOX, 1, for_box()), Position::Served);
    for claim in 1..4 {
        wait_queue.leave(id(claim));
    }
    assert_eq!(wait_queue.size(), 0);
}

#[test]
fn whoever_begins_to_lead_has_looked_at_nobody() {
    let mut wait_queue = queue_of(3);
    wait_queue.begin();
    assert!(wait_queue.first(BOX, 3).is_empty());
    stand(&mut wait_queue, id(2), second(2), BOX);
    assert_eq!(wait_queue.place(id(2), BOX, 1, vec![wants()]), Position::InDoubt);
    stand(&mut wait_queue, id(1), second(1), BOX);
    stand(&mut wait_queue, id(0), second(0), BOX);
    assert_eq!(wait_queue.first(BOX, 3), [id(0), id(1), id(2)]);
}
