//! Whether a limited environment has room for a claim, and the sentence for one that has to wait.

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

/// The sentence for a claim that waits: how many leases are active of how many, who holds the first of them, and the
/// claim's place in line (from 1).
pub fn full(limit: i64, active: i64, holders: &[String], place: usize) -> String {
    let more = usize::try_from(active)
        .unwrap_or_default()
        .saturating_sub(holders.len());
    let names = match (holders, more) {
        ([], _) => String::new(),
        (names, 0) => format!(" ({})", names.join(", ")),
        (names, more) => format!(" ({} and {more} more)", names.join(", ")),
    };
    format!("{active} of {limit} leases are active{names}; place {place} in line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_who_holds_and_the_place_in_line() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        for (limit, active, holders, place, sentence) in [
            (1, 1, names(&["a"]), 1, "1 of 1 leases are active (a); place 1 in line"),
            (
                3,
                3,
                names(&["a", "b", "c"]),
                2,
                "3 of 3 leases are active (a, b, c); place 2 in line",
            ),
            (
                9,
                9,
                names(&["a", "b", "c"]),
                4,
                "9 of 9 leases are active (a, b, c and 6 more); place 4 in line",
            ),
            (
                1,
                2,
                names(&["a", "b"]),
                1,
                "2 of 1 leases are active (a, b); place 1 in line",
            ),
            (2, 0, names(&[]), 3, "0 of 2 leases are active; place 3 in line"),
        ] {
            assert_eq!(full(limit, active, &holders, place), sentence);
        }
    }
}
