//! The decision's table: [`claims`], [`endings`], [`retained`]. Which of several causes stands is in [`precedence`], what must hold
//! whatever happens in [`properties`].

use super::*;
use crate::api::LeasePolicy;
use crate::lifecycle::RunOutcome;
use crate::lifecycle::capacity::Capacity;

mod claims;
mod endings;
mod precedence;
mod properties;
mod retained;

fn ended(facts: &Facts) -> (LeaseState, Reason) {
    match decide(facts) {
        Decision::End(ending) => (ending.state, ending.reason),
        other => panic!("expected an ending, got {other:?}"),
    }
}
