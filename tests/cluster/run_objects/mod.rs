//! Leases of run objects: Jobs, Pods, and kinds of the tests' own making.

use environment_operator::api::{LeasePhase, Reason};
use kube::ResourceExt;
use serde_json::json;

use crate::support::{Expected, TestEnvironment, lease};

mod custom;
mod jobs;
mod missing;
mod pods;

fn succeeded(message: &str) -> Expected<'_> {
    Expected {
        phase: LeasePhase::Released,
        reason: Reason::RunFinished,
        message,
    }
}

fn failed(message: &str) -> Expected<'_> {
    Expected {
        phase: LeasePhase::Failed,
        reason: Reason::RunFailed,
        message,
    }
}

fn gone(message: &str) -> Expected<'_> {
    Expected {
        phase: LeasePhase::Expired,
        reason: Reason::RunGone,
        message,
    }
}

/// Looks that the lease is held although the operator has heard of everything that was done so far: of a Job that is made
/// now it hears later than of all that.
async fn still_held(world: &TestEnvironment<'_>, name: &str) {
    let marker = format!("marker-{}", uuid::Uuid::new_v4().simple());
    let made = world.job(&marker, json!({})).await;
    world.granted(lease(&marker).job(&made.name_any())).await;
    world.lease_in(name, LeasePhase::Active).await;
}
