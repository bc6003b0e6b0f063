//! Whether a limited environment has a free lease for a claim, and the message of one that has to wait.

/// What a claim that nothing else holds back finds in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Room for it: a limit that is not reached by what is held and by those who come first, or no limit.
    Free,
    /// Not known yet: a claim that may come first has not been looked at so far.
    InDoubt,
    /// No room, as the sentence says.
    Full(String),
}

/// So many places at the front of a wait queue are told exactly, and who holds the leases: a power of two.
///
/// Further back a claim is told between which two powers of two its place is. So when a claim leaves the queue only those at the
/// front and one for each power of two have another sentence, and all sentences are right again after as many writes.
pub const FRONT: usize = 4;

/// Whether the sentence of a claim is another one after it has moved up to this place (from 1).
pub const fn is_news(place: usize) -> bool {
    place <= FRONT || place.is_power_of_two()
}

/// The sentence for a claim that waits: how many leases are active of how many, who holds the first of them, and the
/// claim's place in the wait queue (from 1).
pub fn full(limit: i64, active: i64, holders: &[String], place: usize) -> String {
    if place > FRONT {
        let last = place.checked_next_power_of_two().unwrap_or(usize::MAX);
        return format!("no lease is free; place {} to {last} in the wait queue", last / 2 + 1);
    }
    let more = usize::try_from(active)
        .unwrap_or_default()
        .saturating_sub(holders.len());
    let names = match (holders, more) {
        ([], _) => String::new(),
        (names, 0) => format!(" ({})", names.join(", ")),
        (names, more) => format!(" ({} and {more} more)", names.join(", ")),
    };
    format!("{active} of {limit} leases are active{names}; place {place} in the wait queue")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_who_holds_and_the_place_in_line() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        for (limit, active, holders, place, sentence) in [
            (
                1,
                1,
                names(&["a"]),
                1,
                "1 of 1 leases are active (a); place 1 in the wait queue",
            ),
            (
                3,
                3,
                names(&["a", "b", "c"]),
                2,
                "3 of 3 leases are active (a, b, c); place 2 in the wait queue",
            ),
            (
                9,
                9,
                names(&["a", "b", "c"]),
                4,
                "9 of 9 leases are active (a, b, c and 6 more); place 4 in the wait queue",
            ),
            (
                1,
                2,
                names(&["a", "b"]),
                1,
                "2 of 1 leases are active (a, b); place 1 in the wait queue",
            ),
            (
                2,
                0,
                names(&[]),
                3,
                "0 of 2 leases are active; place 3 in the wait queue",
            ),
            (
                1,
                1,
                names(&["a"]),
                5,
                "no lease is free; place 5 to 8 in the wait queue",
            ),
            (
                1,
                1,
                names(&["a"]),
                8,
                "no lease is free; place 5 to 8 in the wait queue",
            ),
            (
                1,
                1,
                names(&["a"]),
                1025,
                "no lease is free; place 1025 to 2048 in the wait queue",
            ),
        ] {
            assert_eq!(full(limit, active, &holders, place), sentence);
        }
    }

    #[test]
    fn of_all_who_move_up_a_few_have_another_sentence_and_those_are_known() {
        let names = ["a".to_owned()];
        let mut news = 0;
        for place in 1..5_000 {
            let before = full(1, 1, &names, place + 1);
            let is_another = before != full(1, 1, &names, place);
            assert_eq!(is_another, is_news(place), "{place}");
            news += usize::from(is_another);
        }
        assert_eq!(news, FRONT + 10, "of 5,000");
    }
}
