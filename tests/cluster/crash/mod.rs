//! An operator that is killed (SIGKILL) at each place where a crash could tear something, and started again.
//!
//! - [`grants`]: before, within and after the transaction of a grant; between the object `local` and its row
//! - [`endings`]: the same for an ending

mod endings;
mod grants;

use environment_operator::api::LeasePhase;
use harness::operator::Operator;

use crate::support::TestEnvironment;
use crate::support::proxy::Proxy;

async fn start_through(proxy: &Proxy, world: &TestEnvironment<'_>) -> Operator {
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    operator
}

/// Kills the operator and starts it again, when what happens meanwhile has happened.
async fn kill_and_start_again(world: &TestEnvironment<'_>, operator: &mut Operator, meanwhile: impl AsyncFnOnce()) {
    operator.kill().unwrap();
    meanwhile().await;
    world.pass_term().await;
    operator.start_again().unwrap();
    operator.wait_ready().await;
}

/// The phase that the object shows.
async fn phase(world: &TestEnvironment<'_>, name: &str) -> Option<LeasePhase> {
    world
        .leases()
        .get(name)
        .await
        .unwrap()
        .status
        .and_then(|status| status.phase)
}
