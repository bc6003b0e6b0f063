//! `docs/invariants.md` against what is remembered in memory.

use std::collections::BTreeSet;

use super::{read, table};
use crate::cache::Cache;
use crate::controller::work::queue::Queue;

#[test]
fn whatever_grows_is_documented_with_what_shrinks_it() {
    let rows = table(&read("docs/invariants.md"), "## What grows, and who shrinks it");
    let documented: BTreeSet<String> = rows.into_iter().map(|row| row[0].clone()).collect();
    let sizes = Cache::default().sizes().into_iter().chain(Queue::default().sizes());
    let measured: BTreeSet<String> = sizes.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(documented, measured);
}
