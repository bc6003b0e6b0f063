//! What must not be lost between watches, cache, queue and reconcilers, on a fake cluster and a fake database, with time that is
//! moved by hand: what is out of date ([`stale`]), claims that can't be granted ([`waiting`]), and all others ([`others`]).

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::cache::object::{EnvironmentObject, LeaseObject, RunObject, Watched};
use crate::cache::{Class, Looked};
use crate::controller::fake::{FakeReconcilers, claim, environment, namespace, reconciler, uid};
use crate::lifecycle::ResourceVersion;

mod others;
mod stale;
mod waiting;

/// For so long nothing may be ready for a world to count as settled; shorter than a claim's patience with what it hears of.
const REST: Duration = Duration::from_millis(400);

/// A company with the environment `box`, which admits one lease at once.
async fn world() -> Arc<FakeReconcilers> {
    let world = reconciler();
    world.make_namespace(namespace("team", 1));
    world.make_environment(environment("team", "box", 2));
    world.settle(REST).await;
    world
}

fn phase(world: &FakeReconcilers, name: &str) -> Option<String> {
    world.shown("team", name).map(|[phase, ..]| phase)
}
